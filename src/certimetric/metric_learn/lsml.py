"""``LSML`` and ``LSML_Supervised`` with metric-learn's signatures."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from certimetric.constraints.tuples import Tuples
from certimetric.learners.lsml import LSML as Learner
from certimetric.metric_learn._translation import Supervised, Translated
from certimetric.metric_learn.base_metric import _QuadrupletsClassifierMixin
from certimetric.metric_learn.constraints import renamed

_TOL = 1e-3  # metric-learn's 1e-3 is certimetric's 1e-6


class _BaseLSML(Translated):
    """What both learn by: :class:`certimetric.LSML`."""

    _tuple_size = 4

    def __init__(
        self,
        tol: float = 1e-3,
        max_iter: int = 1000,
        prior: Any = "identity",
        verbose: bool = False,
        preprocessor: Any = None,
        random_state: Any = None,
    ):
        super().__init__(preprocessor)
        self.tol = tol
        self.max_iter = max_iter
        self.prior = prior
        self.verbose = verbose
        self.random_state = random_state

    def _order(self, tuples: Tuples, weights: Any) -> Any:
        learner = Learner(
            self._matrix("prior", tuples.points, strict_pd=True),
            max_iter=self.max_iter,
            tol=self.tol * _TOL,
            random_state=self.random_state,
            verbose=self.verbose,
        )
        return self._learn_tuples(learner, tuples, weights=weights)


class LSML(_BaseLSML, _QuadrupletsClassifierMixin):
    """Least squared residual metric learning from quadruplets, by :class:`certimetric.LSML`.

    Parameters
    ----------
    tol : float, default=1e-3
        A thousandth of it is what ten steps must lower the objective by, as a fraction of it.
    max_iter : int, default=1000
        Bound on the quasi-Newton steps.
    prior : {"identity", "covariance", "random"} or array of shape (d, d), default="identity"
    verbose : bool, default=False
    preprocessor : array-like of shape (n, d) or callable, default=None
    random_state : int, RandomState or None, default=None

    Attributes
    ----------
    components_ : array of shape (d, d)
    n_iter_ : int
    learner_ : certimetric.LSML
    """

    def fit(self, quadruplets: ArrayLike, weights: ArrayLike | None = None) -> Any:
        """Learn from quadruplets (a, b, c, d) with a nearer to b than c to d, (m, 4, d) or (m, 4) of indicators.

        ``weights``, of shape (m,), are shares of the quadruplets; equal by default.
        """
        tuples, _ = self._tuples(quadruplets)
        return self._order(tuples, weights)


class LSML_Supervised(Supervised, _BaseLSML):
    """Least squared residual metric learning from labels, of which quadruplets are drawn, by :class:`certimetric.LSML`.

    Parameters
    ----------
    tol, max_iter, prior, verbose, preprocessor, random_state
        As of :class:`LSML`.
    n_constraints : int, default=None
        Quadruplets; None for 20 c² with c classes, but at most 15,000.
    weights : array-like of shape (n_constraints,), default=None
        Shares of the quadruplets.

    Attributes
    ----------
    components_ : array of shape (d, d)
    n_iter_ : int
    learner_ : certimetric.LSML
    """

    def __init__(
        self,
        tol: float = 1e-3,
        max_iter: int = 1000,
        prior: Any = "identity",
        n_constraints: int | None = None,
        weights: Any = None,
        verbose: bool = False,
        preprocessor: Any = None,
        random_state: Any = None,
        num_constraints: Any = "deprecated",
    ):
        super().__init__(tol, max_iter, prior, verbose, preprocessor, random_state)
        self.n_constraints = renamed(n_constraints, num_constraints, "num_constraints", "n_constraints")
        self.num_constraints = "deprecated"
        self.weights = weights

    def fit(self, X: ArrayLike, y: ArrayLike) -> Any:
        """Learn from X, (n, d) or (n,) of indicators, and class labels; a negative label is unknown."""
        X, y = self._labelled(X, y)
        drawn = self._drawn_pairs(X, y, same_length=True)[1]
        return self._order(Tuples(X, np.stack(drawn, axis=1)), self.weights)
