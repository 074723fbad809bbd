"""The figures of an audit of embedding models: retrieval under attack, what robustness costs, maps of embeddings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import zip_longest
from typing import Any

from certimetric.report.document import bounds, items_of, number, of_models, quoted_eps
from certimetric.report.formatting import MISSING, duration, measured, percent, plain, size_name
from certimetric.report.plots import Figure, axes_of, balance_figure, figure, shares_figure, style_of
from certimetric.report.series import Series, assign, with_looks
from certimetric.report.svg import INK, MUTED


def attack_curves(document: Mapping[str, Any]) -> list[Figure]:
    """R@1 and mAP@R against ε, and clean against attacked R@1."""
    found = [
        _curve(
            document,
            "recall_at_1",
            "R@1",
            "recall",
            "R@1 against ε",
            "How often the first result is of the right class when each query is changed by an attack of size ε. "
            + (
                "Attacks were tried, not all changes: the truth lies on the line or below it."
                if of_models(document)
                else "The smallest change that suffices was computed for each query: the line is exact for them."
            ),
        ),
        _curve(
            document,
            "map_at_r",
            "mAP@R",
            "map",
            "mAP@R under the R@1 attack, against ε",
            f"How pure the first R results are, R being the number of {items_of(document)} of the right class: 100 % "
            "means that all of them come first. The attack is on R@1, the head of the ranking: one on the whole "
            "ranking could bring mAP@R lower.",
        ),
        _balance(document),
    ]
    return [figure for figure in found if figure is not None]


def _curve(document: Mapping[str, Any], key: str, label: str, name: str, title: str, reading: str) -> Figure | None:
    lines = [
        (look, [bounds(learner["clean"][key]), *(bounds(entry["worst"][key]) for entry in learner["attacked"])])
        for look, learner in with_looks(document)
        if all(key in told for told in (learner["clean"], *(entry["worst"] for entry in learner["attacked"])))
    ]
    if not lines:
        return None
    protocol = document["protocol"]
    return shares_figure(
        lines,
        name,
        title,
        reading,
        [0.0, *map(float, protocol["eps"])],
        measured(document, "ε"),
        label,
        "ε",
        marked=float(protocol["report_eps"]),
        note="Share of the queries, with its 95 % interval in brackets.",
        told=size_name,
    )


def _balance(document: Mapping[str, Any]) -> Figure | None:
    """Clean against attacked R@1."""
    if (index := quoted_eps(document)) is None:
        return None
    eps = size_name(float(document["protocol"]["eps"][index]))
    reading = (
        f"Each model once, by its R@1 on clean queries and its R@1 under attack at ε = {eps}: up is harder to fool, "
        "right is more accurate. The cross spans the 95 % intervals."
    )
    points = [
        (
            look,
            bounds(learner["clean"]["recall_at_1"]),
            bounds(learner["attacked"][index]["worst"]["recall_at_1"]),
        )
        for look, learner in with_looks(document)
    ]
    return balance_figure(points, "What robustness costs", reading, "R@1, clean", f"R@1 at ε = {eps}")


def loss_figure(document: Mapping[str, Any]) -> Figure | None:
    """The loss of every epoch of the runs; None where no model is of a run."""
    runs = [(look, learner["training"]["history"]) for look, learner in with_looks(document, "training")]
    runs = [(look, history) for look, history in runs if len(history) > 1]
    if not runs:
        return None
    reading = (
        "Mean loss of every epoch. A robust model is trained on attacked inputs, so its loss stays higher: compare "
        "the shape, not the height. A line that still falls at the end would gain from more epochs."
    )
    lowest = min((loss for _, history in runs for loss in history if loss is not None), default=0.0)
    with axes_of("epoch", "loss") as axes:
        for look, history in runs:
            values = [math.nan if loss is None else loss for loss in history]
            axes.plot(range(1, len(values) + 1), values, **style_of(look, marker=""))
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]) if lowest < 0 else 0)
        losses = zip_longest(*(history for _, history in runs))
        rows = ((str(i), *map(plain, values)) for i, values in enumerate(losses, 1))
        return figure(axes, "loss", "Training loss", reading, [look for look, _ in runs], "epoch", rows)


def map_figures(document: Mapping[str, Any]) -> list[Figure]:
    """A map of embeddings for each model."""
    shown = [(look, learner["map"]) for look, learner in with_looks(document, "map")]
    return [_map(look, drawn, items_of(document)) for look, drawn in shown if drawn.get("points")]


def _map(learner: Series, drawn: Mapping[str, Any], items: str) -> Figure:
    names = [str(name) for name in drawn["classes"]]
    looks = [replace(look, dashes=()) for look in assign([{"spec": "", "label": name} for name in names])]
    points, moves = drawn["points"], drawn["moves"]
    broken = sum(bool(move[5]) for move in moves)
    title = f"{learner.label}: where {items} lie"
    reading = (
        f"Embeddings of the gallery on the two directions along which they spread most "
        f"({percent(drawn['explained'], 0)} of the variance), "
        "a colour and mark for each class."
        + (
            f" An arrow shows where the attack takes a query: of {len(moves)}, {broken} then find another class first."
            if moves
            else ""
        )
    )
    with axes_of("", "", 340) as axes:
        axes.set_xticks([])
        axes.set_yticks([])
        for code, look in enumerate(looks):
            x, y = ([point[axis] for point in points if point[2] == code] for axis in (0, 1))
            axes.plot(x, y, **style_of(look, linestyle="none", markersize=3.6, alpha=0.75, markeredgewidth=0))
        for x, y, to_x, to_y, _, wrong in moves:
            axes.annotate(
                "", xy=(to_x, to_y), xytext=(x, y),
                arrowprops={
                    "arrowstyle": "->", "linewidth": 1.1 if wrong else 0.7, "shrinkA": 0, "shrinkB": 0,
                    "color": INK if wrong else MUTED,
                },
            )  # fmt: skip
        axes.margins(0.04)
        header = ("Class", f"{items} drawn", "queries attacked", "first result wrong")
        rows = []
        for code, name in enumerate(names):
            own = [move for move in moves if move[4] == code]
            drawn_of, wrong = sum(point[2] == code for point in points), sum(bool(move[5]) for move in own)
            rows.append((name, str(drawn_of), str(len(own)), str(wrong)))
        note = "Dark arrows: the first result is of another class afterwards." if moves else ""
        return figure(axes, f"map-{learner.number}", title, reading, looks, header, rows, note)


def training_rows(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What each run was trained with, and the time that it took beside that of the quickest run."""
    runs = with_looks(document, "training")
    trained = [learner["training"] for _, learner in runs]
    known = [run["seconds"] / run["epochs"] for run in trained if run["epochs"] and run["seconds"]]
    rows = []
    for look, learner in runs:
        run, config = learner["training"], learner["training"]["config"]
        each = run["seconds"] / run["epochs"] if run["epochs"] else None
        rows.append(
            {
                "look": look,
                "defense": _component(config.get("defense")),
                "loss": _component(config.get("loss")),
                "epochs": f"{run['epochs']}{'' if run['finished'] else ' so far'}",
                "seconds": duration(number(run["seconds"])),
                "each": duration(each),
                "ratio": MISSING if not each or not known else f"{plain(each / min(known), 2)} ×",
                "parameters": f"{learner['n_parameters']:,}",
            }
        )
    return rows


def _component(section: Mapping[str, Any] | None) -> str:
    """A section of a configuration in one line."""
    if not section:
        return "none"
    name = section.get("name") or section.get("kind") or "none"
    rest = {
        key: size_name(value) if key == "eps" and isinstance(value, float) else value
        for key, value in section.items()
        if key not in ("name", "kind") and value is not None
    }
    return name if not rest else f"{name} ({', '.join(f'{key} {value}' for key, value in rest.items())})"
