"""Which predictions of the recommended metric to trust: risk against coverage, and what each score is worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from certimetric.report.document import number
from certimetric.report.formatting import percent, plain
from certimetric.report.page import figure_view
from certimetric.report.plots import Figure, shares_figure, with_interval
from certimetric.report.series import Series, assign

CHANCE = "chance"


def trust_view(document: Mapping[str, Any]) -> dict[str, Any] | None:
    """Sentence, figure, and a row for each score; None where nothing was scored, as before this was measured."""
    told = document.get("trust")
    if not told:
        return None
    labels = {learner["spec"]: learner["label"] for learner in document["learners"]}
    rows = []
    for look, row in _scores(told):
        figures = [with_interval((row["aurc"], row["aurc_low"], row["aurc_high"]))]
        apart = (row["difference"], row["difference_low"], row["difference_high"])
        figures.append("" if row["score"] == "radius" else _points(apart))
        figures.append(plain(number(row["excess_share"]), 2))
        rows.append((look, row["label"], figures))
    sets = told["conformal"]
    return {
        "sentence": told["sentence"],
        "metric": labels.get(told["learner"], told["learner"]),
        "figure": figure_view(_risk_figure(told)),
        "scores": rows,
        "alpha": percent(1.0 - told["alpha"], 0),
        "sets": [percent(sets["coverage"]), plain(sets["size"]), percent(sets["single"])],
    }


def _scores(told: Mapping[str, Any]) -> list[tuple[Series | None, Mapping[str, Any]]]:
    """Each score with its look; that of chance has none, for it has no curve of its own."""
    scores = told["scores"]
    looks = assign([{"spec": row["score"], "label": row["label"]} for row in scores if row["score"] != CHANCE])
    given = iter(looks)
    return [(None if row["score"] == CHANCE else next(given), row) for row in scores]


def _points(apart: tuple[float, float, float]) -> str:
    """A difference of shares in percentage points, with its interval, the sign always there."""
    middle, low, high = (f"{100 * value:+.1f}".replace("-", "−") for value in apart)
    return f"{middle} [{low}, {high}]"


def _risk_figure(told: Mapping[str, Any]) -> Figure:
    x = [float(share) for share in told["curve"]["coverage"]]
    lines = [
        (look, [(float(value), None, None) for value in told["curve"]["risk"][row["score"]]])
        for look, row in _scores(told)
        if look is not None
    ]
    return shares_figure(
        lines,
        "trust",
        "Risk against coverage",
        "The share of wrong predictions among those that are kept, when the least trusted are left out: the lower the "
        "line, the better a score tells which predictions are wrong. At the right end all are kept.",
        x,
        "share of predictions that is kept",
        "wrong among them",
        "kept",
        told=lambda share: percent(share, 0),
    )
