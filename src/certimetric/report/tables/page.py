"""The audit document as one HTML page, and in short for notebooks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from certimetric.report.classes import classes_view
from certimetric.report.document import BASELINE, check_document, number, printable, quoted_eps, splits_done
from certimetric.report.formatting import (
    MISSING,
    NORMS,
    UNITS,
    baseline_row,
    comparison,
    duration,
    moment,
    norm_name,
    percent,
    plain,
    unit_name,
)
from certimetric.report.page import (
    checks_view,
    environment,
    figure_view,
    render_page,
    thresholds_view,
    tiles,
    verdict_view,
)
from certimetric.report.series import assign
from certimetric.report.tables.anatomy import metric_cards, metric_rows
from certimetric.report.tables.confusion import confusion_groups
from certimetric.report.tables.figures import curves, spectrum_figure
from certimetric.report.tables.instances import fragile_groups
from certimetric.report.tables.sandwich import robustness_figures

_FEATURES = 100  # so many are told on the page; the document has them all


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
    whole, document = document, printable(document)
    view = _summary_view(document) | {
        "started": moment(document["reproduction"].get("started")),
        "thresholds": thresholds_view(document),
        "threat": _threat_model(document),
        "features": _features(document["data"].get("features") or []),
        "learners": [_learner(learner) for learner in document["learners"]],
        "curves": [figure_view(figure) for figure in curves(document)],
        "classes": classes_view(document["learners"], _class_cell),
        "confusions": confusion_groups(document),
        "spectrum": figure_view(spectrum_figure(document)),
        "metric_rows": metric_rows(document),
        "metric_cards": metric_cards(document),
        "brackets": [figure_view(figure) for figure in robustness_figures(document)],
        "groups": fragile_groups(document),
        "checks": checks_view(document),
        "reproduction": _reproduction(document),
        "units": {"radius": unit_name(document), "norm": norm_name(document)},
    }
    return render_page("page.html.j2", whole, view, printable(title) or f"Audit of {document['data']['name']}")


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
    return environment().get_template("fragment.html.j2").render(_summary_view(printable(document)))


def _summary_view(document: Mapping[str, Any]) -> dict[str, Any]:
    """What page and notebook share."""
    columns = comparison(document)
    return verdict_view(document) | {
        "corner": "Metric",
        "data": document["data"],
        "protocol": document["protocol"],
        "columns": columns,
        "baseline": baseline_row(document, columns),
        "names": [_name(learner) for learner in document["learners"]],
        "looks": assign(document["learners"]),
        "tiles": tiles(document["learners"], columns, BASELINE),
    }


def _name(learner: Mapping[str, Any]) -> dict[str, Any]:
    done, total = splits_done(learner)
    failed = "" if done == total else f"{done} of {total} splits" if done else "failed"
    return {"label": learner["label"], "spec": learner["spec"], "failed": failed}


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


def _features(features: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """One standard deviation of each feature in its own unit."""
    rows = [
        {"name": feature["name"], "kind": feature["kind"]}
        | {key: plain(number(feature[key]), 4) for key in ("std", "low", "high")}
        for feature in features[:_FEATURES]
    ]
    return {"rows": rows, "more": max(len(features) - _FEATURES, 0)} if rows else None


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


def _class_cell(row: Mapping[str, Any]) -> tuple[float, str, str]:
    """Error of a class, its recall as text, and its precision and median radius."""
    error = number(row["error"]) or 0.0
    precision, radius = percent(number(row.get("precision"))), plain(number(row["median_radius"]), 2)
    return error, percent(1.0 - error), f"{precision} · {radius}"


def _gaps(imputed: Mapping[str, int] | None) -> str:
    """How missing values were treated."""
    if imputed is None:
        return MISSING  # a document from before this was told
    if not imputed:
        return "none"
    told = ", ".join(f"{name} ({count})" for name, count in list(imputed.items())[:8])
    more = f" and {len(imputed) - 8} more features" if len(imputed) > 8 else ""
    return f"{told}{more}: each is the median of its feature in the training part of the split"


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
                ("Missing values", _gaps(data.get("imputed"))),
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
        "models": [],
        "files": told.get("metric_files") or [],
    }
