"""The figures of the report: noise, certified accuracy, radii, and the bracket of accuracy under changes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from certimetric.plots.accuracy import SandwichDisplay
from certimetric.report.document import bounds, number, quoted_eps
from certimetric.report.formatting import measured, percent, plain, unit_name
from certimetric.report.plots import (
    Figure,
    Point,
    axes_of,
    balance_figure,
    bracket,
    figure,
    mark,
    shares_figure,
)
from certimetric.report.series import Series, with_looks
from certimetric.report.svg import INK, MUTED, SURFACE, colour_of
from certimetric.report.tables.comparison import accuracy, estimate, mean

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_QUANTILES = (5, 10, 25, 75, 90, 95)
# Keys of a bracket in the document: from the mildest changes to what is proven.
_SHARES = ("clean", "noise", "adversarial", "exact", "certified")


def curves(document: Mapping[str, Any]) -> list[Figure]:
    """Accuracy against noise, certified accuracy against eps, radii, and accuracy against certificate."""
    found = [noise_figure(document), certified_figure(document), radii_figure(document), _balance(document)]
    return [figure for figure in found if figure is not None]


def noise_figure(document: Mapping[str, Any]) -> Figure | None:
    """Accuracy under Gaussian noise of growing strength; None where no noise was measured."""
    levels = [float(level) for level in document["protocol"].get("noise") or []]
    shown = with_looks(document, "summary")
    if not levels or not shown:
        return None
    lines = [
        (look, [accuracy(learner, "error"), *(accuracy(learner, "noise_error", i) for i in range(len(levels)))])
        for look, learner in shown
    ]
    levels = [0.0, *levels] if 0.0 not in levels else levels
    lines = [(look, points[-len(levels) :]) for look, points in lines]
    unit = "std" if document["protocol"]["units"] == "standardised" else unit_name(document)
    return shares_figure(
        lines,
        "noise",
        "Accuracy against noise",
        "How often each metric is still right when random Gaussian noise is added to the query: the flatter the line, "
        "the less it is disturbed by chance, which is milder than an attacker.",
        levels,
        f"noise, standard deviation σ ({unit})",
        "accuracy",
        "σ",
        note=_interval_note(lines),
    )


def certified_figure(document: Mapping[str, Any]) -> Figure | None:
    """Certified accuracy against the radius eps."""
    radii = [float(eps) for eps in document["protocol"].get("eps") or []]
    shown = with_looks(document, "summary")
    if not radii or not shown:
        return None
    lines = [
        (look, [bounds(estimate(learner, "certified_accuracy", i)) for i in range(len(radii))])
        for look, learner in shown
    ]
    quoted = quoted_eps(document)
    return shares_figure(
        lines,
        "certified",
        "Certified accuracy against ε",
        "The share of test instances that are predicted correctly and proven to stay so under every change of the "
        "query up to size ε: no attack within ε, known or unknown, can push the accuracy below the line.",
        radii,
        measured(document, "ε"),
        "certified accuracy",
        "ε",
        marked=None if quoted is None else radii[quoted],
        note=_interval_note(lines),
    )


def radii_figure(document: Mapping[str, Any]) -> Figure | None:
    """The spread of certified radii, one strip for each learner."""
    shown = [
        # The median is that of the table; the rest are quantiles over all splits together.
        (look, [number(value) for value in learner["radius_quantiles"]], mean(learner, "median_radius"), learner)
        for look, learner in with_looks(document, "summary")
        if learner.get("radius_quantiles")
    ]
    if not shown:
        return None
    reach = [q[95] for _, q, _, _ in shown if q[95] is not None and math.isfinite(q[95])]
    finite = [v for _, q, _, _ in shown for v in q if v is not None and math.isfinite(v)]
    end = 1.06 * (max(reach, default=0.0) or max(finite, default=0.0) or 1.0)
    quoted = quoted_eps(document)
    reading = (
        "How large a change each test instance is proven to withstand: the thick bar holds the middle half of the "
        "instances, the pale one 90 %, the mark is the median; a wrong prediction counts as radius 0."
    )
    # Not the histogram of `RadiusDisplay`: documents keep quantiles, and learners are compared strip by strip.
    with axes_of(measured(document, "certified radius"), "", 48 * len(shown) + 62) as axes:
        axes.grid(axis="y", visible=False)
        axes.spines["left"].set_visible(False)
        axes.set_yticks([])
        axes.set_ylim(len(shown) - 0.35, -0.62)
        axes.set_xlim(0, end)
        if quoted is not None and (eps := float(document["protocol"]["eps"][quoted])) < end:
            mark(axes, eps)
        for row, (look, q, median, _) in enumerate(shown):
            _strip(axes, row, q, median, look, end)
        header = ("Learner", "wrong", "median", *(f"{p} %" for p in _QUANTILES), "largest")
        rows = (
            (look.label, percent(mean(learner, "error")), plain(median), *(plain(q[p]) for p in (*_QUANTILES, 100)))
            for look, q, median, learner in shown
        )
        note = (
            "The median is the mean over splits of the median in each, as in the comparison; quantiles are over the "
            f"test instances of all splits together. Radii in {unit_name(document)}."
        )
        return figure(axes, "radii", "Certified radii", reading, (), header, rows, note)


def _strip(axes: Axes, row: int, q: Sequence[float | None], median: float | None, look: Series, end: float) -> None:
    def inside(value: float | None) -> float:
        return 0.0 if value is None else min(value, end)

    label = look.label if len(look.label) <= 34 else look.label[:33].rstrip() + "…"
    axes.text(0, row - 0.3, label, fontsize=11, va="center", ha="left")
    for low, high, alpha in ((5, 95, 0.28), (25, 75, 0.75)):
        start, stop = inside(q[low]), inside(q[high])
        axes.barh(row + 0.08, stop - start, 0.22, start, color=colour_of(look.colour), alpha=alpha, linewidth=0)
    beyond = median is not None and median > end
    axes.plot(
        [inside(median)], [row + 0.08], marker=">" if beyond else "D", markersize=7.5, color=SURFACE,
        markeredgecolor=INK, markeredgewidth=1.2, clip_on=False, linestyle="none",
    )  # fmt: skip
    axes.text(end, row - 0.3, f"median {plain(median)}", fontsize=10.5, va="center", ha="right", color=MUTED)


def _balance(document: Mapping[str, Any]) -> Figure | None:
    """Clean against certified accuracy."""
    if (index := quoted_eps(document)) is None:
        return None
    eps = plain(float(document["protocol"]["eps"][index]))
    reading = (
        f"Each metric once, by its accuracy on clean queries and its certified accuracy at ε = {eps}: up and to the "
        "right is better on both counts, and the cross spans the 95 % interval over splits."
    )
    points = [
        (look, accuracy(learner, "error"), bounds(estimate(learner, "certified_accuracy", index)))
        for look, learner in with_looks(document, "summary")
    ]
    return balance_figure(points, "Accuracy and certificate together", reading, "accuracy", f"certified at ε = {eps}")


def _interval_note(lines: Sequence[tuple[Series, Sequence[Point]]]) -> str:
    if any(point[1] is not None for _, points in lines for point in points):
        return "Mean over splits, with its 95 % interval in brackets."
    return "One split: no interval can be told."


def robustness_figures(document: Mapping[str, Any]) -> list[Figure]:
    """Of each learner whose robustness was measured, from random changes above to the certificate below."""
    return [_bracket(document, look, learner["robustness"]) for look, learner in with_looks(document, "robustness")]


def _bracket(document: Mapping[str, Any], learner: Series, curves: Mapping[str, Any]) -> Figure:
    eps = [float(size) for size in curves["eps"]]
    shares_at = {**curves, "clean": [curves["clean"]] * len(eps)}
    clean, noise, attacked, exact, certified = (
        [float(share) for share in shares_at[key]] if shares_at[key] else None for key in _SHARES
    )
    lines = [shares for shares in (clean, noise, attacked, exact, certified) if shares is not None]
    return bracket(
        f"robustness-{learner.number}",
        f"{learner.label}: bracketed accuracy",
        "Accuracy under changes of growing size of the query. What attacks found bounds the truth from above, what is "
        "certified bounds it from below: the truth lies in the shaded bracket. Random changes of the same size are "
        "milder.",
        measured(document, "ε"),
        "accuracy",
        SandwichDisplay(eps, certified, attacked, exact, clean=clean, random=noise),
        ((plain(size), *(percent(values[i]) for values in lines)) for i, size in enumerate(eps) if i % 2 == 0),
        f"{curves['instances']} test instances of one split.",
        told=_tightness(curves),
    )


def _tightness(curves: Mapping[str, Any]) -> str:
    """How narrow the bracket is, in a sentence."""
    certified, attacked = number(curves.get("certified_over_exact")), number(curves.get("exact_over_attack"))
    ratio = number(curves.get("certified_over_attack"))
    reaches = "For the median instance the certificate reaches"
    if certified is not None and attacked is not None:
        of_attacks = f"that is {percent(attacked)} of what attacks found"
        return f"{reaches} {percent(certified)} of the exact smallest change, and {of_attacks}."
    if ratio is None:
        return "No attack found a change with which to compare the certificate."
    return f"{reaches} {percent(ratio)} of the smallest change that attacks found."
