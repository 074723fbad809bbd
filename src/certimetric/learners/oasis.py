"""Online learning of a similarity from triplets: one small step for each."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

import numba as nb
import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import issparse
from sklearn.base import _fit_context
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from certimetric.base.arrays import MODEST, Array, Indices, check_size
from certimetric.constraints.preprocessors import check_preprocessor, points_of
from certimetric.constraints.triplets import triplets_of_classes
from certimetric.constraints.tuples import Tuples, dimensions, is_tuples
from certimetric.geometry.spd import check_matrix, factor_psd
from certimetric.learners.base import CLASS_WEIGHT
from certimetric.learners.coordinates import unit_of
from certimetric.learners.starts import prior_components
from certimetric.learners.tuple_learner import TripletLearner, _of_tuples

_DRAWS_PER_INSTANCE = 30  # triplets that are made of labels by default,
_LARGEST_DRAW = 100_000  # but at most so many
_STEPS_BETWEEN_REPORTS = 10_000
_MEMORY = 64 * 2**20  # bytes of sparse instances that are dense at a time


class OASIS(TripletLearner):
    """Online algorithm for scalable image similarity: a bilinear similarity, learned triplet by triplet.

    The similarity is ``S(x, z) = xᵀ W z``. A triplet (a, b, c) whose b is not more similar to a than c by a margin of 1
    changes W by as little as it must, at an aggressiveness C that bounds the step: the new W minimises ::

        ½ ‖W' − W‖²_F  +  C · [1 − S'(a, b) + S'(a, c)]_+

    in closed form, ``W' = W + τ a (b − c)ᵀ`` with ``τ = min(C, loss / (‖a‖² ‖b − c‖²))``. A step takes O(d²), and every
    triplet is seen once, in the order given: :meth:`partial_fit` goes on with further ones, as if all had come at once.

    W need be neither symmetric nor positive. ``pair_score``, and ``predict``, ``decision_function`` and ``score`` of
    triplets, are by S. ``components_`` and ``metric_``, which neighbours, certificates and audits need, are the metric
    of the positive semidefinite matrix nearest to ``(W + Wᵀ)/2``. Where that is W itself and instances have the same
    similarity to themselves, both rank alike, as ``d²(x, z) = S(x, x) + S(z, z) − 2 S(x, z)``; elsewhere they may not.

    A similarity depends on the origin: features should be centred, or be such that 0 means nothing (counts of words),
    and be of one scale. Where the root mean square of their standard deviations, in the first triplets or instances
    seen, lies below 0.1 or above √10, the margin and C are meant for the features divided by the power of ten nearest
    to it.

    Parameters
    ----------
    C : float, default=0.1
        Aggressiveness, the bound on τ: the larger, the more a triplet counts against all before.
    init : {"identity", "random"} or array-like of shape (d, d), default="identity"
        W at the start; "random" is any positive definite one.
    class_weight : dict, "balanced" or None, default=None
        Of labelled instances: a weight for each class, or as much in all for every class. By these, times
        ``sample_weight``, triplets are drawn.
    n_constraints : int, default=None
        Triplets that are drawn of labelled instances, with replacement: an instance, another of its class, one of
        another class. None for 30 for each instance, but at most 100,000.
    preprocessor : array-like of shape (n, d) or callable, default=None
        Points by row number, or a function of indicators that gives points: :meth:`fit` and all that answers about
        tuples then takes indicators, so that tuples are indices and no point is copied.
    random_state : int, RandomState or None, default=None
        A random start, and draws of triplets.
    verbose : bool, default=False
        Print the mean loss of every 10,000 triplets before they were learned from.

    Attributes
    ----------
    bilinear_matrix_ : array of shape (d, d)
        W.
    components_ : array of shape (k, d)
        Of the nearest metric; where :meth:`fit` is given more features than points, as many rows as they span.
    metric_ : MahalanobisMetric
    n_iter_ : int
        Triplets seen.
    n_updates_ : int
        Those that changed W.
    converged_ : bool
        False if no triplet changed W, of which a :class:`~sklearn.exceptions.ConvergenceWarning` tells. There is
        nothing else to converge to: every triplet is seen once.

    References
    ----------
    Chechik, Sharma, Shalit, Bengio (2010), *Large scale online learning of image similarity through ranking*
    [chechik2010large], JMLR 11.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from certimetric import OASIS
    >>> from certimetric.constraints import random_triplets
    >>> X, y = load_iris(return_X_y=True)
    >>> X = X - X.mean(axis=0)
    >>> triplets = X[random_triplets(y, 2000, np.random.RandomState(0))]
    >>> oasis = OASIS().fit(triplets[:500])
    >>> oasis = oasis.partial_fit(triplets[500:1000])
    >>> bool(oasis.score(triplets[1000:]) > 0.85)
    True
    """

    _parameter_constraints = {
        "C": [Interval(Real, 0, None, closed="neither")],
        "init": [StrOptions({"identity", "random"}), "array-like"],
        "class_weight": CLASS_WEIGHT,
        "n_constraints": [Interval(Integral, 1, None, closed="left"), None],
        "preprocessor": ["array-like", callable, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    _takes_sparse = True

    _core: Array  # W in units of the data, along _axes where there are any
    _axes: Array | None
    _unit: float

    def __init__(
        self,
        C: float = 0.1,
        *,
        init: Any = "identity",
        class_weight: Mapping[Any, float] | str | None = None,
        n_constraints: int | None = None,
        preprocessor: Any = None,
        random_state: Any = None,
        verbose: bool = False,
    ):
        self.C = C
        self.init = init
        self.class_weight = class_weight
        self.n_constraints = n_constraints
        self.preprocessor = preprocessor
        self.random_state = random_state
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=False)
    def partial_fit(self, X: ArrayLike, y: ArrayLike | None = None) -> OASIS:
        """Go on with further triplets, or with triplets drawn of further labelled instances.

        Parameters
        ----------
        X : array-like of shape (m, 3, d) or (n, d)
            As in :meth:`fit`; the first call is one of :meth:`fit`.
        y : array-like of shape (n,), optional
            Class labels of instances; classes may differ from those seen before.

        Returns
        -------
        self
        """
        if not hasattr(self, "_core"):
            self.fit(X, y)
            self._widen()
            return self
        preprocessor = check_preprocessor(self.preprocessor)
        if is_tuples(X, preprocessor is not None):
            tuples = Tuples.of(X, self.tuple_size, preprocessor)
            self._check_width(tuples.n_features, reset=False)
            points, triplets = tuples.points, tuples.index
        else:
            if preprocessor is not None and dimensions(X) == 1:
                X = points_of(np.asarray(X), preprocessor)
            X, labels = self._validate(X, y, reset=False, ensure_min_samples=1)
            check_classification_targets(labels)
            classes, codes = np.unique(labels, return_inverse=True)
            points = check_size(X, limit=MODEST)
            codes = codes.astype(np.int64)
            triplets = self._drawn(codes, self._by_class(codes, classes))
            if self.learned_from_labels_:
                self.classes_ = np.union1d(self.classes_, classes)
        self._widen()
        self.n_samples_fit_ += points.shape[0]
        return self._learn(points, triplets)

    def _learn_labels(self, X: ArrayLike, y: ArrayLike | None, sample_weight: ArrayLike | None) -> None:
        X, codes, weights = self._validate_labelled(X, y, sample_weight)
        self._rng = check_random_state(self.random_state)
        self._start(X)
        self._learn(X, self._drawn(codes, weights))

    def _learn_tuples(self, tuples: Tuples, y: Indices | None) -> None:
        self._rng = check_random_state(self.random_state)
        self._start(tuples.points)
        self._learn(tuples.points, tuples.index)

    def _drawn(self, codes: Indices, weights: Array | None) -> Indices:
        draws = self.n_constraints or min(_DRAWS_PER_INSTANCE * len(codes), _LARGEST_DRAW)
        triplets = triplets_of_classes(codes, draws, self._rng, weights)
        if not len(triplets):
            raise ValueError("y must hold two classes, and two instances of one of them, to draw triplets of")
        return triplets

    def _start(self, X: Array) -> None:
        """W at the start, in the span of the points where they are fewer than features: it changes nowhere else."""
        d = X.shape[1]
        self._unit, self._axes = unit_of(X), None
        self.n_iter_, self.n_updates_ = 0, 0
        if not isinstance(self.init, str):
            W = check_matrix(self.init, "init")
            if W.shape != (d, d):
                raise ValueError(f"init must be a matrix of shape ({d}, {d}), got {W.shape}")
            self._core = W * self._unit**2
            return
        if self.init == "random":
            L = prior_components("random", X, d, self._rng)
            self._core = L.T @ L
            return
        if d > X.shape[0]:
            _, singular, axes = np.linalg.svd(X / self._unit, full_matrices=False)
            spanned = singular > max(X.shape) * np.finfo(float).eps * singular[0]
            self._axes = axes[: max(int(spanned.sum()), 1)]
            d = len(self._axes)
        self._core = np.eye(d)

    def _widen(self) -> None:
        """W of all features, for triplets that leave the span of those before."""
        if self._axes is not None:
            U, self._axes = self._axes, None
            self._core = np.eye(U.shape[1]) + U.T @ (self._core - np.eye(len(U))) @ U
            self._set_nearest_metric()

    def _learn(self, points: Any, triplets: Indices) -> OASIS:
        Z = self._coordinates(points) if not issparse(points) else None
        steps = _STEPS_BETWEEN_REPORTS
        if issparse(points):  # of which no more are made dense at a time than take part in so many steps
            steps = int(np.clip(_MEMORY / (24 * points.shape[1]), 1, steps))
        for first in range(0, len(triplets), steps):
            some = triplets[first : first + steps]
            if issparse(points):
                rows, some = np.unique(some, return_inverse=True)
                Z, some = self._coordinates(points[rows].toarray()), some.reshape(-1, 3)
            loss, updates = _steps(self._core, Z, some, float(self.C))
            self.n_iter_ += len(some)
            self.n_updates_ += updates
            if self.verbose:
                print(f"[OASIS] triplet {self.n_iter_:7d}  mean loss {loss / len(some):.6g}")
        self._set_nearest_metric()
        reason = ""
        if not self.n_updates_:
            reason = "did not move: no triplet breaks its margin, or all of them are of equal instances"
        elif not self.components_.any():
            reason = "ended at the metric 0: its similarity has no positive part"
        self._set_converged(bool(self.n_updates_), reason)
        return self

    def _set_nearest_metric(self) -> None:
        L = factor_psd((self._core + self._core.T) / 2.0) / self._unit
        self._set_components(L if self._axes is None else L @ self._axes)

    def _coordinates(self, points: Array) -> Array:
        Z = points if self._unit == 1.0 else points / self._unit
        return np.ascontiguousarray(Z if self._axes is None else Z @ self._axes.T)

    @property
    def bilinear_matrix_(self) -> Array:
        """W, shape (d, d), made when asked for."""
        check_is_fitted(self, "_core")
        if self._axes is None:
            return self._core / self._unit**2
        U = self._axes  # outside of the span it is the identity still
        return (np.eye(U.shape[1]) + U.T @ (self._core - np.eye(len(U))) @ U) / self._unit**2

    def get_bilinear_matrix(self) -> Array:
        """W, shape (d, d)."""
        return self.bilinear_matrix_

    def _similarities(self, given: Tuples, second: int = 1) -> Array:
        """S of the first and another member of each tuple: points are mapped once, however many tuples share them."""
        first, other = given.index[:, 0], given.index[:, second]
        Z = self._coordinates(given.points)
        S = np.einsum("ij,ij->i", (Z @ self._core)[first], Z[other])
        if self._axes is not None:
            outside = given.points / self._unit - Z @ self._axes
            S += np.einsum("ij,ij->i", outside[first], outside[other])
        return np.asarray(S)

    def pair_score(self, pairs: ArrayLike) -> Array:
        """S of every pair, (m, 2, d) to (m,): the higher, the more similar; S(x, z) need not be S(z, x)."""
        return self._similarities(self._given(pairs, 2))

    @available_if(_of_tuples)
    def decision_function(self, triplets: ArrayLike) -> Array:
        """By how much b is more similar to a than c, ``S(a, b) − S(a, c)``, for every triplet."""
        return self._margins(triplets)

    @available_if(_of_tuples)
    def predict(self, triplets: ArrayLike) -> Indices:
        """+1 for every triplet whose similarities are in the right order, −1 for the others."""
        return np.where(self._margins(triplets) > 0, 1, -1)

    @available_if(_of_tuples)
    def score(self, triplets: ArrayLike, y: Any = None) -> float:
        """Share of the triplets whose similarities are in the right order."""
        return float((self._margins(triplets) > 0).mean())

    def _margins(self, triplets: ArrayLike) -> Array:
        given = self._given(triplets)
        return self._similarities(given) - self._similarities(given, 2)


@nb.njit(cache=True, nogil=True, fastmath={"contract", "reassoc"})
def _steps(W, X, triplets, C):
    """A passive-aggressive step for each triplet, in place; the sum of losses before each, and how many changed W."""
    d = X.shape[1]
    v = np.empty(d)
    total, updates = 0.0, 0
    for t in range(triplets.shape[0]):
        a, b, c = X[triplets[t, 0]], X[triplets[t, 1]], X[triplets[t, 2]]
        size_a, size_v = 0.0, 0.0
        for j in range(d):
            v[j] = b[j] - c[j]
            size_a += a[j] * a[j]
            size_v += v[j] * v[j]
        margin = 0.0
        for i in range(d):
            if a[i] != 0.0:
                row, product = W[i], 0.0
                for j in range(d):
                    product += row[j] * v[j]
                margin += a[i] * product
        loss = 1.0 - margin
        if not loss > 0.0:
            continue
        total += loss
        squared = size_a * size_v
        if not squared > 0.0:
            continue
        step = min(C, loss / squared)
        updates += 1
        for i in range(d):
            if a[i] != 0.0:
                row, factor = W[i], step * a[i]
                for j in range(d):
                    row[j] += factor * v[j]
    return total, updates
