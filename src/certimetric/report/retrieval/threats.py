"""The threats of an audit of embedding models in one table, and R@1 under natural corruptions by kind and severity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from certimetric.report.document import bounds, number, quoted_eps
from certimetric.report.formatting import MISSING, norm_name, percent, plain, size_name
from certimetric.report.plots import Figure, shares_figure, with_interval
from certimetric.report.series import with_looks

_HELD = {True: "holds", False: "missed"}


def threats_view(document: Mapping[str, Any]) -> dict[str, Any] | None:
    """A row for every threat and model; None where none was tried beside the change within a norm."""
    tried = document["protocol"].get("threats")
    shown = with_looks(document)
    if not tried:
        return None
    index = quoted_eps(document)
    assert index is not None
    eps = float(document["protocol"]["eps"][index])
    within = f"a change of ε = {size_name(eps)} ({norm_name(document)})"
    told = [{"name": "norm", "what": within, "who": "who knows the model and sends pictures"}, *tried]
    threats = [
        threat | {"models": [(look, *_row(document, learner, threat["name"])) for look, learner in shown]}
        for threat in told
    ]
    return {"threats": threats, **_corruptions(document)}


def _row(document: Mapping[str, Any], learner: Mapping[str, Any], name: str) -> tuple[list[str], str]:
    """R@1 clean, attacked and certified, and what is said of them."""
    index = quoted_eps(document)
    assert index is not None
    told = _of_norm(learner, index) if name == "norm" else _told(learner, name)
    figure = f"attacked@{float(document['protocol']['eps'][index]):g}" if name == "norm" else name
    figures = [_share(told[key]) for key in ("clean", "attacked", "certified")]
    return figures, told["reason"] or _verdict(document, learner, figure)


def _of_norm(learner: Mapping[str, Any], index: int) -> dict[str, Any]:
    certificate = learner.get("certificate") or {}
    return {
        "clean": learner["clean"]["recall_at_1"],
        "attacked": learner["attacked"][index]["worst"]["recall_at_1"],
        "certified": certificate["at"][index] if certificate.get("method") else None,
        "reason": "",
    }


def _told(learner: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = next(each for each in learner["threats"] if each["threat"] == name)
    return {"certified": None, **found}


def _share(told: Mapping[str, Any] | None) -> str:
    return MISSING if told is None else with_interval(bounds(told))


def _verdict(document: Mapping[str, Any], learner: Mapping[str, Any], figure: str) -> str:
    """Whether the thresholds that were declared for a figure of a model hold."""
    start = f"{learner['spec']}.{figure}>="
    judged = [each for each in document["thresholds"] if str(each["expression"]).startswith(start)]
    if not judged:
        return MISSING
    wanted = ", ".join(percent(number(str(each["expression"]).removeprefix(start))) for each in judged)
    return f"{_HELD[all(each['passed'] for each in judged)]}: at least {wanted}"


def _corruptions(document: Mapping[str, Any]) -> dict[str, Any]:
    """R@1 by kind, the mean over severities and each of them, and errors beside those of raw pixels."""
    shown = [
        (look, told)
        for look, learner in with_looks(document)
        for told in learner.get("threats") or []
        if told["threat"] == "corruptions" and told["attacked"] is not None
    ]
    if not shown:
        return {"corruptions": None}
    kinds = list(shown[0][1]["recall"])
    rows = []
    for kind in kinds:
        shares = [told["recall"][kind] for _, told in shown]
        means = [percent(sum(each) / len(each)) for each in shares]
        severities = [[percent(share, 0) for share in each] for each in shares]
        rows.append({"kind": kind, "means": means, "severities": severities})
    errors = [plain(number(told["mean_error"])) for _, told in shown]
    return {"corruptions": {"looks": [look for look, _ in shown], "rows": rows, "errors": errors}}


def smallest_figure(document: Mapping[str, Any]) -> Figure | None:
    """R@1 against ε by the smallest change of every query; None where that was not looked for."""
    asked = [(look, learner["smallest"]) for look, learner in with_looks(document, "smallest")]
    asked = [(look, told) for look, told in asked if told["curve"]]
    if not asked:
        return None
    lines = [(look, [(number(share), None, None) for share in told["curve"]["recall"]]) for look, told in asked]
    medians = "; ".join(
        f"{look.label} {plain(number(each['median'])) if each['median'] is not None else 'beyond the largest ε'}"
        for look, each in asked
    )
    return shares_figure(
        lines,
        "smallest",
        "R@1 by the smallest change of each query",
        "For each query the smallest change was looked for that makes its first result wrong; the line is the share of "
        f"queries that need a larger one than ε. Half of the queries break at: {medians}.",
        [float(eps) for eps in asked[0][1]["curve"]["eps"]],
        f"ε, {norm_name(document)}",
        "R@1",
        "ε",
        marked=float(document["protocol"]["report_eps"]),
        told=plain,
    )
