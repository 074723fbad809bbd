"""The audit document as one HTML page, and in short for notebooks."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from certimetric.report.anatomy import metric_cards, metric_rows
from certimetric.report.document import BASELINE, check_document, number, printable, quoted_eps, splits_done
from certimetric.report.figures import curves, spectrum_figure
from certimetric.report.formatting import (
    MISSING,
    NORMS,
    UNITS,
    Column,
    comparison,
    duration,
    moment,
    norm_name,
    percent,
    plain,
    unit_name,
)
from certimetric.report.instances import fragile_groups
from certimetric.report.sandwich import robustness_figures
from certimetric.report.series import assign

if TYPE_CHECKING:
    from jinja2 import Environment

# What each severity is drawn with, and the order in which checks are told: what needs attention comes first.
_SEVERITIES = {
    "issue": ("✕", "fail"),
    "tip": ("!", "warn"),
    "skipped": ("↷", "none"),
    "not applicable": ("○", "none"),
    "passed": ("✓", "pass"),
}
_STATUSES = {"PASS": ("✓", "pass"), "WARN": ("!", "warn"), "FAIL": ("✕", "fail")}
_CLASSES_SHOWN = 15


def render_audit(document: Mapping[str, Any], *, title: str | None = None) -> str:
    """The whole report: one HTML page that needs no network and reads without JavaScript.

    Parameters
    ----------
    document : dict
        Audit document, schema ``certimetric.audit/1``.
    title : str, optional
        Heading of the page; by default it names the data.

    Returns
    -------
    html : str
        The same for the same document. The document itself is embedded in it as JSON.

    Raises
    ------
    TypeError
        The document is not a mapping.
    ValueError
        It has another schema, lacks a section or holds NaN or an infinite float.

    Examples
    --------
    >>> render_audit({"schema": "certimetric.bench/1"})
    Traceback (most recent call last):
        ...
    ValueError: document has the schema 'certimetric.bench/1'; expected 'certimetric.audit/1'
    """
    check_document(document)
    embedded = _embedded(document)
    document = printable(document)
    environment = _environment()
    script = _source(environment, "page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    view = _summary_view(document) | {
        "title": printable(title) or f"Audit of {document['data']['name']}",
        "started": moment(document["reproduction"].get("started")),
        "style": _trusted(_source(environment, "style.css")),
        "script": _trusted(script),
        "script_digest": digest,
        "embedded": _trusted(embedded),
        "thresholds": [
            {**entry, "observed": plain(number(entry["observed"]), 4), "passed": entry["passed"] is True}
            for entry in document["thresholds"]
        ],
        "threat": _threat_model(document),
        "learners": [_learner(learner) for learner in document["learners"]],
        "curves": [_figure(figure) for figure in curves(document)],
        "classes": _classes(document),
        "spectrum": _figure(spectrum_figure(document)),
        "metric_rows": metric_rows(document),
        "metric_cards": metric_cards(document),
        "brackets": [_figure(figure) for figure in robustness_figures(document)],
        "groups": fragile_groups(document),
        "checks": _checks(document),
        "reproduction": _reproduction(document),
        "units": {"radius": unit_name(document), "norm": norm_name(document)},
    }
    return environment.get_template("page.html.j2").render(view)


def render_audit_fragment(document: Mapping[str, Any]) -> str:
    """Verdict and comparison table alone, for the ``_repr_html_`` of results in a notebook.

    Parameters
    ----------
    document : dict
        Audit document, schema ``certimetric.audit/1``.

    Returns
    -------
    html : str
        One ``<div>`` whose styles touch nothing outside it and follow the notebook's light or dark theme.

    Raises
    ------
    ValueError
        The document has another schema or lacks a section.
    """
    check_document(document)
    environment = _environment()
    return environment.get_template("fragment.html.j2").render(_summary_view(printable(document)))


def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("certimetric.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _source(environment: Environment, name: str) -> str:
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _trusted(text: str) -> Any:
    """Text that this package made itself and that must not be escaped again."""
    from markupsafe import Markup

    return Markup(text)


def _embedded(document: Mapping[str, Any]) -> str:
    """The document as JSON that no name in it can end early: ``</script>`` has no ``<`` of its own."""
    try:
        text = json.dumps(document, allow_nan=False, separators=(",", ":"))
    except ValueError as error:
        raise ValueError(
            'document holds NaN or an infinite float; expected numbers, null or the string "inf"'
        ) from error
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _figure(figure: Any) -> dict[str, Any] | None:
    return None if figure is None else {**vars(figure), "svg": _trusted(figure.svg)}


def _summary_view(document: Mapping[str, Any]) -> dict[str, Any]:
    """What page and notebook share."""
    status = str(document["verdict"]["status"])
    symbol, tone = _STATUSES.get(status, ("?", "none"))
    columns = comparison(document)
    counts = {name: sum(c["severity"] == name for c in document["checks"]) for name in _SEVERITIES}
    return {
        "data": document["data"],
        "protocol": document["protocol"],
        "verdict": {
            "status": status,
            "symbol": symbol,
            "tone": tone,
            "sentence": document["verdict"]["sentence"],
        },
        "columns": columns,
        "names": [_name(learner) for learner in document["learners"]],
        "looks": assign(document["learners"]),
        "tiles": [tile for column in columns if column.better and (tile := _tile(document, column))],
        "check_counts": {name: count for name, count in counts.items() if count},
        "issues": [c for c in document["checks"] if c["severity"] == "issue"],
    }


def _name(learner: Mapping[str, Any]) -> dict[str, Any]:
    done, total = splits_done(learner)
    failed = "" if done == total else f"{done} of {total} splits" if done else "failed"
    return {"label": learner["label"], "spec": learner["spec"], "failed": failed}


def _tile(document: Mapping[str, Any], column: Column) -> dict[str, str] | None:
    """The best figure of a column, beside that of the baseline."""
    learners = document["learners"]
    best = [i for i, cell in enumerate(column.cells) if cell.best]
    if not best:
        best = [i for i, cell in enumerate(column.cells) if cell.text != MISSING]
    if not best:
        return None
    baseline = next((i for i, learner in enumerate(learners) if learner["spec"] == BASELINE), None)
    among = learners[best[0]]["label"] if len(best) == 1 else f"{len(best)} learners alike"
    against = ""
    if baseline is not None and baseline not in best and column.cells[baseline].text != MISSING:
        against = f"{learners[baseline]['label']}: {column.cells[baseline].text} {column.unit}"
    cell = column.cells[best[0]]
    return {
        "name": column.name,
        "qualifier": column.qualifier,
        "value": cell.text,
        "unit": column.unit,
        "spread": cell.spread,
        "learner": among,
        "against": against,
    }


def _threat_model(document: Mapping[str, Any]) -> dict[str, Any]:
    protocol = document["protocol"]
    norm, unit = str(protocol["norm"]), str(protocol["units"])
    radii = [float(eps) for eps in protocol.get("eps") or []]
    wanted, index = float(protocol["report_eps"]), quoted_eps(document)
    note = ""
    if index is None:
        note = f"ε = {plain(wanted)} lies beyond the radii that were measured, so the table does not quote it."
    elif abs(radii[index] - wanted) > 1e-9:
        note = f"ε = {plain(wanted)} was asked for; the table quotes the next larger radius that was measured."
    return {
        "norm": norm_name(document),
        "norm_meaning": NORMS.get(norm, ("", norm))[1],
        "unit": unit_name(document),
        "unit_meaning": UNITS.get(unit, ("", unit))[1],
        "eps": plain(wanted if index is None else radii[index]),
        "curve": f"{plain(min(radii))} to {plain(max(radii))}" if radii else "",
        "noise": [plain(number(level)) for level in protocol.get("noise") or []],
        "note": note,
    }


def _learner(learner: Mapping[str, Any]) -> dict[str, Any]:
    done, total = splits_done(learner)
    return {
        "label": learner["label"],
        "spec": learner["spec"],
        "parameters": [(key, _value(value)) for key, value in (learner.get("parameters") or {}).items()],
        "splits": f"{done} of {total}",
        "failures": [(split["split"], split["failed"]) for split in learner["splits"] if "failed" in split],
    }


def _value(value: Any) -> str:
    """A parameter as a person would type it."""
    if isinstance(value, float):
        return plain(value, 4)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _classes(document: Mapping[str, Any]) -> dict[str, Any]:
    """Classes by learners, the class with the highest error over all learners first."""
    learners = [learner for learner in document["learners"] if learner.get("per_class")]
    found: dict[str, list[Mapping[str, Any] | None]] = {}
    for i, learner in enumerate(learners):
        for row in learner["per_class"]:
            found.setdefault(str(row["class"]), [None] * len(learners))[i] = row

    def error(cells: Sequence[Mapping[str, Any] | None]) -> float:
        values = [v for cell in cells if cell and (v := number(cell["error"])) is not None]
        return sum(values) / len(values) if values else 0.0

    highest = max((number(cell["error"]) or 0.0 for cells in found.values() for cell in cells if cell), default=0.0)
    rows = []
    for name, cells in sorted(found.items(), key=lambda item: -error(item[1])):
        rows.append(
            {
                "name": name,
                "count": max(int(cell["count"]) for cell in cells if cell),
                "cells": [
                    None
                    if cell is None
                    else {
                        "error": percent(number(cell["error"])),
                        "radius": plain(number(cell["median_radius"]), 2),
                        "heat": round(100 * (number(cell["error"]) or 0.0) / highest) if highest else 0,
                    }
                    for cell in cells
                ],
            }
        )
    return {
        "learners": [learner["label"] for learner in learners],
        "rows": rows[:_CLASSES_SHOWN],
        "rest": rows[_CLASSES_SHOWN:],
    }


def _checks(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    order = list(_SEVERITIES)
    labels = {learner["spec"]: learner["label"] for learner in document["learners"]}
    told = []
    for check in document["checks"]:
        symbol, tone = _SEVERITIES.get(check["severity"], ("?", "none"))
        learner = check.get("learner")
        told.append({**check, "symbol": symbol, "tone": tone, "learner": labels.get(learner, learner)})
    return sorted(told, key=lambda c: order.index(c["severity"]) if c["severity"] in order else -1)


def _reproduction(document: Mapping[str, Any]) -> dict[str, Any]:
    data, protocol, told = document["data"], document["protocol"], document["reproduction"]
    classes = data.get("classes") or []
    machine = told.get("machine") or {}
    return {
        "command": told.get("command") or "",
        "facts": [
            (name, value)
            for name, value in (
                ("Data", f"{data['name']} ({data.get('source') or MISSING})"),
                (
                    "Size",
                    f"{data['n_samples']} instances × {data['n_features']} features, {len(classes)} classes",
                ),
                ("Seed", str(protocol["seed"])),
                ("Splits", f"{protocol['repeats']} at random, {percent(protocol['test_size'], 0)} held out"),
                ("Predictor", f"{protocol['n_neighbors']} nearest neighbours"),
                ("Started", moment(told.get("started"))),
                ("Wall time", duration(number(told.get("wall_seconds")))),
                ("Machine", ", ".join(f"{key} {value}" for key, value in machine.items()) or MISSING),
            )
        ],
        "sha256": data.get("sha256") or "",
        "versions": list((told.get("versions") or {}).items()),
        "files": told.get("metric_files") or [],
    }
