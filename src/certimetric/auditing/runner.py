"""Schedule of an audit: what is on disk is reused, the rest runs in parallel, each result is kept as it comes."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from joblib import Parallel, delayed, effective_n_jobs, parallel_config

from certimetric.auditing.tables.cells import cell_key, compute_cell, read_cell
from certimetric.auditing.tables.evidence import compute_evidence, evidence_key, read_evidence
from certimetric.auditing.tables.request import Request
from certimetric.base.interrupts import is_interrupt
from certimetric.runs.progress import progress_bar

Result = dict[str, Any]
Task = tuple[Callable[..., Result], tuple[Any, ...]]


@dataclass
class Findings:
    """What the work gave.

    Parameters
    ----------
    cells : list of list of dict
        For each learner, one cell for each split; a cell that failed is ``{"split": …, "failed": …}``.
    evidence : list of dict or None
        For each learner; ``{"failed": …}`` where it failed, None where there was no fitted metric.
    computed, reused, failed : int
        Numbers of cells.
    """

    cells: list[list[Result]]
    evidence: list[Result | None]
    computed: int = 0
    reused: int = 0
    failed: int = 0


def prepare_folder(out: Path, *parts: str) -> None:
    """Make the folder of an audit with its parts, and see that files can be written there.

    Raises
    ------
    OSError
        If not.
    """
    try:
        for folder in (out, *(out / part for part in parts)):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
    except OSError as error:
        raise OSError(f"out: cannot write to the folder {str(out)!r}: {error.strerror or error}") from None


def run_cells(request: Request, out: Path | None, *, progress: bool = False) -> Findings:
    """Compute every (learner, split) cell that is not on disk, then the evidence about each learner."""
    data_hash = request.data.sha256()
    subjects, repeats = request.subjects, range(request.repeats)
    keys = [[cell_key(request, data_hash, subject, split) for split in repeats] for subject in subjects]
    found = Findings([[{} for _ in repeats] for _ in subjects], [None] * len(subjects))
    waiting = []
    # Split by split, so that every learner has figures early.
    for split in repeats:
        for i, subject in enumerate(subjects):
            kept = None if out is None else read_cell(out, subject, split, keys[i][split])
            if kept is None:
                waiting.append((i, split))
            else:
                found.cells[i][split] = kept
    found.reused = request.repeats * len(subjects) - len(waiting)

    with progress_bar(progress, request.repeats * len(subjects) + len(subjects), found.reused) as advance:
        tasks: list[Task] = [(compute_cell, (request, subjects[i], split, keys[i][split], out)) for i, split in waiting]
        for position, result in _run(tasks, request.n_jobs):
            i, split = waiting[position]
            if "failed" in result:
                result = {"split": split, **result}
                found.failed += 1
            else:
                found.computed += 1
            found.cells[i][split] = result
            advance("failed" in result)

        pending: list[int] = []
        tasks = []
        for i in range(len(subjects)):
            cell = next((cell for cell in found.cells[i] if "failed" not in cell), None)
            if cell is None:
                advance(True)
                continue
            key = evidence_key(request, keys[i][cell["split"]])
            found.evidence[i] = None if out is None else read_evidence(out, key)
            if found.evidence[i] is None:
                pending.append(i)
                tasks.append((compute_evidence, (request, cell, key, out)))
            else:
                advance(False)
        for position, result in _run(tasks, request.n_jobs):
            found.evidence[pending[position]] = result
            advance("failed" in result)
    return found


def _run(tasks: list[Task], n_jobs: int) -> Iterator[tuple[int, Result]]:
    """Results as they come, each with the position of its task."""
    if not tasks:
        return
    n_jobs = min(effective_n_jobs(n_jobs), len(tasks))
    left = set(range(len(tasks)))
    if n_jobs == 1:
        for position, (function, arguments) in enumerate(tasks):
            yield _guarded(position, function, arguments)
        return
    try:
        # One thread in each worker, for the cores are used by the cells. Workers do not hear Ctrl-C: this process does,
        # and ends them without a traceback from each.
        quiet = {"initializer": signal.signal, "initargs": (signal.SIGINT, signal.SIG_IGN)}
        with parallel_config(backend="loky", inner_max_num_threads=1, **quiet):
            parallel = Parallel(n_jobs=n_jobs, return_as="generator_unordered", batch_size=1)
            for position, result in parallel(delayed(_guarded)(p, *task) for p, task in enumerate(tasks)):
                left.discard(position)
                yield position, result
    except RuntimeError as error:  # a worker was killed, mostly for memory: joblib cannot say which cell it had
        for position in sorted(left):
            yield position, {"failed": f"a worker process ended ({type(error).__name__}), out of memory perhaps"}


def _guarded(position: int, function: Callable[..., Result], arguments: tuple[Any, ...]) -> tuple[int, Result]:
    """One task; what goes wrong in it is a result too, so that the others go on."""
    try:
        return position, function(*arguments)
    except Exception as error:
        if is_interrupt(error):
            raise KeyboardInterrupt from error
        message = " ".join(str(error).split())
        return position, {"failed": f"{type(error).__name__}: {message}"[:500]}
