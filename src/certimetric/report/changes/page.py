"""The comparison of two audits as one HTML page, and as a table of text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from certimetric.report.changes.wording import OUTCOMES, change_text, figure_name, shown
from certimetric.report.document import COMPARISON_SCHEMA, check_document, printable
from certimetric.report.formatting import moment, p_value, percent
from certimetric.report.page import render_page

_SECTIONS = ("title", "tolerance", "before", "after", "learners", "figures", "rules", "remarks", "verdict")
_TONES = {"regression": ("✕", "fail"), "tolerated": ("!", "warn"), "improved": ("✓", "pass"), "mended": ("✓", "pass")}
_STATUSES = {"REGRESSION": ("✕", "fail"), "NO REGRESSION": ("✓", "pass"), "NOT COMPARABLE": ("?", "warn")}


def render_comparison(document: Mapping[str, Any], *, title: str | None = None) -> str:
    """The comparison of two audits: one HTML page that needs no network and reads without JavaScript.

    Parameters
    ----------
    document : dict
        Schema ``certimetric.comparison/1``.
    title : str, optional
        Heading of the page.

    Raises
    ------
    ValueError
        It has another schema or lacks a section.

    Examples
    --------
    >>> render_comparison({"schema": "certimetric.audit/1"})
    Traceback (most recent call last):
        ...
    ValueError: document has the schema 'certimetric.audit/1'; expected 'certimetric.comparison/1'
    """
    check_document(document, COMPARISON_SCHEMA, sections=_SECTIONS)
    told = printable(document)
    symbol, tone = _STATUSES[told["verdict"]["status"]]
    learners = [
        {
            "name": each["spec"],
            "before": "" if each["before"] == each["spec"] else each["before"],
            "figures": [_figure(figure) for figure in told["figures"] if figure["learner"] == each["spec"]],
        }
        for each in told["learners"]
    ]
    page = {
        "looks": [],
        "verdict": told["verdict"] | {"symbol": symbol, "tone": tone},
        "sides": [
            (name, told[key] | {"started": moment(told[key]["started"])})
            for name, key in (("First", "before"), ("Second", "after"))
        ],
        "learners": learners,
        "rules": [each | {"tone": _tone(each), "told": OUTCOMES[each["outcome"]]} for each in told["rules"]],
        "remarks": told["remarks"],
        "tolerance": percent(told["tolerance"]),
        "command": told.get("command"),
    }
    return render_page("changes/page.html.j2", document, page, printable(title) or told["title"])


def _figure(figure: Mapping[str, Any]) -> dict[str, Any]:
    rows = figure["rows"]
    return {
        "name": figure_name(figure),
        "values": _values(figure),
        "tone": _tone(figure),
        "told": OUTCOMES[figure["outcome"]],
        "how": figure["reason"] or figure["how"],
        "rows": "" if rows is None else f"up in {rows['gained']}, down in {rows['lost']} of {rows['tested']}",
    }


def _values(figure: Mapping[str, Any]) -> list[str]:
    return [shown(figure, "before"), shown(figure, "after"), change_text(figure), p_value(figure["p"])]


def _tone(entry: Mapping[str, Any]) -> tuple[str, str]:
    return _TONES.get(entry["outcome"], ("", "none"))


def comparison_table(document: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The figures of a comparison as text: a header, and a row for each figure of each learner."""
    header = ["Of", "Figure", "Before", "After", "Change", "p", "Verdict"]
    rows = [
        [figure["learner"], figure_name(figure), *_values(figure), OUTCOMES[figure["outcome"]]]
        for figure in printable(document)["figures"]
    ]
    return header, rows
