"""``RCA`` and ``RCA_Supervised`` with metric-learn's signatures."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from certimetric.base.arrays import Array, Indices
from certimetric.learners.rca import RCA as Learner
from certimetric.metric_learn._translation import Supervised, Translated, ridge_for
from certimetric.metric_learn._util import _check_n_components
from certimetric.metric_learn.constraints import Constraints, codes_of, renamed


class RCA(Supervised, Translated):
    """Relevant component analysis from chunks, by :class:`certimetric.RCA`.

    Parameters
    ----------
    n_components : int, default=None
        Rows of L; None for as many as features.
    preprocessor : array-like of shape (n, d) or callable, default=None

    Attributes
    ----------
    components_ : array of shape (k, d)
    learner_ : certimetric.RCA
    """

    def __init__(self, n_components: int | None = None, preprocessor: Any = None):
        super().__init__(preprocessor)
        self.n_components = n_components

    def fit(self, X: ArrayLike, chunks: ArrayLike) -> Any:
        """Learn from X, (n, d) or (n,) of indicators, and the chunk of each instance, −1 for none."""
        X, chunks = self._labelled(X, chunks)
        return self._whiten(X, codes_of(chunks))

    def _whiten(self, X: Array, chunks: Indices) -> Any:
        k = _check_n_components(X.shape[1], self.n_components)
        rows = [X[chunks == chunk] for chunk in np.unique(chunks[chunks >= 0])]
        inside = [own - own.mean(axis=0) for own in rows]
        reg = ridge_for(np.concatenate(inside)) if inside else 0.0
        return self._learn(Learner(self.n_components, reg=reg), X, chunks, k)


class RCA_Supervised(RCA):
    """Relevant component analysis from labels, of which chunks are drawn, by :class:`certimetric.RCA`.

    Parameters
    ----------
    n_components : int, default=None
        Rows of L; None for as many as features.
    n_chunks : int, default=100
    chunk_size : int, default=2
    preprocessor : array-like of shape (n, d) or callable, default=None
    random_state : int, RandomState or None, default=None

    Attributes
    ----------
    components_ : array of shape (k, d)
    learner_ : certimetric.RCA
    """

    def __init__(
        self,
        n_components: int | None = None,
        n_chunks: int = 100,
        chunk_size: int = 2,
        preprocessor: Any = None,
        random_state: Any = None,
        num_chunks: Any = "deprecated",
    ):
        super().__init__(n_components, preprocessor)
        self.n_chunks = renamed(n_chunks, num_chunks, "num_chunks", "n_chunks")
        self.num_chunks = "deprecated"
        self.chunk_size = chunk_size
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike) -> Any:
        """Learn from X, (n, d) or (n,) of indicators, and class labels; a negative label is unknown."""
        X, y = self._labelled(X, y)
        made = Constraints(codes_of(y)).chunks(self.n_chunks, self.chunk_size, self.random_state)
        return self._whiten(X, made)
