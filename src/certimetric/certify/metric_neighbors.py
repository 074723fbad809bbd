"""What the classifier and the regressor have in common: a metric, the training set under it, and queries of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from numbers import Integral
from typing import Any

import numpy as np
from joblib import effective_n_jobs
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array, issparse
from sklearn.base import BaseEstimator, clone
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted, validate_data

from certimetric.base.arrays import Array, Indices, check_size
from certimetric.base.chunks import chunk_slices
from certimetric.base.lazy_arrays import is_lazy, map_rows, row_blocks
from certimetric.certify.radius import MEMORY_MB, MIB, check_n_neighbors
from certimetric.certify.reference import PointSet, ReferenceSet, nearest_rows
from certimetric.geometry.affine import is_fitted
from certimetric.geometry.diagonal import DiagonalMetric
from certimetric.geometry.features import align, names_of
from certimetric.geometry.mahalanobis import MahalanobisMetric, as_metric
from certimetric.geometry.norms import resolve_norm


class MetricNeighbors(BaseEstimator):
    """Base of what predicts by nearest training instances under a metric, which is given or learned in ``fit``."""

    _parameter_constraints: dict[str, Any] = {
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "metric": "no_validation",
        "norm": "no_validation",
        "memory_mb": [Interval(Integral, 1, None, closed="left")],
        "n_jobs": [Integral, None],
    }

    n_features_in_: int

    def __init__(
        self,
        n_neighbors: int = 3,
        *,
        metric: Any = None,
        norm: Any = "l2",
        memory_mb: int = MEMORY_MB,
        n_jobs: int | None = None,
    ):
        self.n_neighbors = n_neighbors
        self.metric = metric
        self.norm = norm
        self.memory_mb = memory_mb
        self.n_jobs = n_jobs

    def _keep(self, given: Any, X: Array, y: NDArray[Any], codes: Indices) -> None:
        """Fit the learner, if there is one, on what was given, and keep the validated instances with their codes."""
        check_size(X)
        check_n_neighbors(self.n_neighbors, len(X))
        resolve_norm(self.norm)
        self.learner_ = None
        if self.metric is None:
            self.metric_: MahalanobisMetric = DiagonalMetric(np.ones(X.shape[1]))
        elif hasattr(self.metric, "fit") and not is_fitted(self.metric):
            self.learner_ = clone(self.metric).fit(given, y)  # a learner keeps feature names
            self.metric_ = as_metric(self.learner_)
        else:
            self.metric_ = as_metric(self.metric)
            self.metric_.transform(X[:1])  # one message for a metric of another number of features
        self.reference_: PointSet = ReferenceSet(self.metric_, X, codes)
        self.X_ = X

    def kneighbors(self, X: ArrayLike, n_neighbors: int | None = None) -> tuple[Array, Indices]:
        """The nearest training instances of each query under the learned metric, by exact search.

        Parameters
        ----------
        X : array-like, sparse matrix or Dask array of shape (m, d)
        n_neighbors : int, default=None
            How many; None for the k of the estimator.

        Returns
        -------
        distances : array of shape (m, n_neighbors)
            In the learned metric, increasing.
        indices : int array of shape (m, n_neighbors)
            Rows of the training set; the smaller one first where distances are equal.
        """
        check_is_fitted(self, "reference_")
        k = self.n_neighbors if n_neighbors is None else n_neighbors
        check_n_neighbors(k, len(self.X_))
        found = self._map(partial(nearest_rows, self.reference_, k), X, 2 * k)
        return found[:, :k], found[:, k:].astype(np.int64)

    def _validate(self, X: ArrayLike) -> Array:
        check_is_fitted(self, "reference_")
        names = names_of(self.metric)
        X = align(X, names)
        if names is not None and not hasattr(self, "feature_names_in_"):
            X = np.asarray(X)  # its names were those of the metric, if not of the training set
        return check_size(validate_data(self, X, dtype=np.float64, order="C", reset=False))

    def _map(self, function: Callable[..., Array], X: Any, width: int) -> Any:
        """Apply ``function(X, memory=, n_jobs=)`` to queries; where X is a Dask array, lazily to each block of rows.

        Sparse queries become dense a block at a time: what is told of a row is what is told of it as a dense one.
        """
        if issparse(X) and X.ndim == 2:
            blocks = chunk_slices(X.shape[0], 8.0 * X.shape[1], self.memory_mb * MIB) or [slice(0)]
            rows = csr_array(X)
            return np.concatenate([self._map(function, rows[block].toarray(), width) for block in blocks])
        function = partial(function, memory=self.memory_mb * MIB)
        if not is_lazy(X):
            return function(self._validate(X), n_jobs=effective_n_jobs(self.n_jobs))
        X = row_blocks(X)
        if X.shape[1] != self.n_features_in_:
            raise ValueError(
                f"X has {X.shape[1]} features, but {type(self).__name__} is expecting {self.n_features_in_} features "
                f"as input"
            )
        return map_rows(function, X, width)
