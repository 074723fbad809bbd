"""Honest baselines: the Euclidean distance, and the Mahalanobis distance of the data's covariance."""

from __future__ import annotations

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike
from sklearn.utils.validation import validate_data

from certimetric.geometry.features import MODEST, check_size
from certimetric.learners.base import MahalanobisLearner


class Euclidean(MahalanobisLearner):
    """The Euclidean distance as a learner: it learns nothing, and every comparison needs it.

    Attributes
    ----------
    components_ : array of shape (d, d)
        The identity.
    metric_ : MahalanobisMetric

    Examples
    --------
    >>> from certimetric import Euclidean
    >>> Euclidean().fit([[0.0, 1.0], [2.0, 3.0]]).components_
    array([[1., 0.],
           [0., 1.]])
    """

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Euclidean:
        """Remember the number of features of X, shape (n, d); ``y`` is not used."""
        X = check_size(validate_data(self, X, dtype=np.float64), limit=MODEST)
        self.n_samples_fit_ = len(X)
        self.components_ = np.eye(X.shape[1])
        return self

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

    Examples
    --------
    >>> from certimetric import Covariance
    >>> Covariance().fit([[0.0], [2.0], [4.0]]).components_
    array([[0.5]])
    """

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Covariance:
        """Learn the metric from X, shape (n, d), n at least 2; ``y`` is not used."""
        X = check_size(validate_data(self, X, dtype=np.float64, ensure_min_samples=2), limit=MODEST)
        self.n_samples_fit_ = len(X)
        centred = X - X.mean(axis=0)
        _, singular, axes = scipy.linalg.svd(centred, full_matrices=False)
        scale = np.abs(X).max() * np.sqrt(len(X))  # directions below the rounding of the data do not vary
        varies = singular > max(centred.shape) * np.finfo(float).eps * scale
        L = axes[varies] * (np.sqrt(len(X) - 1) / singular[varies])[:, None]
        self._set_components(L if varies.any() else np.zeros((1, X.shape[1])))
        return self

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = False
        return tags
