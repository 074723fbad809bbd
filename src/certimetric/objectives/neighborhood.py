"""Terms of what instances see when they pick a neighbour by chance: its class, or the number that it has.

The chances ``p_ij ∝ exp(−d²_ij)`` fall so fast that most pairs of a learned metric have none: their sum is below one
rounding error. A product in single precision finds, with its rounding error counted, the pairs that may have one; only
these are taken in double precision. Where most pairs count (a small metric), whole blocks are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numba as nb
import numpy as np
from numpy.typing import NDArray

from certimetric.base.arrays import Array, Indices
from certimetric.base.chunks import chunk_slices, map_chunks
from certimetric.geometry.kernels import squared_distance
from certimetric.objectives.gradient import MetricState, TermValue

BLOCK_BYTES = 8 * 2**20  # of one block of squared distances in double precision
_PARTS = 4  # sums of rows that may run at once; a fixed number, so that no result depends on ``n_jobs``
_DENSE = 0.2  # share of pairs that count from which whole blocks are cheaper than lists
_STEP = 16  # every so many rows are asked first: with a quarter more pairs among them, the others need not be
# Chances beyond reach are exp of this: they weigh nothing, but their products are normal numbers, which do not crawl,
_NEVER = -200.0  # and vectorised exponentials stay on their fast path, which −∞ leaves.
_LARGEST_SLACK = 4.0  # rounding error of d² in single precision that the search for pairs may have


class _NeighborMeans:
    """Mean over the instances of a loss of ``m_i = Σ_j p_ij t_ij``, what they see of their neighbours.

    Instance i picks j ≠ i with probability ``p_ij ∝ exp(−d²_ij)``.

    Parameters
    ----------
    y : array of shape (n,)
        Class codes, or numbers.
    n_jobs : int
        Threads; they change nothing in the result.
    n_instances : int, optional
        The mean is over so many first instances, which see all others; over all by default.
    weights : array of shape (n,), optional
        Of the instances in the mean; each sees the others as they are.
    """

    of_classes: ClassVar[bool]

    def __init__(
        self, y: Array | Indices, n_jobs: int = 1, n_instances: int | None = None, weights: Array | None = None
    ):
        self.y: Array = np.ascontiguousarray(y, dtype=np.float64)
        self.weights = np.ones(len(self.y)) if weights is None else np.ascontiguousarray(weights)
        self.n_jobs = n_jobs
        self.n_instances = len(self.y) if n_instances is None else n_instances

    def batch_means(self, state: MetricState, n_batches: int) -> Array:
        """Mean loss of every so many consecutive instances, of those in the mean; shape (n_batches,)."""
        n_batches = min(n_batches, self.n_instances)
        sums = _Sums(state.Z - state.Z.mean(axis=0), state.carrier, self.y, self.weights, self.of_classes)
        parts = parts_of(self.n_instances, n_batches)
        total = np.array([share for share, _ in map_chunks(sums.over, parts, self.n_jobs)])
        return total / np.array([self.weights[part].sum() for part in parts])

    def evaluate(self, state: MetricState) -> TermValue:
        """Value, and the Laplacian of the pair weights times the carrier, in blocks of rows."""
        n, total = self.n_instances, float(self.weights[: self.n_instances].sum())
        sums = _Sums(state.Z - state.Z.mean(axis=0), state.carrier, self.y, self.weights, self.of_classes)
        parts = parts_of(n, _PARTS)
        value, products = 0.0, np.zeros_like(state.carrier)
        for share, share_of_products in map_chunks(sums.over, parts, self.n_jobs):
            value += share
            products += share_of_products
        none = np.zeros(0, dtype=np.int64)
        return TermValue(value / total, none, none, np.zeros(0), products=products / total)


def reach_of(n: int) -> float:
    """Of n pairs those farther than the nearest by this much weigh less than 2⁻⁵³ of it, all of them together."""
    return float(53 * np.log(2.0) + np.log(n))


def parts_of(n: int, n_parts: int) -> list[slice]:
    """So many consecutive parts of n."""
    return [slice(n * part // n_parts, n * (part + 1) // n_parts) for part in range(n_parts)]


class StochasticNeighbors(_NeighborMeans):
    """One minus the mean probability that an instance picks a neighbour of its own class.

    Instance i picks j ≠ i with probability ``p_ij ∝ exp(−d²_ij)``.

    Parameters
    ----------
    y : int array of shape (n,)
        Class codes.
    n_jobs : int
        Threads; they change nothing in the result.
    n_instances : int, optional
        The mean is over so many first instances, which see all others; over all by default.
    weights : array of shape (n,), optional
        Of the instances in the mean; each sees the others as they are.

    References
    ----------
    Goldberger, Hinton, Roweis, Salakhutdinov (2004), *Neighbourhood components analysis* [goldberger2004neighbourhood],
    NIPS 17.

    Examples
    --------
    >>> from certimetric.objectives import MetricState
    >>> state = MetricState(np.array([[0.0], [1.0], [1.5], [2.5]]), np.eye(1))
    >>> round(StochasticNeighbors(np.array([0, 0, 1, 1])).evaluate(state).value, 6)
    0.466022
    """

    of_classes = True


class KernelRegression(_NeighborMeans):
    """Mean squared error of predicting every y_i by the others, weighted by a Gaussian kernel of their distance.

    The prediction is ``Σ_j p_ij y_j`` with ``p_ij ∝ exp(−d²_ij)`` over j ≠ i.

    Parameters
    ----------
    y : array of shape (n,)
        Numbers; pairs that are left out change a prediction by at most ``2⁻⁵³`` of their range.
    n_jobs : int
        Threads; they change nothing in the result.
    n_instances : int, optional
        The mean is over so many first instances, which see all others; over all by default.
    weights : array of shape (n,), optional
        Of the instances in the mean; each sees the others as they are.

    References
    ----------
    Weinberger & Tesauro (2007), *Metric learning for kernel regression* [weinberger2007metric], AISTATS.

    Examples
    --------
    >>> from certimetric.objectives import MetricState
    >>> state = MetricState(np.array([[0.0], [1.0], [1.5], [2.5]]), np.eye(1))
    >>> round(KernelRegression(np.array([0.0, 0.5, 2.0, 2.5])).evaluate(state).value, 6)
    0.808984
    """

    of_classes = False


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
    y, weights : arrays of shape (n,)
    of_classes : bool
        Whether y are class codes, or numbers.
    """

    def __init__(self, Z: Array, carrier: Array, y: Array, weights: Array, of_classes: bool):
        self.Z, self.carrier, self.y, self.weights, self.of_classes = Z, carrier, y, weights, of_classes
        norms = np.einsum("ij,ij->i", Z, Z)
        self.screen = _Screen.of(Z, norms, np.float32)
        self.exact = _Screen.of(Z, norms, np.float64)
        if not self.screen.slack.max() <= _LARGEST_SLACK:
            self.screen = self.exact
        self.reach = reach_of(len(Z))

    def over(self, part: slice) -> tuple[float, Array]:
        """Sum of the losses of rows, and ``Laplacian(W) carrier`` of the pairs they begin."""
        value, products = 0.0, np.zeros_like(self.carrier)
        for rows in chunk_slices(part.stop - part.start, 8.0 * len(self.Z), BLOCK_BYTES):
            rows = slice(part.start + rows.start, part.start + rows.stop)
            pairs = self._pairs_that_count(rows)
            value += self._dense(rows, products) if pairs is None else self._sparse(rows, *pairs, products)
        return value, products

    def _pairs_that_count(self, rows: slice) -> tuple[Indices, NDArray[np.int32]] | None:
        """For every row the others within reach of its nearest, as starts and a list; None if they are too many."""
        sample = np.arange(rows.start, rows.stop, _STEP)
        if rows.stop - rows.start > _STEP * _STEP and self._listed(sample, 1.25 * _DENSE) is None:
            return None
        return self._listed(np.arange(rows.start, rows.stop), _DENSE)

    def _listed(self, rows: Indices, share: float) -> tuple[Indices, NDArray[np.int32]] | None:
        """The same with another share of pairs that are too many, for any rows."""
        block = self.screen.left[rows] @ self.screen.right.T
        block[np.arange(len(rows)), rows] = np.inf
        limit = (block.min(axis=1) + (self.screen.slack[rows] + self.reach)).astype(block.dtype)
        limit = np.nextafter(limit, block.dtype.type(np.inf))  # the conversion may have rounded it down
        starts = np.zeros(len(block) + 1, dtype=np.int64)
        others = np.empty(int(share * block.size) + block.shape[1], dtype=np.int32)
        return (starts, others) if _within(block, limit, starts, others) else None

    def _sparse(self, rows: slice, starts: Indices, others: NDArray[np.int32], products: Array) -> float:
        """As :meth:`over`, from direct differences of the pairs listed."""
        chances = np.empty(starts[-1])
        _list_excess(self.Z, rows.start, starts, others, chances)
        np.exp(chances, out=chances)  # vectorised, unlike the exponential of a compiled loop
        known = self.y, self.weights, self.of_classes, self.carrier
        return _add_list(chances, *known, rows.start, starts, others, products)

    def _dense(self, rows: slice, products: Array) -> float:
        """As :meth:`over`, from the whole block."""
        block = self.exact.left[rows] @ self.exact.right.T
        np.fill_diagonal(block[:, rows], np.inf)
        _block_excess(block, block.min(axis=1), self.reach)
        np.exp(block, out=block)
        value = _block_weights(block, self.y, self.weights, self.of_classes, rows.start)
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
def _add_list(chances, y, weights, of_classes, carrier, first, starts, others, products):
    """Add ``Laplacian(W) carrier`` of the listed pairs, and return the sum of the losses."""
    total = 0.0
    width = carrier.shape[1]
    own_product = np.empty(width)
    for i in range(starts.shape[0] - 1):
        a = first + i
        everything, seen = 0.0, 0.0
        for pair in range(starts[i], starts[i + 1]):
            everything += chances[pair]
            seen += chances[pair] * target_of(y[others[pair]], y[a], of_classes)
        mean, loss, slope = loss_of(everything, seen, y[a], of_classes)
        total += weights[a] * loss
        slope *= weights[a]
        own_product[:] = 0.0
        for pair in range(starts[i], starts[i + 1]):
            b = others[pair]
            w = chances[pair] * slope * (mean - target_of(y[b], y[a], of_classes))
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
    """Turn distances into minus what they have beyond the nearest, in place; a constant beyond reach."""
    for i in range(block.shape[0]):
        row = block[i]
        for j in range(row.shape[0]):
            excess = nearest[i] - row[j]
            row[j] = _NEVER if excess < -reach else excess


@nb.njit(cache=True, nogil=True, fastmath={"contract", "reassoc"})
def _block_weights(block, y, weights, of_classes, first):
    """Turn unnormalised probabilities into ``∂(loss of i)/∂d²_ij`` in place, and return the sum of the losses."""
    total = 0.0
    for i in range(block.shape[0]):
        row, own = block[i], y[first + i]
        everything, seen = 0.0, 0.0
        for j in range(row.shape[0]):
            everything += row[j]
            seen += row[j] * target_of(y[j], own, of_classes)
        mean, loss, slope = loss_of(everything, seen, own, of_classes)
        total += weights[first + i] * loss
        slope *= weights[first + i]
        for j in range(row.shape[0]):
            row[j] *= slope * (mean - target_of(y[j], own, of_classes))
    return total


@nb.njit(cache=True, nogil=True, inline="always")
def target_of(other, own, of_classes):
    """What an instance sees of another: whether it is of its class, or its number."""
    return (1.0 if other == own else 0.0) if of_classes else other


@nb.njit(cache=True, nogil=True, inline="always")
def loss_of(everything, seen, own, of_classes):
    """The mean m_i of what instance i sees, its loss, and what turns ``exp(−d²_ij) (m_i − t_ij)`` into its derivative.

    ``∂m_i/∂d²_ij = p_ij (m_i − t_ij)``. The loss is ``1 − m_i`` of classes and ``(m_i − y_i)²`` of numbers.
    """
    mean = seen / everything if everything != 0.0 else 0.0
    loss, slope = (1.0 - mean, -1.0) if of_classes else ((mean - own) ** 2, 2.0 * (mean - own))
    return mean, loss, (slope / everything if everything != 0.0 else 0.0)
