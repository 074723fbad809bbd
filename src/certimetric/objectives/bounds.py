"""Bounds that squared distances should keep, and what it costs to break them."""

from __future__ import annotations

import numpy as np

from certimetric.base.arrays import Array, Indices
from certimetric.objectives.gradient import MetricState, TermValue

SMALLEST_SQUARE = 1e-290  # squared distances below have no finite inverse to work with


class PairBounds:
    """``weight · Σ (r − log r − 1)`` over the pairs that break their bound, with r = d² / bound; convex in M.

    That is the LogDet divergence of the nearest slack variables that the metric keeps from the bounds. It is convex
    because r is linear in M, and ``r − log r − 1`` convex in r with slope 0 at its minimum, r = 1: it stays convex
    where one of its sides is replaced by 0. Pairs of equal instances say nothing about a metric, and do not count.

    Parameters
    ----------
    pairs : int array of shape (m, 2)
        Rows.
    y : int array of shape (m,)
        +1 for pairs whose squared distance should not exceed their bound, −1 for those that should reach it.
    bounds : array of shape (m,), or float
        Positive.
    weight : float

    Examples
    --------
    >>> import numpy as np
    >>> from certimetric.objectives import MetricObjective
    >>> X = np.array([[0.0], [1.0], [2.0]])  # one pair at its bound of 1, one at four times that
    >>> objective = MetricObjective(X, [PairBounds(np.array([[0, 1], [0, 2]]), np.array([1, 1]), 1.0)])
    >>> round(objective.in_components(np.eye(1))[0], 4)  # 4 − log 4 − 1
    1.6137
    """

    def __init__(self, pairs: Indices, y: Indices, bounds: Array | float, weight: float = 1.0):
        self.i, self.j = np.ascontiguousarray(pairs[:, 0]), np.ascontiguousarray(pairs[:, 1])
        self.similar, self.weight = y == 1, weight
        self.inverse_bounds = np.broadcast_to(1.0 / np.asarray(bounds), len(pairs))

    def evaluate(self, state: MetricState) -> TermValue:
        """Value, and the weights of the pairs that break their bound."""
        squared = state.squared_distances(self.i, self.j)
        ratio = squared * self.inverse_bounds
        broken = np.flatnonzero(((ratio > 1.0) == self.similar) & (ratio != 1.0) & (squared > SMALLEST_SQUARE))
        ratio, inverse_bounds = ratio[broken], self.inverse_bounds[broken]
        value = float((ratio - np.log(ratio) - 1.0).sum())
        weights = self.weight * (1.0 - 1.0 / ratio) * inverse_bounds
        return TermValue(self.weight * value, self.i[broken], self.j[broken], weights)
