"""Where the relevant items of a gallery stand in the ranking of each query: exact, fast, and in bounded memory.

A distance is ``‖g − q‖``, computed in double precision from the difference. The products ``‖g‖² − 2 qᵀg``, of points
moved to the middle of the gallery, place nearly every item among the relevant ones for certain, *with the rounding
errors of both forms counted*; the few that they cannot place, ties among them, are computed as differences. The answer
is that of differences throughout.

No index such as faiss has a part in this. It gives the first k results, whereas mAP needs the rank of every relevant
item, which may be the last; and its exact search takes the same products in single precision, without a bound on their
error. On one core (``benchmarks/ranking.py``) it finds the first 10 of 50,000 items in 0.9 of the time of
:func:`nearest`, and those of a million in 1.7 of it: there is nothing to be gained by a second, inexact way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numba as nb
import numpy as np
import torch
from torch import Tensor, nn

from certimetric.deep.ranking.distances import by_differences, expanded, expansions, slices
from certimetric.deep.ranking.few import FEW, Runs, Unsure, occurrences, placed_among_few

_Placed = Iterator[Unsure]
_Place = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], _Placed]
_MEMORY = 2**22  # numbers that are held together, beyond the gallery and what is given back
_BLOCK = 512  # items whose places are searched for side by side
_QUERIES = 1024  # that are ranked together: enough for a product of matrices to be fast


@torch.no_grad()
def relevant_ranks(
    queries: Tensor, labels: Tensor, ids: Tensor, gallery: Tensor, gallery_labels: Tensor, gallery_ids: Tensor
) -> Tensor:
    """Ranks of the relevant gallery items of each query, nearest first.

    Relevant are items of the query's label other than the query itself, which is known by its id and is not ranked at
    all. Items at equal distance are ranked against the query: irrelevant ones first.

    Parameters
    ----------
    queries, gallery : tensors of shape (m, k) and (n, k)
    labels, ids, gallery_labels, gallery_ids : int tensors of shapes (m,) and (n,)

    Returns
    -------
    ranks : int tensor of shape (m, r)
        From 1 on; r is the largest number of relevant items, and 0 fills the rows of queries that have fewer.

    Raises
    ------
    ValueError
        If an embedding, or its square, is not finite.

    Examples
    --------
    >>> gallery = torch.tensor([[0.0], [1.0], [2.0], [4.0]])
    >>> labels, ids = torch.tensor([0, 1, 0, 0]), torch.arange(4)
    >>> relevant_ranks(gallery[:1], labels[:1], ids[:1], gallery, labels, ids)
    tensor([[2, 3]])
    """
    if not len(queries) or not len(gallery):
        return torch.zeros((len(queries), 1), dtype=torch.long, device=queries.device)
    centre = _centre(gallery, queries)
    order, first, count = occurrences(labels, gallery_labels)
    width, k = max(int(count.max()), 1), max(queries.shape[1], 1)
    out = torch.zeros((len(queries), width), dtype=torch.long, device=queries.device)
    place = torch.arange(width, device=queries.device)
    few = _are_few(width, queries)
    # Where every item asks, all are ranked together: each product serves two of them.
    mutual = few and queries.dtype == gallery.dtype and torch.equal(queries, gallery)
    step = len(gallery) if mutual else min(16 * _QUERIES if few else _QUERIES, _MEMORY // max(4 * width, k))
    for rows in slices(len(queries), step):
        points = gallery if mutual else queries[rows]
        some = len(points)
        relevant = torch.full((some, width), torch.inf, dtype=torch.double, device=queries.device)
        for columns in slices(width, _MEMORY // k):
            for part in slices(some, _MEMORY // (k * len(place[columns]))):
                items = order[(first[rows][part, None] + place[columns]).clamp_max(len(order) - 1)]
                found = by_differences(points[part, None], gallery[items])[:, 0]
                wanted = (place[columns] < count[rows][part, None]) & (gallery_ids[items] != ids[rows][part, None])
                relevant[part, columns] = found.masked_fill(~wanted, torch.inf)
        relevant = relevant.sort(dim=1).values
        surely = _placing(labels[rows], ids[rows], gallery_labels, gallery_ids)
        ahead = _irrelevant_ahead(points, gallery, centre, relevant, surely)
        out[rows] = torch.where(relevant.isfinite(), place + 1 + ahead, 0)
    widest = int((out > 0).sum(dim=1).max())
    return out[:, : max(widest, 1)]


@torch.no_grad()
def ranks_of(queries: Tensor, ids: Tensor, gallery: Tensor, gallery_ids: Tensor, relevant: Runs) -> Tensor:
    """Ranks of gallery items that are told for each query, other than the query itself: int (m, r), on the CPU.

    Irrelevant are all others. Of items at equal distance irrelevant ones come first, then those that are told first.

    Parameters
    ----------
    queries, gallery : tensors of shape (m, k) and (n, k)
    ids, gallery_ids : int tensors of shape (m,) and (n,)
    relevant : Runs
        Rows of the gallery for each query: an order, and in it the first of each query and how many.

    Returns
    -------
    ranks : int tensor of shape (m, r)
        From 1 on, in the order in which items are told; 0 for those of the query's id, and beyond the last.
    """
    order, first, count = relevant
    centre, width = _centre(gallery, queries), max(int(count.max()) if len(count) else 0, 1)
    out = torch.zeros((len(queries), width), dtype=torch.long)
    own = occurrences(ids, gallery_ids)
    for rows in slices(len(queries), min(16 * _QUERIES, _MEMORY // max(4 * width, queries.shape[1]))):
        place = torch.arange(width)
        items = order[(first[rows, None] + place).clamp_max(max(len(order) - 1, 0))]
        known = (place < count[rows, None]) & (gallery_ids[items] != ids[rows, None])
        distances = torch.full(items.shape, torch.inf, dtype=torch.double)
        for row, column in (known.nonzero()[part].T for part in slices(int(known.sum()), _MEMORY // queries.shape[1])):
            found = by_differences(queries[rows][row, None], gallery[items[row, column], None])
            distances[row, column] = found[:, 0, 0]
        distances, sorting = distances.sort(dim=1, stable=True)
        # Runs that ascend, as they are walked along.
        ascending = items.masked_fill(place >= count[rows, None], len(gallery)).sort(dim=1).values
        flat = ascending.flatten(), torch.arange(len(items)) * width, count[rows]
        left_out = flat, (own[0], own[1][rows], own[2][rows])
        for columns in slices(width, FEW):
            part = distances[:, columns].contiguous()

            def surely(queries: Tensor, gallery: Tensor, centre: Tensor, reach: Tensor, ahead: Tensor) -> _Placed:
                return placed_among_few(queries, gallery, centre, reach, left_out, ahead)  # noqa: B023

            ahead = _irrelevant_ahead(queries[rows], gallery, centre, part, surely)
            ranks = torch.where(part.isfinite(), place[columns] + 1 + ahead, 0)
            out[rows].scatter_(1, sorting[:, columns], ranks)
    return out


@torch.no_grad()
def nearest(queries: Tensor, ids: Tensor, gallery: Tensor, gallery_ids: Tensor, k: int) -> Tensor:
    """Rows of the k nearest gallery items of each query, nearest first, other than the query itself: int (m, k).

    Of items at equal distance the first comes first. Errors are those of :func:`relevant_ranks`.

    Parameters
    ----------
    queries, gallery : tensors of shape (m, d) and (n, d)
    ids, gallery_ids : int tensors of shape (m,) and (n,)
    k : int
        Fewer where the gallery holds fewer others.
    """
    own = occurrences(ids, gallery_ids)[2]
    k = max(0, min(k, len(gallery) - (int(own.max()) if len(own) else 0)))
    out = torch.zeros((len(queries), k), dtype=torch.long, device=queries.device)
    if not out.numel():
        return out
    centre = _centre(gallery, queries)
    for part in slices(len(queries), min(_QUERIES, _MEMORY // max(4 * k, queries.shape[1]))):
        points, (wide, squares, share) = queries[part], expanded(queries[part], centre)
        best = torch.full((len(points), k), torch.inf, dtype=torch.double, device=queries.device)
        for rows, products, item_share in expansions(wide, gallery, centre, _MEMORY):
            self_match = ids[part, None] == gallery_ids[rows]
            products.masked_fill_(self_match, torch.inf)
            limit = best[:, -1] ** 2 - squares + share + item_share.max()
            n_near = int((products <= limit[:, None]).sum(dim=1).max())  # all of the first, then fewer and fewer
            if 8 * n_near > products.shape[1]:
                columns = torch.arange(products.shape[1], device=queries.device).expand(products.shape)
                found = by_differences(points, gallery[rows])
            else:
                columns = products.topk(n_near, dim=1, largest=False).indices.sort(dim=1).values
                found = torch.empty(columns.shape, dtype=torch.double, device=queries.device)
                for some in slices(len(points), _MEMORY // max(1, n_near * queries.shape[1])):
                    found[some] = by_differences(points[some, None], gallery[rows][columns[some]])[:, 0]
            found = found.masked_fill(self_match.gather(1, columns), torch.inf)
            best, chosen = torch.cat([best, found], dim=1).sort(dim=1, stable=True)
            best = best[:, :k].contiguous()
            out[part] = torch.cat([out[part], columns + rows.start], dim=1).gather(1, chosen[:, :k])
    return out


@torch.no_grad()
def items_ahead(
    points: Tensor, items: Tensor, gallery: Tensor, gallery_ids: Tensor, apart: Tensor, *, ties: bool
) -> tuple[Tensor, Tensor]:
    """How many gallery items are nearer to each point than an item of its own is.

    Parameters
    ----------
    points, items : tensors of shape (m, k)
        Each point has one item, in the gallery or not.
    gallery : tensor of shape (n, k)
    gallery_ids : int tensor of shape (n,)
    apart : int tensor of shape (m, 2)
        Ids that are not counted, such as those of point and item themselves.
    ties : bool
        Count items at equal distance too.

    Returns
    -------
    ahead, others : int tensors of shape (m,)
        Items ahead, and items that were compared.

    Examples
    --------
    >>> gallery, ids = torch.tensor([[0.0], [1.0], [2.0], [4.0]]), torch.arange(4)
    >>> items_ahead(gallery[:1], gallery[2:3], gallery, ids, torch.tensor([[0, 2]]), ties=True)
    (tensor([1]), tensor([2]))
    """
    ahead = torch.zeros(len(points), dtype=torch.long, device=points.device)
    centre = _centre(gallery, points)
    for part in slices(len(points), min(_QUERIES, _MEMORY // max(1, 4 * points.shape[1]))):
        reach = by_differences(points[part, None], items[part, None])[:, 0]
        if not ties:  # below a number are those not above the one before it
            reach = torch.nextafter(reach, torch.full_like(reach, -torch.inf))
        one, other = apart[part].T
        surely = _placing(one, other, gallery_ids, gallery_ids)
        ahead[part] = _irrelevant_ahead(points[part], gallery, centre, reach, surely)[:, 0]
    one, other = (occurrences(ids, gallery_ids)[2] for ids in apart.T)
    return ahead, len(gallery) - one - torch.where(apart[:, 0] == apart[:, 1], 0, other)


def _irrelevant_ahead(queries: Tensor, gallery: Tensor, centre: Tensor, relevant: Tensor, place: _Place) -> Tensor:
    """For each distance of a relevant item (sorted, (q, r)), the number of irrelevant items that are no farther.

    ``place`` counts those that are surely so, and gives the pairs that have to be compared by differences.
    """
    r = relevant.shape[1]
    ahead = torch.zeros(relevant.shape, dtype=torch.long, device=queries.device)
    passed = torch.zeros((len(queries), r + 1), dtype=torch.long, device=queries.device)
    for some, rows, unsure in place(queries, gallery, centre, relevant, ahead):
        points, limits, items, n_unsure = queries[some], relevant[some], gallery[rows], int(unsure.sum())
        if 8 * n_unsure > unsure.numel():  # as of codes of whole numbers, or of a collapsed model
            for part in slices(len(points), _MEMORY // len(items)):
                places = torch.searchsorted(limits[part], by_differences(points[part], items))
                passed[some][part].scatter_add_(1, places, unsure[part].long())
        else:
            for row, found in _unsure_pairs(unsure, points, items, r):
                places = torch.searchsorted(limits[row], found)[:, 0]
                passed[some].index_put_((row, places), torch.ones_like(places), accumulate=True)
    return ahead + passed[:, :r].cumsum(dim=1)


def _placing(labels: Tensor, ids: Tensor, gallery_labels: Tensor, gallery_ids: Tensor) -> _Place:
    """Irrelevant is an item that has neither label nor id of the query."""
    known = (labels, ids, gallery_labels, gallery_ids)

    def place(queries: Tensor, gallery: Tensor, centre: Tensor, relevant: Tensor, ahead: Tensor) -> _Placed:
        if not _are_few(relevant.shape[1], queries):
            return _placed(queries, gallery, centre, relevant, known, ahead)
        left_out = occurrences(labels, gallery_labels), occurrences(ids, gallery_ids)
        return placed_among_few(queries, gallery, centre, relevant, left_out, ahead)

    return place


def _are_few(r: int, queries: Tensor) -> bool:
    return r <= FEW and _on_processor(queries)


def _placed(
    queries: Tensor, gallery: Tensor, centre: Tensor, relevant: Tensor, of_all: tuple[Tensor, ...], ahead: Tensor
) -> _Placed:
    """What :func:`placed_among_few` does, for any number of relevant items and on any device."""
    r = relevant.shape[1]
    labels, ids, gallery_labels, gallery_ids = of_all
    wide, squares, share = expanded(queries, centre)
    # As the products are: less ‖q‖². Filled up to a power of two, and by at least one, with what nothing passes.
    limits = nn.functional.pad(relevant**2 - squares[:, None], (0, (1 << r.bit_length()) - r), value=torch.inf)
    passed = torch.zeros(limits.shape, dtype=torch.long, device=queries.device)
    for rows, products, item_share in expansions(wide, gallery, centre, _MEMORY):
        known = limits, labels, ids, gallery_labels[rows], gallery_ids[rows]
        yield slice(0, len(queries)), rows, place_surely(products, share, item_share, *known, passed)
    ahead += passed[:, :r].cumsum(dim=1)


def _unsure_pairs(unsure: Tensor, points: Tensor, items: Tensor, width: int = 1) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows (p,) and distances (p, 1) by differences of the pairs that are marked (q, c), some at a time: so many that
    each may be compared with ``width`` others."""
    pairs = unsure.nonzero()
    for part in slices(len(pairs), _MEMORY // max(4 * points.shape[1], width)):
        row, column = pairs[part].T
        yield row, by_differences(points[row, None], items[column, None])[:, 0]


def _centre(gallery: Tensor, queries: Tensor) -> Tensor:
    """Mean of the gallery; an error unless all embeddings have finite squares."""
    total = torch.zeros(gallery.shape[1], dtype=torch.double, device=gallery.device)
    for points in (queries, gallery):
        total.zero_()
        for rows in slices(len(points), _MEMORY // max(1, 2 * points.shape[1])):
            wide = points[rows].double()
            if not bool(wide.pow(2).sum().isfinite()):
                raise ValueError("embeddings must be finite, and their squares too")
            total += wide.sum(dim=0)
    return total / len(gallery)


def place_surely(
    products: Tensor,
    share: Tensor,
    item_share: Tensor,
    limits: Tensor,
    labels: Tensor,
    ids: Tensor,
    item_labels: Tensor,
    item_ids: Tensor,
    passed: Tensor,
) -> Tensor:
    """Count the irrelevant items by how many relevant ones are nearer, as far as that is sure.

    An item is surely farther than those relevant ones whose limit its product passes by more than the shares of both
    points in the error, and surely nearer than those whose limit it misses by more. Irrelevant
    is an item of another label and another id.

    Products are (q, c), and so is what comes back: which irrelevant items are not counted. Limits (q, p) ascend, p is a
    power of two, and the last of each row infinite; to ``passed`` (q, p) the counts are added.
    """
    if _on_processor(products):
        unsure = torch.empty(products.shape, dtype=torch.bool)
        by_query = [t.contiguous().numpy() for t in (products, share, limits, labels, ids, passed, unsure)]
        by_item = [t.contiguous().numpy() for t in (item_share, item_labels, item_ids)]
        parts = slices(len(products), -(-len(products) // torch.get_num_threads()))
        with ThreadPoolExecutor(len(parts)) as pool:
            list(pool.map(lambda rows: _place_rows(*(array[rows] for array in by_query), *by_item), parts))
        return unsure
    irrelevant = (labels[:, None] != item_labels) & (ids[:, None] != item_ids)
    error = share[:, None] + item_share
    places = torch.searchsorted(limits, products - error)
    sure = (products + error < limits.gather(1, places)) & irrelevant
    passed.scatter_add_(1, places, sure.long())
    return irrelevant & ~sure


def _on_processor(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu"


@nb.njit(cache=True, nogil=True)
def _place_rows(products, share, limits, labels, ids, passed, unsure, item_share, item_labels, item_ids):
    n = products.shape[1]
    places, low = np.empty(_BLOCK, dtype=np.uint64), np.empty(_BLOCK)
    zero, one = np.uint64(0), np.uint64(1)
    for i in range(products.shape[0]):
        for start in range(0, n, _BLOCK):
            m = min(_BLOCK, n - start)
            for j in range(m):
                low[j] = products[i, start + j] - (share[i] + item_share[start + j])
                places[j] = zero
            # Binary searches side by side, which a processor does in vectors.
            half = np.uint64(limits.shape[1] // 2)
            while half > zero:
                for j in range(m):
                    place = places[j]
                    places[j] = place + half if limits[i, place + half - one] < low[j] else place
                half >>= one
            for j in range(m):
                irrelevant = (item_labels[start + j] != labels[i]) & (item_ids[start + j] != ids[i])
                sure = products[i, start + j] + (share[i] + item_share[start + j]) < limits[i, places[j]]
                passed[i, places[j]] += irrelevant & sure
                unsure[i, start + j] = irrelevant & (not sure)
