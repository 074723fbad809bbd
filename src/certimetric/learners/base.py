"""What every learner has in common: scikit-learn's conventions, metric-learn's names, and the metric as a value."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_array, check_is_fitted, validate_data

from certimetric.base.arrays import MODEST, Array, Indices, check_dense, check_size
from certimetric.base.warnings import warn
from certimetric.constraints.pairs import LARGEST_DRAW
from certimetric.constraints.tuples import Tuples
from certimetric.geometry.mahalanobis import MahalanobisMetric
from certimetric.geometry.spd import fix_row_signs
from certimetric.learners.anchors import Size, print_size, takes_all_rows
from certimetric.learners.chunks import aligned_blocks, scatter_of_blocks
from certimetric.learners.coordinates import Coordinates
from certimetric.learners.solvers import Solution, minimize_components, print_progress
from certimetric.objectives.gradient import MetricObjective

TARGETS_PER_INSTANCE = 3  # triplets that learners make of labels: as many nearest target neighbours,
IMPOSTORS_PER_INSTANCE = 10  # each with as many nearest impostors
FLOATS = [np.float64, np.float32]  # of instances that are mapped: others become the first
CLASS_WEIGHT = [dict, StrOptions({"balanced"}), None]  # what the parameter may be


class MahalanobisLearner(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Base of the learners: an estimator that ``fit`` leaves with ``components_``, and a transformer by them."""

    _parameter_constraints: dict[str, Any] = {}
    _takes_sparse: ClassVar[bool] = False  # whether ``fit`` takes sparse rows

    class_weight: Mapping[Any, float] | str | None
    components_: Array
    converged_: bool
    n_features_in_: int
    max_iter: Any
    n_anchors: int | str | None
    n_constraints: int | None
    tol: float
    verbose: bool

    @property
    def metric_(self) -> MahalanobisMetric:
        """The learned metric as a value that can be saved, certified and attacked."""
        check_is_fitted(self, "components_")
        training: dict[str, Any] = {"learner": type(self).__name__, "n_samples": self.n_samples_fit_}
        for name in ("n_iter_", "objective_", "converged_"):
            if hasattr(self, name):
                training[name.rstrip("_")] = getattr(self, name)
        return MahalanobisMetric.from_components(
            self.components_, feature_names=getattr(self, "feature_names_in_", None), training=training
        )

    def transform(self, X: ArrayLike) -> Any:
        """Map instances to the space where the learned distance is Euclidean.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n, d)

        Returns
        -------
        Z : array of shape (n, k)
            ``X @ components_.T``; of single precision where X is, but computed in double precision.
        """
        check_is_fitted(self, "components_")
        X = validate_data(self, X, dtype=FLOATS, reset=False, accept_sparse="csr")
        return (X @ self.components_.T).astype(X.dtype, copy=False)

    def get_mahalanobis_matrix(self) -> Array:
        """M, shape (d, d)."""
        return self.metric_.matrix

    def get_metric(self) -> Callable[[ArrayLike, ArrayLike], float]:
        """A function of two instances that gives their distance, for any estimator with a ``metric`` argument."""
        return self.metric_.distance

    def pair_distance(self, pairs: ArrayLike) -> Array:
        """Distance of every pair, (n, 2, d) to (n,)."""
        given = Tuples.of(pairs, 2)
        self._check_width(given.n_features, reset=False)
        return np.asarray(self.metric_.distance(given.points[given.index[:, 0]], given.points[given.index[:, 1]]))

    def pair_score(self, pairs: ArrayLike) -> Array:
        """Minus the distance of every pair: the higher, the more similar."""
        return -self.pair_distance(pairs)

    @property
    def _n_features_out(self) -> int:
        return int(self.components_.shape[0])

    def _validate_labelled(
        self, X: ArrayLike, y: ArrayLike | None, sample_weight: ArrayLike | None = None
    ) -> tuple[Array, Indices, Array | None]:
        """Check a labelled sample; give X as float64, y as class codes, and weights; and set ``classes_``.

        Weights are those of the instances times those that ``class_weight`` gives their classes: their mean is 1, and
        they are None where all are equal. Instances of weight 0 are left out.
        """
        X, y = self._validate(X, y)
        if issparse(X) and X.shape[1] > X.shape[0]:
            X = X.toarray()  # which has no more numbers than the metric that is learned of it
        X, y, weights = self._weighted(X, y, sample_weight)
        X, codes = self._labelled(X, y)
        return X, codes, self._by_class(codes, self.classes_, weights)

    def _validate(self, X: Any, y: Any = "no_validation", **options: Any) -> Any:
        """scikit-learn's check of float64 data, of two rows at least; sparse where the learner takes such rows."""
        if not self._takes_sparse:
            check_dense(X, type(self).__name__)
        sparse = "csr" if self._takes_sparse else False
        options = {"ensure_min_samples": 2, "accept_sparse": sparse, **options}
        return validate_data(self, X, y, dtype=np.float64, order="C", **options)

    def _by_class(self, codes: Indices, classes: NDArray[Any], weights: Array | None = None) -> Array | None:
        """Weights of instances times those of their classes, of mean 1; None for equal ones."""
        if (of_classes := self._class_weights(np.bincount(codes), classes)) is None:
            return weights
        weights = of_classes[codes] / of_classes.max() * (1.0 if weights is None else weights)
        return None if (weights == weights[0]).all() else weights / weights.mean()

    def _weighted(self, X: Array, y: Any, sample_weight: ArrayLike | None) -> tuple[Array, Any, Array | None]:
        """Validated instances of positive weight, what ``y`` has for them, and their weights of mean 1; None for equal
        ones.

        Raises
        ------
        ValueError
            If weights are not one number of at least 0 for each instance, or fewer than two are above 0.
        """
        if sample_weight is None:
            return X, y, None
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64)
        if (weights < 0).any() or (weights > 0).sum() < 2:
            raise ValueError(
                f"sample_weight must have numbers of at least 0, two of them above 0, got {weights.min():g} to "
                f"{weights.max():g} with {(weights > 0).sum()} above 0"
            )
        kept, weights = weights > 0, weights / weights.max()
        X, y, weights = X[kept], None if y is None else y[kept], weights[kept]
        return X, y, None if (weights == weights[0]).all() else weights / weights.mean()

    def _check_unweighted(self, what: str, sample_weight: ArrayLike | None = None) -> None:
        """Weights are for rows in memory."""
        for name, given in (("sample_weight", sample_weight), ("class_weight", getattr(self, "class_weight", None))):
            if given is not None:
                raise ValueError(f"{name} must be None for {what}: weights are taken of instances in memory")

    def _labelled(self, X: Array, y: Any) -> tuple[Array, Indices]:
        # Whole numbers and text are classes, unless so many that scikit-learn warns of numbers: it looks at length.
        if not (discrete := y.dtype.kind in "biuUS"):
            check_classification_targets(y)
        classes, codes = np.unique(y, return_inverse=True)
        if discrete and 2 * len(classes) > len(y):
            check_classification_targets(y)
        self._set_classes(classes, len(y))
        return check_size(X, limit=MODEST), codes.astype(np.int64)

    def _validate_blocks(
        self, X: Any, y: Any, sample_weight: ArrayLike | None, *, numbers: bool = False
    ) -> tuple[Any, Any, Coordinates | None]:
        """Check a sample in Dask arrays. Where all rows take part, X and y gathered, and None; otherwise None, class
        codes or numbers, and coordinates whose rows stay where they are, with ``classes_`` set."""
        self._check_unweighted("rows in a Dask array", sample_weight)
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        X, y = aligned_blocks(X, y)
        scatter = scatter_of_blocks(X, np.zeros(len(X), dtype=np.int64) if numbers else y)
        n, d = int(scatter.counts.sum()), scatter.means.shape[1]
        values = np.asarray(y.compute())
        if numbers:
            values = check_array(values, dtype=np.float64, ensure_2d=False, input_name="y")
        if takes_all_rows(self.n_anchors, n):
            return np.asarray(X.compute()), values, None
        init, k = getattr(self, "init", "identity"), getattr(self, "n_components", None)
        if isinstance(init, str) and (init in ("pca", "lda") or (init == "auto" and k not in (None, d))):
            raise ValueError(
                f"init must be the identity, 'random' or an array for rows in a Dask array, which are not gathered, "
                f"got {init!r} with n_components={k}"
            )
        self._check_width(d, reset=True)
        self.n_samples_fit_ = n
        if not numbers:
            self._set_classes(scatter.labels, n)
            values = np.searchsorted(scatter.labels, values).astype(np.int64)
        perturbation = getattr(self, "perturbation", None)
        return None, values, Coordinates.of_blocks(X.astype(np.float64), scatter, perturbation=perturbation)

    def _class_weights(self, counts: Indices, classes: NDArray[Any]) -> Array | None:
        """What an instance of each class weighs by ``class_weight``; None where nothing is said.

        Raises
        ------
        ValueError
            If a weight is missing, or is no positive number.
        """
        given = self.class_weight
        if given is None:
            return None
        if isinstance(given, Mapping):
            for label in classes.tolist():
                weight = given.get(label)
                if isinstance(weight, bool) or not isinstance(weight, Real) or not 0 < weight < np.inf:
                    raise ValueError(
                        f"class_weight must have a positive number for each class, got {weight!r} for {label!r}"
                    )
            return np.array([given[label] for label in classes.tolist()], dtype=np.float64)
        return 1.0 / counts

    def _set_classes(self, classes: NDArray[Any], n: int) -> None:
        if len(classes) < 2:
            raise ValueError(
                f"{type(self).__name__} learns to tell classes apart, but y has only 1 class ({classes.tolist()[0]!r})"
            )
        self.classes_ = classes
        self.n_samples_fit_ = n

    def _n_draws(self) -> int:
        """How many tuples of a kind are drawn of labels: ``n_constraints``, or 20 c² with c classes, bounded."""
        return self.n_constraints or min(20 * len(self.classes_) ** 2, LARGEST_DRAW)

    def _check_width(self, d: int, reset: bool) -> None:
        if not reset and d != self.n_features_in_:
            raise ValueError(
                f"{type(self).__name__} was fitted on {self.n_features_in_} features, but the tuples have {d}"
            )
        if reset and hasattr(self, "feature_names_in_"):
            del self.feature_names_in_
        self.n_features_in_ = d

    def _progress(self) -> Callable[..., None] | None:
        """What a solver calls as the objective falls: it prints, where ``verbose`` says so."""
        return print_progress(type(self).__name__) if self.verbose else None

    def _report_size(self) -> Callable[[Size], None] | None:
        """What is called as a sample of anchors grows: it prints, where ``verbose`` says so."""
        return print_size(type(self).__name__) if self.verbose else None

    def _set_anchors(self, n_anchors: int, sizes: Sequence[Size] = (), error: float = 0.0) -> None:
        self.n_anchors_, self.anchor_path_, self.objective_error_ = n_anchors, list(sizes), error

    def _descend(
        self,
        objective: MetricObjective,
        L: Array,
        *,
        max_iter: int | None = None,
        gap: Callable[[Array, Array], float] | None = None,
    ) -> Solution:
        """Minimise an objective over components from L, as far as ``max_iter`` and ``tol`` of the learner say."""
        return minimize_components(
            objective, L, max_iter=max_iter or self.max_iter, tol=self.tol, callback=self._progress(), gap=gap
        )

    def _set_components(self, L: Array) -> None:
        self.components_ = fix_row_signs(np.ascontiguousarray(L))

    def _set_solution(self, solution: Solution, coordinates: Coordinates) -> None:
        self._set_components(coordinates.lift(solution.components))
        self.objective_path_ = solution.path
        self.objective_ = solution.path[-1]
        self.n_iter_ = solution.n_iter
        self._set_converged(solution.converged, solution.reason)

    def _set_converged(self, converged: bool, reason: str = "") -> None:
        """Set ``converged_``, and warn where there is a reason to."""
        self.converged_ = bool(converged)
        if reason:
            warn(f"{type(self).__name__} {reason}", ConvergenceWarning)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.input_tags.sparse = self._takes_sparse
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
