"""Least squared residual metric learning: one pair nearer than another, near to a prior."""

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
from certimetric.constraints.neighbors import nearest_triplets
from certimetric.constraints.pairs import quadruplets_of_classes
from certimetric.constraints.triplets import triplets_of_quadruplets
from certimetric.constraints.tuples import Tuples
from certimetric.learners.base import CLASS_WEIGHT, IMPOSTORS_PER_INSTANCE, TARGETS_PER_INSTANCE
from certimetric.learners.coordinates import Coordinates
from certimetric.learners.starts import PRIORS, prior_components
from certimetric.learners.tuple_learner import QuadrupletLearner
from certimetric.objectives.divergence import LogDetDivergence, logdet_gap
from certimetric.objectives.gradient import MetricState, Term, TransformedObjective
from certimetric.objectives.quadruplets import QuadrupletHinge
from certimetric.objectives.triplet_margin import TripletMarginLoss


class LSML(QuadrupletLearner):
    """Least squared residual metric learning (LSML): quadruplets in order, and a metric near to a prior.

    Minimises over quadruplets (a, b, c, d), of which a and b should be nearer to each other than c and d are, ::

        weighted mean of [d(a, b) − d(c, d)]_+²  +  tr(M M₀⁻¹) − log det(M M₀⁻¹) − n_features

    with distances d that are not squared and a prior M₀. It is convex in M; it is minimised over L with ``M = LᵀL``,
    in the coordinates where the prior is the identity, by a quasi-Newton method. The divergence keeps M positive
    definite, so that no metric of fewer components can be asked for.

    The price of the residuals is in units of the data. Where the prior is no array, and the root mean square of the
    standard deviations of the features lies below 0.1 or above √10, the objective is that of the features divided by
    the power of ten nearest to it.

    Parameters
    ----------
    prior : {"identity", "covariance", "random"} or array-like of shape (d, d), default="identity"
        M₀, positive definite; "covariance" is the inverse covariance of the instances, with a small ridge.
    class_weight : dict, "balanced" or None, default=None
        Of labelled instances: a weight for each class, or as much in all for every class. By these, times
        ``sample_weight``, quadruplets are drawn; one drawn twice counts twice then.
    n_constraints : int, default=None
        Draws of quadruplets that :meth:`fit` makes of labels, a and b of one class, c and d of two; one drawn twice
        counts once. None for 20 c² with c classes, but at most 15,000. No difference of instances is kept.
    max_iter : int, default=200
        Bound on the quasi-Newton steps.
    tol : float, default=1e-3
        Stop when the objective lies at most this fraction above its minimum, which a tangent bounds from below. With a
        perturbation loss, which is not convex, when ten steps lower it by less than this fraction.
    perturbation : PerturbationLoss or MarginLoss, default=None
        Enlarges the adversarial margins of triplets: from labels 3 target neighbours × the 10 nearest impostors of each
        instance; from quadruplets, of those whose two pairs share an instance.
    preprocessor : array-like of shape (n, d) or callable, default=None
        Points by row number, or a function of indicators that gives points: :meth:`fit` and all that answers about
        tuples then takes indicators, so that tuples are indices and no point is copied.
    random_state : int, RandomState or None, default=None
        Draws of quadruplets, and a random prior.
    verbose : bool, default=False
        Print the objective as it falls.

    Attributes
    ----------
    components_ : array of shape (d, d)
        Where there are more features than instances and the prior is no array, as many rows as their differences span.
    metric_ : MahalanobisMetric
    objective_ : float
    objective_path_ : list of float
        The objective at the start and after every ten steps: it never rises.
    n_iter_ : int
    converged_ : bool
        Whether the objective is proven to lie within ``tol`` of its minimum, or with a perturbation loss has stalled; a
        :class:`~sklearn.exceptions.ConvergenceWarning` says if not, and if the prior has all quadruplets in order
        already.

    References
    ----------
    Liu, Guo, Zhou, Wang, Wang (2012), *Metric learning from relative comparisons by minimizing squared residual*
    [liu2012metric], ICDM.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from certimetric import LSML
    >>> X, y = load_iris(return_X_y=True)
    >>> lsml = LSML(preprocessor=X).fit([[118, 106, 70, 118], [50, 60, 50, 106]])
    >>> lsml.predict([[0, 1, 0, 60]])
    array([1])
    """

    _parameter_constraints = {
        "prior": [StrOptions(PRIORS), "array-like"],
        "class_weight": CLASS_WEIGHT,
        "n_constraints": [Interval(Integral, 1, None, closed="left"), None],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "perturbation": [TripletMarginLoss, None],
        "preprocessor": ["array-like", callable, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        prior: Any = "identity",
        *,
        class_weight: Mapping[Any, float] | str | None = None,
        n_constraints: int | None = None,
        max_iter: int = 200,
        tol: float = 1e-3,
        perturbation: TripletMarginLoss | None = None,
        preprocessor: Any = None,
        random_state: Any = None,
        verbose: bool = False,
    ):
        self.prior = prior
        self.class_weight = class_weight
        self.n_constraints = n_constraints
        self.max_iter = max_iter
        self.tol = tol
        self.perturbation = perturbation
        self.preprocessor = preprocessor
        self.random_state = random_state
        self.verbose = verbose

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike | None = None,
        weights: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> LSML:
        """Learn from quadruplets, or from labelled instances.

        Parameters
        ----------
        X : array-like of shape (m, 4, d) or (n, d)
            Quadruplets, or instances; with a ``preprocessor`` also their indicators, of shape (m, 4) or (n,).
        y : array-like of shape (n,), optional
            Class labels of instances; not used for quadruplets.
        weights : array-like of shape (m,), optional
            Of quadruplets, 0 or more: their shares of the residuals. The same for all by default.
        sample_weight : array-like of shape (n,), optional
            Of labelled instances, at least 0; 0 is as good as absent, and only the shares count. They multiply with the
            weights of classes.

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
        self._weights = weights
        try:
            super().fit(X, y, sample_weight)
        finally:
            del self._weights
        return self

    def _learn_labels(self, X: ArrayLike, y: ArrayLike | None, sample_weight: ArrayLike | None) -> None:
        if self._weights is not None:
            raise ValueError("weights are those of given quadruplets, and cannot be given with labelled instances")
        X, codes, weights = self._validate_labelled(X, y, sample_weight)
        rng = check_random_state(self.random_state)
        quadruplets = quadruplets_of_classes(codes, self._n_draws(), rng, weights)
        if not len(quadruplets):
            raise ValueError("LSML needs two instances of one class to compare, but all labels differ")
        coordinates = self._coordinates(X)
        triplets = None
        if self.perturbation is not None:
            triplets = nearest_triplets(coordinates.X, codes, TARGETS_PER_INSTANCE, IMPOSTORS_PER_INSTANCE)
        self._minimize(coordinates, quadruplets, None, triplets, rng, weights)

    def _learn_tuples(self, tuples: Tuples, y: Indices | None) -> None:
        weights = None if self._weights is None else _check_weights(self._weights, len(tuples))
        triplets = None
        if self.perturbation is not None:
            tuples = tuples.distinct()
            triplets = triplets_of_quadruplets(tuples.index)
            if not len(triplets):
                raise ValueError(
                    "the perturbation loss needs triplets, but in no quadruplet the pairs share an instance"
                )
        coordinates = self._coordinates(tuples.points)
        self._minimize(coordinates, tuples.index, weights, triplets, check_random_state(self.random_state))

    def _coordinates(self, X: Array) -> Coordinates:
        """A prior that is a matrix has the units of the data, and ties the span of the instances to the rest."""
        free = isinstance(self.prior, str)
        return Coordinates.of(X, rescale=free, reduce=free, perturbation=self.perturbation)

    def _minimize(
        self,
        coordinates: Coordinates,
        quadruplets: Indices,
        weights: Array | None,
        triplets: Indices | None,
        rng: np.random.RandomState,
        of_rows: Array | None = None,
    ) -> None:
        X = coordinates.X
        with limited_threads(X.shape[1]):
            prior = prior_components(self.prior, X, self.n_features_in_, rng)
            if triplets is None:  # rows of no quadruplet need not be mapped at each step
                tuples = Tuples(X, quadruplets).used()
                X, quadruplets = tuples.points, tuples.index
            hinge = QuadrupletHinge(quadruplets, weights)
            terms: list[Term] = [hinge, LogDetDivergence(prior)]
            if self.perturbation is not None and triplets is not None:
                terms.append(coordinates.bind(self.perturbation, triplets, terms, prior, of_rows))
            objective = TransformedObjective(X, terms, prior)
            solution = self._descend(
                objective, np.eye(X.shape[1]), gap=logdet_gap if self.perturbation is None else None
            )
            inert = not hinge.violations(MetricState(X, prior))[1].any()
        solution = replace(solution, components=solution.components @ prior)
        if inert and self.perturbation is None:
            reason = "did not move from its prior, which has all quadruplets in order"
            solution = replace(solution, converged=True, reason=reason)
        self._set_solution(solution, coordinates)


def _check_weights(weights: ArrayLike, m: int) -> Array:
    """Weights of m quadruplets.

    Raises
    ------
    ValueError
        If there are not as many, or they are not finite, 0 or more, and not all 0.
    """
    given = np.asarray(weights)
    if given.shape != (m,) or given.dtype.kind not in "biuf":
        raise ValueError(f"weights must be one number for each of the {m} quadruplets, got shape {given.shape}")
    if not np.isfinite(given).all() or (given < 0).any() or not given.any():
        raise ValueError("weights must be finite, 0 or more, and not all 0")
    return given.astype(np.float64)
