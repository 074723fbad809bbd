"""``certimetric bench``: the plan of a suite, its run, and all that is written of it."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from certimetric.base.files import write_atomically
from certimetric.bench.datasets import find_datasets
from certimetric.bench.suites import find_suite
from certimetric.bench.suites.base import Suite
from certimetric.bench.tables import Table
from certimetric.datasets.data_root import data_root
from certimetric.report.bench.page import bench_svgs, render_bench
from certimetric.report.document import BENCH_SCHEMA
from certimetric.runs.cluster import count_workers, on_dask
from certimetric.runs.containment import in_children, run_contained
from certimetric.runs.key import Record
from certimetric.runs.scheduling import Outcome, run_cells
from certimetric.runs.store import FILE, Store, claimed, existing

KIND = "a benchmark"


@dataclass(frozen=True)
class Asked:
    """What was asked for, checked before work starts; the default of ``data_root`` is that of ``CERTIMETRIC_DATA``."""

    suite: str
    out: Path
    data_root: Path | None = None
    n_jobs: int = 2
    dask: str | None = None
    timeout: float | None = None
    splits: int | None = None
    seed: int = 0
    resume: bool = False
    retry: bool = False

    def check(self) -> Suite:
        """The suite, if all is well; else a ValueError or an OSError that names the option."""
        suite = find_suite(self.suite)
        if self.n_jobs == 0 or self.n_jobs < -1:
            raise ValueError(f"--jobs must be a number of processes, or -1 for one per core, got {self.n_jobs}")
        if self.timeout is not None and not self.timeout > 0:
            raise ValueError(f"--timeout must be a positive number of seconds, got {self.timeout:g}")
        if self.splits is not None and self.splits < 1:
            raise ValueError(f"--splits must be at least 1, got {self.splits}")
        if self.seed < 0:
            raise ValueError(f"--seed must be at least 0, got {self.seed}")
        if self.retry and not self.resume:
            raise ValueError("--retry runs failed cells of earlier runs again: it needs --resume")
        if self.out.exists() and not self.out.is_dir():
            raise OSError(f"--out: {str(self.out)!r} is a file, not a folder")
        has_results = (self.out / FILE).exists()
        if has_results and not self.resume:
            raise FileExistsError(f"{str(self.out)!r} holds results already: add --resume, or choose another --out")
        if has_results:
            with existing(self.out, KIND) as store:
                if (other := store.about("suite")) not in (None, suite.name):
                    raise ValueError(f"{str(self.out)!r} holds results of the suite {other!r}: choose another --out")
        return suite


def run_benchmark(
    asked: Asked, *, command: str = "", progress: bool = False, say: Callable[[str], None] = lambda text: None
) -> tuple[Outcome, dict[str, str]]:
    """Run a suite and write its tables, plots and report; the data sets that were not at hand come with the reason.

    ``command`` is told in the report, as it was typed; ``say`` is told what is about to happen.
    """
    suite = asked.check()
    root = asked.data_root or data_root()
    found, missing = find_datasets(suite.datasets, root)
    further, _ = find_datasets(suite.further, root, network=False)
    found += further
    if not found:
        raise FileNotFoundError(f"no data set of the suite {suite.name!r} is at hand: name their folder by --data-root")
    cells = suite.cells(found, seed=asked.seed, splits=asked.splits or suite.splits)
    say(f"{suite.name}: {len(cells)} cells, {len(found)} data sets" + (f", {len(missing)} missing" if missing else ""))
    if asked.dask is not None:
        count_workers(asked.dask)  # a cluster that does not answer is told before there is a folder
    with claimed(asked.out, KIND) as store:
        store.tell("suite", suite.name)
        store.tell("plan", {"keys": [cell.key for cell in cells], "missing": missing, "command": command})
        if asked.dask is None:
            execute = in_children(suite.reference, asked.n_jobs, asked.timeout)
        else:
            execute = on_dask(partial(run_contained, suite.reference, asked.timeout), asked.dask)
        try:
            outcome = run_cells(
                cells,
                store,
                execute,
                usable=lambda record: record.done or not asked.retry,
                progress=progress,
                name=suite.name,
            )
        finally:
            write_results(suite, store)
    return outcome, missing


def render(folder: Path) -> Suite:
    """Write tables, plots and report again, from the results in a folder alone."""
    with existing(folder, KIND) as store:
        suite = find_suite(store.about("suite") or "")
        write_results(suite, store)
    return suite


def planned(store: Store) -> tuple[list[Record], dict[str, Any]]:
    """Records of the last plan that are there, in its order, and the plan."""
    plan = store.about("plan") or {"keys": [], "missing": {}, "command": ""}
    known = store.records(plan["keys"])
    return [known[key] for key in plan["keys"] if key in known], plan


def document(suite: Suite, store: Store) -> dict[str, Any]:
    """All that the report shows, as one JSON value of the schema ``certimetric.bench/1``."""
    records, plan = planned(store)
    told = suite.tell(records)
    done = sum(record.done for record in records)
    return {
        "schema": BENCH_SCHEMA,
        "suite": {"name": suite.name, "title": suite.title, "about": suite.about},
        "summary": told["summary"],
        "tables": [asdict(table) for table in told["tables"]],
        "figures": told["figures"],
        "learners": told["learners"],
        "missing": plan["missing"],
        "cells": {
            "planned": len(plan["keys"]),
            "done": done,
            "failed": len(records) - done,
            "open": len(plan["keys"]) - len(records),
        },
        "reproduction": {
            "command": plan["command"],
            "protocols": sorted({record.cell.protocol for record in records}),
            "seeds": sorted({record.cell.seed for record in records}),
            "cell_seconds": sum(record.seconds for record in records),
            "runs": store.runs(),
        },
    }


def write_results(suite: Suite, store: Store) -> None:
    """Write ``report.html``, ``tables.md``, ``tables/``, ``plots/`` and ``results.csv`` into the store's folder."""
    told = document(suite, store)
    tables = [Table(**table) for table in told["tables"]]
    folder = store.folder
    assert folder is not None
    for name in ("tables", "plots"):
        (folder / name).mkdir(exist_ok=True)
    for table in tables:
        write_atomically(folder / "tables" / f"{table.name}.md", table.to_markdown())
        write_atomically(folder / "tables" / f"{table.name}.csv", table.to_csv())
        write_atomically(folder / "tables" / f"{table.name}.tex", table.to_latex())
    for name, svg in bench_svgs(told).items():
        write_atomically(folder / "plots" / f"{name}.svg", svg)
    write_atomically(folder / "tables.md", _markdown(told, tables))
    write_atomically(folder / "results.csv", raw_figures(planned(store)[0]))
    write_atomically(folder / "report.html", render_bench(told))


def _markdown(told: Mapping[str, Any], tables: Sequence[Table]) -> str:
    cells = told["cells"]
    lines = [f"# {told['suite']['title']}", told["suite"]["about"]]
    lines.append(
        f"{cells['done']} of {cells['planned']} cells done, {cells['failed']} failed, {cells['open']} not run."
    )
    lines += told["summary"]
    if told["missing"]:
        missing = "; ".join(f"{name} ({reason})" for name, reason in sorted(told["missing"].items()))
        lines.append(f"Missing data sets: {missing}.")
    return "\n\n".join([*lines, *(table.to_markdown().rstrip() for table in tables)]) + "\n"


def raw_figures(records: Sequence[Record]) -> str:
    """One row for each cell, every number of its result in a column of its own."""
    rows = []
    for record in records:
        cell = record.cell
        rows.append(
            {
                "dataset": cell.dataset,
                "learner": cell.learner,
                "split": cell.split,
                "seed": cell.seed,
                "status": record.status,
                "seconds": record.seconds,
                **(_flat(record.result) if record.result else {"failure": record.error}),
            }
        )
    names = list(dict.fromkeys(name for row in rows for name in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, names, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """Numbers at any depth under names such as ``noise.uniform.0``; candidates and pictures are left out."""
    if isinstance(value, Mapping):
        parts = [(str(key), item) for key, item in value.items() if key not in ("candidates", "picture")]
    elif isinstance(value, list):
        parts = [(str(i), item) for i, item in enumerate(value)]
    else:
        return {name: value}
    found: dict[str, Any] = {}
    for key, item in parts:
        found |= _flat(item, f"{name}.{key}" if name else key)
    return found
