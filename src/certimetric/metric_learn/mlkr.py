"""``MLKR`` with metric-learn's signature."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike

from certimetric.learners.mlkr import MLKR as Learner
from certimetric.metric_learn._translation import Supervised, Translated

_TOL = 1e-3  # of certimetric's learner


class MLKR(Supervised, Translated):
    """Metric learning for kernel regression, by :class:`certimetric.MLKR`.

    Parameters
    ----------
    n_components : int, default=None
        Rows of L; None for as many as features.
    init : {"auto", "pca", "identity", "random"} or array of shape (k, d), default="auto"
    tol : float, default=None
        What ten steps must lower the objective by, as a fraction of it; None for 1e-3.
    max_iter : int, default=1000
        Bound on the quasi-Newton steps.
    verbose : bool, default=False
    preprocessor : array-like of shape (n, d) or callable, default=None
    random_state : int, RandomState or None, default=None

    Attributes
    ----------
    components_ : array of shape (k, d)
    n_iter_ : int
    learner_ : certimetric.MLKR
    """

    def __init__(
        self,
        n_components: int | None = None,
        init: Any = "auto",
        tol: float | None = None,
        max_iter: int = 1000,
        verbose: bool = False,
        preprocessor: Any = None,
        random_state: Any = None,
    ):
        super().__init__(preprocessor)
        self.n_components = n_components
        self.init = init
        self.tol = tol
        self.max_iter = max_iter
        self.verbose = verbose
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike) -> Any:
        """Learn from X, (n, d) or (n,) of indicators, and numbers y."""
        X, y = self._labelled(X, y, y_numeric=True)
        k, init = self._initial(X, has_classes=False)
        learner = Learner(
            self.n_components,
            init=init,
            max_iter=self.max_iter,
            tol=_TOL if self.tol is None else self.tol,
            verbose=self.verbose,
        )
        return self._learn(learner, X, y, k)
