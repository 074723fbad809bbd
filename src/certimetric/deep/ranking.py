"""Where the relevant items of a gallery stand in the ranking of each query: exact, fast, and in bounded memory.

A distance is ``‖g − q‖``, computed from the difference. Products in double precision, ``‖q‖² + ‖g‖² − 2 qᵀg``, place
nearly every item between two relevant ones for certain, *with the rounding errors of both forms counted*; only the few
that they cannot place, ties among them, are computed as differences. The answer is that of differences throughout.

An index such as faiss is no help here: it gives the first k results, whereas mAP needs the rank of every relevant item,
which may be the last; and its exact search evaluates the same products in single precision without the bound.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numba as nb
import numpy as np
import torch
from torch import Tensor, nn

_MEMORY = 2**24  # numbers that are held together
_QUERIES = 1024  # that are ranked together: enough for a product of matrices to be fast
_BLOCK = 512  # items whose places are searched for side by side


@torch.no_grad()
def relevant_ranks(
    queries: Tensor,
    labels: Tensor,
    ids: Tensor,
    gallery: Tensor,
    gallery_labels: Tensor,
    gallery_ids: Tensor,
    *,
    memory: int = _MEMORY,
) -> Tensor:
    """Ranks of the relevant gallery items of each query, nearest first.

    Relevant are items of the query's label other than the query itself, which is known by its id and is not ranked at
    all. Items at equal distance are ranked against the query: irrelevant ones first.

    Parameters
    ----------
    queries, gallery : tensors of shape (m, k) and (n, k)
    labels, ids, gallery_labels, gallery_ids : int tensors of shapes (m,) and (n,)
    memory : int
        Bound on the numbers held together, beyond the ranks of ``_QUERIES`` queries.

    Returns
    -------
    ranks : int tensor of shape (m, r)
        From 1 on; r is the largest number of relevant items, and 0 fills the rows of queries that have fewer.

    Examples
    --------
    >>> gallery = torch.tensor([[0.0], [1.0], [2.0], [4.0]])
    >>> labels, ids = torch.tensor([0, 1, 0, 0]), torch.arange(4)
    >>> relevant_ranks(gallery[:1], labels[:1], ids[:1], gallery, labels, ids)
    tensor([[2, 3]])
    """
    order = torch.argsort(gallery_labels, stable=True)
    sorted_labels = gallery_labels[order]
    first = torch.searchsorted(sorted_labels, labels)
    count = torch.searchsorted(sorted_labels, labels, right=True) - first
    width = max(int(count.max()), 1) if len(count) else 1
    out = torch.zeros((len(queries), width), dtype=torch.long, device=queries.device)
    place = torch.arange(width, device=queries.device)
    k = queries.shape[1]
    for rows in _slices(len(queries), min(_QUERIES, memory // max(width, k, 1))):
        distances = torch.full((len(queries[rows]), width), torch.inf, dtype=queries.dtype, device=queries.device)
        for part in _slices(len(distances), memory // max(width * k, 1)):
            within = place < count[rows][part, None]
            items = order[(first[rows][part, None] + place).clamp_max(len(order) - 1)]
            relevant = within & (gallery_ids[items] != ids[rows][part, None])
            found = (gallery[items] - queries[rows][part, None]).norm(dim=2)
            distances[part] = found.masked_fill(~relevant, torch.inf)
        distances, _ = distances.sort(dim=1)
        ahead = _irrelevant_ahead(queries[rows], labels[rows], gallery, gallery_labels, distances, memory)
        ranks = place + 1 + ahead
        out[rows] = torch.where(torch.isfinite(distances), ranks, torch.zeros_like(ranks))
    widest = int((out > 0).sum(dim=1).max()) if len(out) else 0
    return out[:, : max(widest, 1)]


def _irrelevant_ahead(
    queries: Tensor, labels: Tensor, gallery: Tensor, gallery_labels: Tensor, distances: Tensor, memory: int
) -> Tensor:
    """For each relevant distance (sorted, (q, r)) the number of items of other labels that are no farther."""
    q, r = distances.shape
    k = queries.shape[1]
    passed = torch.zeros((q, r + 1), dtype=torch.long, device=queries.device)
    wide, squares, share = _squares(queries)
    # Squared distances that are certainly above, and certainly below, each relevant one, less ‖q‖².
    unit, tiny = k * torch.finfo(queries.dtype).eps / 2, 4 * k * torch.finfo(queries.dtype).tiny
    gamma = (unit + 8 * torch.finfo(queries.dtype).eps) / (1 - unit)
    squared = distances.to(wide.dtype) ** 2
    above = (squared + tiny) / (1 - gamma) - squares[:, None] + share[:, None]
    below = (squared - tiny) / (1 + gamma) - squares[:, None] - share[:, None]
    # Filled up to a power of two, and by at least one, with limits that nothing passes.
    above, below = (
        nn.functional.pad(limits, (0, (1 << r.bit_length()) - r), value=torch.inf) for limits in (above, below)
    )
    for rows in _slices(len(gallery), memory // max(q, k)):
        items, item_labels = gallery[rows], gallery_labels[rows]
        item_wide, item_squares, item_share = _squares(items)
        products = torch.addmm(item_squares, wide, item_wide.T, alpha=-2)
        unsure = _place(products, item_share, above, below, labels, item_labels, passed)
        pairs = unsure.nonzero()
        crowded = torch.bincount(pairs[:, 0], minlength=q) > len(items) // 2
        for i in crowded.nonzero()[:, 0].tolist():
            # Nearly all items are as far as a relevant one, as of a collapsed model.
            other = (items - queries[i]).norm(dim=1).masked_fill(~unsure[i], torch.inf)
            places = torch.searchsorted(distances[i], other)
            passed[i].scatter_add_(0, places, torch.ones_like(places))
        pairs = pairs[~crowded[pairs[:, 0]]]
        for part in _slices(len(pairs), memory // max(k, r)):
            row, column = pairs[part].T
            # The same differences as for relevant items, so that equal embeddings are at exactly equal distances.
            other = (items[column] - queries[row]).norm(dim=1)
            places = torch.searchsorted(distances[row], other[:, None])[:, 0]
            passed.index_put_((row, places), torch.ones_like(places), accumulate=True)
    return passed[:, :r].cumsum(dim=1)


@torch.no_grad()
def nearest(
    queries: Tensor, ids: Tensor, gallery: Tensor, gallery_ids: Tensor, k: int, *, memory: int = _MEMORY
) -> Tensor:
    """Rows of the k nearest gallery items of each query, nearest first, other than the query itself: int (m, k).

    Parameters
    ----------
    queries, gallery : tensors of shape (m, d) and (n, d)
    ids, gallery_ids : int tensors of shape (m,) and (n,)
    k : int
        Fewer where the gallery holds fewer.
    memory : int
        Bound on the floats held together.
    """
    k = min(k, len(gallery) - 1)
    out = []
    for part, own in zip(*(t.split(max(1, memory // max(len(gallery), 1))) for t in (queries, ids))):
        distances = torch.cdist(part, gallery, compute_mode="donot_use_mm_for_euclid_dist")
        distances = distances.masked_fill(own[:, None] == gallery_ids, torch.inf)
        out.append(distances.topk(k, dim=1, largest=False).indices)
    return torch.cat(out)


def _squares(points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Points in double precision, their squared norms, and their share in the error of an expanded square.

    Any order of summation errs by less than ``(k + 2) u (‖q‖ + ‖g‖)² ≤ 2 (k + 2) u (‖q‖² + ‖g‖²)``.
    """
    points = points.double()
    squares = points.pow(2).sum(dim=1)
    return points, squares, (points.shape[1] + 16) * torch.finfo(points.dtype).eps * squares


def _place(
    products: Tensor,
    share: Tensor,
    above: Tensor,
    below: Tensor,
    labels: Tensor,
    item_labels: Tensor,
    passed: Tensor,
) -> Tensor:
    """Count in ``passed`` the items of other labels by how many relevant ones are nearer; gives who is unsure, (q, c).

    An item is surely farther than those relevant ones with ``above`` less than its product less its share; it is placed
    if its product plus its share is less than ``below`` of the next.
    """
    if products.device.type == "cpu":
        unsure = torch.empty(products.shape, dtype=torch.bool)
        tensors = (products, share, above, below, labels, item_labels, passed, unsure)
        s, e, a, b, y, z, p, u = (tensor.contiguous().numpy() for tensor in tensors)
        parts = list(_slices(len(s), -(-len(s) // torch.get_num_threads())))
        with ThreadPoolExecutor(len(parts)) as pool:
            list(pool.map(lambda i: _place_rows(s[i], e, a[i], b[i], y[i], z, p[i], u[i]), parts))
        return unsure
    other = labels[:, None] != item_labels
    places = torch.searchsorted(above, products - share)
    sure = (products + share < below.gather(1, places.clamp_max(below.shape[1] - 1))) & other
    passed.scatter_add_(1, places.clamp_max(passed.shape[1] - 1), sure.long())
    return other & ~sure


@nb.njit(cache=True, nogil=True)
def _place_rows(products, share, above, below, labels, item_labels, passed, unsure):
    n = products.shape[1]
    places, low = np.empty(_BLOCK, dtype=np.uint64), np.empty(_BLOCK)
    zero, one = np.uint64(0), np.uint64(1)
    for i in range(products.shape[0]):
        limits = above[i]
        for start in range(0, n, _BLOCK):
            m = min(_BLOCK, n - start)
            for j in range(m):
                low[j] = products[i, start + j] - share[start + j]
                places[j] = zero
            # Binary searches side by side, which a processor does in vectors.
            half = np.uint64(len(limits) // 2)
            while half > zero:
                for j in range(m):
                    place = places[j]
                    places[j] = place + half if limits[place + half - one] < low[j] else place
                half >>= one
            for j in range(m):
                other = item_labels[start + j] != labels[i]
                sure = products[i, start + j] + share[start + j] < below[i, places[j]]  # never so for nan
                passed[i, places[j]] += other & sure
                unsure[i, start + j] = other & (not sure)


def _slices(n: int, step: int) -> list[slice]:
    step = max(1, step)
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]
