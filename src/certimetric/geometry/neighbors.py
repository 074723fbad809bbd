"""Exact nearest neighbours in chunks: BLAS proposes, direct differences decide.

The expanded square ``‖p‖² + ‖q‖² − 2pᵀq`` is fast but cancels; it is used only to discard rows that cannot be among
the k nearest *with its rounding error counted*. The rest is recomputed as ``Σ (p − q)²`` and ordered by distance, then
by index, so that the answer does not depend on the size of a chunk.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import cache
from typing import Any

import numba as nb
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from certimetric.base.arrays import Array
from certimetric.geometry.kernels import expansion_error, insert_smallest, squared_distance

DEFAULT_MEMORY = 64 * 2**20
SMALL_MATRIX = 256  # rows of a matrix below which one thread is the fastest


def chunk_slices(n: int, bytes_per_row: float, memory: int, n_jobs: int = 1) -> list[slice]:
    """Cut ``range(n)`` so that ``n_jobs`` chunks of rows at a time fit into ``memory`` bytes.

    Examples
    --------
    >>> chunk_slices(5, bytes_per_row=8, memory=16)
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    step = max(1, min(int(memory / max(bytes_per_row, 1.0) / n_jobs), -(-n // n_jobs) if n else 1))
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]


@cache
def _thread_pools() -> ThreadpoolController:
    """The BLAS and OpenMP libraries of the process, looked up once: a look-up takes milliseconds, and an interrupt
    that falls into it is lost."""
    return ThreadpoolController()


def single_threaded() -> AbstractContextManager[Any]:
    """A context with one thread in BLAS and OpenMP, for a process that is itself one of several workers."""
    return _thread_pools().limit(limits=1)


def limited_threads(n_features: int) -> AbstractContextManager[Any]:
    """A context with one thread in BLAS and OpenMP where matrices are so small that more make them slower."""
    return _thread_pools().limit(limits=1 if n_features < SMALL_MATRIX else None)


def map_chunks(function: Callable[[slice], Any], slices: list[slice], n_jobs: int = 1) -> list[Any]:
    """Call ``function(rows)`` on every chunk, with one BLAS thread per worker: chunks are what uses the cores.

    ``function`` should spend its time in BLAS or in compiled code that releases the lock of the interpreter.
    """
    if n_jobs == 1 or len(slices) == 1:
        return [function(rows) for rows in slices]
    with single_threaded(), ThreadPoolExecutor(n_jobs) as pool:
        return list(pool.map(function, slices))


def nearest_neighbors(
    Q: Array,
    P: Array,
    k: int,
    *,
    exclude: NDArray[np.int64] | None = None,
    memory: int = DEFAULT_MEMORY,
    n_jobs: int = 1,
) -> tuple[NDArray[np.int64], Array]:
    """The k rows of P that are nearest to each row of Q in the Euclidean distance.

    Parameters
    ----------
    Q : array of shape (m, r)
        Queries.
    P : array of shape (n, r)
        Points.
    k : int
        At most n (n − 1 where ``exclude`` is given).
    exclude : int array of shape (m,), optional
        Row of P that the query must not find (itself); −1 for none.
    memory : int
        Bytes for the blocks of distances.
    n_jobs : int
        Threads.

    Returns
    -------
    indices : int array of shape (m, k)
        Ordered by distance, ties by index.
    squared : array of shape (m, k)
        Squared distances, from direct differences.

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
        _select(products, Q[rows], P, q[rows], p, exclude[rows], indices[rows], squared[rows])

    map_chunks(search, chunk_slices(len(Q), 8.0 * len(P), memory, n_jobs), n_jobs)
    return indices, squared


@nb.njit(cache=True, nogil=True)
def _select(products, Q, P, q, p, exclude, indices, squared):
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
