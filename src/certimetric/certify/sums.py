"""Certified sizes of changes for what is a sum over the k nearest: votes weighted by distance, means of numbers.

Both are bounded over all sets of k neighbours that a change can bring about (:mod:`certimetric.certify.ranks`);
``docs/certificates.md`` has the proofs.
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np

from certimetric.base.arrays import Array, Indices
from certimetric.base.chunks import DEFAULT_MEMORY, chunk_slices, map_chunks
from certimetric.base.rounding import INFLATED_UNIT
from certimetric.certify.kernels import rounding_of_distances, square_of
from certimetric.certify.ranks import count_above, least_set, ranked_candidates
from certimetric.certify.reference import PointSet, power_of_two_times
from certimetric.geometry.kernels import expansion_error, squared_distance
from certimetric.geometry.neighbors import select_nearest
from certimetric.geometry.norms import Norm

_LEAST = 1e-300  # a size above 0: at it, bounds of size 0 say nothing
_STEP = 4.0  # from a size that holds to the next that is tried
_MOST_TRIES, _PRECISION = 500, 1e-6  # sizes, or until the largest is known to so much of itself
_PRICES = 12  # that are tried for having many of a class
_NO_TARGETS = np.zeros(0)


def weighted_votes(
    reference: PointSet, points: Array, errors: Array, k: int, norm: Norm, exclude: Indices, **options: int
) -> tuple[Indices, Array]:
    """Class codes of embedded queries, and lower bounds on the change that alters them, by votes of weight 1/distance.

    A code is that of :meth:`~certimetric.certify.reference.PointSet.voted`; arguments are those of
    :func:`certimetric.certify.radius.bound_radii`.
    """
    nearest = _Nearest(reference, points, errors, k, norm, exclude)
    codes, radii = np.empty(len(points), dtype=np.int64), np.empty(len(points))

    def certify(rows: slice) -> None:
        queries, squared = nearest.of(rows)
        codes[rows] = reference.voted(queries[3], squared)[1]
        nothing = np.zeros(len(squared))
        _certify_rows(queries, codes[rows], *nearest.known, _NO_TARGETS, nothing, (0.0, 0.0, 0.0), radii[rows])

    nearest.fill(certify, **options)
    return codes, power_of_two_times(radii, nearest.exponent)


def certified_means(
    reference: PointSet, targets: Array, k: int, norm: Norm, tolerance: float, X: Array, **options: int
) -> Array:
    """Lower bounds on the change of each query that moves the mean of the targets of its k nearest by more than a
    tolerance, shape (m, 1)."""
    nearest = _Nearest(reference, *reference.embed(X), k, norm)
    radii, ordered = np.empty(len(X)), np.sort(targets)
    farthest = means_of(np.array([ordered[:k], ordered[-k:]]))  # that any set of k may have
    limits = (tolerance, *farthest.tolist())

    def certify(rows: slice) -> None:
        queries, _ = nearest.of(rows)
        means = means_of(targets[queries[3]])
        _certify_rows(queries, nearest.exclude[rows], *nearest.known, targets, means, limits, radii[rows])

    nearest.fill(certify, **options)
    return power_of_two_times(radii, nearest.exponent)[:, None]


def bounds_of_means(
    reference: PointSet, targets: Array, k: int, norm: Norm, eps: float, X: Array, **options: int
) -> Array:
    """The least and the largest mean of the targets of the k nearest over changes of size at most ε, shape (m, 2)."""
    nearest = _Nearest(reference, *reference.embed(X), k, norm)
    size = float(np.ldexp(eps, -nearest.exponent))
    if np.ldexp(size, nearest.exponent) < eps:  # it underflowed
        size = float(np.nextafter(size, np.inf))
    bounds = np.empty((len(X), 2))

    def bound(rows: slice) -> None:
        _bound_rows(nearest.of(rows)[0], *nearest.known, targets, max(size, _LEAST), bounds[rows])

    nearest.fill(bound, **options)
    return bounds


def mean_rows(reference: PointSet, targets: Array, k: int, X: Array, **options: Any) -> Array:
    """Means of the targets of the k nearest, shape (m, 1)."""
    indices, _ = reference.neighbors(reference.embed(X)[0], k, **options)
    return means_of(targets[indices])[:, None]


def means_of(targets: Array) -> Array:
    """Means of k numbers in each row, (m, k) to (m,): the same for every order of them, to the last digit, and no
    smaller where none of the numbers, in order, is."""
    total = np.zeros(len(targets))
    for column in np.sort(targets, axis=1).T:  # k columns
        total += column
    return total / targets.shape[1]


class _Nearest:
    """Embedded queries with their k nearest, block by block, and what kernels know of the training set.

    They get of a block the inner products with the training set, points, errors, the k nearest, and which instance is
    not seen.
    """

    def __init__(
        self, reference: PointSet, points: Array, errors: Array, k: int, norm: Norm, exclude: Indices | None = None
    ):
        norm, self.exponent = reference.in_range(norm)
        data = reference.kernel_data(norm)
        self.known = data, (data[2].max(), data[1].max(), data[4].max()), float(norm.dual_order)
        self.points, self.errors, self.k = points, errors, k
        self.exclude = np.full(len(points), -1, dtype=np.int64) if exclude is None else exclude

    def of(self, rows: slice) -> tuple[tuple[Any, ...], Array]:
        """A block of queries, and the squared distances of their nearest."""
        points, (train, _, squares, *_) = self.points[rows], self.known[0]
        products = points @ train.T
        indices, squared = np.empty((len(points), self.k), dtype=np.int64), np.empty((len(points), self.k))
        lengths = np.einsum("ij,ij->i", points, points)
        select_nearest(products, points, train, lengths, squares, self.exclude[rows], indices, squared)
        return (products, points, self.errors[rows], indices, self.exclude[rows]), squared

    def fill(self, function: Any, memory: int = DEFAULT_MEMORY, n_jobs: int = 1) -> None:
        """Call a function of the rows of each block."""
        slices = chunk_slices(len(self.points), 8.0 * len(self.known[0][0]), memory, n_jobs)
        map_chunks(function, slices, n_jobs)


@nb.njit(cache=True, nogil=True)
def _certify_rows(queries, codes, data, largest, order, targets, means, limits, radii):
    """Fill ``radii`` with sizes at which the vote for ``codes`` stands; with targets, ``means`` stays.

    ``limits`` are a tolerance, and the least and the largest mean of any k targets.
    """
    products, points, errors, near, exclude = queries
    y, rate = data[5], data[6][0] + data[6][1]
    for i in range(len(points)):
        row, x = products[i], points[i]
        task = (y, codes[i], targets, means[i], limits[0])
        if len(targets) and _within(limits[1], limits[2], means[i], limits[0]):
            radii[i] = np.inf
            continue
        against = _expand(row, x, exclude[i], data, largest, task)
        if against == np.inf and not len(targets):  # a mean of numbers within the tolerance may round beyond it
            radii[i] = np.inf
            continue
        # The first guess is a share of the distance to what speaks against the prediction. Guesses grow until one does
        # not hold, each with its own candidates; those of the last serve for all below.
        query, k = (row, x, errors[i], order), near.shape[1]
        reach = np.sqrt(squared_distance(x, data[0][near[i, k - 1]])) + (np.sqrt(against) if against < np.inf else 0.0)
        horizon = np.inf if rate == 0.0 else max(reach, 1e-150) / (8.0 * rate)
        held, failed, size, grown = 0.0, np.inf, _LEAST, True
        for _ in range(_MOST_TRIES):
            if grown:
                ranked = ranked_candidates(query, near[i], horizon, codes[i], data, largest)
                grown = False
            if len(targets):
                low, high = _extreme_means(size, ranked, targets, k)
                stands = _within(low, high, means[i], limits[0])
            else:
                stands = _vote_stands(size, ranked, query, k, data, codes[i])
            if stands:
                held = size
            else:
                failed = size
            if failed == _LEAST or size == np.inf:
                break
            if failed < np.inf:
                if failed - held <= _PRECISION * failed:
                    break
                size = held + 0.5 * (failed - held)
            elif size < horizon:
                size = horizon
            else:
                horizon, grown = size * _STEP, True
                size = horizon
        radii[i] = held if held > _LEAST else 0.0


@nb.njit(cache=True, nogil=True)
def _bound_rows(queries, data, largest, order, targets, size, bounds):
    """Fill ``bounds`` with the least and the largest mean over changes of at most a size."""
    products, points, errors, near, exclude = queries
    for i in range(len(points)):
        row, x = products[i], points[i]
        _expand(row, x, exclude[i], data, largest, (data[5], -1, targets, 0.0, np.inf))
        ranked = ranked_candidates((row, x, errors[i], order), near[i], size, -1, data, largest)
        bounds[i, 0], bounds[i, 1] = _extreme_means(size, ranked, targets, near.shape[1])


@nb.njit(cache=True, nogil=True)
def _expand(row, x, exclude, data, largest, task):
    """Turn inner products into expanded squares; gives the least squared distance of what speaks against a prediction,
    to the same digits however products were rounded."""
    q, squares, least = square_of(x), data[2], np.inf
    for j in range(len(row)):
        row[j] = np.inf if j == exclude else q + squares[j] - 2.0 * row[j]
        if row[j] < least and _speaks_against(j, task):
            least = row[j]
    limit, least = least + 2.0 * expansion_error(len(x), q, largest[0]), np.inf
    for j in range(len(row)):
        if row[j] <= limit and row[j] < np.inf and _speaks_against(j, task):
            least = min(least, squared_distance(x, data[0][j]))
    return least


@nb.njit(cache=True, nogil=True)
def _speaks_against(j, task):
    y, c, targets, mean, tolerance = task
    return abs(targets[j] - mean) > tolerance if len(targets) else y[j] != c


@nb.njit(cache=True, nogil=True)
def _within(low, high, mean, tolerance):
    return high - mean <= tolerance and mean - low <= tolerance


@nb.njit(cache=True, nogil=True)
def _extreme_means(size, ranked, targets, k):
    """Bounds on the mean of the k nearest, as :func:`means_of` computes it, over changes of at most a size."""
    candidates, above, _, stays, _, _ = ranked
    counts, forced, values = count_above(above, size), stays >= size, targets[candidates]
    bounds = np.array([-np.inf, np.inf])
    for end, sign in enumerate((1.0, -1.0)):
        chosen = least_set(sign * values, counts, forced, k)
        if len(chosen) == k:
            bounds[end] = _mean(values[chosen])
    return bounds[0], bounds[1]


@nb.njit(cache=True, nogil=True)
def _mean(values):
    """:func:`means_of` k numbers, to the last digit."""
    total = 0.0
    for i in np.argsort(values, kind="mergesort"):  # compiled already, unlike np.sort
        total += values[i]
    return total / len(values)


@nb.njit(cache=True, nogil=True)
def _vote_stands(size, ranked, query, k, data, c):
    """Whether class c is proven to have the largest sum of weights under every change of at most a size.

    Let a(l) of class c stay nearer than l of another class. A set of k neighbours in which, for every t, fewer than t
    of that class have a(l) < t, has for its t-th nearest of that class one of c that is nearer: c has more there. In
    any other set there are t of those for some t, and a sum of bounds of the weights decides.
    """
    candidates, above, above_of_class, stays, low, high = ranked
    _, x, error, _ = query
    counts, of_class = count_above(above, size), count_above(above_of_class, size)
    y, q, rate, relative = data[5], len(candidates), data[6][0] + data[6][1], rounding_of_distances(len(x))
    off = error + (rate * size if rate > 0.0 else 0.0)
    tried, of_code, forced, values = np.zeros(q, np.bool_), np.zeros(q, np.bool_), np.zeros(q, np.bool_), np.empty(q)
    for i in range(q):
        tried[i], forced[i] = y[candidates[i]] == c, stays[i] >= size
    for p in range(q):
        if tried[p] or counts[p] >= k:
            continue
        most = 0.0
        for i in range(q):
            code = y[candidates[i]]
            of_code[i] = code == y[candidates[p]] and counts[i] < k
            tried[i], values[i] = tried[i] or of_code[i], 0.0
            if counts[i] < k and code == c:
                values[i] = 1.0 / ((high[i] + off) * (1.0 + relative))
            elif of_code[i]:
                near = (low[i] - off) * (1.0 - relative)
                values[i] = -1.0 / near if near > 0.0 else -np.inf
            most = max(most, abs(values[i]))
        if not _always_positive(values, most, of_code, of_class, counts, forced, k):
            return False
    return True


@nb.njit(cache=True, nogil=True)
def _always_positive(values, most, of_code, of_class, counts, forced, k):
    """Whether values have a sum above 0 over every set that :func:`_vote_stands` has to look at."""
    unit, priced = 4.0 * (k + 16) * INFLATED_UNIT * k, np.empty(len(values))
    for t in range(k + 1):
        n_many = 0
        for i in range(len(values)):
            n_many += of_code[i] and of_class[i] < t
        if n_many < t:
            continue
        if most == np.inf and t > 0:
            return False
        # The least sum over sets with t of them is, whatever their price λ, at least that of values less λ for each of
        # them, plus λt. The best price is where the least set begins to have t. With t = 0 all sets are looked at.
        low, high, positive = 0.0, 2.0 * most * k if t > 0 else 0.0, False
        for _ in range(_PRICES if t > 0 else 1):
            price = 0.5 * (low + high)
            for i in range(len(values)):
                priced[i] = values[i] - (price if of_code[i] and of_class[i] < t else 0.0)
            chosen = least_set(priced, counts, forced, k)
            if len(chosen) < k:
                return False
            total, n_chosen = price * t, 0
            for i in chosen:
                total += priced[i]
                n_chosen += of_code[i] and of_class[i] < t
            positive = total > unit * (most + price)
            if positive:
                break
            if n_chosen < t:
                low = price
            else:
                high = price
        if positive and t == 0:
            return True
        if not positive and t > 0:
            return False
    return True
