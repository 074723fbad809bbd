"""Attacks of the last word: an ensemble, the smallest change, few pixels, and models that draw at random."""

import itertools

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")

from torch import nn  # noqa: E402

from certimetric.deep import (  # noqa: E402
    APGD,
    FAB,
    PGD,
    AutoAttack,
    CarliniWagner,
    Expectation,
    L0Ball,
    L1Ball,
    L2Ball,
    LinfBall,
    MarginGoal,
    PixelSearch,
    SquareAttack,
    TargetEmbedding,
    TupleLoss,
)
from certimetric.deep.attacks.balls import Ball  # noqa: E402


def margin(model, images, labels, b):
    images, labels, ids = images[:100], labels[:100], torch.arange(100)
    with torch.no_grad():
        gallery = model.eval()(images)
    return MarginGoal(labels[:b], gallery, labels, ids[:b], ids)


def test_an_ensemble_breaks_all_that_its_first_member_does(digits, network):
    images, labels = digits
    goal, x = margin(network, images, labels, 24), images[:24]
    ball = LinfBall(0.03)

    def broken(attack):
        with torch.no_grad():
            return goal.broken(network(attack(network, x, goal)))

    auto = broken(AutoAttack(ball, steps=8, queries=20))
    assert 0 < auto.float().mean() < 1
    assert auto[broken(APGD(ball, steps=8))].all()


def test_what_gradients_do_not_show_the_search_finds():
    # The embedding is of rounded pixels: no gradient leads anywhere, but a square of white does.
    gallery = torch.tensor([[0.0], [1.0]])
    goal = MarginGoal(torch.tensor([0]), gallery, torch.tensor([0, 1]))
    stepped = nn.Sequential(nn.Flatten())
    stepped.forward = lambda x: (x > 0.5).float().flatten(1).mean(dim=1, keepdim=True) + 0 * x.flatten(1)[:, :1]
    x = torch.full((1, 1, 6, 6), 0.45)
    assert not goal.broken(stepped(APGD(LinfBall(0.1), 4)(stepped, x, goal))).any()
    assert goal.broken(stepped(AutoAttack(LinfBall(0.1), 4, 60)(stepped, x, goal))).all()


def test_a_goal_that_samples_have_together_is_attacked_as_a_whole(digits, network):
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    images, labels = digits
    goal, x = TupleLoss(losses.TripletMarginLoss(), labels[:16]), images[:16]
    attacked = AutoAttack(LinfBall(0.1), steps=4, queries=3)(network.eval(), x, goal)
    assert goal.together(network(attacked)) > goal.together(network(x))


@pytest.mark.parametrize("kind", [LinfBall, L2Ball, L1Ball])
@pytest.mark.parametrize("bounds", [None, (0.0, 1.0)])
def test_the_smallest_change_of_a_linear_goal_is_found(kind, bounds):
    # Half way between two points is the boundary: at distance (gap / 2) / ‖w‖ in the dual norm, but for the bounds.
    torch.manual_seed(0)
    model = nn.Linear(6, 1, bias=False)
    x = torch.rand(8, 6) * 0.5 + 0.25
    goal = TargetEmbedding(model(x).detach() + 0.2, reach=0.1)
    ball: Ball = kind(10.0, bounds)
    found = ball.size(FAB(ball)(model, x, goal), x)
    w = model.weight.detach()[0].double()
    dual = {"linf": w.abs().sum(), "l2": w.norm(), "l1": w.abs().max()}[ball.name]
    assert (found >= 0.1 / dual * (1 - 1e-4)).all()
    torch.testing.assert_close(found, (0.1 / dual).expand(8), rtol=0.03 if bounds is None else 0.3, atol=0.0)


@pytest.mark.slow
def test_fab_is_near_the_smallest_change_that_a_longer_search_finds(digits, network):
    images, labels = digits
    goal, x = margin(network, images, labels, 16), images[:16]
    ball, sizes = L2Ball(3.0), []
    for attack in (FAB(ball), CarliniWagner(ball, 40, 3)):
        attacked = attack(network, x, goal)
        reached = goal.broken(network(attacked).detach())
        assert reached.float().mean() >= 0.8
        sizes.append(torch.where(reached, ball.size(attacked, x), torch.inf).median())
    assert sizes[0] <= 1.25 * sizes[1]


def test_the_nearest_change_of_few_pixels():
    # Against all choices of pixels: the nearest point of ball and bounds keeps those that lose most.
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(20, 2, 1, 4, generator=generator)
    far = x + torch.randn(x.shape, generator=generator)
    found = L0Ball(2).project(far, x)
    best = torch.full((20,), torch.inf)
    for chosen in itertools.combinations(range(4), 2):
        candidate = x.clone()
        candidate[..., chosen] = far[..., chosen].clamp(0, 1)
        best = torch.minimum(best, (candidate - far).flatten(1).norm(dim=1))
    torch.testing.assert_close((found - far).flatten(1).norm(dim=1), best)
    assert (L0Ball(2).size(found, x) <= 2).all() and torch.equal(L0Ball(0).project(far, x), x)
    with pytest.raises(ValueError, match="bounds of L0Ball must be"):
        L0Ball(2, None)


@pytest.mark.parametrize("make", [PGD, APGD, lambda ball: PixelSearch(ball, 800), AutoAttack])
def test_the_heaviest_pixels_of_a_linear_model_are_found(make):
    torch.manual_seed(0)
    weights = torch.randn(25).where(torch.rand(25) < 0.5, torch.tensor(0.05))
    model = nn.Sequential(nn.Flatten(), nn.Linear(25, 1, bias=False))
    model[1].weight.data.copy_(weights[None])
    x, far = torch.full((4, 1, 5, 5), 0.5), TargetEmbedding(torch.full((4, 1), 1e4))
    gain = (model(make(L0Ball(3))(model, x, far)) - model(x))[:, 0]
    assert (gain >= 0.95 * weights.abs().topk(3).values.sum() / 2).all()


class Coin(nn.Module):
    """Shows one of two directions in which the goal lies, and only their mean leads to it for most draws."""

    def forward(self, x):
        sign = 1.0 if torch.rand(()) < 0.5 else -1.0
        flat = x.flatten(1)
        return flat[:, :1] + sign * 3 * flat[:, 1:2]


def test_a_model_that_draws_at_random_is_attacked_in_expectation():
    x, goal = torch.full((1, 1, 1, 2), 0.5), TargetEmbedding(torch.full((1, 1), 1e4))
    found = Expectation(PGD(LinfBall(0.1), steps=8), draws=32)(Coin(), x, goal)
    assert found[0, 0, 0, 0] > 0.59  # what helps in every draw
    again = Expectation(PGD(LinfBall(0.1), steps=8), draws=32)(Coin(), x, goal)
    assert torch.equal(found, again)
    other = Expectation(SquareAttack(L2Ball(0.3))).with_eps(0.6)
    assert (other.ball.eps, other.attack.ball.eps, other.uses_gradients) == (0.6, 0.6, False)


def test_one_draw_of_a_steady_model_is_the_attack_itself(digits, network):
    images, labels = digits
    goal, x = margin(network, images, labels, 8), images[:8]
    attack = PGD(LinfBall(0.1), steps=4)
    torch.testing.assert_close(Expectation(attack, draws=1)(network, x, goal), attack(network, x, goal))
