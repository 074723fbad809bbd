"""``SDML`` and ``SDML_Supervised`` with metric-learn's signatures."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike

from certimetric.constraints.tuples import Tuples
from certimetric.learners.sdml import SDML as Learner
from certimetric.metric_learn._translation import OfPairs, Supervised
from certimetric.metric_learn.base_metric import _PairsClassifierMixin
from certimetric.metric_learn.constraints import renamed


class _BaseSDML(OfPairs):
    """What both learn by: :class:`certimetric.SDML`."""

    _tuple_size = 2

    def __init__(
        self,
        balance_param: float = 0.5,
        sparsity_param: float = 0.01,
        prior: Any = "identity",
        verbose: bool = False,
        preprocessor: Any = None,
        random_state: Any = None,
    ):
        super().__init__(preprocessor)
        self.balance_param = balance_param
        self.sparsity_param = sparsity_param
        self.prior = prior
        self.verbose = verbose
        self.random_state = random_state

    def _solve(self, tuples: Tuples, y: Any) -> Any:
        learner = Learner(
            self.balance_param * len(tuples),  # of the mean over pairs, where metric-learn takes the sum
            sparsity=self.sparsity_param,
            prior=self._matrix("prior", tuples.points, strict_pd=True),
            random_state=self.random_state,
            verbose=self.verbose,
        )
        return self._learn_tuples(learner, tuples, y)


class SDML(_BaseSDML, _PairsClassifierMixin):
    """Sparse distance metric learning from pairs, by :class:`certimetric.SDML`.

    Parameters
    ----------
    balance_param : float, default=0.5
        Weight of the sum over pairs against the prior.
    sparsity_param : float, default=0.01
        Price of the entries of M off its diagonal.
    prior : {"identity", "covariance", "random"} or array of shape (d, d), default="identity"
    verbose : bool, default=False
    preprocessor : array-like of shape (n, d) or callable, default=None
    random_state : int, RandomState or None, default=None

    Attributes
    ----------
    components_ : array of shape (d, d)
    threshold_ : float
    n_iter_ : int
    learner_ : certimetric.SDML
        Its ``shift_`` tells whether ``balance_param`` was too large for a minimum.
    """

    def fit(self, pairs: ArrayLike, y: ArrayLike, calibration_params: dict[str, Any] | None = None) -> Any:
        """Learn from pairs, (m, 2, d) or (m, 2) of indicators, labelled ±1, and choose the threshold on them."""
        return self._fit_and_calibrate(pairs, y, calibration_params)


class SDML_Supervised(Supervised, _BaseSDML):
    """Sparse distance metric learning from labels, of which pairs are drawn, by :class:`certimetric.SDML`.

    Parameters
    ----------
    balance_param, sparsity_param, prior, verbose, preprocessor, random_state
        As of :class:`SDML`.
    n_constraints : int, default=None
        Pairs of each kind; None for 20 c² with c classes, but at most 15,000.

    Attributes
    ----------
    components_ : array of shape (d, d)
    n_iter_ : int
    learner_ : certimetric.SDML
    """

    def __init__(
        self,
        balance_param: float = 0.5,
        sparsity_param: float = 0.01,
        prior: Any = "identity",
        n_constraints: int | None = None,
        verbose: bool = False,
        preprocessor: Any = None,
        random_state: Any = None,
        num_constraints: Any = "deprecated",
    ):
        super().__init__(balance_param, sparsity_param, prior, verbose, preprocessor, random_state)
        self.n_constraints = renamed(n_constraints, num_constraints, "num_constraints", "n_constraints")
        self.num_constraints = "deprecated"

    def fit(self, X: ArrayLike, y: ArrayLike) -> Any:
        """Learn from X, (n, d) or (n,) of indicators, and class labels; a negative label is unknown."""
        return self._fit_labels(X, y)
