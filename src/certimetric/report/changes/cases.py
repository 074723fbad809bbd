"""The cases of a comparison of two audits, for the tools of CI."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from certimetric.report.changes.wording import OUTCOMES, change_text, figure_name, shown
from certimetric.report.document import Finding

_FIGURES = {"regression": "issue", "not comparable": "not applicable", "not judged": "not applicable"}


def figure_cases(document: Mapping[str, Any]) -> Iterator[Finding]:
    """A case for each figure: an issue where it has become worse."""
    for each in document["figures"]:
        told = each["reason"] or f"{shown(each, 'before')} before, {shown(each, 'after')} after ({change_text(each)})"
        outcome = _FIGURES.get(each["outcome"], "passed")
        yield Finding(
            "figures", "figure", figure_name(each), each["learner"], outcome, f"{OUTCOMES[each['outcome']]}: {told}"
        )


def rule_cases(document: Mapping[str, Any]) -> Iterator[Finding]:
    """A case for each threshold that was missed in one of the audits, and each check that found an issue in one."""
    for each in document["rules"]:
        worse = each["outcome"] == "regression"
        place, rule = ("checks", each["code"]) if each["code"] else ("thresholds", "threshold")
        outcome = "issue" if worse else "passed" if each["outcome"] == "mended" else "tip"
        message = f"{OUTCOMES[each['outcome']]}: {each['message']}"
        yield Finding(place, rule, each["title"], each["learner"], outcome, message)
