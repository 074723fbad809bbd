"""Neighbourhood components analysis, with or without the perturbation loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from numbers import Integral, Real
from typing import Any

import numpy as np
from joblib import effective_n_jobs
from numpy.typing import ArrayLike
from sklearn.base import _fit_context
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from certimetric.base.arrays import Array, Indices
from certimetric.base.lazy_arrays import is_lazy
from certimetric.base.threads import limited_threads
from certimetric.constraints.neighbors import nearest_triplets
from certimetric.learners.anchors import N_ANCHORS, descend_over_neighbors, takes_all_rows
from certimetric.learners.base import CLASS_WEIGHT, IMPOSTORS_PER_INSTANCE, TARGETS_PER_INSTANCE, MahalanobisLearner
from certimetric.learners.coordinates import Coordinates
from certimetric.learners.starts import INITS, starting_components
from certimetric.objectives.gradient import MetricObjective, Term
from certimetric.objectives.neighborhood import StochasticNeighbors
from certimetric.objectives.triplet_margin import TripletMarginLoss


class NCA(MahalanobisLearner):
    """Neighbourhood components analysis: maximise the chance that a random neighbour has the same class.

    Minimises ``1 − mean_i Σ_{j of the class of i} p_ij`` with ``p_ij ∝ exp(−d²(x_i, x_j))`` over L.

    Instances may be a Dask array: labels and anchors are gathered, and the sums over what they see are on its workers,
    block by block, twice at every step.

    Parameters
    ----------
    n_components : int, default=None
        Rows of L; None for as many as features.
    init : {"auto", "identity", "pca", "lda", "random"} or array-like of shape (k, d), default="auto"
        Starting point; "auto" is the identity, or "pca" where ``n_components`` is smaller than d. "lda" takes Fisher's
        discriminants, which are fewer than the classes: as many rows where ``n_components`` is None.
    max_iter : int, default=200
        Bound on the quasi-Newton steps.
    tol : float, default=1e-4
        Stop when ten steps lower the objective by less than this fraction.
    perturbation : PerturbationLoss or MarginLoss, default=None
        Enlarges the adversarial margins of triplets (3 target neighbours × the 10 nearest impostors).
    class_weight : dict, "balanced" or None, default=None
        A weight for each class in the mean over instances, or as much in all for every class.
    n_anchors : int, "auto" or None, default="auto"
        Instances that the mean is over, each of which sees all others: a random sample with its share of every class,
        and at least five members of each. None for all of them. "auto" takes all up to 20,000; of more rows a sample
        that grows until three times as many promise to lower the objective of another sample, held out, by less than
        one fiftieth.
    random_state : int, RandomState or None, default=None
        A random starting point.
    n_jobs : int, default=None
        Threads for sums over all pairs and the search for triplets, as in joblib; they change nothing in the result.
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
    objective_error_ : float
        Standard error of the mean over a sample as an estimate of that over all instances; 0 where all are in it.
    n_anchors_ : int
        Instances that the mean is over.
    anchor_path_ : list of Size
        Of every size of the sample, ``n_anchors``, the objective of held-out anchors, ``held_out``, and its standard
        error, ``error``; empty where the sample does not grow.
    n_iter_ : int
    converged_ : bool
        Whether more steps would have gained less than ``tol``; a :class:`~sklearn.exceptions.ConvergenceWarning` says
        if not, and if the fit did not move at all.
    classes_ : array

    References
    ----------
    Goldberger, Hinton, Roweis, Salakhutdinov (2004), *Neighbourhood components analysis* [goldberger2004neighbourhood],
    NIPS 17; the perturbation loss is that of Yang et al., arXiv 2006.05945 [yang2020towards].

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from certimetric import NCA
    >>> X, y = load_iris(return_X_y=True)
    >>> NCA(n_components=2).fit_transform(X, y).shape
    (150, 2)
    """

    _parameter_constraints = {
        "n_components": [Interval(Integral, 1, None, closed="left"), None],
        "init": [StrOptions(INITS), "array-like"],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "perturbation": [TripletMarginLoss, None],
        "class_weight": CLASS_WEIGHT,
        "n_anchors": N_ANCHORS,
        "random_state": ["random_state"],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        n_components: int | None = None,
        *,
        init: Any = "auto",
        max_iter: int = 200,
        tol: float = 1e-4,
        perturbation: TripletMarginLoss | None = None,
        class_weight: Mapping[Any, float] | str | None = None,
        n_anchors: int | str | None = "auto",
        random_state: Any = None,
        n_jobs: int | None = None,
        verbose: bool = False,
    ):
        self.n_components = n_components
        self.init = init
        self.max_iter = max_iter
        self.tol = tol
        self.perturbation = perturbation
        self.class_weight = class_weight
        self.n_anchors = n_anchors
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> NCA:
        """Learn the metric from X, shape (n, d), features of one scale, and labels y, shape (n,).

        ``sample_weight``, shape (n,) and at least 0, weighs the instances in the mean, each of which sees the others
        as they are; so does ``class_weight``. The mean of the perturbation loss is by the same weights.

        Where the root mean square of the standard deviations of the features lies below 0.1 or above √10, it starts
        from the features divided by the power of ten nearest to it; with a relative perturbation loss, by that root
        mean square itself wherever it lies.

        Raises
        ------
        ValueError
            On NaN or infinity, or a single class.
        """
        coordinates, rng, weights = None, check_random_state(self.random_state), None
        if is_lazy(X):
            X, y, coordinates = self._validate_blocks(X, y, sample_weight)
        codes: Any = y
        if coordinates is None:
            X, codes, weights = self._validate_labelled(X, y, sample_weight)
            coordinates = Coordinates.for_descent(
                X, self.init, self.n_components, rescale=True, perturbation=self.perturbation
            )
        L = starting_components(self.init, coordinates, self.n_components, self.n_features_in_, rng, codes)
        X = coordinates.X
        with limited_threads(X.shape[1]):
            n_jobs = effective_n_jobs(self.n_jobs)
            if not takes_all_rows(self.n_anchors, len(X)):
                self._learn_anchors(coordinates, codes, L, rng, n_jobs, weights)
                return self
            terms: list[Term] = [StochasticNeighbors(codes, n_jobs=n_jobs, weights=weights)]
            if self.perturbation is not None:
                triplets = nearest_triplets(X, codes, TARGETS_PER_INSTANCE, IMPOSTORS_PER_INSTANCE, n_jobs=n_jobs)
                terms.append(coordinates.bind(self.perturbation, triplets, terms, L, weights))
            solution = self._descend(MetricObjective(X, terms), L)
        self._set_solution(solution, coordinates)
        self._set_anchors(len(X))
        return self

    def _learn_anchors(
        self,
        coordinates: Coordinates,
        codes: Indices,
        L: Array,
        rng: np.random.RandomState,
        n_jobs: int,
        weights: Array | None,
    ) -> None:
        """The mean over a sample of instances, which see all others."""
        unit: list[tuple[float, Array]] = []
        loss = self.perturbation

        def margins(points: Array, triplets: Indices, terms: list[Term], of_points: Array | None) -> Term:
            assert loss is not None
            return replace(coordinates, X=points).bind_in(unit, loss, triplets, terms, L, of_points)

        solution, sample = descend_over_neighbors(
            coordinates.X,
            codes,
            self.n_anchors,
            L,
            StochasticNeighbors,
            codes,
            self._descend,
            weights=weights,
            further_of=None if loss is None else margins,
            rng=rng,
            n_targets=0 if loss is None else TARGETS_PER_INSTANCE,
            n_impostors=0 if loss is None else IMPOSTORS_PER_INSTANCE,
            n_jobs=n_jobs,
            report=self._report_size(),
        )
        self._set_solution(solution, coordinates)
        self._set_anchors(*sample)
