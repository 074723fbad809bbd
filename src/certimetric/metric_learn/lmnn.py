"""``LMNN`` with metric-learn's signature."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike

from certimetric.learners.lmnn import LMNN as Learner
from certimetric.metric_learn._translation import Supervised, Translated
from certimetric.metric_learn.constraints import renamed

_STEPS = "its steps are quasi-Newton with a line search"


class LMNN(Supervised, Translated):
    """Large margin nearest neighbours, by :class:`certimetric.LMNN`.

    Parameters
    ----------
    init : {"auto", "pca", "lda", "identity", "random"} or array of shape (k, d), default="auto"
    n_neighbors : int, default=3
        Target neighbours of an instance.
    min_iter : int, default=50
        Ignored.
    max_iter : int, default=1000
        Bound on the quasi-Newton steps.
    learn_rate : float, default=1e-7
        Ignored.
    regularization : float, default=0.5
        Weight of the push against the pull.
    convergence_tol : float, default=1e-3
        A tenth of it is what ten steps must lower the objective by, as a fraction of it.
    verbose : bool, default=False
    preprocessor : array-like of shape (n, d) or callable, default=None
    n_components : int, default=None
        Rows of L; None for as many as features.
    random_state : int, RandomState or None, default=None

    Attributes
    ----------
    components_ : array of shape (k, d)
    n_iter_ : int
    learner_ : certimetric.LMNN
    """

    _ignored = {"min_iter": _STEPS, "learn_rate": _STEPS}

    def __init__(
        self,
        init: Any = "auto",
        n_neighbors: int = 3,
        min_iter: int = 50,
        max_iter: int = 1000,
        learn_rate: float = 1e-7,
        regularization: float = 0.5,
        convergence_tol: float = 0.001,
        verbose: bool = False,
        preprocessor: Any = None,
        n_components: int | None = None,
        random_state: Any = None,
        k: Any = "deprecated",
    ):
        super().__init__(preprocessor)
        self.init = init
        self.n_neighbors = renamed(n_neighbors, k, "k", "n_neighbors")
        self.k = "deprecated"
        self.min_iter = min_iter
        self.max_iter = max_iter
        self.learn_rate = learn_rate
        self.regularization = regularization
        self.convergence_tol = convergence_tol
        self.verbose = verbose
        self.n_components = n_components
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike) -> Any:
        """Learn from X, (n, d) or (n,) of indicators, and class labels."""
        X, y = self._labelled(X, y)
        k, init = self._initial(X, y)
        learner = Learner(
            n_neighbors=self.n_neighbors,
            push_weight=self.regularization,
            n_components=self.n_components,
            init=init,
            max_iter=self.max_iter,
            tol=self.convergence_tol / 10,
            verbose=self.verbose,
        )
        return self._learn(learner, X, y, k)
