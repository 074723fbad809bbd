"""Threat by threat: what could be done, by whom, what it does to each learner, and what was not tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from certimetric.report.document import bounds, number
from certimetric.report.formatting import MISSING, NORMS, norm_name, percent
from certimetric.report.plots import with_interval

Estimate = Mapping[str, Any]
_HELD = {True: "holds", False: "missed"}


@dataclass(frozen=True)
class Effect:
    """What a threat does to a learner: a figure clean, attacked and certified; None where it is not known."""

    clean: Estimate | None
    attacked: Estimate | None
    certified: Estimate | None = None
    reason: str = ""  # why there is none

    def figures(self) -> list[str]:
        """The figures as text."""
        return [with_interval(bounds(each or {})) for each in (self.clean, self.attacked, self.certified)]


@dataclass(frozen=True)
class Threat:
    """A threat of an audit."""

    what: str  # what is done
    who: str  # could do it
    figure: str  # by which it is told
    effects: Sequence[Effect]  # on each learner
    standards: Sequence[str]  # figures of thresholds that are about it


def threats_view(view: Any) -> dict[str, Any] | None:
    """The table of threats, near-duplicates, and what was not tried; None for a kind of audit without threats."""
    threats: Sequence[Threat] = view.threats()
    untried: Sequence[str] = view.untried()
    if not threats and not untried:
        return None
    told = [
        {
            "what": threat.what,
            "who": threat.who,
            "figure": threat.figure,
            "models": [
                (look, each.figures(), each.reason or _standard(view.document, learner["spec"], threat.standards))
                for look, learner, each in zip(view.looks, view.learners, threat.effects)
            ],
        }
        for threat in threats
    ]
    twins = [check for check in view.document["checks"] if check["code"] in view.twins]
    none = [] if view.twins else ["Near-duplicates among the data were not looked for"]
    return {"threats": told, "corner": view.corner, "twins": twins, "untried": [*untried, *none]}


def other_norms(document: Mapping[str, Any]) -> str:
    """Which norms a change was not measured in."""
    own = norm_name(document)
    others = [name for norm, (name, _) in NORMS.items() if name != own and norm != "l0"]
    return f"Chosen changes as {' or '.join(others)} measure them: figures are about {own} alone"


def _standard(document: Mapping[str, Any], spec: str, figures: Sequence[str]) -> str:
    """Whether the thresholds that were declared for figures of a learner hold."""
    starts = [f"{spec}.{figure}>=" for figure in figures]
    judged = [
        (each["passed"] is True, percent(number(str(each["expression"]).removeprefix(start))))
        for start in starts
        for each in document["thresholds"]
        if str(each["expression"]).startswith(start)
    ]
    if not judged:
        return MISSING
    return f"{_HELD[all(held for held, _ in judged)]}: at least {', '.join(wanted for _, wanted in judged)}"
