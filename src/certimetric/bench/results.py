"""What a benchmark writes, from its store alone: tables in three formats, plots, one report, and the raw figures."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from certimetric.base.files import write_atomically
from certimetric.bench.suites.base import Suite
from certimetric.bench.tables import Table
from certimetric.report.bench.page import bench_svgs, render_bench
from certimetric.report.document import BENCH_SCHEMA
from certimetric.runs.key import Record
from certimetric.runs.store import Store


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
        "tables": [table.to_mapping() for table in told["tables"]],
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
    tables = [Table.from_mapping(table) for table in told["tables"]]
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
