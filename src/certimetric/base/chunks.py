"""Work in chunks of rows: as large as memory allows, several at a time where there are cores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from certimetric.base.threads import single_threaded

DEFAULT_MEMORY = 64 * 2**20


def chunk_slices(n: int, bytes_per_row: float, memory: int = DEFAULT_MEMORY, n_jobs: int = 1) -> list[slice]:
    """Cut ``range(n)`` so that ``n_jobs`` chunks of rows at a time fit into ``memory`` bytes.

    Examples
    --------
    >>> chunk_slices(5, bytes_per_row=8, memory=16)
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    step = max(1, min(int(memory / max(bytes_per_row, 1.0) / n_jobs), -(-n // n_jobs) if n else 1))
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]


def map_chunks(function: Callable[[Any], Any], slices: Sequence[Any], n_jobs: int = 1) -> list[Any]:
    """Call ``function(rows)`` on every chunk, with one BLAS thread per worker: chunks are what uses the cores.

    ``function`` should spend its time in BLAS or in compiled code that releases the lock of the interpreter.
    """
    if n_jobs == 1 or len(slices) == 1:
        return [function(rows) for rows in slices]
    with single_threaded(), ThreadPoolExecutor(n_jobs) as pool:
        return list(pool.map(function, slices))
