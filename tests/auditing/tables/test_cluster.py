"""Audits on a Dask cluster: the figures of this machine, whatever happens to its workers."""

import os
import signal
import time

import numpy as np
import pytest

from certimetric import audit
from certimetric.runs.cluster import count_workers
from certimetric.runs.store import Store

distributed = pytest.importorskip("distributed")


@pytest.mark.usefixtures("light_attacks", "undrawn")
def test_figures_and_files_are_those_of_this_machine(tmp_path, figures):
    rng = np.random.default_rng(0)
    y = np.arange(40) % 2
    X = rng.standard_normal((40, 2)) + 3 * y[:, None]
    options = {"learners": ["euclidean"], "repeats": 1, "test_size": 0.2}
    wanted = audit(X, y, **options, out=tmp_path / "here")
    local = {"n_workers": 1, "threads_per_worker": 2, "processes": False, "protocol": "tcp", "dashboard_address": None}
    with distributed.LocalCluster(**local) as cluster:
        found = audit(X, y, **options, out=tmp_path / "there", dask=cluster.scheduler_address)
        assert count_workers(cluster.scheduler_address) == 1
    assert figures(found.document) == figures(wanted.document)
    assert found.document["reproduction"]["cells"] == {"computed": 1, "reused": 0, "failed": 0}
    files = [sorted(path.name for path in (tmp_path / where / "metrics").iterdir()) for where in ("here", "there")]
    assert files[0] == files[1] and files[0]
    again = audit(X, y, **options, out=tmp_path / "there")  # the cells are whole, and no cluster is asked for
    assert again.document["reproduction"]["cells"]["reused"] == 1


@pytest.mark.slow  # starts processes, in which attacks are not light
@pytest.mark.usefixtures("undrawn")
def test_a_cluster_that_loses_a_worker(iris, tmp_path, monkeypatch, figures):
    X, y = iris.X, iris.y
    options = {"learners": ["euclidean", "lmnn"], "repeats": 3}
    wanted = audit(X, y, **options)
    local = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(**local) as cluster:
        victim, killed = next(iter(cluster.workers.values())).process.pid, []
        add = Store.add

        def watched(store, record):
            add(store, record)
            if not killed:
                killed.append(time.time())
                os.kill(victim, signal.SIGKILL)

        monkeypatch.setattr(Store, "add", watched)
        found = audit(X, y, **options, out=tmp_path, dask=cluster.scheduler_address)
    assert killed
    assert found.document["reproduction"]["cells"] == {"computed": 6, "reused": 0, "failed": 0}
    assert figures(found.document) == figures(wanted.document)
