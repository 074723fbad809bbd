"""Laws of the attacks on embeddings: where they stay, what they keep, and that more of them is never less."""

from functools import partial

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")

from torch import nn  # noqa: E402
from torch.overrides import TorchFunctionMode  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from certimetric.deep import (  # noqa: E402
    APGD,
    FGSM,
    PGD,
    CarliniWagner,
    EmbeddingShift,
    ImageSet,
    Index,
    L0Ball,
    L1Ball,
    L2Ball,
    LinfBall,
    MarginGoal,
    SquareAttack,
    TargetEmbedding,
    attacks,
)
from certimetric.deep.attacks.base import Best  # noqa: E402

BALLS = {"linf": LinfBall(0.1), "l2": L2Ball(0.8), "l1": L1Ball(4.0), "l0": L0Ball(4)}
SETTINGS = {
    "pgd": {"steps": 5},
    "apgd": {"steps": 12},
    "carlini-wagner": {"steps": 10, "searches": 3},
    "square": {"queries": 40},
    "nes": {"steps": 5, "population": 10},
    "fab": {"steps": 10},
    "pixels": {"queries": 40},
    "auto": {"steps": 6, "queries": 10},
}
ATTACKS = {name: partial(kind, **SETTINGS.get(name, {})) for name, kind in attacks.ATTACKS.items()}
ATTACKS["fgsm, random start"] = partial(FGSM, random_start=True)
every_attack = pytest.mark.parametrize("attack", ATTACKS)
every_ball = pytest.mark.parametrize("ball", BALLS)
NORMS_ONLY = [name for name, kind in attacks.ATTACKS.items() if kind.of_norms]


def margin(model, images, labels, b):
    """The first b images are queries, all are the gallery."""
    with torch.no_grad():
        gallery = model.eval()(images)
    ids = torch.arange(len(images))
    return MarginGoal(labels[:b], gallery, labels, ids[:b], ids)


@every_attack
@every_ball
def test_stays_in_ball_and_bounds_and_never_loses(digits, network, attack, ball):
    if attack in NORMS_ONLY and ball == "l0":
        with pytest.raises(ValueError, match="needs a ball in a norm, which l0 is not"):
            ATTACKS[attack](BALLS[ball])
        return
    images, labels = digits
    goal, x = margin(network, images, labels, 32), images[:32]
    attacked = ATTACKS[attack](BALLS[ball])(network, x, goal)
    assert attacked.shape == x.shape
    assert attacked.dtype == x.dtype
    assert (BALLS[ball].size(attacked, x) <= BALLS[ball].eps).all()
    assert attacked.min() >= 0
    assert attacked.max() <= 1
    with torch.no_grad():
        before, after = goal(network(x)), goal(network(attacked))
    assert (after >= before).all()
    assert after.mean() > before.mean()
    # Same seed, same perturbation.
    torch.testing.assert_close(ATTACKS[attack](BALLS[ball])(network, x, goal), attacked, rtol=0, atol=0)


@every_ball
@pytest.mark.parametrize(
    ("less", "more"),
    [
        (lambda ball: PGD(ball, steps=4, step_size=0.02), lambda ball: PGD(ball, steps=12, step_size=0.02)),
        (lambda ball: PGD(ball, steps=4), lambda ball: PGD(ball, steps=4, restarts=3)),
        (lambda ball: APGD(ball, steps=8), lambda ball: APGD(ball, steps=8, restarts=3)),
        (lambda ball: SquareAttack(ball, queries=15), lambda ball: SquareAttack(ball, queries=60)),
    ],
    ids=["steps", "restarts", "restarts of apgd", "queries"],
)
def test_more_is_never_weaker(digits, network, ball, less, more):
    images, labels = digits
    goal, x = margin(network, images, labels, 24), images[:24]
    with torch.no_grad():
        few, many = (goal(network(make(BALLS[ball])(network, x, goal))) for make in (less, more))
    assert (many >= few - 1e-6).all()


@every_attack
def test_model_is_left_as_it_was(digits, network, attack):
    images, labels = digits
    goal = margin(network, images, labels, 8)
    network.train()
    network[0].eval()
    network[7].weight.requires_grad_(False)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    wanted = [parameter.requires_grad for parameter in network.parameters()]

    def unchanged():
        assert [module.training for module in network.modules()] == modes
        assert [parameter.requires_grad for parameter in network.parameters()] == wanted
        assert all(parameter.grad is None for parameter in network.parameters())
        assert all(torch.equal(value, network.state_dict()[name]) for name, value in state.items())

    ATTACKS[attack](LinfBall(0.1))(network, images[:8], goal)
    unchanged()

    class Failing(EmbeddingShift):
        def __call__(self, embeddings):
            raise RuntimeError("no value")

    with pytest.raises(RuntimeError, match="no value"):
        ATTACKS[attack](LinfBall(0.1))(network, images[:8], Failing(torch.zeros(8, 16)))
    unchanged()


@every_attack
def test_a_model_without_gradient_gives_no_nan(digits, attack):
    images, _ = digits

    class Constant(nn.Module):
        def forward(self, x):
            return torch.ones(len(x), 3) + 0 * x.flatten(1)[:, :3]

    attacked = ATTACKS[attack](LinfBall(0.1))(Constant(), images[:4], EmbeddingShift(torch.ones(4, 3)))
    assert torch.isfinite(attacked).all()


@pytest.mark.parametrize(
    "make", [lambda ball: PGD(ball, 40, ball.eps), lambda ball: APGD(ball, 60)], ids=["pgd", "apgd"]
)
@pytest.mark.parametrize("ball", [LinfBall(0.1, None), L2Ball(0.5, None), L1Ball(1.0, None)], ids=repr)
def test_linear_goal_is_reached_exactly(make, ball):
    # The largest wᵀδ over a ball is eps times the dual norm of w: a far target makes the goal nearly linear.
    torch.manual_seed(0)
    w = torch.randn(1, 6)
    model = nn.Linear(6, 1, bias=False)
    model.weight.data.copy_(w)
    x = torch.randn(5, 6)
    attacked = make(ball)(model, x, TargetEmbedding(torch.full((5, 1), 1e3)))
    gain = (attacked - x) @ w[0]
    best = ball.eps * {"linf": w.abs().sum(), "l2": w.norm(), "l1": w.abs().max()}[ball.name]
    torch.testing.assert_close(gain, best.expand(5), rtol=1e-4, atol=1e-5)


def test_apgd_is_at_least_as_strong_as_pgd_at_equal_cost(digits, network):
    images, labels = digits
    goal, x = margin(network, images, labels, 64), images[:64]
    with torch.no_grad():
        pgd = goal(network(PGD(LinfBall(0.1), steps=20)(network, x, goal))).mean()
        apgd = goal(network(APGD(LinfBall(0.1), steps=20)(network, x, goal))).mean()
        square = goal(network(SquareAttack(LinfBall(0.1), queries=200)(network, x, goal))).mean()
    assert apgd >= pgd - 0.01 * pgd.abs()
    assert square <= apgd  # no gradient is masked in so plain a network


def test_random_start_is_uniform_in_the_ball():
    # The share of points within radius r of the centre is r^d, in every ball.
    generator = torch.Generator().manual_seed(0)
    x = torch.zeros(20_000, 3)
    for ball in (L2Ball(2.0, None), LinfBall(2.0, None), L1Ball(2.0, None)):
        radius = ball.size(ball.random_start(x, generator), x) / 2.0
        assert radius.max() <= 1 + 1e-6
        for r in (0.3, 0.6, 0.9):
            assert float((radius <= r).float().mean()) == pytest.approx(r**3, abs=0.015)


@pytest.mark.parametrize("attack", ["pgd", "carlini-wagner", "square", "nes"])
def test_collapsed_and_tiny_embeddings_are_attacked_as_others(digits, attack):
    # A linear embedding, moved away from the origin and made small: its ranking is the same, and so is what an attack
    # makes of it, as far as single precision tells the embeddings apart.
    images, labels = digits
    torch.manual_seed(0)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(64, 16))
    items = ImageSet(images[:100], labels[:100])
    made, hits = ATTACKS[attack](L2Ball(0.8)), {}
    for offset, scale in ((0.0, 1.0), (0.0, 1e-12), (0.0, 1e12), (1.0, 1e-3)):

        class Moved(nn.Module):
            def forward(self, x, offset=offset, scale=scale):
                return offset + scale * linear(x)

        hits[offset, scale] = Index(Moved(), items).score(items, made)["recall_at_1"]
    plain = hits[0.0, 1.0]
    assert 0 < plain.mean() < 0.9
    for key, found in hits.items():
        assert (found != plain).sum() <= (6 if key[0] else 2), key


class Reads(TorchDispatchMode):
    """Counts what makes the host wait for a device: numbers that are read, and results whose size depends on them."""

    WAITING = ("_local_scalar_dense", "nonzero", "is_nonzero", "masked_select", "unique", "equal.default")

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = str(function)
        masks = [t for a in args if isinstance(a, list | tuple) for t in a if isinstance(t, torch.Tensor)]
        by_mask = "index" in name and any(mask.dtype == torch.bool for mask in masks)
        if by_mask or any(word in name for word in self.WAITING):
            self.names.append(name)
        return function(*args, **(kwargs or {}))


class Copies(TorchFunctionMode):
    """Counts copies to the host, which on the host itself do nothing that a dispatcher would see."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if getattr(function, "__name__", "") in ("cpu", "numpy", "tolist", "item", "__array__"):
            self.names.append(function.__name__)
        return function(*args, **(kwargs or {}))


STEPS = {
    "pgd": lambda steps: PGD(LinfBall(0.1), steps=steps),
    "pgd, l2": lambda steps: PGD(L2Ball(0.5), steps=steps, restarts=2),
    "pgd in training": lambda steps: PGD(LinfBall(0.1), steps=steps).for_training(),
    "apgd": lambda steps: APGD(LinfBall(0.1), steps=steps),
    "pgd, l1": lambda steps: PGD(L1Ball(4.0), steps=steps),
    "apgd, l2": lambda steps: APGD(L2Ball(0.5), steps=steps),
    "carlini-wagner": lambda steps: CarliniWagner(L2Ball(0.5), steps=steps, searches=2),
    "square": lambda steps: SquareAttack(LinfBall(0.1), queries=steps),
}
GOALS = {
    "margin": margin,
    "shift": lambda model, images, labels, b: EmbeddingShift(torch.zeros(b, 16)),
    "target": lambda model, images, labels, b: TargetEmbedding(torch.zeros(b, 16)),
}


@pytest.mark.parametrize("attack", STEPS)
@pytest.mark.parametrize("goal", GOALS)
def test_no_host_synchronisation_in_the_steps(digits, network, attack, goal):
    goal, x = GOALS[goal](network, *digits, 8), digits[0][:8]

    def waits(steps):
        with Reads() as reads, Copies() as copies:
            STEPS[attack](steps)(network, x, goal)
        return reads.names + copies.names

    assert waits(2) == waits(12)


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: bool((x > 0).any()),
        lambda x: float(x.sum()),
        lambda x: x.flatten(1)[:, 0].max().item(),
        lambda x: x[x.flatten(1)[:, 0] > 0],
        lambda x: (x > 0).nonzero(),
        lambda x: x.cpu(),
        lambda x: x.numpy(),
        lambda x: x.masked_select(x > 0),
    ],
)
def test_host_synchronisation_would_be_seen(digits, network, wait):
    class Waiting(EmbeddingShift):
        def __call__(self, embeddings):
            wait(embeddings.detach())
            return super().__call__(embeddings)

    with Reads() as reads, Copies() as copies:
        PGD(LinfBall(0.1), steps=12)(network, digits[0][:8], Waiting(torch.zeros(8, 16)))
    assert len(reads.names) + len(copies.names) >= 12


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("attack", STEPS)
def test_a_gpu_does_not_wait_in_the_steps(digits, network, attack):
    model, images, labels = network.cuda(), digits[0].cuda(), digits[1].cuda()
    with torch.no_grad():
        gallery = model.eval()(images)
    ids = torch.arange(len(images)).cuda()
    goal = MarginGoal(labels[:8], gallery, labels, ids[:8], ids)
    made = STEPS[attack](6)
    made(model, images[:8], goal)
    generator = torch.Generator(device="cuda").manual_seed(0)
    best = Best(model, images[:8], goal)
    torch.cuda.set_sync_debug_mode("error")
    try:
        made._attack(images[:8], best, generator)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_channels_last_and_mixed_precision(digits, network):
    images, _ = digits
    x = images[:8].repeat(1, 3, 1, 1).contiguous(memory_format=torch.channels_last)
    model = nn.Sequential(nn.Conv2d(3, 1, 1), *network)
    goal = EmbeddingShift(model.eval()(x))
    attacked = PGD(LinfBall(0.1), steps=3)(model, x, goal)
    assert attacked.is_contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = PGD(LinfBall(0.1), steps=3)(model, x, goal)
    assert mixed.dtype == torch.float32
    assert (LinfBall(0.1).size(mixed, x) <= 0.1).all()


def test_with_eps():
    attack = PGD(LinfBall(0.1), steps=7, seed=3)
    other = attack.with_eps(0.3)
    assert (other.ball.eps, other.steps, other.seed, attack.ball.eps) == (0.3, 7, 3, 0.1)


def test_bad_input_is_named(digits, network):
    images, _ = digits
    goal = EmbeddingShift(torch.zeros(2, 16))
    with pytest.raises(ValueError, match=r"within its bounds, 0 to 1, got 0 to 2"):
        PGD(LinfBall(0.1))(network, images[:2] * 2, goal)
    for make, message in (
        (lambda: LinfBall(-0.1), "eps of LinfBall"),
        (lambda: L2Ball(0.1, (1.0, 0.0)), "bounds of L2Ball"),
        (lambda: PGD(LinfBall(0.1), steps=0), "steps and restarts"),
        (lambda: SquareAttack(LinfBall(0.1), queries=0), "queries"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


@every_attack
def test_stays_within_the_bounds_of_each_channel(attack):
    x = torch.rand(3, 2, 4, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 0.1]).view(2, 1, 1)
    goal = EmbeddingShift(x.flatten(1) + 0.1)
    attacked = ATTACKS[attack](LinfBall(0.3, (0, [1, 0.1])))(nn.Flatten(), x, goal)
    assert attacked.min() >= 0 and attacked[:, 0].max() <= 1 and attacked[:, 1].max() <= 0.1
    assert (goal(attacked.flatten(1)) >= goal(x.flatten(1))).all()
