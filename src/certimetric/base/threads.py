"""How many threads the libraries have: one where more would be slower, or where the caller is one of many workers."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController

SMALL_MATRIX = 256  # rows of a matrix below which one thread is the fastest
_SMALL_PICTURE = 16 * 16  # the same of pictures, in pixels


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


@contextmanager
def threads_for_pictures(shape: Sequence[int]) -> Iterator[None]:
    """One thread of torch inside for small pictures, whose layers are done before others have woken; restored after.

    The shape is (channels, height, width). ``OMP_NUM_THREADS``, where it is set, decides in its place.
    """
    import torch

    before = torch.get_num_threads()
    if shape[-1] * shape[-2] <= _SMALL_PICTURE and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
