"""A run: what is in the store is reused, the rest is computed in parallel, and each result is kept as it comes."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from joblib import Parallel, delayed, effective_n_jobs, parallel_config

from certimetric.base.interrupts import is_interrupt
from certimetric.runs.key import Cell, Record
from certimetric.runs.progress import progress_bar
from certimetric.runs.store import Store, pack

Compute = Callable[[Cell], Mapping[str, Any]]
Keep = Callable[[Record], Record]
# Computes cells, each in whatever way, and gives their records as they come, each after it was kept.
Execute = Callable[[Sequence[Cell], Keep], Iterator[Record]]


@dataclass
class Counts:
    """How many cells were computed well now, taken from the store, and failed or stopped now."""

    computed: int = 0
    reused: int = 0
    failed: int = 0

    @property
    def counts(self) -> dict[str, int]:
        """The three as audits tell them."""
        return {"computed": self.computed, "reused": self.reused, "failed": self.failed}


@dataclass
class Outcome(Counts):
    """How a run went: the records of all cells of the plan, in its order, from this run and from earlier ones."""

    records: list[Record] = field(default_factory=list)


def run_cells(
    cells: Sequence[Cell],
    store: Store,
    execute: Execute,
    *,
    usable: Callable[[Record], bool] = lambda record: True,
    progress: bool = False,
    name: str = "audit",
) -> Outcome:
    """Run the cells that the store does not have, with their progress on stderr, if wanted, behind a ``name``.

    ``execute`` says how cells are computed: here with :func:`in_workers`, or as :mod:`certimetric.runs.containment`
    does it. ``usable`` says whether a record of an earlier run stands, or its cell is run again; by default each
    stands, failures too.
    """
    kept = {key: record for key, record in store.records(cell.key for cell in cells).items() if usable(record)}
    waiting = [cell for cell in cells if cell.key not in kept]
    outcome = Outcome(reused=len(cells) - len(waiting))

    def keep(record: Record) -> Record:
        store.add(record)
        return record

    with progress_bar(progress, len(cells), outcome.reused, name=name) as advance:
        for record in execute(waiting, keep) if waiting else ():
            kept[record.cell.key] = record
            outcome.computed += record.done
            outcome.failed += not record.done
            advance(not record.done)
    outcome.records = [kept[cell.key] for cell in cells]
    return outcome


class InTurn(Counts):
    """Cells of a run that computes one after the other in this process, where an error ends the run."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self.store = store

    def result(self, cell: Cell, compute: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """What was computed before, or is computed now and kept."""
        record = self.store.get(cell)
        if record is not None and record.result is not None:
            self.reused += 1
            return dict(record.result)
        start = time.perf_counter()
        found = dict(compute())
        self.store.add(Record(cell, "done", found, "", time.perf_counter() - start))
        self.computed += 1
        return found


def attempt(compute: Compute, cell: Cell) -> Record:
    """Run one cell; what goes wrong in it is a result too, so that the others go on."""
    start = time.perf_counter()
    try:
        result = dict(compute(cell))
        pack(result)  # what cannot be kept is the failure of its cell
    except Exception as error:
        if is_interrupt(error):
            raise KeyboardInterrupt from error
        return failure(cell, error, time.perf_counter() - start)
    return Record(cell, "done", result, "", time.perf_counter() - start)


def failure(cell: Cell, error: object, seconds: float = 0.0) -> Record:
    """The record of a cell that raised."""
    return Record(cell, "failed", None, f"{type(error).__name__}: {' '.join(str(error).split())}"[:500], seconds)


def in_workers(compute: Compute, n_jobs: int) -> Execute:
    """Cells of any function that can be pickled: in worker processes with one thread each, or here if one is enough."""

    def execute(cells: Sequence[Cell], keep: Keep) -> Iterator[Record]:
        processes = min(effective_n_jobs(n_jobs), len(cells))
        if processes == 1:
            for cell in cells:
                yield keep(attempt(compute, cell))
            return
        left = {cell.key: cell for cell in cells}
        try:
            # One thread in each worker, for the cores are used by the cells. Workers do not hear Ctrl-C: this process
            # does, and ends them without a traceback from each.
            quiet = {"initializer": signal.signal, "initargs": (signal.SIGINT, signal.SIG_IGN)}
            with parallel_config(backend="loky", inner_max_num_threads=1, **quiet):
                parallel = Parallel(n_jobs=processes, return_as="generator_unordered", batch_size=1)
                for record in parallel(delayed(attempt)(compute, cell) for cell in cells):
                    del left[record.cell.key]
                    yield keep(record)
        except RuntimeError as error:  # a worker was killed, mostly for memory: joblib cannot say which cell it had
            told = f"a worker process ended ({type(error).__name__}), out of memory perhaps"
            for cell in left.values():
                yield keep(Record(cell, "failed", None, told, 0.0))

    return execute
