"""Certified radii of the decisions "same, where the distance is at most t", when one side of the pair moves."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from joblib import effective_n_jobs
from numpy.typing import NDArray
from sklearn.utils.validation import check_array

from certimetric.base.arguments import require
from certimetric.base.arrays import MODEST, Array, check_size
from certimetric.base.chunks import chunk_slices, map_chunks
from certimetric.base.rounding import INFLATED_UNIT, UNIT_ROUNDOFF
from certimetric.certify.kernels import rounding_of_distances
from certimetric.certify.pair_kernels import certify_pair_rows, pair_distance_rows
from certimetric.certify.reference import MetricMaps, dual_per_distance, entries, power_of_two_times
from certimetric.constraints.tuples import Tuples
from certimetric.geometry.diagonal import DiagonalMetric
from certimetric.geometry.features import align
from certimetric.geometry.mahalanobis import MahalanobisMetric, as_metric
from certimetric.geometry.norms import Norm, resolve_norm

_CHUNKS = 16  # of pairs for each thread


def pair_radii(metric: Any, pairs: Any, threshold: float, *, norm: Any = "l2", n_jobs: int | None = None) -> Array:
    """Certified radius of the decision about each pair: accepted where the distance is at most the threshold.

    No change of the *first* instance of a pair, of size at most the radius, changes the decision; the second one, which
    is enrolled, stays as it is. With w the difference and M = V diag(s) Vᵀ, z = Vᵀw, the smallest change is, in l2, ::

        rejected   √Σ (z μs / (1 + μs))²,  μ ≥ 0 with Σ s z² / (1 + μs)² = t²               (into the ellipsoid)
        accepted   √Σ (z μs / (1 − μs))²,  0 ≤ μ < 1/s_max with Σ s z² / (1 − μs)² = t²    (out of it)

    where, if z vanishes on the top eigenspace, the rest of t² is gone along it with μ = 1/s_max. Radii are these sizes,
    less what rounding can do to the decision that is *computed* at the changed instance, as for
    :func:`certimetric.certified_radius`: exact for l2 and ellipsoids, whichever features may change. In l1 they are
    exact for accepted pairs. Otherwise they are lower bounds: for rejected pairs by a plane that separates, for
    accepted ones by ``d² + 2 ‖Mw‖_* ρ + ‖L‖² ρ² ≤ t²``.

    Parameters
    ----------
    metric : MahalanobisMetric or fitted learner
    pairs : array-like of shape (m, 2, d), or tuple of two array-likes of shape (m, d)
        Probes and enrolled instances; data frames in a tuple are taken by the names of their columns.
    threshold : float
        Largest distance that is accepted.
    norm : {"l2", "linf", "l1"}, array-like of shape (d, d) or Norm, default="l2"
        How a change is measured; a matrix A stands for ``√(δᵀAδ)``. ``norm.restrict`` names features that can change.
    n_jobs : int, default=None
        Threads; None for 1, −1 for all cores.

    Returns
    -------
    radii : array of shape (m,)
        In units of the data; infinity where no change can change the decision.

    Raises
    ------
    ValueError
        If the threshold is NaN, or the features or numbers of instances do not match.

    References
    ----------
    That leaving an ellipsoid, which is not convex, is solved exactly by one multiplier is the S-lemma; the search for
    it that of Moré & Sorensen, *Computing a trust region step* [more1983computing], 1983.

    Examples
    --------
    >>> from certimetric import MahalanobisMetric
    >>> metric = MahalanobisMetric.from_matrix([[4.0, 0.0], [0.0, 1.0]])
    >>> pair_radii(metric, [[[0.0, 1.0], [0.0, 0.0]], [[3.0, 0.0], [0.0, 0.0]]], threshold=2.0).round(9)
    array([0.81649658, 2.        ])
    """
    pairs, metric = checked_pairs(metric, pairs)
    return PairCertifier(metric).certify(pairs, check_threshold(threshold), resolve_norm(norm), n_jobs=n_jobs)[1]


def check_threshold(threshold: Any) -> float:
    """A distance up to which pairs are accepted.

    Raises
    ------
    ArgumentError
        If it is NaN or no number.
    """
    try:
        value = float(threshold)
    except (TypeError, ValueError):
        value = np.nan
    require(not np.isnan(value), "threshold", "must be a distance", threshold)
    return value


def checked_pairs(metric: Any, pairs: Any) -> tuple[Tuples, MahalanobisMetric]:
    """Pairs as users give them (see :func:`pair_radii`), and the metric, whose features they have."""
    value = as_metric(metric)
    if isinstance(pairs, tuple) and len(pairs) == 2:
        sides = []
        for side, name in zip(pairs, ("probes", "enrolled")):
            rows = check_array(align(side, value.feature_names, name), dtype=np.float64, order="C", input_name=name)
            sides.append(check_size(rows, name, limit=MODEST))
        probes, enrolled = sides
        if probes.shape != enrolled.shape:
            raise ValueError(
                f"pairs must be two arrays of equal shape, probes and enrolled, got {probes.shape} and {enrolled.shape}"
            )
        pairs = paired(probes, enrolled)
    elif not isinstance(pairs, Tuples):
        pairs = Tuples.of(pairs, 2)
    if pairs.n_features != value.n_features:
        raise ValueError(f"the metric was made for {value.n_features} features, but the pairs have {pairs.n_features}")
    return pairs, value


def paired(probes: Array, enrolled: Array) -> Tuples:
    """Rows of two arrays as pairs."""
    m = np.arange(len(probes))
    return Tuples(np.concatenate([probes, enrolled]), np.stack([m, len(probes) + m], axis=1))


class PairCertifier:
    """Distances and certificates of pairs under a metric.

    Each pair gets the same digits whichever are beside it: thresholds are distances that occur.

    Parameters
    ----------
    metric : MahalanobisMetric
    """

    def __init__(self, metric: MahalanobisMetric):
        self.maps = MetricMaps.of(metric)
        self._diagonal = isinstance(self.maps.metric, DiagonalMetric)
        self._L = np.atleast_2d(entries(self.maps.metric))

    @cached_property
    def _lengths(self) -> Array:
        return np.asarray(np.linalg.norm(self._L, axis=0))

    def distances(self, pairs: Tuples, *, n_jobs: int | None = None) -> Array:
        """Distances of pairs, shape (m,)."""
        found = np.empty(len(pairs))

        def fill(rows: slice) -> None:
            pair_distance_rows(
                pairs.points, pairs.index[rows], self._L, self._diagonal, self.maps.exponent, found[rows]
            )

        _in_threads(fill, len(pairs), n_jobs)
        return check_size(found, "the distances of the pairs")

    def certify(
        self, pairs: Tuples, threshold: float, norm: Norm, *, directions: Array | None = None, n_jobs: int | None = None
    ) -> tuple[NDArray[np.bool_], Array]:
        """Which pairs are accepted, and certified radii, each of shape (m,).

        ``directions``, of shape (m, r), are such that planes across them bound rejected pairs; those of the l2 problem
        by default.
        """
        m = len(pairs)
        norm.norm(np.zeros(pairs.n_features))  # one message for a norm of other features
        if not 0.0 <= threshold < np.inf:
            return np.full(m, threshold > 0.0), np.full(m, np.inf)  # all or none, wherever they are
        accepted, radii, units = np.empty(m, dtype=bool), np.empty(m), np.empty(m, dtype=np.int64)
        data, exponent = separated(self.maps, norm)
        # A norm that mixes features needs the matrix: the products are the same, and so are the distances.
        L = self._L if data[1] else self.maps.metric.components
        lines = np.empty((0, len(L))) if directions is None else directions

        def fill(rows: slice) -> None:
            of_rows = lines[rows] if len(lines) else lines
            figures = accepted[rows], radii[rows], units[rows]
            known = threshold, L, self._lengths, self.maps.exponent, data, of_rows
            certify_pair_rows(pairs.points, pairs.index[rows], *known, *figures)

        _in_threads(fill, m, n_jobs)
        return accepted, power_of_two_times(radii, units + exponent)


def separated(maps: MetricMaps, norm: Norm) -> tuple[tuple[Any, ...], int]:
    """What compiled kernels read of a metric and a norm, and the exponent of the units of size.

    Parameters
    ----------
    maps : MetricMaps
    norm : Norm

    Returns
    -------
    data : tuple
        Order of the dual norm; whether metric and norm take each feature for itself; singular vectors of B (rows) and
        squared singular values; Bᵀ, of a diagonal one the entry and the feature of each row; squared lengths of its
        rows; constants.
    exponent : int
    """
    norm, exponent = maps.in_range(norm)
    kappa, growth = maps.growth(norm)
    order = float(norm.dual_order)
    weights = maps.diagonal(norm)
    relative = rounding_of_distances(maps.metric.n_components) + 8.0 * UNIT_ROUNDOFF
    gamma = maps.gamma()
    sizes = np.abs(entries(maps.metric))
    largest = float(sizes.max() if sizes.ndim == 1 else np.linalg.norm(sizes, 2))
    if weights is not None:
        values, places = norm.dual_coordinates(weights), norm.features(len(weights))
        squares = np.zeros(len(weights))
        squares[places] = values**2
        BT = np.column_stack([values, places.astype(float)])
        U = np.empty((0, 0))
        growth += 4.0 * UNIT_ROUNDOFF * kappa  # a product by the weight, and one by the unit of a feature
        skew, kappa_absolute, column_squares = 0.0, kappa, values**2
    else:
        B, row_errors, _ = maps.dual_rows(norm)
        U, squares, skew, residual = _singular(B)
        BT = np.ascontiguousarray(B.T)
        growth += float(np.linalg.norm(row_errors)) + residual
        kappa_absolute = dual_per_distance(np.abs(B), norm.dual_order)
        column_squares = np.einsum("ij,ij->j", B, B) * (1.0 + (len(B) + 4) * INFLATED_UNIT)
    diagonal = weights is not None
    constants = np.array(
        [kappa, growth * (1.0 + 1e-9), relative + 2.0 * skew, skew, largest * (1.0 + 1e-9), gamma,
         float(squares.max(initial=0.0)), kappa_absolute, np.sqrt(maps.metric.n_components)]
    )  # fmt: skip
    return (order, diagonal, U, squares, BT, column_squares, constants), exponent


def _singular(B: Array) -> tuple[Array, Array, float, float]:
    """Left singular vectors of B (rows, all r of them), squared singular values, and how far rounding has put them off.

    With the vectors U and the values s, B is ``Uᵀ diag(√s) Q`` for some Q of norm 1 at most, but for the residual.

    Returns
    -------
    U, squares : arrays of shape (r, r) and (r,)
    skew : float
        Bound on ‖UᵀU − I‖ with the rounding of products by U, relative to the length of what is multiplied.
    residual : float
        Bound on the Frobenius norm of the residual.
    """
    r, p = B.shape
    U, values, V = np.linalg.svd(B, full_matrices=r > p)
    k = len(values)
    part = U[:, :k] * values
    residual = np.linalg.norm(B - part @ V[:k]) + (k + 4) * UNIT_ROUNDOFF * np.linalg.norm(np.abs(part) @ np.abs(V[:k]))
    skew = np.linalg.norm(U.T @ U - np.eye(r)) + 2.0 * r * (r + 4) * UNIT_ROUNDOFF
    stretch = np.linalg.norm(V[:k] @ V[:k].T - np.eye(k)) + k * (p + 4) * UNIT_ROUNDOFF
    squares = np.zeros(r)
    squares[:k] = (values * (1.0 + stretch)) ** 2
    residual += 4.0 * UNIT_ROUNDOFF * float(values[0]) * np.sqrt(k)  # squares are rounded
    return np.ascontiguousarray(U.T), squares, float(skew), float(residual)


def _in_threads(fill: Any, m: int, n_jobs: int | None) -> None:
    jobs = effective_n_jobs(n_jobs)
    step = -(-m // (_CHUNKS * jobs)) if m else 1
    map_chunks(fill, chunk_slices(m, 1.0, step * jobs, jobs), jobs)
