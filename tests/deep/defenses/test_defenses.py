"""Robust losses: exactly the tuples that they should perturb, any metric loss, and a model left in order."""

import copy

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")
pytest.importorskip(
    "pytorch_metric_learning", reason="pytorch-metric-learning is not installed: the extra 'deep' has it"
)

from pytorch_metric_learning import losses, miners  # noqa: E402
from torch import nn  # noqa: E402

from certimetric.deep import (  # noqa: E402
    FGSM,
    PGD,
    AwayFromPositive,
    BatchDefense,
    EmbeddingShift,
    L2Ball,
    LinfBall,
    NoDefense,
    PerturbationDefense,
    TupleDefense,
    mine_triplets,
)
from certimetric.deep.defenses import first_order_margin  # noqa: E402

ATTACK = PGD(LinfBall(0.05), steps=3)
DEFENSES = {
    "none": lambda: NoDefense(),
    "positive": lambda: TupleDefense("positive", ATTACK),
    "negative": lambda: TupleDefense("negative", ATTACK),
    "anchor": lambda: TupleDefense("anchor", ATTACK, attack_rate=0.5, per_anchor=2),
    "batch": lambda: BatchDefense(ATTACK),
    "perturbation": lambda: PerturbationDefense(0.05),
}
LOSSES = {
    "contrastive": lambda: losses.ContrastiveLoss(neg_margin=1.0),
    "triplet": lambda: losses.TripletMarginLoss(margin=0.2),
    "multi-similarity": lambda: losses.MultiSimilarityLoss(),
    "proxy-anchor": lambda: losses.ProxyAnchorLoss(num_classes=10, embedding_size=16),
    "arcface": lambda: losses.ArcFaceLoss(num_classes=10, embedding_size=16),
    "nt-xent": lambda: losses.NTXentLoss(),
}


class Sphere(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return nn.functional.normalize(self.network(x), dim=1)


@pytest.fixture
def model(network):
    return Sphere(network)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("defense", DEFENSES)
def test_every_loss_is_trained_robustly(digits, model, defense, loss):
    torch.manual_seed(0)
    images, labels = digits
    loss_fn, rule = LOSSES[loss](), DEFENSES[defense]()
    parameters = [*model.parameters(), *loss_fn.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=1e-2)
    model.train()
    for step in range(3):
        rows = slice(40 * step, 40 * step + 40)
        optimizer.zero_grad()
        value = rule.loss(model, images[rows], labels[rows], loss_fn, None)
        assert value.ndim == 0
        assert torch.isfinite(value)
        value.backward()
        assert all(parameter.grad is not None for parameter in parameters)
        assert any((parameter.grad != 0).any() for parameter in model.parameters())
        if list(loss_fn.parameters()):
            assert any((parameter.grad != 0).any() for parameter in loss_fn.parameters())
        optimizer.step()
    assert model.training


class Recorder:
    """A loss that keeps what it was given."""

    def __call__(self, embeddings, labels, indices_tuple):
        self.embeddings, self.labels, self.tuples = embeddings, labels, indices_tuple
        return embeddings.sum() * 0


@pytest.mark.parametrize("role", ["positive", "negative", "anchor"])
def test_only_the_tuples_of_perturbed_copies_are_rewired(digits, model, role):
    images, labels = digits[0][:30], digits[1][:30]
    model.eval()
    recorder = Recorder()
    defense = TupleDefense(role, ATTACK, attack_rate=0.5)
    seen = []
    attack = ATTACK.__call__

    class Watched(PGD):
        def __call__(self, model, x, goal):
            seen.append((x, attack(model, x, goal)))
            return seen[-1][1]

    defense.attack = Watched(LinfBall(0.05), steps=3)
    torch.manual_seed(1)
    defense.loss(model, images, labels, recorder, None)
    (clean, perturbed), (a, p, n) = seen[0], recorder.tuples
    m = len(perturbed)
    assert len(recorder.embeddings) == 30 + m == len(recorder.labels)
    column = {"anchor": a, "positive": p, "negative": n}[role]
    moved = column >= 30
    assert moved.sum() == m == round(0.5 * len(a))
    assert sorted(column[moved].tolist()) == list(range(30, 30 + m))  # each copy serves one tuple
    for other in (a, p, n):
        if other is not column:
            assert (other < 30).all()
    # A copy has the label of its original, and stays in the ball around it.
    assert (recorder.labels[a] == recorder.labels[p]).all()
    assert (recorder.labels[a] != recorder.labels[n]).all()
    assert (LinfBall(0.05).size(perturbed, clean) <= 0.05 * (1 + 1e-5)).all()
    # Without an attack the tuples are the mined ones.
    torch.manual_seed(1)
    TupleDefense(role, ATTACK, attack_rate=0.0).loss(model, images, labels, recorder, None)
    assert all((part < 30).all() for part in recorder.tuples)


def forward_sizes(model, defense, digits, miner=None, n=40):
    """How many images each forward pass of one loss takes, and whether it is to be differentiated."""
    seen = []
    handle = model.register_forward_hook(
        lambda module, inputs, output: seen.append((len(output), output.requires_grad))
    )
    torch.manual_seed(0)
    defense.loss(model, digits[0][:n], digits[1][:n], losses.TripletMarginLoss(), miner).backward()
    handle.remove()
    return seen


@pytest.mark.parametrize("steps", [1, 5])
def test_no_forward_pass_without_need(digits, model, steps):
    # One to mine on, one for each step of the attack, one for the update; with restarts, those that choose among them.
    attack = PGD(LinfBall(0.05), steps=steps)
    (mined, *attacked, update) = forward_sizes(model, TupleDefense("anchor", attack), digits)
    copies = update[0] - 40
    assert mined == (40, False)
    assert attacked == [(copies, True)] * steps
    assert update[1]
    miner = miners.TripletMarginMiner(margin=10.0)
    assert forward_sizes(model, BatchDefense(attack), digits) == [(40, True)] * (steps + 1)
    assert forward_sizes(model, BatchDefense(attack), digits, miner) == [(40, False)] + [(40, True)] * (steps + 1)
    several = BatchDefense(PGD(LinfBall(0.05), steps=steps, restarts=2))
    assert len(forward_sizes(model, several, digits)) == 1 + 2 * (steps + 1) + 1


def test_the_attack_in_training_takes_gradients_of_images_only(digits, model):
    # A parameter that took part in the attack would show as a node of its graph.
    leaves = []

    class Spy(EmbeddingShift):
        def __call__(self, embeddings):
            leaves.append([parameter.requires_grad for parameter in model.parameters()])
            return super().__call__(embeddings)

    PGD(LinfBall(0.05), steps=2).for_training()(model, digits[0][:8], Spy(torch.zeros(8, 16)))
    assert len(leaves) == 2
    assert not any(map(any, leaves))


@pytest.mark.parametrize("attack", [PGD(LinfBall(0.05), steps=4), PGD(L2Ball(0.5), steps=4), FGSM(LinfBall(0.05))])
def test_the_point_at_which_the_attack_ends_is_trained_on(digits, model, attack):
    images = digits[0][:30]
    model.eval()
    with torch.no_grad():
        goal = AwayFromPositive(model(images.roll(1, 0)))
    torch.manual_seed(0)
    trained = attack.for_training()
    attack = copy.copy(attack)
    attack.seed = trained.seed
    last, best = (kind(model, images, goal) for kind in (trained, attack))
    assert (attack.ball.size(last, images) <= attack.ball.eps * (1 + 1e-5)).all()
    assert last.min() >= 0
    assert last.max() <= 1
    assert torch.equal(last, trained(model, images, goal))
    with torch.no_grad():
        clean, ended, most = (goal(model(x)) for x in (images, last, best))
    # Where it ends is no better than the best, is often that, and is far from where it began.
    assert (ended <= most + 1e-6).all()
    assert (last == best).flatten(1).all(dim=1).float().mean() > 0.5
    assert (ended > clean).float().mean() > 0.9
    # Every batch starts elsewhere, and of several restarts the best counts.
    assert attack.for_training().seed != trained.seed
    several = PGD(attack.ball, steps=3, restarts=2)
    drawn = several.for_training()
    several.seed = drawn.seed
    assert torch.equal(drawn(model, images, goal), several(model, images, goal))


@pytest.mark.parametrize("defense", ["positive", "negative", "anchor", "batch"])
def test_losses_are_the_same_under_a_seed(digits, model, defense):
    images, labels = digits[0][:40], digits[1][:40]
    model.eval()
    values = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        values.append(float(DEFENSES[defense]().loss(model, images, labels, losses.TripletMarginLoss(), None).detach()))
    assert values[0] == values[1]
    assert defense == "batch" or values[0] != values[2]


@pytest.mark.parametrize("defense", ["positive", "anchor", "batch"])
def test_attack_leaves_statistics_of_batches_alone(digits, model, defense):
    # One training forward pass: running statistics move as often as the update's own pass, not with the attack's.
    images, labels = digits[0][:40], digits[1][:40]
    model.train()
    before = model.network[1].num_batches_tracked.clone()
    DEFENSES[defense]().loss(model, images, labels, losses.TripletMarginLoss(), None)
    assert model.network[1].num_batches_tracked == before + 1


def test_robust_loss_is_no_lower_than_the_clean_one(digits, model):
    images, labels = digits[0][:60], digits[1][:60]
    model.eval()
    loss_fn = losses.TripletMarginLoss()
    clean = NoDefense().loss(model, images, labels, loss_fn)
    assert BatchDefense(ATTACK).loss(model, images, labels, loss_fn) >= clean - 1e-6


def test_first_order_margin_of_a_linear_embedding_is_the_adversarial_margin(digits):
    # For a linear f the first-order margin is that of the classical triplet, in both norms.
    from certimetric import MahalanobisMetric, PerturbationLoss

    torch.manual_seed(0)
    images, labels = digits[0][:40].double(), digits[1][:40]
    linear = nn.Sequential(nn.Flatten(), nn.Linear(64, 5, bias=False)).double()
    leaf = images.clone().requires_grad_(True)
    embeddings = linear(leaf)
    triplets = mine_triplets(embeddings, labels, miners.TripletMarginMiner(margin=10.0), per_anchor=2)
    metric = MahalanobisMetric.from_components(linear[1].weight.detach().numpy())
    rows = torch.stack(triplets, dim=1).numpy()
    for norm in ("linf", "l2"):
        margin = first_order_margin(leaf, embeddings, triplets, norm).detach()
        expected = PerturbationLoss(norm=norm).adversarial_margin(metric, images.flatten(1).numpy(), rows)
        torch.testing.assert_close(margin.clamp_min(0), torch.tensor(expected), rtol=1e-6, atol=1e-9)


def test_batches_without_a_tuple_are_counted(digits, model):
    images = digits[0][:6]
    for defense in (TupleDefense(attack=ATTACK), PerturbationDefense()):
        value = defense.loss(model, images, torch.zeros(6, dtype=torch.long), losses.TripletMarginLoss(), None)
        value.backward()
        assert float(value) == 0
        assert defense.skipped == 1
    defense = BatchDefense(ATTACK)
    miner = miners.TripletMarginMiner(margin=0.2)
    assert float(defense.loss(model, images, torch.zeros(6, dtype=torch.long), losses.TripletMarginLoss(), miner)) == 0
    assert defense.skipped == 1


def test_memory_of_a_loss_takes_in_the_update_only(digits, model):
    images, labels = digits[0][:40], digits[1][:40]
    memory = losses.CrossBatchMemory(losses.TripletMarginLoss(), embedding_size=16, memory_size=400)
    BatchDefense(ATTACK).loss(model, images, labels, memory, None)
    assert memory.queue_idx == 40


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TupleDefense("query"), "role of TupleDefense must be one of"),
        (lambda: TupleDefense(attack_rate=1.5), "attack_rate of TupleDefense must lie between 0 and 1"),
        (lambda: PerturbationDefense(norm="l1"), "norm of PerturbationDefense must be one of 'linf', 'l2', got 'l1'"),
        (lambda: PerturbationDefense(radius=0), "radius of PerturbationDefense must be positive"),
    ],
)
def test_bad_settings_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
