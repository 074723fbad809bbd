"""Information-theoretic metric learning: the metric nearest to a prior that keeps pairs within bounds."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numba as nb
import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from certimetric.base.arrays import Array, Indices
from certimetric.base.threads import limited_threads
from certimetric.constraints.pairs import pairs_of_classes
from certimetric.constraints.tuples import Tuples
from certimetric.geometry.kernels import pair_squared_distances
from certimetric.geometry.spd import factor_psd, inverse
from certimetric.learners.coordinates import Coordinates
from certimetric.learners.starts import PRIORS, prior_components
from certimetric.learners.tuple_learner import PairLearner

_BOUND_PERCENTILES = (5, 95)
_PAIRS_FOR_BOUNDS = 10_000
_SMALLEST = 1e-290  # squared distances below have no finite inverse to work with


class ITML(PairLearner):
    """Information-theoretic metric learning: similar pairs within an upper bound, dissimilar ones beyond a lower bound.

    Minimises the LogDet divergence between M and a prior M₀, ::

        tr(M M₀⁻¹) − log det(M M₀⁻¹)  +  gamma · (the same divergence between the slack variables and the bounds)

    under ``d²(x, x') ≤ ξ`` for similar and ``d²(x, x') ≥ ξ`` for dissimilar pairs, whose slack variables ξ start at the
    bounds u and l. Bregman projections onto one constraint after the other are rank-one changes of L, O(d²) each,
    under which M stays positive definite. Pairs of equal instances say nothing about M and are skipped.

    Parameters
    ----------
    gamma : float, default=1.0
        Price of slack: the larger, the closer the bounds are kept.
    bounds : (float, float), default=None
        u and l: squared distances that similar pairs should not exceed and dissimilar ones should reach. None for the
        5th and the 95th percentile of the squared distances of random pairs of instances under the prior.
    prior : {"identity", "covariance", "random"} or array-like of shape (d, d), default="identity"
        M₀, positive definite; "covariance" is the inverse covariance of the instances, with a small ridge.
    n_constraints : int, default=None
        Draws of similar and of as many dissimilar pairs that :meth:`fit` makes of labels; a pair drawn twice counts
        once. None for 20 c² with c classes, as in the paper, but at most 15,000 (from 28 classes on). Differences of
        pairs are made as they are needed: a pair takes some 100 bytes, and a sweep O(d²) time for each.
    max_iter : int, default=1000
        Bound on the sweeps over all constraints.
    tol : float, default=0.02
        Stop when the objective lies at most this fraction above its minimum, which the multipliers bound from below: a
        fraction that depends neither on the number of pairs nor on units. 0.02 takes some 5 to 250 sweeps; bounds that
        conflict at a high ``gamma`` may take all of ``max_iter``.
    preprocessor : array-like of shape (n, d) or callable, default=None
        Points by row number, or a function of indicators that gives points: :meth:`fit` and all that answers about
        tuples then takes indicators, so that tuples are indices and no point is copied.
    random_state : int, RandomState or None, default=None
        Draws of pairs, and a random prior.
    verbose : bool, default=False
        Print the objective and what bounds its minimum from below.

    Attributes
    ----------
    components_ : array of shape (d, d)
        Where there are more features than instances and the prior is no array, as many rows as their differences span.
    metric_ : MahalanobisMetric
    bounds_ : tuple of float
        u and l in force.
    n_iter_ : int
        Sweeps.
    converged_ : bool
        Whether the objective is proven to lie within ``tol`` of its minimum; a
        :class:`~sklearn.exceptions.ConvergenceWarning` says if not, and if no pair moved the prior.
    classes_ : array
        After :meth:`fit`.

    References
    ----------
    Davis, Kulis, Jain, Sra, Dhillon (2007), *Information-theoretic metric learning*, ICML, algorithm 1,
    which is to stop at convergence. metric-learn stops where the sum of the changes of the multipliers falls below 1e-3
    of their Euclidean length, a ratio that grows with the root of the number of pairs.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from certimetric import ITML
    >>> X, y = load_iris(return_X_y=True)
    >>> ITML(random_state=0).fit(X, y).get_mahalanobis_matrix().shape
    (4, 4)
    """

    _parameter_constraints = {
        "gamma": [Interval(Real, 0, None, closed="neither")],
        "bounds": ["array-like", None],
        "prior": [StrOptions(PRIORS), "array-like"],
        "n_constraints": [Interval(Integral, 1, None, closed="left"), None],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "preprocessor": ["array-like", callable, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        gamma: float = 1.0,
        *,
        bounds: Any = None,
        prior: Any = "identity",
        n_constraints: int | None = None,
        max_iter: int = 1000,
        tol: float = 0.02,
        preprocessor: Any = None,
        random_state: Any = None,
        verbose: bool = False,
    ):
        self.gamma = gamma
        self.bounds = bounds
        self.prior = prior
        self.n_constraints = n_constraints
        self.max_iter = max_iter
        self.tol = tol
        self.preprocessor = preprocessor
        self.random_state = random_state
        self.verbose = verbose

    def _learn_labels(self, X: ArrayLike, y: ArrayLike | None) -> None:
        X, codes = self._validate_labelled(X, y)
        coordinates = self._coordinates(X)
        rng = check_random_state(self.random_state)
        pairs, labels = pairs_of_classes(codes, self._n_draws(), rng)
        self._project(coordinates, pairs, labels, rng)

    def _learn_tuples(self, tuples: Tuples, y: Indices | None) -> None:
        assert y is not None
        coordinates = self._coordinates(tuples.points)
        self._project(coordinates, tuples.index, y, check_random_state(self.random_state))

    def _coordinates(self, X: Array) -> Coordinates:
        """A prior that is a matrix ties the span of the instances to the rest: nothing is reduced under it."""
        return Coordinates.of(X, rescale=False, reduce=isinstance(self.prior, str))

    def _project(self, coordinates: Coordinates, pairs: Indices, y: Indices, rng: np.random.RandomState) -> ITML:
        """Sweep over the constraints, which are pairs of rows, until the objective is near its minimum."""
        X = np.ascontiguousarray(coordinates.X)
        with limited_threads(X.shape[1]):
            L = prior_components(self.prior, X, self.n_features_in_, rng)
            self.bounds_ = self._check_bounds(X @ L.T, rng)
            M = L.T @ L
            inverse_prior = inverse(M)
            sign = y.astype(float)
            inverse_bound = 1.0 / np.where(y == 1, *self.bounds_)
            multipliers = np.zeros(len(y))
            log_det, next_look, converged = 0.0, 1, False
            for sweep in range(1, self.max_iter + 1):
                log_det += _sweep(M, X, pairs, sign, inverse_bound, multipliers, 1.0 / self.gamma)
                if sweep < next_look and sweep < self.max_iter:
                    continue
                next_look = sweep + 1 + sweep // 16  # a look costs up to half a sweep
                divergence = float(np.vdot(M, inverse_prior)) - len(M) - log_det
                value = divergence + self.gamma * _slack(M, X, pairs, sign, inverse_bound)
                least = self.gamma * np.log1p(-sign * multipliers / (self.gamma * inverse_bound)).sum() - log_det
                if self.verbose:
                    print(f"[ITML] sweep {sweep:4d}  objective {value:.6g}, at least {least:.6g}")
                if value - least <= self.tol * least or not multipliers.any():
                    converged = True
                    break
        self.n_iter_ = sweep
        self._set_components(coordinates.lift(factor_psd(M)))
        reason = ""
        if not converged:
            reason = (
                f"did not converge in max_iter={self.max_iter} sweeps: its objective is {value:.4g}, the minimum may "
                f"be {least:.4g}; raise max_iter or tol, or lower gamma"
            )
        elif not multipliers.any():
            reason = (
                f"did not move from its prior: all of its {len(y)} pairs keep their bounds, or are of equal instances"
            )
        self._set_converged(converged, reason)
        return self

    def _check_bounds(self, Z: Array, rng: np.random.RandomState) -> tuple[float, float]:
        """u and l, given or read off the distances of random pairs of rows of Z."""
        if self.bounds is not None:
            bounds = np.asarray(self.bounds)
            numbers = bounds.shape == (2,) and bounds.dtype.kind in "fiu"
            if not numbers or not np.isfinite(bounds).all() or (bounds <= 0).any():
                raise ValueError(f"bounds must be two positive numbers (upper, lower), got {self.bounds!r}")
            return float(bounds[0]), float(bounds[1])
        i = rng.randint(len(Z), size=_PAIRS_FOR_BOUNDS)
        j = (i + rng.randint(1, max(len(Z), 2), size=_PAIRS_FOR_BOUNDS)) % len(Z)
        squared = pair_squared_distances(np.ascontiguousarray(Z), i, j)
        squared = squared[squared > _SMALLEST]  # a bound of 0 cannot be kept
        if not len(squared):
            return 1.0, 1.0
        upper, lower = np.percentile(squared, _BOUND_PERCENTILES)
        return float(upper), float(lower)


def _slack(M: Array, X: Array, pairs: Indices, sign: Array, inverse_bound: Array) -> float:
    """Divergence between the bounds and the nearest slack variables that M keeps: only broken bounds take part."""
    try:
        factor = np.linalg.cholesky(M)
    except np.linalg.LinAlgError:  # definite, but not in floating point
        factor = factor_psd(M).T
    squared = pair_squared_distances(X @ factor, *np.ascontiguousarray(pairs.T))
    ratio = squared * inverse_bound
    ratio = ratio[(sign * (ratio - 1.0) > 0.0) & (squared > _SMALLEST)]
    return float((ratio - np.log(ratio) - 1.0).sum())


@nb.njit(cache=True, nogil=True, fastmath={"contract", "reassoc"})
def _sweep(M, X, pairs, sign, inverse_bound, multipliers, inverse_gamma):
    """Project onto every constraint once, in place; gives the change of log det M.

    The slack variable is a function of the multiplier λ, ``1/ξ = 1/ξ₀ − δ λ/γ`` with δ = ±1. A projection is
    ``M ← M + β M Δ ΔᵀM`` with ``1 + βp = 1/(1 − δαp)``, p = ΔᵀMΔ: β > −1/p, so that M stays definite.
    """
    m, d = pairs.shape[0], X.shape[1]
    ratio = 1.0 / (1.0 + inverse_gamma)
    v, delta = np.empty(d), np.empty(d)
    log_det = 0.0
    for t in range(m):
        first, second = X[pairs[t, 0]], X[pairs[t, 1]]
        for a in range(d):
            delta[a] = first[a] - second[a]
        p = 0.0
        for a in range(d):
            total = 0.0
            for b in range(d):
                total += M[a, b] * delta[b]
            v[a] = total
            p += total * delta[a]
        if p <= _SMALLEST:
            continue
        inverse_slack = inverse_bound[t] - sign[t] * multipliers[t] * inverse_gamma
        alpha = sign[t] * ratio * (1.0 / p - inverse_slack)
        if alpha < multipliers[t]:
            kept = inverse_gamma * ratio + ratio * p * inverse_slack  # 1 − δαp without cancellation
        else:
            alpha = multipliers[t]
            kept = 1.0 - sign[t] * alpha * p
        if alpha == 0.0:
            continue
        multipliers[t] -= alpha
        log_det -= np.log(kept)
        beta = (1.0 / kept - 1.0) / p
        for a in range(d):
            step = beta * v[a]
            for b in range(d):
                M[a, b] += step * v[b]
    return log_det
