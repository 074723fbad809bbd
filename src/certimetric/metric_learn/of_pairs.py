"""metric-learn's estimators that learn from pairs, or from pairs drawn of labels: ITML, MMC, SDML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from certimetric import learners
from certimetric.constraints.tuples import Tuples
from certimetric.metric_learn import wording
from certimetric.metric_learn._translation import DrawnPairs, GivenPairs, OfPairs
from certimetric.metric_learn._util import components_from_metric
from certimetric.metric_learn.base_metric import _PairsClassifierMixin

_PROJECTIONS = "nothing is projected, the constraint holds by construction"
_OBJECTIVE = "the diagonal metric is of the same objective as the full one"


class _BaseITML(OfPairs):
    def _solve(self, tuples: Tuples, y: Any, bounds: Any = None) -> Any:
        if bounds is not None and np.shape(bounds) != (2,):
            raise ValueError(wording.WRONG_BOUNDS)
        learner = learners.ITML(
            gamma=self.gamma,
            bounds=bounds,
            prior=self._matrix("prior", tuples.points, strict_pd=True),
            max_iter=self.max_iter,
            tol=0.1 * self.tol,  # metric-learn's 1e-3 is certimetric's 1e-4
            random_state=self.random_state,
            verbose=self.verbose,
        )
        return self._learn_tuples(learner, tuples, y)


@dataclass(eq=False, repr=False)
class ITML(_BaseITML, _PairsClassifierMixin):
    """Information-theoretic metric learning from pairs, by :class:`certimetric.ITML`.

    Parameters
    ----------
    gamma : float, default=1.0
        Price of slack.
    max_iter : int, default=1000
        Bound on the quasi-Newton steps.
    tol : float, default=1e-3
        Twenty times as much is how far the objective may lie above its minimum, as a fraction of it.
    prior : {"identity", "covariance", "random"} or array of shape (d, d), default="identity"

    Attributes
    ----------
    bounds_ : tuple of float
        Squared distances that similar pairs should keep below, and dissimilar ones above.

    Examples
    --------
    >>> from certimetric.metric_learn import ITML
    >>> pairs = [[[0.0, 0.0], [0.0, 2.0]], [[1.0, 0.0], [1.0, 1.0]], [[0.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [1.0, 2.0]]]
    >>> ITML().fit(pairs, [1, 1, -1, -1]).predict([[[0.0, 0.0], [0.0, 1.0]], [[0.0, 0.0], [2.0, 0.0]]]).tolist()
    [1, -1]
    """

    gamma: float = 1.0
    max_iter: int = 1000
    tol: float = 1e-3
    prior: Any = "identity"
    verbose: bool = False
    preprocessor: Any = None
    random_state: Any = None
    convergence_threshold: Any = "deprecated"

    def fit(
        self, pairs: ArrayLike, y: ArrayLike, bounds: Any = None, calibration_params: dict[str, Any] | None = None
    ) -> Any:
        """Learn from pairs, (m, 2, d) or (m, 2) of indicators, labelled ±1, and choose the threshold on them."""
        return self._fit_and_calibrate(pairs, y, calibration_params, bounds=bounds)


@dataclass(eq=False, repr=False)
class ITML_Supervised(DrawnPairs, _BaseITML):
    """Information-theoretic metric learning from labels, of which pairs are drawn, by :class:`certimetric.ITML`.

    Parameters
    ----------
    gamma, max_iter, tol, prior
        As of :class:`ITML`.
    n_constraints : int, default=None
        Pairs of each kind; None for 20 c² with c classes, but at most 15,000.

    Attributes
    ----------
    bounds_ : tuple of float
        As of :class:`ITML`.

    Examples
    --------
    >>> from certimetric.metric_learn import ITML_Supervised
    >>> from sklearn.datasets import load_iris
    >>> ITML_Supervised(n_constraints=50, random_state=0).fit(*load_iris(return_X_y=True)).components_.shape
    (4, 4)
    """

    gamma: float = 1.0
    max_iter: int = 1000
    tol: float = 1e-3
    n_constraints: int | None = None
    prior: Any = "identity"
    verbose: bool = False
    preprocessor: Any = None
    random_state: Any = None
    num_constraints: Any = "deprecated"
    convergence_threshold: Any = "deprecated"

    def fit(self, X: ArrayLike, y: ArrayLike, bounds: Any = None) -> Any:
        """Learn from X, (n, d) or (n,) of indicators, and class labels; a negative label is unknown."""
        return self._fit_labels(X, y, bounds=bounds)


class _BaseMMC(OfPairs):
    _ignored = {"max_proj": _PROJECTIONS, "diagonal_c": _OBJECTIVE}

    def _solve(self, tuples: Tuples, y: Any) -> Any:
        init = self._matrix("init", tuples.points, strict_pd=False)
        learner = learners.MMC(
            self.diagonal,
            init=init if isinstance(init, str) else components_from_metric(init),
            max_iter=self.max_iter,
            tol=1e-6 * self.tol / type(self).tol,  # either default of metric-learn is certimetric's 1e-6
            random_state=self.random_state,
            verbose=self.verbose,
        )
        return self._learn_tuples(learner, tuples, y)


@dataclass(eq=False, repr=False)
class MMC(_BaseMMC, GivenPairs):
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

    Examples
    --------
    >>> from certimetric.metric_learn import MMC
    >>> pairs = [[[0.0, 0.0], [0.0, 2.0]], [[1.0, 0.0], [1.0, 1.0]], [[0.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [1.0, 2.0]]]
    >>> MMC(diagonal=True).fit(pairs, [1, 1, -1, -1]).predict(pairs).tolist()
    [1, 1, -1, -1]
    """

    max_iter: int = 100
    max_proj: int = 10_000
    tol: float = 1e-3
    init: Any = "identity"
    diagonal: bool = False
    diagonal_c: float = 1.0
    verbose: bool = False
    preprocessor: Any = None
    random_state: Any = None
    convergence_threshold: Any = "deprecated"


@dataclass(eq=False, repr=False)
class MMC_Supervised(DrawnPairs, _BaseMMC):
    """Metric learning with side information from labels, of which pairs are drawn, by :class:`certimetric.MMC`.

    Parameters
    ----------
    max_iter, max_proj, init, diagonal, diagonal_c
        As of :class:`MMC`.
    tol : float, default=1e-6
        What ten steps must lower the objective by, as a fraction of it.
    n_constraints : int, default=None
        Pairs of each kind; None for 20 c² with c classes, but at most 15,000.

    Examples
    --------
    >>> from certimetric.metric_learn import MMC_Supervised
    >>> from sklearn.datasets import load_iris
    >>> MMC_Supervised(n_constraints=50, random_state=0).fit(*load_iris(return_X_y=True)).get_mahalanobis_matrix().shape
    (4, 4)
    """

    max_iter: int = 100
    max_proj: int = 10_000
    tol: float = 1e-6
    n_constraints: int | None = None
    init: Any = "identity"
    diagonal: bool = False
    diagonal_c: float = 1.0
    verbose: bool = False
    preprocessor: Any = None
    random_state: Any = None
    num_constraints: Any = "deprecated"
    convergence_threshold: Any = "deprecated"


class _BaseSDML(OfPairs):
    def _solve(self, tuples: Tuples, y: Any) -> Any:
        learner = learners.SDML(
            self.balance_param * len(tuples),  # of the mean over pairs, where metric-learn takes the sum
            sparsity=self.sparsity_param,
            prior=self._matrix("prior", tuples.points, strict_pd=True),
            random_state=self.random_state,
            verbose=self.verbose,
        )
        return self._learn_tuples(learner, tuples, y)


@dataclass(eq=False, repr=False)
class SDML(_BaseSDML, GivenPairs):
    """Sparse distance metric learning from pairs, by :class:`certimetric.SDML`.

    The attribute ``shift_`` of ``learner_`` tells whether ``balance_param`` was too large for a minimum.

    Parameters
    ----------
    balance_param : float, default=0.5
        Weight of the sum over pairs against the prior.
    sparsity_param : float, default=0.01
        Price of the entries of M off its diagonal.
    prior : {"identity", "covariance", "random"} or array of shape (d, d), default="identity"

    Examples
    --------
    >>> from certimetric.metric_learn import SDML
    >>> pairs = [[[0.0, 0.0], [0.0, 2.0]], [[1.0, 0.0], [1.0, 1.0]], [[0.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [1.0, 2.0]]]
    >>> SDML(balance_param=0.1).fit(pairs, [1, 1, -1, -1]).pair_distance([[[0.0, 0.0], [0.0, 0.0]]]).tolist()
    [0.0]
    """

    balance_param: float = 0.5
    sparsity_param: float = 0.01
    prior: Any = "identity"
    verbose: bool = False
    preprocessor: Any = None
    random_state: Any = None


@dataclass(eq=False, repr=False)
class SDML_Supervised(DrawnPairs, _BaseSDML):
    """Sparse distance metric learning from labels, of which pairs are drawn, by :class:`certimetric.SDML`.

    Parameters
    ----------
    balance_param, sparsity_param, prior
        As of :class:`SDML`.
    n_constraints : int, default=None
        Pairs of each kind; None for 20 c² with c classes, but at most 15,000.

    Examples
    --------
    >>> from certimetric.metric_learn import SDML_Supervised
    >>> from sklearn.datasets import load_iris
    >>> learner = SDML_Supervised(balance_param=0.001, n_constraints=50, random_state=0)
    >>> learner.fit_transform(*load_iris(return_X_y=True)).shape
    (150, 4)
    """

    balance_param: float = 0.5
    sparsity_param: float = 0.01
    prior: Any = "identity"
    n_constraints: int | None = None
    verbose: bool = False
    preprocessor: Any = None
    random_state: Any = None
    num_constraints: Any = "deprecated"
