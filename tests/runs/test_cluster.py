"""Cells on a Dask cluster: a lost worker costs nothing, and what would go wrong is told before."""

from __future__ import annotations

import os
import signal
from functools import partial

import pytest

from certimetric.runs import cluster
from certimetric.runs.cluster import on_dask
from certimetric.runs.containment import run_contained
from certimetric.runs.scheduling import run_cells
from certimetric.runs.store import Store

distributed = pytest.importorskip("distributed")
PATIENCE = 300.0  # seconds


@pytest.mark.slow  # starts processes
def test_dask_cluster_that_loses_a_worker(toy, tmp_path):
    """The same cells through a cluster of two processes, one of which is killed midway: all are done."""
    cells = toy.make_cells(tmp_path, *["ok"] * 7, "fail", seconds=0.3)
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": ":0"}
    with distributed.LocalCluster(**options) as local, Store(tmp_path / "out", "toys") as store:
        victim = next(iter(local.workers.values())).process.pid  # the process under the nanny
        killed = []

        class Watch(Store):
            """Kills a worker as soon as two cells are kept."""

            def add(self, record):
                super().add(record)
                if len(self.records()) == 2 and not killed:
                    killed.append(victim)
                    os.kill(victim, signal.SIGKILL)

        store.__class__ = Watch
        outcome = run_cells(
            cells, store, on_dask(partial(run_contained, toy.SUITE.reference, PATIENCE), local.scheduler_address)
        )
        assert killed
        assert [record.status for record in outcome.records] == ["done"] * 7 + ["failed"]
        assert [record.result["value"] for record in outcome.records[:7]] == [i * i for i in range(7)]
        assert len(store.records()) == 8


def test_no_scheduler_is_one_sentence(monkeypatch):
    monkeypatch.setattr(cluster, "CONNECT_TIMEOUT", 0.5)
    with pytest.raises(ConnectionError, match="no Dask scheduler answers at 'tcp://127"):
        cluster.connect("tcp://127.0.0.1:9")


class Workers:
    """A client of workers that answer so much when they are asked for their versions."""

    def __init__(self, *answers):
        self.answers = answers

    def wait_for_workers(self, number, timeout):
        if len(self.answers) < number:
            raise TimeoutError

    def run(self, function, on_error):
        return {f"tcp://worker:{i}": answer for i, answer in enumerate(self.answers)}


def test_workers_that_would_give_other_figures_are_refused():
    own = cluster.versions_there()
    cluster.check_workers(Workers(own, {**own, "torch": "0.1"}), "tcp://here")
    with pytest.raises(ValueError, match=rf"worker tcp://worker:1 has numpy 1\.0, and here is {own['numpy']}"):
        cluster.check_workers(Workers(own, {**own, "numpy": "1.0"}), "tcp://here")
    with pytest.raises(
        ImportError, match="worker tcp://worker:0 cannot run certimetric: No module named 'certimetric'"
    ):
        cluster.check_workers(Workers(ModuleNotFoundError("No module named 'certimetric'")), "tcp://here")
    with pytest.raises(ConnectionError, match="the Dask scheduler at 'tcp://here' has no workers"):
        cluster.check_workers(Workers(), "tcp://here")
