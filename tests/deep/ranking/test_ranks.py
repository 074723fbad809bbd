"""Ranks and nearest items: those of a second implementation by brute force, in whatever portions they are computed."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")

from certimetric.deep.ranking import few, relevant_ranks  # noqa: E402
from certimetric.deep.ranking import ranks as ranking  # noqa: E402
from certimetric.deep.ranking.ranks import items_ahead, nearest  # noqa: E402

K, N, M = 6, 300, 40


def points(kind, generator):
    x = torch.randn(N, K, generator=generator)
    if kind == "ties":
        return (2 * x).round()
    if kind == "duplicates":
        return x[torch.randint(0, N // 4, (N,), generator=generator)]
    if kind == "offset":
        return x + 1e4
    if kind == "collapsed":
        return torch.full((N, K), 0.1)
    if kind == "nearly collapsed":
        return 1 + 1e-7 * x.round()
    if kind == "two places":
        return torch.where(x[:, :1] > 0, 1e4, -1e4).expand(N, K) + 1e-3 * x
    return {"double": x.double(), "tiny": 1e-30 * x, "whole": (3 * x).long(), "half": x.half(), "brain": x.bfloat16()}[
        kind
    ]


KINDS = ["ties", "duplicates", "offset", "collapsed", "nearly collapsed", "two places"]
KINDS += ["double", "tiny", "whole", "half", "brain"]
every_kind = pytest.mark.parametrize("kind", KINDS)
every_memory = pytest.mark.parametrize("memory", [pytest.param(1, marks=pytest.mark.slow), 3000, 2**24], indirect=True)


@pytest.fixture
def memory(request, monkeypatch):
    """So many numbers are held together."""
    monkeypatch.setattr(ranking, "_MEMORY", request.param)


@pytest.fixture
def case(kind):
    """Queries, of which some are pictures of the gallery, some of these changed, and some have no relevant item."""
    generator = torch.Generator().manual_seed(len(kind))
    gallery = points(kind, generator)
    labels = torch.randint(0, 8, (N,), generator=generator)
    ids = torch.randperm(N, generator=generator)
    queries, asked, own = gallery[:M].clone(), labels[:M].clone(), ids[:M].clone()
    queries[10:20] = gallery[100:110]  # as an attack leaves them: no longer their own nearest item
    own[20:30] += 1000  # not in the gallery
    asked[30:32] = 99
    return queries, asked, own, gallery, labels, ids


def squared_distances(query, gallery):
    return ((gallery.double() - query.double()).numpy() ** 2).sum(axis=1)


def brute_force_ranks(queries, labels, ids, gallery, gallery_labels, gallery_ids):
    """Sort everything; irrelevant first among equals."""
    found = []
    for query, label, id_ in zip(queries, labels, ids):
        kept = gallery_ids != id_
        relevant = (gallery_labels[kept] == label).numpy()
        order = np.lexsort((relevant, squared_distances(query, gallery[kept])))
        found.append((np.flatnonzero(relevant[order]) + 1).tolist())
    return found


def brute_force_nearest(queries, ids, gallery, gallery_ids, k):
    found = []
    for query, id_ in zip(queries, ids):
        rows = np.flatnonzero((gallery_ids != id_).numpy())
        found.append(rows[np.argsort(squared_distances(query, gallery[rows]), kind="stable")][:k].tolist())
    return found


@every_kind
@every_memory
def test_ranks(case, memory):
    ranks = relevant_ranks(*case)
    expected = brute_force_ranks(*case)
    assert [row[row > 0].tolist() for row in ranks] == expected
    assert ranks.shape == (M, max(map(len, expected)))


@every_kind
@pytest.mark.parametrize("classes", [20, 100])
def test_ranks_among_few_relevant_items(case, classes, monkeypatch):
    # By products in single precision, in blocks of items and of queries.
    monkeypatch.setattr(few, "_BLOCK", 70)
    queries, _, ids, gallery, labels, gallery_ids = case
    labels = (labels * 13 + gallery_ids) % classes
    asked = labels[:M].clone()
    asked[30:32] = 999
    given = (queries, asked, ids, gallery, labels, gallery_ids)
    expected = brute_force_ranks(*given)
    assert max(map(len, expected)) <= few.FEW
    assert [row[row > 0].tolist() for row in relevant_ranks(*given)] == expected


@every_kind
@pytest.mark.parametrize("n_threads", [1, 3])
def test_ranks_of_a_gallery_for_itself(case, n_threads, monkeypatch):
    # Every product serves both of its points, in blocks of which the last is not full; ids are those of pictures, which
    # a query may share with several items, and may be others than those of the gallery.
    monkeypatch.setattr(few, "_BLOCK", 70)
    _, _, _, gallery, labels, ids = case
    labels, ids = (labels * 13 + ids) % 40, ids // 2
    given = (gallery.clone(), labels, ids.flip(0), gallery, labels, ids)
    torch.set_num_threads(n_threads)
    try:
        ranks = relevant_ranks(*given)
    finally:
        torch.set_num_threads(1)
    assert [row[row > 0].tolist() for row in ranks] == brute_force_ranks(*given)


@every_kind
@every_memory
@pytest.mark.parametrize("k", [1, 7])
def test_nearest(case, memory, k):
    queries, _, ids, gallery, _, gallery_ids = case
    found = nearest(queries, ids, gallery, gallery_ids, k)
    assert found.tolist() == brute_force_nearest(queries, ids, gallery, gallery_ids, k)


@pytest.mark.parametrize("memory", [1, 300, 2**24], indirect=True)
@pytest.mark.parametrize("k", [1, 4, 59])
def test_nearest_up_to_all_but_the_query_itself(memory, k):
    generator = torch.Generator().manual_seed(0)
    gallery = torch.randn(60, 5, generator=generator)
    queries = torch.cat([gallery[:20], torch.randn(7, 5, generator=generator)])
    ids = torch.cat([torch.arange(20), torch.arange(100, 107)])
    found = nearest(queries, ids, gallery, torch.arange(60), k)
    assert found.tolist() == brute_force_nearest(queries, ids, gallery, torch.arange(60), k)


def test_fewer_than_k_where_the_gallery_holds_fewer():
    points = torch.tensor([[0.0], [1.0], [3.0]])
    ids = torch.arange(3)
    assert nearest(points, ids, points, ids, 10).tolist() == [[1, 2], [0, 2], [1, 0]]


def test_items_far_from_the_origin_keep_their_order():
    # By |x|² - 2xy + |y|² all of these would be at distance 0 in single precision.
    gallery = 3000 + torch.tensor([[0.0], [0.03], [0.01], [0.02]])
    found = nearest(gallery[:1], torch.tensor([0]), gallery, torch.arange(4), 3)
    assert found.tolist() == [[2, 3, 1]]


def test_ranks_of_many_relevant_items_at_random(monkeypatch):
    for seed in range(10):
        generator = torch.Generator().manual_seed(seed)
        n, k, classes = (int(torch.randint(1, high, (), generator=generator)) for high in (80, 5, 4))
        gallery = torch.randn(n, k, generator=generator)
        gallery = gallery.round() if seed % 2 else gallery
        labels, ids = (torch.randint(0, high, (n,), generator=generator) for high in (classes, n))
        case = (gallery[:9], labels[:9], ids[:9], gallery, labels, ids)  # several pictures may have one id
        expected = brute_force_ranks(*case)
        for memory in (1, 200, 2**24):
            monkeypatch.setattr(ranking, "_MEMORY", memory)
            assert [row[row > 0].tolist() for row in relevant_ranks(*case)] == expected
        monkeypatch.setattr(ranking, "_MEMORY", 60)
        found = nearest(gallery[:9], ids[:9], gallery, ids, 5).tolist()
        assert found == [row[: len(found[0])] for row in brute_force_nearest(gallery[:9], ids[:9], gallery, ids, 5)]


@pytest.mark.parametrize("kind", ["double", "ties"])
def test_accelerators_place_as_processors_do(case, monkeypatch):
    # The path in tensors, which is taken off the CPU, gives the same counts.
    expected = relevant_ranks(*case)
    queries, _, ids, gallery, _, gallery_ids = case
    asked = queries, gallery[:M], gallery, gallery_ids, torch.stack([ids, gallery_ids[:M]], dim=1)
    ahead = [items_ahead(*asked, ties=ties) for ties in (False, True)]
    monkeypatch.setattr(ranking, "_on_processor", lambda tensor: False)
    for found, ties in zip(ahead, (False, True)):
        assert all(map(torch.equal, items_ahead(*asked, ties=ties), found))
    monkeypatch.setattr(ranking, "_MEMORY", 3000)
    assert torch.equal(relevant_ranks(*case), expected)


@pytest.mark.parametrize("kind", ["double"])
def test_several_threads_place_as_one_does(case):
    expected = relevant_ranks(*case)
    torch.set_num_threads(3)
    try:
        assert torch.equal(relevant_ranks(*case), expected)
    finally:
        torch.set_num_threads(1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@every_kind
def test_ranks_on_a_gpu(case):
    on_gpu = [tensor.cuda() for tensor in case]
    assert torch.equal(relevant_ranks(*on_gpu).cpu(), relevant_ranks(*case))
    queries, _, ids, gallery, _, gallery_ids = case
    expected = nearest(queries, ids, gallery, gallery_ids, 7)
    assert torch.equal(nearest(on_gpu[0], on_gpu[2], on_gpu[3], on_gpu[5], 7).cpu(), expected)


def test_few_pairs_are_computed_as_differences(monkeypatch):
    # The bound is tight enough to be of use: of generic points none but the relevant ones, k and what they leave open.
    generator = torch.Generator().manual_seed(0)
    gallery = torch.randn(4000, 32, generator=generator) + 1e3
    labels, ids = torch.randint(0, 400, (4000,), generator=generator), torch.arange(4000)
    pairs = []
    true = ranking.by_differences
    monkeypatch.setattr(ranking, "by_differences", lambda q, g: pairs.append(true(q, g).numel()) or true(q, g))
    ranks = relevant_ranks(gallery[:50], labels[:50], ids[:50], gallery, labels, ids)
    assert sum(pairs) == 50 * int((labels[:50, None] == labels).sum(dim=1).max())
    assert (ranks > 0).sum() == ((labels[:50, None] == labels).sum(dim=1) - 1).sum()
    pairs.clear()
    monkeypatch.setattr(ranking, "_MEMORY", 2**16)
    nearest(gallery[:50], ids[:50], gallery, ids, 3)
    assert sum(pairs) < 50 * 4000 / 4


class Largest(torch.overrides.TorchFunctionMode):
    """The most numbers that any one result of torch holds."""

    numbers = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple) else (result,):
            if isinstance(tensor, torch.Tensor) and tensor._base is None:
                self.numbers = max(self.numbers, tensor.numel())
        return result


@pytest.mark.parametrize("kind", ["generic", "collapsed"])
def test_memory_is_bounded(kind, monkeypatch):
    # No tensor that is made is larger than asked for, or than one for each item of the gallery.
    generator = torch.Generator().manual_seed(0)
    gallery = torch.randn(20_000, 16, generator=generator) * (kind == "generic")
    labels, ids = torch.randint(0, 4, (20_000,), generator=generator), torch.arange(20_000)
    arguments = (gallery[:3], labels[:3], ids[:3], gallery, labels, ids)
    relevant_ranks(*arguments)  # kernels are compiled
    monkeypatch.setattr(ranking, "_MEMORY", 2**14)
    with Largest() as largest:
        relevant_ranks(*arguments)
    assert largest.numbers <= 20_000
    with Largest() as largest:
        nearest(gallery[:50], ids[:50], gallery, ids, 5)
    assert largest.numbers <= 20_000


def test_degenerate_input():
    gallery, labels, ids = torch.randn(5, 3), torch.tensor([0, 0, 1, 1, 1]), torch.arange(5)
    none = slice(0, 0)
    for queries, items in ((none, slice(None)), (slice(None), none), (none, none)):
        given = (gallery[queries], labels[queries], ids[queries], gallery[items], labels[items], ids[items])
        assert relevant_ranks(*given).shape == (len(gallery[queries]), 1)
        assert not relevant_ranks(*given).any()
        assert len(nearest(given[0], given[2], given[3], given[5], 2)) == len(gallery[queries])
    one_class = torch.zeros(5, dtype=torch.int32)
    assert relevant_ranks(gallery, labels * 0, ids, gallery, one_class, ids).tolist() == [[1, 2, 3, 4]] * 5
    assert nearest(gallery, ids, gallery, ids, 99).shape == (5, 4)
    assert nearest(gallery, ids + 9, gallery, ids, 99).shape == (5, 5)
    assert nearest(gallery[:1], ids[:1], gallery[:1], ids[:1], 1).shape == (1, 0)
    wide = torch.randn(5, 3, requires_grad=True, dtype=torch.double)
    assert not relevant_ranks(wide, labels, ids, wide, labels, ids).requires_grad
    assert torch.equal(  # strided
        nearest(gallery.T.contiguous().T, ids, gallery[:, :], ids, 2), nearest(gallery, ids, gallery, ids, 2)
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e200])
@pytest.mark.parametrize("side", [0, 3])
def test_embeddings_that_are_not_finite_are_named(value, side):
    case = [torch.zeros(4, 2).double(), torch.arange(4), torch.arange(4)] * 2
    case[side] = case[side].clone()
    case[side][3, 1] = value
    with pytest.raises(ValueError, match="must be finite"):
        relevant_ranks(*case)
    with pytest.raises(ValueError, match="must be finite"):
        nearest(case[0], case[2], case[3], case[5], 1)


@pytest.mark.parametrize("memory", [500, 2**22], indirect=True)
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("duplicates", [False, True])
def test_items_ahead_are_those_of_differences(memory, ties, duplicates):
    generator = torch.Generator().manual_seed(3)
    gallery = torch.randn(90, 5, generator=generator)
    gallery = gallery.round() if duplicates else gallery  # whole numbers: many ties
    ids, rows = torch.arange(90), torch.randint(90, (30,), generator=generator)
    points = gallery[:30] if duplicates else gallery[:30] + 0.2
    apart = torch.stack([ids[:30], rows], dim=1)
    ahead, others = items_ahead(points, gallery[rows], gallery, ids, apart, ties=ties)
    for i, point in enumerate(points):
        d = (gallery.double() - point.double()).pow(2).sum(dim=1)
        compared = (ids != i) & (ids != rows[i])
        nearer = d <= d[rows[i]] if ties else d < d[rows[i]]
        assert (ahead[i], others[i]) == ((nearer & compared).sum(), compared.sum())
