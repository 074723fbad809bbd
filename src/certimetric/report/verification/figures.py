"""The figures of verification: DET curves, the bracket of attacks and certificates, distances with the threshold."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from certimetric.plots.accuracy import SandwichDisplay
from certimetric.plots.drawing import mark_per_cent
from certimetric.plots.verification import draw_det, scale_det
from certimetric.report.document import bounds, number, quoted_eps
from certimetric.report.formatting import MISSING, measured, percent, plain
from certimetric.report.plots import (
    ATTACKED,
    CERTIFIED,
    CLEAN,
    Figure,
    axes_of,
    bracket,
    figure,
    line_of,
    mark,
    shares_figure,
    style_of,
)
from certimetric.report.series import Series, with_looks
from certimetric.report.svg import colour_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_GENUINE = Series(1, "genuine pairs", "series-1", (), "o", "M-3.4 0a3.4 3.4 0 1 0 6.8 0a3.4 3.4 0 1 0-6.8 0z", False)
_IMPOSTOR = Series(2, "impostor pairs", "series-2", (7, 2), "s", "M-3-3H3V3H-3z", False)
_KINDS = (("clean", CLEAN), ("attacked", ATTACKED), ("certified", CERTIFIED))
_FAR, _FRR = "false accept rate", "false reject rate"
_HISTOGRAMS = 4
_MOST = 0.99  # the highest rate that is drawn


def shown(document: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The learner of which attacks and distances are drawn: the recommended one, or the first with figures."""
    recommended = document["verdict"].get("recommended")
    able = [learner for learner in document["learners"] if learner["summary"]]
    chosen = [learner for learner in able if learner["spec"] == recommended]
    return (chosen or able or [None])[0]


def det_figures(document: Mapping[str, Any]) -> list[Figure]:
    """DET curves of all learners; and of the recommended one clean, attacked and certified in one picture."""
    found = [_all_curves(document), _under_attack(document)]
    return [each for each in found if each is not None]


def _all_curves(document: Mapping[str, Any]) -> Figure | None:
    lines = with_looks(document, "det")
    if not lines:
        return None
    far = max((learner["det"]["far"] for _, learner in lines), key=len)
    rates = [(learner["det"]["far"], learner["det"]["frr"]) for _, learner in lines]
    with axes_of(_FAR, _FRR) as axes:
        scale_det(axes, least := _least(rates), _MOST)
        mark(axes, float(document["protocol"]["far"]))
        for (look, _), each in zip(lines, rates):
            draw_det(axes, *each, least, **line_of(look, len(each[0])))
        known = [dict(zip(learner["det"]["far"], learner["det"]["frr"])) for _, learner in lines]
        rows = ((percent(x, 3), *(percent(each.get(x), 2) for each in known)) for x in far)
        return figure(
            axes,
            "det",
            "Errors against each other",
            "For each share of impostors that is accepted, the share of genuine pairs that is turned away: the lower "
            "the line, the better. Axes are those of normal deviates, on which such lines are nearly straight; the "
            "dotted line is the rate that thresholds are calibrated to. Means over splits.",
            [look for look, _ in lines],
            _FAR,
            rows,
        )


def _under_attack(document: Mapping[str, Any]) -> Figure | None:
    learner = shown(document)
    told = None if learner is None else learner["under_attack"]
    if told is None or learner is None:
        return None
    kinds = [(name, look) for name, look in _KINDS if name in told]
    lines = {name: (told[name]["far"], [1.0 - tar for tar in told[name]["tar"]]) for name, _ in kinds}
    with axes_of(_FAR, _FRR) as axes:
        scale_det(axes, least := _least(lines.values()), _MOST)
        for name, look in kinds:
            draw_det(axes, *lines[name], least, **style_of(look, markersize=4 if look.marker else 0))
        # Each line has thresholds of its own where it comes from distances under attack.
        points = [[f"{percent(x, 2)} / {percent(y, 2)}" for x, y in zip(*lines[name])] for name, _ in kinds]
        rows = ((str(i + 1), *told_of) for i, told_of in enumerate(zip_longest(*points, fillvalue=MISSING)))
        return figure(
            axes,
            "det-attacked",
            f"{learner['label']}: {', '.join(name for name, _ in kinds)}",
            f"The same errors where every probe may be changed by up to ε = {plain(told['eps'])}: genuine ones dodge, "
            "impostors impersonate. What attacks reached is at least possible"
            f"{'; beyond the certified line is nothing' if 'certified' in told else ''}. At each of some thresholds, "
            f"{told['pairs']} pairs of one split.",
            [look for _, look in kinds],
            "threshold",
            rows,
            "Each cell: false accept rate / false reject rate.",
        )


def _least(rates: Iterable[tuple[Sequence[float], Sequence[float]]]) -> tuple[float, float]:
    """Where a rate of 0 is drawn, of both kinds: at half the smallest that is known."""
    sides = ([rate for side in sides for rate in side if rate > 0] for sides in zip(*rates))
    far, frr = (0.5 * min([*known, 0.5]) if known else 5e-4 for known in sides)
    return far, frr


def certified_figures(document: Mapping[str, Any]) -> list[Figure]:
    """Certified rates of all learners against ε, and of the recommended one between attack and certificate."""
    learners = with_looks(document, "summary")
    radii = [float(eps) for eps in document["protocol"]["eps"]]
    if not learners or len(radii) < 2:
        return []
    quoted = quoted_eps(document)
    found = []
    for key, title, reading, label in (
        (
            "tar",
            "Genuine pairs that stay accepted",
            "The share of genuine pairs that are accepted and proven to stay so under every change of the probe up to "
            "size ε, at the calibrated threshold: no dodging within ε gets below the line.",
            "certified true accept rate",
        ),
        (
            "far",
            "Impostors that may get in",
            "The share of impostor pairs that are accepted, or not proven to stay rejected under every change of the "
            "probe up to size ε: no impersonation within ε gets above the line.",
            "certified false accept rate",
        ),
    ):
        lines = [
            (look, [bounds(point[key]) for point in learner["summary"]["certified"]])
            for look, learner in learners
            if learner["summary"]["certified"]
        ]
        if not lines:
            continue
        at = None if quoted is None else radii[quoted]
        x_label = measured(document, "ε")
        found.append(shares_figure(lines, f"certified-{key}", title, reading, radii, x_label, label, "ε", marked=at))
    return found + _brackets(document)


def _brackets(document: Mapping[str, Any]) -> list[Figure]:
    learner = shown(document)
    told = None if learner is None else learner["brackets"]
    if told is None or learner is None:
        return []
    eps, found = told["eps"], []
    for key, title, reading, label in (
        ("tar", "dodging", "What attacks left bounds the true share from above, what is proven from below", "TAR"),
        ("far", "impersonation", "What attacks won bounds the true share from below, what is proven from above", "FAR"),
    ):
        attacked, certified = told["attacked"][key], told.get("certified", {}).get(key)
        meet = ""
        if certified is not None:
            meet = f", {reading.partition(', ')[2]}: where the lines meet, it is known exactly"
        columns = [attacked] if certified is None else [attacked, certified]
        rows = ((plain(size), *map(percent, shares)) for size, *shares in zip(eps, *columns))
        found.append(
            bracket(
                f"bracket-{key}",
                f"{learner['label']}: {title}",
                f"{reading.partition(', ')[0]}{meet}. {told['pairs']} pairs of one split, at the calibrated threshold.",
                measured(document, "ε"),
                label,
                SandwichDisplay(eps, certified, attacked),
                rows,
            )
        )
    return found


def distance_figures(document: Mapping[str, Any]) -> list[Figure]:
    """Genuine and impostor distances with the threshold: of the recommended learner first, and of a few others."""
    first = shown(document)
    learners = [learner for learner in document["learners"] if learner["histogram"]]
    ordered = sorted(learners, key=lambda learner: learner is not first)
    return [_histogram(learner, i) for i, learner in enumerate(ordered[:_HISTOGRAMS])]


def _histogram(learner: Mapping[str, Any], place: int) -> Figure:
    told = learner["histogram"]
    edges, threshold = [float(edge) for edge in told["edges"]], number(told["threshold"])
    with axes_of("distance", "share of its pairs", 200) as axes:
        for look, name in ((_GENUINE, "genuine"), (_IMPOSTOR, "impostor")):
            _steps(axes, look, edges, told[name])
        if threshold is not None:
            mark(axes, threshold)
        axes.set_ylim(bottom=0)
        mark_per_cent(axes.yaxis)
        axes.margins(x=0.01)
        rows = (
            (f"{plain(low)} to {plain(high)}", percent(genuine), percent(impostor))
            for low, high, genuine, impostor in zip(edges, edges[1:], told["genuine"], told["impostor"])
        )
        at = "nothing is accepted" if threshold is None else f"accepted up to {plain(threshold)}, the dotted line"
        return figure(
            axes,
            f"distances-{place + 1}",
            f"Distances: {learner['label']}",
            f"How far the two of a pair are from each other, genuine and impostor: {at}. The last bin holds what is "
            "beyond.",
            (_GENUINE, _IMPOSTOR),
            "distance",
            rows,
        )


def _steps(axes: Axes, look: Series, edges: list[float], values: list[float]) -> None:
    axes.stairs(values, edges, color=colour_of(look.colour), fill=True, alpha=0.18, linewidth=0)
    x = [edge for edge in edges for _ in range(2)]
    y = [0.0, *(value for value in values for _ in range(2)), 0.0]
    style = style_of(look, marker="", linewidth=1.4)
    axes.plot(x, [math.nan if value is None else value for value in y], **style)
