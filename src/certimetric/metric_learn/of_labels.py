"""metric-learn's estimators that learn from labels or chunks: Covariance, LFDA, LMNN, MLKR, NCA, RCA."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from certimetric import learners
from certimetric.base.arrays import Array, Indices
from certimetric.metric_learn import wording
from certimetric.metric_learn._translation import Supervised, Transformer, Translated, ridge_for
from certimetric.metric_learn._util import _check_n_components
from certimetric.metric_learn.constraints import Constraints, codes_of

_EMBEDDINGS = {"weighted": "weighted", "orthonormalized": "orthonormal", "plain": "plain"}
_STEPS = "its steps are quasi-Newton with a line search"


class Covariance(Transformer, Translated):
    """The distance of the inverse covariance of the data, by :class:`certimetric.Covariance`.

    Parameters
    ----------
    preprocessor : array-like of shape (n, d) or callable, default=None
        What indicators in the place of instances stand for.

    Examples
    --------
    >>> from certimetric.metric_learn import Covariance
    >>> Covariance().fit([[0.0, 0.0], [2.0, 0.0], [0.0, 4.0], [2.0, 4.0]]).get_mahalanobis_matrix().round(4).tolist()
    [[0.75, 0.0], [0.0, 0.1875]]
    """

    def fit(self, X: ArrayLike, y: Any = None) -> Any:
        """Learn from X, shape (n, d) or (n,) of indicators; ``y`` is not used."""
        X = self._prepare_inputs(X, ensure_min_samples=2, dtype=np.float64)
        return self._learn(learners.Covariance(), X)


@dataclass(eq=False, repr=False)
class LFDA(Supervised, Translated):
    """Local Fisher discriminant analysis, by :class:`certimetric.LFDA`.

    Parameters
    ----------
    k : int, default=None
        Which neighbour scales affinities; None for 7.
    embedding_type : {"weighted", "orthonormalized", "plain"}, default="weighted"

    Examples
    --------
    >>> from certimetric.metric_learn import LFDA
    >>> from sklearn.datasets import load_iris
    >>> LFDA(n_components=2, k=7).fit_transform(*load_iris(return_X_y=True)).shape
    (150, 2)
    """

    n_components: int | None = None
    k: int | None = None
    embedding_type: str = "weighted"
    preprocessor: Any = None

    def fit(self, X: ArrayLike, y: ArrayLike) -> Any:
        """Learn from X, (n, d) or (n,) of indicators, and class labels."""
        if self.embedding_type not in _EMBEDDINGS:
            raise ValueError(wording.WRONG_EMBEDDING.format(given=self.embedding_type))
        X, y = self._labelled(X, y)
        n_components = _check_n_components(X.shape[1], self.n_components)
        classes = [X[y == label] for label in np.unique(y)]
        learner = learners.LFDA(
            self.n_components,
            n_neighbors=self.k,
            embedding=_EMBEDDINGS[self.embedding_type],
            reg=ridge_for(np.concatenate([own - own.mean(axis=0) for own in classes])),
        )
        return self._learn(learner, X, y, n_components)


@dataclass(eq=False, repr=False)
class NCA(Supervised, Translated):
    """Neighbourhood components analysis, by :class:`certimetric.NCA`.

    Parameters
    ----------
    init : {"auto", "pca", "lda", "identity", "random"} or array of shape (k, d), default="auto"
    max_iter : int, default=100
        Bound on the quasi-Newton steps.
    tol : float, default=None
        What ten steps must lower the objective by, as a fraction of it; None for 1e-4.

    Examples
    --------
    >>> from certimetric.metric_learn import NCA
    >>> from sklearn.datasets import load_iris
    >>> NCA(n_components=2, init="pca").fit(*load_iris(return_X_y=True)).components_.shape
    (2, 4)
    """

    init: Any = "auto"
    n_components: int | None = None
    max_iter: int = 100
    tol: float | None = None
    verbose: bool = False
    preprocessor: Any = None
    random_state: Any = None

    def fit(self, X: ArrayLike, y: ArrayLike) -> Any:
        """Learn from X, (n, d) or (n,) of indicators, and class labels."""
        X, y = self._labelled(X, y)
        k, init = self._initial(X, y)
        tol = 1e-4 if self.tol is None else self.tol
        learner = learners.NCA(self.n_components, init=init, max_iter=self.max_iter, tol=tol, verbose=self.verbose)
        return self._learn(learner, X, y, k)


@dataclass(eq=False, repr=False)
class MLKR(Supervised, Translated):
    """Metric learning for kernel regression, by :class:`certimetric.MLKR`.

    Parameters
    ----------
    init : {"auto", "pca", "identity", "random"} or array of shape (k, d), default="auto"
    tol : float, default=None
        What ten steps must lower the objective by, as a fraction of it; None for 1e-3.
    max_iter : int, default=1000
        Bound on the quasi-Newton steps.

    Examples
    --------
    >>> from certimetric.metric_learn import MLKR
    >>> MLKR().fit([[0.0, 5.0], [1.0, 1.0], [2.0, 3.0], [3.0, 2.0]], [0.0, 1.0, 2.0, 3.0]).components_.shape
    (2, 2)
    """

    n_components: int | None = None
    init: Any = "auto"
    tol: float | None = None
    max_iter: int = 1000
    verbose: bool = False
    preprocessor: Any = None
    random_state: Any = None

    def fit(self, X: ArrayLike, y: ArrayLike) -> Any:
        """Learn from X, (n, d) or (n,) of indicators, and numbers y."""
        X, y = self._labelled(X, y, y_numeric=True)
        k, init = self._initial(X, has_classes=False)
        tol = 1e-3 if self.tol is None else self.tol
        learner = learners.MLKR(self.n_components, init=init, max_iter=self.max_iter, tol=tol, verbose=self.verbose)
        return self._learn(learner, X, y, k)


@dataclass(eq=False, repr=False)
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

    Examples
    --------
    >>> from certimetric.metric_learn import LMNN
    >>> from sklearn.datasets import load_iris
    >>> LMNN(n_neighbors=3).fit(*load_iris(return_X_y=True)).components_.shape
    (4, 4)
    """

    _ignored = {"min_iter": _STEPS, "learn_rate": _STEPS}

    init: Any = "auto"
    n_neighbors: int = 3
    min_iter: int = 50
    max_iter: int = 1000
    learn_rate: float = 1e-7
    regularization: float = 0.5
    convergence_tol: float = 0.001
    verbose: bool = False
    preprocessor: Any = None
    n_components: int | None = None
    random_state: Any = None
    k: Any = "deprecated"

    def fit(self, X: ArrayLike, y: ArrayLike) -> Any:
        """Learn from X, (n, d) or (n,) of indicators, and class labels."""
        X, y = self._labelled(X, y)
        k, init = self._initial(X, y)
        learner = learners.LMNN(
            n_neighbors=self.n_neighbors,
            push_weight=self.regularization,
            n_components=self.n_components,
            init=init,
            max_iter=self.max_iter,
            tol=self.convergence_tol / 10,
            verbose=self.verbose,
        )
        return self._learn(learner, X, y, k)


class RCA(Supervised, Translated):
    """Relevant component analysis from chunks, by :class:`certimetric.RCA`.

    Parameters
    ----------
    n_components : int, default=None
        Rows of the components.
    preprocessor : array-like of shape (n, d) or callable, default=None
        What indicators in the place of instances stand for.

    Examples
    --------
    >>> from certimetric.metric_learn import RCA
    >>> X = [[0.0, 0.0], [2.0, 0.0], [5.0, 1.0], [7.0, 1.5]]
    >>> RCA().fit(X, [0, 0, 1, 1]).components_.shape
    (2, 2)
    """

    def __init__(self, n_components: int | None = None, preprocessor: Any = None):
        self.n_components = n_components
        self.preprocessor = preprocessor

    def fit(self, X: ArrayLike, chunks: ArrayLike) -> Any:
        """Learn from X, (n, d) or (n,) of indicators, and the chunk of each instance, −1 for none."""
        X, chunks = self._labelled(X, chunks)
        return self._whiten(X, codes_of(chunks))

    def _whiten(self, X: Array, chunks: Indices) -> Any:
        k = _check_n_components(X.shape[1], self.n_components)
        rows = [X[chunks == chunk] for chunk in np.unique(chunks[chunks >= 0])]
        inside = [own - own.mean(axis=0) for own in rows]
        reg = ridge_for(np.concatenate(inside)) if inside else 0.0
        return self._learn(learners.RCA(self.n_components, reg=reg), X, chunks, k)


@dataclass(eq=False, repr=False)
class RCA_Supervised(RCA):
    """Relevant component analysis from labels, of which chunks are drawn, by :class:`certimetric.RCA`.

    Parameters
    ----------
    n_chunks : int, default=100
    chunk_size : int, default=2

    Examples
    --------
    >>> from certimetric.metric_learn import RCA_Supervised
    >>> from sklearn.datasets import load_iris
    >>> RCA_Supervised(n_chunks=30, random_state=0).fit_transform(*load_iris(return_X_y=True)).shape
    (150, 4)
    """

    n_components: int | None = None
    n_chunks: int = 100
    chunk_size: int = 2
    preprocessor: Any = None
    random_state: Any = None
    num_chunks: Any = "deprecated"

    def fit(self, X: ArrayLike, y: ArrayLike) -> Any:
        """Learn from X, (n, d) or (n,) of indicators, and class labels; a negative label is unknown."""
        X, y = self._labelled(X, y)
        made = Constraints(codes_of(y)).chunks(self.n_chunks, self.chunk_size, self.random_state)
        return self._whiten(X, made)
