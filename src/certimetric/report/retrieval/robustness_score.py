"""The empirical robustness score in the report: a radar chart of its ten components, and their table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from certimetric.plots.radar import RobustnessScoreDisplay, draw_spokes
from certimetric.report.comparison import Column, make_column
from certimetric.report.document import number
from certimetric.report.formatting import fixed, percent, plain, size_name
from certimetric.report.page import figure_view
from certimetric.report.plots import Figure, axes_of, figure, style_of
from certimetric.report.series import Series, with_looks
from certimetric.report.svg import GRID, MUTED

Shown = Sequence[tuple[Series, Mapping[str, Any]]]
_FILLED = 3  # shapes are filled for so many models; of more they would hide each other
_TITLE = "Ten attacks on the ranking"
_READING = (
    "Each spoke is one component, scaled: the rim, 100, is out of the reach of the attack, the middle, 0, is given up. "
    "A larger shape is more robust; one that reaches out on ES:D alone belongs to a collapsed model."
)


def score_column(learners: Sequence[Mapping[str, Any]]) -> list[Column]:
    """A column of the comparison for the score, beside the clean R@1; none where it was not measured."""
    found = [(learner.get("robustness_score") or {}).get("score") for learner in learners]
    return [make_column([entry or {} for entry in found], "ers", "ERS", "", "of 100", "higher")] if any(found) else []


def score_view(document: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the page shows of the score; None where it was not measured."""
    shown = [(look, learner["robustness_score"]) for look, learner in with_looks(document, "robustness_score")]
    if not shown:
        return None
    budget = document["protocol"]["robustness_score"]
    told = {
        "eps": size_name(float(budget["eps"])),
        "step_size": size_name(float(budget["step_size"])),
        "steps": budget["steps"],
        "n_queries": shown[0][1]["n_queries"],
        "looks": [look for look, _ in shown],
        "figure": figure_view(radar_figure(shown)),
        "rows": _rows(shown),
    }
    return {"ers": told}


def radar_figure(shown: Shown) -> Figure:
    """The scaled components of every model, given as its look and the summary of its score, around a circle."""
    names = tuple(_sign(row["name"]) for row in shown[0][1]["components"])
    with axes_of("", "", 340) as axes:
        draw_spokes(axes, names, grid=GRID, muted=MUTED)
        for look, score in shown:
            values = [number(row["scaled"]) or 0.0 for row in score["components"]]
            style = style_of(look, zorder=2 if look.baseline else 3)
            RobustnessScoreDisplay(names, values).draw(axes, fill=len(shown) <= _FILLED, **style)
        rows = (
            (
                _sign(parts[0]["name"]),
                *(f"{_tenths(number(row['scaled']))} {_interval(row, 'low', 'high', _tenths)}" for row in parts),
            )
            for parts in zip(*(score["components"] for _, score in shown))
        )
        note = "Scaled values, with their 95 % intervals in brackets."
        return figure(axes, "ers", _TITLE, _READING, [look for look, _ in shown], "Component", rows, note)


def _rows(shown: Shown) -> list[dict[str, Any]]:
    """The score, the clean R@1 beside it, then the components; the best of each row marked."""
    scores = [score for _, score in shown]
    rows = [
        _row("ERS", "mean of the ten", [score["score"] for score in scores], "mean", _tenths),
        _row("R@1, clean", "not a part of the score", [score["recall_at_1"] for score in scores], "mean", percent),
    ]
    for parts in zip(*(score["components"] for score in scores)):
        row = _row(_sign(parts[0]["name"]), parts[0]["meaning"], parts, "scaled", _tenths)
        for cell, part in zip(row["cells"], parts):
            cell |= {"raw": plain(number(part["raw"])), "raw_interval": _interval(part, "raw_low", "raw_high", plain)}
        rows.append(row)
    return rows


def _row(
    name: str, meaning: str, parts: Sequence[Mapping[str, Any]], key: str, told: Callable[[float | None], str]
) -> dict[str, Any]:
    texts = [told(number(part[key])) for part in parts]
    best = texts[max(range(len(parts)), key=lambda i: number(parts[i][key]) or 0.0)]
    cells = [
        {
            "scaled": text,
            "interval": _interval(part, "low", "high", told),
            "best": text == best and len(set(texts)) > 1,
            "raw": "",
            "raw_interval": "",
        }
        for text, part in zip(texts, parts)
    ]
    return {"name": name, "meaning": meaning, "cells": cells}


def _tenths(value: float | None) -> str:
    return fixed(value, 1)


def _interval(row: Mapping[str, Any], low: str, high: str, told: Callable[[float | None], str]) -> str:
    return f"[{told(number(row[low]))}, {told(number(row[high]))}]"


def _sign(name: str) -> str:
    """The name of a component with a true minus."""
    return str(name).replace("-", "−")
