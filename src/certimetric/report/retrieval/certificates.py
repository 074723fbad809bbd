"""The part of an audit of embedding models on certificates: clean, attacked and certified R@1 in one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from certimetric.report.document import bounds, number, quoted_eps
from certimetric.report.formatting import MISSING, norm_name, percent, plain, size_name, unit_name
from certimetric.report.page import figure_view
from certimetric.report.plots import ATTACKED, CERTIFIED, CLEAN, Figure, bracket, with_interval
from certimetric.report.series import Series, assign

_CLEAN, _ATTACKED = replace(CLEAN, number=1), replace(ATTACKED, number=2)
_METHODS = {
    "lipschitz": "Lipschitz constant",
    "smoothing": "randomised smoothing",
    "interval": "interval bounds",
    "pixels": "the pixels themselves",
}


def certificates_view(document: Mapping[str, Any]) -> dict[str, Any] | None:
    """Table and figures of the certificates; None where none were asked for."""
    learners = document["learners"]
    if not any(learner.get("certificate") for learner in learners):
        return None
    looks, index = assign(learners), quoted_eps(document)
    rows, figures = [], []
    for look, learner in zip(looks, learners):
        told = learner.get("certificate")
        if not told:
            continue
        rows.append({"look": look, **_row(told, index)})
        if told["method"] is not None:
            figures.append(figure_view(_figure(document, look, learner)))
    smoothed = any(row["method"] == _METHODS["smoothing"] for row in rows)
    return {"certificates": {"rows": rows, "figures": figures, "smoothed": smoothed}}


def certified_estimates(learners: Sequence[Mapping[str, Any]], index: int) -> list[Mapping[str, Any]] | None:
    """Certified R@1 of each model at the quoted ε, empty where it has none; None where none were asked for."""
    told = [learner.get("certificate") or {} for learner in learners]
    found = [entry["at"][index] if entry.get("method") else {} for entry in told]
    return found if any(found) else None


def _row(told: Mapping[str, Any], index: int | None) -> dict[str, str]:
    if told["method"] is None:
        return {"method": "none", "note": str(told["reason"])} | dict.fromkeys(
            ("recall", "quoted", "median", "constant", "confidence"), MISSING
        )
    quoted = None if index is None else told["at"][index]
    confidence, constant = number(told["confidence"]), number(told["constant"])
    noise = number(told["settings"].get("sigma"))
    return {
        "method": _METHODS.get(str(told["method"]), str(told["method"])),
        "note": "" if noise is None else f"noise of σ = {plain(noise)}",
        "recall": percent(number(told["recall"]["mean"])),
        "quoted": MISSING if quoted is None else with_interval(bounds(quoted)),
        "median": plain(number(told["median_radius"]), 3),
        "constant": MISSING if constant is None else plain(constant, 7),
        "confidence": "proven" if confidence is None else f"{percent(confidence)} each",
    }


def _figure(document: Mapping[str, Any], learner: Series, entry: Mapping[str, Any]) -> Figure:
    told = entry["certificate"]
    smoothed = told["method"] == "smoothing"
    certified = replace(CERTIFIED, number=3, label="certified: smoothed" if smoothed else CERTIFIED.label)
    sizes = [float(eps) for eps in document["protocol"]["eps"]]
    clean = float(entry["clean"]["recall_at_1"]["mean"])
    attacked = [clean, *(float(each["worst"]["recall_at_1"]["mean"]) for each in entry["attacked"])]
    eps, shares = [float(x) for x in told["curve"]["eps"]], [float(x) for x in told["curve"]["recall"]]
    title = f"{learner.label}: clean, attacked and certified R@1"
    reading = (
        "The attacked line is of the model itself, the certified one of the smoothed model, whose predictions are the "
        "majority under noise: they are two models, and the lines may cross."
        if smoothed
        else "What attacks found bounds the truth from above, at that size and all larger ones; what is certified "
        "bounds it from below: the truth lies in the shaded bracket."
    )
    x = [0.0, *sizes]
    shade = None
    if not smoothed:
        # What was found at one size bounds all larger ones, until the next.
        edges = sorted({*eps, *sizes, *(size * (1 - 1e-9) for size in sizes)})
        shade = edges, np.interp(edges, eps, shares).tolist(), [attacked[sum(s <= at for s in sizes)] for at in edges]
    lines = ((_CLEAN, x, [clean] * len(x), "default"), (_ATTACKED, x, attacked, "steps-post"))
    return bracket(
        f"certified-{learner.number}",
        title,
        reading,
        f"ε, {norm_name(document)} ({unit_name(document)})",
        "R@1",
        shade,
        [
            (look, at, values, {"drawstyle": style, "markevery": max(1, len(at) // 7)})
            for look, at, values, style in (*lines, (certified, eps, shares, "default"))
        ],
        (
            (size_name(size), percent(clean), percent(found), percent(_at(told, i)))
            for i, (size, found) in enumerate(zip(x, attacked))
        ),
    )


def _at(told: Mapping[str, Any], i: int) -> float:
    """Certified R@1 without a perturbation, and then at every ε of the audit."""
    return float((told["recall"] if i == 0 else told["at"][i - 1])["mean"])
