"""A suite whose cells do what they are told, for the tests of the runner; workers import it by its name."""

from __future__ import annotations

import os
import time
from pathlib import Path

from certimetric.bench.datasets import IRIS
from certimetric.bench.suites.base import Suite
from certimetric.runs.key import Cell


class ToySuite(Suite):
    name = "toy"
    title = "Toy <suite>"
    about = "Cells that do what they are told."
    needs = "nothing"
    minutes = 0.1
    splits = 4
    folder = "."
    words = ("ok",) * 10
    datasets = (IRIS,)

    def cells(self, data, *, seed, splits):
        return make_cells(self.folder, *self.words[:splits])

    def run(self, cell):
        """Leave a trace of the run, then do as told."""
        what, folder = cell.parameters["do"], Path(cell.parameters["folder"])
        with open(folder / f"{cell.split}.runs", "a") as file:
            file.write(f"{os.getpid()}\n")
        print("what a library prints must not disturb the answers")
        if what == "fail":
            raise ValueError("no such\nluck")
        if what == "nan":
            return {"value": float("nan")}
        if what == "die":
            os._exit(9)
        if what == "busy":
            while True:  # deaf to signals that only interrupt a wait
                sum(range(10**6))
        time.sleep(float(cell.parameters.get("seconds", 0.0)))
        threads = {name: os.environ[name] for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")}
        return {"value": cell.split**2, "threads": threads}

    def describe(self, records):
        from certimetric.bench.tables import Table

        done = [record for record in records if record.status == "done"]
        rows = [[str(record.cell.split), str(record.result["value"])] for record in done]
        tables = [Table("values", "Values", ["split", "value"], rows)]
        return {"summary": [f"{len(done)} values."], "tables": tables, "figures": [], "learners": []}


def make_cells(folder, *what, seconds=0.0):
    """One cell for each word."""
    return [
        Cell("toy", "none", "0", "none", "euclidean", i, 0, "1", {"do": do, "folder": str(folder), "seconds": seconds})
        for i, do in enumerate(what)
    ]


SUITE = ToySuite()
