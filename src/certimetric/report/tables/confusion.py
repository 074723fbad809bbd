"""Which class is told as which: a matrix for each learner, or a list of confusions where there are many classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from certimetric.report.series import assign

_MATRIX = 12  # classes up to which a matrix is drawn
_LISTED = 20


def confusion_groups(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """For each learner: ``header`` and ``rows`` of its matrix, or ``pairs``; that of the recommended one is open.

    A row holds the name of a true class, how many of its instances were tested, and for each answer its count, its
    share of the row from 0 to 100, and whether it is right.
    """
    classes = list(document["data"].get("classes") or [])
    recommended = document["verdict"].get("recommended")
    groups = []
    for look, learner in zip(assign(document["learners"]), document["learners"]):
        if not learner.get("confusions"):
            continue
        counts = {(true, told): count for true, told, count in learner["confusions"]}
        tested = [sum(counts.get((true, told), 0) for told in range(len(classes))) for true in range(len(classes))]
        group: dict[str, Any] = {"look": look, "open": learner["spec"] == recommended, "rows": [], "pairs": []}
        if len(classes) <= _MATRIX:
            group["header"] = classes
            for true, name in enumerate(classes):
                cells = [
                    {
                        "count": (count := counts.get((true, told), 0)),
                        "heat": round(100 * count / tested[true]) if tested[true] else 0,
                        "right": true == told,
                    }
                    for told in range(len(classes))
                ]
                group["rows"].append({"name": name, "tested": tested[true], "cells": cells})
        else:
            wrong = sorted((entry for entry in counts.items() if entry[0][0] != entry[0][1]), key=lambda e: -e[1])
            group["pairs"] = [
                {"true": classes[true], "told": classes[told], "count": count, "tested": tested[true]}
                for (true, told), count in wrong[:_LISTED]
            ]
            group["more"] = max(len(wrong) - _LISTED, 0)
        groups.append(group)
    return groups
