"""What the store has is not computed again, what fails costs its own cell, and what was finished is always kept."""

from __future__ import annotations

import os
from functools import partial

import numpy as np
import pytest

from certimetric.runs.key import Cell
from certimetric.runs.scheduling import InTurn, in_workers, run_cells
from certimetric.runs.store import Store, existing

CELLS = [Cell("toy", "none", "0", "none", "euclidean", split, 0, "1") for split in range(4)]


def compute(bad, cell):
    """The square of the split; where it is bad, something else."""
    if cell.split == bad.get("raises"):
        raise ValueError("no such\nluck")
    if cell.split == bad.get("dies"):
        os._exit(9)
    if cell.split == bad.get("interrupted"):
        raise SystemError("a kernel gave up") from KeyboardInterrupt()
    return {"value": float("nan") if cell.split == bad.get("nan") else cell.split**2, "row": np.arange(cell.split)}


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_failures_are_named_and_tried_again(tmp_path, n_jobs):
    with Store(tmp_path, "toys") as store:
        first = run_cells(CELLS, store, in_workers(partial(compute, {"raises": 1, "nan": 2}), n_jobs))
        assert first.counts == {"computed": 2, "reused": 0, "failed": 2}
        assert [record.status for record in first.records] == ["done", "failed", "failed", "done"]
        assert first.records[1].error == "ValueError: no such luck"
        assert "not JSON compliant" in first.records[2].error
    with existing(tmp_path, "toys") as store:
        execute = in_workers(partial(compute, {}), n_jobs)
        stands = run_cells(CELLS, store, execute)
        assert stands.counts == {"computed": 0, "reused": 4, "failed": 0}
        again = run_cells(CELLS, store, execute, usable=lambda record: record.done)
        assert again.counts == {"computed": 2, "reused": 2, "failed": 0}
        assert [(record.result["value"], len(record.result["row"])) for record in again.records] == [
            (split**2, split) for split in range(4)
        ]


def test_the_death_of_a_worker_ends_no_run(tmp_path):
    with Store(tmp_path, "toys") as store:
        outcome = run_cells(CELLS, store, in_workers(partial(compute, {"dies": 0}), 2))
        assert not outcome.records[0].done
        assert "a worker process ended" in outcome.records[0].error
        again = run_cells(CELLS, store, in_workers(partial(compute, {}), 2), usable=lambda record: record.done)
        assert again.failed == 0 and again.computed == outcome.failed


def test_an_interrupt_is_no_failure_and_loses_nothing(tmp_path):
    with Store(tmp_path, "toys") as store, pytest.raises(KeyboardInterrupt):
        run_cells(CELLS, store, in_workers(partial(compute, {"interrupted": 2}), 1))
    with existing(tmp_path, "toys") as store:
        assert [record.cell.split for record in store.records().values()] == [0, 1]


def test_a_cell_is_finished_only_once_it_is_kept():
    """The disk is full when the second is to be kept: it counts as never run, and the run ends."""

    class Full(Store):
        def add(self, record):
            if record.cell.split == 1:
                raise OSError("the disk is full")
            super().add(record)

    with Full(None, "toys") as store:
        with pytest.raises(OSError, match="the disk is full"):
            run_cells(CELLS, store, in_workers(partial(compute, {}), 1))
        assert [record.cell.split for record in store.records().values()] == [0]


def test_one_after_the_other():
    with Store(None, "toys") as store:
        run = InTurn(store)
        found = [run.result(cell, partial(compute, {}, cell))["value"] for cell in (CELLS[2], CELLS[3], CELLS[2])]
        assert found == [4, 9, 4]
        assert run.counts == {"computed": 2, "reused": 1, "failed": 0}
        with pytest.raises(ValueError, match="no such"):
            run.result(CELLS[1], partial(compute, {"raises": 1}, CELLS[1]))
        assert store.get(CELLS[1]) is None
