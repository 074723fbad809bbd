"""The stochastic-neighbour term of neighbourhood components analysis.

The chances ``p_ij ∝ exp(−d²_ij)`` fall so fast that most pairs of a learned metric have none: their sum is below one
rounding error. A product in single precision finds, with its rounding error counted, the pairs that may have one; only
these are taken in double precision. Where most pairs count (a small metric), whole blocks are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba as nb
import numpy as np
from numpy.typing import NDArray

from certimetric.base.arrays import Array, Indices
from certimetric.base.chunks import chunk_slices, map_chunks
from certimetric.geometry.kernels import squared_distance
from certimetric.objectives.gradient import MetricState, TermValue

_BLOCK_BYTES = 8 * 2**20  # of one block of squared distances in double precision
_PARTS = 4  # sums of rows that may run at once; a fixed number, so that no result depends on ``n_jobs``
_DENSE = 0.2  # share of pairs that count from which whole blocks are cheaper than lists
_LARGEST_SLACK = 4.0  # rounding error of d² in single precision that the search for pairs may have


class StochasticNeighbors:
    """One minus the mean probability that an instance picks a neighbour of its own class.

    Instance i picks j ≠ i with probability ``p_ij ∝ exp(−d²_ij)``.

    Parameters
    ----------
    y : int array of shape (n,)
        Class codes.
    n_jobs : int
        Threads; they change nothing in the result.

    References
    ----------
    Goldberger, Hinton, Roweis, Salakhutdinov (2004), *Neighbourhood components analysis*, NIPS 17.
    """

    def __init__(self, y: Indices, n_jobs: int = 1):
        self.y = np.ascontiguousarray(y)
        self.n_jobs = n_jobs

    def evaluate(self, state: MetricState) -> TermValue:
        """Value, and the Laplacian of the pair weights times the carrier, in blocks of rows."""
        n = len(self.y)
        sums = _Sums(state.Z - state.Z.mean(axis=0), state.carrier, self.y)
        parts = [slice(n * part // _PARTS, n * (part + 1) // _PARTS) for part in range(_PARTS)]
        value, products = 0.0, np.zeros_like(state.carrier)
        for share, share_of_products in map_chunks(sums.over, parts, self.n_jobs):
            value += share
            products += share_of_products
        none = np.zeros(0, dtype=np.int64)
        return TermValue(1.0 - value / n, none, none, np.zeros(0), products=products / n)


@dataclass(frozen=True, eq=False)
class _Screen:
    """Bounds ``d²_ij − ‖z_i‖² = ‖z_j‖² − 2 z_iᵀz_j`` by one product of ``left`` and ``right``, to ``slack[i] / 2``."""

    left: NDArray[Any]
    right: NDArray[Any]
    slack: Array

    @classmethod
    def of(cls, Z: Array, norms: Array, dtype: type[np.floating[Any]]) -> _Screen:
        # A sum of m products of rounded numbers, in any order, is off by at most (m + 3) u times the sum of their
        # sizes, to first order; here m = k + 1 and the sizes sum to at most ‖z_i‖² + 2 ‖z_j‖².
        unit = np.finfo(dtype).eps / 2
        slack = 2.0 * (Z.shape[1] + 8) * unit * (norms + 2.0 * norms.max())
        with np.errstate(over="ignore"):  # refused by its slack, which is then as large
            left: NDArray[Any] = np.column_stack([-2.0 * Z, np.ones(len(Z))]).astype(dtype)
            right: NDArray[Any] = np.column_stack([Z, norms]).astype(dtype)
        return cls(left, right, slack)


class _Sums:
    """The sums over pairs at one metric.

    Parameters
    ----------
    Z : array of shape (n, k)
        Centred, so that expanded squares cancel least.
    carrier : array of shape (n, c)
    y : int array of shape (n,)
    """

    def __init__(self, Z: Array, carrier: Array, y: Indices):
        self.Z, self.carrier, self.y = Z, carrier, y
        norms = np.einsum("ij,ij->i", Z, Z)
        self.screen = _Screen.of(Z, norms, np.float32)
        self.exact = _Screen.of(Z, norms, np.float64)
        if not self.screen.slack.max() <= _LARGEST_SLACK:
            self.screen = self.exact
        # Pairs farther than the nearest by this much weigh less than 2⁻⁵³ of it, all of them together.
        self.reach = 53 * np.log(2.0) + np.log(len(Z))

    def over(self, part: slice) -> tuple[float, Array]:
        """Sum of the probabilities p_i of rows, and ``Laplacian(W) carrier`` of the pairs they begin."""
        value, products = 0.0, np.zeros_like(self.carrier)
        for rows in chunk_slices(part.stop - part.start, 8.0 * len(self.Z), _BLOCK_BYTES):
            rows = slice(part.start + rows.start, part.start + rows.stop)
            pairs = self._pairs_that_count(rows)
            value += self._dense(rows, products) if pairs is None else self._sparse(rows, *pairs, products)
        return value, products

    def _pairs_that_count(self, rows: slice) -> tuple[Indices, NDArray[np.int32]] | None:
        """For every row the others within reach of its nearest, as starts and a list; None if they are too many."""
        block = self.screen.left[rows] @ self.screen.right.T
        np.fill_diagonal(block[:, rows], np.inf)
        limit = (block.min(axis=1) + (self.screen.slack[rows] + self.reach)).astype(block.dtype)
        limit = np.nextafter(limit, block.dtype.type(np.inf))  # the conversion may have rounded it down
        starts = np.zeros(len(block) + 1, dtype=np.int64)
        others = np.empty(int(_DENSE * block.size) + block.shape[1], dtype=np.int32)
        return (starts, others) if _within(block, limit, starts, others) else None

    def _sparse(self, rows: slice, starts: Indices, others: NDArray[np.int32], products: Array) -> float:
        """As :meth:`over`, from direct differences of the pairs listed."""
        chances = np.empty(starts[-1])
        _list_excess(self.Z, rows.start, starts, others, chances)
        np.exp(chances, out=chances)  # vectorised, unlike the exponential of a compiled loop
        return _add_list(chances, self.y, self.carrier, rows.start, starts, others, products)

    def _dense(self, rows: slice, products: Array) -> float:
        """As :meth:`over`, from the whole block."""
        block = self.exact.left[rows] @ self.exact.right.T
        np.fill_diagonal(block[:, rows], np.inf)
        _block_excess(block, block.min(axis=1), self.reach)
        np.exp(block, out=block)
        value = _block_weights(block, self.y[rows], self.y)
        # Row i of W weighs the pair (i, j), which counts in both rows of the Laplacian.
        carrier = self.carrier
        products += block.sum(axis=0)[:, None] * carrier
        products[rows] += block.sum(axis=1)[:, None] * carrier[rows]
        products[rows] -= block @ carrier
        products -= block.T @ carrier[rows]
        return value


@nb.njit(cache=True, nogil=True)
def _within(block, limit, starts, others):
    """List the columns of every row that are at most its limit; whether they fit into ``others``."""
    count = 0
    for i in range(block.shape[0]):
        row, bound = block[i], limit[i]
        if count + row.shape[0] > others.shape[0]:
            return False
        for j in range(row.shape[0]):
            others[count] = j
            count += row[j] <= bound
        starts[i + 1] = count
    return True


@nb.njit(cache=True, nogil=True, fastmath={"contract", "reassoc"})
def _list_excess(Z, first, starts, others, out):
    """Minus the squared distance of every listed pair beyond the nearest of its row."""
    for i in range(starts.shape[0] - 1):
        z = Z[first + i]
        nearest = np.inf
        for pair in range(starts[i], starts[i + 1]):
            out[pair] = squared_distance(z, Z[others[pair]])
            nearest = min(nearest, out[pair])
        for pair in range(starts[i], starts[i + 1]):
            out[pair] = nearest - out[pair]


@nb.njit(cache=True, nogil=True, fastmath={"contract", "reassoc"})
def _add_list(chances, y, carrier, first, starts, others, products):
    """Add ``Laplacian(W) carrier`` of the listed pairs, and return the sum of the p_i."""
    total = 0.0
    width = carrier.shape[1]
    own_product = np.empty(width)
    for i in range(starts.shape[0] - 1):
        a = first + i
        everything, own = 0.0, 0.0
        for pair in range(starts[i], starts[i + 1]):
            everything += chances[pair]
            if y[others[pair]] == y[a]:
                own += chances[pair]
        if everything == 0.0:
            continue
        probability = own / everything
        total += probability
        same, other = _slopes(probability, everything)
        own_product[:] = 0.0
        for pair in range(starts[i], starts[i + 1]):
            b = others[pair]
            w = chances[pair] * (same if y[b] == y[a] else other)
            if w != 0.0:
                for t in range(width):
                    step = w * (carrier[a, t] - carrier[b, t])
                    own_product[t] += step
                    products[b, t] -= step
        for t in range(width):
            products[a, t] += own_product[t]
    return total


@nb.njit(cache=True, nogil=True)
def _block_excess(block, nearest, reach):
    """Turn distances into minus what they have beyond the nearest, in place; −∞ beyond reach, or products crawl."""
    for i in range(block.shape[0]):
        row = block[i]
        for j in range(row.shape[0]):
            excess = nearest[i] - row[j]
            row[j] = -np.inf if excess < -reach else excess


@nb.njit(cache=True, nogil=True, fastmath={"contract", "reassoc"})
def _block_weights(block, y_rows, y):
    """Turn unnormalised probabilities into ``∂(1 − p_i)/∂d²_ij`` in place, and return the sum of the p_i."""
    total = 0.0
    for i in range(block.shape[0]):
        row = block[i]
        everything, own = 0.0, 0.0
        for j in range(row.shape[0]):
            everything += row[j]
            own += row[j] if y[j] == y_rows[i] else 0.0
        if everything == 0.0:
            continue
        probability = own / everything
        total += probability
        same, other = _slopes(probability, everything)
        for j in range(row.shape[0]):
            row[j] *= same if y[j] == y_rows[i] else other
    return total


@nb.njit(cache=True, nogil=True, inline="always")
def _slopes(probability, everything):
    """What turns ``exp(−d²_ij)`` into ``∂(1 − p_i)/∂d²_ij``, for j of the same class and for others."""
    # ∂p_i/∂d²_ij = p_ij (p_i − [same class]), and the value falls as p_i rises.
    return (1.0 - probability) / everything, -probability / everything
