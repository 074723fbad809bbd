"""Shared by all tests: real tables at hand, and the folder of further data, if there is one."""

import copy
import importlib
import json
import os
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_iris, load_wine


def standardised(X):
    return (X - X.mean(axis=0)) / X.std(axis=0)


@pytest.fixture(scope="session")
def wine():
    X, y = load_wine(return_X_y=True)
    return standardised(X), y


@pytest.fixture(scope="session")
def iris():
    X, y = load_iris(return_X_y=True)
    return standardised(X), y


@pytest.fixture(autouse=True)
def unhurried(monkeypatch):
    """What commands in this process say does not depend on how long they take: lines of progress never come."""
    monkeypatch.setattr("certimetric.runs.progress.EVERY", 1e6)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def real_data():
    """Folder of real data sets that are not bundled; skips visibly without it."""
    folder = os.environ.get("CERTIMETRIC_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("CERTIMETRIC_DATA names no folder with further data sets")
    return Path(folder)


@pytest.fixture
def light_attacks(monkeypatch):
    """Audits in this process attack with few steps, for tests that look at something else than what attacks find."""
    from certimetric.attacks import RegionAttack, SmoothedVoteAttack

    light = (RegionAttack(n_opponents=1), SmoothedVoteAttack(steps=5, restarts=1))
    monkeypatch.setattr("certimetric.auditing.tables.robustness.ATTACKS", light)


@pytest.fixture
def light_search(monkeypatch):
    """Audits of embedding models in this process search at random with fifty queries in place of a thousand."""
    from certimetric.deep import SquareAttack

    monkeypatch.setattr(SquareAttack, "in_audits", {"queries": 50})


@pytest.fixture
def undrawn(monkeypatch):
    """Pages of audits in this process are their document as it is, for tests that look at something else."""
    from certimetric.auditing import AuditResult

    monkeypatch.setattr(AuditResult, "to_html", lambda self, *, title=None: f"<title>{title}</title>{self.to_json()}")


@pytest.fixture
def cluster():
    """A Dask cluster of two worker processes on this machine, as the scheduler of what is computed meanwhile."""
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(**options) as local, distributed.Client(local) as client:
        yield client


@pytest.fixture
def fatal_rows(tmp_path):
    """Makes of rows a Dask array whose worker dies, the first one that gets those in the middle; and whether it did."""
    import dask.array as da

    died = tmp_path / "died"

    def die_once(block):
        if len(block) and block[0, 0] > 0 and not os.path.exists(died):
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return block

    def make(X, rows):
        lazy = da.from_array(X, chunks=(rows, X.shape[1]))
        return lazy.map_blocks(die_once, dtype=float, meta=np.empty((0, X.shape[1]))), died.exists

    return make


def without_time(document):
    """The figures of an audit document that a repeated run must give again."""
    document = copy.deepcopy(document)
    document.pop("reproduction")
    for learner in document["learners"]:
        if learner["summary"]:
            learner["summary"].pop("fit_seconds")
        for split in learner["splits"]:
            split.pop("fit_seconds", None)
    return document


@pytest.fixture(scope="session")
def figures():
    return without_time


@pytest.fixture
def toy(monkeypatch):
    """The module with the toy suite, importable by this process and by workers."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "bench"))
    return importlib.import_module("toy_suite")


@pytest.fixture
def runs(tmp_path):
    """How often a cell of the toy suite was run."""

    def count(split):
        file = tmp_path / f"{split}.runs"
        return len(file.read_text().splitlines()) if file.exists() else 0

    return count


def rows_of(folder):
    if not (folder / "results.sqlite").exists():
        return {}
    with closing(sqlite3.connect(folder / "results.sqlite", timeout=60)) as database:
        if not database.execute("SELECT * FROM sqlite_master WHERE name = 'cells'").fetchall():
            return {}  # the run has just begun
        found = database.execute("SELECT key, cell, finished, sha256, rowid FROM cells WHERE status = 'done'")
        return {key: (json.loads(cell)["suite"], *row) for key, cell, *row in found}


@pytest.fixture
def kept():
    """What of the finished cells the store in a folder holds: by key, suite first, and when each was finished."""
    return rows_of
