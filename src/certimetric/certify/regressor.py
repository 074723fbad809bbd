"""A k-nearest-neighbours regressor that says how far a change of the input can move each prediction."""

from __future__ import annotations

from functools import partial
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import RegressorMixin, _fit_context
from sklearn.utils.validation import check_is_fitted, validate_data

from certimetric.base.arguments import require
from certimetric.base.arrays import check_size
from certimetric.certify.metric_neighbors import MetricNeighbors
from certimetric.certify.sums import bounds_of_means, certified_means, mean_rows
from certimetric.geometry.features import align, names_of
from certimetric.geometry.norms import resolve_norm


class CertifiedKNeighborsRegressor(RegressorMixin, MetricNeighbors):
    """k-nearest-neighbours regressor under a learned metric, with bounds on what a change of the input does to it.

    It predicts the mean of the numbers of the k nearest training instances. An instance can be among these after a
    change of size ε only if fewer than k others stay nearer than it under every such change, and it stays among them if
    too few can ever be nearer: the bounds are the least and the largest mean of what is left.

    Queries may be a Dask array, as in :class:`certimetric.CertifiedKNeighborsClassifier`.

    Parameters
    ----------
    n_neighbors : int, default=3
        k.
    metric : learner, fitted learner, MahalanobisMetric or None, default=None
        As in :class:`certimetric.CertifiedKNeighborsClassifier`. Of the learners :class:`certimetric.MLKR` learns from
        numbers; None is the Euclidean distance.
    norm : {"l2", "linf", "l1"}, array-like of shape (d, d) or Norm, default="l2"
        How a change is measured; a matrix A stands for ``√(δᵀAδ)``, and ``norm.restrict(mutable)`` leaves some features
        unchanged.
    memory_mb : int, default=64
        Bound on the memory for blocks of distances, in MiB.
    n_jobs : int, default=None
        Threads; None for 1, −1 for all cores.

    Attributes
    ----------
    metric_ : MahalanobisMetric
        The metric in use.
    learner_ : learner or None
        The learner that was fitted here, if an unfitted one was given.
    X_ : array of shape (n, d)
        Training instances.
    y_ : array of shape (n,)
        Their numbers.
    reference_ : PointSet
        The training instances as certificates see them.

    Notes
    -----
    Bounds hold for the numbers that ``predict`` computes at every changed query, rounding included
    (``docs/certificates.md``); ties count as changes. The time of a query grows with the square of the number of
    instances that a change can bring among the nearest.

    Examples
    --------
    >>> knn = CertifiedKNeighborsRegressor(1).fit([[0.0], [4.0], [8.0]], [10.0, 20.0, 60.0])
    >>> knn.predict([[3.0]]), knn.predict_interval([[3.0]], 1.5)
    (array([20.]), (array([10.]), array([20.])))
    >>> knn.certified_radius([[3.0]], 15.0).round(3)
    array([3.])
    """

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: ArrayLike, y: ArrayLike) -> CertifiedKNeighborsRegressor:
        """Fit the learner, if there is one, and keep the training set.

        Parameters
        ----------
        X : array-like of shape (n, d)
        y : array-like of shape (n,)
            Numbers.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If k exceeds n, on NaN or infinity, or if a given metric is for another number of features.
        """
        given = align(X, names_of(self.metric))
        X, y = validate_data(self, given, y, dtype=np.float64, order="C", y_numeric=True)
        targets = check_size(np.array(y, dtype=np.float64), "y")
        self._keep(given, X, y, np.zeros(len(X), dtype=np.int64))
        self.y_ = targets
        return self

    def predict(self, X: ArrayLike) -> Any:
        """Means of the numbers of the k nearest, (m, d) to (m,)."""
        check_is_fitted(self, "y_")
        return self._map(partial(mean_rows, self.reference_, self.y_, self.n_neighbors), X, 1)[:, 0]

    def predict_interval(self, X: ArrayLike, eps: float) -> tuple[Any, Any]:
        """Bounds on what is predicted after a change of size at most ε.

        Parameters
        ----------
        X : array-like or Dask array of shape (m, d)
        eps : float
            At least 0; in the units of X and the norm of the regressor.

        Returns
        -------
        low, high : arrays of shape (m,)
            No change of that size or smaller brings a prediction below or above them.
        """
        check_is_fitted(self, "y_")
        holds = isinstance(eps, Real) and 0.0 <= eps < np.inf
        require(holds, "eps", "must be a size of at least 0", eps)
        known = self.reference_, self.y_, self.n_neighbors, resolve_norm(self.norm), float(eps)
        bounds = self._map(partial(bounds_of_means, *known), X, 2)
        return bounds[:, 0], bounds[:, 1]

    def certified_radius(self, X: ArrayLike, tolerance: float) -> Any:
        """Size of change under which each prediction moves by no more than a tolerance.

        Parameters
        ----------
        X : array-like or Dask array of shape (m, d)
        tolerance : float
            In units of y, at least 0.

        Returns
        -------
        radii : array of shape (m,)
            To a millionth, the largest that the bounds of :meth:`predict_interval` allow: 0 where nothing is certified,
            infinity where no k numbers have a mean farther off.
        """
        check_is_fitted(self, "y_")
        holds = isinstance(tolerance, Real) and 0.0 <= tolerance < np.inf
        require(holds, "tolerance", "must be a difference of at least 0", tolerance)
        known = self.reference_, self.y_, self.n_neighbors, resolve_norm(self.norm), float(tolerance)
        return self._map(partial(certified_means, *known), X, 1)[:, 0]
