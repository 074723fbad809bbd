"""Honest baselines: the Euclidean distance, and the Mahalanobis distance of the data's covariance."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted, validate_data

from certimetric.base.arrays import MODEST, Array, check_size
from certimetric.geometry.diagonal import DiagonalMetric
from certimetric.geometry.mahalanobis import MahalanobisMetric
from certimetric.learners.base import FLOATS, MahalanobisLearner


class Euclidean(MahalanobisLearner):
    """The Euclidean distance as a learner: it learns nothing, and every comparison needs it.

    Attributes
    ----------
    components_ : array of shape (d, d)
        The identity.
    metric_ : MahalanobisMetric
    converged_ : bool
        Always True.

    There are no weights of instances: nothing depends on any.

    Examples
    --------
    >>> from certimetric import Euclidean
    >>> Euclidean().fit([[0.0, 1.0], [2.0, 3.0]]).components_
    array([[1., 0.],
           [0., 1.]])
    """

    _takes_sparse = True

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Euclidean:
        """Remember the number of features of X, shape (n, d), which may be sparse; ``y`` is not used."""
        X = check_size(self._validate(X, ensure_min_samples=1), limit=MODEST)
        self.n_samples_fit_ = X.shape[0]
        self._set_converged(True)
        return self

    @property
    def components_(self) -> Array:  # type: ignore[override]
        """The identity, shape (d, d), made when asked for: the metric and ``transform`` need none."""
        check_is_fitted(self, "n_features_in_")
        return np.eye(self.n_features_in_)

    @property
    def metric_(self) -> MahalanobisMetric:
        """The Euclidean distance as a value, without a matrix."""
        check_is_fitted(self, "n_features_in_")
        training = {"learner": type(self).__name__, "n_samples": self.n_samples_fit_}
        return DiagonalMetric(np.ones(self.n_features_in_), getattr(self, "feature_names_in_", None), training)

    def transform(self, X: ArrayLike) -> Any:
        """Instances as they are, shape (n, d): sparse ones too."""
        check_is_fitted(self, "n_features_in_")
        return validate_data(self, X, dtype=FLOATS, reset=False, copy=True, accept_sparse="csr")

    @property
    def _n_features_out(self) -> int:
        return self.n_features_in_

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = False
        return tags


class Covariance(MahalanobisLearner):
    """The distance of the inverse covariance of the data: ``M = Σ⁺``, Mahalanobis' own.

    Directions in which the data do not vary are left out (their weight is 0).

    Attributes
    ----------
    components_ : array of shape (k, d)
        Whitening; k is the rank of the covariance (one zero row if the data do not vary at all).
    metric_ : MahalanobisMetric
    converged_ : bool
        Always True: there is nothing to iterate.

    Examples
    --------
    >>> from certimetric import Covariance
    >>> Covariance().fit([[0.0], [2.0], [4.0]]).components_
    array([[0.5]])
    """

    def fit(self, X: ArrayLike, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None) -> Covariance:
        """Learn the metric from X, shape (n, d), n at least 2; ``y`` is not used.

        ``sample_weight``, shape (n,) and at least 0, are weights of the instances, of which only the shares count.
        """
        X = check_size(self._validate(X), limit=MODEST)
        X, _, weights = self._weighted(X, None, sample_weight)
        self.n_samples_fit_ = len(X)
        centred = X - (X.mean(axis=0) if weights is None else weights @ X / weights.sum())
        if weights is not None:
            centred *= np.sqrt(weights)[:, None]
        _, singular, axes = scipy.linalg.svd(centred, full_matrices=False)
        scale = np.abs(X).max() * np.sqrt(len(X))  # directions below the rounding of the data do not vary
        varies = singular > max(centred.shape) * np.finfo(float).eps * scale
        L = axes[varies] * (np.sqrt(len(X) - 1) / singular[varies])[:, None]
        self._set_components(L if varies.any() else np.zeros((1, X.shape[1])))
        self._set_converged(True, "" if varies.any() else "ended at the metric 0: the data do not vary")
        return self

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = False
        return tags
