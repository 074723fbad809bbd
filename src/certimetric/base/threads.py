"""How many threads torch has for pictures of a size."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

_SMALL = 16 * 16  # pixels of pictures for which one thread is the fastest


@contextmanager
def threads_for_pictures(shape: Sequence[int]) -> Iterator[None]:
    """One thread of torch inside for small pictures, whose layers are done before others have woken; restored after.

    ``OMP_NUM_THREADS``, where it is set, decides in its place.

    Parameters
    ----------
    shape : (int, int, int)
        Channels, height and width.
    """
    import torch

    before = torch.get_num_threads()
    if shape[-1] * shape[-2] <= _SMALL and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
