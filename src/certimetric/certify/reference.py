"""The training set as predictor and certifier both see it: one set of coordinates, with their rounding errors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from certimetric.geometry.diagonal import DiagonalMetric
from certimetric.geometry.mahalanobis import MahalanobisMetric
from certimetric.geometry.neighbors import DEFAULT_MEMORY, nearest_neighbors
from certimetric.geometry.norms import Norm

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

_ROUNDOFF = 2.0**-53


class ReferenceSet:
    """Training instances in the coordinates of a metric, ready to be predicted from and certified.

    Parameters
    ----------
    metric : MahalanobisMetric
    X : array of shape (n, d)
    y : int array of shape (n,)
        Class codes.

    Attributes
    ----------
    points : array of shape (n, r)
        ``(X − center) Lᵀ``, in which the learned distance is Euclidean.
    point_errors : array of shape (n,)
        Bound on the Euclidean norm of the rounding error of every row of ``points``.
    """

    def __init__(self, metric: MahalanobisMetric, X: Array, y: Indices):
        self.metric, self.y = metric, np.ascontiguousarray(y)
        self.center = X.mean(axis=0)  # distances are taken near the origin, where they lose the fewest digits
        self.points, self.point_errors = self.embed(X)

    def embed(self, X: Array) -> tuple[Array, Array]:
        """Coordinates of instances, shape (m, r), and a bound on the rounding error of each row."""
        centred = X - self.center
        points = np.ascontiguousarray(_times_components(centred, self.metric))
        # An inner product of d terms errs by at most γ_d Σ|terms|; the subtraction of the center adds one rounding.
        gamma = (X.shape[1] + 4) * _ROUNDOFF
        sizes = _times_components(np.abs(X) + np.abs(self.center), self.metric, absolute=True)
        errors = gamma * np.linalg.norm(sizes, axis=1)
        return points, errors

    def dual_points(self, norm: Norm) -> tuple[Array, Array]:
        """``X M`` in the dual coordinates of the norm, shape (n, p), and a bound on the error of each row.

        The dual norm ‖M(x_l − x_j)‖_* is a plain vector norm of a difference of these rows.
        """
        if (weights := self._diagonal(norm)) is not None:
            coordinates = np.ascontiguousarray(norm.dual_coordinates(self.points * weights))
            gamma = 8 * _ROUNDOFF  # of a product by a weight and one by the unit of a feature
            errors = gamma * np.linalg.norm(coordinates, norm.dual_order, axis=1)
            return coordinates, errors + self.point_errors * self.per_distance(norm)
        map_ = self.dual_map(norm)
        coordinates = np.ascontiguousarray(self.points @ map_)
        gamma = (sum(map_.shape) + 4) * _ROUNDOFF
        spread = np.abs(self.points) @ np.abs(map_) * gamma + self.point_errors[:, None] * np.linalg.norm(map_, axis=0)
        return coordinates, np.linalg.norm(spread, norm.dual_order, axis=1)

    def dual_map(self, norm: Norm) -> Array:
        """B of shape (r, p) with ``dual norm of Lᵀw = ‖wB‖`` of the norm's dual order."""
        B = norm.dual_coordinates(self.metric.components)
        if norm.dual_order == 2 and B.shape[1] > B.shape[0]:
            # A rotation makes the rows as short as the rank: ‖wB‖ = ‖w U S‖ with the thin SVD of B.
            U, S, _ = np.linalg.svd(B, full_matrices=False)
            B = U * S
        return np.ascontiguousarray(B)

    def per_distance(self, norm: Norm) -> float:
        """Bound on the dual norm of Lᵀw over ‖w‖₂ ≤ 1, for discarding opponents by their distance alone."""
        if (weights := self._diagonal(norm)) is not None:
            sizes = norm.dual_coordinates(np.abs(weights))
            bound = np.linalg.norm(sizes) if norm.dual_order == 1 else sizes.max(initial=0.0)
            return float(bound) * (1.0 + 1e-9)
        return dual_per_distance(self.dual_map(norm), norm.dual_order)

    def _diagonal(self, norm: Norm) -> Array | None:
        """Weights of the features, where metric and norm take each for itself, so that no matrix is needed."""
        return self.metric.weights if norm.diagonal and isinstance(self.metric, DiagonalMetric) else None

    def lift_map(self, norm: Norm) -> Array:
        """Matrix of shape (p, d) that takes a vector η in the dual coordinates to the perturbation ``η @ lift``.

        The perturbation has the size of η in the norm's own order, and moves a query by ``dual_map(norm) @ η``.
        """
        d = self.metric.n_features
        to_features = norm.dual_coordinates(np.eye(d))  # (d, p'): vᵀδ = dual_coordinates(v)ᵀ η' for δ = it @ η'
        B = norm.dual_coordinates(self.metric.components)
        if norm.dual_order == 2 and B.shape[1] > B.shape[0]:
            _, _, Vt = np.linalg.svd(B, full_matrices=False)
            return np.ascontiguousarray(Vt @ to_features.T)
        return np.ascontiguousarray(to_features.T)

    def neighbors(
        self,
        points: Array,
        k: int,
        *,
        exclude: Indices | None = None,
        memory: int = DEFAULT_MEMORY,
        n_jobs: int = 1,
    ) -> tuple[Indices, Array]:
        """The k nearest training instances of embedded queries, and their squared distances."""
        return nearest_neighbors(points, self.points, k, exclude=exclude, memory=memory, n_jobs=n_jobs)

    def predict(
        self,
        points: Array,
        k: int,
        *,
        exclude: Indices | None = None,
        memory: int = DEFAULT_MEMORY,
        n_jobs: int = 1,
    ) -> Indices:
        """Class code with the most votes of the k nearest; the smaller code where votes are equal."""
        indices, _ = self.neighbors(points, k, exclude=exclude, memory=memory, n_jobs=n_jobs)
        return votes(self.y[indices], int(self.y.max()) + 1).argmax(axis=1)


def _times_components(X: Array, metric: MahalanobisMetric, absolute: bool = False) -> Array:
    """``X Lᵀ``, or ``X |L|ᵀ``."""
    if isinstance(metric, DiagonalMetric):
        return X * (np.abs(metric.weights) if absolute else metric.weights)
    return X @ (np.abs(metric.components) if absolute else metric.components).T


def dual_per_distance(B: Array, order: float) -> float:
    """Bound on ‖wB‖ of the given order over ‖w‖₂ ≤ 1."""
    largest = float(np.linalg.norm(B, 2))
    if order == 2:
        bound = largest
    elif order == 1:
        bound = min(largest * np.sqrt(B.shape[1]), float(np.linalg.norm(B, axis=0).sum()))
    else:
        bound = float(np.linalg.norm(B, axis=0).max())
    return bound * (1.0 + 1e-9)


def nearest_rows(reference: ReferenceSet, k: int, X: Array, *, memory: int = DEFAULT_MEMORY, n_jobs: int = 1) -> Array:
    """Distances of the k nearest training instances, then their row numbers, side by side: shape (m, 2k)."""
    indices, squared = reference.neighbors(reference.embed(X)[0], k, memory=memory, n_jobs=n_jobs)
    return np.hstack([np.sqrt(squared), indices])


def vote_rows(
    reference: ReferenceSet, k: int, n_classes: int, X: Array, *, memory: int = DEFAULT_MEMORY, n_jobs: int = 1
) -> Array:
    """Votes of the k nearest for each class, shape (m, n_classes)."""
    indices, _ = reference.neighbors(reference.embed(X)[0], k, memory=memory, n_jobs=n_jobs)
    return votes(reference.y[indices], n_classes).astype(np.float64)


def votes(neighbor_classes: Indices, n_classes: int) -> Indices:
    """Number of neighbours of each class, (m, k) codes to (m, n_classes)."""
    counts = np.zeros((len(neighbor_classes), n_classes), dtype=np.int64)
    rows = np.arange(len(neighbor_classes))
    for column in neighbor_classes.T:  # k columns
        counts[rows, column] += 1
    return counts
