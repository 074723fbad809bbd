"""What metric-learn's estimators have in common, under its names: scores, transforms, thresholds."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import roc_auc_score
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d, validate_data

from certimetric.base.arrays import Array, Indices
from certimetric.base.chunks import chunk_slices
from certimetric.base.warnings import warn
from certimetric.constraints.tuples import Tuples, dimensions, numbered
from certimetric.learners.calibration import STRATEGIES, below_all, calibrated_threshold
from certimetric.metric_learn import wording
from certimetric.metric_learn._util import ArrayIndexer as ArrayIndexer
from certimetric.metric_learn._util import (
    Preprocessor,
    check_input,
    check_tuple_size,
    check_y_valid_values_for_pairs,
    make_context,
    preprocess_points,
    validate_vector,
)

_MEMORY = 64 * 2**20  # bytes of differences of pairs at a time


class BaseMetricLearner(BaseEstimator, metaclass=ABCMeta):
    """Base of all metric learners: input as points or as indicators for a preprocessor.

    Parameters
    ----------
    preprocessor : array-like of shape (n, d) or callable, default=None
        Points by row number, or a function of indicators that gives points.

    Attributes
    ----------
    preprocessor_ : callable or None
    """

    _tuple_size: ClassVar[int | None] = None
    preprocessor_: Preprocessor | None

    def __init__(self, preprocessor: Any = None):
        self.preprocessor = preprocessor

    @abstractmethod
    def score_pairs(self, pairs: ArrayLike) -> Array:
        """Deprecated name of :meth:`pair_distance`."""

    @abstractmethod
    def pair_score(self, pairs: ArrayLike) -> Array:
        """Similarity of every pair, (m, 2, d) or (m, 2) of indicators, to (m,): the higher, the more similar."""

    @abstractmethod
    def pair_distance(self, pairs: ArrayLike) -> Array:
        """Distance of every pair, (m, 2, d) or (m, 2) of indicators, to (m,)."""

    @abstractmethod
    def get_metric(self) -> Callable[..., float]:
        """A function of two vectors and ``squared=False``, for any estimator with a ``metric`` argument.

        It stays as it is when the learner is fitted again.
        """

    def _check_preprocessor(self) -> None:
        """Make ``preprocessor_`` of ``preprocessor``."""
        given = self.preprocessor
        if given is None or callable(given):
            self.preprocessor_ = given
        elif hasattr(given, "__len__") or hasattr(given, "shape") or hasattr(given, "__array__"):
            self.preprocessor_ = ArrayIndexer(given)
        else:
            raise ValueError(wording.WRONG_PREPROCESSOR.format(kind=type(given)))

    def _prepare_inputs(self, X: Any, y: Any = None, type_of_inputs: str = "classic", **kwargs: Any) -> Any:
        """Checked and formed input of a ``fit``; see :func:`~certimetric.metric_learn._util.check_input`."""
        self._check_preprocessor()
        formed = check_input(
            X,
            y,
            type_of_inputs=type_of_inputs,
            preprocessor=self.preprocessor_,
            estimator=self,
            tuple_size=self._tuple_size,
            **kwargs,
        )
        points = formed if y is None else formed[0]
        named = type_of_inputs == "classic" and dimensions(X) == 2
        validate_data(self, X if named else points.reshape(-1, points.shape[-1]), skip_check_array=True, reset=True)
        return formed

    def _given(self, data: Any, size: int) -> Tuples:
        """Tuples as points and row numbers: indicators are asked for once each, however many tuples share them."""
        if dimensions(data) == 2 and self.preprocessor_ is not None:
            raw = np.asarray(data)
            if raw.shape[1] == size and len(raw):
                distinct, index = numbered(raw)
                formed = preprocess_points(distinct, self.preprocessor_)
                if np.ndim(formed) == 2:
                    points = check_input(formed, estimator=self, dtype=np.float64)
                    return self._of_fitted_width(Tuples(points, index))
        tuples = check_input(
            data, type_of_inputs="tuples", preprocessor=self.preprocessor_, estimator=self, dtype=np.float64
        )
        check_tuple_size(tuples, size, make_context(self))
        m, t, d = tuples.shape
        points = np.ascontiguousarray(tuples).reshape(m * t, d)
        return self._of_fitted_width(Tuples(points, np.arange(m * t).reshape(m, t)))

    def _of_fitted_width(self, tuples: Tuples) -> Tuples:
        fitted = getattr(self, "n_features_in_", tuples.n_features)
        if hasattr(self, "components_") and fitted != tuples.n_features:
            raise ValueError(
                wording.WRONG_WIDTH.format(name=type(self).__name__, given=tuples.n_features, fitted=fitted)
            )
        return tuples


class MetricTransformer(metaclass=ABCMeta):
    """Base of all that map instances to a space where the learned distance is Euclidean."""

    @abstractmethod
    def transform(self, X: ArrayLike) -> Array:
        """Instances, (n, d), in the learned space, (n, k)."""


class LearnedMetric:
    """A learned distance as a function of two vectors, that can be pickled and given to scikit-learn.

    Parameters
    ----------
    components : array of shape (k, d)
    """

    def __init__(self, components: Array):
        self.components = np.array(components, copy=True)

    def __call__(self, u: ArrayLike, v: ArrayLike, squared: bool = False) -> float:
        moved = (validate_vector(u) - validate_vector(v)) @ self.components.T
        distance = np.dot(moved, moved)
        return distance if squared else np.sqrt(distance)


class MahalanobisMixin(BaseMetricLearner, MetricTransformer):
    """A learner of ``d(x, x') = ‖L (x − x')‖``.

    Attributes
    ----------
    components_ : array of shape (k, d)
        L.
    """

    components_: Array

    def score_pairs(self, pairs: ArrayLike) -> Array:
        warn(wording.SCORE_PAIRS, FutureWarning)
        return self.pair_distance(pairs)

    def pair_score(self, pairs: ArrayLike) -> Array:
        """Minus the distance of every pair, (m, 2, d) or (m, 2) of indicators, to (m,)."""
        return -self.pair_distance(pairs)

    def pair_distance(self, pairs: ArrayLike) -> Array:
        check_is_fitted(self, "preprocessor_")
        return self._distances(self._given(pairs, 2))

    def _distances(self, tuples: Tuples, first: int = 0, second: int = 1) -> Array:
        """Distances of two members of each tuple, by blocks of tuples."""
        L = self.components_.T
        distances = np.empty(len(tuples))
        for rows in chunk_slices(len(tuples), 8 * (tuples.n_features + L.shape[-1]), _MEMORY):
            distances[rows] = np.sqrt(np.square(tuples.differences(second, first, rows) @ L).sum(axis=1))
        return distances

    def transform(self, X: ArrayLike) -> Array:
        """Instances, (n, d) or (n,) of indicators, in the space where the learned distance is Euclidean: ``X Lᵀ``."""
        check_is_fitted(self, ["preprocessor_", "components_"])
        formed = check_input(X, preprocessor=self.preprocessor_, estimator=self, accept_sparse=True)
        if hasattr(self, "n_features_in_"):
            validate_data(self, X if dimensions(X) == 2 else formed, skip_check_array=True, reset=False)
        return formed @ self.components_.T

    def get_metric(self) -> Callable[..., float]:
        check_is_fitted(self, "components_")
        return LearnedMetric(self.components_)

    def get_mahalanobis_matrix(self) -> Array:
        """``M = LᵀL``, shape (d, d)."""
        check_is_fitted(self, "components_")
        return self.components_.T @ self.components_


class _PairsClassifierMixin(ClassifierMixin, BaseMetricLearner):
    """What tells similar from dissimilar pairs by a threshold on their distance.

    Attributes
    ----------
    threshold_ : float
        Pairs up to this distance are called similar.
    """

    classes_ = np.array([-1, 1])
    _tuple_size = 2
    threshold_: float

    def predict(self, pairs: ArrayLike) -> Indices:
        """+1 for every pair up to ``threshold_`` apart, −1 for the others.

        Raises
        ------
        AttributeError
            If there is no threshold yet.
        """
        check_is_fitted(self, "preprocessor_")
        if "threshold_" not in vars(self):
            raise AttributeError(wording.NO_THRESHOLD)
        return np.where(-self.decision_function(pairs) <= self.threshold_, 1, -1)

    def decision_function(self, pairs: ArrayLike) -> Array:
        """Minus the distance of every pair: the higher, the more similar."""
        check_is_fitted(self, "preprocessor_")
        return self.pair_score(pairs)

    def score(self, pairs: ArrayLike, y: ArrayLike) -> float:
        """Area under the ROC curve of similar against dissimilar pairs."""
        return float(roc_auc_score(y, self.decision_function(pairs)))

    def set_threshold(self, threshold: Any) -> Any:
        """Call pairs up to this distance similar; returns self."""
        check_is_fitted(self, "preprocessor_")
        try:
            self.threshold_ = float(threshold)
        except (TypeError, ValueError):
            raise ValueError(wording.WRONG_THRESHOLD.format(kind=type(threshold))) from None
        return self

    def calibrate_threshold(
        self,
        pairs_valid: ArrayLike,
        y_valid: ArrayLike,
        strategy: str = "accuracy",
        min_rate: float | None = None,
        beta: float = 1.0,
    ) -> Any:
        """Choose the threshold that is best on labelled pairs, (m, 2, d) or (m, 2) of indicators; returns self.

        ``strategy``, ``min_rate`` and ``beta`` are those of certimetric's learners, as ``certimetric.ITML`` has them.
        """
        check_is_fitted(self, "preprocessor_")
        self._validate_calibration_params(strategy, min_rate, beta)
        distances = -np.asarray(self.decision_function(pairs_valid))
        y = column_or_1d(y_valid)
        check_consistent_length(distances, y)
        check_y_valid_values_for_pairs(y)
        if len(np.unique(y)) == 2:
            beta = abs(float(beta)) if strategy == "f_beta" else 1.0
            self.threshold_ = calibrated_threshold(distances, y.astype(np.int64), strategy, min_rate, beta)
        else:  # all are accepted, or none
            self.threshold_ = float(distances.max() if y[0] == 1 else below_all(distances.min()))
        return self

    @staticmethod
    def _validate_calibration_params(strategy: Any = "accuracy", min_rate: Any = None, beta: Any = 1.0) -> None:
        """Refuse parameters that :meth:`calibrate_threshold` cannot use."""
        if strategy not in STRATEGIES:
            raise ValueError(wording.WRONG_STRATEGY.format(strategy=strategy))
        if strategy in ("max_tpr", "max_tnr") and not (isinstance(min_rate, (int, float)) and 0 <= min_rate <= 1):
            raise ValueError(wording.WRONG_MIN_RATE.format(min_rate=min_rate))
        if strategy == "f_beta" and not isinstance(beta, (int, float)):
            raise ValueError(wording.WRONG_BETA.format(kind=type(beta)))


class _ComparisonsMixin(ClassifierMixin, BaseMetricLearner):
    """What tells by two distances whether they are in the right order."""

    classes_ = np.array([-1, 1])
    _larger: ClassVar[tuple[int, int]]

    def decision_function(self, tuples: ArrayLike) -> Array:
        """By how much the distance that should be larger is larger, for every tuple."""
        check_is_fitted(self, "preprocessor_")
        assert self._tuple_size is not None and isinstance(self, MahalanobisMixin)
        given = self._given(tuples, self._tuple_size)
        return self._distances(given, *self._larger) - self._distances(given)

    def predict(self, tuples: ArrayLike) -> Indices:
        """+1 for every tuple whose distances are in the right order, −1 for the others."""
        return np.where(self.decision_function(tuples) > 0, 1, -1)

    def score(self, tuples: ArrayLike, y: Any = None) -> float:
        """Share of the tuples whose distances are in the right order."""
        return float((self.decision_function(tuples) > 0).mean())


class _TripletsClassifierMixin(_ComparisonsMixin):
    """Triplets (a, b, c): a should be nearer to b than to c."""

    _tuple_size = 3
    _larger = (0, 2)


class _QuadrupletsClassifierMixin(_ComparisonsMixin):
    """Quadruplets (a, b, c, d): a should be nearer to b than c is to d."""

    _tuple_size = 4
    _larger = (2, 3)
