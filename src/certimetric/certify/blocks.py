"""Certified radii over a training set that lies in the blocks of a Dask array, too large for any one worker."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numba as nb
import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_array

from certimetric.base.arrays import Array, Indices, check_size
from certimetric.base.chunks import chunk_slices
from certimetric.base.lazy_arrays import is_lazy
from certimetric.base.lazy_rows import LazyRows
from certimetric.certify.kernels import (
    NEAR,
    certified_against,
    discard,
    largest_sizes,
    own_within,
    square_of,
    terms_of_threshold,
)
from certimetric.certify.radius import MEMORY_MB, MIB, check_n_neighbors
from certimetric.certify.reference import ReferenceSet, power_of_two_times, votes
from certimetric.constraints.labels import checked_labels
from certimetric.constraints.neighbors import nearest_of_parts, neighbors_among
from certimetric.geometry.features import align, names_of
from certimetric.geometry.kernels import expansion_error, squared_distance
from certimetric.geometry.mahalanobis import MahalanobisMetric, as_metric
from certimetric.geometry.norms import Norm, resolve_norm
from certimetric.learners.chunks import aligned_blocks

_FIRST = 16  # nearest opponents whose bounds are the first threshold
_QUERIES = 64  # at a time: what they are held against is copied behind the rows of a block


def certified_radii_over_blocks(
    metric: Any,
    X_train: Any,
    y_train: Any,
    X: ArrayLike,
    *,
    n_neighbors: int = 1,
    norm: Any = "l2",
    memory_mb: int = MEMORY_MB,
) -> tuple[NDArray[Any], Array]:
    """k-NN predictions and their certified radii over training instances in a Dask array, which nobody gathers.

    They are those of :func:`~certimetric.certified_radius` over all instances in one memory, to the rounding of the
    center of coordinates, which is a mean. What is reduced over the blocks, and why it is exact:

    1. *The k nearest*: each is one of the k nearest of its block. Their votes are the label.
    2. *Nearest of the predicted class J and of the others N*: likewise, once the label is known.
    3. *The bound of an opponent* l, the a-th largest e(l, j) over j in J (a = ⌊k/2⌋ + 1): it is the a-th largest of
       the a largest of every block. It can only grow with J, so that a part of J bounds it from below.
    4. *Who may decide*: let T be the s-th smallest bound (s = ⌈k/2⌉) of the nearest opponents, over all of J. The
       radius, the s-th smallest of all, is at most T, and an opponent does not lower it that has a bound of T or more
       over the instances of steps 2 and 3 alone. Each block lists its others.
    5. *Their bounds*, as in step 3. The radius is the s-th smallest of these and of those before.

    The radius against each block alone reduces to nothing: an opponent in one block is held off by instances in others.
    The least of them is no upper bound, and as a lower one mostly 0.

    What is promised in floating point is promised of the labels that this function computes.

    Rows are kept by the workers (``persist``); queries, labels, and the rows that decide are gathered. A block whose
    worker dies is computed and searched again by another one.

    Parameters
    ----------
    metric : MahalanobisMetric or fitted learner
    X_train : Dask array of shape (n, d)
        Blocks along the features are joined.
    y_train : Dask array or array-like of shape (n,)
    X : array-like of shape (m, d)
        Queries.
    n_neighbors : int, default=1
        k.
    norm : {"l2", "linf", "l1"}, array-like of shape (d, d) or Norm, default="l2"
        How a perturbation is measured; a matrix A stands for ``√(δᵀAδ)``.
    memory_mb : int, default=64
        MiB for blocks of distances, of each task at work.

    Returns
    -------
    labels : array of shape (m,)
    radii : array of shape (m,)
        In units of X.

    Raises
    ------
    TypeError
        If X_train is no Dask array, or X is one.
    ValueError
        On NaN, infinity or missing labels, blocks of unknown length, more neighbours than training instances, or
        features that do not match.

    References
    ----------
    The bound for k = 1 is that of Wang et al. (NeurIPS 2020), arXiv 2006.07024 [wang2020provably]; the ranks for k > 1,
    and what is promised in floating point, are those of ``docs/certificates.md``.

    Examples
    --------
    >>> import dask.array as da
    >>> from certimetric import MahalanobisMetric
    >>> metric = MahalanobisMetric.from_matrix([[1.0]])
    >>> X_train = da.from_array(np.array([[0.0], [1.0], [4.0]]), chunks=(1, 1))
    >>> labels, radii = certified_radii_over_blocks(metric, X_train, ["a", "a", "b"], [[1.0], [3.0]])
    >>> labels.tolist(), radii.round(9).tolist()
    (['a', 'b'], [1.5, 0.5])
    """
    metric, norm = as_metric(metric), resolve_norm(norm)
    if not is_lazy(X_train, "X_train"):
        raise TypeError(f"X_train must be a Dask array, got {type(X_train).__name__}: certified_radius takes arrays")
    if is_lazy(X):
        raise TypeError("X must be an array of queries, got a Dask array: give X.compute(), or a part of it")
    X_train, y_train = aligned_blocks(X_train, y_train)
    X = check_size(check_array(align(X, names_of(metric)), dtype=np.float64, order="C", input_name="X"))
    for width in (X_train.shape[1], X.shape[1]):  # one message for another number of features
        metric.transform(np.empty((0, width)))
    classes, codes = np.unique(checked_labels(np.asarray(y_train.compute()), "y_train"), return_inverse=True)
    check_n_neighbors(n_neighbors, len(codes))
    rows, codes = LazyRows(X_train.astype(np.float64)), codes.astype(np.int64)
    low, high, total = rows.reduce(_extent, _extent_of_parts)
    center = total / len(rows)
    frame = _Frame(metric, norm, center, float(np.maximum(high - center, center - low).max()), memory_mb * MIB)
    whole = frame.rows(X[:0], codes[:0])
    in_range, exponent = whole.in_range(norm)
    frame = replace(frame, norm=in_range)
    points, errors = whole.embed(X)
    alike = np.zeros(len(X), dtype=np.int64)  # a single class: the nearest of all
    nearest = frame.nearest(rows, _Queries(points, errors, alike), np.zeros_like(codes), n_neighbors)
    predicted = votes(codes[nearest], len(classes)).argmax(axis=1)
    radii = _radii(frame, rows, codes, _Queries(points, errors, predicted), n_neighbors)
    return classes[predicted], power_of_two_times(radii, exponent)


@dataclass(frozen=True, eq=False)
class _Queries:
    """Queries: coordinates and their errors, and the codes of their classes."""

    points: Array
    errors: Array
    codes: Indices

    def take(self, rows: Any) -> _Queries:
        return _Queries(self.points[rows], self.errors[rows], self.codes[rows])


@dataclass(frozen=True, eq=False)
class _Frame:
    """What every block is told: how to make the coordinates of its rows, the norm of changes, and its memory."""

    metric: MahalanobisMetric
    norm: Norm
    center: Array
    largest: float
    memory: int

    def rows(self, X: Array, y: Indices) -> ReferenceSet:
        return ReferenceSet.part(self.metric, X, y, self.center, self.largest)

    def nearest(self, rows: LazyRows, queries: _Queries, y: Indices, n_own: int, n_others: int = 0) -> Indices:
        """The nearest rows of the class of each query, then those of others: (m, n_own + n_others), −1 for none."""
        asked = partial(self._neighbors, queries, n_own, n_others)
        return np.asarray(rows.reduce(asked, partial(nearest_of_parts, n_own), y)[0])

    def _neighbors(self, queries: _Queries, n_own: int, n_others: int, X: Array, y: Indices, first: int) -> Any:
        points, nobody = self.rows(X, y).points, np.full(len(queries.codes), -1)
        return neighbors_among(queries.points, queries.codes, nobody, n_own, n_others, points, y, first)

    def bounds(
        self, rows: LazyRows, y: Indices, queries: _Queries, pairs: _Pairs, enough: Array, a: int
    ) -> tuple[Array, Indices]:
        """The a-th largest e(l, j) of each pair of a query and an opponent l, or as much of it as is ``enough``; and
        the rows j of the a largest, −1 for none."""
        asked = partial(self._sizes, queries, pairs, rows[pairs.rows], enough, a)
        sizes, instances = rows.reduce(asked, partial(_largest_of_parts, a), y)
        return 0.0 - sizes[:, -1], instances

    def _sizes(
        self,
        queries: _Queries,
        pairs: _Pairs,
        opponents: Array,
        enough: Array,
        a: int,
        X: Array,
        y: Indices,
        first: int,
    ) -> tuple[Array, Indices]:
        sizes, instances = np.zeros((len(opponents), a)), np.full((len(opponents), a), -1)
        beside, order = np.full(len(opponents), -1), float(self.norm.dual_order)
        for some, those, data, products in self._chunks(queries, pairs, opponents, beside, X, y):
            part, starts = queries.take(some), pairs.starts[some.start : some.stop + 1] - those.start
            known = part.points, part.errors, part.codes, starts, enough[some], data, order
            _fill_sizes(products, *known, sizes[those], instances[those])
        return sizes, np.where(instances >= 0, instances + first, -1)

    def opponents(
        self, rows: LazyRows, y: Indices, queries: _Queries, near: _Pairs, thresholds: Array, a: int
    ) -> _Pairs:
        """Pairs of queries and opponents l of which the instances ``near`` do not prove that ``a`` of the e(l, j) are
        at least the threshold."""
        asked = partial(self._listed, queries, near, rows[near.rows], thresholds, a)
        query, row = rows.reduce(asked, _lists_of_parts, y)
        return _Pairs.of(query, row, len(thresholds))

    def _listed(
        self,
        queries: _Queries,
        near: _Pairs,
        helpers: Array,
        thresholds: Array,
        a: int,
        X: Array,
        y: Indices,
        first: int,
    ) -> tuple[Indices, Indices]:
        found = []
        for some, those, data, products in self._chunks(queries, near, helpers, near.classes(queries), X, y):
            part, starts = queries.take(some), len(X) + near.starts[some.start : some.stop + 1] - those.start
            wanted, order = np.zeros(products.shape, dtype=np.bool_), float(self.norm.dual_order)
            known = part.points, part.errors, part.codes, starts, thresholds[some], a, data, order
            _list_opponents(products, *known, wanted)
            found.append(np.argwhere(wanted) + np.array([some.start, first]))
        query, row = np.concatenate(found).T
        return query, row

    def _chunks(
        self, queries: _Queries, pairs: _Pairs, others: Array, classes: Indices, X: Array, y: Indices
    ) -> Iterator[tuple[slice, slice, tuple[Any, ...], Array]]:
        """Some queries, their pairs, what kernels read of the rows of a block with the other rows of these pairs behind
        them, and inner products of the queries with the rows of the block."""
        block, beside = (self.rows(*each).kernel_data(self.norm) for each in ((X, y), (others, classes)))
        for some in chunk_slices(len(queries.codes), 16.0 * len(X), min(self.memory, 16 * len(X) * _QUERIES)):
            those = slice(*pairs.starts[[some.start, some.stop]].tolist())
            data = *(np.concatenate([own, more[those]]) for own, more in zip(block[:-1], beside[:-1])), block[-1]
            yield some, those, data, queries.points[some] @ block[0].T


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Pairs of a query and a row, query by query: those of query i from ``starts[i]`` to ``starts[i + 1]``."""

    starts: Indices
    rows: Indices

    @classmethod
    def of(cls, queries: Indices, rows: Indices, m: int) -> _Pairs:
        order = np.argsort(queries, kind="stable")
        return cls(np.searchsorted(queries[order], np.arange(m + 1)), rows[order])

    @classmethod
    def of_lists(cls, lists: Indices) -> _Pairs:
        """Of a list for each query, −1 for none."""
        query, place = np.nonzero(lists >= 0)
        return cls.of(query, lists[query, place], len(lists))

    @property
    def queries(self) -> Indices:
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))

    def classes(self, queries: _Queries) -> Indices:
        return queries.codes[self.queries]

    def with_more(self, queries: Indices, rows: Indices, n: int) -> _Pairs:
        """These pairs, and behind them those of further rows that are not among them, each once; −1 for no row."""
        queries, rows = queries[rows >= 0], rows[rows >= 0]
        both, numbers = np.concatenate([self.queries, queries]), np.concatenate([self.rows, rows])
        once = np.sort(np.unique(both * n + numbers, return_index=True)[1])
        return _Pairs.of(both[once], numbers[once], len(self.starts) - 1)

    def without(self, others: _Pairs, n: int) -> _Pairs:
        """Pairs that are not among others, of n rows."""
        new = ~np.isin(self.queries * n + self.rows, others.queries * n + others.rows)
        return _Pairs.of(self.queries[new], self.rows[new], len(self.starts) - 1)


def _radii(frame: _Frame, rows: LazyRows, y: Indices, queries: _Queries, k: int) -> Array:
    """Radii of queries that were predicted: steps 2 to 5 of :func:`certified_radii_over_blocks`."""
    s, a = (k + 1) // 2, k // 2 + 1
    n_near = max(NEAR, a)
    found = frame.nearest(rows, queries, y, n_near, max(_FIRST, s))
    near, first = found[:, :n_near], found[:, n_near:]
    radii = np.where(near[:, a - 1] < 0, 0.0, np.inf)
    some = np.flatnonzero((near[:, a - 1] >= 0) & (first[:, s - 1] >= 0))
    if not len(some):
        return radii
    queries, near, m = queries.take(some), near[some], len(some)
    pairs = _Pairs.of_lists(first[some])
    bounds, instances = frame.bounds(rows, y, queries, pairs, np.full(m, np.inf), a)
    thresholds = _smallest(pairs, bounds, s)
    # What holds off one opponent best often does it well for another one.
    helpers = _Pairs.of_lists(near).with_more(np.repeat(pairs.queries, a), instances.ravel(), len(y))
    more = frame.opponents(rows, y, queries, helpers, thresholds, a).without(pairs, len(y))
    if len(more.rows):
        further, _ = frame.bounds(rows, y, queries, more, thresholds, a)
        both = np.concatenate([pairs.queries, more.queries])
        order = np.argsort(both, kind="stable")
        starts = np.searchsorted(both[order], np.arange(m + 1))
        pairs = _Pairs(starts, np.concatenate([pairs.rows, more.rows])[order])
        bounds = np.concatenate([bounds, further])[order]
    radii[some] = _smallest(pairs, bounds, s)
    return radii


def _smallest(pairs: _Pairs, bounds: Array, s: int) -> Array:
    """The s-th smallest bound of each query."""
    return bounds[np.lexsort((bounds, pairs.queries))][pairs.starts[:-1] + s - 1]


def _extent(X: Array, first: int) -> tuple[Array, Array, Array]:
    """Least and largest values of the features of a block, and their sums."""
    try:
        X = check_size(check_array(X, dtype=np.float64, input_name="X_train"), "X_train")
    except ValueError as error:
        raise ValueError(f"rows {first} to {first + len(X) - 1}: {error}") from error
    return X.min(axis=0), X.max(axis=0), X.sum(axis=0)


def _extent_of_parts(parts: list[tuple[Array, Array, Array]]) -> tuple[Array, Array, Array]:
    low, high, total = (np.stack(each) for each in zip(*parts))
    return low.min(axis=0), high.max(axis=0), total.sum(axis=0)


def _largest_of_parts(a: int, parts: list[tuple[Array, Indices]]) -> tuple[Array, Indices]:
    """The a smallest of every row, rising, and where they are."""
    sizes, instances = (np.concatenate(each, axis=1) for each in zip(*parts))
    order = np.argsort(sizes, axis=1, kind="stable")[:, :a]
    return np.take_along_axis(sizes, order, axis=1), np.take_along_axis(instances, order, axis=1)


def _lists_of_parts(parts: list[tuple[Indices, Indices]]) -> tuple[Indices, Indices]:
    query, row = (np.concatenate(each) for each in zip(*parts))
    return query, row


@nb.njit(cache=True, nogil=True)
def _fill_sizes(products, points, errors, codes, starts, enough, data, order, sizes, instances):
    """Put minus the largest e(l, j) of opponents l, which are behind the rows j of a block in ``data``, into ``sizes``
    and these j into ``instances``: those of query i from ``starts[i]`` on."""
    n = products.shape[1]
    own = np.empty(n + 1, dtype=np.int64)
    squares, largest = data[2], data[2].max()
    for i in range(len(points)):
        row, x, c = products[i], points[i], codes[i]
        if starts[i] == starts[i + 1]:
            continue
        q, farthest = square_of(x), 0.0
        for j in range(n):
            row[j] = q + squares[j] - 2.0 * row[j]
        for t in range(starts[i], starts[i + 1]):
            farthest = max(farthest, squared_distance(x, data[0][n + t]))
        n_own = own_within(row, farthest, c, -1, expansion_error(len(x), q, largest), data, own)
        nearest = own[:n_own][np.argsort(row[own[:n_own]])]  # the likelier to be enough
        query = (row, x, errors[i], c, -1, order)
        for t in range(starts[i], starts[i + 1]):
            largest_sizes(query, n + t, nearest, enough[i], data, sizes[t], instances[t])


@nb.njit(cache=True, nogil=True)
def _list_opponents(products, points, errors, codes, starts, thresholds, a, data, order, wanted):
    """Mark opponents among the rows of a block that instances of the predicted class, which are behind these rows in
    ``data``, nearest first, do not hold off up to the threshold: those of query i from ``starts[i]`` on."""
    m, n = products.shape
    y, squares = data[5], data[2]
    terms, nearest = np.full((m, 6), -np.inf), np.empty(m, dtype=np.int64)
    largest = (squares.max(), data[1].max(), data[4].max())
    for i in range(m):
        row, x = products[i], points[i]
        q = square_of(x)
        for j in range(n):
            row[j] = q + squares[j] - 2.0 * row[j]
        nearest[i] = starts[i]
        query = (row, x, errors[i], codes[i], -1, order)
        near, slack = np.arange(starts[i], starts[i] + a), expansion_error(len(x), q, largest[0])
        terms_of_threshold(query, thresholds[i], near, slack, largest, data, terms[i])
    discard(products, codes, nearest, terms, data, order)
    for i in range(m):
        row, c, helpers = products[i], codes[i], np.arange(starts[i], starts[i + 1])
        query = (row, points[i], errors[i], c, -1, order)
        for l in range(n):
            if y[l] != c and not row[l] >= terms[i, 0]:
                size, _ = certified_against(query, l, helpers, a, thresholds[i], data)
                wanted[i, l] = size < thresholds[i]
