"""``MMC`` and ``MMC_Supervised`` with metric-learn's signatures."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike

from certimetric.constraints.tuples import Tuples
from certimetric.learners.mmc import MMC as Learner
from certimetric.metric_learn._translation import OfPairs, Supervised
from certimetric.metric_learn._util import components_from_metric
from certimetric.metric_learn.base_metric import _PairsClassifierMixin
from certimetric.metric_learn.constraints import renamed

_PROJECTIONS = "nothing is projected, the constraint holds by construction"
_OBJECTIVE = "the diagonal metric is of the same objective as the full one"
_TOL = 1e-6  # of certimetric's learner


class _BaseMMC(OfPairs):
    """What both learn by: :class:`certimetric.MMC`."""

    _tuple_size = 2
    _ignored = {"max_proj": _PROJECTIONS, "diagonal_c": _OBJECTIVE}
    _tol: float

    def __init__(
        self,
        max_iter: int = 100,
        max_proj: int = 10_000,
        tol: float = 1e-3,
        init: Any = "identity",
        diagonal: bool = False,
        diagonal_c: float = 1.0,
        verbose: bool = False,
        preprocessor: Any = None,
        random_state: Any = None,
        convergence_threshold: Any = "deprecated",
    ):
        super().__init__(preprocessor)
        self.max_iter = max_iter
        self.max_proj = max_proj
        self.tol = renamed(tol, convergence_threshold, "convergence_threshold", "tol")
        self.convergence_threshold = "deprecated"
        self.init = init
        self.diagonal = diagonal
        self.diagonal_c = diagonal_c
        self.verbose = verbose
        self.random_state = random_state

    def _solve(self, tuples: Tuples, y: Any) -> Any:
        init = self._matrix("init", tuples.points, strict_pd=False)
        learner = Learner(
            self.diagonal,
            init=init if isinstance(init, str) else components_from_metric(init),
            max_iter=self.max_iter,
            tol=_TOL * self.tol / self._tol,
            random_state=self.random_state,
            verbose=self.verbose,
        )
        return self._learn_tuples(learner, tuples, y)


class MMC(_BaseMMC, _PairsClassifierMixin):
    """Metric learning with side information from pairs, by :class:`certimetric.MMC`.

    Parameters
    ----------
    max_iter : int, default=100
        Bound on the quasi-Newton steps.
    max_proj : int, default=10000
        Ignored.
    tol : float, default=1e-3
        A thousandth of it is what ten steps must lower the objective by, as a fraction of it.
    init : {"identity", "covariance", "random"} or array of shape (d, d), default="identity"
        The metric that the descent starts at.
    diagonal : bool, default=False
        Whether M is diagonal.
    diagonal_c : float, default=1.0
        Ignored.
    verbose : bool, default=False
    preprocessor : array-like of shape (n, d) or callable, default=None
    random_state : int, RandomState or None, default=None

    Attributes
    ----------
    components_ : array of shape (d, d)
    threshold_ : float
    n_iter_ : int
    learner_ : certimetric.MMC
    """

    _tol = 1e-3

    def fit(self, pairs: ArrayLike, y: ArrayLike, calibration_params: dict[str, Any] | None = None) -> Any:
        """Learn from pairs, (m, 2, d) or (m, 2) of indicators, labelled ±1, and choose the threshold on them."""
        return self._fit_and_calibrate(pairs, y, calibration_params)


class MMC_Supervised(Supervised, _BaseMMC):
    """Metric learning with side information from labels, of which pairs are drawn, by :class:`certimetric.MMC`.

    Parameters
    ----------
    max_iter, max_proj, init, diagonal, diagonal_c, verbose, preprocessor, random_state
        As of :class:`MMC`.
    tol : float, default=1e-6
        What ten steps must lower the objective by, as a fraction of it.
    n_constraints : int, default=None
        Pairs of each kind; None for 20 c² with c classes, but at most 15,000.

    Attributes
    ----------
    components_ : array of shape (d, d)
    n_iter_ : int
    learner_ : certimetric.MMC
    """

    _tol = 1e-6

    def __init__(
        self,
        max_iter: int = 100,
        max_proj: int = 10_000,
        tol: float = 1e-6,
        n_constraints: int | None = None,
        init: Any = "identity",
        diagonal: bool = False,
        diagonal_c: float = 1.0,
        verbose: bool = False,
        preprocessor: Any = None,
        random_state: Any = None,
        num_constraints: Any = "deprecated",
        convergence_threshold: Any = "deprecated",
    ):
        super().__init__(
            max_iter,
            max_proj,
            tol,
            init,
            diagonal,
            diagonal_c,
            verbose,
            preprocessor,
            random_state,
            convergence_threshold,
        )
        self.n_constraints = renamed(n_constraints, num_constraints, "num_constraints", "n_constraints")
        self.num_constraints = "deprecated"

    def fit(self, X: ArrayLike, y: ArrayLike) -> Any:
        """Learn from X, (n, d) or (n,) of indicators, and class labels; a negative label is unknown."""
        return self._fit_labels(X, y)
