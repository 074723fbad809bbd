"""Who of the enrolled is it, or none of them: nearest neighbours that may answer "unknown", with certified radii."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from numbers import Real
from typing import Any

import numpy as np
from joblib import effective_n_jobs
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from certimetric.base.arrays import Array, Indices
from certimetric.base.results import Columns
from certimetric.certify.classifier import CertifiedKNeighborsClassifier, with_unknown
from certimetric.certify.exact.pairs import smallest_pair_changes
from certimetric.certify.exact.witnesses import MinimalPerturbation, is_proven
from certimetric.certify.open_set_radii import open_set_rows, voted_nearest
from certimetric.certify.pairs import PairCertifier, check_threshold, checked_pairs
from certimetric.certify.radius import MEMORY_MB, MIB
from certimetric.certify.rates import IdentificationCurve, identification_curve
from certimetric.certify.verifier import checked_sizes, warn_of_rate
from certimetric.constraints.labels import checked_labels
from certimetric.geometry.neighbors import nearest_neighbors
from certimetric.geometry.norms import resolve_norm

_WITNESSES = 4  # nearest enrolled instances whose balls are tried for a smallest change


@dataclass(frozen=True, eq=False)
class CertifiedIdentification(Columns):
    """What no attacker can do to open-set identification.

    Parameters
    ----------
    eps : array of shape (e,)
        Sizes of changes of the probe.
    dir : array of shape (e,)
        Share of the probes of enrolled subjects that are identified, and stay so under every change of that size.
    fpir : array of shape (e,)
        Share of the probes of others that are accepted, or not certified to stay unknown.

    Examples
    --------
    >>> CertifiedIdentification(np.array([0.0, 0.5]), np.array([1.0, 0.5]), np.array([0.0, 0.25])).to_frame()
       eps  dir  fpir
    0  0.0  1.0  0.00
    1  0.5  0.5  0.25
    """

    eps: Array
    dir: Array
    fpir: Array


class OpenSetKNeighborsClassifier(CertifiedKNeighborsClassifier):
    """k-nearest-neighbours classifier that answers "unknown" where no enrolled instance is within a threshold.

    Otherwise it answers what the k nearest vote for, as :class:`certimetric.CertifiedKNeighborsClassifier` does.

    Parameters
    ----------
    n_neighbors : int, default=1
        k.
    metric : learner, fitted learner, MahalanobisMetric or None, default=None
        As in :class:`certimetric.CertifiedKNeighborsClassifier`.
    threshold : float, default=None
        Largest distance to the nearest enrolled instance at which a query is accepted. None accepts all, until
        :meth:`calibrate` sets one.
    unknown : label, default=None
        The answer for none of the enrolled, which must not be one of their labels. None is ``"unknown"`` where labels
        are text; where they are numbers −1, or one less than the smallest if −1 is one of them.
    norm : {"l2", "linf", "l1"}, array-like of shape (d, d) or Norm, default="l2"
    memory_mb : int, default=64
    n_jobs : int, default=None

    Attributes
    ----------
    threshold_ : float
    unknown_ : label
    classes_, metric_, learner_, X_, y_, reference_
        As in :class:`certimetric.CertifiedKNeighborsClassifier`; ``unknown_`` is none of the classes.

    Notes
    -----
    The radius of a rejected query is that of the nearest ellipsoid ``d(·, x_j) ≤ threshold``, exact for l2 and any k.
    An accepted one is safe while the vote stands and one of the 16 nearest enrolled instances stays within the
    threshold: a lower bound. ``predict_proba`` gives shares of votes whether a query is accepted or not.

    Examples
    --------
    >>> knn = OpenSetKNeighborsClassifier(threshold=1.0).fit([[0.0], [4.0]], ["ann", "bob"])
    >>> labels, radii = knn.predict_with_radius([[0.5], [2.0], [9.0]])
    >>> labels.tolist(), radii.round(6)
    (['ann', 'unknown', 'unknown'], array([0.5, 1. , 4. ]))
    """

    _parameter_constraints = {**CertifiedKNeighborsClassifier._parameter_constraints, "threshold": [Real, None]}

    def __init__(
        self,
        n_neighbors: int = 1,
        *,
        metric: Any = None,
        threshold: float | None = None,
        unknown: Any = None,
        norm: Any = "l2",
        memory_mb: int = MEMORY_MB,
        n_jobs: int | None = None,
    ):
        super().__init__(n_neighbors, metric=metric, norm=norm, unknown=unknown, memory_mb=memory_mb, n_jobs=n_jobs)
        self.threshold = threshold

    def fit(self, X: ArrayLike, y: ArrayLike) -> OpenSetKNeighborsClassifier:
        """Enrol labelled instances, and fit the learner, if there is one.

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
            As :class:`certimetric.CertifiedKNeighborsClassifier`; if the threshold is NaN, or ``unknown`` a label.
        """
        if self.threshold is not None:
            check_threshold(self.threshold)
        super().fit(X, y)
        self.threshold_ = np.inf if self.threshold is None else float(self.threshold)
        return self

    def calibrate(
        self, X: ArrayLike | None = None, y: ArrayLike | None = None, *, fpir: float
    ) -> OpenSetKNeighborsClassifier:
        """Set the largest threshold at which probes of unknown subjects are accepted no more often than ``fpir``.

        Parameters
        ----------
        X : array-like of shape (m, d), optional
            Probes. Without them, every enrolled instance is a probe twice: of a known subject, which does not see
            itself, and of an unknown one, which sees none of its class.
        y : array-like of shape (m,), optional
            Their labels. Those that are not enrolled are unknown.
        fpir : float
            False-positive identification rate, above 0.

        Returns
        -------
        self

        Warns
        -----
        UserWarning
            If the probes of unknown subjects are too few to show such a rate, or nothing is accepted.
        """
        curve = self.identification_curve(X, y)
        self.threshold_ = curve.threshold_at(fpir)
        warn_of_rate(fpir, curve.n_unknown, self.threshold_, "probes of unknown subjects")
        return self

    def identification_curve(self, X: ArrayLike | None = None, y: ArrayLike | None = None) -> IdentificationCurve:
        """Detection and identification rate against false-positive identification rate, over all thresholds.

        Parameters
        ----------
        X, y : as in :meth:`calibrate`
        """
        check_is_fitted(self, "classes_")
        if X is None:
            return self._enrolled_curve()
        labels = self._checked_truth(y)
        X = self._validate(X)
        self._check_length(labels, len(X))
        points, _ = self.reference_.embed(X)
        codes, distances = self._nearest(points, None)
        known = np.isin(labels, self.classes_)
        return identification_curve(distances, self.classes_[codes] == labels, known)

    def _enrolled_curve(self) -> IdentificationCurve:
        reference, y = self.reference_, self.reference_.y
        if len(self.classes_) < 2 or len(y) < 2:
            raise ValueError("calibration among the enrolled needs instances of at least two classes: give X and y")
        codes, within = self._nearest(reference.points, np.arange(len(y)))
        beyond = np.empty(len(y))
        for code in range(len(self.classes_)):
            own = y == code
            _, squared = nearest_neighbors(reference.points[own], reference.points[~own], 1)
            beyond[own] = np.ldexp(np.sqrt(squared[:, 0]), reference.exponent)
        known = np.repeat([True, False], len(y))
        right = np.concatenate([codes == y, np.zeros(len(y), dtype=bool)])
        return identification_curve(np.concatenate([within, beyond]), right, known)

    def _nearest(self, points: Array, exclude: Indices | None) -> tuple[Indices, Array]:
        """What the vote of each query is, and how far its nearest enrolled instance."""
        options = {"memory": self.memory_mb * MIB, "n_jobs": effective_n_jobs(self.n_jobs)}
        k = min(self.n_neighbors, len(self.X_) - (exclude is not None))
        return voted_nearest(self.reference_, points, k, exclude, **options)[:2]

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Labels of the queries, or ``unknown_``: (m, d) to (m,)."""
        check_is_fitted(self, "classes_")
        known = partial(open_set_rows, self.reference_, self.n_neighbors, self.threshold_, None)
        return self._labels(self._map(known, X, 2)[:, 0].astype(np.int64))

    def predict_with_radius(self, X: ArrayLike) -> tuple[NDArray[Any], Array]:
        """Labels or ``unknown_``, and the size of perturbation that each answer is certified to withstand.

        Parameters
        ----------
        X : array-like or Dask array of shape (m, d)

        Returns
        -------
        labels, radii : arrays of shape (m,)
        """
        check_is_fitted(self, "classes_")
        norm = resolve_norm(self.norm)
        found = self._map(partial(open_set_rows, self.reference_, self.n_neighbors, self.threshold_, norm), X, 2)
        return self._labels(found[:, 0].astype(np.int64)), found[:, 1]

    def leave_one_out(self) -> tuple[NDArray[Any], Array]:
        """:meth:`predict_with_radius` of the enrolled instances, each as if it were not enrolled.

        Raises
        ------
        ValueError
            If there are no more instances than neighbours.
        """
        check_is_fitted(self, "classes_")
        n = len(self.X_)
        if n <= self.n_neighbors:
            raise ValueError(
                f"leave_one_out needs more than n_neighbors={self.n_neighbors} enrolled instances, got {n}"
            )
        options = {"memory": self.memory_mb * MIB, "n_jobs": effective_n_jobs(self.n_jobs)}
        norm, of = resolve_norm(self.norm), (self.reference_, self.n_neighbors, self.threshold_)
        found = open_set_rows(*of, norm, self.X_, exclude=np.arange(n), **options)
        return self._labels(found[:, 0].astype(np.int64)), found[:, 1]

    def minimal_perturbation(self, X: ArrayLike, **limits: Any) -> MinimalPerturbation:
        """A small change of each query that changes the answer, with a proven lower bound: a bracket.

        ``radii`` are the sizes of the smallest changes found: of the vote, and into or out of the balls of the nearest
        enrolled instances. For rejected queries and l2 that is, as a rule, the smallest there is.

        Parameters
        ----------
        X : array-like of shape (m, d)
        **limits
            As in :meth:`certimetric.CertifiedKNeighborsClassifier.minimal_perturbation`.
        """
        X = self._validate(X)
        labels, lower = self.predict_with_radius(X)
        norm = resolve_norm(self.norm)
        radii, witnesses = np.full(len(X), np.inf), X.copy()

        def offer(points: Array) -> None:
            sizes = np.where(self.predict(points) != labels, norm.norm(points - X), np.inf)
            better = sizes < radii
            radii[better], witnesses[better] = sizes[better], points[better]

        offer(super().minimal_perturbation(X, **limits).witnesses)
        certifier = PairCertifier(self.metric_)
        for near in self.kneighbors(X, min(_WITNESSES, len(self.X_)))[1].T:
            pairs = checked_pairs(self.metric_, (X, self.X_[near]))[0]
            change = smallest_pair_changes(certifier, pairs, self.threshold_, norm).witnesses - X
            for overshoot in (0.0, 1e-9, 1e-7):
                offer(X + change * (1.0 + overshoot))
        proven = is_proven(radii, lower)
        return MinimalPerturbation(
            np.maximum(radii, lower), witnesses, lower, proven, np.isfinite(radii), np.zeros(len(X))
        )

    def correctness_radius(self, X: ArrayLike, y: ArrayLike) -> Array:
        """Certified radius of the *right* answer, which is ``unknown_`` for labels that are not enrolled; else 0."""
        return super().correctness_radius(X, y)

    def score(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Share of right answers: ``unknown_`` is right for labels that are not enrolled."""
        truth = self._truth(self._checked_truth(y))
        right = self.predict(X) == truth
        return float(np.average(right, weights=None if sample_weight is None else np.asarray(sample_weight)))

    def certified_identification(self, X: ArrayLike, y: ArrayLike, eps: ArrayLike) -> CertifiedIdentification:
        """Rates that are certified against every change of a probe of size at most ε.

        Parameters
        ----------
        X : array-like of shape (m, d)
        y : array-like of shape (m,)
            Labels, some enrolled and some not.
        eps : float or array-like of shape (e,)
            Sizes, at least 0; at 0 these are the rates themselves.
        """
        eps = np.atleast_1d(checked_sizes(eps))
        labels = self._checked_truth(y)
        known = np.isin(labels, self.classes_)
        if not known.any() or known.all():
            raise ValueError("y must hold labels that are enrolled and labels that are not")
        answers, radii = self.predict_with_radius(X)
        self._check_length(labels, len(radii))
        holds, rejected = radii >= eps[:, None], answers == self._answers()[-1]
        return CertifiedIdentification(
            eps, ((answers == labels) & holds)[:, known].mean(axis=1), (~rejected | ~holds)[:, ~known].mean(axis=1)
        )

    def _answered(self, X: ArrayLike, y: ArrayLike) -> tuple[NDArray[Any], NDArray[Any], Array]:
        labels = self._checked_truth(y)
        answers, radii = self.predict_with_radius(X)
        self._check_length(labels, len(radii))
        return answers, self._truth(labels), radii

    def _checked_truth(self, y: Any) -> NDArray[Any]:
        check_is_fitted(self, "classes_")
        if y is None:
            raise ValueError("y must hold a label for each query, got None")
        return checked_labels(y)

    def _truth(self, labels: NDArray[Any]) -> NDArray[Any]:
        """Labels with ``unknown_`` for those that are not enrolled."""
        places = {label: place for place, label in enumerate(self.classes_.tolist())}
        return self._answers()[[places.get(label, len(places)) for label in labels.tolist()]]

    def _answers(self) -> NDArray[Any]:
        """The classes, and what is answered for none of them."""
        return with_unknown(self.classes_, self.unknown_)
