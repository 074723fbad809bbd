"""Metric learning with side information: dissimilar pairs as far apart as the spread of similar ones allows."""

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
from certimetric.constraints.pairs import pairs_of_classes
from certimetric.constraints.scatter import PairScatter
from certimetric.constraints.triplets import triplets_of_pairs
from certimetric.constraints.tuples import Tuples
from certimetric.geometry.kernels import pair_squared_distances
from certimetric.geometry.spd import power
from certimetric.learners.base import CLASS_WEIGHT, IMPOSTORS_PER_INSTANCE, TARGETS_PER_INSTANCE
from certimetric.learners.coordinates import Coordinates
from certimetric.learners.gmml import ridged
from certimetric.learners.solvers import Solution
from certimetric.learners.starts import INITS, starting_components
from certimetric.learners.tuple_learner import PairLearner
from certimetric.objectives.gradient import DiagonalObjective, Term, TransformedObjective
from certimetric.objectives.separation import SeparationRatio
from certimetric.objectives.triplet_margin import TripletMarginLoss


class MMC(PairLearner):
    """Metric learning with side information (MMC): the largest sum of distances of dissimilar pairs.

    The published problem is to maximise the sum of ``d(x, x')`` over dissimilar pairs under a mean of ``d²(x, x')``
    over similar pairs of at most 1, M positive semidefinite. Both sides are homogeneous in M: it is the minimum of ::

        mean over similar pairs of d²  /  (mean over dissimilar pairs of d)²  ·  unevenness ^ evenness

    with ``evenness=0``, over L with ``M = LᵀL``, by a quasi-Newton method in the coordinates that whiten the similar
    pairs; the metric is scaled to the mean of 1 at the end. For a full M there are no minima but the global one.

    That minimum is a metric of low rank: on digits, of 61 dimensions, 5 are left, and 3-NN errs in 18 % of cases,
    whoever finds it. So by default the ratio is multiplied by the *unevenness* of the metric, the arithmetic over the
    geometric mean of its eigenvalues in the whitened coordinates: every direction costs as much as it separates.

    Parameters
    ----------
    diagonal : bool, default=False
        Whether M is diagonal: one weight for each feature.
    evenness : float, default=2.0
        Power of the unevenness: 0 for the published problem; the larger, the nearer is M to the inverse scatter of the
        similar pairs. Where there are more features than instances, it is about the directions that these span.
    reg : float, default=0.1
        Ridge on the scatter of similar pairs, as a fraction of its mean eigenvalue: where similar pairs do not differ,
        dissimilar ones could be moved apart at no price.
    n_components : int, default=None
        Rows of L; None for as many as features. Not for ``diagonal``.
    init : {"auto", "identity", "pca", "lda", "random"} or array-like of shape (k, d), default="auto"
        Starting point; "auto" is the identity, or "pca" where ``n_components`` is smaller than d. "lda" takes Fisher's
        discriminants, which are fewer than the classes: as many rows where ``n_components`` is None. Not for
        pairs, which have no classes. With ``diagonal`` an array is of shape (d, d), and its diagonal counts; there is
        no "lda". The minimum over as many rows as features is the same from all.
    class_weight : dict, "balanced" or None, default=None
        Of labelled instances: a weight for each class, or as much in all for every class. By these, times
        ``sample_weight``, pairs are drawn; one drawn twice counts twice then.
    n_constraints : int, default=None
        Draws of similar and of as many dissimilar pairs that :meth:`fit` makes of labels; a pair drawn twice counts
        once. None for 20 c² with c classes, but at most 15,000. No difference of pairs is kept.
    max_iter : int, default=200
        Bound on the quasi-Newton steps.
    tol : float, default=1e-6
        Stop when ten steps lower the objective by less than this fraction.
    perturbation : PerturbationLoss or MarginLoss, default=None
        Enlarges the adversarial margins of triplets: from labels 3 target neighbours × the 10 nearest impostors of each
        instance, from pairs the 3 nearest partners in similar × the 10 nearest in dissimilar pairs.
    preprocessor : array-like of shape (n, d) or callable, default=None
        Points by row number, or a function of indicators that gives points: :meth:`fit` and all that answers about
        tuples then takes indicators, so that tuples are indices and no point is copied.
    random_state : int, RandomState or None, default=None
        Draws of pairs, and a random starting point.
    verbose : bool, default=False
        Print the objective as it falls.

    Attributes
    ----------
    components_ : array of shape (k, d)
        L; where k is not given and there are more features than instances, as many rows as their differences span.
    metric_ : MahalanobisMetric
    objective_ : float
    objective_path_ : list of float
        The objective at the start and after every ten steps: it never rises.
    n_iter_ : int
    converged_ : bool
        Whether more steps would have gained less than ``tol``; a :class:`~sklearn.exceptions.ConvergenceWarning` says
        if not, and if the fit did not move at all.
    classes_ : array

    References
    ----------
    Xing, Ng, Jordan, Russell (2002), *Distance metric learning with application to clustering with side-information*
    [xing2002distance], NIPS 15. The evenness is not in the paper.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from certimetric import MMC
    >>> X, y = load_iris(return_X_y=True)
    >>> MMC(random_state=0).fit(X, y).get_mahalanobis_matrix().shape
    (4, 4)
    """

    _parameter_constraints = {
        "diagonal": ["boolean"],
        "evenness": [Interval(Real, 0, None, closed="left")],
        "reg": [Interval(Real, 0, None, closed="left")],
        "n_components": [Interval(Integral, 1, None, closed="left"), None],
        "init": [StrOptions(INITS), "array-like"],
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
        diagonal: bool = False,
        *,
        evenness: float = 2.0,
        reg: float = 0.1,
        n_components: int | None = None,
        init: Any = "auto",
        class_weight: Mapping[Any, float] | str | None = None,
        n_constraints: int | None = None,
        max_iter: int = 200,
        tol: float = 1e-6,
        perturbation: TripletMarginLoss | None = None,
        preprocessor: Any = None,
        random_state: Any = None,
        verbose: bool = False,
    ):
        self.diagonal = diagonal
        self.evenness = evenness
        self.reg = reg
        self.n_components = n_components
        self.init = init
        self.class_weight = class_weight
        self.n_constraints = n_constraints
        self.max_iter = max_iter
        self.tol = tol
        self.perturbation = perturbation
        self.preprocessor = preprocessor
        self.random_state = random_state
        self.verbose = verbose

    def _learn_labels(self, X: ArrayLike, y: ArrayLike | None, sample_weight: ArrayLike | None) -> None:
        X, codes, weights = self._validate_labelled(X, y, sample_weight)
        rng = check_random_state(self.random_state)
        pairs, labels = pairs_of_classes(codes, self._n_draws(), rng, weights)
        coordinates = self._coordinates(X)
        triplets = None
        if self.perturbation is not None:
            triplets = nearest_triplets(coordinates.X, codes, TARGETS_PER_INSTANCE, IMPOSTORS_PER_INSTANCE)
        self._separate(coordinates, pairs, labels, triplets, rng, codes, weights)

    def _learn_tuples(self, tuples: Tuples, y: Indices | None) -> None:
        assert y is not None
        triplets = None
        if self.perturbation is not None:
            tuples = tuples.distinct()
        coordinates = self._coordinates(tuples.points)
        if self.perturbation is not None:
            counts = TARGETS_PER_INSTANCE, IMPOSTORS_PER_INSTANCE
            triplets = triplets_of_pairs(coordinates.X, tuples.index, y, *counts)
            if not len(triplets):
                raise ValueError(
                    "the perturbation loss needs triplets, but no instance is in a similar and in a dissimilar pair"
                )
        self._separate(coordinates, tuples.index, y, triplets, check_random_state(self.random_state))

    def _coordinates(self, X: Array) -> Coordinates:
        if self.diagonal:
            if self.n_components is not None:
                raise ValueError(f"n_components must be None for a diagonal metric, got {self.n_components}")
            if isinstance(self.init, str) and self.init == "lda":
                raise ValueError("init='lda' is not for a diagonal metric: discriminants are no single features")
            return Coordinates.of(X, rescale=True, reduce=False, perturbation=self.perturbation)
        return Coordinates.for_descent(X, self.init, self.n_components, rescale=True, perturbation=self.perturbation)

    def _separate(
        self,
        coordinates: Coordinates,
        pairs: Indices,
        y: Indices,
        triplets: Indices | None,
        rng: np.random.RandomState,
        codes: Indices | None = None,
        weights: Array | None = None,
    ) -> None:
        X, dissimilar = coordinates.X, pairs[y == -1]
        if not len(dissimilar) or len(dissimilar) == len(pairs):
            raise ValueError(
                f"MMC needs at least one similar and one dissimilar pair, got {len(pairs) - len(dissimilar)} and "
                f"{len(dissimilar)}"
            )
        with limited_threads(X.shape[1]):
            scatter = ridged(PairScatter.from_tuples(Tuples(X, pairs), y).similar, self.reg, self.n_features_in_)
            if self.diagonal:
                scatter = np.diag(np.diagonal(scatter))
            ratio = SeparationRatio(scatter, dissimilar, float(self.evenness))
            terms: list[Term] = [ratio]
            L = starting_components(self.init, coordinates, self.n_components, self.n_features_in_, rng, codes)
            if self.perturbation is not None and triplets is not None:
                terms.append(coordinates.bind(self.perturbation, triplets, terms, L, weights))
            nothing = not pair_squared_distances(X, ratio.i, ratio.j).any()
            if nothing:
                solution = Solution(
                    L, [np.inf], 1, False, "learned nothing: its dissimilar pairs are of equal instances"
                )
            else:
                solution = self._minimum(X, terms, L, scatter, ratio)
            size = np.sqrt(np.vdot(solution.components @ scatter, solution.components))
        scaled = solution.components / (size if size > 0 else 1.0)
        self._set_solution(replace(solution, components=scaled), coordinates)

    def _minimum(self, X: Array, terms: list[Term], L: Array, scatter: Array, ratio: SeparationRatio) -> Solution:
        """The minimum over K with L = K T, T whitening the similar pairs."""
        # Rows of 0 (more components than the instances span) would stay so, and are not asked to be even.
        used = L.any(axis=1)
        transform = power(scatter, -0.5)
        made = DiagonalObjective if self.diagonal else TransformedObjective
        objective = made(X, terms, transform)
        start = L[used] @ ratio.root
        if self.diagonal:
            start = np.diagonal(L @ ratio.root)[None, :]
        if not start.any() or not np.isfinite(objective.in_components(start)[0]):
            raise ValueError("init must tell dissimilar pairs apart, and its rows must be linearly independent")
        solution = self._descend(objective, start)
        if self.diagonal:
            return replace(solution, components=np.diag(solution.components[0]) @ transform)
        components = np.zeros_like(L)
        components[used] = solution.components @ transform
        return replace(solution, components=components)
