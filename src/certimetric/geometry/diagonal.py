"""The Euclidean distance, of features in units of their own or not, without a matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import issparse

from certimetric.base.arrays import Array, check_size
from certimetric.geometry.mahalanobis import MahalanobisMetric


class DiagonalMetric(MahalanobisMetric):
    """A metric with diagonal components, of which d numbers are kept instead of d²: identity metrics of wide data.

    It is equal to the metric of ``np.diag(weights)``, weights (d,), and does the same arithmetic; ``components`` and
    ``matrix`` are made when asked for.

    Examples
    --------
    >>> metric = DiagonalMetric([2.0, 1.0])
    >>> metric.distance([0.0, 0.0], [2.0, 3.0])
    5.0
    >>> metric == MahalanobisMetric.from_components([[2.0, 0.0], [0.0, 1.0]])
    True
    """

    weights: Array

    def __init__(
        self, weights: ArrayLike, feature_names: Sequence[str] | None = None, training: Mapping[str, Any] | None = None
    ):
        w = np.array(weights, dtype=float)
        if w.ndim != 1 or not w.size or not np.isfinite(w).all():
            raise ValueError(f"weights must be finite numbers of shape (d,), got an array of shape {w.shape}")
        w.setflags(write=False)
        # What a metric of one row of components is checked for holds of its names here, too.
        checked = MahalanobisMetric.from_components(w[None], feature_names=feature_names, training=training)
        for name, value in (("weights", w), ("feature_names", checked.feature_names), ("training", checked.training)):
            object.__setattr__(self, name, value)

    @cached_property
    def components(self) -> Array:
        """L, shape (d, d)."""
        L = np.diag(self.weights)
        L.setflags(write=False)
        return L

    @property
    def matrix(self) -> Array:
        """M, shape (d, d)."""
        return np.diag(self.weights**2)

    @property
    def n_features(self) -> int:
        """d, the number of features."""
        return len(self.weights)

    @property
    def n_components(self) -> int:
        """d, the number of rows of L."""
        return len(self.weights)

    def spectrum(self) -> Array:
        """Eigenvalues of M in decreasing order, shape (d,)."""
        return np.sort(self.weights**2)[::-1]

    def _map(self, X: Any, name: str = "X") -> Array:
        if issparse(X):
            X = X.toarray()  # as large as the result
        with np.errstate(over="ignore"):  # told by the next line
            return check_size(np.asarray(X * self.weights), f"{name}, mapped by the metric,")

    def _divided(self, scale: Array) -> MahalanobisMetric:
        return DiagonalMetric(self.weights / scale, self.feature_names, self.training)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, DiagonalMetric):
            return np.array_equal(self.weights, other.weights) and self.feature_names == other.feature_names
        return super().__eq__(other)

    __hash__ = MahalanobisMetric.__hash__

    def __reduce__(self) -> tuple[Any, ...]:
        return DiagonalMetric, (self.weights, self.feature_names, self.training)  # not the matrix, if it was made
