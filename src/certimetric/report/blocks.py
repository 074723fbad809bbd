"""The blocks that pages of every kind share: verdict, threat model, checks, comparison, classes, reproduction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from certimetric.report.document import number
from certimetric.report.formatting import MISSING, NORMS, UNITS, duration, moment, norm_name, plain, unit_name
from certimetric.report.threats import threats_view
from certimetric.report.view import Block, View

# What each severity is drawn with, and the order in which checks are told: what needs attention comes first.
_SEVERITIES = {
    "issue": ("✕", "fail"),
    "tip": ("!", "warn"),
    "skipped": ("↷", "none"),
    "not applicable": ("○", "none"),
    "passed": ("✓", "pass"),
}
# REPORT: what was found, without a declared standard that it could pass.
_STATUSES = {"PASS": ("✓", "pass"), "REPORT": ("i", "info"), "WARN": ("!", "warn"), "FAIL": ("✕", "fail")}
_CLASSES = 15  # shown; the others are folded


def verdict_view(view: View) -> dict[str, Any]:
    """Status, sentence, best figures, thresholds, and what checks found."""
    document = view.document
    status = str(document["verdict"]["status"])
    symbol, tone = _STATUSES.get(status, ("?", "none"))
    counts = {name: sum(c["severity"] == name for c in document["checks"]) for name in _SEVERITIES}
    return {
        "verdict": {"status": status, "symbol": symbol, "tone": tone, "sentence": document["verdict"]["sentence"]},
        "check_counts": {name: count for name, count in counts.items() if count},
        "issues": [c for c in document["checks"] if c["severity"] == "issue"],
        "thresholds": [
            {**entry, "observed": plain(number(entry["observed"]), 4), "passed": entry["passed"] is True}
            for entry in document["thresholds"]
        ],
    }


def checks_view(view: View) -> dict[str, Any]:
    """Checks in the order in which they are told."""
    order = list(_SEVERITIES)
    labels = {learner["spec"]: learner["label"] for learner in view.learners}
    told = []
    for check in view.document["checks"]:
        symbol, tone = _SEVERITIES.get(check["severity"], ("?", "none"))
        learner = check.get("learner")
        told.append({**check, "symbol": symbol, "tone": tone, "learner": labels.get(learner, learner)})
    return {"checks": sorted(told, key=lambda c: order.index(c["severity"]) if c["severity"] in order else -1)}


def threat_view(view: View) -> dict[str, Any] | None:
    """How a change is measured, and the sizes that were looked at; None where nothing was changed."""
    protocol = view.document["protocol"]
    if protocol.get("report_eps") is None:
        return None
    norm, unit = str(protocol["norm"]), str(protocol["units"])
    radii = [float(eps) for eps in protocol.get("eps") or []]
    return {
        "norm": norm_name(view.document),
        "norm_meaning": NORMS.get(norm, ("", norm))[1],
        "unit": unit_name(view.document),
        "unit_meaning": UNITS.get(unit, ("", unit))[1],
        "eps": view.size(float(protocol["report_eps"])),
        "curve": f"{view.size(min(radii))} to {view.size(max(radii))}" if radii else "",
        "attacks": list(protocol.get("attacks") or []),
    }


def classes_view(
    learners: Sequence[Mapping[str, Any]], told: Callable[[Mapping[str, Any]], tuple[float, str, str]]
) -> dict[str, Any]:
    """Classes by learners, the class with the highest error over all learners first.

    ``told`` gives of a row of ``per_class`` its error as a share, by which classes are ordered and shaded; the figure
    to show; and the one beside it.
    """
    learners = [learner for learner in learners if learner.get("per_class")]
    found: dict[str, list[Mapping[str, Any] | None]] = {}
    for i, learner in enumerate(learners):
        for row in learner["per_class"]:
            found.setdefault(str(row["class"]), [None] * len(learners))[i] = row

    def error(cells: Sequence[Mapping[str, Any] | None]) -> float:
        values = [told(cell)[0] for cell in cells if cell]
        return sum(values) / len(values) if values else 0.0

    highest = max((told(cell)[0] for cells in found.values() for cell in cells if cell), default=0.0) or 1.0

    def shown(cell: Mapping[str, Any] | None) -> dict[str, Any] | None:
        if cell is None:
            return None
        share, value, beside = told(cell)
        return {"value": value, "beside": beside, "heat": round(100 * share / highest)}

    rows = [
        {"name": name, "count": max(int(cell["count"]) for cell in cells if cell), "cells": [*map(shown, cells)]}
        for name, cells in sorted(found.items(), key=lambda item: -error(item[1]))
    ]
    labels = [learner["label"] for learner in learners]
    return {"classes": {"learners": labels, "rows": rows[:_CLASSES], "rest": rows[_CLASSES:]}}


def reproduction_view(view: View) -> dict[str, Any]:
    """Command, data, protocol, machine and versions."""
    data, told = view.document["data"], view.document["reproduction"]
    machine = told.get("machine") or {}
    facts = [
        ("Data", f"{data['name']} ({data.get('source') or MISSING})"),
        *view.facts(),
        ("Started", moment(told.get("started"))),
        ("Wall time", duration(number(told.get("wall_seconds")))),
        ("Machine", ", ".join(f"{key} {value}" for key, value in machine.items()) or MISSING),
    ]
    return {
        "reproduction": {
            "command": told.get("command") or "",
            "facts": facts,
            "sha256": data.get("sha256") or "",
            "versions": list((told.get("versions") or {}).items()),
            "models": list((told.get("model_sha256") or {}).items()),
            "files": told.get("metric_files") or [],
        }
    }


SHARED = (
    Block("verdict", "verdict", "Verdict", verdict_view),
    Block("threats", "threats", "Threat by threat", threats_view),
    Block("threat", "threat", "Threat model", threat_view),
    Block("checks", "checks", "Reliability checks", checks_view),
    Block("comparison", "comparison", "Comparison", lambda view: {}),
    Block("reproduction", "reproduction", "Reproduction", reproduction_view),
)
