"""Exact searches over large training sets: of each query over the instances that can be neighbours near to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numba as nb
import numpy as np
from scipy.spatial.distance import cdist

from certimetric.base.arrays import Array, Indices
from certimetric.certify.exact.witnesses import PROVEN, MinimalPerturbation
from certimetric.certify.kernels import bounds_of_distance, distance_beyond, gap_over_dual, rounding_of_distances
from certimetric.certify.radius import PredictedQueries
from certimetric.geometry.norms import Norm

MANY = 5000  # training instances, of more of which a search begins with the nearest
_NEAREST, _OPPONENTS = 1000, 500  # of all classes, and of those that are to win
_MOST = 0.5  # of the training set, beyond which all of it is the faster search

# Gives the smallest changes of some queries, with their numbers, over the training set that they have.
Find = Callable[[PredictedQueries, Indices], MinimalPerturbation]


def over_what_is_near(
    queries: PredictedQueries, norm: Norm, find: Find, wanted: Indices | None = None, largest: float = np.inf
) -> MinimalPerturbation:
    """What ``find`` gives over the whole training set, from searches over the part of it that matters for each query.

    An instance that k others are proven to stay nearer than, after every change of at most some size, is no neighbour
    after any of these changes (:func:`can_be_neighbors`). So what is found without it is found over all instances, if
    it is not larger. A search over the nearest instances gives a size; it stands if they are all that matter
    up to it. Else what does is searched: what comes out is the next size.

    Parameters
    ----------
    queries : PredictedQueries
    norm : Norm
    find : callable
    wanted : int array of shape (m,), optional
        Class codes that changes have to lead to; −1 for any but the predicted one.
    largest : float
        Size up to which changes count.
    """
    every, n = np.arange(len(queries.X)), len(queries.reference.y)
    if n <= MANY or not len(every):
        return find(queries, every)
    data, order = queries.reference.kernel_data(norm), float(norm.dual_order)
    aims = np.full(len(every), -1) if wanted is None else wanted
    found = [_of_one(queries, i, data, order, find, int(aims[i]), largest) for i in every.tolist()]
    joined = {field.name: np.concatenate([getattr(one, field.name) for one in found]) for field in fields(found[0])}
    return MinimalPerturbation(**joined)


def _of_one(
    queries: PredictedQueries, i: int, data: tuple[Any, ...], order: float, find: Find, wanted: int, largest: float
) -> MinimalPerturbation:
    number, n = np.array([i]), len(data[5])
    x, exclude = queries.points[i], int(queries.exclude[i])
    squared = cdist(data[0], x[None], "sqeuclidean")[:, 0]
    if exclude >= 0:
        squared[exclude] = np.inf
    rivals = data[5] == wanted if wanted >= 0 else data[5] != queries.predicted[i]
    rows = np.union1d(_smallest(squared, _NEAREST), _smallest(np.where(rivals, squared, np.inf), _OPPONENTS))
    nearest = _smallest(squared, queries.k)
    while len(rows) < _MOST * n:
        found = find(_among(queries.take(number), rows), number)
        # Witnesses may lie a little farther off than the radius, and were asked over these instances alone.
        size = float(min(found.radii[0], largest) * (1.0 + 2.0 * PROVEN) + found.tolerance[0])
        if not np.isfinite(size):
            break
        needed = np.flatnonzero(can_be_neighbors(x, float(queries.errors[i]), nearest, size, data, order))
        needed = needed[needed != exclude]
        if np.isin(needed, rows, assume_unique=True).all():
            return replace(found, lower=np.minimum(found.lower, size))  # nothing is known of what is farther
        rows = np.union1d(needed, nearest)
    return find(queries.take(number), number)


def _among(queries: PredictedQueries, rows: Indices) -> PredictedQueries:
    """Queries over some of the training instances, which the excluded one is not of."""
    return replace(queries, reference=queries.reference.among(rows), exclude=np.full(len(queries.X), -1))


def _smallest(values: Array, count: int) -> Indices:
    """Where the smallest of the values are, as many as are finite."""
    if count < len(values):
        chosen = np.argpartition(values, count - 1)[:count]
    else:
        chosen = np.arange(len(values))
    return np.asarray(chosen[np.isfinite(values[chosen])])


@nb.njit(cache=True, nogil=True)
def can_be_neighbors(x, error, nearest, size, data, order):
    """Which training instances the k nearest of a query may hold after a change of at most some size; others are
    farther, as the predictor computes it, than every one of ``nearest``, k of them, after each of these changes."""
    train, train_errors, _, dual, dual_errors, _, growth = data
    rounding = (error, growth[0], growth[1], rounding_of_distances(len(x)))
    reach = 0.0
    above = np.empty(len(nearest))
    for b in range(len(nearest)):
        above[b] = bounds_of_distance(x, nearest[b], error, data)[1]
        reach = max(reach, above[b])
    beyond = distance_beyond(size, reach, train_errors.max(), dual_errors.max(), rounding)
    may = np.zeros(len(train), dtype=np.bool_)
    for l in range(len(train)):
        low, far = bounds_of_distance(x, l, error, data)
        if low >= beyond:
            continue
        for b in range(len(nearest)):
            if not gap_over_dual(low, far, above[b], l, nearest[b], dual, dual_errors, order, rounding) >= size:
                may[l] = True
                break
    return may
