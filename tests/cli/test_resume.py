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
REPEATS = 8
AUDIT = ["audit", "wine", "--learner", "lmnn+pl", "--repeats", str(REPEATS), "--out", "out"]


def stopped(tmp_path, jobs, how):
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
            if len(list((tmp_path / "out" / "cells").glob("*.json"))) >= 2 or process.poll() is not None:
                break
            time.sleep(0.05)
    finally:
        os.killpg(process.pid, how)
    out, err = process.communicate(timeout=60)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "cells").glob("*.json")}
    return kept, process.returncode, out + err


def resumed(run, tmp_path, kept):
    assert 2 <= len(kept) < REPEATS
    done = run(*AUDIT)
    assert done.code == 0, done.err
    assert f"{REPEATS - len(kept)} cells computed, {len(kept)} reused" in done.out
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    cells = [path for path in (tmp_path / "out" / "cells").glob("*.json") if "evidence" not in path.name]
    assert len(cells) == REPEATS
    assert (tmp_path / "out" / "report.html").exists()


def test_a_killed_run_resumes(run, tmp_path):
    kept, code, _ = stopped(tmp_path, 2, signal.SIGKILL)
    assert code == -signal.SIGKILL
    resumed(run, tmp_path, kept)


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_an_interrupted_run_says_how_to_go_on(run, tmp_path, jobs):
    kept, code, said = stopped(tmp_path, jobs, signal.SIGINT)
    assert code == 130
    assert "run the same command to go on" in said
    assert "Traceback" not in said
    resumed(run, tmp_path, kept)
