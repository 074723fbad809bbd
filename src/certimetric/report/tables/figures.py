"""The figures of the report, each with the numbers that it shows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from certimetric.report.document import bounds, number, quoted_eps
from certimetric.report.formatting import norm_name, percent, plain, unit_name
from certimetric.report.plots import (
    Figure,
    canvas_with_axes,
    draw_line,
    figure,
    mark_powers,
    mark_whole_numbers,
    points_figure,
    shares_figure,
)
from certimetric.report.series import Series, assign
from certimetric.report.svg import INK, MUTED, SURFACE, colour_of, drawing
from certimetric.report.tables.comparison import estimate, mean

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MAX_ROWS = 80
_QUANTILES = (5, 10, 25, 75, 90, 95)


def curves(document: Mapping[str, Any]) -> list[Figure]:
    """Accuracy against noise, certified accuracy against eps, radii, and accuracy against certificate."""
    found = [noise_figure(document), certified_figure(document), radii_figure(document), balance_figure(document)]
    return [figure for figure in found if figure is not None]


def noise_figure(document: Mapping[str, Any]) -> Figure | None:
    """Accuracy under Gaussian noise of growing strength; None where no noise was measured."""
    levels = [float(level) for level in document["protocol"].get("noise") or []]
    shown = _shown(document)
    if not levels or not shown:
        return None

    points = {
        look.number: [_accuracy(estimate(learner, "error"))]
        + [_accuracy(estimate(learner, "noise_error", i)) for i in range(len(levels))]
        for look, learner in shown
    }
    levels = [0.0, *levels] if 0.0 not in levels else levels
    points = {key: values[-len(levels) :] for key, values in points.items()}
    return shares_figure(
        shown,
        "noise",
        "Accuracy against noise",
        "How often each metric is still right when random Gaussian noise is added to the query: the flatter the line, "
        "the less it is disturbed by chance, which is milder than an attacker.",
        levels,
        points,
        f"noise, standard deviation σ ({_noise_unit(document)})",
        "accuracy",
        "σ",
        None,
        _interval_note(points),
    )


def certified_figure(document: Mapping[str, Any]) -> Figure | None:
    """Certified accuracy against the radius eps."""
    radii = [float(eps) for eps in document["protocol"].get("eps") or []]
    shown = _shown(document)
    if not radii or not shown:
        return None
    points = {
        look.number: [bounds(estimate(learner, "certified_accuracy", i)) for i in range(len(radii))]
        for look, learner in shown
    }
    quoted = quoted_eps(document)
    return shares_figure(
        shown,
        "certified",
        "Certified accuracy against ε",
        "The share of test instances that are predicted correctly and proven to stay so under every change of the "
        "query up to size ε: no attack within ε, known or unknown, can push the accuracy below the line.",
        radii,
        points,
        f"ε, {norm_name(document)} ({unit_name(document)})",
        "certified accuracy",
        "ε",
        None if quoted is None else radii[quoted],
        _interval_note(points),
    )


def radii_figure(document: Mapping[str, Any]) -> Figure | None:
    """The spread of certified radii, one strip for each learner."""
    shown = [
        # The median is that of the table; the rest are quantiles over all splits together.
        (look, [number(value) for value in learner["radius_quantiles"]], mean(learner, "median_radius"), learner)
        for look, learner in _shown(document)
        if learner.get("radius_quantiles")
    ]
    if not shown:
        return None
    reach = [q[95] for _, q, _, _ in shown if q[95] is not None and math.isfinite(q[95])]
    finite = [v for _, q, _, _ in shown for v in q if v is not None and math.isfinite(v)]
    end = 1.06 * (max(reach, default=0.0) or max(finite, default=0.0) or 1.0)
    quoted = quoted_eps(document)
    title = "Certified radii"
    reading = (
        "How large a change each test instance is proven to withstand: the thick bar holds the middle half of the "
        "instances, the pale one 90 %, the mark is the median; a wrong prediction counts as radius 0."
    )
    with drawing():
        canvas, axes = canvas_with_axes(
            f"certified radius, {norm_name(document)} ({unit_name(document)})", "", 48 * len(shown) + 62
        )
        axes.grid(axis="y", visible=False)
        axes.spines["left"].set_visible(False)
        axes.set_yticks([])
        axes.set_ylim(len(shown) - 0.35, -0.62)
        axes.set_xlim(0, end)
        if quoted is not None and (eps := float(document["protocol"]["eps"][quoted])) < end:
            axes.axvline(eps, color=MUTED, linewidth=1, linestyle=(0, (1, 2)), zorder=0.5)
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
        return figure(canvas, "radii", title, reading, (), header, rows, note)


def _strip(axes: Axes, row: int, q: Sequence[float | None], median: float | None, look: Series, end: float) -> None:
    colour = colour_of(look.colour)

    def inside(value: float | None) -> float:
        return 0.0 if value is None else min(value, end)

    axes.text(0, row - 0.3, _short(look.label, 34), fontsize=11, va="center", ha="left")
    for low, high, height, alpha in ((5, 95, 0.22, 0.28), (25, 75, 0.22, 0.75)):
        start, stop = inside(q[low]), inside(q[high])
        axes.barh(row + 0.08, stop - start, height, start, color=colour, alpha=alpha, linewidth=0)
    beyond = median is not None and median > end
    axes.plot(
        [inside(median)], [row + 0.08], marker=">" if beyond else "D", markersize=7.5, color=SURFACE,
        markeredgecolor=INK, markeredgewidth=1.2, clip_on=False, linestyle="none",
    )  # fmt: skip
    told = "∞" if median is not None and math.isinf(median) else plain(median)
    axes.text(end, row - 0.3, f"median {told}", fontsize=10.5, va="center", ha="right", color=MUTED)


def balance_figure(document: Mapping[str, Any]) -> Figure | None:
    """Clean against certified accuracy, one point for each learner; None with fewer than two."""
    index = quoted_eps(document)
    shown = _shown(document)
    if index is None or len(shown) < 2:
        return None
    eps = plain(float(document["protocol"]["eps"][index]))
    title = "Accuracy and certificate together"
    reading = (
        f"Each metric once, by its accuracy on clean queries and its certified accuracy at ε = {eps}: up and to the "
        "right is better on both counts, and the cross spans the 95 % interval over splits."
    )
    points = {
        look.number: (
            _accuracy(estimate(learner, "error")),
            bounds(estimate(learner, "certified_accuracy", index)),
        )
        for look, learner in shown
    }
    return points_figure(shown, title, reading, points, "accuracy", f"certified at ε = {eps}")


def _accuracy(entry: Mapping[str, Any]) -> tuple[float | None, float | None, float | None]:
    """Accuracy is one less the error, so the ends of its interval change places."""
    error, low, high = bounds(entry)
    return _less(error), _less(high), _less(low)


def spectrum_figure(document: Mapping[str, Any]) -> Figure | None:
    """Eigenvalues of every metric on a logarithmic axis."""
    shown = [
        (look, [v for v in map(number, learner["metric"]["spectrum"]) if v is not None])
        for look, learner in _shown(document)
        if learner.get("metric") and learner["metric"].get("spectrum")
    ]
    if not shown:
        return None
    title = "Spectrum of each metric"
    reading = (
        "The eigenvalues of the learned matrix M, largest first and relative to it: a flat line weighs all directions "
        "alike, as Euclidean does; a steep one leans on few directions, and small changes along those decide."
    )
    floor = min((v for _, values in shown for v in values if v > 1e-12), default=1e-3)
    longest = max(len(values) for _, values in shown)
    with drawing():
        canvas, axes = canvas_with_axes("eigenvalue, by rank", "relative eigenvalue")
        axes.set_yscale("log")
        for look, values in shown:
            kept = [v if v > 1e-12 else math.nan for v in values]
            draw_line(axes, look, range(1, len(kept) + 1), kept)
        axes.set_ylim(min(floor, 0.3) / 1.5, 1.6)
        axes.set_xlim(1 - 0.02 * longest, longest + 0.02 * longest + (longest == 1))
        mark_powers(axes.yaxis)
        mark_whole_numbers(axes.xaxis)
        ranks = sorted(
            {round(i * (longest - 1) / (min(longest, _MAX_ROWS) - 1 or 1)) for i in range(min(longest, _MAX_ROWS))}
        )
        rows = (
            (str(rank + 1), *(plain(values[rank] if rank < len(values) else None) for _, values in shown))
            for rank in ranks
        )
        note = f"{_MAX_ROWS} of {longest} eigenvalues; all are in the document at the end."
        looks = [look for look, _ in shown]
        return figure(canvas, "spectrum", title, reading, looks, "rank", rows, note if longest > _MAX_ROWS else "")


def _shown(document: Mapping[str, Any]) -> list[tuple[Series, Mapping[str, Any]]]:
    """The learners that have results, with the look each of them keeps in every figure."""
    learners = document["learners"]
    return [(look, learner) for look, learner in zip(assign(learners), learners) if learner.get("summary")]


def _noise_unit(document: Mapping[str, Any]) -> str:
    return "std" if document["protocol"]["units"] == "standardised" else unit_name(document)


def _less(value: float | None) -> float | None:
    return None if value is None else 1.0 - value


def _short(label: str, length: int) -> str:
    return label if len(label) <= length else label[: length - 1].rstrip() + "…"


def _interval_note(points: Mapping[int, Sequence[Sequence[float | None]]]) -> str:
    if any(point[1] is not None for values in points.values() for point in values):
        return "Mean over splits, with its 95 % interval in brackets."
    return "One split: no interval can be told."
