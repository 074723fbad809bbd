"""Further defenses: what their attacks raise, what they reduce to without one, and what they leave alone."""

import copy
import math

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")
pytest.importorskip(
    "pytorch_metric_learning", reason="pytorch-metric-learning is not installed: the extra 'deep' has it"
)

from pytorch_metric_learning import losses, miners  # noqa: E402
from torch import nn  # noqa: E402

from certimetric.deep import (  # noqa: E402
    PGD,
    AntiCollapseDefense,
    DecoupledDefense,
    EmbeddingShiftDefense,
    EnsembleDefense,
    FreeDefense,
    HardnessDefense,
    LinfBall,
    NoDefense,
    RobustTrainer,
    ShiftPenaltyDefense,
    SingleStepDefense,
    TradesDefense,
    mine_triplets,
)
from certimetric.deep.defenses import shifts, single_step, triplets  # noqa: E402
from certimetric.deep.goals import EmbeddingShift  # noqa: E402

EPS = 0.1
BALL, NOTHING = LinfBall(EPS), LinfBall(0.0)
TRIPLET = losses.TripletMarginLoss(margin=0.2)


def pgd(ball):
    return PGD(ball, steps=3, step_size=0.4 * ball.eps or None)


def other_model():
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).eval()


DEFENSES = {
    "est": lambda ball: EmbeddingShiftDefense(pgd(ball)),
    "ses": lambda ball: ShiftPenaltyDefense(pgd(ball)),
    "trades": lambda ball: TradesDefense(pgd(ball)),
    "act": lambda ball: AntiCollapseDefense(pgd(ball)),
    "hm": lambda ball: HardnessDefense(pgd(ball)),
    "hm-semihard": lambda ball: HardnessDefense(pgd(ball), "semihard", structure=0.0),
    "hm-constant": lambda ball: HardnessDefense(pgd(ball), "constant", level=0.1),
    "decoupled": lambda ball: DecoupledDefense(pgd(ball)),
    "ensemble": lambda ball: EnsembleDefense([other_model()], pgd(ball)),
    "single-step": lambda ball: SingleStepDefense(ball, check_every=2),
    "free": lambda ball: FreeDefense(ball, replays=2),
}
OF_TRIPLETS = ("act", "hm", "hm-semihard", "hm-constant", "decoupled")
OF_SAMPLES = (*OF_TRIPLETS, "ensemble")  # losses with proxies have no place in them


@pytest.fixture
def model(network):
    class Sphere(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, x):
            return nn.functional.normalize(self.network(x), dim=1)

    return Sphere()


@pytest.mark.parametrize("name", DEFENSES)
def test_gradients_reach_the_parameters_and_statistics_see_one_batch(digits, model, name):
    torch.manual_seed(0)
    images, labels = digits[0][:40], digits[1][:40]
    model.train()
    defense = DEFENSES[name](BALL)
    for _ in range(3):
        before = model.network[1].num_batches_tracked.clone()
        model.zero_grad()
        value = defense.loss(model, images, labels, TRIPLET)
        assert value.ndim == 0 and torch.isfinite(value)
        value.backward()
        assert all(parameter.grad is not None and parameter.requires_grad for parameter in model.parameters())
        assert any((parameter.grad != 0).any() for parameter in model.parameters())
        # The attack, mining and checks leave running statistics alone: they have seen the pass of the update.
        assert model.network[1].num_batches_tracked == before + 1
        assert all(module.training for module in model.modules())
    assert not images.requires_grad


@pytest.mark.parametrize("name", DEFENSES)
@pytest.mark.parametrize("loss", ["contrastive", "multi-similarity", "proxy-anchor"])
def test_other_losses_are_served_or_refused(digits, model, name, loss):
    images, labels = digits[0][:40], digits[1][:40]
    loss_fn = {
        "contrastive": losses.ContrastiveLoss(neg_margin=1.0),
        "multi-similarity": losses.MultiSimilarityLoss(),
        "proxy-anchor": losses.ProxyAnchorLoss(num_classes=10, embedding_size=16),
    }[loss]
    if loss == "proxy-anchor" and name in OF_SAMPLES:
        with pytest.raises(TypeError, match="ProxyAnchorLoss compares them with parameters of its own"):
            DEFENSES[name](BALL).loss(model, images, labels, loss_fn)
        return
    DEFENSES[name](BALL).loss(model, images, labels, loss_fn).backward()
    trained = [*model.parameters(), *loss_fn.parameters()]
    assert all(parameter.grad is not None for parameter in trained)


@pytest.mark.parametrize("name", DEFENSES)
def test_without_a_radius_the_loss_is_the_natural_one(digits, model, name):
    # Evaluation mode: dropout would draw anew in each pass.
    images, labels = digits[0][:40], digits[1][:40]
    model.eval()
    torch.manual_seed(3)
    if name in OF_TRIPLETS:
        mined = mine_triplets(model(images), labels)
        expected = TRIPLET(model(images), labels, mined)
    else:
        expected = NoDefense().loss(model, images, labels, TRIPLET)
    torch.manual_seed(3)
    value = DEFENSES[name](NOTHING).loss(model, images, labels, TRIPLET)
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", DEFENSES)
def test_losses_are_the_same_under_a_seed(digits, model, name):
    model.eval()
    values = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        defense, state = DEFENSES[name](BALL), copy.deepcopy(model.state_dict())
        for rows in (slice(0, 40), slice(40, 80)):
            loss = defense.loss(model, digits[0][rows], digits[1][rows], TRIPLET, miners.MultiSimilarityMiner(0.1))
            loss.backward()
        model.load_state_dict(state)
        values.append(float(loss.detach()))
    assert values[0] == values[1]
    assert name == "free" or values[0] != values[2]  # nothing is drawn in free training


def goal_and_points(digits, model, name):
    """What the attack of a defense maximises in one batch, the clean points and those it found."""
    images, labels = digits[0][:40], digits[1][:40]
    defense = DEFENSES[name](BALL)
    seen = []

    class Watched(PGD):
        def __call__(self, model, x, goal):
            found = super().__call__(model, x, goal)
            seen.append((goal, x, found))
            return found

    defense.attack = Watched(BALL, steps=5, step_size=0.04)
    model.eval()
    torch.manual_seed(2)
    defense.loss(model, images, labels, TRIPLET)
    ((goal, clean, found),) = seen
    assert (BALL.size(found, clean) <= EPS * (1 + 1e-5)).all() and found.min() >= 0 and found.max() <= 1
    return goal, clean, found


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("est", EmbeddingShift),
        ("ses", EmbeddingShift),
        ("trades", shifts.NeighbourDivergence),
        ("act", triplets.Collapse),
        ("hm-constant", triplets.TowardsHardness),
        ("hm-semihard", triplets.TowardsHardness),
        ("decoupled", (triplets.MovedAnchors, triplets.CollapsedCandidates)),
    ],
)
def test_attacks_raise_what_they_are_for(digits, model, name, kind):
    goal, clean, found = goal_and_points(digits, model, name)
    assert isinstance(goal, kind)
    with torch.no_grad():
        before, after = goal(model(clean)), goal(model(found))
    assert after.sum() > before.sum()
    assert (after >= before - 1e-6).float().mean() > 0.8


def test_anti_collapse_brings_positives_and_negatives_together(digits, model):
    _, clean, found = goal_and_points(digits, model, "act")
    with torch.no_grad():
        apart, near = ((p - n).norm(dim=1) for p, n in (model(x).chunk(2) for x in (clean, found)))
    assert (near < apart).all()
    collapsed = triplets.Collapse()
    e = torch.randn(4, 3)
    assert collapsed.broken(torch.cat([e, e])).all() and not collapsed.broken(torch.cat([e, e + 1])).any()


def test_hardness_stops_where_it_is_wanted(digits, model):
    model.eval()
    images, labels = digits[0][:40], digits[1][:40]
    with torch.no_grad():
        clean = model(images)
        chosen = mine_triplets(clean, labels)
        easy = triplets.hardness(*(clean[part] for part in chosen))
        which = torch.cat(chosen)
        for level in (-2.5, float(easy.median())):
            goal = triplets.TowardsHardness(torch.full_like(easy, level))
            found = PGD(BALL, 10, 0.02)(model, images[which], goal)
            hard = triplets.hardness(*model(found).chunk(3))
            short = easy < level
            assert (hard[short] > easy[short]).all()
            # What is as hard already stays as it was: no point is better than the one it is.
            assert torch.equal(found.chunk(3)[0][~short], images[chosen[0]][~short])
            assert goal.broken(model(found)).chunk(3)[0][~short].all()


def test_destinations_of_hardness():
    clean = torch.tensor([[0.0], [1.0], [0.5], [3.0]])
    labels = torch.tensor([0, 0, 1, 1])
    anchors = torch.tensor([2, 0, 3, 1])
    # By hand, within a margin of 3: of the only positive, and the only negative that is farther.
    wanted = HardnessDefense(destination="semihard", margin=3.0)._wanted(clean, labels, anchors)
    assert wanted.tolist() == pytest.approx([-3.0, 1 - 3, 2.5 - 3, 1 - 2])
    # Within 0.7 there is but one.
    wanted = HardnessDefense(destination="semihard", margin=0.7)._wanted(clean, labels, anchors)
    assert wanted.tolist() == pytest.approx([-0.7, -0.7, 2.5 - 3, -0.7])
    assert (
        HardnessDefense(destination="constant", level=-0.1)._wanted(clean, labels, anchors).tolist()
        == [pytest.approx(-0.1)] * 4
    )
    gradual = HardnessDefense(margin=0.2)
    levels = []
    for last in (1.0, 0.2, 0.05, 0.0):  # as the loss falls, triplets are made harder, up to the wrong order
        gradual.load_state_dict({"last_loss": last})
        levels.append(float(gradual._wanted(clean, labels, anchors)[0]))
    assert levels == pytest.approx([-0.2, -0.2, -0.05, 0.0])


def test_structure_keeps_anchors_near_their_clean_selves(digits, model):
    model.eval()
    values = []
    for structure in (0.0, 1.0, 2.0):
        torch.manual_seed(0)
        defense = HardnessDefense(PGD(LinfBall(0.5), 5, 0.2), "constant", level=2.0, structure=structure)
        values.append(float(defense.loss(model, digits[0][:40], digits[1][:40], TRIPLET).detach()))
    assert values[1] > values[0]
    assert values[2] - values[1] == pytest.approx(values[1] - values[0], rel=1e-4)


def test_decoupling_perturbs_anchors_or_candidates(digits, model):
    model.eval()
    seen = set()
    for seed in range(8):
        torch.manual_seed(seed)
        sizes = []
        handle = model.register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))  # noqa: B023
        DecoupledDefense(pgd(BALL)).loss(model, digits[0][:40], digits[1][:40], TRIPLET)
        handle.remove()
        copies = sizes[-1] - 40
        triplets_found = sizes[1] if sizes[1] <= 40 else sizes[1] // 2
        seen.add(copies // triplets_found)
    assert seen == {1, 2}


def test_collapseness_against_a_loop():
    torch.manual_seed(0)
    near, far, sharpness = torch.rand(6), torch.rand(6), 3.0

    def weighted(values):
        weights = [float(torch.exp(sharpness * (d - values.max()))) for d in values]
        return sum(w * float(d) for w, d in zip(weights, values)) / sum(weights)

    found = triplets.collapseness(near, far, sharpness)
    assert float(found) == pytest.approx(weighted(near) - weighted(far), abs=1e-6)
    assert float(triplets.collapseness(near, near, sharpness)) == 0


def clean_triplets(digits, model):
    """A batch, its embeddings, and triplets of them."""
    model.eval()
    images, labels = digits[0][:40], digits[1][:40]
    with torch.no_grad():
        clean = model(images)
    return images, clean, mine_triplets(clean, labels)


def test_candidates_are_brought_to_collapse_and_no_further(digits, model):
    images, clean, (a, p, n) = clean_triplets(digits, model)
    goal = triplets.CollapsedCandidates(clean[a], 10.0)

    def reached(eps):
        found = PGD(LinfBall(eps), 20, eps / 4)(model, images[torch.cat([p, n])], goal)
        with torch.no_grad():
            near, far = ((clean[a] - block).norm(dim=1) for block in model(found).chunk(2))
        return float(triplets.collapseness(near, far, 10.0))

    start = float(triplets.collapseness((clean[a] - clean[p]).norm(dim=1), (clean[a] - clean[n]).norm(dim=1), 10.0))
    values = [start, reached(0.01), reached(0.02), reached(0.5)]
    assert values == sorted(values) and values[0] < values[2] < 0
    # Of a step that leaps over 0 the goal does not tell how far.
    assert float(goal.together(torch.cat([clean[n], clean[p]]))) == 0.0 and values[3] > -0.01


def test_anchors_leave_their_place_for_negatives(digits, model):
    images, clean, (a, p, n) = clean_triplets(digits, model)
    goal = triplets.MovedAnchors(clean[a], clean[p], clean[n], 10.0)
    found = PGD(LinfBall(0.05), 10, 0.0125)(model, images[a], goal)
    with torch.no_grad():
        moved = model(found)
        assert goal.together(moved) > goal.together(clean[a])
        assert (moved - clean[a]).norm(dim=1).mean() > 0.01
        assert (moved - clean[n]).norm(dim=1).mean() < (clean[a] - clean[n]).norm(dim=1).mean()
    # By hand: one triplet whose anchor has moved by 1, its positive 1 away and its negative 3.
    one = triplets.MovedAnchors(torch.tensor([[1.0, 0]]), torch.tensor([[0.0, 1]]), torch.tensor([[0.0, 3]]), 1.0)
    assert float(one.together(torch.zeros(1, 2))) == pytest.approx(-math.exp(-2) * (3 - 1))
    one = triplets.MovedAnchors(torch.tensor([[1.0, 0]]), torch.tensor([[0.0, 3]]), torch.tensor([[0.0, 1]]), 1.0)
    assert float(one.together(torch.zeros(1, 2))) == pytest.approx(-2)


def test_divergence_of_neighbours_against_a_loop():
    torch.manual_seed(0)
    references, moved, temperature = torch.randn(5, 3), torch.randn(5, 3), 0.7

    def probabilities(point, own):
        weights = [float(torch.exp(-(point - r).pow(2).sum() / temperature)) for r in references]
        weights[own] = 0.0
        return [weight / sum(weights) for weight in weights]

    expected = []
    for i in range(5):
        p, q = probabilities(references[i], i), probabilities(moved[i], i)
        expected.append(sum(a * torch.tensor(a / b).log().item() for j, (a, b) in enumerate(zip(p, q)) if j != i))
    found = shifts.neighbour_divergence(moved, references, temperature)
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-4, atol=1e-6)
    goal = shifts.NeighbourDivergence(references, temperature)
    rows = torch.tensor([3, 1])
    torch.testing.assert_close(goal.select(rows)(moved[rows]), found[rows])
    assert float(goal(references).abs().max()) < 1e-6
    assert not goal.broken(references).any()


def test_ensembles_take_the_gradients_of_other_models(digits, model):
    images, labels = digits[0][:40], digits[1][:40]
    source = other_model()
    asked = {"own": 0, "other": 0}
    source.register_forward_hook(lambda *_: asked.__setitem__("other", asked["other"] + 1))
    model.register_forward_hook(lambda *_: asked.__setitem__("own", asked["own"] + 1))
    before = copy.deepcopy(source.state_dict())
    defense = EnsembleDefense([source], PGD(BALL, steps=3))
    torch.manual_seed(0)
    batches = 20
    for _ in range(batches):
        defense.loss(model, images, labels, TRIPLET).backward()
    # Each batch is embedded once for the update; the three passes of the attack are one model's or the other's.
    assert asked["own"] + asked["other"] == 4 * batches
    assert 0 < asked["other"] < 3 * batches
    assert all(torch.equal(value, before[key]) for key, value in source.state_dict().items())
    assert all(parameter.grad is None for parameter in source.parameters())


def test_overfitting_to_one_step_takes_the_weights_back(digits, model, monkeypatch):
    images, labels = digits[0][:40], digits[1][:40]
    model.eval()
    harms = iter([])
    monkeypatch.setattr(single_step, "harm", lambda *_: torch.tensor(next(harms)))
    defense = SingleStepDefense(BALL, points=1, check_every=1)

    def check(clean, one, several):
        nonlocal harms
        harms = iter([clean, one, several])
        defense.loss(model, images, labels, TRIPLET)
        return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])

    def train():
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.1

    good = check(1.0, 2.0, 2.5)  # a step does two thirds of what many do
    train()
    assert torch.equal(check(1.0, 1.2, 2.0), good)  # a fifth: overfitted
    assert (defense.step, defense.restored) == (0.625, 1)
    train()
    better = check(1.0, 1.9, 2.0)
    assert not torch.equal(better, good) and defense.restored == 1
    for step in (0.3125, 0.25, 0.25, 0.25):  # at the smallest step training goes on
        train()
        check(1.0, 1.0, 2.0)
        assert defense.step == step
    assert defense.restored == 3


@pytest.mark.parametrize("kind", [torch.optim.Adam, lambda p, lr: torch.optim.SGD(p, lr, momentum=0.9)])
def test_what_follows_the_weights_is_taken_back_with_them(digits, model, monkeypatch, kind):
    # Weights, moments, the running average and a memory's queue are those of the last good check; the rate is not.
    images, labels = digits[0][:40], digits[1][:40]
    harms = iter([])
    monkeypatch.setattr(single_step, "harm", lambda *_: torch.tensor(next(harms)))
    memory = losses.CrossBatchMemory(TRIPLET, 16, memory_size=100)
    average = copy.deepcopy(model)
    optimizer = kind(model.parameters(), lr=0.1)
    defense = SingleStepDefense(BALL, points=1, check_every=1)
    defense.attach(optimizer, average)

    def state():
        held = [model.state_dict(), average.state_dict(), memory.state_dict(), optimizer.state_dict()["state"]]
        return copy.deepcopy(held), (memory.queue_idx, memory.has_been_filled)

    def step(*told):
        nonlocal harms
        harms = iter(told)
        before = state()
        optimizer.zero_grad()
        value = defense.loss(model, images, labels, memory)
        checked = [model.state_dict(), optimizer.state_dict()["state"], average.state_dict()]
        checked = copy.deepcopy(checked)
        value.backward()
        optimizer.step()
        with torch.no_grad():
            for parameter in average.parameters():
                parameter += 0.1
        return before, checked

    step(1.0, 2.0, 2.0)
    (weights, averaged, queue, moments), places = step(1.0, 2.0, 2.0)[0]  # kept at this check, with moments in it
    assert moments and queue["label_memory"].any()
    step(1.0, 2.0, 2.0)
    (weights, averaged, queue, moments), places = state()
    step(1.0, 2.0, 2.0)  # kept again, after a third step
    step_state = defense.state_dict()
    optimizer.param_groups[0]["lr"] = 0.01
    _, (weights_now, moments_now, averaged_now) = step(1.0, 1.0, 2.0)
    assert defense.restored == 1 and optimizer.param_groups[0]["lr"] == 0.01
    model_keys = [key for key in weights if not key.endswith("num_batches_tracked") and "running" not in key]
    assert all(torch.equal(weights_now[key], weights[key]) for key in model_keys)
    assert all(torch.equal(averaged_now[key], averaged[key]) for key in averaged)
    torch.testing.assert_close(moments_now, moments, rtol=0, atol=0)
    assert memory.queue_idx == (places[0] + 40) % 100  # and then took in the batch
    # What is kept is not what goes on: it can be taken back again.
    torch.testing.assert_close(defense.state_dict()["moments"], step_state["moments"], rtol=0, atol=0)
    torch.testing.assert_close(step_state["moments"], moments, rtol=0, atol=0)


def test_trainers_tell_defenses_what_follows_the_weights(digits, network):
    told = []

    class Watched(SingleStepDefense):
        def attach(self, optimizer, *followers):
            told.append((optimizer, followers))

    fitted = RobustTrainer(network, TRIPLET, defense=Watched(BALL), max_epochs=1, ema=0.9, accelerator="cpu")
    fitted.fit(loader(digits))
    (((optimizer, followers)),) = told
    assert isinstance(optimizer, torch.optim.Adam) and followers == (fitted.ema_model,)


def test_the_worst_point_on_the_way_is_trained_on(digits, model, monkeypatch):
    images, labels = digits[0][:40], digits[1][:40]
    model.eval()
    monkeypatch.setattr(single_step, "harm", lambda model, x, *_: -(x - images).abs().max())
    trained = []
    model.register_forward_hook(lambda module, inputs, output: trained.append(inputs[0]))
    for points in (1, 4):
        torch.manual_seed(0)
        SingleStepDefense(BALL, points=points, check_every=0).loss(model, images, labels, TRIPLET)
    far, near = (trained[i] - images for i in (1, 3))
    torch.testing.assert_close(near, far / 4, rtol=0, atol=1e-6)
    assert far.abs().max() <= EPS * (1 + 1e-5)


def test_free_training_climbs_with_the_gradient_of_the_update(digits, model):
    images, labels = digits[0][:40], digits[1][:40]
    model.eval()
    defense = FreeDefense(BALL, replays=3)
    seen = []
    model.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].detach()))
    losses_ = []
    for _ in range(3):
        value = defense.loss(model, images, labels, TRIPLET)
        value.backward()
        losses_.append(float(value.detach()))
    assert len(seen) == 3  # not one pass more than natural training
    assert torch.equal(seen[0], images)
    assert losses_[1] > losses_[0]
    for x in seen:
        assert (x - images).abs().max() <= EPS * (1 + 1e-5) and x.min() >= 0 and x.max() <= 1
    # Another batch begins with the perturbation of the last, within its own ball; one of another size without.
    defense.loss(model, digits[0][40:80], digits[1][40:80], TRIPLET)
    assert 0 < (seen[-1] - digits[0][40:80]).abs().max() <= EPS * (1 + 1e-5)
    defense.loss(model, digits[0][:30], digits[1][:30], TRIPLET)
    assert torch.equal(seen[-1], digits[0][:30])


def loader(digits):
    torch.manual_seed(0)
    data = torch.utils.data.TensorDataset(digits[0][:120], digits[1][:120])
    return torch.utils.data.DataLoader(data, batch_size=40, shuffle=True)


@pytest.mark.parametrize("name", ["hm", "single-step", "free"])
def test_interrupted_training_with_a_memory_ends_as_the_uninterrupted(digits, network, tmp_path, name):
    def train(epochs, folder, resume=False):
        model = copy.deepcopy(network)
        trainer = RobustTrainer(
            model, TRIPLET, defense=DEFENSES[name](BALL), max_epochs=epochs, checkpoint_dir=folder, accelerator="cpu"
        )
        trainer.fit(loader(digits), resume=resume)
        return trainer

    whole = train(2, tmp_path / "whole")
    train(1, tmp_path / "parts")
    parts = train(2, tmp_path / "parts", resume=True)
    assert parts.history == whole.history
    for one, two in zip(whole.model.state_dict().values(), parts.model.state_dict().values()):
        assert torch.equal(one, two)
    with pytest.raises(ValueError, match="of another model"):
        RobustTrainer(
            copy.deepcopy(network), TRIPLET, max_epochs=3, checkpoint_dir=tmp_path / "parts", accelerator="cpu"
        ).fit(loader(digits), resume=True)


def test_every_batch_is_replayed(digits, network):
    calls = []

    class Watched(FreeDefense):
        def loss(self, model, images, labels, loss_fn, miner=None):
            calls.append(images)
            return super().loss(model, images, labels, loss_fn, miner)

    RobustTrainer(network, TRIPLET, defense=Watched(BALL, replays=3), max_epochs=1, accelerator="cpu").fit(
        loader(digits)
    )
    assert len(calls) == 9
    assert all(torch.equal(calls[3 * i], calls[3 * i + j]) for i in range(3) for j in (1, 2))


@pytest.mark.parametrize("name", DEFENSES)
def test_mixed_precision(digits, model, name):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = DEFENSES[name](BALL).loss(model, digits[0][:40], digits[1][:40], TRIPLET)
    value.backward()
    assert torch.isfinite(value)
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


@pytest.mark.parametrize("name", OF_TRIPLETS)
def test_batches_without_a_triplet_are_counted(digits, model, name):
    defense = DEFENSES[name](BALL)
    value = defense.loss(model, digits[0][:6], torch.zeros(6, dtype=torch.long), TRIPLET)
    value.backward()
    assert value.detach() == 0 and defense.skipped == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ShiftPenaltyDefense(weight=-1), "weight of ShiftPenaltyDefense must not be negative"),
        (lambda: TradesDefense(temperature=0), "temperature of TradesDefense must be positive"),
        (lambda: AntiCollapseDefense(per_anchor=0), "per_anchor of AntiCollapseDefense must be at least 1"),
        (lambda: HardnessDefense(destination="hard"), "destination of HardnessDefense must be one of 'gradual'"),
        (lambda: HardnessDefense(margin=0), "margin of HardnessDefense must be positive"),
        (lambda: DecoupledDefense(sharpness=0), "sharpness of DecoupledDefense must be positive"),
        (lambda: EnsembleDefense([]), "sources of EnsembleDefense must hold at least one other model"),
        (lambda: SingleStepDefense(points=0), "points of SingleStepDefense must be at least 1"),
        (lambda: FreeDefense(replays=0), "replays of FreeDefense must be at least 1"),
        (lambda: triplets.Collapse().select(torch.tensor([0])), "no goal one by one"),
    ],
)
def test_bad_settings_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
