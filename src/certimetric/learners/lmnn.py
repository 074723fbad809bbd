"""Large margin nearest neighbours, with or without the perturbation loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from numbers import Integral, Real
from typing import Any

import numpy as np
from joblib import effective_n_jobs
from numpy.typing import ArrayLike
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from certimetric.base.arrays import Array, Indices
from certimetric.base.lazy_arrays import is_lazy
from certimetric.base.threads import limited_threads
from certimetric.constraints.neighbors import combined_triplets, neighbors_of_both_kinds, target_neighbors
from certimetric.constraints.tuples import Tuples
from certimetric.learners.anchors import N_ANCHORS, Anchors, grow_anchors, takes_all_rows
from certimetric.learners.base import CLASS_WEIGHT, IMPOSTORS_PER_INSTANCE
from certimetric.learners.coordinates import Coordinates
from certimetric.learners.solvers import Solution, has_moved
from certimetric.learners.starts import INITS, starting_components
from certimetric.learners.tuple_learner import TripletLearner
from certimetric.objectives.anchors import AnchorObjective, FixedAnchorObjective
from certimetric.objectives.gradient import MetricObjective, Term
from certimetric.objectives.pairs import ImpostorHinge, Pull, pull_and_push
from certimetric.objectives.triplet_margin import TripletMarginLoss

_SHARE_ALONE = 0.25  # of the steps, for pull and push before a perturbation loss comes in


@dataclass(frozen=True, eq=False)
class _Descent:
    """Where the descent over one size of a sample ended."""

    components: Array
    n_iter: int = 0
    solution: Solution | None = None
    objective: AnchorObjective | FixedAnchorObjective | None = None


class LMNN(TripletLearner):
    """Large margin nearest neighbours: pull target neighbours close, push impostors out of their margin.

    Minimises over L, with ``M = LᵀL``, ::

        (1 − μ) mean_ij d²(x_i, x_j)  +  μ mean_ij Σ_l [1 + d²(x_i, x_j) − d²(x_i, x_l)]_+

    over target neighbours j of i and *all* instances l of another class: the active impostors are searched again as
    the metric moves, and the recorded objective is the true one. With ``n_impostors`` only that many instances l are
    pushed, the nearest ones before anything is learned, as in the code of the authors of LMNN-PL. With a
    :class:`PerturbationLoss` the adversarial margins of the nearest triplets are enlarged besides; where its weight is
    relative, pull and push are minimised alone for the first quarter of the steps, and then the singular values of L
    are bounded by the slope that distances of the instances have in root mean square. Of given triplets (instance,
    target neighbour, impostor) the pull takes the targets, and the hinge the triplets themselves. With weights of the
    instances both means, and that of the perturbation loss, are by those of the instances i.

    Labelled instances may be a Dask array: labels, anchors and what is near to them are gathered, and the searches are
    on its workers, block by block.

    Features should be of one scale: the margin is 1 in squared distance. Where the root mean square of their standard
    deviations lies below 0.1 or above √10, the margin (and the weight of another loss) are
    meant for the features divided by the power of ten nearest to it; with a relative perturbation loss, by that root
    mean square itself wherever it lies.

    Parameters
    ----------
    n_neighbors : int, default=3
        Target neighbours of an instance (fewer in classes that are too small).
    push_weight : float, default=0.5
        μ, between 0 and 1.
    n_impostors : int, default=None
        Impostors of an instance: its nearest instances of other classes, fixed in advance. None for all, searched
        again as the metric moves.
    n_components : int, default=None
        Rows of L; None for as many as features.
    init : {"auto", "identity", "pca", "lda", "random"} or array-like of shape (k, d), default="auto"
        Starting point; "auto" is the identity, or "pca" where ``n_components`` is smaller than d. "lda" takes Fisher's
        discriminants, which are fewer than the classes: as many rows where ``n_components`` is None. Not for
        triplets, which have no classes.
    max_iter : int, default=200
        Bound on the quasi-Newton steps.
    tol : float, default=1e-4
        Stop when ten steps lower the objective by less than this fraction.
    perturbation : PerturbationLoss or MarginLoss, default=None
        Enlarges the adversarial margins of triplets (``n_neighbors`` target neighbours × the ``n_impostors`` nearest
        impostors, 10 by default).
    class_weight : dict, "balanced" or None, default=None
        Of labelled instances: a weight for each class, or as much in all for every class.
    n_anchors : int, "auto" or None, default="auto"
        Of labelled instances, how many have a part in the objective: a random sample with its share of every class,
        and at least five members of each, whose targets are searched in all rows. None for all of them.
        "auto" takes all up to 20,000; of more rows a sample that grows until three times as many promise to lower the
        objective of another sample, held out, by less than one fiftieth. Where anchors and rows are many, the descent
        has the impostors of each anchor from a random part of the rows.
    preprocessor : array-like of shape (n, d) or callable, default=None
        Points by row number, or a function of indicators that gives points: :meth:`fit` and all that answers about
        tuples then takes indicators, so that tuples are indices and no point is copied.
    random_state : int, RandomState or None, default=None
        A random starting point, and which instances are anchors.
    n_jobs : int, default=None
        Threads that search for target neighbours and impostors; None for 1, −1 for all cores.
    verbose : bool, default=False
        Print the objective as it falls.

    Attributes
    ----------
    components_ : array of shape (k, d)
        L; where k is not given and there are more features than instances, as many rows as their differences span.
    metric_ : MahalanobisMetric
    objective_ : float
        The true objective reached; of a sample of anchors, that of the sample (and of the rows that it searches: what
        is held out, in ``anchor_path_``, is compared with all rows).
    objective_error_ : float
        Its standard error as an estimate of the objective of all instances (of pull and push); 0 where all are anchors.
    objective_path_ : list of float
        The true objective after every round of ten steps or fewer, over all impostors found anew: it never rises, for
        a round after which more impostors are found than it had gained is undone. Where the sample of anchors grows,
        that of the last size. With a relative perturbation loss, from where that comes in.
    n_anchors_ : int
        Instances in the objective.
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
    Weinberger & Saul (2009), *Distance metric learning for large margin nearest neighbor classification*
    [weinberger2009distance], JMLR 10; with the perturbation loss, Yang et al., arXiv 2006.05945 [yang2020towards]
    (LMNN-PL).

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from certimetric import LMNN
    >>> X, y = load_iris(return_X_y=True)
    >>> lmnn = LMNN(n_neighbors=3).fit(X, y)
    >>> lmnn.transform(X).shape
    (150, 4)
    """

    _parameter_constraints = {
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "push_weight": [Interval(Real, 0, 1, closed="both")],
        "n_impostors": [Interval(Integral, 1, None, closed="left"), None],
        "n_components": [Interval(Integral, 1, None, closed="left"), None],
        "init": [StrOptions(INITS), "array-like"],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "perturbation": [TripletMarginLoss, None],
        "class_weight": CLASS_WEIGHT,
        "n_anchors": N_ANCHORS,
        "preprocessor": ["array-like", callable, None],
        "random_state": ["random_state"],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        n_neighbors: int = 3,
        *,
        push_weight: float = 0.5,
        n_impostors: int | None = None,
        n_components: int | None = None,
        init: Any = "auto",
        max_iter: int = 200,
        tol: float = 1e-4,
        perturbation: TripletMarginLoss | None = None,
        class_weight: Mapping[Any, float] | str | None = None,
        n_anchors: int | str | None = "auto",
        preprocessor: Any = None,
        random_state: Any = None,
        n_jobs: int | None = None,
        verbose: bool = False,
    ):
        self.n_neighbors = n_neighbors
        self.push_weight = push_weight
        self.n_impostors = n_impostors
        self.n_components = n_components
        self.init = init
        self.max_iter = max_iter
        self.tol = tol
        self.perturbation = perturbation
        self.class_weight = class_weight
        self.n_anchors = n_anchors
        self.preprocessor = preprocessor
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    def _learn_labels(self, X: ArrayLike, y: ArrayLike | None, sample_weight: ArrayLike | None) -> None:
        if is_lazy(X):
            X, y, blocks = self._validate_blocks(X, y, sample_weight)
            if blocks is not None:
                self._check_n_neighbors(len(y))
                self._learn_anchors(blocks, y)
                return
        X, codes, weights = self._validate_labelled(X, y, sample_weight)
        self._check_n_neighbors(len(X))
        coordinates = self._coordinates(X)
        X = coordinates.X
        with limited_threads(X.shape[1]):
            if not takes_all_rows(self.n_anchors, len(X)):
                self._learn_anchors(coordinates, codes, weights)
                return
            n_jobs = effective_n_jobs(self.n_jobs)
            n_impostors = self.n_impostors or (0 if self.perturbation is None else IMPOSTORS_PER_INSTANCE)
            terms: list[Term]
            triplets: Indices | None = None
            if n_impostors:
                rows = np.arange(len(X))
                found = neighbors_of_both_kinds(X, codes, rows, self.n_neighbors, n_impostors, n_jobs=n_jobs)
                targets, triplets = found[0], combined_triplets(rows, *found)
            else:  # which need not look at other classes
                targets = target_neighbors(X, codes, self.n_neighbors, n_jobs=n_jobs)
            if self.n_impostors and triplets is not None:
                terms = list(pull_and_push(triplets, self.push_weight, weights))
            else:
                i, a = np.nonzero(targets >= 0)
                terms = [
                    Pull(np.stack([i, targets[i, a]], axis=1), 1.0 - self.push_weight, weights),
                    ImpostorHinge(targets, codes, self.push_weight, n_jobs=n_jobs, weights=weights),
                ]
            self._minimize(coordinates, terms, triplets, codes, weights)
            self._set_anchors(len(X))

    def _check_n_neighbors(self, n: int) -> None:
        if self.n_neighbors >= n:
            raise ValueError(f"n_neighbors must be less than the number of instances, {n}, got {self.n_neighbors}")

    def _learn_anchors(self, coordinates: Coordinates, codes: Indices, weights: Array | None = None) -> None:
        """Over a sample of instances, which grows where ``n_anchors`` does not say how many."""
        X, n_jobs, rng = coordinates.X, effective_n_jobs(self.n_jobs), check_random_state(self.random_state)
        start = starting_components(self.init, coordinates, self.n_components, self.n_features_in_, rng, codes)
        seed = int(rng.randint(2**31))
        loss = None if self.perturbation is None else coordinates.loss(self.perturbation)
        unit: list[tuple[float, Array]] = []  # what pull and push amount to where the loss comes in

        def own_objective(anchors: Anchors, **further: Any) -> AnchorObjective | FixedAnchorObjective:
            if self.n_impostors:
                parts = (X, anchors.triplets(), self.push_weight, further.get("loss"))
                return FixedAnchorObjective(*parts, anchors.weights_of_rows(len(X)))
            parts = (X, codes, anchors.rows, anchors.targets, anchors.weights, self.push_weight)
            return AnchorObjective(*parts, seed=seed, n_jobs=n_jobs, **further)

        def objective_of(anchors: Anchors) -> AnchorObjective | FixedAnchorObjective:
            if loss is None:
                return own_objective(anchors)
            objective, comes_in = unit[0]
            bound = partial(loss.bind, objective=objective, start=comes_in)
            return own_objective(anchors, triplets=anchors.triplets(), loss=bound)

        def fit(anchors: Anchors, before: _Descent) -> _Descent:
            steps = self.max_iter
            if loss is not None and not unit:
                own = own_objective(anchors)
                before = self._descend_alone(own, before.components)
                amount = float(own.values(before.components).mean()) if loss.relative else 1.0
                unit.append((amount if amount > 0 else 1.0, before.components))
                steps -= before.n_iter
            objective = objective_of(anchors)
            solution = self._descend_further(objective, before, steps)
            return _Descent(solution.components, solution.n_iter, solution, objective)

        def held_out(anchors: Anchors) -> Callable[[_Descent], Array]:
            objective = cache(lambda: objective_of(anchors))  # which is known after the first fit
            return lambda descent: objective().values(descent.components)

        descent, anchors, sizes = grow_anchors(
            X,
            codes,
            self.n_anchors,
            _Descent(start),
            fit,
            held_out,
            rng=rng,
            n_targets=self.n_neighbors,
            n_impostors=self.n_impostors or (0 if loss is None else IMPOSTORS_PER_INSTANCE),
            weights=weights,
            n_jobs=n_jobs,
            report=self._report_size(),
        )
        assert descent.solution is not None and descent.objective is not None
        self._set_solution(replace(descent.solution, n_iter=descent.n_iter), coordinates)
        self._set_anchors(len(anchors.rows), sizes, descent.objective.error(descent.components))

    def _learn_tuples(self, tuples: Tuples, y: Indices | None) -> None:
        tuples = tuples.distinct()
        coordinates = self._coordinates(tuples.points)
        with limited_threads(coordinates.X.shape[1]):
            self._minimize(coordinates, list(pull_and_push(tuples.index, self.push_weight)), tuples.index)

    def _coordinates(self, X: Array) -> Coordinates:
        return Coordinates.for_descent(X, self.init, self.n_components, rescale=True, perturbation=self.perturbation)

    def _minimize(
        self,
        coordinates: Coordinates,
        terms: list[Term],
        triplets: Indices | None,
        codes: Indices | None = None,
        weights: Array | None = None,
    ) -> LMNN:
        rng = check_random_state(self.random_state)
        L = starting_components(self.init, coordinates, self.n_components, self.n_features_in_, rng, codes)
        before = _Descent(L)
        if self.perturbation is not None and triplets is not None:
            before = self._descend_alone(MetricObjective(coordinates.X, terms), L)
            terms.append(coordinates.bind(self.perturbation, triplets, terms, before.components, weights))
        objective = MetricObjective(coordinates.X, terms)
        solution = self._descend_further(objective, before, self.max_iter - before.n_iter)
        self._set_solution(solution, coordinates)
        return self

    def _descend_alone(self, own: MetricObjective, L: Array) -> _Descent:
        """Pull and push without the loss, for a part of the steps.

        From here on the loss makes a metric that errs less, with and without noise, than from the start: its weight is
        in units of what has not been solved by pull and push, and wide margins that they have made are not given up.
        Directions in which few triplets differ keep the length that they start with while others shrink, and neither
        objective says otherwise; but a change may be along them, so none is left longer than those that distances are
        made of.
        """
        steps = int(self.max_iter * _SHARE_ALONE)
        if self.perturbation is None or not self.perturbation.relative or not steps:
            return _Descent(L)
        X = own.X  # the rows that it begins with
        solution = self._descend(own, L, max_iter=steps)
        return _Descent(_levelled(solution.components, X), solution.n_iter, solution)

    def _descend_further(self, objective: MetricObjective, before: _Descent, max_iter: int) -> Solution:
        solution = self._descend(objective, before.components, max_iter=max_iter)
        if before.solution is not None and not has_moved(before.components, solution.components):  # which had moved
            solution = replace(solution, converged=before.solution.converged, reason=before.solution.reason)
        return replace(solution, n_iter=before.n_iter + solution.n_iter)


def _levelled(L: Array, X: Array) -> Array:
    """Components of which no singular value is beyond ``|MΔ| / |LΔ|``, in root mean square over instances X.

    Δ is what an instance differs by from their mean; the ratio is how fast its distance from there changes at most.
    """
    mapped = (X - X.mean(axis=0)) @ L.T
    size = np.linalg.norm(mapped)
    if not size > 0:
        return L
    bound = np.linalg.norm(mapped @ L) / size
    rotation, singular, axes = np.linalg.svd(L, full_matrices=False)
    return L if singular[0] <= bound else (rotation * np.minimum(singular, bound)) @ axes
