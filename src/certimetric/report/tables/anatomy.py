"""What a metric looks at: its rank and condition, and the features that it weighs most."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from certimetric.report.document import number
from certimetric.report.formatting import percent, plain
from certimetric.report.series import assign


def metric_rows(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rank, condition number and spread of the weight over directions, for each learner with a metric."""
    rows = []
    for look, learner in zip(assign(document["learners"]), document["learners"]):
        metric = learner.get("metric")
        if not metric:
            continue
        spectrum = [v for v in map(number, metric.get("spectrum") or []) if v is not None]
        condition = number(metric.get("condition_number"))
        rows.append(
            {
                "look": look,
                "rank": f"{metric['rank']} of {document['data']['n_features']}",
                "condition": "singular" if condition is None else plain(condition, 2),
                "half": _directions(spectrum, 0.5),
            }
        )
    return rows


def metric_cards(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The heaviest features of each learner; bars have one scale, so that cards can be compared."""
    cards = [
        (look, learner["metric"]["features"])
        for look, learner in zip(assign(document["learners"]), document["learners"])
        if learner.get("metric") and learner["metric"].get("features")
    ]
    heaviest = max((number(f["weight"]) or 0.0 for _, features in cards for f in features), default=0.0) or 1.0
    told = []
    for look, features in cards:
        weights = [number(feature["weight"]) or 0.0 for feature in features]
        told.append(
            {
                "look": look,
                "features": [
                    {
                        "name": feature["name"],
                        "share": percent(weight),
                        "bar": round(100 * weight / heaviest, 1),
                    }
                    for feature, weight in zip(features, weights)
                ],
                # A list of the "heaviest" features would mislead where all weigh the same.
                "alike": len(weights) > 1 and max(weights) - min(weights) < 1e-9,
                "total": percent(sum(weights), 0),
            }
        )
    return told


def _directions(spectrum: list[float], share: float) -> str:
    """How many of the largest eigenvalues hold the given share of their sum."""
    total, reached = sum(spectrum), 0.0
    for i, value in enumerate(spectrum):
        reached += value
        if reached >= share * total - 1e-12:
            return str(i + 1)
    return plain(None)
