"""What all figures of the reports share: their size, their axes, their lines, and shares over a size."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from certimetric.plots.accuracy import SandwichDisplay
from certimetric.plots.drawing import draw_curve, mark_per_cent
from certimetric.report.formatting import percent, plain, superscript
from certimetric.report.series import Series
from certimetric.report.svg import MUTED, colour_of, drawing, to_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

Point = Sequence["float | None"]  # a share, and the two ends of its interval

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


@contextmanager
def canvas(height: float = _HEIGHT) -> Iterator[Canvas]:
    """An empty picture of the width that all figures have, open to be drawn on, and then to be told by `figure`."""
    from matplotlib.figure import Figure as Canvas

    with drawing():
        yield Canvas(figsize=(_WIDTH / 72, height / 72), layout="constrained")


@contextmanager
def axes_of(x_label: str, y_label: str, height: float = _HEIGHT) -> Iterator[Axes]:
    """Axes that fill such a picture."""
    with canvas(height) as drawn:
        axes = drawn.add_subplot()
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.tick_params(length=0)
        yield axes


def figure(
    axes: Axes,
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
    """What was drawn on the axes of an open picture, with its numbers; for the parameters see `Figure`.

    A header that is a string is that of the first column, beside one for each series; ``told`` stands above the
    picture where that is not how to read it.
    """
    looks, drawn = tuple(looks), axes.get_figure(root=True)
    assert drawn is not None
    svg = to_svg(drawn, f"fig-{name}", title, reading)
    header = (header, *(look.label for look in looks)) if isinstance(header, str) else header
    return Figure(name, title, reading if told is None else told, svg, looks, header, tuple(rows), note)


def style_of(look: Series, **also: Any) -> dict[str, Any]:
    """How matplotlib draws what belongs to a learner, but for what is said ``also``."""
    dashes = (0, look.dashes) if look.dashes else "-"
    own = {"color": colour_of(look.colour), "linestyle": dashes, "marker": look.marker, "gid": f"series-{look.number}"}
    return own | also


def line_of(look: Series, n_points: int) -> dict[str, Any]:
    """How matplotlib draws the line of a learner, through so many points."""
    every = max(1, round(n_points / 7))
    # Each learner's markers start elsewhere, so that lines that coincide can still be told apart.
    return style_of(look, markevery=(look.number % every, every), zorder=2 if look.baseline else 3)


def draw_line(axes: Axes, look: Series, x: Sequence[float], y: Sequence[float]) -> None:
    """The line of one learner, in its look."""
    draw_curve(axes, x, y, **line_of(look, len(x)))


def shares_figure(
    lines: Sequence[tuple[Series, Sequence[Point]]],
    name: str,
    title: str,
    reading: str,
    x: list[float],
    x_label: str,
    y_label: str,
    symbol: str,
    *,
    marked: float | None = None,
    note: str = "",
    told: Callable[[float], str] = plain,
    logarithmic: bool = False,
) -> Figure:
    """Lines of shares over x with their intervals, so that all such figures look alike and read alike.

    Of each learner ``lines`` holds its look, and a point for each x. ``symbol`` stands for x in the table, where
    ``told`` writes it; ``marked`` is an x to mark. A ``logarithmic`` axis needs x above 0.
    """
    with axes_of(x_label, y_label) as axes:
        if logarithmic:
            axes.set_xscale("log")
            mark_powers(axes.xaxis)
        if marked is not None:
            mark(axes, marked)
        lowest, highest = math.inf, 0.0
        for look, points in lines:
            values = [tuple(math.nan if v is None else v for v in point) for point in points]
            middle, low, high = (list(part) for part in zip(*values))
            banded = len(lines) <= _BANDS and not all(map(math.isnan, low))
            ends = [low, [min(v, 1.0) for v in high]] if banded else []
            draw_curve(axes, x, middle, *ends, **line_of(look, len(x)))
            drawn = [v for v in ([*middle, *low, *high] if len(lines) <= _BANDS else middle) if not math.isnan(v)]
            lowest, highest = min([lowest, *drawn]), max([highest, *drawn])
        span = max(highest - lowest, 0.04)
        axes.set_ylim(max(0.0, lowest - 0.12 * span) if lowest > 0 else -0.02, min(1.01, highest + 0.12 * span))
        mark_per_cent(axes.yaxis)
        if not logarithmic and all(value == int(value) for value in x):
            mark_whole_numbers(axes.xaxis)
        axes.margins(x=0.02)
        rows = ((told(v), *(with_interval(points[i]) for _, points in lines)) for i, v in enumerate(x))
        return figure(axes, name, title, reading, [look for look, _ in lines], symbol, rows, note)


def balance_figure(
    points: Sequence[tuple[Series, Point, Point]], title: str, reading: str, x_label: str, y_label: str
) -> Figure | None:
    """One point a learner with its intervals, two shares against each other; None where fewer than two were compared.

    Of each learner ``points`` holds its look, its share across and its share up.
    """
    known = [(look, x, y) for look, x, y in points if x[0] is not None and y[0] is not None]
    if len(points) < 2 or not known:
        return None
    with axes_of(x_label, y_label) as axes:
        for look, x, y in known:
            (across, x_reach), (up, y_reach) = _with_reach(x), _with_reach(y)
            drawn = style_of(look, markersize=9, linestyle="none")
            bars = axes.errorbar(across, up, xerr=x_reach, yerr=y_reach, elinewidth=1.2, **drawn)
            for line in bars[2]:
                line.set_gid(drawn["gid"])
        mark_per_cent(axes.xaxis)
        mark_per_cent(axes.yaxis)
        axes.margins(0.08)
        for limits, limit in ((axes.get_xlim(), axes.set_xlim), (axes.get_ylim(), axes.set_ylim)):
            limit(max(limits[0], -0.009), min(limits[1], 1.009))  # there are no shares beyond 0 and 100 %
        rows = [(look.label, percent(x[0]), percent(y[0])) for look, x, y in known]
        header = ("Learner", x_label, y_label)
        return figure(axes, "balance", title, reading, [look for look, *_ in points], header, rows)


def _with_reach(point: Point) -> tuple[float, list[list[float]] | None]:
    """A share, and how far its interval reaches to both sides; equal splits leave one of no width."""
    centre, low, high = point
    assert centre is not None
    if low is None or high is None:
        return centre, None
    return centre, [[max(centre - low, 0.0)], [max(high - centre, 0.0)]]


# The lines of a bracket: what attacks found bounds the truth from above, what is certified from below.
CLEAN = Series(5, "clean", "series-baseline", (1, 2), "", "", True)
ATTACKED = Series(2, "attacked: found", "series-2", (7, 2), "v", "M0 3.8L3.7-3H-3.7z", False)
CERTIFIED = Series(4, "certified: proven", "series-1", (), "^", "M0-3.8L3.7 3H-3.7z", False)
EXACT = Series(3, "exact", "series-3", (), "D", "M0-4.2L4.2 0 0 4.2-4.2 0z", False)
RANDOM = Series(1, "random change", "series-5", (2.5, 1.6), ".", "M-2 0a2 2 0 1 0 4 0a2 2 0 1 0-4 0z", False)
_BRACKET = {"clean": CLEAN, "random": RANDOM, "attacked": ATTACKED, "exact": EXACT, "certified": CERTIFIED}


def bracket(
    name: str,
    title: str,
    reading: str,
    x_label: str,
    y_label: str,
    shares: SandwichDisplay,
    rows: Iterable[tuple[str, ...]],
    note: str = "",
    *,
    told: str | None = None,
    shaded: bool = True,
    looks: Mapping[str, Series] | None = None,
) -> Figure:
    """Shares against ε between what is certified and what attacks found; for the rest see :func:`figure`.

    The truth lies in the shade. ``looks`` are other ones than those of all brackets, by what they show.
    """
    chosen = _BRACKET | dict(looks or {})
    known = {kind: look for kind, look in chosen.items() if getattr(shares, kind) is not None}
    with axes_of(x_label, y_label) as axes:
        styles = {kind: line_of(look, len(shares.eps)) for kind, look in known.items()}
        shares.draw(axes, styles, colour_of("series-3") if shaded else None)
        axes.set_ylim(-0.02, 1.01)
        mark_per_cent(axes.yaxis)
        axes.margins(x=0.02)
        return figure(axes, name, title, reading, known.values(), "ε", rows, note, told=told)


def mark(axes: Axes, x: float) -> None:
    """A dotted line at an x that the page quotes."""
    axes.axvline(x, color=MUTED, linewidth=1, linestyle=(0, (1, 2)), zorder=0.5)


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


def with_interval(point: Point) -> str:
    """A share in per cent, with its interval in brackets where there is one."""
    middle, low, high = point
    if low is None or high is None:
        return percent(middle)
    return f"{percent(middle)} [{100 * low:.1f}, {100 * high:.1f}]"
