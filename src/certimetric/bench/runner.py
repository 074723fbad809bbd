"""A run: what is in the store is reused, the rest is computed in parallel, and each result is kept as it comes."""

from __future__ import annotations

import os
import platform
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from joblib import Parallel, delayed, effective_n_jobs

from certimetric.auditing.run import describe_machine, describe_versions
from certimetric.base.wording import first_line
from certimetric.bench.containment import run_contained, stop_all, to_record
from certimetric.bench.suites.base import Suite
from certimetric.runs.key import Cell, Record
from certimetric.runs.progress import progress_bar
from certimetric.runs.store import Store

PACKAGES = ("numpy", "scipy", "scikit-learn", "numba", "threadpoolctl", "joblib", "dask", "distributed")
CONNECT_TIMEOUT = 20.0

Keep = Callable[[Cell, dict[str, Any]], Record]


@dataclass
class Outcome:
    """How a run went.

    Parameters
    ----------
    records : list of Record
        Of all cells of the plan, in its order, from this run and from earlier ones.
    computed, reused, failed : int
        Cells computed well now, taken from the store, and failed or stopped now.
    """

    records: list[Record]
    computed: int = 0
    reused: int = 0
    failed: int = 0


def run_cells(
    suite: Suite,
    cells: Sequence[Cell],
    store: Store,
    *,
    n_jobs: int = 1,
    dask: str | None = None,
    timeout: float | None = None,
    retry: bool = False,
    progress: bool = False,
) -> Outcome:
    """Run the cells that the store does not have.

    Parameters
    ----------
    suite : Suite
    cells : sequence of Cell
    store : Store
    n_jobs : int, default=1
        Cells at a time on this machine, each in a process with one thread.
    dask : str, optional
        Address of a Dask scheduler, whose workers run the cells in place of this machine.
    timeout : float, optional
        Seconds after which a cell is stopped.
    retry : bool, default=False
        Run cells again that failed or were stopped in an earlier run.
    progress : bool, default=False
        Show a progress bar on stderr.

    Returns
    -------
    outcome : Outcome
    """
    kept = store.records(cell.key for cell in cells)
    if retry:
        kept = {key: record for key, record in kept.items() if record.status == "done"}
    waiting = [cell for cell in cells if cell.key not in kept]
    outcome = Outcome([], reused=len(kept))
    if waiting:
        run = store.begin_run(environment())

        def keep(cell: Cell, answer: dict[str, Any]) -> Record:
            record = to_record(cell, answer)
            store.add(record, run)
            return record

        found = (
            _local(suite, waiting, n_jobs, timeout, keep)
            if dask is None
            else _remote(suite, waiting, dask, timeout, keep)
        )
        with progress_bar(progress, len(cells), len(kept), name=suite.name) as advance:
            for record in found:
                kept[record.cell.key] = record
                failed = record.status != "done"
                outcome.failed += failed
                outcome.computed += not failed
                advance(failed)
    outcome.records = [kept[cell.key] for cell in cells]
    return outcome


def _local(suite: Suite, cells: Sequence[Cell], n_jobs: int, timeout: float | None, keep: Keep) -> Iterator[Record]:
    """Threads that each watch over a process, and keep its result before they hand it the next cell."""
    n_jobs = min(effective_n_jobs(n_jobs), len(cells))
    over = threading.Event()

    def work(cell: Cell) -> Record | None:
        if over.is_set():
            return None
        answer = run_contained(suite.reference, cell.to_mapping(), timeout)
        # A process that was ended by an interrupt of the run says nothing about its cell.
        return None if over.is_set() else keep(cell, answer)

    try:
        parallel = Parallel(
            n_jobs=n_jobs, backend="threading", batch_size=1, pre_dispatch=n_jobs, return_as="generator_unordered"
        )
        yield from parallel(delayed(work)(cell) for cell in cells)
    finally:
        over.set()
        stop_all()


def _remote(suite: Suite, cells: Sequence[Cell], address: str, timeout: float | None, keep: Keep) -> Iterator[Record]:
    """The same function on the workers of a Dask cluster; a cell whose worker dies is given to another."""
    with connect(address) as client:
        from distributed import as_completed

        futures = {
            client.submit(
                run_contained, suite.reference, cell.to_mapping(), timeout, key=f"certimetric-{cell.key}", pure=False
            ): cell
            for cell in cells
        }
        try:
            for future in as_completed(futures, raise_errors=False, loop=client.loop):
                if future.status == "finished":
                    answer = future.result()
                else:
                    error = future.exception() if future.status == "error" else "it was cancelled"
                    answer = {"status": "failed", "result": None, "error": _short(error), "seconds": 0.0}
                yield keep(futures[future], answer)
                future.release()
        finally:
            client.cancel([future for future in futures if not future.done()], force=True)


def connect(address: str) -> Any:
    """A client of the Dask scheduler at this address.

    Raises
    ------
    ImportError
        If Dask is not installed.
    ConnectionError
        If nothing answers there.
    """
    try:
        from distributed import Client
    except ImportError:
        raise ImportError('--dask needs Dask: pip install "certimetric[dask]"') from None
    try:
        return Client(address, timeout=CONNECT_TIMEOUT, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise ConnectionError(f"--dask: no scheduler answers at {address!r}: {first_line(error)}") from None


def _short(error: object) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]


def environment() -> dict[str, Any]:
    """What results depend on besides their cell: versions, commit and machine."""
    return {
        "versions": describe_versions(PACKAGES),
        "commit": commit(),
        "machine": {**describe_machine(), "processor": _processor()},
    }


def commit() -> str | None:
    """The git commit of the library, if it runs from a clone; with ``+`` where files were changed."""
    folder = Path(__file__).resolve().parent
    git: Callable[..., str] = lambda *words: subprocess.run(  # noqa: E731
        ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=10, check=True
    ).stdout.strip()
    try:
        if git("ls-files", "--error-unmatch", Path(__file__).name) == "":
            return None
        changed = git("status", "--porcelain", "--untracked-files=no", "--", str(folder.parent))
        return git("rev-parse", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or os.uname().machine if hasattr(os, "uname") else platform.processor()
