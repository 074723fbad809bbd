"""The frame that all reports share: one HTML page with its style, its script, its document and its checks."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from certimetric.report.document import number, printable
from certimetric.report.formatting import MISSING, Column, plain

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
# REPORT: what was found, without a declared standard that it could pass.
_STATUSES = {"PASS": ("✓", "pass"), "REPORT": ("i", "info"), "WARN": ("!", "warn"), "FAIL": ("✕", "fail")}


def render_page(template: str, document: Mapping[str, Any], view: Mapping[str, Any], title: str) -> str:
    """A template of this package as a whole page, with the document embedded as JSON.

    Raises
    ------
    ValueError
        If the document holds NaN or an infinite float.
    """
    env = environment()
    script = _source(env, "page.js")
    return env.get_template(template).render(
        {
            **view,
            "title": title,
            "style": trusted(_source(env, "style.css")),
            "script": trusted(script),
            "script_digest": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            "embedded": trusted(_embedded(document)),
        }
    )


def verdict_view(document: Mapping[str, Any]) -> dict[str, Any]:
    """Status, sentence and checks, as pages and notebooks show them."""
    document = printable(document)
    status = str(document["verdict"]["status"])
    symbol, tone = _STATUSES.get(status, ("?", "none"))
    counts = {name: sum(c["severity"] == name for c in document["checks"]) for name in _SEVERITIES}
    return {
        "verdict": {"status": status, "symbol": symbol, "tone": tone, "sentence": document["verdict"]["sentence"]},
        "check_counts": {name: count for name, count in counts.items() if count},
        "issues": [c for c in document["checks"] if c["severity"] == "issue"],
    }


@cache
def environment() -> Environment:
    """The templates of this package; one for all pages, so that a template is compiled once."""
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


def trusted(text: str) -> Any:
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


def figure_view(figure: Any) -> dict[str, Any] | None:
    """A figure with its picture as part of the page."""
    return None if figure is None else {**vars(figure), "svg": trusted(figure.svg)}


def checks_view(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Checks in the order in which they are told."""
    order = list(_SEVERITIES)
    labels = {learner["spec"]: learner["label"] for learner in document["learners"]}
    told = []
    for check in document["checks"]:
        symbol, tone = _SEVERITIES.get(check["severity"], ("?", "none"))
        learner = check.get("learner")
        told.append({**check, "symbol": symbol, "tone": tone, "learner": labels.get(learner, learner)})
    return sorted(told, key=lambda c: order.index(c["severity"]) if c["severity"] in order else -1)


def thresholds_view(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Declared thresholds with what was observed."""
    return [
        {**entry, "observed": plain(number(entry["observed"]), 4), "passed": entry["passed"] is True}
        for entry in document["thresholds"]
    ]


def tiles(learners: Sequence[Mapping[str, Any]], columns: Sequence[Column], baseline: str) -> list[dict[str, str]]:
    """The best figure of each column, beside that of the baseline."""
    return [tile for column in columns if column.better and (tile := _tile(learners, column, baseline))]


def _tile(learners: Sequence[Mapping[str, Any]], column: Column, spec: str) -> dict[str, str] | None:
    best = [i for i, cell in enumerate(column.cells) if cell.best]
    if not best:
        best = [i for i, cell in enumerate(column.cells) if cell.text != MISSING]
    if not best:
        return None
    baseline = next((i for i, learner in enumerate(learners) if learner["spec"] == spec), None)
    among = learners[best[0]]["label"] if len(best) == 1 else f"{len(best)} alike"
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
