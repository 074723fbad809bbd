"""Goals of attacks: what they say is what a brute-force ranking says."""

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")

from certimetric.deep import (  # noqa: E402
    AwayFromPositive,
    EmbeddingShift,
    MarginGoal,
    TargetEmbedding,
    TowardsNegative,
    TupleLoss,
)
from certimetric.deep.goals import margins  # noqa: E402


def gallery(seed=0, n=60, k=4):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, k, generator=generator), torch.arange(n) % 5


def brute_force(queries, labels, items, item_labels, ids, item_ids):
    values = []
    for q, label, id_ in zip(queries, labels, ids):
        d = (items.double() - q.double()).norm(dim=1)
        positive = (item_labels == label) & (item_ids != id_)
        values.append(d[positive].min() - d[item_labels != label].min())
    return torch.stack(values)


@pytest.mark.parametrize("chunk", [7, 2**22])
def test_margin_is_positive_exactly_when_the_first_result_is_wrong(monkeypatch, chunk):
    monkeypatch.setattr(margins, "CHUNK", chunk)
    items, labels = gallery()
    ids = torch.arange(60)
    goal = MarginGoal(labels[:20], items, labels, ids[:20], ids)
    moved = items[:20] + 0.5 * torch.randn(20, 4, generator=torch.Generator().manual_seed(1))
    expected = brute_force(moved, labels[:20], items, labels, ids[:20], ids)
    torch.testing.assert_close(goal(moved), expected)
    assert torch.equal(goal.broken(moved), expected >= 0)
    for i, q in enumerate(moved):
        d = (items - q).norm(dim=1)
        d[i] = torch.inf  # itself, by its id
        assert bool(goal.broken(moved)[i]) == (labels[d.argmin()] != labels[i])
    # The query's own clean copy is never its positive, even where it is the nearest by far.
    assert (goal(items[:20]) != -brute_force(items[:20], labels[:20], items, labels, ids[:20] + 100, ids)).all()


@pytest.mark.parametrize("offset", [0.0, 1.0, -300.0])
@pytest.mark.parametrize("spread", [1e-30, 1e-12, 1e-3, 1.0, 1e6, 1e18])
def test_margins_keep_the_digits_that_embeddings_have(offset, spread):
    # Embeddings in single precision, far from the origin beside their spread: what is left of them is told exactly.
    items, labels = gallery()
    items = spread * items + offset * spread * 100
    ids = torch.arange(60)
    moved = items[:20] + 0.5 * spread * torch.randn(20, 4, generator=torch.Generator().manual_seed(1))
    moved.requires_grad_(True)
    found = MarginGoal(labels[:20], items, labels, ids[:20], ids)(moved)
    expected = brute_force(moved, labels[:20], items, labels, ids[:20], ids)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12 * spread)
    gradients = [torch.autograd.grad(value.sum(), moved)[0] for value in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("spread", [1e-30, 1e-20, 1e-6])
def test_distances_have_a_direction_at_any_size(spread):
    a, b = (spread * torch.randn(5, 3, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    for goal in (AwayFromPositive(b), TargetEmbedding(b), AwayFromPositive(b, metric="normalized-euclidean")):
        moved = a.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(goal(moved).sum(), moved)
        assert (gradient.norm(dim=1) > 0.1).all()
    torch.testing.assert_close(AwayFromPositive(b)(a), (a.double() - b.double()).norm(dim=1), rtol=1e-12, atol=0)


@pytest.mark.parametrize("metric", ["cosine", "normalized-euclidean"])
def test_cosines_near_one_keep_their_digits(metric):
    generator = torch.Generator().manual_seed(0)
    a = 1 + 1e-4 * torch.randn(6, 8, generator=generator)
    b = 1 + 1e-4 * torch.randn(6, 8, generator=generator)
    cosine = torch.nn.functional.cosine_similarity(a.double(), b.double())
    exact = torch.stack([1 - torch.sum(x * y) / (x.norm() * y.norm()) for x, y in zip(a.double(), b.double())])
    assert (exact < 1e-7).all()
    found = AwayFromPositive(b, metric=metric)(a)
    expected = 1 - cosine if metric == "cosine" else (2 - 2 * cosine).sqrt()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)


def test_parts_of_a_goal():
    items, labels = gallery()
    ids = torch.arange(60)
    rows = torch.tensor([3, 11, 4])
    for goal in (
        MarginGoal(labels, items, labels, ids, ids),
        EmbeddingShift(items + 1),
        AwayFromPositive(items.flip(0), torch.rand(60)),
        TowardsNegative(items.flip(0), torch.rand(60)),
        TargetEmbedding(items.flip(0)),
    ):
        moved = items + 0.1
        torch.testing.assert_close(goal.select(rows)(moved[rows]), goal(moved)[rows])
        assert torch.equal(goal.select(rows).broken(moved[rows]), goal.broken(moved)[rows])


def test_gradients_are_finite_where_points_coincide():
    items, labels = gallery()
    for goal in (EmbeddingShift(items), MarginGoal(labels, items, labels)):
        moved = items.clone().requires_grad_(True)
        goal(moved).sum().backward()
        assert torch.isfinite(moved.grad).all()


def test_loss_of_a_batch():
    items, labels = gallery(n=10)
    loss = TupleLoss(lambda embeddings, labels, tuples: (embeddings**2).sum(), labels)
    assert loss(items).sum() == pytest.approx(float((items**2).sum()), rel=1e-5)
    with pytest.raises(ValueError, match="a goal together have none one by one"):
        loss.select(torch.tensor([0]))


@pytest.mark.parametrize("tuples", [None, ([0, 2], [1, 3], [2, 0])])
def test_a_hinge_that_is_not_reached_is_attacked_at_its_margin(tuples):
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    distances = pytest.importorskip("pytorch_metric_learning.distances")
    labels = torch.tensor([0, 0, 1, 1])
    apart = torch.tensor([[1.0, 0.1], [1.0, -0.1], [-1.0, 0.1], [-1.0, -0.1]])
    tuples = None if tuples is None else tuple(map(torch.tensor, tuples))
    for distance in (distances.LpDistance(), distances.CosineSimilarity()):
        loss = losses.TripletMarginLoss(0.2, distance=distance)
        assert float(loss(apart, labels, tuples)) == 0.0
        values = [float(TupleLoss(loss, labels, tuples).together(apart * torch.tensor([1.0, k]))) for k in (1, 3, 5)]
        assert values == sorted(values) and values[0] < values[-1] < 0  # nearer and nearer to being in the wrong order
        point = apart.clone().requires_grad_(True)
        TupleLoss(loss, labels, tuples).together(point).backward()
        assert (point.grad != 0).any(dim=1).sum() >= (2 if tuples else 4)
    reached = TupleLoss(losses.TripletMarginLoss(3.0), labels, tuples)
    assert float(reached.together(apart)) == float(reached.loss(apart, labels, tuples)) > 0
    assert float(TupleLoss(loss, torch.zeros(4, dtype=torch.long)).together(apart)) == 0.0  # no negatives: no margin


def test_queries_without_a_positive_or_a_negative_are_named():
    items, labels = gallery()
    with pytest.raises(ValueError, match="query 1 has no positive"):
        MarginGoal(torch.tensor([0, 9]), items, labels)
    with pytest.raises(ValueError, match="query 0 has no negative"):
        MarginGoal(torch.tensor([0]), items[labels == 0], labels[labels == 0])
    with pytest.raises(ValueError, match="together"):
        MarginGoal(labels, items, labels, ids=torch.arange(60))
