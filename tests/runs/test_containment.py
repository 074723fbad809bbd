"""Cells in processes of their own: failures stay where they happen, limits hold, nothing finished is lost or redone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from certimetric.runs.containment import in_children
from certimetric.runs.environment import environment
from certimetric.runs.scheduling import run_cells
from certimetric.runs.store import Store, existing

SUITES = str(Path(__file__).parents[1] / "bench")
PATIENCE = 300.0  # seconds: a machine may be busy with other things, and nothing here depends on how fast it is


def run_suite(suite, cells, store, n_jobs=1, timeout=None, retry=False):
    execute = in_children(suite.reference, n_jobs, timeout)
    return run_cells(cells, store, execute, usable=lambda record: record.done or not retry)


def statuses(outcome):
    return [record.status for record in outcome.records]


@pytest.mark.slow
def test_failures_stay_where_they_happen(toy, tmp_path, runs):
    """An error, a figure that JSON cannot hold and the death of the process each cost one cell; the rest is done."""
    cells = toy.make_cells(tmp_path, "ok", "fail", "ok", "die", "nan", "ok")
    with Store(tmp_path / "out", "toys") as store:
        outcome = run_suite(toy.SUITE, cells, store, n_jobs=2)
        assert statuses(outcome) == ["done", "failed", "done", "failed", "failed", "done"]
        assert (outcome.computed, outcome.failed, outcome.reused) == (3, 3, 0)
        assert [record.result["value"] for record in outcome.records if record.result] == [0, 4, 25]
        assert outcome.records[1].error == "ValueError: no such luck"
        assert "exit code 9" in outcome.records[3].error
        assert outcome.records[0].result["threads"] == {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}

        again = run_suite(toy.SUITE, cells, store)
        assert (again.computed, again.failed, again.reused) == (0, 0, 6)
        assert statuses(again) == statuses(outcome)
        assert [runs(split) for split in range(6)] == [1] * 6

        retried = run_suite(toy.SUITE, cells, store, retry=True)
        assert (retried.failed, retried.reused) == (3, 3)
        assert [runs(split) for split in range(6)] == [1, 2, 1, 2, 2, 1]


def test_a_cell_that_takes_too_long_is_really_stopped(toy, tmp_path):
    """Also one that computes without a pause; the worker goes on with the next cell."""
    busy, fine = toy.make_cells(tmp_path, "busy", "ok")
    with Store(tmp_path / "out", "toys") as store:
        outcome = run_suite(toy.SUITE, [busy], store, timeout=1.0)
        assert statuses(outcome) == ["timeout"]
        assert outcome.records[0].error == "stopped after 1 s"
        assert statuses(run_suite(toy.SUITE, [busy, fine], store, timeout=PATIENCE)) == ["timeout", "done"]
    started = tmp_path / "0.runs"
    for worker in started.read_text().split() if started.exists() else ():
        with pytest.raises(ProcessLookupError):
            os.kill(int(worker), 0)


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import toy_suite
from certimetric.runs.containment import in_children
from certimetric.runs.scheduling import run_cells
from certimetric.runs.store import Store
folder = Path(sys.argv[2])
cells = toy_suite.make_cells(folder, *["ok"] * 8, seconds=0.2)
with Store(folder / "out", "toys") as store:
    print(run_cells(cells, store, in_children(toy_suite.SUITE.reference, 2, None)).computed)
"""


@pytest.mark.slow
def test_kill_loses_running_cells_only(tmp_path, runs):
    """kill -9 of the run: what was finished is there, a second run does the rest, and no worker lives on."""
    command = [sys.executable, "-c", SCRIPT, SUITES, str(tmp_path)]
    first = subprocess.Popen(command)
    started = time.monotonic()
    while sum(runs(split) for split in range(8)) < 4:
        assert first.poll() is None and time.monotonic() - started < PATIENCE
        time.sleep(0.02)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    with existing(tmp_path / "out", "toys") as store:
        kept = [record.cell.split for record in store.records().values()]
    tried = [split for split in range(8) if runs(split)]
    assert len(tried) - len(kept) <= 2
    assert len(kept) >= 2

    second = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(second.stdout) == 8 - len(kept)
    assert all(runs(split) == 1 for split in kept)
    with existing(tmp_path / "out", "toys") as store:
        assert len(store.records()) == 8
        assert all(record.status == "done" for record in store.records().values())
    workers = {int(line) for file in tmp_path.glob("*.runs") for line in file.read_text().splitlines()}
    deadline = time.monotonic() + PATIENCE
    while alive := [worker for worker in workers if Path(f"/proc/{worker}").exists()]:
        assert time.monotonic() < deadline, f"workers live on: {alive}"
        time.sleep(0.1)


@pytest.mark.slow
def test_interrupt_ends_at_once_and_blames_no_cell(tmp_path, runs):
    """Ctrl-C while cells run: the run ends without waiting for them, and they are as if never begun."""
    # Where the tests run in the background, SIGINT is ignored, and a process inherits that.
    script = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)"
    script += SCRIPT.replace('["ok"] * 8, seconds=0.2', '["busy"] * 4')
    run = subprocess.Popen([sys.executable, "-c", script, SUITES, str(tmp_path)], stderr=-3)
    try:
        started = time.monotonic()
        while sum(runs(split) for split in range(4)) < 2:
            assert run.poll() is None and time.monotonic() - started < PATIENCE
            time.sleep(0.02)
        run.send_signal(signal.SIGINT)
        assert run.wait(timeout=PATIENCE) != 0
    finally:
        run.kill()
    with existing(tmp_path / "out", "toys") as store:
        assert store.records() == {}


def test_environment_tells_versions_and_machine():
    told = environment()
    assert {"certimetric", "numpy", "scikit-learn"} <= set(told["versions"])
    assert told["machine"]["cpu_count"] == os.cpu_count()
    assert told["commit"] is None or len(told["commit"].rstrip("+")) == 40
