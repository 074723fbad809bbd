"""What all figures of the reports share: their size, their axes, their lines, and shares over a size."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from certimetric.report.formatting import percent, plain, superscript
from certimetric.report.series import Series
from certimetric.report.svg import MUTED, colour_of, drawing, to_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

_WIDTH, _HEIGHT = 400, 270  # points; on a phone about 340 pixels wide, so that text of 12 is read at 10
_BANDS = 4  # intervals are drawn for so many learners; with more they hide each other and the table has them


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


def shares_figure(
    shown: Sequence[tuple[Series, Mapping[str, Any]]],
    name: str,
    title: str,
    reading: str,
    x: list[float],
    points: Mapping[int, Sequence[tuple[float | None, ...]]],
    x_label: str,
    y_label: str,
    symbol: str,
    marked: float | None,
    note: str,
    told: Callable[[float], str] = plain,
    logarithmic: bool = False,
) -> Figure:
    """Lines of shares over x with their intervals, so that all such figures look alike and read alike.

    Parameters
    ----------
    shown : list of (Series, dict)
        The learners, each with its look.
    name, title, reading : str
        Of the figure.
    x : list of float
    points : dict of int to list of (middle, low, high)
        By the number of the series.
    x_label, y_label, symbol : str
        Of the axes, and of x in the table.
    marked : float or None
        An x to mark.
    note : str
        Below the table.
    told : callable, default=plain
        How x is written in the table.
    logarithmic : bool, default=False
        Whether x, which is positive then, has a logarithmic axis.
    """
    with drawing():
        canvas, axes = canvas_with_axes(x_label, y_label)
        if logarithmic:
            axes.set_xscale("log")
            mark_powers(axes.xaxis)
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
            draw_line(axes, look, x, middle)
            drawn = [*middle, *low, *high] if len(shown) <= _BANDS else middle
            lowest = min([lowest, *(v for v in drawn if not math.isnan(v))])
            highest = max([highest, *(v for v in drawn if not math.isnan(v))])
        span = max(highest - lowest, 4.0)
        axes.set_ylim(max(0.0, lowest - 0.12 * span) if lowest > 0 else -2, min(101.0, highest + 0.12 * span))
        mark_per_cent(axes.yaxis)
        axes.margins(x=0.02)
        rows = ((told(v), *(with_interval(points[look.number][i]) for look, _ in shown)) for i, v in enumerate(x))
        return figure(canvas, name, title, reading, [look for look, _ in shown], symbol, rows, note)


def figure(
    canvas: Canvas,
    name: str,
    title: str,
    reading: str,
    looks: Iterable[Series],
    header: str | tuple[str, ...],
    rows: Iterable[tuple[str, ...]],
    note: str = "",
    *,
    told: str | None = None,
) -> Figure:
    """What was drawn, with its numbers; for the parameters see `Figure`.

    Parameters
    ----------
    canvas : matplotlib.figure.Figure
    header : str or tuple of str
        Of the table; a string is that of its first column, beside one for each series.
    told : str, optional
        What stands above the picture, where that is not how to read it.
    """
    looks = tuple(looks)
    svg = to_svg(canvas, f"fig-{name}", title, reading)
    header = (header, *(look.label for look in looks)) if isinstance(header, str) else header
    return Figure(name, title, reading if told is None else told, svg, looks, header, tuple(rows), note)


def points_figure(
    shown: Sequence[tuple[Series, Mapping[str, Any]]],
    title: str,
    reading: str,
    points: Mapping[int, Sequence[Sequence[float | None]]],
    x_label: str,
    y_label: str,
) -> Figure | None:
    """One point a learner with its intervals, two shares against each other; None where no learner has both.

    Parameters
    ----------
    shown : list of (Series, dict)
        The learners, each with its look.
    title, reading : str
        Of the figure.
    points : dict of int to pair of (middle, low, high)
        Along x and along y, by the number of the series.
    x_label, y_label : str
        Of the axes, and of the columns of the table.
    """
    rows = []
    with drawing():
        canvas, axes = canvas_with_axes(x_label, y_label)
        for look, _ in shown:
            (x, *across), (y, *up) = points[look.number]
            if x is None or y is None:
                continue
            bars = axes.errorbar(
                100 * x, 100 * y, xerr=_span(x, *across), yerr=_span(y, *up), color=colour_of(look.colour),
                marker=look.marker, markersize=9, elinewidth=1.2, linestyle="none", gid=f"series-{look.number}",
            )  # fmt: skip
            for line in bars[2]:
                line.set_gid(f"series-{look.number}")
            rows.append((look.label, percent(x), percent(y)))
        mark_per_cent(axes.xaxis)
        mark_per_cent(axes.yaxis)
        axes.margins(0.08)
        for limits, limit in ((axes.get_xlim(), axes.set_xlim), (axes.get_ylim(), axes.set_ylim)):
            limit(max(limits[0], -0.9), min(limits[1], 100.9))  # there are no shares beyond 0 and 100 %
        looks = [look for look, _ in shown]
        return figure(canvas, "balance", title, reading, looks, ("Learner", x_label, y_label), rows) if rows else None


def _span(centre: float, low: float | None, high: float | None) -> list[list[float]] | None:
    """How far an interval reaches to both sides, in per cent; equal splits leave one of no width."""
    if low is None or high is None:
        return None
    return [[100 * max(centre - low, 0.0)], [100 * max(high - centre, 0.0)]]


# The lines of a bracket: what attacks found bounds the truth from above, what is certified from below.
CLEAN = Series(5, "clean", "series-baseline", (1, 2), "", "", True)
ATTACKED = Series(2, "attacked: found", "series-2", (7, 2), "v", "M0 3.8L3.7-3H-3.7z", False)
CERTIFIED = Series(4, "certified: proven", "series-1", (), "^", "M0-3.8L3.7 3H-3.7z", False)


def bracket(
    name: str,
    title: str,
    reading: str,
    x_label: str,
    y_label: str,
    shade: tuple[Sequence[float], Sequence[float], Sequence[float]] | None,
    lines: Sequence[tuple[Series, Sequence[float], Sequence[float], dict[str, Any]]],
    rows: Iterable[tuple[str, ...]],
    note: str = "",
    *,
    told: str | None = None,
) -> Figure:
    """Shares against ε between what is certified and what attacks found.

    Parameters
    ----------
    name, title, reading : str
        Of the figure.
    x_label, y_label : str
    shade : (x, below, above) or None
        Where the truth lies.
    lines : list of (Series, x, y, dict)
        Shares from 0 to 1, and how else a line is drawn.
    rows, note, told
        As of :func:`figure`.
    """
    with drawing():
        canvas, axes = canvas_with_axes(x_label, y_label)
        if shade is not None:
            x, *ends = shade
            below, above = ([100 * v for v in end] for end in ends)
            axes.fill_between(x, below, above, color=colour_of("series-3"), alpha=0.18, linewidth=0)
        for look, x, y, drawn in lines:
            axes.plot(
                x, [100 * v for v in y], color=colour_of(look.colour), marker=look.marker,
                linestyle=(0, look.dashes) if look.dashes else "-", gid=f"series-{look.number}", **drawn,
            )  # fmt: skip
        axes.set_ylim(-2, 101)
        mark_per_cent(axes.yaxis)
        axes.margins(x=0.02)
        return figure(canvas, name, title, reading, [line[0] for line in lines], "ε", rows, note, told=told)


def canvas_with_axes(x_label: str, y_label: str, height: float = _HEIGHT) -> tuple[Canvas, Axes]:
    """An empty picture of the width that all figures have."""
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(_WIDTH / 72, height / 72), layout="constrained")
    axes = canvas.add_subplot()
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.tick_params(length=0)
    return canvas, axes


def draw_line(axes: Axes, look: Series, x: Sequence[float], y: Sequence[float]) -> None:
    """The line of one learner, in its look."""
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


def mark_powers(axis: Any) -> None:
    """Few marks on a logarithmic axis: plain numbers, and powers of ten where those would be long."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(numticks=6))
    axis.set_major_formatter(
        FuncFormatter(lambda value, _: plain(value) if value > 5e-3 else superscript(round(math.log10(value))))
    )
    axis.set_minor_formatter(NullFormatter())
    axis.set_tick_params(which="minor", length=0)


def mark_whole_numbers(axis: Any) -> None:
    """Few whole marks."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins=6, integer=True))


def with_interval(point: Sequence[float | None]) -> str:
    """A share in per cent, with its interval in brackets where there is one."""
    middle, low, high = point
    if low is None or high is None:
        return percent(middle)
    return f"{percent(middle)} [{100 * low:.1f}, {100 * high:.1f}]"
