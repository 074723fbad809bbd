"""Rows in compact cells: which of them may be within some distance of a point is told of a whole cell at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from certimetric.base.arrays import Array, Indices
from certimetric.geometry.screens import Screen, prepared_rows

_LARGEST, _SAMPLE = 1024, 256  # rows of a cell, and those that say where one is cut
_LEAST_SHARE = 8  # of the sample, on either side of a cut
LARGEST = 1e15  # coordinate, and inverse of the least largest one, whose squares have a place in single precision
_UP = 1.0 + 1e-9  # more than distances of fewer than 10⁶ coordinates err


class Visit(NamedTuple):
    """A cell, the points that it may hold something for (numbers, shape (m,)), and their screen over its rows.

    ``products`` of shape (m, rows) are lower bounds of d² less the ``offset`` of each point (:class:`Screen`).
    """

    cell: int
    points: Indices
    offset: Array
    products: NDArray[np.float32]

    def share_within(self, squares: Array) -> float:
        """About which share of points and rows is within squared distances, one of every point that there is."""
        bounds = (squares[self.points] - self.offset).astype(np.float32)
        return float((self.products <= bounds[:, None]).mean())


class Cells:
    """A partition of rows into balls, by cuts across the widest direction of what is not yet small enough.

    A point whose distance from the center of a ball exceeds its radius by t is farther than t from all of its rows, by
    the triangle inequality. What that leaves is screened in single precision around the center of each cell, where
    coordinates are small: the error of a distance is one of the size of the cell.

    Parameters
    ----------
    points : array of shape (n, r)
        Within ±1e15, the largest beyond ±1e-15, so that squares have a place in single precision.

    Attributes
    ----------
    rows : list of int arrays
        Of each cell, increasing.
    centers, radii : arrays of shape (c, r) and (c,)
    spreads : array of shape (c,)
        Mean squared distance of the rows from the center.
    sizes : int array of shape (c,)

    Notes
    -----
    Beside the points it keeps 4 (r + 1) + 8 bytes a row; in between, 4 r + 8 more.

    Examples
    --------
    >>> cells = Cells(np.array([[0.0], [1.0], [5.0]]))
    >>> (cells.centers, cells.radii.round(6), cells.rows)
    (array([[2.]]), array([3.]), [array([0, 1, 2])])
    """

    def __init__(self, points: Array):
        self.rows = [np.sort(rows) for rows in _cut(points)]
        self.centers = np.array([points[rows].mean(axis=0) for rows in self.rows])
        self.sizes = np.array([len(rows) for rows in self.rows])
        self.radii, self.spreads, self._prepared = np.empty(len(self.rows)), np.empty(len(self.rows)), []
        for cell, rows in enumerate(self.rows):
            members, center = points[rows], self.centers[cell]
            distances = cdist(members, center[None])
            self.radii[cell], self.spreads[cell] = distances.max() * _UP, (distances**2).mean()
            self._prepared.append(prepared_rows(members, center))

    def gaps(self, points: Array) -> Array:
        """Distances that rows of each cell keep from points at least, (m, r) to (m, c); below 0 inside the ball."""
        return cdist(points, self.centers) * (2.0 - _UP) - self.radii

    def shares(self, gaps: Array, squares: Array) -> Array:
        """About which share of the rows is within squared distances, (m,), of points with these gaps: no bound.

        All rows of a cell are taken to be as far as they are in the mean, which they are about in many dimensions.
        """
        return np.asarray(((gaps + self.radii) ** 2 + self.spreads <= squares[:, None]) @ self.sizes / self.sizes.sum())

    def visit(self, points: Array, wanted: NDArray[np.bool_]) -> Iterator[Visit]:
        """Screen points, (m, r), over the cells that are ``wanted`` for them, (m, c)."""
        for cell in np.flatnonzero(wanted.any(axis=0)).tolist():
            those = np.flatnonzero(wanted[:, cell])
            screen = Screen(points[those], self.centers[cell])
            yield Visit(cell, those, screen.offset, screen.products(slice(None), self._prepared[cell]))


def fits_single(points: Array) -> bool:
    """Whether squares of coordinates have a place in single precision, if they matter beside the largest."""
    return bool(1.0 / LARGEST < np.abs(points).max(initial=0.0) < LARGEST)


def _cut(points: Array) -> list[Indices]:
    """Row numbers of the cells, where rows with the like coordinates are together."""
    work, order = points.astype(np.float32), np.arange(len(points))
    left, cells = [slice(0, len(points))], []
    while left:
        part = left.pop()
        size = part.stop - part.start
        if size <= _LARGEST:
            cells.append(order[part].copy())
            continue
        members = work[part]
        every = -(-size // _SAMPLE)
        along = members @ _widest_direction(members[::every])
        low = along <= _best_cut(np.sort(along[::every]))
        if not size // 16 <= low.sum() <= size - size // 16:
            low = np.zeros(size, dtype=bool)
            low[np.argpartition(along, size // 2)[: size // 2]] = True
        work[part], order[part] = (np.concatenate([v[low], v[~low]]) for v in (members, order[part]))
        middle = part.start + int(low.sum())
        left += [slice(part.start, middle), slice(middle, part.stop)]
    return cells


def _widest_direction(sample: NDArray[np.float32]) -> NDArray[np.float32]:
    """About the first principal direction, by a few steps of the power method from the row farthest out."""
    centred = sample - sample.mean(axis=0)
    direction = centred[np.einsum("ij,ij->i", centred, centred).argmax()]
    for _ in range(4):
        size = np.linalg.norm(direction)
        if not 0.0 < size < np.inf:
            break
        direction = (centred @ (direction / size)) @ centred
    size = np.linalg.norm(direction)
    return np.asarray(direction / size if 0.0 < size < np.inf else direction)


def _best_cut(along: NDArray[np.float32]) -> float:
    """The value up to which a sorted sample is the one of two parts with the least squares about their means."""
    n, values = len(along), along.astype(np.float64)
    values -= values.mean()
    count, total = np.arange(1, n), np.cumsum(values)[:-1]
    # With a mean of 0, the squares between the parts are total² (1/count + 1/rest).
    between = total**2 * (1.0 / count + 1.0 / (n - count))
    inner = slice(n // _LEAST_SHARE, n - n // _LEAST_SHARE)
    return float(along[inner.start + between[inner].argmax()])
