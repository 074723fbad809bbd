"""The threats of an audit of embedding models, what was not tried, and R@1 by corruption and severity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from certimetric.report.document import items_of, number, of_models, quoted_eps
from certimetric.report.formatting import norm_name, percent, plain, size_name
from certimetric.report.plots import Figure, shares_figure
from certimetric.report.retrieval.poisoning import vote_threat
from certimetric.report.series import with_looks
from certimetric.report.threats import Effect, Threat, other_norms


def threats(document: Mapping[str, Any]) -> list[Threat]:
    """A change within the norm, and every threat that was tried besides."""
    index = quoted_eps(document)
    assert index is not None
    learners, eps = document["learners"], float(document["protocol"]["eps"][index])
    who, changed = "who can send queries of any embedding", " of the embedding"
    if of_models(document):
        who, changed = f"who knows the model and sends {items_of(document)}", ""
    standards = [f"{figure}@{eps:g}" for figure in ("attacked", "certified")]
    what = f"a change{changed} of ε = {size_name(eps)} ({norm_name(document)})"
    found = [Threat(what, who, "R@1", [_of_norm(learner, index) for learner in learners], standards)]
    for threat in document["protocol"].get("threats") or []:
        tried = [each for learner in learners for each in learner["threats"] if each["threat"] == threat["name"]]
        effects = [Effect(each["clean"], each["attacked"], None, each["reason"]) for each in tried]
        found.append(Threat(threat["what"], threat["who"], "R@1", effects, [threat["name"]]))
        if threat["name"] == "poisoning":
            found += vote_threat(document, threat["what"], threat["who"])
    return found


def untried(document: Mapping[str, Any]) -> list[str]:
    """What an attacker could do that this audit did not try."""
    left = document["protocol"].get("untried") or []
    named = [f"{each['what'][:1].upper()}{each['what'][1:]} (--threat {each['name']})" for each in left]
    tried = [each["name"] for each in [*left, *(document["protocol"].get("threats") or [])]]
    trusted = "Labels that are wrong: they are trusted"
    if "poisoning" not in tried:  # audits of before did not know it
        trusted = "A gallery to which somebody adds items, or labels that are wrong: both are trusted"
    told = [trusted, *named]
    if not of_models(document):
        told.append("Changes of pictures: how far they move an embedding depends on the model, which is not here")
    elif not any((learner.get("certificate") or {}).get("method") for learner in document["learners"]):
        told.append("Attacks stronger than those that were tried: no certificate was computed")
    return [*told, other_norms(document)]


def _of_norm(learner: Mapping[str, Any], index: int) -> Effect:
    certificate = learner.get("certificate") or {}
    certified = certificate["at"][index] if certificate.get("method") else None
    return Effect(learner["clean"]["recall_at_1"], learner["attacked"][index]["worst"]["recall_at_1"], certified)


def corruptions_view(document: Mapping[str, Any]) -> dict[str, Any] | None:
    """R@1 by kind, the mean over severities and each of them, and errors beside those of raw pixels; None for none."""
    shown = [
        (look, told)
        for look, learner in with_looks(document)
        for told in learner.get("threats") or []
        if told["threat"] == "corruptions" and told["attacked"] is not None
    ]
    if not shown:
        return None
    kinds = list(shown[0][1]["recall"])
    rows = []
    for kind in kinds:
        shares = [told["recall"][kind] for _, told in shown]
        means = [percent(sum(each) / len(each)) for each in shares]
        severities = [[percent(share, 0) for share in each] for each in shares]
        rows.append({"kind": kind, "means": means, "severities": severities})
    errors = [plain(number(told["mean_error"])) for _, told in shown]
    looks, severities = [look for look, _ in shown], shown[0][1].get("severities") or [1, 2, 3, 4, 5]
    return {"corruptions": {"looks": looks, "rows": rows, "errors": errors, "severities": severities}}


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
