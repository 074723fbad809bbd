"""A gallery of embeddings as certifiers see it: Euclidean distances, perturbations before the last linear map."""

from __future__ import annotations

import numpy as np

from certimetric.base.arrays import Array, Indices
from certimetric.base.chunks import DEFAULT_MEMORY
from certimetric.certify.exact.nearest_flip import lower_bounds
from certimetric.certify.radius import bound_radii
from certimetric.certify.reference import ROUNDOFF, ReferenceSet
from certimetric.geometry.mahalanobis import MahalanobisMetric
from certimetric.geometry.norms import Norm


class EmbeddedSet(ReferenceSet):
    """Embeddings of a gallery, and how features move the embedding of a query.

    For an embedding ``W h + b`` of features h it certifies h exactly as a :class:`ReferenceSet` with the metric ``WᵀW``
    does, without the features of the gallery: embeddings need not even be of that form.

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
        self.y = np.ascontiguousarray(y)
        self.linear = W is not None
        if W is not None:
            self.metric = MahalanobisMetric.from_components(W)
        largest = np.abs(points).max(initial=0.0)
        if largest and not 1e-100 < largest < 1e100:
            raise ValueError(
                f"embeddings must have entries between 1e-100 and 1e100, got {largest:.3g} for the largest"
            )
        self.center = points.mean(axis=0)
        self.points, self.point_errors = self.embed(points)
        self.point_errors = self.point_errors + errors

    def embed(self, X: Array) -> tuple[Array, Array]:
        """Embeddings less the centre, (m, k), and a bound on the rounding of each."""
        points = np.ascontiguousarray(X - self.center)
        return points, ROUNDOFF * np.linalg.norm(3.0 * np.abs(points) + np.abs(X), axis=1)

    def dual_points(self, norm: Norm) -> tuple[Array, Array]:
        """Embeddings in the dual coordinates of the norm, and a bound on the error of each row."""
        if self.linear:
            return super().dual_points(norm)
        # Pixels are too many for a matrix that does nothing.
        return np.ascontiguousarray(norm.dual_coordinates(self.points)), self.per_distance(norm) * self.point_errors

    def per_distance(self, norm: Norm) -> float:
        """Bound on the dual norm of a difference over its length."""
        if self.linear:
            return super().per_distance(norm)
        if norm.name not in ("l2", "linf", "l1") or norm.n_features is not None:
            raise ValueError(f"changes of embeddings themselves are measured in l2, linf or l1, got {norm!r}")
        return float(np.sqrt(self.points.shape[1]) if norm.dual_order == 1 else 1.0) * (1 + 1e-9)

    def in_range(self, norm: Norm) -> tuple[Norm, int]:
        """See :meth:`ReferenceSet.in_range`; embeddings that are changed themselves are taken as they are."""
        return super().in_range(norm) if self.linear else (norm, 0)

    def growth(self, norm: Norm) -> tuple[float, float]:
        """How fast an embedding and its rounding grow with a change (see :meth:`ReferenceSet.growth`)."""
        if self.linear:
            return super().growth(norm)
        kappa = self.per_distance(norm)
        return kappa, 3.0 * ROUNDOFF * kappa


def embedding_radii(
    gallery: EmbeddedSet,
    X: Array,
    norm: Norm,
    *,
    n_neighbors: int = 1,
    exact: bool = True,
    exclude: Indices | None = None,
    errors: Array | float = 0.0,
    memory: int = DEFAULT_MEMORY,
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
    exclude : int array of shape (m,), optional
        Row of the gallery that each query must not see; −1 for none.
    errors : array of shape (m,) or float, default=0
        Bound on the distance of each embedding from the true one.
    memory : int
        Bytes for blocks of distances.
    """
    exclude = np.full(len(X), -1, dtype=np.int64) if exclude is None else exclude
    if exact and n_neighbors == 1 and norm.dual_order == 2:
        return lower_bounds(gallery, X, norm, exclude=exclude, errors=errors, memory=memory)
    bound = bound_radii(gallery, X, n_neighbors, norm, exclude=exclude, errors=errors, memory=memory)
    return bound.predicted, bound.radii
