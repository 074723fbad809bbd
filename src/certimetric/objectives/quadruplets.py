"""Comparisons of distances: one pair should be nearer than another."""

from __future__ import annotations

import numpy as np

from certimetric.base.arrays import Array, Indices
from certimetric.objectives.gradient import MetricState, TermValue


class QuadrupletHinge:
    """Weighted mean of ``[d(a, b) − d(c, d)]_+²`` over quadruplets (a, b, c, d), in distances that are not squared.

    It is convex in M: of squared distances p and q, which are linear in M, it is ``p + q − 2 √(pq)`` where p > q, whose
    geometric mean is concave, and 0 elsewhere; where p = q both sides have slope 0.

    Parameters
    ----------
    quadruplets : int array of shape (m, 4)
        Rows.
    weights : array of shape (m,), optional
        Of the quadruplets, 0 or more; they count by their shares. The same for all by default.

    Examples
    --------
    >>> state = MetricState(np.array([[0.0], [2.0], [5.0], [6.0]]), np.eye(1))
    >>> QuadrupletHinge(np.array([[0, 1, 2, 3], [2, 3, 0, 1]])).evaluate(state).value
    0.5
    """

    def __init__(self, quadruplets: Indices, weights: Array | None = None):
        m = len(quadruplets)
        self.shares = np.full(m, 1.0 / max(m, 1)) if weights is None else weights / weights.sum()
        # Quadruplets of few instances share pairs, whose distances are then taken once.
        ends = np.concatenate([quadruplets[:, :2], quadruplets[:, 2:]])
        low, high = ends.min(axis=1), ends.max(axis=1)
        n = int(ends.max(initial=-1)) + 1
        keys, number = np.unique(low * n + high, return_inverse=True)
        self.i, self.j = keys // max(n, 1), keys % max(n, 1)
        self.near, self.far = number[:m], number[m:]

    def violations(self, state: MetricState) -> tuple[Array, Array]:
        """Distances of the distinct pairs, shape (p,), and by how much each quadruplet is out of order, shape (m,)."""
        distances = np.sqrt(state.squared_distances(self.i, self.j))
        return distances, np.maximum(distances[self.near] - distances[self.far], 0.0)

    def evaluate(self, state: MetricState) -> TermValue:
        """Value and pair weights: of violations v, ``v/d(a, b)`` on the first pair and ``−v/d(c, d)`` on the second."""
        distances, violation = self.violations(state)
        slope = self.shares * violation
        total = np.bincount(self.near, slope, len(distances)) - np.bincount(self.far, slope, len(distances))
        # Of a pair at distance 0 the slope in L has no direction; 0 is among its subgradients.
        weights = np.divide(total, distances, out=np.zeros_like(distances), where=distances > 0)
        return TermValue(float(slope @ violation), self.i, self.j, weights)
