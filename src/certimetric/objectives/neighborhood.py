"""The stochastic-neighbour term of neighbourhood components analysis."""

from __future__ import annotations

import numba as nb
import numpy as np
from numpy.typing import NDArray

from certimetric.geometry.neighbors import chunk_slices
from certimetric.objectives.gradient import MetricState, TermValue

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

_BLOCK_BYTES = 8 * 2**20  # a block of distances passes through the cache several times


class StochasticNeighbors:
    """One minus the mean probability that an instance picks a neighbour of its own class.

    Instance i picks j ≠ i with probability ``p_ij ∝ exp(−d²_ij)``.

    Parameters
    ----------
    y : int array of shape (n,)
        Class codes.

    References
    ----------
    Goldberger, Hinton, Roweis, Salakhutdinov (2004), *Neighbourhood components analysis*, NIPS 17.
    """

    def __init__(self, y: Indices):
        self.y = np.ascontiguousarray(y)

    def evaluate(self, state: MetricState) -> TermValue:
        """Value, and the Laplacian of the pair weights times the carrier, in blocks of rows."""
        Z = state.Z - state.Z.mean(axis=0)
        n = len(Z)
        z = np.einsum("ij,ij->i", Z, Z)
        carrier = state.carrier
        products = np.zeros_like(carrier)
        degrees = np.zeros(n)
        value = 0.0
        for rows in chunk_slices(n, 8.0 * n, _BLOCK_BYTES):
            block = Z[rows] @ Z.T
            _negative_excess(block, z[rows], z, rows.start)
            np.exp(block, out=block)  # vectorised, unlike the exponential of a compiled loop
            value += _neighbor_weights(block, self.y[rows], self.y)
            block /= n
            # Row i of W weighs the pair (i, j), which counts in both rows of the Laplacian.
            degrees += block.sum(axis=0)
            degrees[rows] += block.sum(axis=1)
            products[rows] -= block @ carrier
            products -= block.T @ carrier[rows]
        products += degrees[:, None] * carrier
        none = np.zeros(0, dtype=np.int64)
        return TermValue(1.0 - value / n, none, none, np.zeros(0), products=products)


@nb.njit(cache=True, nogil=True)
def _negative_excess(block, q, p, first):
    """Turn inner products into minus the squared distance beyond the nearest, in place; −∞ for an instance itself."""
    for i in range(block.shape[0]):
        row = block[i]
        row[first + i] = -np.inf
        nearest = np.inf
        for j in range(row.shape[0]):
            row[j] = q[i] + p[j] - 2.0 * row[j]
            nearest = min(nearest, row[j])
        for j in range(row.shape[0]):
            row[j] = nearest - row[j]


@nb.njit(cache=True, nogil=True)
def _neighbor_weights(block, y_rows, y):
    """Turn unnormalised probabilities into ``∂(1 − p_i)/∂d²_ij`` in place, and return the sum of the p_i."""
    total = 0.0
    for i in range(block.shape[0]):
        row = block[i]
        everything, own = 0.0, 0.0
        for j in range(row.shape[0]):
            everything += row[j]
            if y[j] == y_rows[i]:
                own += row[j]
        if everything == 0.0:
            continue
        probability = own / everything
        total += probability
        # ∂p_i/∂d²_ij = p_ij (p_i − [same class]), and the value falls as p_i rises.
        same, other = (1.0 - probability) / everything, -probability / everything
        for j in range(row.shape[0]):
            row[j] *= same if y[j] == y_rows[i] else other
    return total
