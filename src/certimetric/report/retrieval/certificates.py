"""The part of an audit of embedding models on certificates: clean, attacked and certified R@1 in one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from certimetric.plots.accuracy import SandwichDisplay
from certimetric.report.document import bounds, number, quoted_eps
from certimetric.report.formatting import MISSING, measured, percent, plain, size_name
from certimetric.report.page import figure_view
from certimetric.report.plots import ATTACKED, CERTIFIED, CLEAN, Figure, bracket, with_interval
from certimetric.report.series import Series, with_looks

_CLEAN, _ATTACKED = replace(CLEAN, number=1), replace(ATTACKED, number=2)
_METHODS = {
    "lipschitz": "Lipschitz constant",
    "smoothing": "randomised smoothing",
    "interval": "interval bounds",
    "pixels": "the pixels themselves",
}


def certificates_view(document: Mapping[str, Any]) -> dict[str, Any] | None:
    """Table and figures of the certificates; None where none were asked for."""
    asked = with_looks(document, "certificate")
    if not asked:
        return None
    index = quoted_eps(document)
    return {
        "certificates": {
            "rows": [(look, *_row(learner["certificate"], index)) for look, learner in asked],
            "figures": [
                figure_view(_figure(document, look, learner))
                for look, learner in asked
                if learner["certificate"]["method"] is not None
            ],
            "smoothed": any(learner["certificate"]["method"] == "smoothing" for _, learner in asked),
        }
    }


def certified_estimates(learners: Sequence[Mapping[str, Any]], index: int) -> list[Mapping[str, Any]] | None:
    """Certified R@1 of each model at the quoted ε, empty where it has none; None where none were asked for."""
    told = [learner.get("certificate") or {} for learner in learners]
    found = [entry["at"][index] if entry.get("method") else {} for entry in told]
    return found if any(found) else None


def _row(told: Mapping[str, Any], index: int | None) -> tuple[str, str, list[str]]:
    """Method, a note on it, and R@1, that at the quoted ε, the median radius, the constant and the confidence."""
    if told["method"] is None:
        return "none", str(told["reason"]), [MISSING] * 5
    quoted = None if index is None else told["at"][index]
    confidence, noise = number(told["confidence"]), number(told["settings"].get("sigma"))
    figures = [
        percent(number(told["recall"]["mean"])),
        MISSING if quoted is None else with_interval(bounds(quoted)),
        plain(number(told["median_radius"])),
        plain(number(told["constant"]), 7),
        "proven" if confidence is None else f"{percent(confidence)} each",
    ]
    method = _METHODS.get(str(told["method"]), str(told["method"]))
    return method, "" if noise is None else f"noise of σ = {plain(noise)}", figures


def _figure(document: Mapping[str, Any], learner: Series, entry: Mapping[str, Any]) -> Figure:
    told = entry["certificate"]
    smoothed = told["method"] == "smoothing"
    certified = replace(CERTIFIED, number=3, label="certified: smoothed" if smoothed else CERTIFIED.label)
    sizes = [float(eps) for eps in document["protocol"]["eps"]]
    clean = float(entry["clean"]["recall_at_1"]["mean"])
    attacked = [clean, *(float(each["worst"]["recall_at_1"]["mean"]) for each in entry["attacked"])]
    eps, shares = [float(x) for x in told["curve"]["eps"]], [float(x) for x in told["curve"]["recall"]]
    reading = (
        "The attacked line is of the model itself, the certified one of the smoothed model, whose predictions are the "
        "majority under noise: they are two models, and the lines may cross."
        if smoothed
        else "What attacks found bounds the truth from above, at that size and all larger ones; what is certified "
        "bounds it from below: the truth lies in the shaded bracket."
    )
    # What was found at one size bounds all larger ones, until the next.
    edges = sorted({0.0, *eps, *sizes, *(size * (1 - 1e-9) for size in sizes)})
    found = [attacked[sum(size <= at for size in sizes)] for at in edges]
    drawn = SandwichDisplay(edges, np.interp(edges, eps, shares), found, clean=[clean] * len(edges))
    return bracket(
        f"certified-{learner.number}",
        f"{learner.label}: clean, attacked and certified R@1",
        reading,
        measured(document, "ε"),
        "R@1",
        drawn,
        (
            (size_name(size), percent(clean), percent(left), percent(float(share["mean"])))
            for size, left, share in zip([0.0, *sizes], attacked, [told["recall"], *told["at"]])
        ),
        shaded=not smoothed,
        looks={"clean": _CLEAN, "attacked": _ATTACKED, "certified": certified},
    )
