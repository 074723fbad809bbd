"""Learning from tuples: pairs, triplets, quadruplets; what they are told apart by, and how well."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import _fit_context
from sklearn.metrics import roc_auc_score
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from certimetric.base.arrays import Array, Indices
from certimetric.constraints.preprocessors import check_preprocessor, points_of
from certimetric.constraints.tuples import Tuples, check_pair_labels, dimensions, is_tuples
from certimetric.geometry.kernels import pair_squared_distances
from certimetric.learners.base import MahalanobisLearner
from certimetric.learners.calibration import calibrated_threshold, check_calibration


def _of_tuples(learner: Any) -> bool:
    """Answers about tuples are for learners of tuples: those fitted on labels transform instances."""
    return not getattr(learner, "learned_from_labels_", False)


class TupleLearner(MahalanobisLearner):
    """Base of the learners that learn from tuples, and from labels by making tuples of them.

    :meth:`fit` tells them apart by shape: tuples are of shape (m, t, d), or (m, t) of indicators where there is a
    ``preprocessor``; labelled instances of shape (n, d), or (n,) of indicators. A learner defines ``_learn_tuples`` and
    ``_learn_labels``.

    Attributes
    ----------
    learned_from_labels_ : bool
        Whether :meth:`fit` was given labelled instances; ``predict``, ``decision_function`` and ``score``, which are
        about tuples, are then not there.
    """

    tuple_size: ClassVar[int]
    preprocessor: Any
    _learn_labels: Callable[..., Any]

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: ArrayLike, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None) -> Any:
        """Learn from tuples, or from labelled instances.

        Parameters
        ----------
        X : array-like of shape (m, t, d) or (n, d)
            Tuples, or instances; with a ``preprocessor`` also their indicators, of shape (m, t) or (n,).
        y : array-like of shape (m,) or (n,), optional
            For pairs +1 (similar) or −1 (dissimilar); for instances their class labels; not used for other tuples.
        sample_weight : array-like of shape (n,), optional
            Of labelled instances in memory, at least 0; 0 is as good as absent, and only the shares count. They
            multiply with the weights of classes.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            On NaN or infinity, shapes, labels or weights that do not fit, or data that nothing can be learned of.
        PreprocessorError
            If the preprocessor does not give a point for each indicator.
        """
        preprocessor = check_preprocessor(self.preprocessor)
        if not is_tuples(X, preprocessor is not None):
            if preprocessor is not None and dimensions(X) == 1:
                X = points_of(np.asarray(X), preprocessor)
            self._forget("threshold_", "learned_from_labels_")
            self._learn_labels(X, y, sample_weight)
            self.learned_from_labels_ = True
            return self
        if sample_weight is not None:
            raise ValueError("sample_weight must be None for tuples: instances have weights")
        tuples = Tuples.of(X, self.tuple_size, preprocessor)
        labels = self._labels_of(tuples, y)
        self._forget("classes_", "feature_names_in_", "threshold_", "learned_from_labels_")
        self._check_width(tuples.n_features, reset=True)
        self.n_samples_fit_ = len(tuples.points)
        self._learn_tuples(tuples, labels)
        self.learned_from_labels_ = False
        self._after_tuples(tuples, labels)
        return self

    def _learn_tuples(self, tuples: Tuples, y: Indices | None) -> Any:
        raise NotImplementedError

    def _labels_of(self, tuples: Tuples, y: Any) -> Indices | None:
        return None

    def _after_tuples(self, tuples: Tuples, y: Indices | None) -> None:
        """What is chosen of the training tuples once the metric is there."""

    def _forget(self, *names: str) -> None:
        for name in names:
            if hasattr(self, name):
                delattr(self, name)

    def _given(self, tuples: ArrayLike, size: int | None = None) -> Tuples:
        """Tuples to answer about, as wide as those that were learned from."""
        check_is_fitted(self, "components_")
        given = Tuples.of(tuples, size or self.tuple_size, check_preprocessor(self.preprocessor))
        self._check_width(given.n_features, reset=False)
        return given

    def _distances(self, given: Tuples, first: int = 0, second: int = 1) -> Array:
        """Distances of two members of each tuple: points are mapped once, however many tuples share them."""
        Z = np.ascontiguousarray(given.points @ self.components_.T)
        return np.sqrt(pair_squared_distances(Z, *np.ascontiguousarray(given.index[:, [first, second]].T)))

    def pair_distance(self, pairs: ArrayLike) -> Array:
        """Distance of every pair: (m, 2, d), or (m, 2) of indicators for the preprocessor, to (m,)."""
        return self._distances(self._given(pairs, 2))

    def transform(self, X: ArrayLike) -> Any:
        """Map instances (n, d), or their indicators (n,), to the space where the learned distance is Euclidean."""
        preprocessor = check_preprocessor(self.preprocessor)
        if preprocessor is not None and dimensions(X) == 1:
            X = points_of(np.asarray(X), preprocessor)
        return super().transform(X)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        if self.preprocessor is not None:
            tags.input_tags.two_d_array = False
        return tags


class PairLearner(TupleLearner):
    """Base of the learners from pairs, which tell similar from dissimilar ones by a threshold on their distance.

    Attributes
    ----------
    threshold_ : float
        After :meth:`fit` on pairs: pairs are called similar up to this distance. It has the best accuracy on the
        training pairs, until :meth:`set_threshold` or :meth:`calibrate_threshold` choose another.
    """

    tuple_size = 2

    def _labels_of(self, tuples: Tuples, y: Any) -> Indices:
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y, +1 or -1 for each pair, but the target y is None")
        return check_pair_labels(y, len(tuples))

    def _after_tuples(self, tuples: Tuples, y: Indices | None) -> None:
        assert y is not None
        self.classes_ = np.array([-1, 1])
        if len(np.unique(y)) == 2:
            self.threshold_ = calibrated_threshold(self._distances(tuples), y)

    def fit_pairs(self, pairs: ArrayLike, y: ArrayLike) -> Any:
        """:meth:`fit` on pairs, shape (m, 2, d), labelled +1 (similar) or −1 (dissimilar), shape (m,)."""
        if not is_tuples(pairs, self.preprocessor is not None):
            raise ValueError(f"pairs must have shape (n, 2, d), got {np.shape(pairs)}")
        return self.fit(pairs, y)

    @available_if(_of_tuples)
    def predict(self, pairs: ArrayLike) -> Indices:
        """+1 for every pair whose distance is at most ``threshold_``, −1 for the others.

        Raises
        ------
        AttributeError
            If there is no threshold yet.
        """
        distances = self.pair_distance(pairs)
        if not hasattr(self, "threshold_"):
            raise AttributeError(
                "no threshold is set for pairs: call set_threshold, or calibrate_threshold with labelled pairs"
            )
        return np.where(distances <= self.threshold_, 1, -1)

    @available_if(_of_tuples)
    def decision_function(self, pairs: ArrayLike) -> Array:
        """Minus the distance of every pair: the higher, the more similar."""
        return -self.pair_distance(pairs)

    @available_if(_of_tuples)
    def score(self, pairs: ArrayLike, y: ArrayLike) -> float:
        """Area under the ROC curve of similar against dissimilar pairs by their distance."""
        distances = self.pair_distance(pairs)
        return float(roc_auc_score(check_pair_labels(y, len(distances)), -distances))

    def set_threshold(self, threshold: float) -> Any:
        """Call pairs similar up to this distance.

        Parameters
        ----------
        threshold : float
            Any but NaN, which no distance would be compared with.

        Returns
        -------
        self
        """
        check_is_fitted(self, "components_")
        try:
            value = float(threshold)
        except (TypeError, ValueError):
            value = np.nan
        if np.isnan(value):
            raise ValueError(f"threshold must be a real number, got {threshold!r}")
        self.threshold_ = value
        return self

    def calibrate_threshold(
        self,
        pairs: ArrayLike,
        y: ArrayLike,
        *,
        strategy: str = "accuracy",
        min_rate: float | None = None,
        beta: float = 1.0,
    ) -> Any:
        """Choose the threshold on labelled pairs, better not those that were learned from.

        Parameters
        ----------
        pairs : array-like of shape (m, 2, d), or (m, 2) of indicators
        y : array-like of shape (m,)
            +1 or −1.
        strategy : {"accuracy", "f_beta", "max_tpr", "max_tnr"}
            What is made as large as possible; "max_tpr" and "max_tnr" keep the other rate at ``min_rate`` at least.
        min_rate : float, optional
            From 0 to 1.
        beta : float
            Weight of recall in the F score.

        Returns
        -------
        self
        """
        check_is_fitted(self, "components_")
        check_calibration(strategy, min_rate, beta)
        distances = self.pair_distance(pairs)
        self.threshold_ = calibrated_threshold(
            distances, check_pair_labels(y, len(distances)), strategy, min_rate, beta
        )
        return self


class _OrderLearner(TupleLearner):
    """Base of the learners from comparisons: one distance should be smaller than another."""

    larger: ClassVar[tuple[int, int]]

    @available_if(_of_tuples)
    def decision_function(self, tuples: ArrayLike) -> Array:
        """By how much the distance that should be larger is larger, for every tuple."""
        given = self._given(tuples)
        return self._distances(given, *self.larger) - self._distances(given)

    @available_if(_of_tuples)
    def predict(self, tuples: ArrayLike) -> Indices:
        """+1 for every tuple whose distances are in the right order, −1 for the others."""
        return np.where(self.decision_function(tuples) > 0, 1, -1)

    @available_if(_of_tuples)
    def score(self, tuples: ArrayLike, y: Any = None) -> float:
        """Share of the tuples whose distances are in the right order."""
        given = self._given(tuples)
        return float((self._distances(given, *self.larger) > self._distances(given)).mean())


class TripletLearner(_OrderLearner):
    """Base of the learners from triplets (a, b, c): a should be nearer to b than to c."""

    tuple_size = 3
    larger = (0, 2)

    def fit_triplets(self, triplets: ArrayLike) -> Any:
        """:meth:`fit` on triplets (instance, target neighbour, impostor), shape (m, 3, d)."""
        if not is_tuples(triplets, self.preprocessor is not None):
            raise ValueError(f"triplets must have shape (n, 3, d), got {np.shape(triplets)}")
        return self.fit(triplets)


class QuadrupletLearner(_OrderLearner):
    """Base of the learners from quadruplets (a, b, c, d): a should be nearer to b than c is to d."""

    tuple_size = 4
    larger = (2, 3)
