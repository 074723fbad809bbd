"""``ITML`` and ``ITML_Supervised`` with metric-learn's signatures."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike

from certimetric.constraints.tuples import Tuples
from certimetric.learners.itml import ITML as Learner
from certimetric.metric_learn._translation import OfPairs, Supervised
from certimetric.metric_learn.base_metric import _PairsClassifierMixin
from certimetric.metric_learn.constraints import renamed

_TOL = 20.0  # metric-learn's 1e-3 is certimetric's 0.02


class _BaseITML(OfPairs):
    """What both learn by: :class:`certimetric.ITML`."""

    _tuple_size = 2

    def __init__(
        self,
        gamma: float = 1.0,
        max_iter: int = 1000,
        tol: float = 1e-3,
        prior: Any = "identity",
        verbose: bool = False,
        preprocessor: Any = None,
        random_state: Any = None,
        convergence_threshold: Any = "deprecated",
    ):
        super().__init__(preprocessor)
        self.gamma = gamma
        self.max_iter = max_iter
        self.tol = renamed(tol, convergence_threshold, "convergence_threshold", "tol")
        self.convergence_threshold = "deprecated"
        self.prior = prior
        self.verbose = verbose
        self.random_state = random_state

    def _solve(self, tuples: Tuples, y: Any, bounds: Any = None) -> Any:
        learner = Learner(
            gamma=self.gamma,
            bounds=bounds,
            prior=self._matrix("prior", tuples.points, strict_pd=True),
            max_iter=self.max_iter,
            tol=self.tol * _TOL,
            random_state=self.random_state,
            verbose=self.verbose,
        )
        return self._learn_tuples(learner, tuples, y)


class ITML(_BaseITML, _PairsClassifierMixin):
    """Information-theoretic metric learning from pairs, by :class:`certimetric.ITML`.

    Parameters
    ----------
    gamma : float, default=1.0
        Price of slack.
    max_iter : int, default=1000
        Bound on the sweeps over all pairs.
    tol : float, default=1e-3
        Twenty times as much is how far the objective may lie above its minimum, as a fraction of it.
    prior : {"identity", "covariance", "random"} or array of shape (d, d), default="identity"
    verbose : bool, default=False
    preprocessor : array-like of shape (n, d) or callable, default=None
    random_state : int, RandomState or None, default=None

    Attributes
    ----------
    components_ : array of shape (d, d)
    threshold_ : float
    bounds_ : tuple of float
        Squared distances that similar pairs should keep below, and dissimilar ones above.
    n_iter_ : int
    learner_ : certimetric.ITML
    """

    def fit(
        self, pairs: ArrayLike, y: ArrayLike, bounds: Any = None, calibration_params: dict[str, Any] | None = None
    ) -> Any:
        """Learn from pairs, (m, 2, d) or (m, 2) of indicators, labelled ±1, and choose the threshold on them."""
        return self._fit_and_calibrate(pairs, y, calibration_params, bounds=bounds)


class ITML_Supervised(Supervised, _BaseITML):
    """Information-theoretic metric learning from labels, of which pairs are drawn, by :class:`certimetric.ITML`.

    Parameters
    ----------
    gamma, max_iter, tol, prior, verbose, preprocessor, random_state
        As of :class:`ITML`.
    n_constraints : int, default=None
        Pairs of each kind; None for 20 c² with c classes, but at most 15,000.

    Attributes
    ----------
    components_ : array of shape (d, d)
    bounds_ : tuple of float
    n_iter_ : int
    learner_ : certimetric.ITML
    """

    def __init__(
        self,
        gamma: float = 1.0,
        max_iter: int = 1000,
        tol: float = 1e-3,
        n_constraints: int | None = None,
        prior: Any = "identity",
        verbose: bool = False,
        preprocessor: Any = None,
        random_state: Any = None,
        num_constraints: Any = "deprecated",
        convergence_threshold: Any = "deprecated",
    ):
        super().__init__(gamma, max_iter, tol, prior, verbose, preprocessor, random_state, convergence_threshold)
        self.n_constraints = renamed(n_constraints, num_constraints, "num_constraints", "n_constraints")
        self.num_constraints = "deprecated"

    def fit(self, X: ArrayLike, y: ArrayLike, bounds: Any = None) -> Any:
        """Learn from X, (n, d) or (n,) of indicators, and class labels; a negative label is unknown."""
        return self._fit_labels(X, y, bounds=bounds)
