"""Labels to target neighbours and triplets."""

from __future__ import annotations

from functools import partial

import numba as nb
import numpy as np

from certimetric.base.arrays import Array, Indices
from certimetric.base.chunks import chunk_slices, map_chunks
from certimetric.base.lazy_rows import LazyRows
from certimetric.geometry.kernels import insert_smallest, squared_distance
from certimetric.geometry.neighbors import nearest_neighbors
from certimetric.geometry.screens import GROUP, Screen, any_within


def target_neighbors(X: Array, y: Indices, k: int, *, rows: Indices | None = None, n_jobs: int = 1) -> Indices:
    """The k nearest instances of the same class, by Euclidean distance.

    Parameters
    ----------
    X : array of shape (n, d)
    y : int array of shape (n,)
        Class codes 0, 1, …
    k : int
        Target neighbours an instance.
    rows : int array of shape (m,), optional
        The instances whose neighbours are wanted; all by default.
    n_jobs : int
        Threads.

    Returns
    -------
    targets : int array of shape (n, k) or (m, k)
        Row numbers; −1 where the class has too few members.

    References
    ----------
    Weinberger & Saul (2009), *Distance metric learning for large margin nearest neighbor classification*
    [weinberger2009distance], JMLR 10.

    Examples
    --------
    >>> target_neighbors(np.array([[0.0], [1.0], [5.0], [9.0]]), np.array([0, 0, 0, 1]), 2).tolist()
    [[1, 2], [0, 2], [1, 0], [-1, -1]]
    """
    return _nearest(X, y, k, rows, n_jobs, own_class=True)


def nearest_of_other_classes(X: Array, y: Indices, k: int, *, rows: Indices | None = None, n_jobs: int = 1) -> Indices:
    """The k nearest instances of any other class, shape (n, k), or (m, k) of ``rows``; −1 where there are fewer.

    Parameters
    ----------
    X : array of shape (n, d)
    y : int array of shape (n,)
        Class codes.
    k : int
    rows : int array of shape (m,), optional
        Search for these instances only.
    n_jobs : int
        Threads.

    Examples
    --------
    >>> nearest_of_other_classes(np.array([[0.0], [1.0], [5.0], [9.0]]), np.array([0, 0, 0, 1]), 1).tolist()
    [[3], [3], [3], [2]]
    """
    return _nearest(X, y, k, rows, n_jobs, own_class=False)


def _nearest(X: Array, y: Indices, k: int, rows: Indices | None, n_jobs: int, *, own_class: bool) -> Indices:
    rows = np.arange(len(X)) if rows is None else rows
    nearest = np.full((len(rows), k), -1, dtype=np.int64)
    for members in class_members(y):
        pool = members if own_class else np.flatnonzero(y != y[members[0]])
        k_class = min(k, len(pool) - own_class)
        queries = np.flatnonzero(y[rows] == y[members[0]])
        if k_class and len(queries):
            itself = np.searchsorted(members, rows[queries]) if own_class else None
            found, _ = nearest_neighbors(X[rows[queries]], X[pool], k_class, exclude=itself, n_jobs=n_jobs)
            nearest[queries, :k_class] = pool[found]
    return nearest


def nearest_triplets(
    X: Array,
    y: Indices,
    n_targets: int,
    n_impostors: int,
    *,
    rows: Indices | None = None,
    n_jobs: int = 1,
) -> Indices:
    """Triplets (instance, target neighbour, impostor) from the nearest of both kinds.

    Parameters
    ----------
    X : array of shape (n, d)
    y : int array of shape (n,)
        Class codes.
    n_targets, n_impostors : int
        How many nearest instances of the same and of other classes are combined; all where a class has fewer.
    rows : int array, optional
        The instances that triplets are wanted of; all by default.
    n_jobs : int
        Threads.

    Returns
    -------
    triplets : int array of shape (m, 3)
        Distinct row numbers in the order of the instances; m is at most ``n · n_targets · n_impostors``, and that where
        every class is large enough. Nothing is drawn: they are the same every time.

    Examples
    --------
    >>> nearest_triplets(np.array([[0.0], [1.0], [5.0]]), np.array([0, 0, 1]), 3, 10).tolist()
    [[0, 1, 2], [1, 0, 2]]
    """
    rows = np.arange(len(X)) if rows is None else rows
    return combined_triplets(rows, *neighbors_of_both_kinds(X, y, rows, n_targets, n_impostors, n_jobs=n_jobs))


def neighbors_of_both_kinds(
    X: Array | LazyRows, y: Indices, rows: Indices, n_targets: int, n_impostors: int = 0, *, n_jobs: int = 1
) -> tuple[Indices, Indices]:
    """Target neighbours and nearest impostors of some rows, of one pass over all rows.

    The answer is that of :func:`target_neighbors` and :func:`nearest_of_other_classes` for these rows, to the last
    index; the cost is one product of the rows with the data, or of the rows of each class with the class where no
    impostor is wanted, without a copy for each class.

    Parameters
    ----------
    X : array of shape (n, d) or LazyRows
        Rows in a Dask array are searched block by block on its workers, with the same result.
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
    asked = (np.ascontiguousarray(X[rows]), y[rows], rows, n_targets, n_impostors)
    if isinstance(X, LazyRows):
        found, _ = X.reduce(partial(neighbors_among, *asked), partial(nearest_of_parts, n_targets), y)
    else:
        found, _ = neighbors_among(*asked, X, y, 0, n_jobs=n_jobs)
    return found[:, :n_targets], found[:, n_targets:]


def neighbors_among(
    A: Array,
    labels: Indices,
    rows: Indices,
    n_targets: int,
    n_impostors: int,
    X: Array,
    y: Indices,
    first: int,
    *,
    n_jobs: int = 1,
) -> tuple[Indices, Array]:
    """The same of the instances A among some rows, numbered from ``first``, none of which finds the row that is told
    for it; and squared distances, infinite where there are fewer."""
    found = np.full((len(rows), n_targets + n_impostors), -1, dtype=np.int64)
    values = np.full(found.shape, np.inf)
    if not found.size:
        return found, values
    groups = [(np.arange(len(rows)), np.arange(len(X)))]
    if not n_impostors:  # rows of other classes need not be looked at
        members = {int(y[numbers[0]]): numbers for numbers in class_members(y)}
        codes = [(asked, int(labels[asked[0]])) for asked in class_members(labels)]
        groups = [(asked, members[code]) for asked, code in codes if code in members]

    def search(part: tuple[Indices, Indices]) -> None:
        asked, pool = part
        screen, points = Screen(A[asked]), A[asked]
        counts, best, numbers = np.zeros((len(asked), 2), dtype=np.int64), values[asked], found[asked]
        for block in screen.blocks(len(pool)):
            chosen = pool[block]
            P = np.ascontiguousarray(X[chosen])
            prepared = screen.prepared(P)
            for tile in screen.tiles(slice(0, len(asked))):
                _insert(
                    screen.products(tile, prepared), screen.offset[tile], screen.relative, points[tile], P,
                    labels[asked[tile]], y[chosen], rows[asked[tile]], first + chosen, n_targets, best[tile],
                    numbers[tile], counts[tile],
                )  # fmt: skip
        values[asked], found[asked] = best, numbers

    parts = [(asked[cut], pool) for asked, pool in groups for cut in chunk_slices(len(asked), 1.0, 2**40, n_jobs)]
    map_chunks(search, parts, n_jobs)
    return found, values


def nearest_of_parts(n_targets: int, parts: list[tuple[Indices, Array]]) -> tuple[Indices, Array]:
    """The nearest of what :func:`neighbors_among` several parts of the rows are: exact, for each told its nearest."""
    found = [part[0] for part in parts]
    values = [part[1] for part in parts]
    kept = []
    for half in (slice(None, n_targets), slice(n_targets, None)):
        numbers, squared = (np.concatenate([part[:, half] for part in each], axis=1) for each in (found, values))
        order = np.lexsort((numbers, squared), axis=1)[:, : found[0][:, half].shape[1]]
        kept.append([np.take_along_axis(each, order, axis=1) for each in (numbers, squared)])
    return np.hstack([kept[0][0], kept[1][0]]), np.hstack([kept[0][1], kept[1][1]])


def combined_triplets(rows: Indices, targets: Indices, impostors: Indices) -> Indices:
    """Every target, (m, p), with every impostor, (m, q), of each of the instances, (m,): −1 stands for none."""
    shape = (len(rows), targets.shape[1], impostors.shape[1])
    triplets = np.stack(
        [
            np.broadcast_to(rows[:, None, None], shape),
            np.broadcast_to(targets[:, :, None], shape),
            np.broadcast_to(impostors[:, None, :], shape),
        ],
        axis=-1,
    ).reshape(-1, 3)
    return np.ascontiguousarray(triplets[(triplets >= 0).all(axis=1)])


def class_members(y: Indices) -> list[Indices]:
    """Row numbers of every class, in the order of the labels."""
    order = np.argsort(y, kind="stable")
    ordered = y[order]
    stops = [*(np.flatnonzero(ordered[1:] != ordered[:-1]) + 1).tolist(), len(y)]
    return [order[start:stop] for start, stop in zip([0, *stops], stops) if stop > start]


@nb.njit(cache=True, nogil=True)
def _insert(products, offset, relative, A, P, labels, others, rows, numbers, n_targets, values, found, counts):
    """Let the rows P, of these ascending numbers, into the sorted lists of every anchor."""
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
                if row[j] > bound or numbers[j] == rows[i]:
                    continue
                if others[j] == labels[i]:
                    squared = squared_distance(A[i], P[j])
                    counts[i, 0] = insert_smallest(own, own_found, counts[i, 0], n_targets, squared, numbers[j])
                elif n_impostors:
                    squared = squared_distance(A[i], P[j])
                    counts[i, 1] = insert_smallest(other, other_found, counts[i, 1], n_impostors, squared, numbers[j])
