"""Adversarially robust metric learning: the certified radius of the training set itself, made large."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np
from joblib import effective_n_jobs
from numpy.typing import ArrayLike
from sklearn.base import _fit_context
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from certimetric.base.arrays import Array, Indices
from certimetric.base.threads import limited_threads
from certimetric.constraints.neighbors import nearest_triplets
from certimetric.learners.base import CLASS_WEIGHT, MahalanobisLearner
from certimetric.learners.coordinates import Coordinates
from certimetric.learners.solvers import minimize_stochastic
from certimetric.learners.starts import INITS, starting_components
from certimetric.objectives.gradient import MetricObjective, MetricState, Term, TermValue
from certimetric.objectives.margin import KINDS, MARGINS, MarginLoss
from certimetric.objectives.triplet_margin import typical_margin

_LARGEST_FULL_BATCH = 10_000
_BATCH_SIZE = 256
_FEW, _MANY = 1_024, 5_120  # instances whose margins give the scale: of mini-batches, and of full ones
_FULL_STEPS, _STOCHASTIC_STEPS = 50, 400
# Of mini-batches. Searching at every step costs ten times as much and gains nothing.
_STEPS_BETWEEN_SEARCHES, _MOST_STEPS_BETWEEN_SEARCHES = 20, 80


class ARML(MahalanobisLearner):
    """Adversarially robust metric learning: enlarge the certified radii of the training instances.

    Minimises over L, with ``M = LᵀL``, the :class:`MarginLoss` of the triplets that bind certificates: j among the
    nearest target neighbours of an instance and l among its nearest impostors, *under the current metric*, searched
    again as it moves. ``[d²(x, x_l) − d²(x, x_j)] / (2 ‖M (x_l − x_j)‖_*)`` does not depend on the scale of M, so that
    nothing has to be regularised. An instance that is alone in its class takes part as an impostor only.

    Parameters
    ----------
    n_targets : int, default=10
        Target neighbours of an instance (fewer in classes that are too small).
    n_impostors : int, default=10
        Nearest impostors of an instance.
    margin : {"certified", "triplet"}, default="certified"
        "certified" maximises a smooth lower bound of ``min_l max_j`` of the margins of an instance, the certified
        radius of 1-NN; "triplet" the mean over all (j, l), as published.
    loss : {"linear", "hinge", "exponential"}, default="linear"
        φ of the margin loss.
    norm : {"l2", "linf", "l1"}, array-like of shape (d, d) or Norm, default="l2"
        How a perturbation is measured; a matrix A stands for ``√(δᵀAδ)``.
    class_weight : dict, "balanced" or None, default=None
        Weight of the instances of each class in the mean; "balanced" lets every class count alike, however many
        instances it has.
    n_components : int, default=None
        Rows of L; None for as many as features.
    init : {"auto", "identity", "pca", "lda", "random"} or array-like of shape (k, d), default="auto"
        Starting point; "auto" is the identity, or "pca" where ``n_components`` is smaller than d. "lda" takes Fisher's
        discriminants, which are fewer than the classes: as many rows where ``n_components`` is None.
    batch_size : int, "auto" or None, default="auto"
        Instances of a mini-batch, for Adam; None for full batches, with a quasi-Newton method, which is better and
        faster while there are few thousand instances. "auto" is None up to 10,000 instances, and 256 beyond. The
        neighbours of the instances of 20 batches are found together, and serve as many steps as came before (20 to
        80); then those of others are.
    learning_rate : float, default=0.01
        Of mini-batches: first step of each entry of L, relative to the size of L; it falls to 0.
    max_iter : int, default=None
        Bound on the steps; None for 50 of full batches, or 400 of mini-batches.
    tol : float, default=1e-3
        Stop when ten steps of full batches lower the objective by less than this fraction.
    random_state : int, RandomState or None, default=None
        A random starting point, and draws of mini-batches.
    n_jobs : int, default=None
        Threads that search for neighbours; None for 1, −1 for all cores.
    verbose : bool, default=False
        Print the objective as it falls.

    Attributes
    ----------
    components_ : array of shape (k, d)
        L; where k is not given and there are more features than instances, as many rows as their differences span.
    metric_ : MahalanobisMetric
    objective_ : float
        The loss reached.
    objective_path_ : list of float
        The loss after every round of ten steps or fewer, with the neighbours found anew at its end: it never rises. Of
        mini-batches, means over the batches of twenty steps, which may rise.
    n_iter_ : int
    converged_ : bool
        Whether ten more steps would have gained less than ``tol``, or none anything; of mini-batches, whether the
        gradient had no direction left that stands out of its noise. A
        :class:`~sklearn.exceptions.ConvergenceWarning` says if not, and if the fit did not move at all.
    scale_ : float
        Unit of the margins in the loss, in units of the data.
    classes_ : array

    References
    ----------
    Wang, Liu, Yi, Jiang, Hsieh (2020), *Provably robust metric learning*, NeurIPS, arXiv 2006.07024 [wang2020provably].

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from certimetric import ARML
    >>> X, y = load_iris(return_X_y=True)
    >>> ARML().fit(X, y).get_mahalanobis_matrix().shape
    (4, 4)
    """

    _parameter_constraints = {
        "n_targets": [Interval(Integral, 1, None, closed="left")],
        "n_impostors": [Interval(Integral, 1, None, closed="left")],
        "margin": [StrOptions(set(MARGINS))],
        "loss": [StrOptions(set(KINDS))],
        "norm": "no_validation",
        "class_weight": CLASS_WEIGHT,
        "n_components": [Interval(Integral, 1, None, closed="left"), None],
        "init": [StrOptions(INITS), "array-like"],
        "batch_size": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"}), None],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left"), None],
        "tol": [Interval(Real, 0, None, closed="left")],
        "random_state": ["random_state"],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        n_targets: int = 10,
        *,
        n_impostors: int = 10,
        margin: str = "certified",
        loss: str = "linear",
        norm: Any = "l2",
        class_weight: Mapping[Any, float] | str | None = None,
        n_components: int | None = None,
        init: Any = "auto",
        batch_size: int | str | None = "auto",
        learning_rate: float = 0.01,
        max_iter: int | None = None,
        tol: float = 1e-3,
        random_state: Any = None,
        n_jobs: int | None = None,
        verbose: bool = False,
    ):
        self.n_targets = n_targets
        self.n_impostors = n_impostors
        self.margin = margin
        self.loss = loss
        self.norm = norm
        self.class_weight = class_weight
        self.n_components = n_components
        self.init = init
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> ARML:
        """Learn the metric from labels.

        Parameters
        ----------
        X : array-like of shape (n, d)
            In the units in which perturbations are to be measured.
        y : array-like of shape (n,)
            Class labels.
        sample_weight : array-like of shape (n,), optional
            Of the instances in the mean, at least 0; each has the neighbours that it has. Mini-batches are drawn by
            them.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            On NaN or infinity, a single class, a weight that is missing, or a norm of another number of features.
        """
        X, codes, weights = self._validate_labelled(X, y, sample_weight)
        coordinates = Coordinates.for_descent(X, self.init, self.n_components, rescale=False)
        rng = check_random_state(self.random_state)
        L = starting_components(self.init, coordinates, self.n_components, X.shape[1], rng, codes)
        norm = MarginLoss(self.loss, norm=self.norm, margin=self.margin).check()
        norm.dual_norm(np.zeros(X.shape[1]))  # one message for an ellipsoid of another number of features
        X, norm = coordinates.X, coordinates.norm(norm)
        batch_size = self.batch_size
        if batch_size == "auto":
            batch_size = None if len(X) <= _LARGEST_FULL_BATCH else _BATCH_SIZE
        with limited_threads(X.shape[1]):
            search = _NeighborSearch(
                X - X.mean(axis=0), codes, self.n_targets, self.n_impostors, effective_n_jobs(self.n_jobs)
            )
            some = rng.permutation(len(X))[: _FEW if batch_size else _MANY]
            self.scale_ = typical_margin(search.X, search.triplets(np.eye(X.shape[1]), some), norm)
            loss = MarginLoss(self.loss, scale=self.scale_, norm=norm, margin=self.margin)
            if batch_size is None:
                objective = MetricObjective(search.X, [_NearestMargins(search, loss, weights)])
                solution = self._descend(objective, L, max_iter=self.max_iter or _FULL_STEPS)
            else:
                solution = minimize_stochastic(
                    _Batches(search, loss, weights, int(batch_size), rng),
                    L,
                    learning_rate=self.learning_rate,
                    max_iter=self.max_iter or _STOCHASTIC_STEPS,
                    callback=self._progress(),
                )
        self._set_solution(solution, coordinates)
        return self


class _NeighborSearch:
    """Triplets of the nearest target neighbours and impostors under any components."""

    def __init__(self, X: Array, y: Indices, n_targets: int, n_impostors: int, n_jobs: int):
        self.X, self.y = np.ascontiguousarray(X), y
        self.n_targets, self.n_impostors, self.n_jobs = n_targets, n_impostors, n_jobs

    def triplets(self, L: Array, rows: Indices | None = None) -> Indices:
        return nearest_triplets(self.X @ L.T, self.y, self.n_targets, self.n_impostors, rows=rows, n_jobs=self.n_jobs)


class _NearestMargins:
    """The margin loss over the nearest triplets of all instances: an active set, and exact just after a refresh."""

    def __init__(self, search: _NeighborSearch, loss: MarginLoss, weights: Array | None):
        self.search, self.loss, self.weights = search, loss, weights

    def refresh(self, state: MetricState) -> None:
        self.term = self.loss.bind(self.search.X, self.search.triplets(state.L), weights=self.weights)

    def widen(self) -> bool:
        """The nearest are what the objective is about: there is no longer list to keep."""
        return False

    def evaluate(self, state: MetricState) -> TermValue:
        return self.term.evaluate(state)


class _Batches:
    """Objectives of random mini-batches of a pool of instances, whose neighbours are found together.

    With weights the instances are drawn by them, and one that is drawn twice counts twice: a batch then has as many of
    a rare class as it should, which weights in its mean alone would not see to.

    The metric moves less and less: a search serves as many steps as came before it, up to a limit, and the next one is
    for another pool.
    """

    def __init__(
        self,
        search: _NeighborSearch,
        loss: MarginLoss,
        weights: Array | None,
        size: int,
        rng: np.random.RandomState,
    ):
        self.search, self.loss, self.rng = search, loss, rng
        self.chances = None if weights is None else weights / weights.sum()
        self.size = min(size, len(search.X))
        self.pool: list[tuple[Indices, list[Term]]] = []
        self.waiting: list[int] = []
        self.step = self.next_search = 0

    def __call__(self, L: Array) -> MetricObjective:
        if not self.waiting:
            if self.step >= self.next_search:
                self.pool = self._batches(L)
                self.next_search += min(max(self.step, _STEPS_BETWEEN_SEARCHES), _MOST_STEPS_BETWEEN_SEARCHES)
            self.waiting = self.rng.permutation(len(self.pool)).tolist()
        self.step += 1
        used, terms = self.pool[self.waiting.pop()]
        return MetricObjective(self.search.X[used], terms)

    def _batches(self, L: Array) -> list[tuple[Indices, list[Term]]]:
        """The instances of every batch, with their neighbours, and its terms."""
        n = len(self.search.X)
        rows = self.rng.permutation(n)[: self.size * _STEPS_BETWEEN_SEARCHES]
        if self.chances is not None:
            rows = self.rng.choice(n, len(rows), p=self.chances)
        distinct, number = np.unique(rows, return_inverse=True)
        triplets = self.search.triplets(L, distinct)  # in the order of the rows
        start, stop = (np.searchsorted(triplets[:, 0], distinct, side=side) for side in ("left", "right"))
        batches = []
        for batch in np.split(number, np.arange(self.size, len(rows), self.size)):
            own = np.unique(batch)
            some = triplets[np.concatenate([np.arange(start[k], stop[k]) for k in own])]
            used, some = np.unique(some, return_inverse=True)
            weights = None
            if self.chances is not None:
                weights = np.bincount(distinct[batch], minlength=n)[used].astype(np.float64)
            batches.append((used, [self.loss.bind(self.search.X[used], some.reshape(-1, 3), weights=weights)]))
        return batches
