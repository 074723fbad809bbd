"""The one place where weights on pairs become the gradient of a metric.

Every term of an objective depends on the metric through squared distances of pairs (the perturbation loss through dual
norms besides). A term gives its value and ``∂value/∂d²`` for the pairs it saw; as ``∂d²_pq/∂M = ΔΔᵀ``, the gradient
is the weighted sum of outer products ``Σ w ΔΔᵀ = Xᵀ Laplacian(W) X``. No d×d matrix per pair is ever made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numba as nb
import numpy as np

from certimetric.base.arrays import Array, Indices
from certimetric.base.chunks import chunk_slices
from certimetric.geometry.kernels import pair_squared_distances

_BLOCK = 3 * 2**14  # bytes of differences at a time, which stay in cache
_LARGEST_ROOM = 16 * 2**20  # bytes of an array that is kept from step to step


class MetricState:
    """The metric at one step of a solver, with what the terms need of it.

    Parameters
    ----------
    X : array of shape (n, d)
    L : array of shape (k, d)
    in_components : bool
        Whether the gradient is wanted in L (Laplacians are applied to Z) or in M (to X).
    room : callable, optional
        Gives an array of shape (n, k) where Z may be written, or None, to one who looks at one state after another.

    Examples
    --------
    >>> state = MetricState(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0, 1.0]]))
    >>> state.Z.tolist(), state.Y.tolist()
    ([[3.0], [7.0]], [[3.0, 3.0], [7.0, 7.0]])
    """

    def __init__(self, X: Array, L: Array, in_components: bool = True, room: Callable[[], Array | None] | None = None):
        self.X, self.L, self._in_components, self._room = X, L, in_components, room

    @property
    def carrier(self) -> Array:
        """The array that Laplacians multiply: Z, of k columns, or X, of d columns."""
        return self.Z if self._in_components else self.X

    @cached_property
    def Z(self) -> Array:
        """Instances in the space of the metric, ``X Lᵀ``: shape (n, k)."""
        Z: Array = np.matmul(self.X, self.L.T, out=None if self._room is None else self._room())
        return Z

    @property
    def is_mapped(self) -> bool:
        """Whether anyone has asked for Z."""
        return "Z" in self.__dict__

    def squared_distances(self, i: Indices, j: Indices) -> Array:
        """Of pairs of rows, shape (m,): where they are fewer than rows, these are not mapped, but differences are."""
        if self.is_mapped or len(i) >= len(self.X):
            return pair_squared_distances(self.Z, i, j)
        squares = np.empty(len(i))
        for rows, difference in _differences(self.X, i, j):
            squares[rows] = _squared_norms(difference @ self.L.T)
        return squares

    @cached_property
    def Y(self) -> Array:
        """``X M``, shape (n, d): the gaps of the perturbation loss are differences of its rows."""
        return np.ascontiguousarray(self.Z @ self.L)


@dataclass(frozen=True, eq=False)
class TermValue:
    """Value of a term and its derivatives.

    Parameters
    ----------
    value : float
    i, j : int arrays of shape (m,)
        Pairs of rows.
    weights : array of shape (m,)
        ``∂value/∂d²`` of each pair.
    matrix_gradient : array of shape (d, d), optional
        Symmetric gradient in M of whatever is not a squared distance.
    products : array of the shape of ``state.carrier``, optional
        ``Laplacian(W) carrier`` of weights on so many pairs that the term applied them itself, block by block.

    Examples
    --------
    >>> from certimetric.objectives import Pull
    >>> state = MetricState(np.array([[0.0], [1.0], [3.0]]), np.eye(1))
    >>> told = Pull(np.array([[0, 1], [0, 2]]), weight=1.0).evaluate(state)
    >>> told.value, told.weights.tolist()
    (5.0, [0.5, 0.5])
    """

    value: float
    i: Indices
    j: Indices
    weights: Array
    matrix_gradient: Array | None = None
    products: Array | None = None


class Term(Protocol):
    """A term of an objective over one metric.

    Examples
    --------
    >>> class Spread:
    ...     def evaluate(self, state):
    ...         none = np.zeros(0, dtype=int)
    ...         return TermValue(float(np.vdot(state.L, state.L)), none, none, np.zeros(0), np.eye(state.L.shape[1]))
    >>> value, gradient = MetricObjective(np.zeros((2, 2)), [Spread()]).in_components(np.eye(2))
    >>> value, gradient.tolist()
    (2.0, [[2.0, 0.0], [0.0, 2.0]])
    """

    def evaluate(self, state: MetricState) -> TermValue:
        """Value and pair weights at the metric of ``state``."""
        ...


@runtime_checkable
class ActiveSetTerm(Term, Protocol):
    """A term that looks at a list of pairs made at an earlier metric, and is exact just after :meth:`refresh`."""

    def refresh(self, state: MetricState) -> None:
        """Bring the list up to date with the metric of ``state``."""
        ...

    def widen(self) -> bool:
        """Keep a longer list from the next :meth:`refresh` on; whether that can be done."""
        ...


class MetricObjective:
    """Sum of terms over one data set, as a function of the components L or of the matrix M.

    Parameters
    ----------
    X : array of shape (n, d)
    terms : sequence of Term

    Examples
    --------
    >>> from certimetric.objectives import Pull
    >>> X = np.array([[0.0, 0.0], [1.0, 2.0]])
    >>> value, gradient = MetricObjective(X, [Pull(np.array([[0, 1]]), weight=1.0)]).in_components(np.eye(2))
    >>> value, gradient.tolist()
    (5.0, [[2.0, 4.0], [4.0, 8.0]])
    """

    def __init__(self, X: Array, terms: Sequence[Term]):
        self.X = np.ascontiguousarray(X, dtype=float)
        self.terms = list(terms)
        self._rooms: dict[str, Array] = {}

    def refresh(self, L: Array) -> None:
        """Let every term bring its active set up to date with L."""
        state = MetricState(self.X, L, room=lambda: self._room("Z", len(L)))
        for term in self.terms:
            if isinstance(term, ActiveSetTerm):
                term.refresh(state)

    def widen(self) -> bool:
        """Let every active set reach farther from now on; whether any can."""
        widened = [term.widen() for term in self.terms if isinstance(term, ActiveSetTerm)]
        return any(widened)

    def true_value(self, L: Array) -> float:
        """The value at L, just after :meth:`refresh` there."""
        return self.in_components(L)[0]

    def resolution(self, L: Array) -> float:
        """The share of its value at L, last refreshed there, below which changes say nothing: 0 but for estimates."""
        return 0.0

    def in_components(self, L: Array) -> tuple[float, Array]:
        """Value and gradient with respect to L, shape (k, d)."""
        state = MetricState(self.X, L, room=lambda: self._room("Z", len(L)))
        value, gradient = self._collect(state, lambda matrix: L @ matrix)
        return value, 2.0 * gradient

    def in_matrix(self, L: Array) -> tuple[float, Array]:
        """Value and symmetric gradient with respect to ``M = LᵀL``, shape (d, d)."""
        value, gradient = self._collect(MetricState(self.X, L, in_components=False), lambda matrix: matrix)
        return value, (gradient + gradient.T) / 2

    def _collect(self, state: MetricState, carried: Callable[[Array], Array]) -> tuple[float, Array]:
        """Sum over the terms: value, and ``(Laplacian(W) carrier)ᵀ X`` with what is given in M itself, ``carried``."""
        in_matrix: Any = 0.0
        value, products = 0.0, None
        for term in self.terms:
            part = term.evaluate(state)
            value += part.value
            if part.matrix_gradient is not None:
                in_matrix = in_matrix + part.matrix_gradient
            if not state.is_mapped:  # there are but few pairs
                in_matrix = in_matrix + _scatter(self.X, part.i, part.j, part.weights)
                continue
            if products is None:
                products = self._room("products", state.carrier.shape[1])
                products = np.empty_like(state.carrier) if products is None else products
                products.fill(0.0)
            add_laplacian_product(part.i, part.j, part.weights, state.carrier, products)
            if part.products is not None:
                products += part.products
        if products is None:
            return value, carried(in_matrix)
        gradient = products.T @ self.X
        return value, gradient + carried(in_matrix) if np.ndim(in_matrix) else gradient

    def _room(self, name: str, columns: int) -> Array | None:
        """An array of a row for each instance that every step writes into; None where it would be large.

        Fresh memory costs as much as what is computed in it. Large arrays are let go all the same: between steps
        neighbours are searched, which need theirs.
        """
        shape = (len(self.X), columns)
        if 8 * shape[0] * shape[1] > _LARGEST_ROOM:
            return None
        if name not in self._rooms or self._rooms[name].shape != shape:
            self._rooms[name] = np.empty(shape, self.X.dtype)
        return self._rooms[name]


class TransformedObjective(MetricObjective):
    """An objective as a function of K, with the components ``L = K T``: T evens out its curvature.

    Parameters
    ----------
    X, terms
        As of :class:`MetricObjective`.
    transform : array of shape (d, d)
        T.

    Examples
    --------
    >>> from certimetric.objectives import Pull
    >>> X, terms = np.array([[0.0, 0.0], [1.0, 2.0]]), [Pull(np.array([[0, 1]]), weight=1.0)]
    >>> TransformedObjective(X, terms, np.diag([1.0, 0.5])).in_components(np.eye(2))[0]
    2.0
    """

    def __init__(self, X: Array, terms: Sequence[Term], transform: Array):
        super().__init__(X, terms)
        self.transform = transform

    def in_components(self, L: Array) -> tuple[float, Array]:
        """Value and gradient with respect to K."""
        value, gradient = super().in_components(L @ self.transform)
        return value, gradient @ self.transform.T


class DiagonalObjective(TransformedObjective):
    """A transformed objective of diagonal components only, given as their diagonal: shape (1, d), and T is diagonal.

    Parameters
    ----------
    X, terms
        As of :class:`MetricObjective`.
    transform : array of shape (d, d)
        T, diagonal.

    Examples
    --------
    >>> from certimetric.objectives import Pull
    >>> X, terms = np.array([[0.0, 0.0], [1.0, 2.0]]), [Pull(np.array([[0, 1]]), weight=1.0)]
    >>> value, gradient = DiagonalObjective(X, terms, np.eye(2)).in_components(np.ones((1, 2)))
    >>> value, gradient.tolist()
    (5.0, [[2.0, 8.0]])
    """

    def in_components(self, L: Array) -> tuple[float, Array]:
        """Value and gradient with respect to the diagonal of K."""
        value, gradient = super().in_components(np.diag(L[0]))
        return value, np.diagonal(gradient)[None, :]


def _differences(X: Array, i: Indices, j: Indices) -> Iterator[tuple[slice, Array]]:
    """``x_i − x_j``, a block of pairs at a time."""
    for rows in chunk_slices(len(i), 8.0 * X.shape[1], _BLOCK):
        yield rows, _row_differences(X, i[rows], j[rows])


def _squared_norms(rows: Array) -> Array:
    norms: Array = np.einsum("ij,ij->i", rows, rows)
    return norms


def _scatter(X: Array, i: Indices, j: Indices, weights: Array) -> Array:
    """``Σ w (x_i − x_j)(x_i − x_j)ᵀ``, shape (d, d)."""
    total, some = np.zeros((X.shape[1], X.shape[1])), np.flatnonzero(weights)
    weights = weights[some]
    for rows, difference in _differences(X, i[some], j[some]):
        total += (difference.T * weights[rows]) @ difference
    return total


@nb.njit(cache=True, nogil=True)
def _row_differences(X, i, j):
    differences = np.empty((i.shape[0], X.shape[1]))
    for pair in range(i.shape[0]):
        a, b = i[pair], j[pair]
        for t in range(X.shape[1]):
            differences[pair, t] = X[a, t] - X[b, t]
    return differences


@nb.njit(cache=True, nogil=True, fastmath={"contract", "reassoc"})
def add_laplacian_product(i, j, weights, Z, out):
    """Add ``Laplacian(W) Z`` to ``out``: row i gets ``Σ w (z_i − z_j)``, row j the opposite."""
    for pair in range(i.shape[0]):
        w = weights[pair]
        if w != 0.0:
            a, b = i[pair], j[pair]
            for t in range(Z.shape[1]):
                step = w * (Z[a, t] - Z[b, t])
                out[a, t] += step
                out[b, t] -= step
