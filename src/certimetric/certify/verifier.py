"""Same or not: pairs told by a threshold on their distance, with a certified radius for every decision."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin, _fit_context, clone
from sklearn.utils.validation import check_array, check_is_fitted

from certimetric.base.arguments import ArgumentError, chosen, require
from certimetric.base.arrays import Array, Indices
from certimetric.base.results import Columns
from certimetric.base.warnings import warn
from certimetric.certify.exact.pairs import smallest_pair_changes
from certimetric.certify.exact.witnesses import MinimalPerturbation
from certimetric.certify.pairs import PairCertifier, check_threshold, checked_pairs
from certimetric.certify.rates import VerificationCurve, check_far, check_kinds, claimable_far, verification_curve
from certimetric.constraints.labels import checked_labels
from certimetric.constraints.pairs import LARGEST_DRAW, pairs_of_classes
from certimetric.constraints.tuples import Tuples, check_pair_labels, dimensions
from certimetric.geometry.affine import is_fitted
from certimetric.geometry.diagonal import DiagonalMetric
from certimetric.geometry.features import align, feature_names
from certimetric.geometry.mahalanobis import MahalanobisMetric, as_metric
from certimetric.geometry.norms import resolve_norm
from certimetric.learners.calibration import calibrated_threshold

CRITERIA = ("eer", "far", "accuracy", "f_beta")


@dataclass(frozen=True, eq=False)
class CertifiedRates(Columns):
    """What no attacker can do to the rates of a threshold.

    Parameters
    ----------
    eps : array of shape (e,)
        Sizes of changes of the probe.
    tar : array of shape (e,)
        Share of the genuine pairs that are accepted, and stay so under every change of that size: a lower bound on TAR
        under dodging.
    far : array of shape (e,)
        Share of the impostor pairs that are accepted, or not certified to stay rejected: an upper bound on FAR under
        impersonation.

    Examples
    --------
    >>> CertifiedRates(np.array([0.0, 0.5]), np.array([1.0, 0.75]), np.array([0.0, 0.25])).to_frame()
       eps   tar   far
    0  0.0  1.00  0.00
    1  0.5  0.75  0.25
    """

    eps: Array
    tar: Array
    far: Array


class PairVerifier(ClassifierMixin, BaseEstimator):
    """Tells whether the two instances of a pair belong together: +1 where their distance is at most a threshold.

    Parameters
    ----------
    metric : learner, fitted learner, MahalanobisMetric or None, default=None
        An unfitted learner is cloned and fitted, on labels or on pairs; a fitted one and a metric are used as they are.
        None is the Euclidean distance.
    threshold : float, default=None
        None for the one of the best accuracy on the pairs that ``fit`` is given, or on pairs drawn of its instances.
        These were learned from: :meth:`calibrate` on others.
    norm : {"l2", "linf", "l1"}, array-like of shape (d, d) or Norm, default="l2"
        How a change of the probe is measured; a matrix A stands for ``√(δᵀAδ)``.
    random_state : int, default=0
        For the pairs that are drawn of labelled instances.
    n_jobs : int, default=None
        Threads; None for 1, −1 for all cores.

    Attributes
    ----------
    metric_ : MahalanobisMetric
    learner_ : learner or None
        The learner that was fitted here, if an unfitted one was given.
    threshold_ : float
    classes_ : array of shape (2,)
        −1 and +1.

    Notes
    -----
    Pairs are arrays of shape (m, 2, d), probes first, or a tuple of two arrays (or data frames) of shape (m, d). It is
    the probe that an attacker moves; the enrolled instance is clean.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from certimetric import LMNN, PairVerifier
    >>> X, y = load_iris(return_X_y=True)
    >>> verifier = PairVerifier(LMNN()).fit(X[::3], y[::3])
    >>> probes, enrolled, same = X[1::3], X[2::3][::-1], np.where(y[1::3] == y[2::3][::-1], 1, -1)
    >>> verifier = verifier.calibrate((probes, enrolled), same, criterion="far", value=0.1)
    >>> decisions, radii = verifier.predict_with_radius((probes, enrolled))
    >>> rates = verifier.certified_rates((probes, enrolled), same, [0.0, 0.1])
    >>> bool(rates.far[0] <= 0.1)
    True
    """

    _parameter_constraints = {
        "metric": "no_validation",
        "threshold": [Real, None],
        "norm": "no_validation",
        "random_state": [Integral],
        "n_jobs": [Integral, None],
    }

    def __init__(
        self,
        metric: Any = None,
        threshold: float | None = None,
        *,
        norm: Any = "l2",
        random_state: int = 0,
        n_jobs: int | None = None,
    ):
        self.metric = metric
        self.threshold = threshold
        self.norm = norm
        self.random_state = random_state
        self.n_jobs = n_jobs

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any = None, y: Any = None) -> PairVerifier:
        """Fit the learner, if there is one, and set the threshold.

        A metric and a threshold that are given need no data.

        Parameters
        ----------
        X : array-like of shape (n, d), or pairs
            Labelled instances, or pairs: of shape (m, 2, d), or a tuple of probes and enrolled ones.
        y : array-like of shape (n,) or (m,)
            Class labels of instances; +1 (genuine) or −1 (impostor) of pairs.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a learner does not take such data, the features do not match, the threshold is NaN, or one is to be
            chosen and pairs of a kind are missing.
        """
        if self.threshold is not None:
            check_threshold(self.threshold)
        resolve_norm(self.norm)
        if X is None and (self.threshold is None or self.metric is None or not _is_given(self.metric)):
            raise ValueError("X must hold labelled instances or pairs, unless a metric and a threshold are given")
        of_pairs = isinstance(X, tuple) or dimensions(X) == 3
        self.learner_ = None
        if self.metric is None:
            self.metric_: MahalanobisMetric = _euclidean(X)
        elif not _is_given(self.metric):
            if isinstance(X, tuple):
                euclidean = _euclidean(X)  # it knows the columns of the probes
                sides, _ = checked_pairs(euclidean, X)
                self.learner_ = clone(self.metric).fit(sides.points[sides.index], y)
                self.metric_ = _named(as_metric(self.learner_), euclidean.feature_names)
            else:
                self.learner_ = clone(self.metric).fit(X, y)
                self.metric_ = as_metric(self.learner_)
        else:
            self.metric_ = as_metric(self.metric)
        self.n_features_in_ = self.metric_.n_features
        self.classes_ = np.array([-1, 1])
        self._certifier = PairCertifier(self.metric_)
        if self.threshold is not None:
            self.threshold_ = float(self.threshold)
            return self
        pairs, labels = (self._pairs(X), y) if of_pairs else self._drawn(X, y)
        self.threshold_ = calibrated_threshold(self._distances(pairs), check_pair_labels(labels, len(pairs)))
        return self

    def _drawn(self, X: Any, y: ArrayLike) -> tuple[Tuples, Any]:
        """Pairs of labelled instances."""
        X = np.asarray(align(X, self.metric_.feature_names), dtype=np.float64)
        _, codes = np.unique(checked_labels(y), return_inverse=True)
        if len(codes) != len(X):
            raise ValueError(f"y must hold one label for each of the {len(X)} instances, got {len(codes)}")
        if len(np.unique(codes)) < 2:
            raise ValueError("y must hold at least two classes: of one there is no impostor pair")
        index, labels = pairs_of_classes(codes, LARGEST_DRAW, np.random.RandomState(self.random_state))
        self.metric_.transform(X[:1])  # one message for another number of features
        return Tuples(np.ascontiguousarray(X), index), labels

    def calibrate(
        self, pairs: Any, y: ArrayLike, *, criterion: str = "eer", value: float | None = None
    ) -> PairVerifier:
        """Choose the threshold on labelled pairs: better not those that were learned from, nor those to be reported.

        Parameters
        ----------
        pairs : pairs
        y : array-like of shape (m,)
            +1 or −1.
        criterion : {"eer", "far", "accuracy", "f_beta"}, default="eer"
            Equal error rates; the largest threshold whose false accept rate is at most ``value``; the best accuracy; or
            the best F score, in which recall weighs ``value`` (1 by default).
        value : float, optional

        Returns
        -------
        self

        Warns
        -----
        UserWarning
            If the pairs are too few to show such a false accept rate (3 / value impostor pairs, the rule of three), or
            every threshold exceeds it, so that nothing is accepted.
        """
        check_is_fitted(self, "metric_")
        chosen("criterion", criterion, CRITERIA)
        if criterion == "far":
            if value is None:
                raise ArgumentError("value", "must be the false accept rate for criterion 'far'", value)
            check_far(value)
        elif criterion != "f_beta":
            require(value is None, "value", f"is for the criteria 'far' and 'f_beta', not for {criterion!r}", value)
        checked = self._pairs(pairs)
        labels = check_pair_labels(y, len(checked))
        distances = self._distances(checked)
        if criterion in ("accuracy", "f_beta"):
            beta = 1.0 if value is None else value
            self.threshold_ = calibrated_threshold(distances, labels, criterion, beta=beta)
            return self
        curve = verification_curve(distances, labels)
        if criterion == "eer":
            self.threshold_ = curve.eer_threshold
            return self
        assert value is not None
        self.threshold_ = curve.threshold_at(value)
        warn_of_rate(value, curve.n_impostor, self.threshold_)
        return self

    def pair_distance(self, pairs: Any) -> Array:
        """Distance of every pair, shape (m,)."""
        return self._distances(self._pairs(pairs))

    def decision_function(self, pairs: Any) -> Array:
        """``threshold_`` less the distance of every pair: at least 0 where it is accepted."""
        return self.threshold_ - self.pair_distance(pairs)

    def predict(self, pairs: Any) -> Indices:
        """+1 for every pair whose distance is at most ``threshold_``, −1 for the others."""
        return np.where(self.pair_distance(pairs) <= self.threshold_, 1, -1)

    def predict_with_radius(self, pairs: Any) -> tuple[Indices, Array]:
        """Decisions, and the size of change of the probe that each is certified to withstand.

        Returns
        -------
        decisions : int array of shape (m,)
        radii : array of shape (m,)
            In units of the data and the norm of the verifier (see :func:`certimetric.certify.pair_radii`).
        """
        checked = self._pairs(pairs)
        accepted, radii = self._certifier.certify(checked, self.threshold_, resolve_norm(self.norm), n_jobs=self.n_jobs)
        return np.where(accepted, 1, -1), radii

    def minimal_change(self, pairs: Any) -> MinimalPerturbation:
        """The nearest changed probe of each pair at which the decision is another.

        See Also
        --------
        certimetric.certify.minimal_pair_changes : Where it is exact.
        """
        checked = self._pairs(pairs)
        return smallest_pair_changes(
            self._certifier, checked, self.threshold_, resolve_norm(self.norm), n_jobs=self.n_jobs
        )

    def curve(self, pairs: Any, y: ArrayLike) -> VerificationCurve:
        """Operating points of all thresholds on labelled pairs."""
        distances = self.pair_distance(pairs)
        return verification_curve(distances, check_pair_labels(y, len(distances)))

    def certified_accuracy(self, pairs: Any, y: ArrayLike, eps: ArrayLike) -> Array:
        """Share of pairs that are decided right, and stay so under every change of the probe of size at most ε.

        Parameters
        ----------
        pairs : pairs
        y : array-like of shape (m,)
            +1 or −1.
        eps : float or array-like of shape (e,)
            Sizes, at least 0; at 0 this is the accuracy.

        Returns
        -------
        accuracy : array of the shape of ``eps``
        """
        eps = checked_sizes(eps)
        decisions, radii, labels = self._decided(pairs, y)
        return ((decisions == labels) & (radii >= eps[..., None])).mean(axis=-1)

    def certified_rates(self, pairs: Any, y: ArrayLike, eps: ArrayLike) -> CertifiedRates:
        """True and false accept rates that are certified against every change of the probe of size at most ε.

        Parameters
        ----------
        pairs : pairs
        y : array-like of shape (m,)
            +1 or −1, some of each.
        eps : float or array-like of shape (e,)
            Sizes, at least 0; at 0 these are the rates themselves.

        Returns
        -------
        rates : CertifiedRates
        """
        eps = np.atleast_1d(checked_sizes(eps))
        decisions, radii, labels = self._decided(pairs, y)
        check_kinds(int((labels == 1).sum()), int((labels == -1).sum()))
        holds = radii >= eps[:, None]
        tar = ((decisions == 1) & holds)[:, labels == 1].mean(axis=1)
        far = ((decisions == 1) | ~holds)[:, labels == -1].mean(axis=1)
        return CertifiedRates(eps, tar, far)

    def _decided(self, pairs: Any, y: ArrayLike) -> tuple[Indices, Array, Indices]:
        checked = self._pairs(pairs)
        labels = check_pair_labels(y, len(checked))
        return (*self.predict_with_radius(checked), labels)

    def _pairs(self, pairs: Any) -> Tuples:
        check_is_fitted(self, "metric_")
        return checked_pairs(self.metric_, pairs)[0]

    def _distances(self, pairs: Tuples) -> Array:
        return self._certifier.distances(pairs, n_jobs=self.n_jobs)


def warn_of_rate(far: float, n_impostor: float, threshold: float, what: str = "impostor pairs") -> None:
    """Warn where so many impostor pairs cannot show such a false accept rate, or a threshold accepts nothing."""
    if np.isneginf(threshold):
        warn(
            f"no threshold has a false accept rate of {far:g} on these {n_impostor:g} {what}: threshold_ is "
            "-inf, and nothing is accepted"
        )
    elif far < claimable_far(n_impostor):
        warn(
            f"a false accept rate of {far:g} cannot be told from {n_impostor:g} {what}: they show no less than "
            f"{claimable_far(n_impostor):.2g} (rule of three)"
        )


def _is_given(metric: Any) -> bool:
    return not hasattr(metric, "fit") or is_fitted(metric)


def _euclidean(X: Any) -> DiagonalMetric:
    """The Euclidean distance between instances or pairs, by the names of their columns."""
    first = X[0] if isinstance(X, tuple) and X else X
    rows = check_array(first, dtype=np.float64, allow_nd=dimensions(first) == 3, input_name="X")
    return DiagonalMetric(np.ones(rows.shape[-1]), feature_names(first))


def _named(metric: MahalanobisMetric, names: tuple[str, ...] | None) -> MahalanobisMetric:
    if isinstance(metric, DiagonalMetric):
        return DiagonalMetric(metric.weights, names, metric.training)
    return MahalanobisMetric.from_components(metric.components, feature_names=names, training=metric.training)


def checked_sizes(eps: ArrayLike) -> Array:
    """Sizes of changes, each at least 0."""
    sizes = np.asarray(eps, dtype=float)
    if not np.isfinite(sizes).all() or (sizes < 0).any():
        raise ValueError(f"eps must hold sizes of at least 0, got {sizes.tolist()}")
    return sizes
