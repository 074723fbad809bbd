"""Items ahead of a few relevant ones, counted in single precision with its errors granted, and exact all the same.

Where each query has few relevant items, as with thousands of classes, comparing every item with each of their distances
is quicker than looking up its place among them: sixteen comparisons are one instruction of a processor. The products
are taken in single precision, twice as quick as double. What these cannot place is compared by differences in double
precision, and what even these cannot, ties, is left to the caller.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba as nb
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from certimetric.base.rounding import UNIT_ROUNDOFF
from certimetric.base.threads import single_threaded
from certimetric.deep.ranking.distances import slices

Runs = tuple[Tensor, Tensor, Tensor]
"""Rows of a gallery for each query: an order, and in it the first of each and how many, ascending among themselves."""
FEW = 32  # relevant items of a query up to which this is quicker
_ITEMS, _QUERIES = 512, 1024  # of a product: as many as stay in the cache of a core
_EPS, _TINY = (float(getattr(np.finfo(np.float32), each)) for each in ("eps", "tiny"))


def placed_among_few(
    queries: Tensor, gallery: Tensor, centre: Tensor, relevant: Tensor, left_out: Sequence[Runs], ahead: Tensor
) -> Iterator[tuple[slice, Tensor]]:
    """Count the irrelevant items that are no farther than each relevant one, as far as that is sure.

    Parameters
    ----------
    queries, gallery : tensors of shape (q, k) and (n, k), on the CPU
    centre : double tensor of shape (k,)
        Near which the points lie.
    relevant : double tensor of shape (q, r)
        Distances, ascending, infinite at the end where a query has fewer.
    left_out : two of Runs
        Rows of the gallery that are not irrelevant, for each query: those of its label, and of its id, say.
    ahead : int tensor of shape (q, r)
        What is sure is added.

    Yields
    ------
    rows, unsure : slice and bool tensor of shape (q, c)
        Some of the gallery, and which of its pairs with queries are not counted. Of blocks without any nothing is said.

    Notes
    -----
    With u the unit roundoff of single precision and S = ‖q‖² + ‖g‖² of points from the centre, the rounding of points
    to single precision moves −2 qᵀg by at most 2 u S, k products and ‖g‖² added in any order err by at most
    (2 k + 2) u S, and ‖g‖² itself by u S: together less than 2 (k + 4) u S. Granted is 2 (k + 8) u S, what the same in
    double precision and the limits err by included, and what underflow may take from each of 2 k + 2 operations. Points
    are multiplied by a power of two first, so that nothing overflows.
    """
    k, n_threads = queries.shape[1], torch.get_num_threads()
    parts = (queries, *(gallery[rows] for rows in slices(len(gallery), 2**22 // k)))
    largest = max(float(part.abs().max()) for part in parts)
    # Twice the root of k times that is more than any point from the centre is long.
    factor = np.ldexp(1.0, min(-int(np.frexp(4.0 * (k + 1) * largest)[1]), 1000))
    raw = _doubles(queries)
    wide = (raw - centre.numpy()) * factor
    squares = (wide**2).sum(axis=1)
    reach, counts = np.ascontiguousarray(relevant.numpy()), ahead.numpy()
    limits = (reach * factor) ** 2 - squares[:, None]
    single = (-2.0 * wide).astype(np.float32)
    orders = [np.ascontiguousarray(order.numpy()) for order, _, _ in left_out]
    # Each is walked along once: where it is, and where it ends.
    runs = np.stack([part.numpy() for _, first, count in left_out for part in (first, first + count)], axis=1)
    unsure = np.zeros((len(raw), _ITEMS), dtype=np.bool_)
    portions = slices(len(raw), min(_QUERIES, -(-len(raw) // n_threads)))
    with single_threaded(), ThreadPoolExecutor(min(n_threads, len(portions))) as pool:
        for rows in slices(len(gallery), _ITEMS):
            items = _doubles(gallery[rows])
            from_centre = (items - centre.numpy()) * factor
            of_items = (from_centre**2).sum(axis=1)
            block: tuple[Any, ...] = (
                from_centre.astype(np.float32),
                of_items.astype(np.float32),
                (k + 8) * _EPS * of_items.max() + (4 * k + 8) * _TINY,
                items,
                rows.start,
                *orders,
            )

            def place(some: slice, block: tuple[Any, ...] = block) -> int:
                products = single[some] @ block[0].T
                by_query = (squares, limits, reach, raw, runs, counts, unsure)
                return _count(products, *(array[some] for array in by_query), *block[1:])

            if sum(pool.map(place, portions)):
                yield rows, torch.from_numpy(unsure[:, : len(items)])
                unsure[:] = False


def occurrences(values: Tensor, among: Tensor) -> Runs:
    """An order in which equal numbers stand together, and for each value where its own begin and how many they are."""
    values, order = values.long().contiguous(), torch.argsort(among, stable=True)
    ordered = among[order].long()
    first = torch.searchsorted(ordered, values)
    return order, first, torch.searchsorted(ordered, values, right=True) - first


def _doubles(points: Tensor) -> NDArray[np.float64]:
    return np.ascontiguousarray(points.detach().double().numpy())


@nb.njit(cache=True, nogil=True, fastmath={"reassoc"})
def _square(one, other):
    square = 0.0
    for c in range(len(one)):
        square += (one[c] - other[c]) ** 2
    return square


@nb.njit(cache=True, nogil=True, fastmath={"reassoc", "nnan", "nsz"})
def _count(products, squares, limits, reach, raw, runs, counts, unsure, of_items, share, items, start, by_label, by_id):
    n, k = products.shape[1], raw.shape[1]
    seen = np.empty(n, dtype=np.float32)
    low, high = np.empty(limits.shape[1], dtype=np.float32), np.empty(limits.shape[1], dtype=np.float32)
    infinite, one, zero = np.float32(np.inf), np.float32(1.0), np.float32(0.0)
    slack, few = 16.0 * (k + 8) * UNIT_ROUNDOFF, k * 2.3e-308
    by_difference = np.empty((limits.shape[1] * n, 2), dtype=np.int64)
    total = 0
    for i in range(products.shape[0]):
        r = 0
        error = (k + 8) * _EPS * squares[i] + share
        while r < limits.shape[1] and reach[i, r] < np.inf:
            # Rounded to single precision, and one step further out.
            low[r] = np.nextafter(np.float32(limits[i, r] - error), -infinite)
            high[r] = np.nextafter(np.float32(limits[i, r] + error), infinite)
            r += 1
        if not r:
            continue
        for column in range(2):
            order = by_id if column else by_label
            position = runs[i, 2 * column]
            while position < runs[i, 2 * column + 1] and order[position] < start + n:
                products[i, order[position] - start] = infinite
                position += 1
            runs[i, 2 * column] = position
        for j in range(n):
            seen[j] = products[i, j] + of_items[j]
        left, n_counted = 0, 0
        for p in range(r - 1, -1, -1):
            surely, maybe = zero, zero
            for j in range(n):
                surely += one if seen[j] < low[p] else zero
                maybe += one if seen[j] <= high[p] else zero
            if maybe == zero:  # nor is any nearer than a smaller limit
                break
            counts[i, p] += np.int64(surely)
            if maybe == surely:
                continue
            reached = reach[i, p] ** 2
            for j in range(n):
                if (seen[j] >= low[p]) & (seen[j] <= high[p]):
                    square = _square(raw[i], items[j])
                    if square + few < reached * (1.0 - slack):
                        counts[i, p] += 1
                        by_difference[n_counted, 0], by_difference[n_counted, 1] = p, j
                        n_counted += 1
                    elif not (square * (1.0 - slack) > reached + few) and not unsure[i, j]:
                        unsure[i, j] = True
                        left += 1
        if left:  # those the caller counts for every limit: what was counted here is taken back
            for j in range(n):
                for p in range(r if unsure[i, j] else 0):
                    counts[i, p] -= seen[j] < low[p]
            for place in range(n_counted):
                p, j = by_difference[place]
                counts[i, p] -= unsure[i, j]
        total += left
    return total
