"""Goals of attacks on a ranking: values, gradients and ends are those of sums and sorts over the whole gallery."""

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")

from certimetric.deep import (  # noqa: E402
    APGD,
    FGSM,
    PGD,
    CandidateRank,
    CarliniWagner,
    GreedyMisranking,
    GreedyTranslocation,
    LearningToMisrank,
    LinfBall,
    NESAttack,
    QueryRank,
    SemanticsPreservingRank,
    SquareAttack,
    TargetedMismatch,
)
from certimetric.deep.goals import ranking  # noqa: E402
from certimetric.deep.ranking.distances import METRICS, EmbeddingMetric  # noqa: E402

N, B, K = 40, 6, 5
every_metric = pytest.mark.parametrize("metric", METRICS)
both_signs = pytest.mark.parametrize("raising", [True, False], ids=["+", "-"])


@pytest.fixture
def items():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(N, K, generator=generator, dtype=torch.double) + 0.5


@pytest.fixture
def rows():
    """Two items for each of the samples, which are the first items: none of them itself."""
    return torch.stack([torch.arange(B) + 7, torch.arange(B) * 3 + 15], dim=1)


def moved(items):
    generator = torch.Generator().manual_seed(1)
    return items[:B] + 0.3 * torch.randn(B, K, generator=generator, dtype=torch.double)


def ids():
    return torch.arange(N)


def labels():
    return torch.arange(N) % 3


def separation(a, b, metric):
    """The definition, for (k,) and (n, k)."""
    if metric == "euclidean":
        return (b - a).norm(dim=-1)
    cosine = torch.nn.functional.cosine_similarity(a, b, dim=-1)
    return 1 - cosine if metric == "cosine" else (2 - 2 * cosine).sqrt()


def hinges(kind, e, i, own, items, rows, sign, metric):
    """Σ [±(d(q, c) − d(q, x))]₊ of sample i, as it stands in the paper."""
    total = 0
    for row in rows[i].tolist():
        apart = (ids() != own[i]) & (ids() != row)
        point, reached = (items[row], e[i]) if kind is CandidateRank else (e[i], items[row])
        gap = sign * (separation(point, reached, metric) - separation(point, items[apart], metric))
        total = total + gap.clamp_min(0).sum()
    return total


@every_metric
@both_signs
@pytest.mark.parametrize("kind", [CandidateRank, QueryRank])
@pytest.mark.parametrize("chunk", [7, 2**22])
def test_ranks_as_sums_of_hinges_with_their_gradient(monkeypatch, items, rows, kind, raising, metric, chunk):
    monkeypatch.setattr(ranking, "CHUNK", chunk)
    own = ids()[:B]
    goal = kind(rows, items, own, ids(), raising=raising, metric=metric)
    e = moved(items).requires_grad_(True)
    expected = torch.stack([hinges(kind, e, i, own, items, rows, 1 if raising else -1, metric) for i in range(B)])
    value = goal(e)
    torch.testing.assert_close(value, -expected)
    (gradient,) = torch.autograd.grad(value.sum(), e)
    torch.testing.assert_close(gradient, torch.autograd.grad(-expected.sum(), e)[0])
    assert torch.equal(goal.broken(e.detach()), expected == 0)
    part = torch.tensor([4, 1])
    torch.testing.assert_close(goal.select(part)(e[part]), value[part])


@both_signs
@pytest.mark.parametrize("kind", [CandidateRank, QueryRank])
def test_goal_is_reached_exactly_at_the_end_of_the_ranking(items, rows, kind, raising):
    row = rows[:, :1]
    goal = kind(row, items, ids()[:B], ids(), raising=raising)
    # On the item itself it comes first; from a thousand times as far it comes last, as a candidate, ...
    far = 1000 * items[row[:, 0]]
    end = items[row[:, 0]] if raising else far
    if kind is QueryRank and not raising:  # ... and as a query on the far side of all of the others.
        end = items.mean(dim=0) - 1000 * (items[row[:, 0]] - items.mean(dim=0))
        d = torch.cdist(end, items)
        last = torch.stack([d[i].argsort(descending=True)[0] == row[i, 0] for i in range(B)])
        assert torch.equal(goal.broken(end), last)
    else:
        assert goal.broken(end).all()
    assert not goal.broken(items.mean(dim=0).expand(B, K)).all()


@every_metric
def test_keeping_the_first_items(items, rows, metric):
    own, kept = ids()[:B], rows + 1
    goal, keep = (
        QueryRank(r, items, own, ids(), raising=raising, metric=metric) for r, raising in ((rows, False), (kept, True))
    )
    both = SemanticsPreservingRank(rows, kept, items, own, ids(), raising=False, weight=3.0, metric=metric)
    e = moved(items)
    torch.testing.assert_close(both(e), goal(e) + 3.0 * keep(e))
    assert torch.equal(both.broken(e), goal.broken(e))
    part = torch.tensor([5, 0])
    torch.testing.assert_close(both.select(part)(e[part]), both(e)[part])
    with pytest.raises(ValueError, match="weight must not be negative"):
        SemanticsPreservingRank(rows, kept, items, own, ids(), weight=-1.0)


@every_metric
def test_goals_by_class(items, metric):
    own, classes = ids()[:B], labels()
    known = classes[:B], items, classes, own, ids()
    misrank, greedy = LearningToMisrank(*known, metric=metric), GreedyMisranking(items[:B], *known, metric=metric)
    e = moved(items)
    for i in range(B):
        d, before = (separation(x, items, metric) for x in (e[i], items[i]))
        negative, positive = classes != classes[i], (classes == classes[i]) & (ids() != i)
        assert misrank(e)[i].item() == pytest.approx(-max(float(d[negative].max() - d[positive].min()), 0.0), abs=1e-6)
        nearest = before.masked_fill(~negative, torch.inf).argmin()
        assert greedy(e)[i].item() == pytest.approx(-float(d[nearest]), abs=1e-6)
        assert bool(greedy.broken(e)[i]) == bool(d[negative].min() <= d[positive].min())
    # Where all of the other classes are nearer than the own one, nothing is left to do.
    apart = torch.cat([torch.zeros(3, 1), torch.ones(3, 1)]).double()
    far = LearningToMisrank(torch.tensor([0]), apart, torch.arange(6) // 3, torch.tensor([0]), torch.arange(6))
    assert far(torch.ones(1, 1)).item() == 0
    assert far(torch.zeros(1, 1)).item() == pytest.approx(-1)


@every_metric
def test_translocation_ends_once_four_others_are_ahead(items, metric):
    first = torch.tensor([9, 12, 20, 33, 5, 2])
    goal = GreedyTranslocation(first, items, ids()[:B], ids(), metric=metric)
    ends = []
    for e in (items[first], moved(items), items[:B], items.flip(0)[:B]):
        for i in range(B):
            d = separation(e[i], items, metric)
            apart = (ids() != i) & (ids() != first[i])
            ends.append(bool((d[apart] <= d[first[i]]).sum() >= 4))
            assert bool(goal.broken(e)[i]) == ends[-1]
    assert any(ends)
    assert not all(ends)


def test_targets_are_reached_by_their_direction(items):
    goal = TargetedMismatch(items[10 : 10 + B])
    e = moved(items)
    expected = torch.nn.functional.cosine_similarity(e, items[10 : 10 + B])
    torch.testing.assert_close(goal(e), expected)
    assert goal.broken(3 * items[10 : 10 + B]).all()
    assert not goal.broken(-items[10 : 10 + B]).any()


def test_wrong_metric_is_named(items, rows):
    with pytest.raises(ValueError, match="or 'normalized-euclidean', got 'manhattan'"):
        QueryRank(rows, items, ids()[:B], ids(), metric="manhattan")
    assert EmbeddingMetric("cosine").place(torch.zeros(1, 3)).isfinite().all()


def goals(embeddings, classes, b):
    """All goals for the first b of a gallery, that are the queries, under what they are called."""
    own, all_ids = torch.arange(b), torch.arange(len(embeddings))
    rows = (own[:, None] * 7 + 50) % len(embeddings)
    first = torch.cdist(embeddings[:b], embeddings).fill_diagonal_(torch.inf).argsort(dim=1)[:, :5]
    by_class = classes[:b], embeddings, classes, own, all_ids
    return {
        "CA+": CandidateRank(rows, embeddings, own, all_ids),
        "CA-": CandidateRank(first[:, 2:3], embeddings, own, all_ids, raising=False),
        "QA+": QueryRank(rows, embeddings, own, all_ids),
        "QA-": QueryRank(first[:, 2:3], embeddings, own, all_ids, raising=False),
        "SP-QA+": SemanticsPreservingRank(rows, first, embeddings, own, all_ids),
        "SP-QA-": SemanticsPreservingRank(first[:, :1], first[:, 1:], embeddings, own, all_ids, raising=False),
        "TMA": TargetedMismatch(embeddings[rows[:, 0]]),
        "LTM": LearningToMisrank(*by_class),
        "GTM": GreedyMisranking(embeddings[:b], *by_class),
        "GTT": GreedyTranslocation(first[:, 0], embeddings, own, all_ids),
    }


@pytest.fixture
def ranked(digits, network):
    """A network, 8 queries, and the goals of an attacker of them."""
    images, classes = digits
    network.eval()
    with torch.no_grad():
        embeddings = network(images)
    return network, images[:8], goals(embeddings, classes, 8)


ATTACKS = {
    "fgsm": lambda ball: FGSM(ball),
    "pgd": lambda ball: PGD(ball, steps=6, random_start=False),
    "apgd": lambda ball: APGD(ball, steps=8),
    "carlini-wagner": lambda ball: CarliniWagner(ball, steps=4, searches=2),
    "square": lambda ball: SquareAttack(ball, queries=20),
    "nes": lambda ball: NESAttack(ball, steps=4, population=8),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_every_attack_pursues_every_goal(ranked, attack):
    network, x, pursued = ranked
    ball = LinfBall(0.15)
    for name, goal in pursued.items():
        attacked = ATTACKS[attack](ball)(network, x, goal)
        assert (ball.size(attacked, x) <= ball.eps).all(), name
        with torch.no_grad():
            before, after = goal(network(x)), goal(network(attacked))
            reached = goal.broken(network(attacked))
        # What reaches the goal is better than what does not, even where keeping the first items costs it some value.
        assert (reached | (after >= before - 1e-4)).all(), name
        assert (reached >= goal.broken(network(x))).all(), name
        assert after.mean() > before.mean(), name


def test_keeping_the_first_items_keeps_them_nearer(ranked):
    network, x, pursued = ranked
    attack = PGD(LinfBall(0.15), steps=15, random_start=False)
    kept = pursued["SP-QA+"].kept
    with torch.no_grad():
        plain, careful = (kept(network(attack(network, x, pursued[name]))) for name in ("QA+", "SP-QA+"))
    assert careful.mean() > plain.mean()


def test_estimated_gradients_come_near_to_true_ones(ranked):
    network, x, pursued = ranked
    ball, goal = LinfBall(0.1), pursued["TMA"]
    with torch.no_grad():
        clean = goal(network(x)).mean()
    white = goal(network(PGD(ball, steps=8, random_start=False)(network, x, goal))).mean()
    few, many = (goal(network(NESAttack(ball, steps=8, population=p)(network, x, goal))).mean() for p in (4, 100))
    assert clean < few < many < white
    assert many - clean > 0.8 * (white - clean)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"population": 3}, "an even number"),
        ({"sigma": 0}, "sigma must be"),
    ],
)
def test_wrong_settings_of_nes(options, message):
    with pytest.raises(ValueError, match=message):
        NESAttack(LinfBall(0.1), **options)
