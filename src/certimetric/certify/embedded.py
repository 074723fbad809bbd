"""A gallery of embeddings as certifiers see it: Euclidean distances, perturbations before the last linear map."""

from __future__ import annotations

from typing import Any

import numpy as np

from certimetric.base.arrays import Array, Indices
from certimetric.base.rounding import UNIT_ROUNDOFF
from certimetric.certify.exact.nearest_flip import lower_bounds
from certimetric.certify.radius import PredictedQueries, bound_radii
from certimetric.certify.reference import PointSet
from certimetric.geometry.diagonal import DiagonalMetric
from certimetric.geometry.mahalanobis import MahalanobisMetric
from certimetric.geometry.norms import Norm


class EmbeddedSet(PointSet):
    """Embeddings of a gallery, and how features move the embedding of a query.

    For an embedding ``W h + b`` of features h it certifies h exactly as the instances themselves under the metric
    ``WᵀW`` do, without the features of the gallery: embeddings need not even be of that form.

    A radius is about the embedding as a function of real numbers, off by ``errors`` at the query, and counts the
    rounding of the search at every point of the ball. What rounds in a network that is given the changed query is not
    known here, and no part of it.

    Parameters
    ----------
    points : array of shape (n, k)
        Embeddings.
    y : int array of shape (n,)
        Class codes.
    W : array of shape (k, p), optional
        None where the perturbation is one of the embedding itself.
    errors : array of shape (n,) or float, default=0
        Bound on the distance of each embedding from the true one.

    Raises
    ------
    ValueError
        If squares of embeddings would over- or underflow.
    """

    def __init__(self, points: Array, y: Indices, W: Array | None = None, errors: Array | float = 0.0):
        largest = np.abs(points).max(initial=0.0)
        if largest and not 1e-100 < largest < 1e100:
            raise ValueError(
                f"embeddings must have entries between 1e-100 and 1e100, got {largest:.3g} for the largest"
            )
        self.linear, self.center = W is not None, points.mean(axis=0)
        # Pixels are too many for a matrix that does nothing.
        metric = DiagonalMetric(np.ones(points.shape[1])) if W is None else MahalanobisMetric.from_components(W)
        points, rounding = self.embed(points)
        super().__init__(metric, points, rounding + errors, y)

    def embed(self, X: Array) -> tuple[Array, Array]:
        """Embeddings less the centre, (m, k), and a bound on the rounding of each."""
        points = np.ascontiguousarray(X - self.center)
        return points, UNIT_ROUNDOFF * np.linalg.norm(3.0 * np.abs(points) + np.abs(X), axis=1)

    def per_distance(self, norm: Norm) -> float:
        """Bound on the dual norm of a difference over its length."""
        if not self.linear and (norm.name not in ("l2", "linf", "l1") or norm.n_features is not None):
            raise ValueError(f"changes of embeddings themselves are measured in l2, linf or l1, got {norm!r}")
        return super().per_distance(norm)


def embedding_radii(
    gallery: EmbeddedSet, X: Array, norm: Norm, *, n_neighbors: int = 1, exact: bool = True, **options: Any
) -> tuple[Indices, Array]:
    """Predicted class codes of embedded queries, and lower bounds on the change of their features that alters them.

    Parameters
    ----------
    gallery : EmbeddedSet
    X : array of shape (m, k)
        Embeddings of the queries.
    norm : Norm
        Of the change.
    n_neighbors : int, default=1
    exact : bool, default=True
        For one neighbour and l2 the smallest change itself, rounded down; otherwise the bound by triplets.
    **options
        ``exclude``, ``errors`` (bounds on the distance of each embedding from the true one) and ``memory`` of
        :meth:`~certimetric.certify.radius.PredictedQueries.of`.
    """
    if exact and n_neighbors == 1 and norm.dual_order == 2:
        queries = PredictedQueries.of(gallery, X, n_neighbors, **options)
        return queries.predicted, lower_bounds(queries, norm)
    return bound_radii(gallery, X, n_neighbors, norm, **options)
