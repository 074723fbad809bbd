"""The stochastic-neighbour term of neighbourhood components analysis."""

from __future__ import annotations

import numba as nb
import numpy as np
from numpy.typing import NDArray

from certimetric.geometry.neighbors import DEFAULT_MEMORY, chunk_slices
from certimetric.objectives.gradient import MetricState, TermValue

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

_NEGLIGIBLE = 40.0  # exp(−40) is below the rounding of a sum that contains exp(0)


class StochasticNeighbors:
    """One minus the mean probability that an instance picks a neighbour of its own class.

    Instance i picks j ≠ i with probability ``p_ij ∝ exp(−d²_ij)``.

    Parameters
    ----------
    y : int array of shape (n,)
        Class codes.
    memory : int
        Bytes for blocks of distances.

    References
    ----------
    Goldberger, Hinton, Roweis, Salakhutdinov (2004), *Neighbourhood components analysis*, NIPS 17.
    """

    def __init__(self, y: Indices, memory: int = DEFAULT_MEMORY):
        self.y, self.memory = np.ascontiguousarray(y), memory

    def evaluate(self, state: MetricState) -> TermValue:
        """Value, and the Laplacian of the pair weights times the carrier, in blocks of rows."""
        Z = state.Z - state.Z.mean(axis=0)
        n = len(Z)
        z = np.einsum("ij,ij->i", Z, Z)
        carrier = state.carrier
        products = np.zeros_like(carrier)
        degrees = np.zeros(n)
        value = 0.0
        for rows in chunk_slices(n, 8.0 * n, self.memory):
            block = Z[rows] @ Z.T
            value += _neighbor_weights(block, z[rows], z, self.y[rows], self.y, rows.start)
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
def _neighbor_weights(block, q, p, y_rows, y, first):
    """Turn inner products into ``∂(1 − p_i)/∂d²_ij`` in place, and return the sum of the p_i."""
    total = 0.0
    for i in range(block.shape[0]):
        row = block[i]
        nearest = np.inf
        for j in range(row.shape[0]):
            row[j] = q[i] + p[j] - 2.0 * row[j]
            if j != first + i and row[j] < nearest:
                nearest = row[j]
        all_, own = 0.0, 0.0
        for j in range(row.shape[0]):
            excess = row[j] - nearest
            if j == first + i or excess > _NEGLIGIBLE:
                row[j] = 0.0
            else:
                row[j] = np.exp(-excess)
                all_ += row[j]
                if y[j] == y_rows[i]:
                    own += row[j]
        if all_ == 0.0:
            continue
        probability = own / all_
        total += probability
        # ∂p_i/∂d²_ij = p_ij (p_i − [same class]), and the value falls as p_i rises.
        for j in range(row.shape[0]):
            if row[j] != 0.0:
                same = 1.0 if y[j] == y_rows[i] else 0.0
                row[j] = row[j] / all_ * (same - probability)
    return total
