"""Compiled loops that searches, objectives and certificates share: distances of two rows, and a short sorted list.

Sums may be taken in any order, which bounds on rounding allow for: that is what lets them use vector instructions.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from certimetric.base.rounding import INFLATED_UNIT


@nb.njit(cache=True, nogil=True, fastmath={"contract", "reassoc"})
def squared_distance(a, b):
    """Squared Euclidean distance of two vectors from their difference."""
    total = 0.0
    for t in range(a.shape[0]):
        difference = a[t] - b[t]
        total += difference * difference
    return total


@nb.njit(cache=True, nogil=True, fastmath={"contract", "reassoc"})
def squared_distance_in_kind(a, b):
    """The same, summed in the vectors' own precision: twice as fast in single."""
    total = a.dtype.type(0)
    for t in range(a.shape[0]):
        difference = a[t] - b[t]
        total += difference * difference
    return total


@nb.njit(cache=True, nogil=True, fastmath={"contract", "reassoc"})
def difference_norm(a, b, order):
    """Vector norm of order 1, 2 or infinity of a − b, in the vectors' own precision."""
    norm = a.dtype.type(0)
    if order == 2.0:
        norm = np.sqrt(squared_distance_in_kind(a, b))
    elif order == 1.0:
        for t in range(a.shape[0]):
            norm += abs(a[t] - b[t])
    else:
        for t in range(a.shape[0]):
            norm = max(norm, abs(a[t] - b[t]))
    return norm


@nb.njit(cache=True, nogil=True)
def expansion_error(r, q, p):
    """Bound on the error of ``q + p − 2·(dot product)`` of r-vectors with squared norms q and p."""
    return 4.0 * (r + 4) * INFLATED_UNIT * (q + p)


@nb.njit(cache=True, nogil=True)
def insert_smallest(values, indices, count, size, value, index):
    """Keep the ``size`` smallest values, sorted, equal ones in the order in which they came; give the new count."""
    if count == size and not value < values[size - 1]:
        return count
    position = count if count < size else size - 1
    while position > 0 and values[position - 1] > value:
        values[position] = values[position - 1]
        indices[position] = indices[position - 1]
        position -= 1
    values[position] = value
    indices[position] = index
    return min(count + 1, size)


@nb.njit(cache=True, nogil=True)
def pair_squared_distances(Z, i, j):
    """Squared distances of the rows i and j of Z, shape (m,)."""
    squared = np.empty(i.shape[0])
    for pair in range(i.shape[0]):
        squared[pair] = squared_distance(Z[i[pair]], Z[j[pair]])
    return squared
