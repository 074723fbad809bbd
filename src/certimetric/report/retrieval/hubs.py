"""Hubs: how unevenly items are found, and those that too many queries of other classes find."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from certimetric.report.comparison import Column, make_column
from certimetric.report.document import number
from certimetric.report.formatting import percent, plain
from certimetric.report.page import figure_view
from certimetric.report.plots import Figure, shares_figure
from certimetric.report.series import Series, with_looks

_CHANCE = Series(0, "by chance", "series-baseline", (1, 2), "", "", True)


def hubs_column(learners: list[dict[str, Any]]) -> list[Column]:
    """The skewness of how often items are found; none where it was not measured."""
    found = [(learner.get("hubness") or {}).get("clean") for learner in learners]
    if not any(found):
        return []
    told = [{} if each is None else {"mean": each["skewness"]} for each in found]
    return [make_column(told, "hubness", "Hubness", "", "skewness", "lower")]


def hubs_view(document: Mapping[str, Any]) -> dict[str, Any] | None:
    """Figure and table of hubs; None where they were not looked for."""
    shown = [(look, learner["hubness"]) for look, learner in with_looks(document, "hubness")]
    if not shown:
        return None
    rows = []
    for look, told in shown:
        for when, part in (("clean", told["clean"]), ("attacked", told["attacked"])):
            if part is not None:
                worst = part["hubs"][0] if part["hubs"] else None
                named = "none" if worst is None else f"row {worst['row']}: {worst['wrong']} of {worst['queries']}"
                skewness = f"{plain(part['skewness'], 2)} ({plain(part['by_chance'], 2)} by chance)"
                rows.append((look, when, [skewness, percent(part["never"]), named]))
    figures = [figure_view(_figure(shown))] if all("found" in told["clean"] for _, told in shown) else []
    return {"hubs": {"rows": rows, "k": shown[0][1]["clean"]["k"], "figures": figures}}


def _figure(shown: list[tuple[Series, Mapping[str, Any]]]) -> Figure:
    sizes = max((told["clean"]["found"] for _, told in shown), key=len)
    found = [(look, told["clean"]["found"]) for look, told in shown]
    lines = [(look, [(number(of.get(size)) or 0.0, None, None) for size in sizes]) for look, of in found]
    chance = max((told["clean"]["found_by_chance"] for _, told in shown), key=len)
    return shares_figure(
        [(_CHANCE, [(number(share), None, None) for share in chance]), *lines],
        "hubs",
        "How often items are found",
        f"The share of the items that so many queries or more have among their first {shown[0][1]['clean']['k']} "
        "results. A line that goes far to the right belongs to hubs; one that begins low, to items that nobody finds. "
        "The dotted line is what it were if every item was found as often as any other.",
        [float(size) for size in sizes],
        "found by so many queries or more",
        "share of the items",
        "queries",
        logarithmic=True,
    )
