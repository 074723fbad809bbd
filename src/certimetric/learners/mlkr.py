"""Metric learning for kernel regression: the metric under which the others predict a number best."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
from joblib import effective_n_jobs
from numpy.typing import ArrayLike
from sklearn.base import _fit_context
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from certimetric.base.arrays import MODEST, Array, check_size
from certimetric.base.lazy_arrays import is_lazy
from certimetric.base.threads import limited_threads
from certimetric.learners.anchors import N_ANCHORS, descend_over_neighbors, takes_all_rows
from certimetric.learners.base import MahalanobisLearner
from certimetric.learners.coordinates import Coordinates
from certimetric.learners.starts import INITS_WITHOUT_CLASSES, starting_components
from certimetric.objectives.gradient import MetricObjective
from certimetric.objectives.neighborhood import KernelRegression


class MLKR(MahalanobisLearner):
    """Metric learning for kernel regression: minimise the error of predicting every number by the others.

    Minimises over L, with ``M = LᵀL``, ::

        Σ_i (y_i − ŷ_i)² / Σ_i (y_i − ȳ)²,   ŷ_i = Σ_{j ≠ i} k_ij y_j / Σ_{j ≠ i} k_ij,   k_ij = exp(−d²(x_i, x_j))

    which is 1 − R² of leave-one-out kernel regression. Unlike the other learners it takes numbers to predict, not
    classes: the result does not depend on their unit or origin. There is no ``perturbation``: adversarial margins are
    those of triplets, of which a number makes none.

    Instances may be a Dask array: numbers and anchors are gathered, and the sums over what they see are on its workers,
    block by block, twice at every step.

    Parameters
    ----------
    n_components : int, default=None
        Rows of L; None for as many as features.
    init : {"auto", "identity", "pca", "random"} or array-like of shape (k, d), default="auto"
        Starting point; "auto" is the identity, or "pca" where ``n_components`` is smaller than d.
    max_iter : int, default=100
        Bound on the quasi-Newton steps.
    tol : float, default=1e-3
        Stop when ten steps lower the objective by less than this fraction.
    n_anchors : int, "auto" or None, default="auto"
        Instances that the mean is over, each of which sees all others: a random sample. None for all of them. "auto"
        takes all up to 20,000; of more rows a sample that grows until three times as many promise to lower the
        objective of another sample, held out, by less than one fiftieth.
    random_state : int, RandomState or None, default=None
        A random starting point.
    n_jobs : int, default=None
        Threads for the sums over all pairs, as in joblib; they change nothing in the result.
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

    References
    ----------
    Weinberger & Tesauro (2007), *Metric learning for kernel regression* [weinberger2007metric], AISTATS.

    Examples
    --------
    >>> from sklearn.datasets import make_friedman1
    >>> from sklearn.model_selection import cross_val_score
    >>> from sklearn.neighbors import KNeighborsRegressor
    >>> from sklearn.pipeline import make_pipeline
    >>> from certimetric import MLKR
    >>> X, y = make_friedman1(200, 10, random_state=0)  # five of the features decide
    >>> learned = make_pipeline(MLKR(n_components=5, max_iter=10), KNeighborsRegressor(5))
    >>> bool(cross_val_score(learned, X, y).mean() > cross_val_score(KNeighborsRegressor(5), X, y).mean() + 0.1)
    True
    """

    _parameter_constraints = {
        "n_components": [Interval(Integral, 1, None, closed="left"), None],
        "init": [StrOptions(INITS_WITHOUT_CLASSES), "array-like"],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
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
        max_iter: int = 100,
        tol: float = 1e-3,
        n_anchors: int | str | None = "auto",
        random_state: Any = None,
        n_jobs: int | None = None,
        verbose: bool = False,
    ):
        self.n_components = n_components
        self.init = init
        self.max_iter = max_iter
        self.tol = tol
        self.n_anchors = n_anchors
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> MLKR:
        """Learn the metric from X, shape (n, d), features of one scale, and numbers y, shape (n,).

        ``sample_weight``, shape (n,) and at least 0, weighs the errors, over the variance of y without weights.

        Where the root mean square of the standard deviations of the features lies below 0.1 or above √10, it starts
        from the features divided by the power of ten nearest to it.

        Raises
        ------
        ValueError
            On NaN or infinity, a y that is no numbers, or one whose values are all equal.
        """
        coordinates, rng, weights = None, check_random_state(self.random_state), None
        if is_lazy(X):
            X, y, coordinates = self._validate_blocks(X, y, sample_weight, numbers=True)
        if coordinates is None:
            X, y = self._validate(X, y, y_numeric=True)
            X, y, weights = self._weighted(check_size(X, limit=MODEST), y, sample_weight)
            self.n_samples_fit_ = len(X)
            coordinates = Coordinates.for_descent(X, self.init, self.n_components, rescale=True)
        numbers = self._standardized(y)
        L = starting_components(self.init, coordinates, self.n_components, self.n_features_in_, rng)
        X = coordinates.X
        with limited_threads(X.shape[1]):
            n_jobs = effective_n_jobs(self.n_jobs)
            if takes_all_rows(self.n_anchors, len(X)):
                solution = self._descend(MetricObjective(X, [KernelRegression(numbers, n_jobs, weights=weights)]), L)
                self._set_anchors(len(X))
            else:
                solution, sample = descend_over_neighbors(
                    X,
                    np.zeros(len(X), dtype=np.int64),
                    self.n_anchors,
                    L,
                    KernelRegression,
                    numbers,
                    self._descend,
                    weights=weights,
                    rng=rng,
                    n_jobs=n_jobs,
                    report=self._report_size(),
                )
                self._set_anchors(*sample)
        self._set_solution(solution, coordinates)
        return self

    @staticmethod
    def _standardized(y: Any) -> Array:
        """Numbers of mean 0 and variance 1, so that nothing depends on their unit."""
        numbers = check_size(np.asarray(y, dtype=np.float64)[:, None], "y", limit=MODEST)[:, 0]
        if (numbers == numbers[0]).all():
            raise ValueError(f"MLKR learns to predict y, but all of its values are equal ({numbers[0]:g})")
        numbers = numbers / np.abs(numbers).max()
        numbers = numbers - numbers.mean()
        numbers /= np.abs(numbers).max()  # its squares may have underflowed
        return np.asarray(numbers / np.sqrt(np.square(numbers).mean()))
