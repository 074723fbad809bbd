"""Predictions and certificates from the vicinity of a query alone: what is farther is proven to decide nothing.

A guess comes first: predicted class, radius and the distance of the opponent that binds it, from a few near cells. All
rows up to that distance are found then, and of the other classes also those beyond of which no bound says that they
leave the guessed radius as it is. Over what was found the query is predicted and certified as over the whole training
set. That is the result over the whole set, to the last digit, if

* the k nearest are of what was found (they are within the distance), and vote for the class of the guess,
* its radius is at most the guessed one: every opponent that was left out has a bound of at least that,
* the s opponents that bind it are within the distance: all instances that are nearer than one of them were found, so
  that its bound is what it is over the whole set, and the bounds of others can only be larger over it.

Otherwise what came out is the next guess.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba as nb
import numpy as np
from numpy.typing import NDArray

from certimetric.base.arrays import Array, Indices
from certimetric.base.chunks import chunk_slices, map_chunks
from certimetric.certify.kernels import NEAR, certify_rows, square_of, terms_of_threshold
from certimetric.geometry.cells import Cells, fits_single
from certimetric.geometry.kernels import difference_norm, insert_smallest, squared_distance
from certimetric.geometry.neighbors import select_nearest
from certimetric.geometry.screens import GROUP, any_within

_NO_CLASS = -2
_BATCH = 256  # queries that visit a cell together
_CELLS = 6  # near ones that a guess is made from
_FEW = 48  # rows of these
# Of the rows, within the distance where opponents can be told to decide nothing: from the first on their duals are
# multiplied as matrices, which l2 allows; where it does not, the second is the most.
_MANY, _LARGEST_SHARE = 0.05, 0.1
_ROUNDS = 4  # guesses before everything is searched
_AHEAD = 1.05  # guessed radius over the one of the guess before
_UP = 1.0 + 1e-9  # more than squared distances err
_TINY = 1e-36  # more than underflow takes from a sum of squares in single precision
_SINGLE = float(np.finfo(np.float32).eps) / 2


class Normed(NamedTuple):
    """A training set under a norm: what kernels read of it, and its dual coordinates by cells.

    Parameters
    ----------
    data : tuple
        :meth:`~certimetric.certify.reference.PointSet.kernel_data`.
    order : float
        Of the dual norm.
    largest : tuple
        Squared length of the rows, their error, and that of their duals.
    centers, radii : arrays of shape (c, p) and (c,)
    duals : list of arrays of shape (rows, p)
        Of each cell, about its center, in single precision.
    squares : list of arrays of shape (rows,)
        Their squared lengths, rounded up, for l2; empty otherwise.
    in_single : bool
        Whether they have a place there.
    """

    data: tuple[Any, ...]
    order: float
    largest: tuple[float, float, float]
    centers: Array
    radii: Array
    duals: list[Any]
    squares: list[Any]
    in_single: bool

    @classmethod
    def of(cls, cells: Cells, data: tuple[Any, ...], order: float) -> Normed:
        _, errors, squares, dual, dual_errors, _, _ = data
        in_single = fits_single(dual)
        members = cells.rows if in_single else []
        centers = np.array([dual[rows].mean(axis=0) for rows in members])
        duals = [(dual[rows] - center).astype(np.float32) for rows, center in zip(members, centers)]
        radii = [np.linalg.norm(part.astype(np.float64), order, axis=1).max() for part in duals]
        largest = squares.max(), errors.max(), dual_errors.max()
        up = 1.0 + 2.0 * _of_product(dual.shape[1])
        lengths = [np.float32((part.astype(np.float64) ** 2).sum(axis=1) * up) for part in duals if order == 2]
        return cls(data, order, largest, centers, np.array(radii) * (1.0 + 1e-5), duals, lengths, in_single)

    def from_instances(self, rows: Indices, cell: int) -> tuple[Any, Array]:
        """Duals of instances about the center of a cell, and what single precision does to differences with its."""
        away = self.data[3][rows] - self.centers[cell]
        off = 4.0 * _SINGLE * (np.linalg.norm(away, self.order, axis=1) + self.radii[cell])
        return away.astype(np.float32), off + 4e-19 * (away.shape[1] + 2)

    def squared_norms(self, from_near: Any, cell: int) -> NDArray[np.float32]:
        """Squared norms, for l2, of the differences of these from the duals of a cell, rounded up: (m, rows)."""
        lengths = (from_near.astype(np.float64) ** 2).sum(axis=1) * (1.0 + _of_product(from_near.shape[1]))
        squared = (-2.0 * from_near) @ self.duals[cell].T
        squared += self.squares[cell]
        squared += lengths.astype(np.float32)[:, None]
        return np.asarray(squared)


def _of_product(p: int) -> float:
    """Relative error of ``‖a‖² + ‖b‖² − 2 aᵀb`` in single precision, over ``‖a‖² + 2 ‖b‖²``, with room."""
    return 2.0 * (p + 8) * _SINGLE


class Vicinity:
    """Cells of a training set, for searches that leave out what is proven to decide nothing.

    Parameters
    ----------
    points : array of shape (n, r)
    y : int array of shape (n,)
        Class codes.
    """

    def __init__(self, points: Array, y: Indices):
        self.points, self.y, self.n_classes = points, y, int(y.max()) + 1
        self.cells = Cells(points)
        self.classes = [y[rows] for rows in self.cells.rows]
        # The class of cells of one class; −1 of others.
        self.single = np.array([of[0] if (of == of[0]).all() else -1 for of in self.classes])

    def neighbors(self, points: Array, k: int, exclude: Indices, memory: int, n_jobs: int) -> tuple[Indices, Array]:
        """The k nearest rows of embedded queries, and their squared distances; rows −1 where these are not known."""
        indices, squared = np.empty((len(points), k), dtype=np.int64), np.empty((len(points), k))

        def search(rows: slice) -> None:
            batch = _Batch(self, points[rows], exclude[rows], k, memory // n_jobs)
            every, found = np.arange(len(batch.points)), (indices[rows], squared[rows])
            batch.guess(every, k)
            _select(*batch.of(every, *found))
            limits = np.where(found[0][:, -1] < 0, -np.inf, found[1][:, -1])
            batch.collect(every, _Outcome.empty(len(every), k)._replace(limits=limits))
            _select(*batch.of(every, *found))

        map_chunks(search, chunk_slices(len(points), 1.0, _BATCH * n_jobs, n_jobs), n_jobs)
        return indices, squared

    def certify(
        self, normed: Normed, points: Array, errors: Array, k: int, exclude: Indices, memory: int, n_jobs: int
    ) -> tuple[Indices, Array]:
        """Class codes and certified radii of embedded queries; codes −1 where these are not known."""
        codes, radii = np.full(len(points), -1), np.empty(len(points))
        if not normed.in_single:
            return codes, radii

        def search(rows: slice) -> None:
            batch = _Batch(self, points[rows], exclude[rows], k, memory // n_jobs)
            batch.certify(normed, errors[rows], k, codes[rows], radii[rows])

        map_chunks(search, chunk_slices(len(points), 1.0, _BATCH * n_jobs, n_jobs), n_jobs)
        return codes, radii


class _Outcome(NamedTuple):
    """What the rows found so far say of each query of a batch.

    Classes, −1 where nothing is known, and radii; the squared distance of the farthest row that has a part in them;
    what :func:`terms_of_threshold` says of a radius ``_AHEAD`` times as large, and the instances that it rests on.
    """

    classes: Indices
    radii: Array
    limits: Array
    terms: Array
    near: Indices

    @classmethod
    def empty(cls, m: int, k: int) -> _Outcome:
        near = np.full((m, k // 2 + 1), -1)
        return cls(np.full(m, -1), np.zeros(m), np.full(m, -np.inf), np.full((m, 6), -np.inf), near)

    def copied(self) -> _Outcome:
        copies: list[Any] = [figure.copy() for figure in self]
        return _Outcome(*copies)


class _Batch:
    """Queries and what they found: ``hits`` of each, as many as ``counts`` says; if more than fit, not all."""

    def __init__(self, vicinity: Vicinity, points: Array, exclude: Indices, k: int, memory: int):
        self.vicinity, self.points, self.exclude = vicinity, points, exclude
        self.gaps = vicinity.cells.gaps(points)
        # Half of the memory is for products and copies of what was found.
        capacity = max(2 * (_FEW + 2 * k), min(memory // (8 * len(points)), len(vicinity.y)))
        self.hits = np.empty((len(points), capacity), dtype=np.int32)
        self.counts = np.zeros(len(points), dtype=np.int64)

    def of(self, some: Indices, *more: Any) -> tuple[Any, ...]:
        """What kernels read of some of the queries, and more."""
        return some, self.points, self.exclude, self.counts, self.hits, self.vicinity.points, *more

    def guess(self, some: Indices, k: int, not_of: Indices | None = None) -> None:
        """Add some of the nearest rows to the hits: of all classes, or of all but one for each query."""
        wide, gaps = _FEW + 2 * k, self.gaps[some]
        if not_of is None:
            not_of = np.full(len(self.points), _NO_CLASS)
        gaps = np.where(self.vicinity.single == not_of[some, None], np.inf, gaps)
        n_cells = min(_CELLS + wide // 256, gaps.shape[1])
        nearest = np.argpartition(gaps, n_cells - 1, axis=1)[:, :n_cells]
        wanted = np.zeros(self.gaps.shape, dtype=bool)
        wanted[some[:, None], nearest] = np.take_along_axis(gaps, nearest, 1) < np.inf
        values, found = np.full((len(self.points), wide), np.inf), np.full((len(self.points), wide), -1)
        for visit in self.vicinity.cells.visit(self.points, wanted):
            rows = self.vicinity.cells.rows[visit.cell]
            _keep_smallest(*visit[1:], rows, self.vicinity.classes[visit.cell], not_of, values, found)
        _append(found, self.counts, self.hits)

    def collect(self, some: Indices, outcome: _Outcome, normed: Normed | None = None) -> None:
        """Find all rows up to the limits of some queries; under a norm also what the terms do not rule out beyond."""
        vicinity, m = self.vicinity, len(self.points)
        limits, far, classes = outcome.limits * _UP, outcome.terms[:, 0] * _UP, outcome.classes
        gaps = np.maximum(self.gaps[some], 0.0) ** 2
        wanted = np.zeros(self.gaps.shape, dtype=bool)
        wanted[some] = gaps <= limits[some, None]
        if normed is not None:
            wanted[some] |= (gaps <= far[some, None]) & (vicinity.single != classes[some, None])
        else:
            from_near, off = np.zeros((m, 0), dtype=np.float32), np.zeros(m)
            duals, order = from_near, 2.0
        squared = none = np.zeros((m, 0), dtype=np.float32)
        self.counts[some] = 0
        for visit in vicinity.cells.visit(self.points, wanted):
            rows, of = vicinity.cells.rows[visit.cell], vicinity.classes[visit.cell]
            if normed is not None:
                from_near, off = normed.from_instances(outcome.near[visit.points, 0], visit.cell)
                duals, order, squared = normed.duals[visit.cell], normed.order, none
                if order == 2 and visit.share_within(far) > _MANY:
                    squared = normed.squared_norms(from_near, visit.cell)
            under_norm = from_near, off, duals, order, squared
            _collect(*visit[1:], rows, of, limits, outcome.terms, classes, *under_norm, self.counts, self.hits)

    def certify(self, normed: Normed, errors: Array, k: int, codes: Indices, radii: Array) -> None:
        """Fill codes and radii where they are proven."""
        some, found = np.arange(len(self.points)), _Outcome.empty(len(self.points), k)
        known = errors, normed.data, normed.order, normed.largest, k, self.vicinity.n_classes
        for not_of in (None, found.classes):
            self.guess(some, k, not_of)
            _judge(*self.of(some, *known, *found))
        if normed.order != 2:  # where no distance sets most opponents apart, all rows at once are the faster search
            some = some[self.vicinity.cells.shares(self.gaps, found.terms[:, 0]) <= _LARGEST_SHARE]
        for _ in range(_ROUNDS):
            some = some[np.isfinite(found.limits[some])]
            if not len(some):
                return
            guess = found.copied()
            self.collect(some, guess, normed)
            some = some[self.counts[some] <= self.hits.shape[1]]
            _judge(*self.of(some, *known, *found))
            proven = (found.classes == guess.classes) & (found.limits <= guess.limits)
            proven &= found.radii <= _AHEAD * guess.radii
            done = some[proven[some]]
            codes[done], radii[done] = found.classes[done], found.radii[done]
            some = some[~proven[some]]


@nb.njit(cache=True, nogil=True)
def _keep_smallest(points, offset, products, rows, classes, not_of, values, found):
    """Let the rows of a cell into the sorted lists of the points, but for those of a class that each does not want."""
    wide = values.shape[1]
    for i in range(len(points)):
        q, row = points[i], products[i]
        for start in range(0, len(rows), GROUP):
            stop = min(start + GROUP, len(rows))
            if not any_within(row[start:stop], values[q, wide - 1] - offset[i]):
                continue
            for t in range(start, stop):
                if classes[t] != not_of[q]:
                    insert_smallest(values[q], found[q], wide, wide, row[t] + offset[i], rows[t])


@nb.njit(cache=True, nogil=True)
def _append(found, counts, hits):
    for q in range(len(found)):
        for row in found[q]:
            if row >= 0:
                hits[q, counts[q]] = row
                counts[q] += 1


@nb.njit(cache=True, nogil=True)
def _collect(
    points, offset, products, rows, classes, limits, terms, not_of, from_near, off, duals, order, squared, counts, hits
):
    """Append to the hits of some points the rows of a cell of which the screen does not prove that they are beyond the
    limit, and of those that are, rows of other classes than ``not_of`` that the terms do not rule out.

    ``from_near`` are the dual coordinates of the instance that the terms rest on, about the center of the cell as the
    ``duals`` of the rows are, and ``off`` bounds what rounding both does to their difference. Where ``squared`` has
    columns it is the squared norms of these differences, rounded up.
    """
    for i in range(len(points)):
        q, row = points[i], products[i]
        cutoff, _, gain, rate, fixed, per_norm = terms[q]
        bound = max(limits[q], cutoff) + _TINY - offset[i]
        single = np.float32(bound + 2.0 * _SINGLE * abs(bound))
        up = per_norm * (1.0 + (duals.shape[1] + 8) * 2.0 * _SINGLE)
        for start in range(0, len(rows), GROUP):
            stop = min(start + GROUP, len(rows))
            if not any_within(row[start:stop], single):
                continue
            if squared.shape[1] and not up <= 0.0:
                # The margin without roots, which loops over vectors can do: the distance is at most the cutoff.
                steepest, left = fixed + max(rate, 0.0) * np.sqrt(max(cutoff, 0.0)), 0
                norms, of = squared[i, start:stop], row[start:stop]
                for t in range(stop - start):
                    square = max(of[t] + offset[i] - _TINY, 0.0)
                    over = (square * gain - steepest) / up - off[i]
                    out = (over >= 0.0) & (over * over >= norms[t])
                    left += not ((square > limits[q]) & ((square >= cutoff) | (classes[start + t] == not_of[q]) | out))
                if not left:
                    continue
            for t in range(start, stop):
                square = max(row[t] + offset[i] - _TINY, 0.0)  # at most the squared distance
                if square > limits[q]:
                    if not square < cutoff or classes[t] == not_of[q]:
                        continue
                    # The margin grows with the distance, where it is not negative.
                    margin = square * gain - rate * np.sqrt(square) - fixed
                    if margin >= 0.0 and margin >= up * (difference_norm(from_near[i], duals[t], order) + off[i]):
                        continue
                if counts[q] < hits.shape[1]:
                    hits[q, counts[q]] = rows[t]
                counts[q] += 1


@nb.njit(cache=True, nogil=True)
def _found(hits, exclude):
    """Row numbers among the hits, each once, increasing."""
    ordered = np.sort(hits)
    rows, n = np.empty(len(ordered), dtype=np.int64), 0
    for l in ordered:
        if l != exclude and (n == 0 or l != rows[n - 1]):
            rows[n] = l
            n += 1
    return rows[:n].copy()


@nb.njit(cache=True, nogil=True)
def _products(x, points):
    products = np.zeros((1, len(points)))
    for t in range(len(points)):
        for u in range(len(x)):
            products[0, t] += x[u] * points[t, u]
    return products


@nb.njit(cache=True, nogil=True)
def _select(some, points, exclude, counts, hits, train, indices, squared):
    """The nearest of what some queries found, −1 where these are too few or more than were kept."""
    k, nobody = indices.shape[1], np.full(1, -1)
    for i in some:
        rows = _found(hits[i, : counts[i]], exclude[i])
        indices[i] = -1
        if len(rows) < k or counts[i] > hits.shape[1]:
            continue
        x, near = points[i : i + 1].copy(), train[rows]
        squares = np.empty(len(rows))
        for t in range(len(rows)):
            squares[t] = square_of(near[t])
        select_nearest(
            _products(x[0], near), x, near, np.full(1, square_of(x[0])), squares, nobody,
            indices[i : i + 1], squared[i : i + 1],
        )  # fmt: skip
        for b in range(k):
            indices[i, b] = rows[indices[i, b]]


@nb.njit(cache=True, nogil=True)
def _judge(
    some, points, exclude, counts, hits, train, errors, data, order, largest, k, n_classes,
    classes, radii, limits, terms, near,
):  # fmt: skip
    """Predict and certify some queries over what they found; fill an :class:`_Outcome`."""
    _, point_errors, squares, dual, dual_errors, y, growth = data
    s, a, nobody = (k + 1) // 2, k // 2 + 1, np.full(1, -1)
    indices, squared, predicted = np.empty((1, k), dtype=np.int64), np.empty((1, k)), np.empty(1, dtype=np.int64)
    radius, binding = np.empty(1), np.empty((1, s), dtype=np.int64)
    nearest = np.empty((1, max(NEAR, a)), dtype=np.int64)
    for i in some:
        rows = _found(hits[i, : counts[i]], exclude[i])
        limits[i], terms[i] = np.inf, -np.inf
        if len(rows) < k:
            continue
        x, error = points[i : i + 1].copy(), errors[i : i + 1].copy()
        found = (train[rows], point_errors[rows], squares[rows], dual[rows], dual_errors[rows], y[rows], growth)
        products = _products(x[0], found[0])
        lengths = np.full(1, square_of(x[0]))
        select_nearest(products, x, found[0], lengths, found[2], nobody, indices, squared)
        votes = np.zeros(n_classes, dtype=np.int64)
        for j in indices[0]:
            votes[found[5][j]] += 1
        predicted[0] = votes.argmax()
        certify_rows(products, x, error, predicted, nobody, found, order, k, radius, nearest, binding)
        classes[i], radii[i] = predicted[0], radius[0]
        if binding[0].min() < 0:
            continue
        limits[i] = squared[0, k - 1]
        for l in binding[0]:
            limits[i] = max(limits[i], squared_distance(x[0], found[0][l]))
        for b in range(a):
            near[i, b] = rows[nearest[0, b]] if nearest[0, b] >= 0 else -1
        query = (products[0], x[0], error[0], predicted[0], -1, order)
        terms_of_threshold(query, _AHEAD * radius[0], nearest[0, :a], 0.0, largest, found, terms[i])
