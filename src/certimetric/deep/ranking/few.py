"""Items ahead of a few relevant ones, counted in single precision with its errors granted, and exact all the same.

Where each query has few relevant items, as with thousands of classes, comparing every item with each of their distances
is quicker than looking up its place among them: sixteen comparisons are one instruction of a processor. The products
are taken in single precision, twice as quick as double. What these cannot place is compared by differences in double
precision, and what even these cannot, ties, is left to the caller. Where the queries are the gallery itself, every
product is taken once and serves both of its points.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue

import numba as nb
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from certimetric.base.arrays import Array
from certimetric.base.rounding import UNIT_ROUNDOFF
from certimetric.base.threads import single_threaded
from certimetric.deep.ranking.distances import slices

Runs = tuple[Tensor, Tensor, Tensor]
"""Rows of a gallery for each query: an order, and in it the first of each and how many, ascending among themselves."""
Unsure = tuple[slice, slice, Tensor]
"""Some of the queries, some of the gallery, and which of their pairs, bool (q, c), are to be compared otherwise."""
FEW = 32  # relevant items of a query up to which this is quicker
_BLOCK = 512  # points on each side of a product: as many as stay in the cache of a core
_TILE = 16  # numbers that a processor moves at once
_PORTION = 4  # products that a thread is given at once
_WAITING = 4  # portions of each thread before what they leave open is given to the caller
_EPS, _TINY = (float(getattr(np.finfo(np.float32), each)) for each in ("eps", "tiny"))


def placed_among_few(
    queries: Tensor, gallery: Tensor, centre: Tensor, relevant: Tensor, left_out: Sequence[Runs], ahead: Tensor
) -> Iterator[Unsure]:
    """Count the irrelevant items that are no farther than each relevant one, as far as that is sure.

    Parameters
    ----------
    queries, gallery : tensors of shape (q, k) and (n, k), on the CPU
        The same tensor where the queries are the gallery.
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
    pairs : Unsure
        Pairs that are not counted. Of blocks without any nothing is said.

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
    in_single = queries.dtype == gallery.dtype == torch.float32
    asked = _Side.of(queries, centre, factor, in_single)
    reach, counts = np.ascontiguousarray(relevant.numpy()), ahead.numpy()
    limits = (reach * factor) ** 2 - asked.squares[:, None]
    orders = [np.ascontiguousarray(order.numpy()) for order, _, _ in left_out]
    runs = np.stack([part.numpy() for _, first, count in left_out for part in (first, first + count)], axis=1)
    blocks = slices(len(queries), _BLOCK)
    buffers: SimpleQueue[_Buffers] = SimpleQueue()
    for _ in range(n_threads):
        buffers.put(_Buffers.empty())

    def count(products: NDArray[np.float32], buffer: _Buffers, one: slice, items: _Side, other: slice) -> list[Unsure]:
        by_query = [array[one] for array in (asked.squares, limits, reach, asked.raw, runs, counts)]
        squares, start = items.squares[other], items.start + other.start
        share = (k + 8) * _EPS * squares.max() + (4 * k + 9) * _TINY
        of_items = [buffer.unsure, squares.astype(np.float32), share, items.raw[other], start, *orders]
        if not _count(products, *by_query, *of_items):
            return []
        q, c = one.stop - one.start, other.stop - other.start
        left = torch.from_numpy(buffer.unsure[:q, :c].copy())
        buffer.unsure[:] = False
        return [(one, slice(start, start + c), left)]

    def place(products: list[_Product]) -> list[Unsure]:
        left, buffer = [], buffers.get()
        try:
            for one, items, other in products:
                by_row = buffer.products[: one.stop - one.start, : other.stop - other.start]
                np.matmul(asked.single[one], items.single[other].T, out=by_row)
                left += count(buffer.products, buffer, one, items, other)
                if items is asked and one != other:
                    _transpose(buffer.products, buffer.transposed)
                    left += count(buffer.transposed, buffer, other, items, one)
        finally:
            buffers.put(buffer)
        return left

    def turns() -> Iterator[list[_Product]]:
        """Products that may be taken side by side, for no query is in two of them."""
        if queries is gallery:
            for pairs in _rounds(len(blocks)):
                yield [(blocks[one], asked, blocks[other]) for one, other in pairs]
            return
        for rows in slices(len(gallery), _BLOCK):
            items = _Side.of(gallery[rows], centre, factor, in_single, rows.start)
            yield [(block, items, slice(0, len(items.raw))) for block in blocks]

    with single_threaded(), ThreadPoolExecutor(n_threads) as pool:
        for turn in turns():
            portions = [turn[some] for some in slices(len(turn), _PORTION)]
            for some in slices(len(portions), _WAITING * n_threads):
                for left in pool.map(place, portions[some]):
                    yield from left


@dataclass(frozen=True, eq=False)
class _Side:
    """Points as they came, in single precision from the centre, scaled, and their squared norms."""

    raw: NDArray[np.floating]
    single: NDArray[np.float32]
    squares: Array
    start: int  # row of the first

    @classmethod
    def of(cls, points: Tensor, centre: Tensor, factor: float, in_single: bool, start: int = 0) -> _Side:
        raw = np.ascontiguousarray((points if in_single else points.double()).detach().numpy())
        single, squares = np.empty(raw.shape, dtype=np.float32), np.empty(len(raw))
        for rows in slices(len(raw), 2**20 // raw.shape[1]):
            wide = (raw[rows].astype(np.float64) - centre.numpy()) * factor
            single[rows], squares[rows] = wide, (wide**2).sum(axis=1)
        return cls(raw, single, squares, start)


@dataclass(frozen=True, eq=False)
class _Buffers:
    """What a thread works in: new memory for every product would cost as much as the product."""

    products: NDArray[np.float32]
    transposed: NDArray[np.float32]
    unsure: NDArray[np.bool_]

    @classmethod
    def empty(cls) -> _Buffers:
        side = -(-_BLOCK // _TILE) * _TILE
        products, transposed = np.zeros((2, side, side), dtype=np.float32)
        return cls(products, transposed, np.zeros((side, side), dtype=np.bool_))


_Product = tuple[slice, _Side, slice]
"""Some of the queries, and some of a block of items."""


def _rounds(n: int) -> Iterator[list[tuple[int, int]]]:
    """All pairs of n players, themselves included, in rounds in which nobody plays twice (the circle method).

    Examples
    --------
    >>> list(_rounds(3))
    [[(0, 0), (1, 1), (2, 2)], [(1, 2)], [(0, 2)], [(0, 1)]]
    """
    yield [(player, player) for player in range(n)]
    circle = list(range(n + n % 2))
    for _ in circle[1:]:
        pairs = zip(circle[: len(circle) // 2], reversed(circle))
        yield [pair for pair in pairs if max(pair) < n]  # of an odd number one has a rest
        circle.insert(1, circle.pop())


def occurrences(values: Tensor, among: Tensor) -> Runs:
    """An order in which equal numbers stand together, and for each value where its own begin and how many they are."""
    values, order = values.long().contiguous(), torch.argsort(among, stable=True)
    ordered = among[order].long()
    first = torch.searchsorted(ordered, values)
    return order, first, torch.searchsorted(ordered, values, right=True) - first


@nb.njit(cache=True, nogil=True)
def _transpose(numbers, transposed):
    for row in range(0, numbers.shape[0], _TILE):
        for column in range(0, numbers.shape[1], _TILE):
            for j in range(column, column + _TILE):
                for i in range(_TILE):
                    transposed[j, row + i] = numbers[row + i, j]


@nb.njit(cache=True, nogil=True, fastmath={"reassoc"})
def _square(one, other):
    square = 0.0
    for c in range(len(one)):
        square += (np.float64(one[c]) - np.float64(other[c])) ** 2
    return square


@nb.njit(cache=True, nogil=True, fastmath={"reassoc", "nnan", "nsz"})
def _count(products, squares, limits, reach, raw, runs, counts, unsure, of_items, share, items, start, by_label, by_id):
    n, k = len(items), raw.shape[1]
    seen = np.empty(n, dtype=np.float32)
    low, high = np.empty(limits.shape[1], dtype=np.float32), np.empty(limits.shape[1], dtype=np.float32)
    infinite, one, zero, two = np.float32(np.inf), np.float32(1.0), np.float32(0.0), np.float32(2.0)
    slack, few = 16.0 * (k + 8) * UNIT_ROUNDOFF, k * 2.3e-308
    by_difference = np.empty((limits.shape[1] * n, 2), dtype=np.int64)
    total = 0
    for i in range(len(raw)):
        r = 0
        error = (k + 8) * _EPS * squares[i] + share
        while r < limits.shape[1] and reach[i, r] < np.inf:
            # Further out by more than rounding to single precision takes back.
            least, most = limits[i, r] - error, limits[i, r] + error
            low[r], high[r] = np.float32(least - _EPS * abs(least)), np.float32(most + _EPS * abs(most))
            r += 1
        if not r:
            continue
        for j in range(n):
            seen[j] = of_items[j] - two * products[i, j]
        for column in range(2):
            order = by_id if column else by_label
            position, beyond = runs[i, 2 * column], runs[i, 2 * column + 1]
            last = beyond
            while position < last:  # the first that is not before these items
                middle = (position + last) // 2
                if order[middle] < start:
                    position = middle + 1
                else:
                    last = middle
            while position < beyond and order[position] < start + n:
                seen[order[position] - start] = infinite
                position += 1
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
