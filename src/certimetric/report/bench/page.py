"""The document of a benchmark as one HTML page, and its figures as files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from certimetric.report.bench.figures import bench_figure, standalone
from certimetric.report.document import BENCH_SCHEMA, check_document, printable
from certimetric.report.formatting import MISSING, duration, moment
from certimetric.report.page import figure_view, render_page, source
from certimetric.report.series import assign

_SECTIONS = ("suite", "summary", "tables", "figures", "learners", "missing", "cells", "reproduction")


def render_bench(document: Mapping[str, Any]) -> str:
    """The report of a benchmark: one HTML page that needs no network and reads without JavaScript.

    Parameters
    ----------
    document : dict
        Schema ``certimetric.bench/1``.

    Raises
    ------
    ValueError
        It has another schema or lacks a section.

    Examples
    --------
    >>> render_bench({"schema": "certimetric.audit/1"})
    Traceback (most recent call last):
        ...
    ValueError: document has the schema 'certimetric.audit/1'; expected 'certimetric.bench/1'
    """
    check_document(document, BENCH_SCHEMA, sections=_SECTIONS)
    whole, document = document, printable(document)
    view = {
        "looks": assign(document["learners"]),
        "suite": document["suite"],
        "summary": document["summary"],
        "tables": [_table(table) for table in document["tables"]],
        "figures": [figure_view(bench_figure(figure)) for figure in document["figures"]],
        "missing": sorted(document["missing"].items()),
        "cells": document["cells"],
        "reproduction": _reproduction(document),
    }
    return render_page("bench/page.html.j2", whole, view, document["suite"]["title"])


def bench_svgs(document: Mapping[str, Any]) -> dict[str, str]:
    """Every figure of the document as an SVG file: name to content."""
    style = source("templates/style.css")
    figures = [bench_figure(told) for told in printable(document)["figures"]]
    return {figure.name: standalone(figure, style) for figure in figures}


def _table(table: Mapping[str, Any]) -> dict[str, Any]:
    best = {(row, column) for row, column in table["best"]}
    rows = [
        [{"text": text, "best": (i, j) in best} for j, text in enumerate(row)] for i, row in enumerate(table["rows"])
    ]
    return {**table, "rows": rows}


def _reproduction(document: Mapping[str, Any]) -> dict[str, Any]:
    told = document["reproduction"]
    runs = told["runs"]
    last = runs[-1] if runs else {}
    machines = dict.fromkeys(
        ", ".join(f"{key} {value}" for key, value in (run.get("machine") or {}).items()) for run in runs
    )
    facts = [
        ("Suite", document["suite"]["name"]),
        ("Protocol", ", ".join(told["protocols"]) or MISSING),
        ("Seeds", ", ".join(map(str, told["seeds"])) or MISSING),
        ("Runs", str(len(runs))),
        ("Started", moment(runs[0]["started"]) if runs else MISSING),
        ("Cell time", duration(float(told["cell_seconds"]))),
        ("Commit", ", ".join(dict.fromkeys(run.get("commit") or "not from a clone" for run in runs)) or MISSING),
        ("Machine", "; ".join(machines) or MISSING),
    ]
    return {
        "command": told.get("command") or "",
        "facts": facts,
        "sha256": "",
        "versions": list((last.get("versions") or {}).items()),
        "models": [],
        "files": [],
    }
