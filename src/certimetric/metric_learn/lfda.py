"""``LFDA`` with metric-learn's signature."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from certimetric.learners.lfda import LFDA as Learner
from certimetric.metric_learn import wording
from certimetric.metric_learn._translation import Supervised, Translated, ridge_for
from certimetric.metric_learn._util import _check_n_components

_EMBEDDINGS = {"weighted": "weighted", "orthonormalized": "orthonormal", "plain": "plain"}


class LFDA(Supervised, Translated):
    """Local Fisher discriminant analysis, by :class:`certimetric.LFDA`.

    Parameters
    ----------
    n_components : int, default=None
        Rows of L; None for as many as features.
    k : int, default=None
        Which neighbour scales affinities; None for 7.
    embedding_type : {"weighted", "orthonormalized", "plain"}, default="weighted"
    preprocessor : array-like of shape (n, d) or callable, default=None

    Attributes
    ----------
    components_ : array of shape (k, d)
    learner_ : certimetric.LFDA
    """

    def __init__(
        self,
        n_components: int | None = None,
        k: int | None = None,
        embedding_type: str = "weighted",
        preprocessor: Any = None,
    ):
        super().__init__(preprocessor)
        self.n_components = n_components
        self.k = k
        self.embedding_type = embedding_type

    def fit(self, X: ArrayLike, y: ArrayLike) -> Any:
        """Learn from X, (n, d) or (n,) of indicators, and class labels."""
        if self.embedding_type not in _EMBEDDINGS:
            raise ValueError(wording.wrong_embedding(tuple(_EMBEDDINGS), self.embedding_type))
        X, y = self._labelled(X, y)
        n_components = _check_n_components(X.shape[1], self.n_components)
        classes = [X[y == label] for label in np.unique(y)]
        learner = Learner(
            self.n_components,
            n_neighbors=self.k,
            embedding=_EMBEDDINGS[self.embedding_type],
            reg=ridge_for(np.concatenate([own - own.mean(axis=0) for own in classes])),
        )
        return self._learn(learner, X, y, n_components)
