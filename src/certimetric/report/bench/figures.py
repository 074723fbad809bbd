"""The figures of a benchmark: mean ranks, curves, descents, metrics in the plane, what robustness costs."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any
from xml.etree import ElementTree

import numpy as np

from certimetric.plots.drawing import mark_per_cent
from certimetric.report.document import number
from certimetric.report.formatting import percent, plain
from certimetric.report.plots import (
    Figure,
    axes_of,
    canvas,
    draw_line,
    figure,
    mark_powers,
    mark_whole_numbers,
    shares_figure,
    style_of,
)
from certimetric.report.series import Series, assign, with_looks
from certimetric.report.svg import INK, MUTED, colour_of

_VARIABLE = re.compile(r"var\(--([a-z0-9-]+)\)")
_ARRIVED = 1e-14  # below, differences are rounding
_NAMESPACE = "http://www.w3.org/2000/svg"


def bench_figure(told: Mapping[str, Any]) -> Figure:
    """A figure from what a suite tells of it: ``kind``, ``name``, ``title``, ``reading``, ``learners``, and the rest.

    Raises
    ------
    ValueError
        If the kind is none of "ranks", "curves", "descents", "ellipses" and "tradeoff".
    """
    draw = _DRAWN.get(str(told.get("kind")))
    if draw is None:
        known = ", ".join(map(repr, _DRAWN))
        raise ValueError(f"figure {told.get('name')!r} has the kind {told.get('kind')!r}; expected one of {known}")
    return draw(told)


def _curves_figure(told: Mapping[str, Any]) -> Figure:
    return shares_figure(
        [
            (look, [tuple(number(value) for value in point) for point in learner["points"]])
            for look, learner in with_looks(told)
        ],
        told["name"],
        told["title"],
        told["reading"],
        [float(x) for x in told["x"]],
        told["x_label"],
        told["y_label"],
        told["symbol"],
        note=told.get("note", ""),
        logarithmic=told.get("logarithmic", False),
    )


def _ranks_figure(told: Mapping[str, Any]) -> Figure:
    """Demšar's plot turned upright: a line a learner, best on top, and a bar beside those not told apart."""
    looks = assign(told["learners"])
    ranks = [float(rank) for rank in told["ranks"]]
    order = sorted(range(len(ranks)), key=lambda i: ranks[i])
    place = {learner: position for position, learner in enumerate(order)}
    with axes_of("mean rank", "", 70 + 19 * len(ranks)) as axes:
        for i, look in enumerate(looks):
            axes.plot([ranks[i]], [place[i]], **style_of(look, markersize=9, linestyle="none", zorder=3))
        for step, group in enumerate(told["groups"]):
            rows = [place[i] for i in group]
            x = 0.85 - 0.2 * step
            axes.plot([x, x], [min(rows) - 0.15, max(rows) + 0.15], color=INK, linewidth=3.2, solid_capstyle="butt")
        left = 0.85 - 0.2 * max(len(told["groups"]) - 1, 0) - 0.15
        right = max(len(ranks), max(ranks)) + 0.15
        cd = float(told["difference"])
        if cd < right - 1:
            axes.plot([right - 0.1 - cd, right - 0.1], [-0.85, -0.85], color=MUTED, linewidth=1.4, marker="|")
            axes.text(right - 0.1 - cd / 2, -1.0, f"critical difference {cd:.2f}", ha="right", va="bottom", color=MUTED)
        axes.set_xlim(left, right)
        axes.set_ylim(len(ranks) - 0.5, -1.7)
        axes.set_yticks([place[i] for i in range(len(ranks))], [look.label for look in looks])
        axes.set_xticks(range(1, len(ranks) + 1))
        rows = ((looks[i].label, plain(ranks[i])) for i in order)
        return _figure(axes, told, [looks[i] for i in order], ("Learner", "Rank"), rows)


def _descents_figure(told: Mapping[str, Any]) -> Figure:
    """What falls to 0, on a logarithmic axis from iteration 0 on; what has arrived is no longer drawn."""
    looks = assign(told["learners"])
    paths = [[number(value) or 0.0 for value in learner["points"]] for learner in told["learners"]]
    with axes_of(told["x_label"], told["y_label"]) as axes:
        axes.set_yscale("log")
        for look, path in zip(looks, paths):
            draw_line(axes, look, range(len(path)), [value if value > _ARRIVED else math.nan for value in path])
        mark_powers(axes.yaxis)
        mark_whole_numbers(axes.xaxis)
        rows = ((str(i), *map(plain, values)) for i, values in enumerate(zip_longest(*paths)))
        return _figure(axes, told, looks, told["x_label"], rows)


def _ellipses_figure(told: Mapping[str, Any]) -> Figure:
    """Points of two classes, the ball of each metric about their middle, and pairs before and after they are moved."""
    found = [
        (look, np.asarray(learner["matrix"], dtype=float), learner["spec"])
        for look, learner in with_looks(told, "matrix")
    ]
    points, classes = np.asarray(told["points"], dtype=float), np.asarray(told["classes"])
    angle = np.linspace(0.0, 2.0 * np.pi, 145)
    circle = np.stack([np.cos(angle), np.sin(angle)])
    rows = []
    with axes_of(told["x_label"], told["y_label"], 330) as axes:
        for code, marker in ((0, "o"), (1, "^")):
            axes.plot(
                *points[classes == code].T, marker, markersize=4.5, markeredgecolor=MUTED, markerfacecolor="none",
                linestyle="none", zorder=1, label=f"class {code + 1}",
            )  # fmt: skip
        maker = next((colour_of(look.colour) for look, _, spec in found if spec == told["maker"]), INK)
        for i, (before, after) in enumerate(zip(np.asarray(told["pairs"]), np.asarray(told["adversarial"]))):
            axes.plot(*after.T, color=maker, linewidth=1.2, linestyle=(0, (1, 1.4)), marker="x", markersize=4.5,
                      zorder=2, label="adversarial pair" if not i else None)  # fmt: skip
            axes.plot(*before.T, color=MUTED, linewidth=1.2, zorder=1.5, label="training pair" if not i else None)
        for look, matrix, _ in found:
            values, vectors = np.linalg.eigh(matrix / np.sqrt(np.linalg.det(matrix)))
            ball = points.mean(axis=0)[:, None] + (vectors / np.sqrt(values)) @ circle
            draw_line(axes, look, ball[0], ball[1])
            rows.append((look.label, *(plain(v) for v in matrix[[0, 0, 1], [0, 1, 1]]), plain(values[1] / values[0])))
        axes.set_aspect("equal", adjustable="datalim")
        axes.legend(
            frameon=False, fontsize=10, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0), handlelength=1.6,
            columnspacing=1.0, handletextpad=0.4,
        )  # fmt: skip
        header = ("Learner", "M₁₁", "M₁₂", "M₂₂", "condition")
        return _figure(axes, told, [look for look, _, _ in found], header, rows)


def _tradeoff_figure(told: Mapping[str, Any]) -> Figure:
    """Robustness against accuracy on the left and against cost on the right; who costs nothing is on the left alone.

    ``labels`` name accuracy, robustness and cost; each of ``learners`` has the first two from 0 to 1, and a cost of at
    least 0.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    accuracy_label, robustness_label, cost_label = told["labels"]
    rows = []
    with canvas(290) as drawn:
        left, right = drawn.subplots(1, 2, sharey=True)
        for look, learner in with_looks(told):
            accuracy, robustness, cost = (number(learner[key]) for key in ("accuracy", "robustness", "cost"))
            for axes, x in ((left, accuracy), (right, cost or None)):
                if x is not None and robustness is not None:
                    axes.plot([x], [robustness], **style_of(look, markersize=8, linestyle="none"))
            rows.append((look.label, percent(accuracy), percent(robustness), plain(cost)))
        right.set_xscale("log")
        right.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=6))
        right.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{plain(value)} ×"))
        right.xaxis.set_minor_formatter(NullFormatter())
        for axes, label in ((left, accuracy_label), (right, cost_label)):
            axes.set_xlabel(label)
            axes.tick_params(length=0, which="both")
            axes.margins(0.1)
        left.set_ylabel(robustness_label)
        mark_per_cent(left.xaxis)
        mark_per_cent(left.yaxis)
        header = ("Learner", accuracy_label, robustness_label, f"{cost_label}, ×")
        return _figure(left, told, assign(told["learners"]), header, rows)


_DRAWN = {
    "ranks": _ranks_figure,
    "curves": _curves_figure,
    "descents": _descents_figure,
    "ellipses": _ellipses_figure,
    "tradeoff": _tradeoff_figure,
}


def _figure(axes: Any, told: Mapping[str, Any], looks: Sequence[Series], header: Any, rows: Any) -> Figure:
    return figure(axes, told["name"], told["title"], told["reading"], looks, header, rows, told.get("note", ""))


def standalone(drawn: Figure, style: str) -> str:
    """The picture as a file of its own, with a legend.

    Colours are the light ones of the page in place of its names for them: those of the first rule of its ``style``.
    """
    colours = dict(re.findall(r"--([a-z0-9-]+):(#[0-9a-f]{6})", style.partition("}")[0]))
    svg = _VARIABLE.sub(lambda found: colours.get(found[1], "currentColor"), drawn.svg)
    root = ElementTree.fromstring(svg)
    left, top, width, height = (float(v) for v in root.attrib["viewBox"].split())
    rows = -(-len(drawn.series) // 3)
    for position, look in enumerate(drawn.series):
        x, y = left + 12 + (position % 3) * width / 3, top + height + 14 + 17 * (position // 3)
        colour = colours.get(look.colour, "currentColor")
        group = ElementTree.SubElement(root, "g", {"transform": f"translate({x:.1f} {y:.1f})"})
        line = {"d": "M0 0H30", "stroke": colour, "stroke-width": "2", "fill": "none"}
        if look.dashes:
            line["stroke-dasharray"] = look.dash_array
        ElementTree.SubElement(group, "path", line)
        ElementTree.SubElement(group, "path", {"d": look.marker_path, "fill": colour, "transform": "translate(15 0)"})
        text = ElementTree.SubElement(group, "text", {"x": "36", "y": "4", "style": "font-size: 11px"})
        text.text = look.label
    height += 17 * rows + 10
    root.attrib.update(
        {
            "xmlns": _NAMESPACE,
            "viewBox": f"{left:g} {top:g} {width:g} {height:g}",
            "width": f"{1.6 * width:g}",
            "height": f"{1.6 * height:g}",
            "style": f"background:{colours.get('surface', '#ffffff')};color:{colours.get('ink', '#000000')};"
            "font-family:sans-serif",
        }
    )
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"
