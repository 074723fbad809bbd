"""Which rows may be within reach of some points: products in single precision, with their rounding error counted."""

from __future__ import annotations

import numba as nb
import numpy as np
from numpy.typing import NDArray

from certimetric.base.arrays import Array
from certimetric.base.chunks import chunk_slices

GROUP = 64  # rows that are asked together whether any of them is near: most are not
_ROWS, _POINTS = 1024, 512  # of a block of products: 2 MiB, which a cache of a core holds


class Screen:
    """A few points, against which any number of rows is screened block by block.

    With points a and rows p about a common origin, ``d² = ‖a‖² + ‖p‖² − 2 aᵀp``. A product in single precision gives
    ``‖p‖² − 2 aᵀp`` less a bound of its error that grows with the row, so that d² ≤ t implies
    ``product ≤ t − offset``, up to the rounding of that difference (``relative``). Few rows pass that should not; none
    is lost. (Rows beyond the range of single precision give infinity or NaN: what is not *larger* passes.)

    Parameters
    ----------
    points : array of shape (m, r)
    center : array of shape (r,), optional
        The origin; None for the mean of the points.
    """

    def __init__(self, points: Array, center: Array | None = None):
        m, r = points.shape
        self.center = points.mean(axis=0) if center is None else center
        near = points - self.center
        squared = np.einsum("ij,ij->i", near, near)
        # A sum of m products of rounded numbers, in any order, is off by at most (m + 3) u times the sum of their
        # sizes, to first order; here m = r + 1 and the sizes sum to at most ‖a‖² + 2 ‖p‖².
        self.relative = _relative_error(r)
        self.offset = squared * (1.0 - self.relative)
        with np.errstate(over="ignore"):
            self._left: NDArray[np.float32] = np.column_stack([-2.0 * near, np.ones(m)]).astype(np.float32)

    def blocks(self, n: int) -> list[slice]:
        """Cut n rows into blocks."""
        return chunk_slices(n, 1.0, _ROWS)

    def tiles(self, part: slice) -> list[slice]:
        """Cut some of the points, so that products with a block stay in cache."""
        tiles = chunk_slices(part.stop - part.start, 1.0, _POINTS)
        return [slice(part.start + tile.start, part.start + tile.stop) for tile in tiles]

    def prepared(self, rows: Array) -> NDArray[np.float32]:
        """A block of rows, as :meth:`products` takes it."""
        return prepared_rows(rows, self.center)

    def products(self, points: slice, prepared: NDArray[np.float32]) -> NDArray[np.float32]:
        """Lower bounds of ``d² − offset`` of some points and a block of rows, shape (points, rows)."""
        with np.errstate(over="ignore", invalid="ignore"):
            return np.asarray(self._left[points] @ prepared.T)


def prepared_rows(rows: Array, center: Array) -> NDArray[np.float32]:
    """What :meth:`Screen.prepared` of that center gives, for rows that are screened against points that come later."""
    near = rows - center
    squared = np.einsum("ij,ij->i", near, near) * (1.0 - 2.0 * _relative_error(rows.shape[1]))
    with np.errstate(over="ignore"):
        return np.column_stack([near, squared]).astype(np.float32)


def _relative_error(r: int) -> float:
    return 2.0 * (r + 8) * float(np.finfo(np.float32).eps) / 2


@nb.njit(cache=True, nogil=True, inline="always")
def any_within(row, bound):
    """Whether any entry is not larger than a bound: a sum without branches, which vectorises."""
    count = 0
    for j in range(row.shape[0]):
        count += not row[j] > bound
    return count > 0
