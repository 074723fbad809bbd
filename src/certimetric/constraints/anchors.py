"""Anchors: a stratified sample of instances, whose neighbours of both kinds are searched in all rows at once."""

from __future__ import annotations

import numba as nb
import numpy as np

from certimetric.base.arrays import Array, Indices
from certimetric.base.chunks import chunk_slices, map_chunks
from certimetric.constraints.neighbors import class_members
from certimetric.geometry.kernels import insert_smallest, squared_distance
from certimetric.geometry.screens import GROUP, Screen, any_within

_FEWEST_OF_A_CLASS = 5  # anchors, where a class has as many members


class StratifiedSample:
    """A random sample of rows that grows: of every class its share, and at least five members where it has them.

    Parameters
    ----------
    y : int array of shape (n,)
        Class codes; equal ones where there are no classes.
    rng : RandomState

    Examples
    --------
    >>> y = np.repeat([0, 1], [995, 5])
    >>> sample = StratifiedSample(y, np.random.RandomState(0))
    >>> rows = sample.grow(100)
    >>> np.bincount(y[rows]).tolist(), len(sample.grow(200))
    ([100, 5], 99)
    """

    def __init__(self, y: Indices, rng: np.random.RandomState):
        self.n = len(y)
        self._classes = [rng.permutation(members) for members in class_members(y)]
        self._taken = np.zeros(len(self._classes), dtype=np.int64)
        self._spent = np.zeros(len(self._classes), dtype=np.int64)

    def grow(self, size: int) -> Indices:
        """The rows to add so that about ``size`` are in the sample: none is taken twice."""
        new = []
        for number, members in enumerate(self._classes):
            share = max(round(size * len(members) / self.n), _FEWEST_OF_A_CLASS)
            before = self._taken[number]
            after = max(before, min(share, len(members) - self._spent[number]))
            new.append(members[before:after])
            self._taken[number] = after
        return np.concatenate(new)

    def hold_out(self, size: int) -> Indices:
        """About ``size`` rows, of every class its share, that will not be among those that :meth:`grow` takes.

        A class gives up at most a third of its members for it.
        """
        rows = []
        for number, members in enumerate(self._classes):
            share = min(-(-size * len(members) // self.n), (len(members) - self._taken[number]) // 3)
            rows.append(members[len(members) - share :])
            self._spent[number] = share
        return np.concatenate(rows)

    def weights(self, rows: Indices, y: Indices) -> Array:
        """How many times its share in all rows each row of a sample stands for: 1 where every class has its share."""
        share = np.bincount(y, minlength=y.max() + 1) / np.maximum(np.bincount(y[rows], minlength=y.max() + 1), 1)
        weights = share[y[rows]]
        return np.asarray(weights * (len(rows) / weights.sum()))


def neighbors_of_both_kinds(
    X: Array, y: Indices, rows: Indices, n_targets: int, n_impostors: int = 0, *, n_jobs: int = 1
) -> tuple[Indices, Indices]:
    """Target neighbours and nearest impostors of some rows, of one pass over all rows.

    The answer is that of :func:`target_neighbors` and :func:`nearest_of_other_classes` for these rows, to the last
    index; the cost is one product of the rows with the data, without a copy for each class.

    Parameters
    ----------
    X : array of shape (n, d)
    y : int array of shape (n,)
        Class codes.
    rows : int array of shape (m,)
    n_targets, n_impostors : int
    n_jobs : int
        Threads.

    Returns
    -------
    targets : int array of shape (m, n_targets)
    impostors : int array of shape (m, n_impostors)
        Row numbers by distance, ties by number; −1 where there are fewer.
    """
    found = np.full((len(rows), n_targets + n_impostors), -1, dtype=np.int64)
    if not found.size:
        return found[:, :n_targets], found[:, n_targets:]
    A = np.ascontiguousarray(X[rows])
    screen, labels = Screen(A), y[rows]

    values = np.full(found.shape, np.inf)
    counts = np.zeros((len(rows), 2), dtype=np.int64)

    def search(part: slice) -> None:
        for block in screen.blocks(len(X)):
            P, others = np.ascontiguousarray(X[block]), y[block]
            prepared = screen.prepared(P)
            for tile in screen.tiles(part):
                _insert(
                    screen.products(tile, prepared), screen.offset[tile], screen.relative, A[tile], P, labels[tile],
                    others, rows[tile], block.start, n_targets, values[tile], found[tile], counts[tile],
                )  # fmt: skip

    map_chunks(search, chunk_slices(len(rows), 1.0, 2**40, n_jobs), n_jobs)
    return found[:, :n_targets], found[:, n_targets:]


@nb.njit(cache=True, nogil=True)
def _insert(products, offset, relative, A, P, labels, others, rows, first, n_targets, values, found, counts):
    """Let the rows P, numbered from ``first``, into the sorted lists of every anchor."""
    m, n = products.shape
    n_impostors = values.shape[1] - n_targets
    for i in range(m):
        row = products[i]
        own, own_found = values[i, :n_targets], found[i, :n_targets]
        other, other_found = values[i, n_targets:], found[i, n_targets:]
        for start in range(0, n, GROUP):
            stop = min(start + GROUP, n)
            reach = own[n_targets - 1]
            if n_impostors and other[n_impostors - 1] > reach:
                reach = other[n_impostors - 1]
            bound = np.float32((reach - offset[i]) + relative * abs(reach - offset[i]))
            if not any_within(row[start:stop], bound):
                continue
            for j in range(start, stop):
                if row[j] > bound or first + j == rows[i]:
                    continue
                if others[j] == labels[i]:
                    squared = squared_distance(A[i], P[j])
                    counts[i, 0] = insert_smallest(own, own_found, counts[i, 0], n_targets, squared, first + j)
                elif n_impostors:
                    squared = squared_distance(A[i], P[j])
                    counts[i, 1] = insert_smallest(other, other_found, counts[i, 1], n_impostors, squared, first + j)
