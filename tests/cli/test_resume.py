"""A run that is killed or interrupted goes on from what is on disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

COMMAND = [sys.executable, "-c", "import sys; from certimetric.cli import main; sys.exit(main())"]
# Slow enough to be stopped half-way, quick enough for a test.
REPEATS = 5
AUDIT = ["audit", "wine", "--learner", "lmnn+pl", "--repeats", str(REPEATS), "--out", "out"]


def stopped(tmp_path, jobs, how, kept):
    """Start an audit, stop it once two cells are there, give what it had finished and said."""
    process = subprocess.Popen(
        [*COMMAND, *AUDIT, "--jobs", str(jobs)],
        cwd=tmp_path,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that runs tests in the background has its children ignore interrupts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        for _ in range(6000):  # as long as it takes on a busy machine
            if len(cells(kept, tmp_path)) >= 2 or process.poll() is not None:
                break
            time.sleep(0.05)
    finally:
        os.killpg(process.pid, how)
    out, err = process.communicate(timeout=60)
    return cells(kept, tmp_path), process.returncode, out + err


def cells(kept, tmp_path):
    """Cells of the audit that are in the store, but for evidence."""
    return {key: row for key, row in kept(tmp_path / "out").items() if row[0] == "audit"}


def resumed(run, tmp_path, before, kept):
    assert 2 <= len(before) < REPEATS
    done = run(*AUDIT)
    assert done.code == 0, done.err
    assert f"{REPEATS - len(before)} cells computed, {len(before)} reused" in done.out
    after = cells(kept, tmp_path)
    assert len(after) == REPEATS
    assert before.items() <= after.items()
    assert (tmp_path / "out" / "report.html").exists()


@pytest.mark.slow
def test_a_killed_run_resumes(run, tmp_path, kept):
    before, code, _ = stopped(tmp_path, 2, signal.SIGKILL, kept)
    assert code == -signal.SIGKILL
    resumed(run, tmp_path, before, kept)


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_an_interrupted_run_says_how_to_go_on(run, tmp_path, jobs, kept):
    before, code, said = stopped(tmp_path, jobs, signal.SIGINT, kept)
    assert code == 130
    assert "run the same command to go on" in said
    assert "Traceback" not in said
    resumed(run, tmp_path, before, kept)


@pytest.mark.slow
def test_a_folder_begun_by_an_earlier_version_is_said_to_be_computed_anew(run, tmp_path):
    kept = tmp_path / "out" / "cells" / "ab12.json"
    kept.parent.mkdir(parents=True)
    kept.write_text("{}")
    asked = ["audit", "iris", "--learner", "euclidean", "--repeats", "1", "--out", str(tmp_path / "out")]
    first = run(*asked)
    assert first.code == 0 and "1 cells computed, 0 reused" in first.out
    assert "earlier version of certimetric kept" in first.err
    assert first.err.count("\n") == 1 and kept.read_text() == "{}"
    again = run(*asked)
    assert again.err == "" and "0 cells computed, 1 reused" in again.out
