"""The training set as predictor and certifier both see it: one set of coordinates, with their rounding errors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from copy import copy
from functools import cached_property
from threading import Lock
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from certimetric.base.arrays import Array, Indices
from certimetric.base.chunks import DEFAULT_MEMORY
from certimetric.base.rounding import UNIT_ROUNDOFF
from certimetric.certify.kernels import embed_rows
from certimetric.certify.vicinity import Normed, Vicinity
from certimetric.geometry.cells import LARGEST, fits_single
from certimetric.geometry.diagonal import DiagonalMetric
from certimetric.geometry.mahalanobis import MahalanobisMetric
from certimetric.geometry.neighbors import nearest_neighbors
from certimetric.geometry.norms import Norm

# The largest coordinate of a training set is between 1/2 and 1: what underflows changes a coordinate by less than this.
_UNDERFLOW = 1e-150
_IN_RANGE = 64  # exponents of sizes whose squares, and products of these, are normal numbers
_LARGEST_EXPONENT = 1022  # of a normal power of two that has a normal inverse
_MANY_ROWS, _MANY_QUERIES = 50_000, 128  # from which on cells are worth their making
_FEW_NEIGHBORS = 128
_making = Lock()


class MetricMaps:
    """What a metric and a norm do to a change of an instance, rounding counted.

    Parameters
    ----------
    metric : MahalanobisMetric
        Its distances, times ``2^exponent``, are the distances.
    exponent : int, default=0
    """

    def __init__(self, metric: MahalanobisMetric, exponent: int = 0):
        self.metric, self.exponent = metric, exponent

    @classmethod
    def of(cls, metric: MahalanobisMetric) -> MetricMaps:
        """The maps of a metric, its largest component between 1/2 and 1."""
        exponent = _exponent(entries(metric))
        return MetricMaps(_times_power_of_two(metric, -exponent), exponent)

    def gamma(self) -> float:
        """Bound on the error of a coordinate of an instance x over ``Σ |x − center| |L|``.

        An inner product of d terms errs by at most γ_d Σ|terms|, a product with a diagonal by one rounding; the
        subtraction of the center is one rounding more, and so is a step away from x.
        """
        terms = 1 if isinstance(self.metric, DiagonalMetric) else self.metric.n_features
        return (terms + 5) * UNIT_ROUNDOFF

    def dual_map(self, norm: Norm, whole: bool = False) -> Any:
        """B of shape (r, p) with ``dual norm of Lᵀw = ‖wB‖`` of the norm's dual order.

        Sparse where metric and norm take each feature for itself. With ``whole`` there is a coordinate for each feature
        that can change: without it those of l2 are as few as the rank of the metric, without what it does not see.
        """
        if (weights := self.diagonal(norm)) is not None:
            return _at_features(norm, weights)
        return self.dual_rows(norm, whole)[0]

    def dual_rows(self, norm: Norm, whole: bool = False) -> tuple[Array, Array, Array | None]:
        """The map B, bounds on the errors of its rows in the dual norm, and the rotation Q that shortened them.

        That is, the dual norm of Lᵀw is at most ``‖wB‖ + Σ |w_t| errors_t``.
        """
        L, order = self.metric.components, norm.dual_order
        B = np.ascontiguousarray(norm.dual_coordinates(L))
        # Entries of B are products of entries of L with those of the norm's own map, summed over d features at most.
        errors = (self.gamma() + 3.0 * UNIT_ROUNDOFF) * np.linalg.norm(
            norm.absolute_coordinates(np.abs(L)), order, axis=1
        )
        r, p = B.shape
        if order != 2 or p <= r or whole:
            return B, errors, None
        # A rotation makes the rows as short as the rank: ‖wB‖ = ‖wRᵀ‖ with Bᵀ = QR. Unlike a singular value
        # decomposition it keeps the digits of small rows beside large ones. Its error is measured.
        Q, R = np.linalg.qr(B.T)
        left = np.linalg.norm(B - R.T @ Q.T, axis=1)
        errors += left + (r + 4) * UNIT_ROUNDOFF * (np.abs(R).sum(axis=0) + np.linalg.norm(B, axis=1))
        skew = np.linalg.norm(Q.T @ Q - np.eye(r)) + r * (p + 4) * UNIT_ROUNDOFF
        return np.ascontiguousarray(R.T * (1.0 + skew)), errors, Q

    def per_distance(self, norm: Norm) -> float:
        """Bound on the dual norm of Lᵀw over ‖w‖₂ ≤ 1, for discarding opponents by their distance alone."""
        if (weights := self.diagonal(norm)) is not None:
            sizes = norm.dual_coordinates(np.abs(weights))
            bound = np.linalg.norm(sizes) if norm.dual_order == 1 else sizes.max(initial=0.0)
            return float(bound) * (1.0 + 1e-9)
        B, row_errors, _ = self.dual_rows(norm)
        return dual_per_distance(B, norm.dual_order) + float(np.linalg.norm(row_errors))

    def in_range(self, norm: Norm) -> tuple[Norm, int]:
        """The norm in units in which squares of sizes do not over- or underflow, and the exponent e of these units.

        A size in it, times ``2^e``, is one in the given norm (:func:`power_of_two_times`).
        """
        # Coordinates are near 1, so that sizes are near the inverse of the map to them.
        weights = self.diagonal(norm)
        exponent = -_exponent(norm.dual_coordinates(self.metric.components if weights is None else weights))
        if abs(exponent) < _IN_RANGE:
            return norm, 0
        exponent = max(-_LARGEST_EXPONENT, min(exponent, _LARGEST_EXPONENT))
        return norm.in_units(np.full(self.metric.n_features, np.ldexp(1.0, exponent))), exponent

    def growth(self, norm: Norm) -> tuple[float, float]:
        """How fast the coordinates of an instance, and their rounding error, grow with the size of a change of it.

        Returns
        -------
        kappa : float
            Bound on ``‖Lδ‖₂`` over changes δ of size 1. By duality it is :meth:`per_distance`.
        growth : float
            The error of the coordinates of x + δ is at most that at x and ``growth · ‖δ‖``.
        """
        kappa = self.per_distance(norm)
        if self.diagonal(norm) is not None:
            return kappa, self.gamma() * kappa  # |L| stretches as L does
        spread = norm.absolute_coordinates(np.abs(self.metric.components))
        return kappa, self.gamma() * largest_image(spread, norm.dual_order)

    def diagonal(self, norm: Norm) -> Array | None:
        """Weights of the features, where metric and norm take each for itself, so that no matrix is needed."""
        return self.metric.weights if norm.diagonal and isinstance(self.metric, DiagonalMetric) else None

    def lift_map(self, norm: Norm, whole: bool = False) -> Any:
        """Matrix of shape (p, d) that takes a vector η in the dual coordinates to the perturbation ``η @ lift``.

        It is sparse where :meth:`dual_map` is.

        The perturbation has the size of η in the norm's own order, and moves a query by ``dual_map(norm) @ η`` (both
        ``whole``, or none).
        """
        d = self.metric.n_features
        if self.diagonal(norm) is not None:
            return _at_features(norm, np.ones(d)).T.tocsr()
        to_features = norm.dual_coordinates(np.eye(d))  # (d, p'): vᵀδ = dual_coordinates(v)ᵀ η' for δ = it @ η'
        _, _, Q = self.dual_rows(norm, whole)
        return np.ascontiguousarray(to_features.T if Q is None else Q.T @ to_features.T)


class PointSet(MetricMaps, ABC):
    """Labelled points that queries are predicted from and certified over, in coordinates of a metric.

    A kind of it says how a query gets there (:meth:`embed`).

    Parameters
    ----------
    metric : MahalanobisMetric
        Of which the distances of ``points``, times ``2^exponent``, are the distances.
    points : array of shape (n, r)
        In which the learned distance is Euclidean.
    point_errors : array of shape (n,)
        Bound on the Euclidean norm of the rounding error of every row of ``points``.
    y : int array of shape (n,)
        Class codes.
    exponent : int, default=0

    Attributes
    ----------
    by_distance : bool
        Whether the vote of a neighbour counts 1/distance; at first every vote counts the same.
    n_classes : int
        Number of class codes.
    """

    def __init__(self, metric: MahalanobisMetric, points: Array, point_errors: Array, y: Indices, exponent: int = 0):
        super().__init__(metric, exponent)
        self.points, self.point_errors = points, point_errors
        self.y, self.n_classes = np.ascontiguousarray(y), int(y.max(initial=-1)) + 1
        self.by_distance = False
        self._vicinity: Vicinity | None = None
        self._normed: tuple[Norm, Normed] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_vicinity": None, "_normed": None}  # copies make them again where it is worth it

    @abstractmethod
    def embed(self, X: Array) -> tuple[Array, Array]:
        """Coordinates of instances, shape (m, r), and a bound on the rounding error of each row."""

    def among(self, rows: Indices) -> PointSet:
        """Some of the points, increasing: distances of a query from them have the same digits."""
        part = copy(self)
        part.points, part.point_errors, part.y = self.points[rows], self.point_errors[rows], self.y[rows]
        part.__dict__.pop("_in_single", None)
        return part

    def dual_points(self, norm: Norm, whole: bool = False) -> tuple[Array, Array]:
        """``X M`` in the dual coordinates of the norm, shape (n, p), and a bound on the error of each row.

        The dual norm ‖M(x_l − x_j)‖_* is a plain vector norm of a difference of these rows.
        """
        if (weights := self.diagonal(norm)) is not None:
            coordinates = np.ascontiguousarray(norm.dual_coordinates(self.points * weights))
            # A product by a weight, and one by the unit of a feature.
            errors = (self.gamma() + 3.0 * UNIT_ROUNDOFF) * np.linalg.norm(coordinates, norm.dual_order, axis=1)
            kappa = self.per_distance(norm)
            errors += self.point_errors * kappa
            return coordinates, errors + (_squares_that_underflow(coordinates) if kappa else 0.0)
        map_, row_errors, _ = self.dual_rows(norm, whole)
        coordinates = np.ascontiguousarray(self.points @ map_)
        sizes = np.abs(self.points)
        errors = (len(map_) + 4) * UNIT_ROUNDOFF * np.linalg.norm(sizes @ np.abs(map_), norm.dual_order, axis=1)
        errors += sizes @ row_errors + self.point_errors * self.per_distance(norm)
        return coordinates, errors + (_squares_that_underflow(coordinates) if map_.any() else 0.0)

    def kernel_data(self, norm: Norm, whole: bool = False) -> tuple[Any, ...]:
        """What compiled kernels read: points and their errors and squares, dual points and theirs, classes, growth."""
        dual, dual_errors = self.dual_points(norm, whole)
        squares = np.einsum("ij,ij->i", self.points, self.points)
        return self.points, self.point_errors, squares, dual, dual_errors, self.y, self.growth(norm)

    def neighbors(
        self, points: Array, k: int, *, exclude: Indices | None = None, memory: int = DEFAULT_MEMORY, n_jobs: int = 1
    ) -> tuple[Indices, Array]:
        """The k nearest training instances of embedded queries, and their squared distances."""
        if (vicinity := self.vicinity(points, k)) is None:
            return nearest_neighbors(points, self.points, k, exclude=exclude, memory=memory, n_jobs=n_jobs)
        if exclude is None:
            exclude = np.full(len(points), -1, dtype=np.int64)
        indices, squared = vicinity.neighbors(points, k, exclude, memory, n_jobs)
        if len(left := np.flatnonzero(indices[:, 0] < 0)):
            indices[left], squared[left] = nearest_neighbors(
                points[left], self.points, k, exclude=exclude[left], memory=memory, n_jobs=n_jobs
            )
        return indices, squared

    def vicinity(self, points: Array, k: int) -> Vicinity | None:
        """Cells for the search of k neighbours of embedded queries, where they are worth it."""
        many = len(self.y) >= _MANY_ROWS and (len(points) >= _MANY_QUERIES or self._vicinity is not None)
        if not (many and len(points) and k <= _FEW_NEIGHBORS and np.abs(points).max() < LARGEST and self._in_single):
            return None
        with _making:
            if self._vicinity is None:
                self._vicinity = Vicinity(self.points, self.y)
        return self._vicinity

    @cached_property
    def _in_single(self) -> bool:
        return fits_single(self.points)

    def normed(self, norm: Norm) -> Normed:
        """What is known under a norm of the cells, which were made; that under the last norm is kept."""
        assert self._vicinity is not None
        with _making:
            if self._normed is None or self._normed[0] != norm:
                known = Normed.of(self._vicinity.cells, self.kernel_data(norm), float(norm.dual_order))
                self._normed = norm, known
            return self._normed[1]

    def predict(self, points: Array, k: int, **options: Any) -> Indices:
        """Class code with the most votes of the k nearest, found with the options of :meth:`neighbors`."""
        return self.voted(*self.neighbors(points, k, **options))[1]

    def voted(self, indices: Indices, squared: Array) -> tuple[Array, Indices]:
        """What each class gets of the votes of neighbours, (m, k) to (m, n_classes), and the code that gets the most.

        Where votes are equal, it is the smaller code; by distance, that of the nearer neighbour, and votes are those of
        :func:`weights_by_distance`.
        """
        codes = self.y[indices]
        if not self.by_distance:
            counts = votes(codes, self.n_classes)
            return counts.astype(np.float64), counts.argmax(axis=1)
        totals, rows = np.zeros((len(codes), self.n_classes)), np.arange(len(codes))
        for column, weights in zip(codes.T, weights_by_distance(squared).T):  # k columns, the nearest first
            totals[rows, column] += weights
        return totals, codes[rows, totals[rows[:, None], codes].argmax(axis=1)]


class ReferenceSet(PointSet):
    """Training instances in the coordinates of a metric.

    ``metric`` is the given one times a power of two that brings the largest coordinate of ``points``, ``(X − center)
    Lᵀ``, between 1/2 and 1: products and squares then do not over- or underflow. Predictions and radii are those of the
    given one.

    Parameters
    ----------
    metric : MahalanobisMetric
    X : array of shape (n, d)
    y : int array of shape (n,)
        Class codes.

    Raises
    ------
    ValueError
        If distances overflow or underflow whatever the scale.
    """

    def __init__(self, metric: MahalanobisMetric, X: Array, y: Indices):
        with np.errstate(over="ignore"):
            self.center = X.mean(axis=0)  # distances are taken near the origin, where they lose the fewest digits
            coarse = _exponent(X - self.center) + _exponent(entries(metric))
        self.metric = _times_power_of_two(metric, -coarse)
        points, errors = self.embed(X)
        fine = _exponent(points)
        exponent = coarse + fine
        scaled = _times_power_of_two(metric, -exponent)
        super().__init__(scaled, np.ldexp(points, -fine), np.ldexp(errors, -fine), y, exponent)

    @classmethod
    def part(cls, metric: MahalanobisMetric, X: Array, y: Indices, center: Array, largest: float) -> ReferenceSet:
        """Some rows of a training set, in coordinates about its center, of which its entries are not farther than
        ``largest``: every part has the same coordinates."""
        part = cls.__new__(cls)
        part.center = center
        exponent = _exponent(np.array(largest)) + _exponent(entries(metric)) + metric.n_features.bit_length()
        part.metric = _times_power_of_two(metric, -exponent)
        PointSet.__init__(part, part.metric, *part.embed(X), y, exponent)
        return part

    def embed(self, X: Array) -> tuple[Array, Array]:
        """Coordinates of instances, shape (m, r), and a bound on the rounding error of each row."""
        # The point x + δ that is predicted is itself rounded, by one unit of x: that counts as an error of x.
        points, errors = times_components(self.metric, X, self.center, self.gamma(), UNIT_ROUNDOFF)
        return points, errors + _UNDERFLOW


def _at_features(norm: Norm, weights: Array) -> csr_array:
    """The dual coordinates of ``np.diag(weights)`` for a diagonal norm, shape (d, p)."""
    values, features = norm.dual_coordinates(weights), norm.features(len(weights))
    return csr_array((values, (features, np.arange(len(values)))), shape=(len(weights), len(values)))


def times_components(
    metric: MahalanobisMetric, X: Array, center: Array, gamma: float, unit: float
) -> tuple[Array, Array]:
    """``(X − center) Lᵀ``, each row to the same digits whichever are beside it, and the norms of the rows of
    ``(gamma |X − center| + unit |X|) |L|ᵀ``."""
    if isinstance(metric, DiagonalMetric):
        centred = X - center
        sizes = (gamma * np.abs(centred) + unit * np.abs(X)) * np.abs(metric.weights)
        return np.ascontiguousarray(centred * metric.weights), np.linalg.norm(sizes, axis=1)
    X = np.ascontiguousarray(X, dtype=np.float64)
    points, sizes = np.empty((len(X), metric.n_components)), np.empty(len(X))
    embed_rows(X, center, metric.components, gamma, unit, points, sizes)
    return points, sizes


def _squares_that_underflow(coordinates: Array) -> float:
    """What that changes in the length of a row."""
    return float(np.sqrt(coordinates.shape[1])) * 1e-161


def dual_per_distance(B: Array, order: float) -> float:
    """Bound on ‖wB‖ of the given order over ‖w‖₂ ≤ 1."""
    # The largest singular value is computed to a few units of itself, however small the others are.
    largest = float(np.linalg.norm(B, 2))
    if order == 2:
        bound = largest
    elif order == 1:
        bound = min(largest * np.sqrt(B.shape[1]), float(np.linalg.norm(np.abs(B).sum(axis=1))))
    else:
        bound = float(np.linalg.norm(B, axis=0).max())
    return bound * (1.0 + 1e-9)


def _exponent(values: Array) -> int:
    """The least e with ``|values| < 2^e``; 0 where all are 0."""
    largest = np.abs(values).max(initial=0.0)
    if not np.isfinite(largest):
        raise ValueError("distances of the training instances overflow: their values or the metric are too large")
    return int(np.frexp(largest)[1])


def entries(metric: MahalanobisMetric) -> Array:
    """What a metric keeps of its components: of a diagonal one the diagonal, shape (d,), of others all, (r, d)."""
    return metric.weights if isinstance(metric, DiagonalMetric) else metric.components


def with_entries(metric: MahalanobisMetric, values: Array) -> MahalanobisMetric:
    """The metric of other :func:`entries`."""
    kind = DiagonalMetric if isinstance(metric, DiagonalMetric) else MahalanobisMetric
    return kind(values, metric.feature_names, metric.training)


def _times_power_of_two(metric: MahalanobisMetric, exponent: int) -> MahalanobisMetric:
    """The metric whose distances are ``2^exponent`` times as long, exactly."""
    with np.errstate(over="ignore"):
        values = np.ldexp(entries(metric), exponent)
    if not np.isfinite(values).all():
        raise ValueError("distances of the training instances underflow: their differences or the metric are too small")
    return with_entries(metric, values)


def power_of_two_times(sizes: Array, exponent: int | Indices) -> Array:
    """``2^exponent`` times the sizes, rounded down where that is not exact."""
    with np.errstate(over="ignore"):  # the next line's business
        scaled = np.ldexp(sizes, exponent)
    scaled = np.where(np.isinf(scaled) & np.isfinite(sizes), np.finfo(float).max, scaled)
    inexact = (scaled < np.finfo(float).tiny) & (scaled > 0.0)
    return np.where(inexact, np.nextafter(scaled, 0.0), scaled)


def largest_image(G: Array, dual_order: float) -> float:
    """Bound on ‖Gη‖₂ for G of entries of at least 0, over η of size 1 in the norm whose dual has the given order."""
    if dual_order == 2:
        bound = float(np.linalg.norm(G))
    elif dual_order == 1:
        bound = float(np.linalg.norm(G.sum(axis=1)))
    else:
        bound = float(np.linalg.norm(G, axis=0).max(initial=0.0))
    return bound * (1.0 + 1e-9)


def nearest_rows(reference: PointSet, k: int, X: Array, **options: Any) -> Array:
    """Distances of the k nearest training instances, then their row numbers, side by side: shape (m, 2k)."""
    indices, squared = reference.neighbors(reference.embed(X)[0], k, **options)
    return np.hstack([np.ldexp(np.sqrt(squared), reference.exponent), indices])


def vote_rows(reference: PointSet, k: int, X: Array, **options: Any) -> Array:
    """Votes of the k nearest for each class, then the code that gets the most: shape (m, n_classes + 1)."""
    return np.column_stack(reference.voted(*reference.neighbors(reference.embed(X)[0], k, **options)))


def weights_by_distance(squared: Array) -> Array:
    """Weights of neighbours that are as the inverses of their distances, that of the nearest 1, (m, k) to (m, k).

    Where it is at distance 0, all that are weigh 1 and the others nothing.
    """
    distances = np.sqrt(squared)
    with np.errstate(invalid="ignore"):
        return np.where(distances == 0.0, 1.0, distances[:, :1] / distances)


def votes(neighbor_classes: Indices, n_classes: int) -> Indices:
    """Number of neighbours of each class, (m, k) codes to (m, n_classes)."""
    counts = np.zeros((len(neighbor_classes), n_classes), dtype=np.int64)
    rows = np.arange(len(neighbor_classes))
    for column in neighbor_classes.T:  # k columns
        counts[rows, column] += 1
    return counts
