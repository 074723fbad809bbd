"""The comparison of metrics on a table, beside always answering one class; and which class is told as which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from certimetric.report.comparison import Column, make_column
from certimetric.report.document import bounds, number, quoted_eps
from certimetric.report.formatting import MISSING, fixed, plain, unit_name
from certimetric.report.plots import Point
from certimetric.report.series import with_looks

_MATRIX = 12  # classes up to which a matrix is drawn; of more, the most frequent confusions are listed
_LISTED = 20


def estimate(learner: Mapping[str, Any], key: str, index: int | None = None) -> Mapping[str, Any]:
    """Mean, spread and interval of one figure over the splits; empty where there is none."""
    found = (learner.get("summary") or {}).get(key)
    if index is not None:
        found = found[index] if found and index < len(found) else None
    return found or {}


def mean(learner: Mapping[str, Any], key: str, index: int | None = None) -> float | None:
    """The mean over splits alone."""
    return number(estimate(learner, key, index).get("mean"))


def accuracy(learner: Mapping[str, Any], key: str, index: int | None = None) -> Point:
    """Accuracy is one less the error, so the ends of its interval change places."""
    error, low, high = bounds(estimate(learner, key, index))
    return [None if value is None else 1.0 - value for value in (error, high, low)]


def comparison(document: Mapping[str, Any]) -> list[Column]:
    """The columns of the comparison table, the best of each marked."""
    protocol, learners = document["protocol"], document["learners"]

    def column(key: str, name: str, unit: str, better: str, index: int | None = None, qualifier: str = "") -> Column:
        return make_column([estimate(each, key, index) for each in learners], key, name, qualifier, unit, better)

    columns = [column("error", "Error", "%", "lower")]
    if any(estimate(learner, "balanced_accuracy") for learner in learners):
        columns.append(column("balanced_accuracy", "Balanced accuracy", "%", "higher"))
    if levels := protocol.get("noise"):
        strongest = max(range(len(levels)), key=levels.__getitem__)
        told = f"σ = {plain(number(levels[strongest]))}"
        columns.append(column("noise_error", "Error under noise", "%", "lower", strongest, told))
    if (eps := quoted_eps(document)) is not None:
        told = f"ε = {plain(number(protocol['eps'][eps]))}"
        columns.append(column("certified_accuracy", "Certified accuracy", "%", "higher", eps, told))
        if protocol.get("judged_by") == "balanced":
            columns.append(column("balanced_certified", "Balanced certified", "%", "higher", eps, told))
    columns.append(column("median_radius", "Median radius", unit_name(document), "higher"))
    columns.append(column("fit_seconds", "Fit", "s", ""))
    return columns


def baseline_row(document: Mapping[str, Any], columns: Sequence[Column]) -> dict[str, Any] | None:
    """What always answering the most frequent class gives, as a row below the comparison; None where it is not known.

    Its answer never changes, so that it has the same error under noise, and its accuracy is certified at every ε.
    """
    told = document.get("baseline")
    if not told:
        return None
    error = float(told["error"])
    shares = {
        "error": error,
        "balanced_accuracy": float(told["balanced_accuracy"]),
        "noise_error": error,
        "certified_accuracy": 1.0 - error,
        "balanced_certified": float(told["balanced_accuracy"]),
    }
    cells = []
    for column in columns:
        decimals = max((len(cell.text.partition(".")[2]) for cell in column.cells), default=1)
        cells.append(fixed(100 * shares[column.key], decimals) if column.key in shares else MISSING)
    return {"label": f"Always “{told['class']}”", "cells": cells}


def confusion_groups(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """For each learner: ``header`` and ``rows`` of its matrix, or ``pairs``; that of the recommended one is open.

    A row holds the name of a true class, how many of its instances were tested, and for each answer its count, its
    share of the row from 0 to 100, and whether it is right. A pair is true class, answer, count and number of tested.
    """
    classes = list(document["data"].get("classes") or [])
    n, recommended = range(len(classes)), document["verdict"].get("recommended")
    groups = []
    for look, learner in with_looks(document, "confusions"):
        counts = {(true, told): count for true, told, count in learner["confusions"]}
        tested = [sum(counts.get((true, told), 0) for told in n) for true in n]
        group: dict[str, Any] = {"look": look, "open": learner["spec"] == recommended, "rows": [], "pairs": []}
        if len(classes) <= _MATRIX:
            group["header"] = [f"told {name}" for name in classes]
            for true, name in enumerate(classes):
                cells = [
                    {
                        "count": (count := counts.get((true, told), 0)),
                        "heat": round(100 * count / tested[true]) if tested[true] else 0,
                        "right": true == told,
                    }
                    for told in n
                ]
                group["rows"].append({"name": name, "tested": tested[true], "cells": cells})
        else:
            wrong = sorted((entry for entry in counts.items() if entry[0][0] != entry[0][1]), key=lambda e: -e[1])
            group["pairs"] = [
                (classes[true], classes[told], count, tested[true]) for (true, told), count in wrong[:_LISTED]
            ]
            group["more"] = max(len(wrong) - _LISTED, 0)
        groups.append(group)
    return groups
