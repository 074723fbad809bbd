"""``Covariance`` with metric-learn's signature."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from certimetric.learners.baselines import Covariance as Learner
from certimetric.metric_learn._translation import Transformer, Translated


class Covariance(Transformer, Translated):
    """The distance of the inverse covariance of the data, by :class:`certimetric.Covariance`.

    Parameters
    ----------
    preprocessor : array-like of shape (n, d) or callable, default=None
    """

    def __init__(self, preprocessor: Any = None):
        super().__init__(preprocessor)

    def fit(self, X: ArrayLike, y: Any = None) -> Any:
        """Learn from X, shape (n, d) or (n,) of indicators; ``y`` is not used."""
        X = self._prepare_inputs(X, ensure_min_samples=2, dtype=np.float64)
        return self._learn(Learner(), X)
