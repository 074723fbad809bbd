"""The terms of neighbours picked by chance where the others lie in a Dask array, and few instances pick."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numba as nb
import numpy as np

from certimetric.base.arrays import Array, Indices
from certimetric.base.chunks import chunk_slices
from certimetric.base.lazy_rows import LazyRows
from certimetric.geometry.kernels import squared_distance
from certimetric.objectives.gradient import MetricState, TermValue
from certimetric.objectives.neighborhood import BLOCK_BYTES, loss_of, parts_of, reach_of, target_of


class BlockNeighbors:
    """Mean over some instances, the anchors, of a loss of what they see of their neighbours among all rows.

    It is that of :class:`~certimetric.objectives.neighborhood.StochasticNeighbors` or ``KernelRegression``, by two
    passes over the blocks. The first one sums up chances and what is seen: sums of blocks are merged about the nearest
    of all. The second one has the weights of the pairs, and gives a gradient in M.

    Parameters
    ----------
    rows : LazyRows
    y : array of shape (n,)
        Class codes, or numbers.
    anchors : int array of shape (m,)
        Their row numbers: they are the first instances of whatever objective this is a term of.
    of_classes : bool
        Whether y are class codes.
    """

    def __init__(self, rows: LazyRows, y: Array | Indices, anchors: Indices, of_classes: bool):
        self.rows, self.anchors, self.of_classes = rows, anchors, of_classes
        self.y: Array = np.ascontiguousarray(y, dtype=np.float64)

    def evaluate(self, state: MetricState) -> TermValue:
        """Value, and the gradient in M."""
        asked = self._pass(state)
        nearest, everything, seen = self.rows.reduce(asked.sums, merged_sums, self.y)
        means, losses, slopes = losses_of(everything, seen, asked.y, self.of_classes)
        known = nearest, means, slopes / len(losses)
        gradient = self.rows.reduce(partial(asked.gradient, *known), sum, self.y)
        none = np.zeros(0, dtype=np.int64)
        return TermValue(float(losses.mean()), none, none, np.zeros(0), matrix_gradient=gradient)

    def batch_means(self, state: MetricState, n_batches: int) -> Array:
        """Mean loss of every so many consecutive anchors, shape (n_batches,)."""
        asked = self._pass(state)
        _, everything, seen = self.rows.reduce(asked.sums, merged_sums, self.y)
        losses = losses_of(everything, seen, asked.y, self.of_classes)[1]
        return np.array([losses[part].mean() for part in parts_of(len(losses), min(n_batches, len(losses)))])

    def _pass(self, state: MetricState) -> _Pass:
        X = state.X[: len(self.anchors)]
        return _Pass(state.L, X, self.anchors, self.y[self.anchors], self.of_classes, reach_of(len(self.rows)))


@dataclass(frozen=True, eq=False)
class _Pass:
    """What a block is told: components, and the anchors with their numbers and what others see of them."""

    L: Array
    X: Array
    anchors: Indices
    y: Array
    of_classes: bool
    reach: float

    def sums(self, X: Array, y: Array, first: int) -> tuple[Array, Array, Array]:
        """Of every anchor the squared distance of its nearest in a block, and sums of chances and of what is seen."""
        nearest, everything, seen = np.full(len(self.X), np.inf), np.zeros(len(self.X)), np.zeros(len(self.X))
        Z, others = self.X @ self.L.T, X @ self.L.T
        for rows in chunk_slices(len(Z), 8.0 * len(X), BLOCK_BYTES):
            squares = _expanded(Z[rows], others)
            known = Z[rows], others, self.anchors[rows] - first, self.y[rows], y, self.of_classes, self.reach
            _add_chances(squares, *known, nearest[rows], everything[rows], seen[rows])
        return nearest, everything, seen

    def gradient(self, nearest: Array, means: Array, slopes: Array, X: Array, y: Array, first: int) -> Array:
        """``Σ w ΔΔᵀ`` over the pairs of anchors and rows of a block, shape (d, d)."""
        Z, others = self.X @ self.L.T, X @ self.L.T
        own, of_others = np.zeros_like(self.X), np.zeros_like(X)
        for rows in chunk_slices(len(Z), 8.0 * len(X), BLOCK_BYTES):
            squares = _expanded(Z[rows], others)
            known = Z[rows], others, self.anchors[rows] - first, self.y[rows], y, self.of_classes, self.reach
            figures = nearest[rows], means[rows], slopes[rows]
            _add_products(squares, *known, *figures, self.X[rows], X, own[rows], of_others)
        return own.T @ self.X + of_others.T @ X


def _expanded(Z: Array, others: Array) -> Array:
    """Squared distances but for the rounding of an expanded square, which says who is near enough to be asked."""
    center = others.mean(axis=0)
    Z, others = Z - center, others - center
    squares = Z @ others.T
    squares *= -2.0
    squares += np.einsum("ij,ij->i", Z, Z)[:, None]
    squares += np.einsum("ij,ij->i", others, others)
    return squares


def merged_sums(parts: list[tuple[Array, Array, Array]]) -> tuple[Array, Array, Array]:
    """Sums of several blocks, about the nearest of all."""
    of_parts, everything, seen = (np.stack(each) for each in zip(*parts))
    nearest = of_parts.min(axis=0)
    with np.errstate(invalid="ignore"):  # a block of an anchor alone: infinity less infinity
        scale = np.where(of_parts < np.inf, np.exp(nearest - of_parts), 0.0)
    return nearest, (everything * scale).sum(axis=0), (seen * scale).sum(axis=0)


@nb.njit(cache=True, nogil=True)
def losses_of(everything, seen, y, of_classes):
    """Means, losses, and what turns ``exp(−d²) (m − t)`` into derivatives, of every anchor."""
    m = len(y)
    means, losses, slopes = np.empty(m), np.empty(m), np.empty(m)
    for i in range(m):
        means[i], losses[i], slopes[i] = loss_of(everything[i], seen[i], y[i], of_classes)
    return means, losses, slopes


@nb.njit(cache=True, nogil=True)
def _add_chances(squares, Z, others, itself, y, y_others, of_classes, reach, nearest, everything, seen):
    for i in range(squares.shape[0]):
        row = squares[i]
        if 0 <= itself[i] < len(row):
            row[itself[i]] = np.inf
        least = row.min()
        if least == np.inf:
            continue
        nearest[i] = least
        for j in range(len(row)):
            if row[j] - least <= reach:
                chance = np.exp(least - squared_distance(Z[i], others[j]))
                everything[i] += chance
                seen[i] += chance * target_of(y_others[j], y[i], of_classes)


@nb.njit(cache=True, nogil=True)
def _add_products(
    squares, Z, others, itself, y, y_others, of_classes, reach, nearest, means, slopes, X, X_others, own, of_others
):
    for i in range(squares.shape[0]):
        row = squares[i]
        if 0 <= itself[i] < len(row):
            row[itself[i]] = np.inf
        for j in range(len(row)):
            if row[j] - nearest[i] <= reach:
                chance = np.exp(nearest[i] - squared_distance(Z[i], others[j]))
                w = chance * slopes[i] * (means[i] - target_of(y_others[j], y[i], of_classes))
                if w != 0.0:
                    for t in range(X.shape[1]):
                        step = w * (X[i, t] - X_others[j, t])
                        own[i, t] += step
                        of_others[j, t] -= step
