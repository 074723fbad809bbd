"""What a metric looks at: its rank, condition and spectrum, and the features that it weighs most."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from certimetric.plots.metric import MetricDisplay
from certimetric.report.document import number
from certimetric.report.formatting import percent, plain
from certimetric.report.page import figure_view
from certimetric.report.plots import Figure, axes_of, figure, line_of, mark_powers, mark_whole_numbers
from certimetric.report.series import with_looks

_MAX_ROWS = 80


def anatomy_view(document: Mapping[str, Any]) -> dict[str, Any]:
    """Spectrum, shape and heaviest features of each learner with a metric."""
    shown = [(look, learner["metric"]) for look, learner in with_looks(document, "metric")]
    n_features = document["data"]["n_features"]
    rows = []
    for look, metric in shown:
        condition = number(metric.get("condition_number"))
        told = "singular" if condition is None else plain(condition, 2)
        rows.append((look, [f"{metric['rank']} of {n_features}", told, _directions(_spectrum(metric), 0.5)]))
    cards = [(look, metric["features"]) for look, metric in shown if metric.get("features")]
    # Bars have one scale, so that cards can be compared.
    heaviest = max((number(f["weight"]) or 0.0 for _, features in cards for f in features), default=0.0) or 1.0
    return {
        "spectrum": figure_view(spectrum_figure(document)),
        "metric_rows": rows,
        "metric_cards": [_card(features, heaviest) | {"look": look} for look, features in cards],
    }


def _card(features: list[Mapping[str, Any]], heaviest: float) -> dict[str, Any]:
    weights = [number(feature["weight"]) or 0.0 for feature in features]
    return {
        "features": [
            {"name": feature["name"], "share": percent(weight), "bar": round(100 * weight / heaviest, 1)}
            for feature, weight in zip(features, weights)
        ],
        # A list of the "heaviest" features would mislead where all weigh the same.
        "alike": len(weights) > 1 and max(weights) - min(weights) < 1e-9,
        "total": percent(sum(weights), 0),
    }


def _spectrum(metric: Mapping[str, Any]) -> list[float]:
    return [v for v in map(number, metric.get("spectrum") or []) if v is not None]


def _directions(spectrum: list[float], share: float) -> str:
    """How many of the largest eigenvalues hold the given share of their sum."""
    total, reached = sum(spectrum), 0.0
    for i, value in enumerate(spectrum):
        reached += value
        if reached >= share * total - 1e-12:
            return str(i + 1)
    return plain(None)


def spectrum_figure(document: Mapping[str, Any]) -> Figure | None:
    """Eigenvalues of every metric on a logarithmic axis."""
    shown = [
        (look, _spectrum(learner["metric"]))
        for look, learner in with_looks(document, "summary")
        if (learner.get("metric") or {}).get("spectrum")
    ]
    if not shown:
        return None
    reading = (
        "The eigenvalues of the learned matrix M, largest first and relative to it: a flat line weighs all directions "
        "alike, as Euclidean does; a steep one leans on few directions, and small changes along those decide."
    )
    floor = min((v for _, values in shown for v in values if v > 1e-12), default=1e-3)
    longest = max(len(values) for _, values in shown)
    n_rows = min(longest, _MAX_ROWS)
    with axes_of("eigenvalue, by rank", "relative eigenvalue") as axes:
        for look, values in shown:
            MetricDisplay(values).draw_spectrum(axes, **line_of(look, len(values)))
        axes.set_ylim(min(floor, 0.3) / 1.5, 1.6)
        axes.set_xlim(1 - 0.02 * longest, longest + 0.02 * longest + (longest == 1))
        mark_powers(axes.yaxis)
        mark_whole_numbers(axes.xaxis)
        rows = (
            (str(rank + 1), *(plain(values[rank] if rank < len(values) else None) for _, values in shown))
            for rank in sorted({round(i * (longest - 1) / (n_rows - 1 or 1)) for i in range(n_rows)})
        )
        note = f"{_MAX_ROWS} of {longest} eigenvalues; all are in the document at the end."
        looks = [look for look, _ in shown]
        title = "Spectrum of each metric"
        return figure(axes, "spectrum", title, reading, looks, "rank", rows, note if longest > _MAX_ROWS else "")
