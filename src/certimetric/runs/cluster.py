"""Cells on the workers of a Dask cluster that somebody else started: computed there, kept here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from certimetric.base.wording import first_line
from certimetric.runs.environment import environment
from certimetric.runs.key import Cell, Record
from certimetric.runs.scheduling import Compute, Execute, Keep, attempt, failure

CONNECT_TIMEOUT = 20.0
_DECISIVE = ("certimetric", "numpy", "scipy", "scikit-learn", "numba")  # packages that figures depend on
_alone = threading.Lock()


def on_dask(run: Callable[[Cell], Record], address: str) -> Execute:
    """Cells on the workers of a cluster; a cell whose worker dies is given to another.

    ``run`` is pickled, and goes to each worker once.
    """

    def execute(cells: Sequence[Cell], keep: Keep) -> Iterator[Record]:
        with connect(address) as client:
            from distributed import as_completed

            # A task like others, so that it is there again when all who had it have died.
            shared = client.submit(_itself, run, pure=False)
            futures = {
                client.submit(_run, shared, cell, key=f"certimetric-{cell.key}", pure=False): cell for cell in cells
            }
            try:
                for future in as_completed(futures, raise_errors=False, loop=client.loop):
                    cell = futures[future]
                    if future.status == "finished":
                        yield keep(future.result())
                    else:
                        error = future.exception() if future.status == "error" else RuntimeError("it was cancelled")
                        yield keep(failure(cell, error))
                    future.release()
            finally:
                client.cancel([future for future in futures if not future.done()], force=True)

    return execute


def _itself(run: Any) -> Any:
    return run


def _run(run: Callable[[Cell], Record], cell: Cell) -> Record:
    return run(cell)


def attempt_alone(compute: Compute, cell: Cell) -> Record:
    """Run one cell while no other one runs in this process, whose warnings and threads of BLAS are one for all."""
    with _alone:
        return attempt(compute, cell)


def count_workers(address: str) -> int:
    """How many workers a cluster has."""
    with connect(address) as client:
        return len(client.nthreads())


def connect(address: str) -> Any:
    """A client of the Dask scheduler at this address.

    Raises
    ------
    ImportError
        If Dask is not installed here, or certimetric is not where a worker is.
    ConnectionError
        If no scheduler answers, or it has no workers.
    ValueError
        If a worker has other versions of what figures depend on.
    """
    try:
        from distributed import Client
    except ImportError:
        raise ImportError('a Dask cluster needs Dask: pip install "certimetric[dask]"') from None
    try:
        client = Client(address, timeout=CONNECT_TIMEOUT, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise ConnectionError(f"no Dask scheduler answers at {address!r}: {first_line(error)}") from None
    try:
        check_workers(client, address)
    except BaseException:
        client.close()
        raise
    return client


def check_workers(client: Any, address: str) -> None:
    """See that a cluster has workers, and that they give the figures of this machine; errors as of :func:`connect`."""
    try:
        client.wait_for_workers(1, timeout=CONNECT_TIMEOUT)
    except TimeoutError:
        raise ConnectionError(f"the Dask scheduler at {address!r} has no workers: start some") from None
    own = environment()["versions"]
    for worker, versions in client.run(versions_there, on_error="return").items():
        if isinstance(versions, BaseException):
            raise ImportError(f"the Dask worker {worker} cannot run certimetric: {first_line(versions)}")
        for name in _DECISIVE:
            if versions.get(name) != own.get(name):
                raise ValueError(
                    f"the Dask worker {worker} has {name} {versions.get(name)}, and here is {own.get(name)}: figures "
                    f"depend on it, install the same"
                )


def versions_there() -> dict[str, str]:
    """Versions of packages, asked of a worker."""
    told: dict[str, str] = environment()["versions"]
    return told
