"""How far dissimilar pairs lie from each other, in units of the distances of similar ones."""

from __future__ import annotations

import numpy as np
import scipy.linalg

from certimetric.base.arrays import Array, Indices
from certimetric.geometry.kernels import pair_squared_distances
from certimetric.geometry.spd import power
from certimetric.objectives.gradient import MetricState, TermValue


class SeparationRatio:
    """``tr(M S) / (mean of d over dissimilar pairs)²``, times the unevenness of M to a power.

    S is the scatter of similar pairs, so that ``tr(M S)`` is their mean squared distance. The unevenness is the
    arithmetic over the geometric mean of the eigenvalues of ``L S Lᵀ``: 1 where the metric spends as much of
    ``tr(M S)`` on every of its directions, infinite where it leaves one out. Neither depends on the scale of M, and in
    M of a given ``tr(M S)`` the logarithm of the value is convex.

    Parameters
    ----------
    scatter : array of shape (d, d)
        S, positive definite.
    pairs : int array of shape (m, 2)
        Dissimilar pairs of rows.
    evenness : float
        The power of the unevenness, 0 or more.

    Examples
    --------
    >>> state = MetricState(np.array([[0.0, 0.0], [2.0, 0.0]]), np.eye(2))
    >>> SeparationRatio(np.eye(2), np.array([[0, 1]])).evaluate(state).value
    0.5
    """

    def __init__(self, scatter: Array, pairs: Indices, evenness: float = 0.0):
        self.scatter, self.root = scatter, power(scatter, 0.5)
        self.i, self.j = np.ascontiguousarray(pairs[:, 0]), np.ascontiguousarray(pairs[:, 1])
        self.evenness = evenness

    def evaluate(self, state: MetricState) -> TermValue:
        """Value, weights of the dissimilar pairs, and the gradient of what S and the eigenvalues contribute."""
        L = state.L
        spread = float(np.vdot(L @ self.scatter, L))
        distances = np.sqrt(pair_squared_distances(state.Z, self.i, self.j))
        mean = float(distances.mean())
        with np.errstate(divide="ignore", invalid="ignore"):
            log_value, gradient = np.log(spread) - 2.0 * np.log(mean), self.scatter / spread
        if self.evenness:
            unevenness, slope = self._log_unevenness(L, spread)
            log_value += self.evenness * unevenness
            gradient += self.evenness * slope
        value = float(np.exp(log_value))
        if not np.isfinite(value):
            return TermValue(np.inf, self.i, self.j, np.zeros_like(distances), np.zeros_like(self.scatter))
        # A pair at distance 0 stands at a kink, where 0 is a subgradient in L.
        shares = np.divide(1.0, distances, out=np.zeros_like(distances), where=distances > 1e-12 * mean)
        weights = shares * (-value / (mean * len(distances)))
        return TermValue(value, self.i, self.j, weights, value * gradient)

    def _log_unevenness(self, L: Array, spread: float) -> tuple[float, Array]:
        """Its logarithm ``log(tr(M S)/k) − log det(L S Lᵀ)/k``, and the gradient of that in M."""
        k = len(L)
        whitened = L @ self.root
        # The triangle of a QR decomposition keeps the digits that a product with itself would lose.
        Q, R = scipy.linalg.qr(whitened.T, mode="economic")
        diagonal = np.abs(np.diagonal(R))
        if diagonal.min() <= k * np.finfo(float).eps * diagonal.max():
            return np.inf, np.zeros_like(self.scatter)
        inverse = self.root @ scipy.linalg.solve_triangular(R, Q.T).T
        log_det = 2.0 * float(np.log(diagonal).sum())
        return np.log(spread / k) - log_det / k, self.scatter / spread - inverse @ inverse.T / k
