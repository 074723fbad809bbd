"""What an audit of a table finds: cells and evidence that are in the store already, and the rest computed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from certimetric.auditing.tables.cells import METRICS, audit_cell, compute_cell, is_whole
from certimetric.auditing.tables.evidence import compute_evidence, evidence_cell
from certimetric.auditing.tables.request import Request
from certimetric.runs.key import Record
from certimetric.runs.scheduling import in_workers, run_cells
from certimetric.runs.store import Store, prepare_folder

Result = dict[str, Any]


@dataclass
class Findings:
    """What the work gave.

    Parameters
    ----------
    cells : list of list of dict
        For each learner, one cell for each split; a cell that failed is ``{"split": …, "failed": …}``.
    evidence : list of dict or None
        For each learner; ``{"failed": …}`` where it failed, None where there was no fitted metric.
    counts : dict
        How many cells were ``computed``, ``reused`` and ``failed``.
    """

    cells: list[list[Result]]
    evidence: list[Result | None]
    counts: dict[str, int]


def find(request: Request, store: Store, *, progress: bool = False) -> Findings:
    """Compute every (learner, split) cell that is not in the store, then the evidence about each learner."""
    if store.folder is not None:
        prepare_folder(store.folder / METRICS)
    digest, n = request.data.sha256(), len(request.subjects)
    # Split by split, so that every learner has figures early.
    cells = [audit_cell(request, digest, subject, i) for i in range(request.repeats) for subject in request.subjects]
    compute = partial(compute_cell, request, store.folder)
    outcome = run_cells(
        cells,
        store,
        in_workers(compute, request.n_jobs),
        usable=lambda record: is_whole(record, store.folder),  # what failed is tried again
        progress=progress,
    )
    fitted: dict[str, Record] = {}
    for record in outcome.records:
        if record.done:
            fitted.setdefault(record.cell.learner, record)
    components = {spec: record.result["components"] for spec, record in fitted.items() if record.result}
    evidence = run_cells(
        [evidence_cell(request, record.cell) for record in fitted.values()],
        store,
        in_workers(partial(compute_evidence, request, components), request.n_jobs),
        usable=lambda record: record.done,
        progress=progress,
        name="attacks",
    )
    examined = {record.cell.learner: _told(record) for record in evidence.records}
    return Findings(
        [[_told(record) for record in outcome.records[i::n]] for i in range(n)],
        [examined.get(subject.spec) for subject in request.subjects],
        outcome.counts,
    )


def _told(record: Record) -> Result:
    return {"split": record.cell.split, "failed": record.error} if record.result is None else dict(record.result)
