"""``NCA`` with metric-learn's signature."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike

from certimetric.learners.nca import NCA as Learner
from certimetric.metric_learn._translation import Supervised, Translated

_TOL = 1e-4  # of certimetric's learner


class NCA(Supervised, Translated):
    """Neighbourhood components analysis, by :class:`certimetric.NCA`.

    Parameters
    ----------
    init : {"auto", "pca", "lda", "identity", "random"} or array of shape (k, d), default="auto"
    n_components : int, default=None
        Rows of L; None for as many as features.
    max_iter : int, default=100
        Bound on the quasi-Newton steps.
    tol : float, default=None
        What ten steps must lower the objective by, as a fraction of it; None for 1e-4.
    verbose : bool, default=False
    preprocessor : array-like of shape (n, d) or callable, default=None
    random_state : int, RandomState or None, default=None

    Attributes
    ----------
    components_ : array of shape (k, d)
    n_iter_ : int
    learner_ : certimetric.NCA
    """

    def __init__(
        self,
        init: Any = "auto",
        n_components: int | None = None,
        max_iter: int = 100,
        tol: float | None = None,
        verbose: bool = False,
        preprocessor: Any = None,
        random_state: Any = None,
    ):
        super().__init__(preprocessor)
        self.init = init
        self.n_components = n_components
        self.max_iter = max_iter
        self.tol = tol
        self.verbose = verbose
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike) -> Any:
        """Learn from X, (n, d) or (n,) of indicators, and class labels."""
        X, y = self._labelled(X, y)
        k, init = self._initial(X, y)
        learner = Learner(
            n_components=self.n_components,
            init=init,
            max_iter=self.max_iter,
            tol=_TOL if self.tol is None else self.tol,
            verbose=self.verbose,
        )
        return self._learn(learner, X, y, k)
