"""Sparse compositional metric learning: few rank-one metrics out of many, with or without the perturbation loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any

import numpy as np
from joblib import effective_n_jobs
from numpy.typing import ArrayLike
from scipy.optimize import OptimizeResult, minimize
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval

from certimetric.base.arrays import Array, Indices
from certimetric.base.lazy_arrays import is_lazy
from certimetric.base.threads import limited_threads
from certimetric.constraints.neighbors import nearest_triplets
from certimetric.constraints.tuples import Tuples
from certimetric.geometry.spd import check_matrix, factor_psd
from certimetric.learners.anchors import N_ANCHORS, Anchors, grow_anchors, standard_error, takes_all_rows
from certimetric.learners.base import CLASS_WEIGHT, IMPOSTORS_PER_INSTANCE, TARGETS_PER_INSTANCE
from certimetric.learners.coordinates import Coordinates
from certimetric.learners.directions import basis_size, local_discriminants, triplet_directions
from certimetric.learners.solvers import Solution, solution_of
from certimetric.learners.tuple_learner import TripletLearner
from certimetric.objectives.gradient import MetricObjective, MetricState, Term
from certimetric.objectives.pairs import TripletHinge
from certimetric.objectives.triplet_margin import TripletMarginLoss


@dataclass(frozen=True, eq=False)
class _Weights:
    """Where the descent over one size of a sample ended; no weights before the first."""

    weights: Array | None
    n_iter: int = 0
    solution: Solution | None = None


class SCML(TripletLearner):
    """Sparse compositional metric learning: ``M = Σ_b w_b z_b z_bᵀ`` with weights w ≥ 0, many of them 0.

    The basis holds discriminant directions of local neighbourhoods. The weights minimise ::

        mean over triplets of [1 + d²(x_i, x_j) − d²(x_i, x_l)]_+  +  l1 · Σ_b w_b

    which is convex in w, by a deterministic bound-constrained quasi-Newton method. Triplets are made of the 3 nearest
    target neighbours and the 10 nearest impostors of every instance. Of given triplets the basis holds directions to
    impostors, whitened by the scatter of the target pairs.

    Labelled instances may be a Dask array: labels, anchors and what is near to them are gathered, and the searches are
    on its workers, block by block.

    Features should be of one scale: the margin is 1 in squared distance. Where the root mean square of their standard
    deviations lies below 0.1 or above √10, the margin and ``l1`` are
    meant for the features divided by the power of ten nearest to it; with a relative perturbation loss, by that root
    mean square itself wherever it lies.

    Parameters
    ----------
    n_basis : int, default=None
        Size of the basis; None for ten times the number of features, or of instances where these are fewer, between 100
        and 1000.
    basis : array-like of shape (b, d), default=None
        Directions to take the basis from instead; ``n_basis`` does not count then.
    l1 : float, default=1e-5
        Price of a unit of weight: the larger, the fewer basis elements.
    max_iter : int, default=200
        Bound on the quasi-Newton steps.
    tol : float, default=1e-5
        Stop when a step lowers the objective by less than this fraction.
    perturbation : PerturbationLoss or MarginLoss, default=None
        Enlarges the adversarial margins of the same triplets.
    class_weight : dict, "balanced" or None, default=None
        Of labelled instances: a weight for each class, or as much in all for every class.
    n_anchors : int, "auto" or None, default="auto"
        Of labelled instances, how many have triplets in the objective: a random sample with its share of every class,
        and at least five members of each, whose neighbours are searched in all rows. None for all of them. "auto" takes
        all up to 20,000; of more rows a sample that grows until three times as many promise to lower the objective of
        another sample, held out, by less than one fiftieth.
    preprocessor : array-like of shape (n, d) or callable, default=None
        Points by row number, or a function of indicators that gives points: :meth:`fit` and all that answers about
        tuples then takes indicators, so that tuples are indices and no point is copied.
    random_state : int, RandomState or None, default=None
        Places of the neighbourhoods, and which instances are anchors.
    n_jobs : int, default=None
        Threads that search labelled instances for neighbours, as in joblib; they change nothing in the result.
    verbose : bool, default=False
        Print the objective as it falls.

    Attributes
    ----------
    components_ : array of shape (k, d)
    metric_ : MahalanobisMetric
    basis_ : array of shape (n_basis, d)
        Rows z_b, of unit length.
    weights_ : array of shape (n_basis,)
    objective_ : float
    objective_path_ : list of float
        The objective, over all triplets, at the start and after every step: it never rises (but by rounding), for no
        mini-batches are drawn. Where the sample of anchors grows, that of the last size.
    objective_error_ : float
        Standard error of the hinge as an estimate of that of all instances; 0 where all are anchors.
    n_anchors_ : int
        Instances with triplets in the objective.
    anchor_path_ : list of Size
        Of every size of the sample, ``n_anchors``, the objective of held-out anchors (without the price of weights),
        ``held_out``, and its standard error, ``error``; empty where the sample does not grow.
    n_iter_ : int
    converged_ : bool
        Whether more steps would have gained less than ``tol``; a :class:`~sklearn.exceptions.ConvergenceWarning` says
        if not, and if the fit did not move at all.

    References
    ----------
    Shi, Bellet, Sha (2014), *Sparse compositional metric learning*, AAAI, arXiv 1404.4105 [shi2014sparse]; with the
    perturbation loss, Yang et al., arXiv 2006.05945 [yang2020towards] (SCML-PL).

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from certimetric import SCML
    >>> X, y = load_iris(return_X_y=True)
    >>> scml = SCML(random_state=0).fit(X, y)
    >>> bool((scml.weights_ >= 0).all())
    True
    """

    _parameter_constraints = {
        "n_basis": [Interval(Integral, 1, None, closed="left"), None],
        "basis": ["array-like", None],
        "l1": [Interval(Real, 0, None, closed="left")],
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
        n_basis: int | None = None,
        *,
        basis: ArrayLike | None = None,
        l1: float = 1e-5,
        max_iter: int = 200,
        tol: float = 1e-5,
        perturbation: TripletMarginLoss | None = None,
        class_weight: Mapping[Any, float] | str | None = None,
        n_anchors: int | str | None = "auto",
        preprocessor: Any = None,
        random_state: Any = None,
        n_jobs: int | None = None,
        verbose: bool = False,
    ):
        self.n_basis = n_basis
        self.basis = basis
        self.l1 = l1
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
        coordinates, rng, weights = None, check_random_state(self.random_state), None
        if is_lazy(X):
            X, y, coordinates = self._validate_blocks(X, y, sample_weight)
        codes: Any = y
        if coordinates is None:
            X, codes, weights = self._validate_labelled(X, y, sample_weight)
            coordinates = Coordinates.of(X, rescale=True, perturbation=self.perturbation)
        X = coordinates.X
        with limited_threads(X.shape[1]):
            n_jobs = effective_n_jobs(self.n_jobs)
            all_rows = takes_all_rows(self.n_anchors, len(X))
            if all_rows:
                triplets = nearest_triplets(X, codes, TARGETS_PER_INSTANCE, IMPOSTORS_PER_INSTANCE, n_jobs=n_jobs)
            basis = self._given_basis(coordinates)
            if basis is None:
                size = self.n_basis or basis_size(X.shape[1])
                basis = local_discriminants(X, codes, size, rng, n_jobs=n_jobs)
            if all_rows:
                self._minimize(coordinates, triplets, basis, weights)
                self._set_anchors(len(X))
            else:
                self._learn_anchors(coordinates, codes, basis, rng, n_jobs, weights)

    def _learn_anchors(
        self,
        coordinates: Coordinates,
        codes: Indices,
        basis: Array,
        rng: np.random.RandomState,
        n_jobs: int,
        weights: Array | None,
    ) -> None:
        """Over the triplets of a sample of instances, which grows where ``n_anchors`` does not say how many."""
        unit: list[tuple[float, Array]] = []  # of a relative weight: what the hinge amounts to at the first start

        def problem_of(anchors: Anchors) -> tuple[Coordinates, Indices, Array]:
            rows, place = np.unique(anchors.triplets(), return_inverse=True)
            few = replace(coordinates, X=np.ascontiguousarray(coordinates.X[rows]))
            return few, place.reshape(-1, 3), anchors.weights_of_rows(len(coordinates.X))[rows]

        def fit(anchors: Anchors, before: _Weights) -> _Weights:
            few, triplets, of_rows = problem_of(anchors)
            return self._solve(few, triplets, basis, of_rows, before, unit)

        def held_out(anchors: Anchors) -> Callable[[_Weights], Array]:
            few, triplets, of_rows = problem_of(anchors)
            hinge = TripletHinge(triplets, weights=of_rows)
            instances, instance = np.unique(triplets[:, 0], return_inverse=True)

            def values(reached: _Weights) -> Array:
                assert reached.weights is not None
                L = compose(reached.weights, basis)
                squared = hinge.pairs.squared_distances(np.ascontiguousarray(few.X @ L.T))
                violation = np.maximum(1.0 + squared[hinge.pairs.target] - squared[hinge.pairs.impostor], 0.0)
                loss = 0.0
                if self.perturbation is not None:
                    term = few.bind_in(unit, self.perturbation, triplets, [hinge], L, of_rows)
                    loss = term.evaluate(MetricState(few.X, L)).value
                own = np.bincount(instance, hinge.weights * violation) * len(instances)
                return np.asarray(own + loss)

            return values

        reached, anchors, sizes = grow_anchors(
            coordinates.X,
            codes,
            self.n_anchors,
            _Weights(None),
            fit,
            held_out,
            rng=rng,
            n_targets=TARGETS_PER_INSTANCE,
            n_impostors=IMPOSTORS_PER_INSTANCE,
            weights=weights,
            n_jobs=n_jobs,
            report=self._report_size(),
        )
        self._set_weights(coordinates, basis, reached)
        self._set_anchors(len(anchors.rows), sizes, standard_error(held_out(anchors)(reached)))

    def _learn_tuples(self, tuples: Tuples, y: Indices | None) -> None:
        """Without labels there are no discriminants: the basis is directions to impostors, whitened by targets."""
        tuples = tuples.distinct()
        rng = check_random_state(self.random_state)
        coordinates = Coordinates.of(tuples.points, rescale=True, perturbation=self.perturbation)
        X = coordinates.X
        with limited_threads(X.shape[1]):
            basis = self._given_basis(coordinates)
            if basis is None:
                basis = triplet_directions(X, tuples.index, self.n_basis or basis_size(X.shape[1]), rng)
            self._minimize(coordinates, tuples.index, basis)

    def _given_basis(self, coordinates: Coordinates) -> Array | None:
        if self.basis is None:
            return None
        basis = check_matrix(self.basis, "basis")
        if not len(basis) or basis.shape[1] != self.n_features_in_:
            raise ValueError(f"basis must have shape (b, {self.n_features_in_}), got {basis.shape}")
        length = np.linalg.norm(basis, axis=1)
        if not (length > 0).all():
            raise ValueError("basis must hold directions, got a row of zeros")
        basis = basis / length[:, None]
        return np.ascontiguousarray(basis if coordinates.axes is None else basis @ coordinates.axes.T)

    def _minimize(
        self, coordinates: Coordinates, triplets: Indices, basis: Array, of_rows: Array | None = None
    ) -> SCML:
        self._set_weights(coordinates, basis, self._solve(coordinates, triplets, basis, of_rows, _Weights(None), []))
        return self

    def _solve(
        self,
        coordinates: Coordinates,
        triplets: Indices,
        basis: Array,
        of_rows: Array | None,
        before: _Weights,
        unit: list[tuple[float, Array]],
    ) -> _Weights:
        """Minimise over the weights of the basis, from where another fit has ended or from equal ones."""
        X, hinge = coordinates.X, TripletHinge(triplets, weights=of_rows)
        terms: list[Term] = [hinge]
        start = self._start(X, hinge, basis) if before.weights is None else before.weights
        if self.perturbation is not None:
            start_L = compose(start, basis)
            terms.append(coordinates.bind_in(unit, self.perturbation, triplets, terms, start_L, of_rows))
        objective = MetricObjective(X, terms)

        def value_and_gradient(w: Array) -> tuple[float, Array]:
            value, gradient = objective.in_matrix(compose(w, basis))
            gradient = np.einsum("bi,bi->b", basis @ gradient, basis) + self.l1
            return value + self.l1 * w.sum(), gradient

        path: list[float] = []
        report = self._progress()

        def record(intermediate_result: OptimizeResult) -> None:
            path.append(float(intermediate_result.fun))
            if report is not None and len(path) % 10 == 0:
                report(len(path), path[-1])

        first, slope = value_and_gradient(start)
        inert = bool((slope == self.l1).all())  # no triplet is active: the price of weights alone would be minimised
        if inert:
            result = OptimizeResult(x=start, nit=0, status=0)
        else:
            result = minimize(
                value_and_gradient,
                start,
                jac=True,
                method="L-BFGS-B",
                bounds=[(0.0, None)] * len(basis),
                callback=record,
                options={"maxiter": self.max_iter, "maxcor": 20, "ftol": self.tol, "gtol": 1e-10},
            )
        n_iter, converged = max(int(result.nit), 1), result.status == 0
        slope = np.zeros_like(slope) if inert else np.minimum(slope, start)
        end = solution_of(start, slope, result.x, [first, *path], n_iter, converged, self.max_iter)
        end = replace(end, components=compose(result.x, basis), n_iter=before.n_iter + n_iter)
        return _Weights(result.x, end.n_iter, end)

    def _set_weights(self, coordinates: Coordinates, basis: Array, reached: _Weights) -> None:
        assert reached.weights is not None and reached.solution is not None
        self.basis_ = basis if coordinates.axes is None else basis @ coordinates.axes
        self.weights_ = reached.weights / coordinates.unit**2
        self._set_solution(reached.solution, coordinates)

    @staticmethod
    def _start(X: Array, hinge: TripletHinge, basis: Array) -> Array:
        """Equal weights, scaled so that a typical impostor lies one margin beyond the target neighbour."""
        equal = np.full(len(basis), 1.0 / len(basis))
        squared = hinge.pairs.squared_distances(X @ compose(equal, basis).T)
        if not len(squared):
            return equal
        gap = np.median(squared[hinge.pairs.impostor]) - np.median(squared[hinge.pairs.target])
        return equal / gap if gap > 0 else equal


def compose(w: Array, basis: Array) -> Array:
    """Components of ``Σ w_b z_b z_bᵀ``: the weighted basis itself, or d rows where that is shorter."""
    used = w > 0
    L = basis[used] * np.sqrt(w[used])[:, None]
    if len(L) == 0:
        return np.zeros((1, basis.shape[1]))
    return factor_psd(L.T @ L) if len(L) > basis.shape[1] else L
