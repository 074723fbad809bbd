"""The figures of the report, each with the numbers that it shows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from certimetric.report.document import estimate, mean, number, quoted_eps
from certimetric.report.formatting import norm_name, percent, plain, superscript, unit_name
from certimetric.report.series import Series, assign
from certimetric.report.svg import INK, MUTED, SURFACE, colour_of, drawing, to_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

_WIDTH, _HEIGHT = 400, 270  # points; on a phone about 340 pixels wide, so that text of 12 is read at 10
_BANDS = 4  # intervals are drawn for so many learners; with more they hide each other and the table has them
_MAX_ROWS = 80
_QUANTILES = (5, 10, 25, 50, 75, 90, 95)


@dataclass(frozen=True)
class Figure:
    """One figure: the picture, what it says, how to read it, and its numbers as a table."""

    name: str
    title: str
    reading: str
    svg: str
    series: tuple[Series, ...]
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


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

    def accuracy(entry: Mapping[str, Any]) -> tuple[float | None, float | None, float | None]:
        error, low, high = (number(entry.get(part)) for part in ("mean", "low", "high"))
        return _less(error), _less(high), _less(low)

    points = {
        look.number: [accuracy(estimate(learner, "error"))]
        + [accuracy(estimate(learner, "noise_error", i)) for i in range(len(levels))]
        for look, learner in shown
    }
    levels = [0.0, *levels] if 0.0 not in levels else levels
    points = {key: values[-len(levels) :] for key, values in points.items()}
    return _accuracy_figure(
        document,
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
    )


def certified_figure(document: Mapping[str, Any]) -> Figure | None:
    """Certified accuracy against the radius eps."""
    radii = [float(eps) for eps in document["protocol"].get("eps") or []]
    shown = _shown(document)
    if not radii or not shown:
        return None
    points = {
        look.number: [
            tuple(number(estimate(learner, "certified_accuracy", i).get(part)) for part in ("mean", "low", "high"))
            for i in range(len(radii))
        ]
        for look, learner in shown
    }
    quoted = quoted_eps(document)
    return _accuracy_figure(
        document,
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
    )


def radii_figure(document: Mapping[str, Any]) -> Figure | None:
    """The spread of certified radii, one strip for each learner."""
    shown = [
        (look, [number(value) for value in learner["radius_quantiles"]], learner)
        for look, learner in _shown(document)
        if learner.get("radius_quantiles")
    ]
    if not shown:
        return None
    reach = [q[95] for _, q, _ in shown if q[95] is not None and math.isfinite(q[95])]
    finite = [v for _, q, _ in shown for v in q if v is not None and math.isfinite(v)]
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
        for row, (look, q, _) in enumerate(shown):
            _strip(axes, row, q, look, end)
        svg = to_svg(canvas, "fig-radii", title, reading)
    return Figure(
        "radii",
        title,
        reading,
        svg,
        (),
        ("Learner", "wrong", *(f"{p} %" for p in _QUANTILES), "largest"),
        tuple(
            (
                look.label,
                percent(mean(learner, "error")),
                *(plain(q[p]) for p in _QUANTILES),
                plain(q[100]),
            )
            for look, q, learner in shown
        ),
        "Quantiles over the test instances of all splits; radii in " + unit_name(document) + ".",
    )


def _strip(axes: Axes, row: int, q: Sequence[float | None], look: Series, end: float) -> None:
    colour = colour_of(look.colour)

    def at(p: int) -> float:
        value = q[p]
        return 0.0 if value is None else min(value, end)

    axes.text(0, row - 0.3, _short(look.label, 34), fontsize=11, va="center", ha="left")
    for low, high, height, alpha in ((5, 95, 0.22, 0.28), (25, 75, 0.22, 0.75)):
        axes.barh(row + 0.08, at(high) - at(low), height, at(low), color=colour, alpha=alpha, linewidth=0)
    median = q[50]
    beyond = median is not None and median > end
    axes.plot(
        [at(50)], [row + 0.08], marker=">" if beyond else "D", markersize=7.5, color=SURFACE,
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
    rows = []
    with drawing():
        canvas, axes = canvas_with_axes("accuracy", f"certified at ε = {eps}")
        for look, learner in shown:
            error, certified = estimate(learner, "error"), estimate(learner, "certified_accuracy", index)
            x, y = _less(number(error.get("mean"))), number(certified.get("mean"))
            if x is None or y is None:
                continue
            spans: dict[str, Any] = {}
            for axis, entry, centre in (("xerr", error, 1 - x), ("yerr", certified, y)):
                low, high = number(entry.get("low")), number(entry.get("high"))
                if low is not None and high is not None:
                    # Equal splits leave an interval of no width, and rounding may turn its ends round.
                    below, above = 100 * max(centre - low, 0.0), 100 * max(high - centre, 0.0)
                    # Accuracy is one less the error, so the ends of its interval change places.
                    spans[axis] = [[above], [below]] if axis == "xerr" else [[below], [above]]
            bars = axes.errorbar(
                100 * x, 100 * y, **spans, color=colour_of(look.colour), marker=look.marker, markersize=9,
                elinewidth=1.2, linestyle="none", gid=f"series-{look.number}",
            )  # fmt: skip
            for line in bars[2]:
                line.set_gid(f"series-{look.number}")
            rows.append((look.label, percent(x), percent(y)))
        mark_per_cent(axes.xaxis)
        mark_per_cent(axes.yaxis)
        axes.margins(0.08)
        svg = to_svg(canvas, "fig-balance", title, reading)
    if not rows:
        return None
    looks = tuple(look for look, _ in shown)
    return Figure(
        "balance", title, reading, svg, looks, ("Learner", "accuracy", f"certified at ε = {eps}"), tuple(rows)
    )


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
            _line(axes, look, range(1, len(kept) + 1), kept)
        axes.set_ylim(min(floor, 0.3) / 1.5, 1.6)
        axes.set_xlim(1 - 0.02 * longest, longest + 0.02 * longest + (longest == 1))
        _powers(axes)
        _whole_numbers(axes)
        svg = to_svg(canvas, "fig-spectrum", title, reading)
    rows = sorted(
        {round(i * (longest - 1) / (min(longest, _MAX_ROWS) - 1 or 1)) for i in range(min(longest, _MAX_ROWS))}
    )
    return Figure(
        "spectrum",
        title,
        reading,
        svg,
        tuple(look for look, _ in shown),
        ("rank", *(look.label for look, _ in shown)),
        tuple(
            (str(row + 1), *(plain(values[row]) if row < len(values) else plain(None) for _, values in shown))
            for row in rows
        ),
        f"{_MAX_ROWS} of {longest} eigenvalues; all are in the document at the end." if longest > _MAX_ROWS else "",
    )


def _accuracy_figure(
    document: Mapping[str, Any],
    name: str,
    title: str,
    reading: str,
    x: list[float],
    points: Mapping[int, Sequence[tuple[float | None, ...]]],
    x_label: str,
    y_label: str,
    symbol: str,
    marked: float | None,
) -> Figure:
    """Lines of shares over x with their intervals: noise and certificate look alike and read alike."""
    shown = _shown(document)
    with drawing():
        canvas, axes = canvas_with_axes(x_label, y_label)
        if marked is not None:
            axes.axvline(marked, color=MUTED, linewidth=1, linestyle=(0, (1, 2)), zorder=0.5)
        lowest, highest = math.inf, 0.0
        for look, _ in shown:
            values = [tuple(math.nan if v is None else 100 * v for v in point) for point in points[look.number]]
            middle, low, high = (list(part) for part in zip(*values))
            if len(shown) <= _BANDS and not all(map(math.isnan, low)):
                axes.fill_between(
                    x, low, [min(v, 100.0) for v in high], color=colour_of(look.colour), alpha=0.13, linewidth=0,
                    gid=f"series-{look.number}",
                )  # fmt: skip
            _line(axes, look, x, middle)
            lowest = min([lowest, *(v for v in middle if not math.isnan(v))])
            highest = max([highest, *(v for v in middle if not math.isnan(v))])
        span = max(highest - lowest, 4.0)
        axes.set_ylim(max(0.0, lowest - 0.12 * span) if lowest > 0 else -2, min(101.0, highest + 0.12 * span))
        mark_per_cent(axes.yaxis)
        axes.margins(x=0.02)
        svg = to_svg(canvas, f"fig-{name}", title, reading)
    rows = tuple(
        (plain(value), *(_with_interval(points[look.number][i]) for look, _ in shown)) for i, value in enumerate(x)
    )
    looks = tuple(look for look, _ in shown)
    return Figure(
        name,
        title,
        reading,
        svg,
        looks,
        (symbol, *(look.label for look in looks)),
        rows,
        "Mean over splits, with its 95 % interval in brackets."
        if any(point[1] is not None for values in points.values() for point in values)
        else "One split: no interval can be told.",
    )


def canvas_with_axes(x_label: str, y_label: str, height: float = _HEIGHT) -> tuple[Canvas, Axes]:
    """An empty picture of the width that all figures have."""
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(_WIDTH / 72, height / 72), layout="constrained")
    axes = canvas.add_subplot()
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.tick_params(length=0)
    return canvas, axes


def _line(axes: Axes, look: Series, x: Sequence[float], y: Sequence[float]) -> None:
    every = max(1, round(len(x) / 7))
    axes.plot(
        x, y, color=colour_of(look.colour), linestyle=(0, look.dashes) if look.dashes else "-", marker=look.marker,
        # Each learner's markers start elsewhere, so that lines that coincide can still be told apart.
        markevery=(look.number % every, every), zorder=2 if look.baseline else 3, gid=f"series-{look.number}",
    )  # fmt: skip


def mark_per_cent(axis: Any) -> None:
    """Few round marks, in per cent."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{plain(round(value, 6))} %"))


def _powers(axes: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.yaxis.set_major_locator(LogLocator(numticks=6))
    axes.yaxis.set_major_formatter(
        FuncFormatter(lambda value, _: plain(value) if value > 5e-3 else superscript(round(math.log10(value))))
    )
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(which="minor", length=0)


def _whole_numbers(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))


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


def _with_interval(point: Sequence[float | None]) -> str:
    middle, low, high = point
    if low is None or high is None:
        return percent(middle)
    return f"{percent(middle)} [{100 * low:.1f}, {100 * high:.1f}]"
