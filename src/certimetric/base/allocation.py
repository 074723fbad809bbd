"""How the process gets its memory from the system."""

from __future__ import annotations

import ctypes
import os

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # names of malloc.h
_MIB = 2**20


def keep_freed_memory() -> bool:
    """Let the allocator keep what arrays gave back, for the next ones, instead of returning it to the system.

    A network on a CPU makes and frees the same arrays of some MiB in every step. By default glibc hands each of them
    back, and the system clears every page of the next: as much time as the convolutions themselves take. From here on
    arrays up to 256 MiB are taken from memory that the process holds, of which up to 1 GiB stays unused at its end.
    It is for processes of one's own: a script that trains or attacks on a CPU may call it first.

    Returns
    -------
    done : bool
        False where the C library is another than glibc, and where variables of the environment set it otherwise.

    Examples
    --------
    >>> keep_freed_memory() in (True, False)
    True
    """
    if "GLIBC_TUNABLES" in os.environ or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library; on Windows there is no library without a name
        return False
    return bool(mallopt(_MMAP_THRESHOLD, 256 * _MIB)) and bool(mallopt(_TRIM_THRESHOLD, 1024 * _MIB))
