"""What an audit says case by case, for the tools of CI: its thresholds and its reliability checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from certimetric.report.changes.cases import figure_cases, rule_cases
from certimetric.report.document import COMPARISON_SCHEMA, Finding, number, printable
from certimetric.report.formatting import plain
from certimetric.report.views import view_of


@dataclass(frozen=True)
class Findings:
    """The cases of a document, under its name."""

    name: str
    cases: tuple[Finding, ...]
    started: str | None
    seconds: float | None
    version: str  # of certimetric
    command: str
    about: Mapping[str, Any]  # of each check by its code: the ``gravest`` that it can find, and what it means


def findings_of(document: Mapping[str, Any]) -> Findings:
    """The cases of an audit of any kind: one for each threshold and each check; or those of a comparison of two.

    Raises
    ------
    TypeError, ValueError
        It is no document of an audit or of a comparison.
    """
    if isinstance(document, Mapping) and document.get("schema") == COMPARISON_SCHEMA:
        told = printable(document)
        cases = (*figure_cases(told), *rule_cases(told))
        return Findings(
            told["title"], cases, None, None, str(told["version"]), str(told["command"]), told["about_checks"]
        )
    told = view_of(document).document
    reproduction = told["reproduction"]
    keys = ("code", "title", "learner", "severity", "message")
    checks = (Finding("checks", *(each.get(key) for key in keys)) for each in told["checks"])
    return Findings(
        f"certimetric audit of {told['data']['name']}",
        (*map(_threshold, told["thresholds"]), *checks),
        reproduction.get("started"),
        number(reproduction.get("wall_seconds")),
        str((reproduction.get("versions") or {}).get("certimetric", "")),
        str(reproduction.get("command") or ""),
        told.get("about_checks") or {},
    )


def _threshold(entry: Mapping[str, Any]) -> Finding:
    expression, holds = entry["expression"], entry["passed"] is True
    observed = plain(number(entry["observed"]), 4)
    told = f"{expression} {'holds' if holds else 'does not hold'}: observed {observed}"
    return Finding("thresholds", "threshold", expression, None, "passed" if holds else "issue", told)
