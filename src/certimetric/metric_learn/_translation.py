"""How an estimator with metric-learn's parameters learns: by a learner of certimetric, whose components it takes."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_consistent_length, column_or_1d

from certimetric.base.arrays import Array, Indices
from certimetric.base.warnings import warn
from certimetric.constraints.pairs import LARGEST_DRAW
from certimetric.constraints.tuples import Tuples
from certimetric.learners.base import MahalanobisLearner
from certimetric.metric_learn import wording
from certimetric.metric_learn._util import (
    _check_n_components,
    _initialize_metric_mahalanobis,
    _padded,
    check_y_valid_values_for_pairs,
    checked_init,
)
from certimetric.metric_learn.base_metric import MahalanobisMixin, _PairsClassifierMixin
from certimetric.metric_learn.constraints import Constraints, codes_of, labelled_pairs, renamed

_TINY_RIDGE, _RIDGE = 1e-10, 1e-3  # where scatters are regular, closed forms are next to the plain ones

_NOW = {
    "num_constraints": "n_constraints",
    "num_chunks": "n_chunks",
    "convergence_threshold": "tol",
    "k": "n_neighbors",
}


class Translated(MahalanobisMixin):
    """Base of the estimators: dataclasses, whose fields are the parameters of the constructor in metric-learn's order.

    Attributes
    ----------
    components_ : array of shape (n_components or d, d)
        L.
    n_iter_ : int
        Where the learner takes steps.
    learner_ : MahalanobisLearner
        The learner of certimetric that was fitted: ``learner_.metric_`` can be saved, certified and attacked.
    """

    _ignored: ClassVar[dict[str, str]] = {}  # parameters, and why they do nothing here
    learner_: MahalanobisLearner
    n_iter_: int

    def __post_init__(self) -> None:
        """Take over what was given under a former name."""
        for field in dataclasses.fields(self):
            if field.default == "deprecated":
                old, new = field.name, _NOW[field.name]
                setattr(self, new, renamed(getattr(self, new), getattr(self, old), old, new))
                setattr(self, old, "deprecated")

    def _warn_ignored(self) -> None:
        defaults = inspect.signature(type(self).__init__).parameters
        for why in dict.fromkeys(self._ignored.values()):
            names = [name for name, reason in self._ignored.items() if reason == why and name in defaults]
            given = {name: getattr(self, name) for name in names}
            given = {name: value for name, value in given.items() if not _same(value, defaults[name].default)}
            if given:
                warn(wording.ignored(type(self).__name__, given, why))

    def _labelled(self, X: Any, y: Any, y_numeric: bool = False) -> tuple[Array, NDArray[Any]]:
        """Instances as points, and their labels, of a ``fit``."""
        if y is None:
            raise ValueError(wording.WITHOUT_Y.format(name=type(self).__name__))
        self._warn_ignored()
        return self._prepare_inputs(X, y, ensure_min_samples=2, dtype=np.float64, y_numeric=y_numeric)

    def _tuples(self, data: Any, y: Any = None) -> tuple[Tuples, Indices | None]:
        """Tuples over distinct points, the same however they were given, and labels of pairs, of a ``fit``."""
        self._warn_ignored()
        self._check_preprocessor()
        for name in ("threshold_", "components_", "feature_names_in_"):
            if name in vars(self):
                delattr(self, name)
        assert self._tuple_size is not None
        tuples = self._given(data, self._tuple_size).distinct()
        self.n_features_in_ = tuples.n_features
        if y is None:
            return tuples, None
        labels = column_or_1d(y)
        check_consistent_length(tuples.index, labels)
        check_y_valid_values_for_pairs(labels)
        return tuples, labels.astype(np.int64)

    def _learn(self, learner: Any, X: Any, y: Any = None, n_components: int | None = None, **options: Any) -> Any:
        """Fit the learner on instances, and take over what it learned."""
        learner.fit(X, y, **options)
        self.learner_ = learner
        self.components_ = _padded(learner.components_, n_components or learner.components_.shape[1])
        for name in ("n_iter_", "bounds_"):
            if hasattr(learner, name):
                setattr(self, name, getattr(learner, name))
        return self

    def _learn_tuples(self, learner: Any, tuples: Tuples, y: Any = None, **options: Any) -> Any:
        """Fit the learner on tuples of row numbers: no point is copied for another tuple."""
        learner.set_params(preprocessor=tuples.points)
        self._learn(learner, tuples.index, y, **options)
        learner.set_params(preprocessor=None)
        return self

    def _initial(self, X: Array, y: Any = None, has_classes: bool = True) -> tuple[int, Any]:
        """``n_components`` as a number, and ``init`` as certimetric's learners take it."""
        k = _check_n_components(X.shape[1], self.n_components)
        return k, checked_init(k, X, y, self.init, self.random_state, has_classes)

    def _matrix(self, name: str, X: Array, strict_pd: bool) -> Any:
        """A prior or starting metric, of the parameter ``name``: "identity", or a matrix."""
        value = getattr(self, name)
        M = _initialize_metric_mahalanobis(
            X, value, getattr(self, "random_state", None), strict_pd=strict_pd, matrix_name=name
        )
        return value if isinstance(value, str) and value == "identity" else M

    def _drawn_pairs(self, X: Array, y: NDArray[Any], same_length: bool = False) -> tuple[Tuples, Any]:
        """Pairs of labelled instances, and the four arrays that they were drawn as."""
        n_constraints = self.n_constraints
        if n_constraints is None:
            n_constraints = min(20 * len(np.unique(y)) ** 2, LARGEST_DRAW)
        drawn = Constraints(codes_of(y)).positive_negative_pairs(
            n_constraints, same_length=same_length, random_state=self.random_state
        )
        return Tuples(X, labelled_pairs(drawn)[0]), drawn


class Transformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin):
    """What the estimators that learn from labels are besides: transformers in pipelines, with ``set_output``."""

    def transform(self, X: ArrayLike) -> Any:
        """Instances, (n, d) or (n,) of indicators, in the space where the learned distance is Euclidean."""
        return super().transform(X)

    @property
    def _n_features_out(self) -> int:
        return int(self.components_.shape[0])


class Supervised(Transformer):
    """A transformer that does not learn without labels."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags


class OfPairs(Translated):
    """Base of the estimators from pairs, given or drawn of labels: ``_solve(tuples, y, …)`` learns from them."""

    _tuple_size = 2
    _solve: Callable[..., Any]

    def _fit(self, pairs: ArrayLike, y: ArrayLike, **options: Any) -> Any:
        """Learn from pairs and their labels ±1."""
        return self._solve(*self._tuples(pairs, y), **options)

    def _fit_and_calibrate(
        self, pairs: ArrayLike, y: ArrayLike, calibration_params: dict[str, Any] | None, **options: Any
    ) -> Any:
        """Learn from pairs, and choose the threshold on them."""
        calibration = calibration_params or {}
        self._validate_calibration_params(**calibration)
        self._fit(pairs, y, **options)
        return self.calibrate_threshold(pairs, y, **calibration)

    def _fit_labels(self, X: ArrayLike, y: ArrayLike, **options: Any) -> Any:
        """Learn from pairs that are drawn of labelled instances."""
        X, y = self._labelled(X, y)
        tuples, drawn = self._drawn_pairs(X, y)
        return self._solve(tuples, labelled_pairs(drawn)[1], **options)


class GivenPairs(OfPairs, _PairsClassifierMixin):
    """An estimator from pairs, which tells similar from dissimilar ones."""

    def fit(self, pairs: ArrayLike, y: ArrayLike, calibration_params: dict[str, Any] | None = None) -> Any:
        """Learn from pairs, (m, 2, d) or (m, 2) of indicators, labelled ±1, and choose the threshold on them."""
        return self._fit_and_calibrate(pairs, y, calibration_params)


class DrawnPairs(Supervised, OfPairs):
    """An estimator from labels, of which pairs are drawn."""

    def fit(self, X: ArrayLike, y: ArrayLike) -> Any:
        """Learn from X, (n, d) or (n,) of indicators, and class labels; a negative label is unknown."""
        return self._fit_labels(X, y)


def ridge_for(centred: Array) -> float:
    """Ridge of a closed form: next to nothing where the scatter is regular, else certimetric's own."""
    return _TINY_RIDGE if np.linalg.matrix_rank(centred) == centred.shape[1] else _RIDGE


def _same(value: Any, default: Any) -> bool:
    return value is default or (type(value) in (int, float, str, bool) and value == default)
