"""A k-nearest-neighbours classifier that says how large a change of the input each prediction withstands."""

from __future__ import annotations

from copy import copy
from functools import partial
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from joblib import effective_n_jobs
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from certimetric.base.arguments import ArgumentError, chosen, require
from certimetric.base.arrays import Array
from certimetric.base.lazy_arrays import is_lazy
from certimetric.certify.exact.minimal import TIME_LIMIT, smallest_changes
from certimetric.certify.exact.witnesses import MinimalPerturbation
from certimetric.certify.metric_neighbors import MetricNeighbors
from certimetric.certify.per_class import CertifiedClasses
from certimetric.certify.radius import MEMORY_MB, MIB, PredictedQueries, codes_and_radii
from certimetric.certify.reference import PointSet, vote_rows
from certimetric.certify.verifier import checked_sizes
from certimetric.constraints.labels import checked_labels, compare_labels
from certimetric.geometry.features import align, feature_names, names_of
from certimetric.geometry.mahalanobis import MahalanobisMetric
from certimetric.geometry.norms import resolve_norm
from certimetric.geometry.threat_models import ThreatModel, resolve_threat

if TYPE_CHECKING:
    from typing_extensions import Self


class CertifiedKNeighborsClassifier(ClassifierMixin, MetricNeighbors):
    """k-nearest-neighbours classifier under a learned metric, with a certified radius for every prediction.

    Every neighbour has one vote; the label that sorts first wins where votes are equal. With ``weights="distance"`` a
    vote counts 1/distance, and that of the nearer neighbour wins.

    Queries may be a Dask array in ``predict``, ``predict_proba``, ``predict_with_radius`` and ``kneighbors``. These
    then give Dask arrays in the same blocks of rows, with the same values to the last digit, worked out when they are
    asked for; a block takes one thread and ``memory_mb``. The training set stays in memory.

    Parameters
    ----------
    n_neighbors : int, default=3
        k.
    weights : {"uniform", "distance"}, default="uniform"
        Of the votes; "distance" as in scikit-learn: where a neighbour is at distance 0, only those that are count.
        Radii then bound what any k neighbours that a change can bring about may vote, by bounds of each distance: they
        cost more, and are smaller by a tenth or so.
    metric : learner, fitted learner, MahalanobisMetric or None, default=None
        An unfitted learner is cloned and fitted on the training data. A fitted learner and a metric are used as they
        are; inside ``GridSearchCV`` and the like, which clone what they are given, a learner is unfitted again, and
        so sees the training part only. A transformer of another library is the affine map that its ``transform``
        computes, and refused where that is none. None is the Euclidean distance.
    norm : {"l2", "linf", "l1"}, array-like of shape (d, d) or Norm, default="l2"
        How a perturbation is measured; a matrix A stands for ``√(δᵀAδ)``.
    abstain_below : float, default=None
        Certified radius below which ``predict`` and ``predict_with_radius`` answer ``unknown``. May be set on a fitted
        classifier, by ``set_params``; None always answers a label.
    unknown : label, default=None
        That answer, which must not be one of the labels. None is ``"unknown"`` where labels are text; where they are
        numbers −1, or one less than the smallest if −1 is one of them.
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
    classes_ : array of shape (n_classes,)
    unknown_ : label
        What is answered below ``abstain_below``: none of the classes.
    X_ : array of shape (n, d)
        Training instances; their labels are ``y_``.
    reference_ : PointSet
        The training instances as certificates and attacks see them: in coordinates of the metric, with their rounding
        errors and class codes.

    See Also
    --------
    in_original_units : The same classifier with radii in the units before a scaler.

    Notes
    -----
    With ``abstain_below=ε`` no two queries that are at most ε apart get two different labels: the vote of one that gets
    a label is the same all over the ball of its radius, and everybody in it who is answered at all is answered that
    label. The radius of an answer says within which changes it turns into no other label; it may turn into ``unknown``
    (in real numbers, not within radius − ε: a certified radius falls no faster than the query moves).

    References
    ----------
    The certificate is that of :func:`certimetric.certify.certified_radius`.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from certimetric import CertifiedKNeighborsClassifier, LMNN
    >>> X, y = load_iris(return_X_y=True)
    >>> knn = CertifiedKNeighborsClassifier(metric=LMNN()).fit(X[::2], y[::2])
    >>> labels, radii = knn.predict_with_radius(X[1::2])
    >>> knn.certified_accuracy(X[1::2], y[1::2], [0.0, 0.1]).shape
    (2,)
    """

    _parameter_constraints = {
        **MetricNeighbors._parameter_constraints,
        "weights": [StrOptions({"uniform", "distance"})],
        "abstain_below": [Interval(Real, 0, None, closed="left"), None],
        "unknown": "no_validation",
    }

    def __init__(
        self,
        n_neighbors: int = 3,
        *,
        weights: str = "uniform",
        metric: Any = None,
        norm: Any = "l2",
        abstain_below: float | None = None,
        unknown: Any = None,
        memory_mb: int = MEMORY_MB,
        n_jobs: int | None = None,
    ):
        super().__init__(n_neighbors, metric=metric, norm=norm, memory_mb=memory_mb, n_jobs=n_jobs)
        self.weights = weights
        self.abstain_below = abstain_below
        self.unknown = unknown

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: ArrayLike, y: ArrayLike) -> CertifiedKNeighborsClassifier:
        """Fit the learner, if there is one, and keep the training set.

        Parameters
        ----------
        X : array-like of shape (n, d)
        y : array-like of shape (n,)

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If k exceeds n, on NaN or infinity, if a given metric is for another number of features, or if ``unknown``
            is a label.
        """
        given = align(X, names_of(self.metric))
        X, y = validate_data(self, given, y, dtype=np.float64, order="C")
        check_classification_targets(checked_labels(y))
        classes, codes = np.unique(y, return_inverse=True)
        self._keep(given, X, y, codes.astype(np.int64))
        self.classes_, self.reference_.by_distance = classes, self.weights == "distance"
        self._sentinel()
        return self

    @property
    def unknown_(self) -> Any:
        """What is answered for no label."""
        check_is_fitted(self, "classes_")
        return self._sentinel()

    def _sentinel(self) -> Any:
        labels = self.classes_.tolist()
        text = all(isinstance(label, str) for label in labels)
        unknown = self.unknown
        if unknown is None:
            taken = not text and -1 in labels
            unknown = "unknown" if text else int(np.floor(self.classes_.min())) - 1 if taken else -1
        if unknown in labels:
            raise ValueError(f"unknown must be no label of the training set, but {unknown!r} is one: give another")
        if isinstance(unknown, str) != text:
            kind = "text" if text else "a number"
            raise ValueError(f"unknown must be {kind}, as the labels of the training set are, got {unknown!r}")
        return unknown

    @property
    def y_(self) -> NDArray[Any]:
        """Labels of the training instances, shape (n,)."""
        check_is_fitted(self, "classes_")
        return np.asarray(self.classes_[self.reference_.y])

    def in_other_units(
        self,
        reference: PointSet,
        X: Array,
        *,
        metric: MahalanobisMetric,
        norm: Any,
        feature_names: NDArray[Any] | None = None,
    ) -> Self:
        """This classifier, fitted, for instances that are told in other units: the same neighbours, classes and labels.

        Parameters
        ----------
        reference : PointSet
            The training instances, for queries in these units.
        X : array of shape (n, d)
            The training instances in these units.
        metric : MahalanobisMetric
        norm : norm
            Of changes in these units.
        feature_names : array of str of shape (d,), optional

        Returns
        -------
        classifier : CertifiedKNeighborsClassifier
        """
        check_is_fitted(self, "classes_")
        if self.abstain_below is not None:
            wanted = "must be None for other units, of which it would not be a radius: set it on the result"
            raise ArgumentError("abstain_below", wanted, self.abstain_below)
        other = copy(self)
        other.metric, other.metric_, other.norm = metric, metric, norm
        other.reference_, other.X_, other.n_features_in_ = reference, X, X.shape[1]
        other.__dict__.pop("feature_names_in_", None)
        if feature_names is not None:
            other.feature_names_in_ = feature_names
        return other

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Labels of the queries, (m, d) to (m,); ``unknown_`` where the radius is below ``abstain_below``."""
        if self.abstain_below is not None:
            return self.predict_with_radius(X)[0]
        return self._labels(self._votes(X)[:, -1].astype(np.int64))

    def predict_proba(self, X: ArrayLike) -> Array:
        """Share of the votes of each class, shape (m, n_classes)."""
        votes = self._votes(X)[:, :-1]
        return votes / votes.sum(axis=1, keepdims=True)

    def predict_with_radius(self, X: ArrayLike) -> tuple[NDArray[Any], Array]:
        """Labels, and the size of perturbation that each is certified to withstand.

        Parameters
        ----------
        X : array-like or Dask array of shape (m, d)

        Returns
        -------
        labels : array of shape (m,)
            ``unknown_`` where the radius is below ``abstain_below``.
        radii : array of shape (m,)
            In the units of X and the norm of the classifier: no perturbation of that size or smaller changes what is
            voted for. 0 where nothing is certified, infinity where no perturbation can change it. Where both are Dask
            arrays, ``dask.compute(labels, radii)`` searches once for both.
        """
        check_is_fitted(self, "classes_")
        norm = resolve_norm(self.norm)
        found = self._map(partial(codes_and_radii, self.reference_, self.n_neighbors, norm), X, 2)
        codes, radii = found[:, 0].astype(np.int64), found[:, 1]
        if self.abstain_below is not None:
            require(self.abstain_below >= 0, "abstain_below", "must be a radius of at least 0", self.abstain_below)
            codes = np.where(radii < self.abstain_below, -1, codes)
        return self._labels(codes), radii

    def correctness_radius(self, X: ArrayLike, y: ArrayLike) -> Array:
        """Certified radius of the *right* prediction: 0 where the prediction is wrong, shape (m,).

        Raises
        ------
        ValueError
            If no label of ``y`` is one of ``classes_`` (if some are not, a warning names them), or one is missing.
        """
        labels, y, radii = self._answered(X, y)
        return np.where(labels == y, radii, 0.0)

    def minimal_perturbation(
        self,
        X: ArrayLike,
        *,
        threat: ThreatModel | str | None = None,
        time_limit: float = TIME_LIMIT,
        node_limit: float = np.inf,
    ) -> MinimalPerturbation:
        """Smallest change of each query that changes its label, in the norm of the classifier or under a threat model.

        Exact for ``n_neighbors=1``; otherwise a bracket, closed wherever the search ends within the time limit.

        Parameters
        ----------
        X : array-like of shape (m, d)
        threat : ThreatModel or str, default=None
            What may change, and in what norm: bounds, directions, whole and one-hot features are kept to exactly.
        time_limit : float, default=1.0
            Seconds for each query where ``n_neighbors`` > 1, or where a threat model limits features.
        node_limit : int, default=inf
            Nodes of the search likewise: unlike seconds, it gives the same answer on every machine.

        Returns
        -------
        result : MinimalPerturbation
            Unpacks as ``radii, witnesses`` (see :func:`certimetric.minimal_perturbation`).
        """
        names = names_of(self) or names_of(self.metric) or feature_names(X)
        X, norm = self._validate(X), resolve_norm(self.norm)
        bound = None if threat is None else resolve_threat(threat).bind(X.shape[1], names)
        norm = norm if bound is None else bound.norm
        options = {"memory": self.memory_mb * MIB, "n_jobs": effective_n_jobs(self.n_jobs)}
        queries = PredictedQueries.of(self.reference_, X, self.n_neighbors, **options)
        return smallest_changes(queries, norm, threat=bound, time_limit=time_limit, node_limit=node_limit)

    def certified_accuracy(self, X: ArrayLike, y: ArrayLike, eps: ArrayLike, *, average: str = "micro") -> Array:
        """Share of queries that are right and stay so under every perturbation of size at most ε.

        With ``abstain_below``, of those that are answered rightly, and with no other label under any of these.

        Parameters
        ----------
        X : array-like of shape (m, d)
        y : array-like of shape (m,)
        eps : float or array-like of shape (e,)
            Sizes, at least 0; at 0 this is the accuracy.
        average : {"micro", "balanced"}, default="micro"
            Over all queries, or over the shares of the classes among ``y``, so that rare ones count as much.

        Returns
        -------
        accuracy : array of the shape of ``eps``

        Raises
        ------
        ValueError
            If no label of ``y`` is one of ``classes_`` (if some are not, a warning names them), or one is missing.
        """
        eps = checked_sizes(eps)
        chosen("average", average, ("micro", "balanced"))
        labels, y, radii = self._answered(X, y)
        holds = (labels == y) & (radii >= eps[..., None])
        if average == "micro":
            return holds.mean(axis=-1)
        _, codes, counts = np.unique(y, return_inverse=True, return_counts=True)
        return holds @ (1.0 / counts[codes]) / len(counts)

    def certified_classes(self, X: ArrayLike, y: ArrayLike, eps: float = 0.0) -> CertifiedClasses:
        """What is certified of each class: recall and precision under every perturbation of size at most ε, and radii.

        Parameters
        ----------
        X : array-like of shape (m, d)
        y : array-like of shape (m,)
        eps : float, default=0
            At 0 these are the usual figures. With ``abstain_below`` what may turn into ``unknown`` counts as staying.

        Returns
        -------
        result : CertifiedClasses
            Of the labels among ``y``, sorted.

        Raises
        ------
        ValueError
            As :meth:`certified_accuracy`.

        Examples
        --------
        >>> knn = CertifiedKNeighborsClassifier(1).fit([[0.0], [4.0]], ["rare", "usual"])
        >>> found = knn.certified_classes([[0.0], [1.9], [3.0], [4.0]], ["rare", "usual", "usual", "usual"], eps=0.5)
        >>> found.recall.round(2).tolist(), found.precision.tolist(), round(found.balanced_accuracy, 2)
        ([1.0, 0.67], [0.5, 1.0], 0.83)
        """
        size = float(checked_sizes(eps))
        labels, y, radii = self._answered(X, y)
        if self.abstain_below is not None:  # nothing keeps a query from being answered again
            radii = np.where(radii < self.abstain_below, 0.0, radii)
        return CertifiedClasses.of(y, labels, radii, size)

    def _answered(self, X: ArrayLike, y: ArrayLike) -> tuple[NDArray[Any], NDArray[Any], Array]:
        """Answers, the labels that are right, and radii."""
        check_is_fitted(self, "classes_")
        y = compare_labels(self.classes_, y)  # before the work
        labels, radii = self.predict_with_radius(X)
        self._check_length(y, len(labels))
        return labels, y, radii

    def _check_length(self, y: NDArray[Any], m: int) -> None:
        if y.shape != (m,):
            raise ValueError(f"y must hold one label for each of the {m} queries, got shape {y.shape}")

    def _votes(self, X: ArrayLike) -> Any:
        check_is_fitted(self, "classes_")
        return self._map(partial(vote_rows, self.reference_, self.n_neighbors), X, len(self.classes_) + 1)

    def _labels(self, codes: Any) -> Any:
        answers = self._answers()
        if is_lazy(codes):
            return codes.map_blocks(partial(np.take, answers), dtype=answers.dtype)
        return answers[codes]

    def _answers(self) -> NDArray[Any]:
        """The classes, and at the end what is answered for none of them, if that can be."""
        if self.abstain_below is None:
            return self.classes_
        return with_unknown(self.classes_, self.unknown_)


def with_unknown(classes: NDArray[Any], unknown: Any) -> NDArray[Any]:
    """Classes and what is answered for none of them, which comes last."""
    return np.append(classes, np.array([unknown], dtype=object if classes.dtype == object else None))
