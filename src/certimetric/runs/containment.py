"""A cell in a process of its own, so that it can be stopped: a thread cannot be, and a compiled kernel hears no signal.

Each worker (a thread of joblib, or of Dask) keeps one child process and hands it one cell after another. Libraries are
imported once, every child has one thread in BLAS, OpenMP and numba, and a cell that takes too long, or is killed for
memory, ends its child and nothing else.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import IO, Any

from joblib import Parallel, delayed, effective_n_jobs

from certimetric.runs.key import Cell, Record
from certimetric.runs.scheduling import Execute, Keep, attempt

START_TIMEOUT = 300.0  # seconds for the imports of a child, on a machine that is busy
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")

_own = threading.local()
_alive: set[Child] = set()
_guard = threading.Lock()


class Child:
    """A process that runs cells by the method ``run`` of what is at ``module:attribute``, imported before the first."""

    def __init__(self, reference: str) -> None:
        environment = {**os.environ, **dict.fromkeys(_ONE_THREAD, "1")}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "certimetric.runs.containment", str(os.getpid()), reference],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            text=True,
        )
        self._answers: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()
        with _guard:
            _alive.add(self)
        if self._answer(START_TIMEOUT) is None:
            self.stop()
            raise RuntimeError(f"a process for cells did not start within {START_TIMEOUT:.0f} s")

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put("")  # it ended

    def _answer(self, timeout: float | None) -> dict[str, Any] | None:
        """What the child says; None after the timeout, RuntimeError if it ended."""
        try:
            line = self._answers.get(timeout=timeout)
        except queue.Empty:
            return None
        if not line:
            code = self._process.wait()
            told = f"signal {-code}" if code < 0 else f"exit code {code}"
            raise RuntimeError(f"the process of the cell ended ({told}), out of memory perhaps")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def run(self, reference: str, cell: Cell, timeout: float | None) -> dict[str, Any] | None:
        """The answer for a cell; None if it took too long. After that, and after an error, the child is stopped."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"suite": reference, "cell": cell.to_mapping()}) + "\n")
            self._process.stdin.flush()
            answer = self._answer(timeout)
        except (OSError, RuntimeError, ValueError):
            self.stop()
            raise
        if answer is None:
            self.stop()
        return answer

    @property
    def running(self) -> bool:
        """Whether it can take a cell."""
        return self._process.poll() is None

    def stop(self) -> None:
        """End the process at once, whatever it does."""
        with _guard:
            _alive.discard(self)
        with contextlib.suppress(OSError):
            self._process.kill()
        self._process.wait()


def run_contained(reference: str, timeout: float | None, cell: Cell) -> Record:
    """Run a cell in the child process of this worker, for so many seconds at most; errors are told, not raised."""
    start = time.perf_counter()
    try:
        child: Child | None = getattr(_own, "child", None)
        if child is None or not child.running:
            child = _own.child = Child(reference)
        start = time.perf_counter()
        answer = child.run(reference, cell, timeout)
    except (OSError, RuntimeError, ValueError) as error:
        answer = {"status": "failed", "result": None, "error": str(error)}
    if answer is None:
        answer = {"status": "timeout", "result": None, "error": f"stopped after {timeout:g} s"}
    return Record(cell, **answer, seconds=time.perf_counter() - start)


def stop_all() -> None:
    """End the child processes of this process: after the last cell, and when a run is interrupted."""
    with _guard:
        children = list(_alive)
    for child in children:
        child.stop()


def in_children(reference: str, n_jobs: int, timeout: float | None) -> Execute:
    """Cells on this machine, ``n_jobs`` at a time, each in a process with one thread that can be stopped.

    Threads each watch over a process, and keep its result before they hand it the next cell.
    """

    def execute(cells: Sequence[Cell], keep: Keep) -> Iterator[Record]:
        over = threading.Event()

        def work(cell: Cell) -> Record | None:
            if over.is_set():
                return None
            record = run_contained(reference, timeout, cell)
            # A process that was ended by an interrupt of the run says nothing about its cell.
            return None if over.is_set() else keep(record)

        threads = min(effective_n_jobs(n_jobs), len(cells))
        try:
            yield from Parallel(
                n_jobs=threads, backend="threading", batch_size=1, pre_dispatch=threads, return_as="generator_unordered"
            )(delayed(work)(cell) for cell in cells)
        finally:
            over.set()
            stop_all()

    return execute


def load_reference(reference: str) -> Any:
    """What is at ``module:attribute``."""
    module, _, attribute = reference.partition(":")
    return getattr(import_module(module), attribute)


def _compute(line: str) -> dict[str, Any]:
    from certimetric.base.threads import single_threaded

    task = json.loads(line)

    def compute(cell: Cell) -> Mapping[str, Any]:
        with single_threaded():
            result = dict(load_reference(task["suite"]).run(cell))
        json.dumps(result, allow_nan=False)  # the answer is text
        return result

    record = attempt(compute, Cell(**task["cell"]))
    return {"status": record.status, "result": record.result, "error": record.error}


def _follow(parent: int) -> None:
    """End with the parent, also where it was killed: nobody waits for the answer any more."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _serve(answers: IO[str]) -> None:
    """Cells from stdin, one line each; answers one line each."""
    import signal
    import warnings

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears Ctrl-C and stops this process
    threading.Thread(target=_follow, args=(int(sys.argv[1]),), daemon=True).start()
    warnings.simplefilter("ignore")
    # Imports count as starting, not as a cell. What goes wrong here is told by the first cell.
    with contextlib.suppress(Exception):
        from certimetric.base.allocation import keep_freed_memory
        from certimetric.base.threads import single_threaded

        keep_freed_memory()
        load_reference(sys.argv[2])
        with single_threaded():
            pass
    print(json.dumps({"status": "ready"}), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(_compute(line), allow_nan=False), file=answers, flush=True)


if __name__ == "__main__":
    # What libraries print must not mix with the answers.
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    _serve(channel)
