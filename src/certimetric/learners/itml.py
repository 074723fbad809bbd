"""Information-theoretic metric learning: the metric nearest to a prior that keeps pairs within bounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from certimetric.base.arrays import Array, Indices
from certimetric.base.threads import limited_threads
from certimetric.constraints.pairs import pairs_of_classes
from certimetric.constraints.tuples import Tuples
from certimetric.learners.base import CLASS_WEIGHT
from certimetric.learners.coordinates import Coordinates
from certimetric.learners.starts import PRIORS, prior_components
from certimetric.learners.tuple_learner import PairLearner
from certimetric.objectives.bounds import SMALLEST_SQUARE, PairBounds
from certimetric.objectives.divergence import LogDetDivergence, logdet_gap
from certimetric.objectives.gradient import MetricObjective, MetricState, TransformedObjective

_BOUND_PERCENTILES = (5, 95)
_PAIRS_FOR_BOUNDS = 10_000


class ITML(PairLearner):
    """Information-theoretic metric learning: similar pairs within an upper bound, dissimilar ones beyond a lower bound.

    Minimises the LogDet divergence between M and a prior M₀, ::

        tr(M M₀⁻¹) − log det(M M₀⁻¹)  +  gamma · (the same divergence between the slack variables and the bounds)

    under ``d²(x, x') ≤ ξ`` for similar and ``d²(x, x') ≥ ξ`` for dissimilar pairs, with slack variables ξ near to the
    bounds u and l. With the best slack variables in their place this is convex and smooth in M; it is minimised over L
    with ``M = LᵀL`` by a quasi-Newton method, and the divergence keeps M positive definite. The paper's projections
    onto one constraint after the other have the same minimum, and are hundreds of sweeps away from it where bounds
    conflict. Pairs of equal instances say nothing about M and are skipped.

    Parameters
    ----------
    gamma : float, default=1.0
        Price of slack: the larger, the closer the bounds are kept. Where bounds conflict at a price beyond 1e5,
        rounding may leave too little of the divergence to prove a minimum, and a warning says so.
    bounds : (float, float), default=None
        u and l: squared distances that similar pairs should not exceed and dissimilar ones should reach. None for the
        5th and the 95th percentile of the squared distances of random pairs of instances under the prior.
    prior : {"identity", "covariance", "random"} or array-like of shape (d, d), default="identity"
        M₀, positive definite; "covariance" is the inverse covariance of the instances, with a small ridge.
    class_weight : dict, "balanced" or None, default=None
        Of labelled instances: a weight for each class, or as much in all for every class. By these, times
        ``sample_weight``, pairs are drawn; one drawn twice counts twice then.
    n_constraints : int, default=None
        Draws of similar and of as many dissimilar pairs that :meth:`fit` makes of labels; a pair drawn twice counts
        once. None for 20 c² with c classes, as in the paper, but at most 15,000 (from 28 classes on). Differences of
        pairs are made as they are needed: a pair takes some 100 bytes, and a step O(d) time for each.
    max_iter : int, default=1000
        Bound on the quasi-Newton steps.
    tol : float, default=1e-4
        Stop when the objective lies at most this fraction above its minimum, which a tangent bounds from below: a
        fraction that depends neither on the number of pairs nor on units. 1e-4 takes some 10 to 30 steps.
    preprocessor : array-like of shape (n, d) or callable, default=None
        Points by row number, or a function of indicators that gives points: :meth:`fit` and all that answers about
        tuples then takes indicators, so that tuples are indices and no point is copied.
    random_state : int, RandomState or None, default=None
        Draws of pairs, and a random prior.
    verbose : bool, default=False
        Print the objective, and what bounds its minimum from below.

    Attributes
    ----------
    components_ : array of shape (d, d)
        Where there are more features than instances and the prior is no array, as many rows as their differences span.
    metric_ : MahalanobisMetric
    bounds_ : tuple of float
        u and l in force.
    objective_ : float
    objective_path_ : list of float
        The objective at the start and after every ten steps: it never rises.
    n_iter_ : int
    converged_ : bool
        Whether the objective is proven to lie within ``tol`` of its minimum; a
        :class:`~sklearn.exceptions.ConvergenceWarning` says if not, and if no pair moved the prior.
    classes_ : array
        After :meth:`fit`.

    References
    ----------
    Davis, Kulis, Jain, Sra, Dhillon (2007), *Information-theoretic metric learning* [davis2007information], ICML.

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
        "class_weight": CLASS_WEIGHT,
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
        class_weight: Mapping[Any, float] | str | None = None,
        n_constraints: int | None = None,
        max_iter: int = 1000,
        tol: float = 1e-4,
        preprocessor: Any = None,
        random_state: Any = None,
        verbose: bool = False,
    ):
        self.gamma = gamma
        self.bounds = bounds
        self.prior = prior
        self.class_weight = class_weight
        self.n_constraints = n_constraints
        self.max_iter = max_iter
        self.tol = tol
        self.preprocessor = preprocessor
        self.random_state = random_state
        self.verbose = verbose

    def _learn_labels(self, X: ArrayLike, y: ArrayLike | None, sample_weight: ArrayLike | None) -> None:
        X, codes, weights = self._validate_labelled(X, y, sample_weight)
        coordinates = self._coordinates(X)
        rng = check_random_state(self.random_state)
        pairs, labels = pairs_of_classes(codes, self._n_draws(), rng, weights)
        self._minimize(coordinates, pairs, labels, rng)

    def _learn_tuples(self, tuples: Tuples, y: Indices | None) -> None:
        assert y is not None
        coordinates = self._coordinates(tuples.points)
        self._minimize(coordinates, tuples.index, y, check_random_state(self.random_state))

    def _coordinates(self, X: Array) -> Coordinates:
        """A prior that is a matrix ties the span of the instances to the rest: nothing is reduced under it."""
        return Coordinates.of(X, rescale=False, reduce=isinstance(self.prior, str))

    def _minimize(self, coordinates: Coordinates, pairs: Indices, y: Indices, rng: np.random.RandomState) -> None:
        """Minimise over K, for components K L₀ with the prior L₀ᵀ L₀, until the minimum is known to be near."""
        with limited_threads(coordinates.X.shape[1]):
            prior = prior_components(self.prior, coordinates.X, self.n_features_in_, rng)
            self.bounds_ = self._check_bounds(coordinates.X, prior, rng)
            tuples = Tuples(coordinates.X, pairs).used()  # rows of no pair need not be mapped at each step
            X, pairs = tuples.points, tuples.index
            slack = PairBounds(pairs, y, np.where(y == 1, *self.bounds_), self.gamma)
            inert = not MetricObjective(X, [slack]).in_components(prior)[1].any()
            # Seen from the prior, the slope of one similar pair far beyond its bound hides all others. It starts where
            # the divergence is least with these slopes in place of the slack, and in coordinates that even them out.
            steep = PairBounds(pairs[y == 1], y[y == 1], self.bounds_[0], self.gamma)
            identity = np.eye(len(prior))
            slope = prior @ MetricObjective(X, [steep]).in_matrix(prior)[1] @ prior.T
            values, axes = np.linalg.eigh(identity + slope)
            start = (axes / np.sqrt(np.maximum(values, 1.0))).T @ prior
            objective = TransformedObjective(X, [LogDetDivergence(prior), slack], start)
            solution = self._descend(objective, identity, gap=logdet_gap)
        if inert:
            reason = (
                f"did not move from its prior: all of its {len(y)} pairs keep their bounds, or are of equal instances"
            )
            solution = replace(solution, converged=True, reason=reason)
        elif not solution.converged:
            solution = replace(solution, reason=f"{solution.reason}, or lower gamma")
        self._set_solution(replace(solution, components=solution.components @ start), coordinates)

    def _check_bounds(self, X: Array, prior: Array, rng: np.random.RandomState) -> tuple[float, float]:
        """u and l, given or read off the distances of random pairs of instances under the prior."""
        if self.bounds is not None:
            bounds = np.asarray(self.bounds)
            numbers = bounds.shape == (2,) and bounds.dtype.kind in "fiu"
            if not numbers or not np.isfinite(bounds).all() or (bounds <= 0).any():
                raise ValueError(f"bounds must be two positive numbers (upper, lower), got {self.bounds!r}")
            return float(bounds[0]), float(bounds[1])
        i = rng.randint(len(X), size=_PAIRS_FOR_BOUNDS)
        j = (i + rng.randint(1, max(len(X), 2), size=_PAIRS_FOR_BOUNDS)) % len(X)
        squared = MetricState(X, prior).squared_distances(i, j)
        squared = squared[squared > SMALLEST_SQUARE]  # a bound of 0 cannot be kept
        if not len(squared):
            return 1.0, 1.0
        upper, lower = np.percentile(squared, _BOUND_PERCENTILES)
        return float(upper), float(lower)
