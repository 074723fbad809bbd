"""Figures by class, the worst class first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

_SHOWN = 15


def classes_view(
    learners: Sequence[Mapping[str, Any]], told: Callable[[Mapping[str, Any]], tuple[float, str, str]]
) -> dict[str, Any]:
    """Classes by learners, the class with the highest error over all learners first.

    Parameters
    ----------
    learners : list of dict
        Those of the document; ``per_class`` holds a row with ``class`` and ``count`` for each class.
    told : callable
        Of such a row: its error as a share, by which classes are ordered and shaded; the figure to show; and the
        one beside it.
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
    rows = []
    for name, cells in sorted(found.items(), key=lambda item: -error(item[1])):
        shown: list[dict[str, Any] | None] = []
        for cell in cells:
            if cell is None:
                shown.append(None)
                continue
            share, value, beside = told(cell)
            shown.append({"value": value, "beside": beside, "heat": round(100 * share / highest)})
        rows.append({"name": name, "count": max(int(cell["count"]) for cell in cells if cell), "cells": shown})
    return {"learners": [learner["label"] for learner in learners], "rows": rows[:_SHOWN], "rest": rows[_SHOWN:]}
