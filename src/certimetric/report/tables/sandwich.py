"""One picture a learner: accuracy against ε, from random changes above to the certificate below, the bracket shaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from certimetric.report.document import number
from certimetric.report.formatting import norm_name, percent, plain, unit_name
from certimetric.report.plots import ATTACKED, CERTIFIED, CLEAN, Figure, bracket
from certimetric.report.series import Series, assign

# Key in the document, and how the line is drawn: from the mildest changes to what is proven.
_LINES = (
    ("clean", CLEAN),
    ("noise", Series(1, "random change", "series-5", (2.5, 1.6), ".", "M-2 0a2 2 0 1 0 4 0a2 2 0 1 0-4 0z", False)),
    ("adversarial", ATTACKED),
    ("exact", Series(3, "exact", "series-3", (), "D", "M0-4.2L4.2 0 0 4.2-4.2 0z", False)),
    ("certified", CERTIFIED),
)
_READING = (
    "Accuracy under changes of growing size of the query. What attacks found bounds the truth from above, what is "
    "certified bounds it from below: the truth lies in the shaded bracket. Random changes of the same size are milder."
)


def robustness_figures(document: Mapping[str, Any]) -> list[Figure]:
    """A figure for each learner whose robustness was measured."""
    return [
        _figure(document, look, learner["robustness"])
        for look, learner in zip(assign(document["learners"]), document["learners"])
        if learner.get("robustness")
    ]


def _figure(document: Mapping[str, Any], learner: Series, curves: Mapping[str, Any]) -> Figure:
    eps = [float(size) for size in curves["eps"]]
    shares_at = {**curves, "clean": [curves["clean"]] * len(eps)}
    lines = [(look, [float(share) for share in shares_at[key]]) for key, look in _LINES if shares_at[key]]
    shares = {look.label: values for look, values in lines}
    title = f"{learner.label}: bracketed accuracy"
    every = max(1, round(len(eps) / 6))
    return bracket(
        f"robustness-{learner.number}",
        title,
        _READING,
        f"ε, {norm_name(document)} ({unit_name(document)})",
        "accuracy",
        (eps, shares[CERTIFIED.label], shares[ATTACKED.label]),
        [(look, eps, values, {"markevery": (look.number, every)}) for look, values in lines],
        ((plain(size), *(percent(values[i]) for _, values in lines)) for i, size in enumerate(eps) if i % 2 == 0),
        f"{curves['instances']} test instances of one split.",
        told=_tightness(curves),
    )


def _tightness(curves: Mapping[str, Any]) -> str:
    """How narrow the bracket is, in a sentence."""
    certified, attacked = number(curves.get("certified_over_exact")), number(curves.get("exact_over_attack"))
    if certified is not None and attacked is not None:
        return (
            f"For the median instance the certificate reaches {percent(certified)} of the exact smallest change, and "
            f"that is {percent(attacked)} of what attacks found."
        )
    ratio = number(curves.get("certified_over_attack"))
    if ratio is None:
        return "No attack found a change with which to compare the certificate."
    return (
        f"For the median instance the certificate reaches {percent(ratio)} of the smallest change that attacks found."
    )
