"""Exact nearest neighbours in chunks: BLAS proposes, direct differences decide.

The expanded square ``‖p‖² + ‖q‖² − 2pᵀq`` is fast but cancels; it is used only to discard rows that cannot be among
the k nearest *with its rounding error counted*. The rest is recomputed as ``Σ (p − q)²`` and ordered by distance, then
by index, so that the answer does not depend on the size of a chunk.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from certimetric.base.arrays import Array, Indices
from certimetric.base.chunks import DEFAULT_MEMORY, chunk_slices, map_chunks
from certimetric.geometry.kernels import expansion_error, insert_smallest, squared_distance


def nearest_neighbors(
    Q: Array, P: Array, k: int, *, exclude: Indices | None = None, memory: int = DEFAULT_MEMORY, n_jobs: int = 1
) -> tuple[Indices, Array]:
    """The k rows of P, (n, r), that are nearest to each row of Q, (m, r), in the Euclidean distance.

    Parameters
    ----------
    exclude : int array of shape (m,), optional
        Row of P that the query must not find (itself); −1 for none. At most n − 1 are found then.
    memory : int
        Bytes for the blocks of distances.

    Returns
    -------
    indices, squared : arrays of shape (m, k)
        Ordered by distance, ties by index; squared distances, from direct differences.

    Examples
    --------
    >>> indices, squared = nearest_neighbors(np.zeros((1, 1)), np.array([[3.0], [1.0], [-1.0]]), k=2)
    >>> indices, squared
    (array([[1, 2]]), array([[1., 1.]]))
    """
    # Only the expanded squares need the origin near the points: what decides are differences of the rows as they came.
    Q, P = np.ascontiguousarray(Q), np.ascontiguousarray(P)
    center = P.mean(axis=0)
    near_Q, near_P = Q - center, P - center
    q, p = np.einsum("ij,ij->i", near_Q, near_Q), np.einsum("ij,ij->i", near_P, near_P)
    if exclude is None:
        exclude = np.full(len(Q), -1, dtype=np.int64)
    indices, squared = np.empty((len(Q), k), dtype=np.int64), np.empty((len(Q), k))

    def search(rows: slice) -> None:
        products = near_Q[rows] @ near_P.T
        select_nearest(products, Q[rows], P, q[rows], p, exclude[rows], indices[rows], squared[rows])

    map_chunks(search, chunk_slices(len(Q), 8.0 * len(P), memory, n_jobs), n_jobs)
    return indices, squared


@nb.njit(cache=True, nogil=True)
def select_nearest(products, Q, P, q, p, exclude, indices, squared):
    """Fill ``indices`` and ``squared`` (see :func:`nearest_neighbors`) from inner products and squared lengths of the
    rows of Q and P."""
    k, n, r = indices.shape[1], P.shape[0], P.shape[1]
    largest = p.max()
    for i in range(Q.shape[0]):
        row = products[i]
        best_value, best_index = squared[i], indices[i]
        # Pass 1: the k-th smallest expanded square.
        count = 0
        for j in range(n):
            if j != exclude[i]:
                count = insert_smallest(best_value, best_index, count, k, q[i] + p[j] - 2.0 * row[j], j)
        threshold = best_value[k - 1] + 2.0 * expansion_error(r, q[i], largest)
        # Pass 2: everything that rounding could have placed among the k nearest, by direct differences.
        count = 0
        for j in range(n):
            if j == exclude[i] or q[i] + p[j] - 2.0 * row[j] > threshold:
                continue
            count = insert_smallest(best_value, best_index, count, k, squared_distance(Q[i], P[j]), j)
