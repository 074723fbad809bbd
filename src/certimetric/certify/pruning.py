"""Which rows of a training set to keep: adversarial pruning, edited and condensed nearest neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import Any

import numba as nb
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, maximum_bipartite_matching
from sklearn.utils.validation import check_array

from certimetric.base.arguments import require
from certimetric.base.arrays import Indices
from certimetric.base.chunks import chunk_slices
from certimetric.certify.radius import check_n_neighbors, prepare_reference
from certimetric.certify.reference import ReferenceSet
from certimetric.geometry.diagonal import DiagonalMetric
from certimetric.geometry.kernels import difference_norm, expansion_error, squared_distance
from certimetric.geometry.norms import Norm, resolve_norm


@dataclass(frozen=True, eq=False)
class PrunedSet:
    """What adversarial pruning keeps.

    Parameters
    ----------
    rows : int array of shape (m,)
        Rows that are kept, rising.
    at_most : int
        No set without conflicts has more rows than this: m itself where the largest was found.
    n_conflicts : int
        Pairs of rows that could not both be kept.

    Examples
    --------
    >>> found = adversarial_pruning([[0.0], [1.0], [1.5], [4.0]], [0, 0, 1, 1], radius=0.5)
    >>> found.rows.tolist(), found.at_most, found.n_conflicts
    ([0, 2, 3], 3, 1)
    """

    rows: Indices
    at_most: int
    n_conflicts: int


def adversarial_pruning(
    X: ArrayLike, y: ArrayLike, radius: float, *, metric: Any = None, norm: Any = "l2"
) -> PrunedSet:
    """The largest part of a training set in which no two rows of different classes conflict.

    Rows x and z conflict where a perturbation of x smaller than the radius takes it over to the side of z::

        d_M²(x, z) / (2 ‖M (x − z)‖_*) < radius

    In the Euclidean distance and l2 that is ``‖x − z‖ < 2 radius``; in general it is never more than half of the size
    of x − z in the norm, so that differently labelled rows are at least two radii apart. As a query, every row that is
    kept has a certified radius of ``radius``, up to rounding, in the 1-NN rule over the rows that are kept.

    With two classes, the rows that are kept are as many as can be (a minimum vertex cover of the bipartite graph of
    conflicts, König's theorem). With more, the linear relaxation says of some rows that a best solution keeps, or
    drops, them; of the others, those with the fewest conflicts are kept first, and at most twice as many rows are
    dropped as must be.

    Parameters
    ----------
    X : array-like of shape (n, d)
    y : array-like of shape (n,)
        Labels.
    radius : float
        At least 0, in the units of X and the norm.
    metric : MahalanobisMetric, fitted learner or None, default=None
        Of the nearest-neighbour rule; None is the Euclidean distance.
    norm : {"l2", "linf", "l1"}, array-like of shape (d, d) or Norm, default="l2"
        How a perturbation is measured; a matrix A stands for ``√(δᵀAδ)``.

    Returns
    -------
    pruned : PrunedSet

    Raises
    ------
    ValueError
        On NaN or infinity, a negative radius, or a metric of another number of features.

    References
    ----------
    Yang, Rashtchian, Wang, Chaudhuri (2020), *Robustness for non-parametric classification: a generic attack and
    defense*, AISTATS, arXiv 1906.03310 [yang2019robustness].

    Examples
    --------
    >>> adversarial_pruning([[0.0], [1.0], [2.0], [1.6], [4.0]], [0, 0, 0, 1, 1], radius=0.5).rows
    array([0, 1, 2, 4])
    """
    require(isinstance(radius, Real) and 0 <= radius < np.inf, "radius", "must be a size of at least 0", radius)
    reference = _reference(X, y, metric)
    first, second = _conflicts(reference, float(radius), resolve_norm(norm))
    kept, at_most = _independent(reference.y, first, second)
    return PrunedSet(np.flatnonzero(kept), at_most, len(first))


def edited_neighbors(X: ArrayLike, y: ArrayLike, n_neighbors: int = 3, *, metric: Any = None) -> Indices:
    """Rows whose label is that of the vote of their nearest others: Wilson's editing.

    Rows that lie among another class are left out, and what remains has smoother borders.

    Parameters
    ----------
    X : array-like of shape (n, d)
    y : array-like of shape (n,)
        Labels.
    n_neighbors : int, default=3
        Others that vote on each row; the label that sorts first wins where votes are equal.
    metric : MahalanobisMetric, fitted learner or None, default=None
        None is the Euclidean distance.

    Returns
    -------
    rows : int array of shape (m,)
        Rising.

    Raises
    ------
    ValueError
        On NaN or infinity, or if there are not more rows than neighbours.

    References
    ----------
    Wilson (1972), *Asymptotic properties of nearest neighbor rules using edited data* [wilson1972asymptotic], IEEE
    Trans. Syst. Man Cybern. 2.

    Examples
    --------
    >>> edited_neighbors([[0.0], [1.0], [1.5], [2.5], [8.0], [9.0]], [0, 0, 1, 0, 1, 1], 1)
    array([0, 4, 5])
    """
    reference = _reference(X, y, metric)
    n = len(reference.y)
    check_n_neighbors(n_neighbors, n - 1)
    found = reference.predict(reference.points, n_neighbors, exclude=np.arange(n))
    return np.flatnonzero(found == reference.y)


def condensed_neighbors(X: ArrayLike, y: ArrayLike, *, metric: Any = None) -> Indices:
    """Few rows over which 1-NN gives every row its own label: Hart's condensing.

    Rows are gone through in their order, again and again, and one that the rows so far would give another label is
    added. (Of rows that are equal and labelled differently, the first one decides; between two that a singular metric
    puts at the same distance, rounding does.)

    Parameters
    ----------
    X : array-like of shape (n, d)
    y : array-like of shape (n,)
        Labels.
    metric : MahalanobisMetric, fitted learner or None, default=None
        None is the Euclidean distance.

    Returns
    -------
    rows : int array of shape (m,)
        Rising.

    Raises
    ------
    ValueError
        On NaN or infinity.

    References
    ----------
    Hart (1968), *The condensed nearest neighbor rule* [hart1968condensed], IEEE Trans. Inf. Theory 14.

    Examples
    --------
    >>> condensed_neighbors([[0.0], [1.0], [2.0], [7.0], [8.0]], ["a", "a", "a", "b", "b"])
    array([0, 3])
    """
    reference = _reference(X, y, metric)
    return np.flatnonzero(_condense(reference.points, reference.y))


def _reference(X: ArrayLike, y: ArrayLike, metric: Any) -> ReferenceSet:
    """The rows in coordinates of the metric, as the classifier has them."""
    X = check_array(X, dtype=np.float64, input_name="X") if metric is None else X
    return prepare_reference(DiagonalMetric(np.ones(np.shape(X)[1])) if metric is None else metric, X, y)


def _conflicts(reference: ReferenceSet, radius: float, norm: Norm) -> tuple[Indices, Indices]:
    """The two rows of every pair of different classes whose bisector is nearer than the radius, the smaller first."""
    norm, exponent = reference.in_range(norm)
    points, (dual, _) = reference.points, reference.dual_points(norm)
    squares = np.einsum("ij,ij->i", points, points)
    radius = float(np.ldexp(radius, -exponent))
    reach = (2.0 * reference.per_distance(norm) * radius) ** 2  # a pair at a larger squared distance has no conflict
    found = []
    for rows in chunk_slices(len(points), 8.0 * len(points)):
        products = points[rows] @ points.T
        _mark(products, points, squares, dual, reference.y, rows.start, float(norm.dual_order), radius, reach)
        first, second = np.nonzero(products)
        found.append((first + rows.start, second))
    return np.concatenate([pair[0] for pair in found]), np.concatenate([pair[1] for pair in found])


@nb.njit(cache=True, nogil=True)
def _mark(products, points, squares, dual, y, start, order, radius, reach):
    """Turn the products of some points with all into 1 where there is a conflict with a later one, and 0 elsewhere."""
    n, r = points.shape
    for i in range(products.shape[0]):
        a = start + i
        products[i, : a + 1] = 0.0
        for b in range(a + 1, n):
            apart = squares[a] + squares[b] - 2.0 * products[i, b]
            products[i, b] = 0.0
            if y[a] == y[b] or apart > reach + expansion_error(r, squares[a], squares[b]):
                continue
            squared = squared_distance(points[a], points[b])
            if squared < 2.0 * radius * difference_norm(dual[a], dual[b], order) or (squared == 0.0 and radius > 0.0):
                products[i, b] = 1.0


def _independent(y: Indices, first: Indices, second: Indices) -> tuple[NDArray[np.bool_], int]:
    """Which rows to keep, no two of them in conflict, and the most that any such choice can have."""
    n = len(y)
    graph = csr_array((np.ones(2 * len(first)), (np.r_[first, second], np.r_[second, first])), shape=(n, n))
    if y.max(initial=0) < 2:
        side = y == 0
        of_rows, of_columns, size = _cover(graph[side][:, ~side])
        kept = np.empty(n, dtype=bool)
        kept[side], kept[~side] = ~of_rows, ~of_columns
        return kept, n - size
    # The linear relaxation takes halves: it is the cover of the graph of two copies of every row. What it keeps or
    # drops as a whole, a best choice does as well (Nemhauser & Trotter 1975).
    one, other, size = _cover(graph)
    kept = ~one & ~other
    open_ = ~kept & ~(graph @ kept > 0)
    while open_.any():  # those with the fewest conflicts first, many at a time
        degrees = graph @ open_
        rank = np.empty(n, dtype=np.int64)
        rank[np.lexsort((np.arange(n), degrees))] = np.arange(n)
        lowest = np.full(n, n)
        both = open_[first] & open_[second]
        np.minimum.at(lowest, first[both], rank[second[both]])
        np.minimum.at(lowest, second[both], rank[first[both]])
        chosen = open_ & (rank < lowest)
        kept |= chosen
        open_ &= ~chosen & ~(graph @ chosen > 0)
    return kept, n - -(-size // 2)


def _cover(graph: Any) -> tuple[NDArray[np.bool_], NDArray[np.bool_], int]:
    """Rows and columns of a least cover of the edges of a bipartite graph, and its size, from a largest matching."""
    r, c = graph.shape
    matched = maximum_bipartite_matching(graph, perm_type="column")  # the column of every row, or −1
    edges = graph.tocoo()
    free = matched[edges.row] != edges.col
    taken, single = np.flatnonzero(matched >= 0), np.flatnonzero(matched < 0)
    # What alternating paths from unmatched rows reach: along other edges to columns, along the matching back to rows.
    source = r + c
    tails = np.r_[np.full(len(single), source), edges.row[free], r + matched[taken]]
    heads = np.r_[single, r + edges.col[free], taken]
    paths = csr_array((np.ones(len(tails)), (tails, heads)), shape=(source + 1, source + 1))
    reached = np.zeros(source + 1, dtype=bool)
    reached[breadth_first_order(paths, source, return_predecessors=False)] = True
    return ~reached[:r], reached[r:source], len(taken)


@nb.njit(cache=True, nogil=True)
def _condense(points, y):
    """Whether each row is kept by Hart's rule."""
    n = points.shape[0]
    kept = np.zeros(n, dtype=np.bool_)
    nearest, owner = np.full(n, np.inf), np.full(n, -1, dtype=np.int64)
    changed = True
    while changed:
        changed = False
        for i in range(n):
            known = owner[i] >= 0 and (y[owner[i]] == y[i] or (nearest[i] == 0.0 and owner[i] < i))
            if kept[i] or known:
                continue
            kept[i] = changed = True
            for j in range(n):
                squared = squared_distance(points[i], points[j])
                if squared < nearest[j] or (squared == nearest[j] and i < owner[j]):
                    nearest[j], owner[j] = squared, i
    return kept
