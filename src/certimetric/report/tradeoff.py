"""Robustness against what it costs: two panels over the same height, accuracy on the left and time on the right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from certimetric.report.document import number
from certimetric.report.formatting import percent, plain
from certimetric.report.plots import Figure, figure, mark_per_cent
from certimetric.report.series import assign
from certimetric.report.svg import colour_of, drawing

_SIZE = (400 / 72, 290 / 72)  # inches; as wide as the other figures


def tradeoff_figure(told: Mapping[str, Any]) -> Figure:
    """A point for each learner in both panels, at the height of its robustness.

    Parameters
    ----------
    told : dict
        ``name``, ``title``, ``reading``, ``labels`` of accuracy, robustness and cost; each of ``learners`` with
        ``accuracy`` and ``robustness`` from 0 to 1, and ``cost``, at least 0. Who costs nothing is in the left panel
        alone.
    """
    from matplotlib.figure import Figure as Canvas
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    accuracy_label, robustness_label, cost_label = told["labels"]
    looks = assign(told["learners"])
    rows = []
    with drawing():
        canvas = Canvas(figsize=_SIZE, layout="constrained")
        left, right = canvas.subplots(1, 2, sharey=True)
        for look, learner in zip(looks, told["learners"]):
            accuracy, robustness, cost = (number(learner[key]) for key in ("accuracy", "robustness", "cost"))
            for axes, x in ((left, None if accuracy is None else 100 * accuracy), (right, cost or None)):
                if x is not None and robustness is not None:
                    axes.plot(
                        [x], [100 * robustness], marker=look.marker, markersize=8, color=colour_of(look.colour),
                        linestyle="none", gid=f"series-{look.number}",
                    )  # fmt: skip
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
        return figure(canvas, told["name"], told["title"], told["reading"], looks, header, rows)
