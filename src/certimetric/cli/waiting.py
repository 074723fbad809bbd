"""How the threads of numerical libraries wait for each other in the processes of a command."""

from __future__ import annotations

import os

# Threads of OpenMP, and those of OpenBLAS (two to this power of cycles), go to sleep at once where they have to wait.
_PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0", "OPENBLAS_THREAD_TIMEOUT": "4"}


def wait_passively() -> None:
    """Let threads that wait for each other sleep, in this process and in those that it starts.

    By default they spin. Where another process has one of the cores, the thread that it holds up lets all the others
    spin for as long as it waits for its turn, in every layer of every batch: minutes become a quarter of an hour. The
    libraries read the environment when they are loaded, so that this comes before; variables that are set already stay.
    It changes no result.
    """
    for name, value in _PASSIVE.items():
        os.environ.setdefault(name, value)
