"""The document of an audit of embedding models as one HTML page, in short for notebooks, and as text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from certimetric.report.classes import classes_view
from certimetric.report.document import PIXELS, RETRIEVAL_SCHEMA, check_document, number, printable, quoted_eps
from certimetric.report.formatting import (
    MISSING,
    NORMS,
    UNITS,
    Column,
    as_text,
    duration,
    make_column,
    moment,
    norm_name,
    percent,
    plain,
    size_name,
    unit_name,
)
from certimetric.report.page import (
    checks_view,
    environment,
    figure_view,
    render_page,
    thresholds_view,
    tiles,
    verdict_view,
)
from certimetric.report.retrieval.certificates import certificates_view, certified_estimates
from certimetric.report.retrieval.figures import attack_curves, loss_figure, map_figures, training_rows
from certimetric.report.retrieval.robustness_score import score_column, score_view
from certimetric.report.series import assign

_MEANING = {
    "linf": "the largest change of any single value of a pixel",
    "l2": "the Euclidean length of the change over all pixels together",
}


def render_retrieval(document: Mapping[str, Any], *, title: str | None = None) -> str:
    """The whole report on embedding models: one HTML page that needs no network and reads without JavaScript.

    Parameters
    ----------
    document : dict
        Schema ``certimetric.retrieval-audit/1``.
    title : str, optional
        Heading of the page; by default it names the data.

    Returns
    -------
    html : str
        The same for the same document. The document itself is embedded in it as JSON.

    Raises
    ------
    TypeError
        The document is not a mapping.
    ValueError
        It has another schema, lacks a section or holds NaN or an infinite float.
    """
    check_document(document, RETRIEVAL_SCHEMA)
    whole, document = document, printable(document)
    learners = document["learners"]
    view = _summary_view(document) | {
        "started": moment(document["reproduction"].get("started")),
        "thresholds": thresholds_view(document),
        "threat": _threat(document),
        "curves": [figure_view(figure) for figure in attack_curves(document)],
        "attacks": _attacks(document),
        "ers": score_view(document),
        "certificates": _certificates(document),
        "training": training_rows(learners),
        "loss": figure_view(loss_figure(document)),
        "groups": _galleries(document),
        "maps": [figure_view(figure) for figure in map_figures(document)],
        "classes": classes_view(learners, _class_cell),
        "checks": checks_view(document),
        "reproduction": _reproduction(document),
        "learners": [_learner(learner) for learner in learners],
    }
    return render_page("retrieval.html.j2", whole, view, printable(title) or f"Audit of {document['data']['name']}")


def render_retrieval_fragment(document: Mapping[str, Any]) -> str:
    """Verdict and comparison table alone, for the ``_repr_html_`` of results in a notebook."""
    check_document(document, RETRIEVAL_SCHEMA)
    return environment().get_template("fragment.html.j2").render(_summary_view(printable(document)))


def retrieval_table(document: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The comparison as text: a header and one row for each model, the best of a column marked with ``*``."""
    check_document(document, RETRIEVAL_SCHEMA)
    document = printable(document)
    return as_text("Model", [learner["label"] for learner in document["learners"]], comparison(document))


def comparison(document: Mapping[str, Any]) -> list[Column]:
    """The columns of the comparison table, the best of each marked."""
    learners = document["learners"]
    index = quoted_eps(document)
    assert index is not None
    eps = f"ε = {size_name(float(document['protocol']['eps'][index]))}"
    columns = []
    for key, name in (("recall_at_1", "R@1"), ("map_at_r", "mAP@R")):
        clean = [learner["clean"][key] for learner in learners]
        columns.append(make_column(clean, key, name, "", "%", "higher"))
        worst = [learner["attacked"][index]["worst"].get(key) for learner in learners]
        if all(worst):
            # The attack is on R@1: what it makes of the rest of the ranking is not the worst that can be made of it.
            told = f"{name} attacked" if key == "recall_at_1" else f"{name} under the R@1 attack"
            columns.append(make_column(worst, f"{key}_attacked", told, eps, "%", "higher"))
        if key == "recall_at_1" and (certified := certified_estimates(learners, index)) is not None:
            columns.append(make_column(certified, "certified", "R@1 certified", eps, "%", "higher"))
    columns += score_column(learners)
    nmi = [learner["clean"]["nmi"] for learner in learners]
    if any(value is not None for value in nmi):  # of a large gallery it is not computed
        told = [{} if value is None else {"mean": value} for value in nmi]
        columns.append(make_column(told, "nmi", "NMI", "", "%", "higher"))
    return columns


def _summary_view(document: Mapping[str, Any]) -> dict[str, Any]:
    """What page and notebook share."""
    learners = document["learners"]
    columns = comparison(document)
    return verdict_view(document) | {
        "corner": "Model",
        "data": document["data"],
        "protocol": document["protocol"],
        "columns": columns,
        "names": [{"label": learner["label"], "spec": learner["spec"], "failed": ""} for learner in learners],
        "looks": assign(learners),
        "tiles": tiles(learners, [column for column in columns if column.key not in ("nmi", "ers")], PIXELS),
    }


def _threat(document: Mapping[str, Any]) -> dict[str, Any]:
    protocol = document["protocol"]
    norm, unit = str(protocol["norm"]), str(protocol["units"])
    radii = [float(eps) for eps in protocol["eps"]]
    return {
        "norm": norm_name(document),
        "norm_meaning": _MEANING.get(norm, norm) if unit == "pixels" else NORMS.get(norm, ("", norm))[1],
        "unit": unit_name(document),
        "unit_meaning": UNITS.get(unit, ("", unit))[1],
        "eps": size_name(float(protocol["report_eps"])),
        "curve": f"{size_name(min(radii))} to {size_name(max(radii))}",
        "pixels": unit == "pixels",
        "attacks": list(protocol["attacks"]),
    }


def _attacks(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """R@1 under each attack for every model and ε: which of them was the strongest."""
    rows = []
    for look, learner in zip(assign(document["learners"]), document["learners"]):
        for entry in learner["attacked"]:
            shares = {name: number(told["recall_at_1"]["mean"]) for name, told in entry["attacks"].items()}
            rows.append(
                {
                    "look": look,
                    "eps": size_name(float(entry["eps"])),
                    "shares": [percent(share) for share in shares.values()],
                    "worst": percent(number(entry["worst"]["recall_at_1"]["mean"])),
                }
            )
    return rows


def _certificates(document: Mapping[str, Any]) -> dict[str, Any] | None:
    found = certificates_view(document)
    return found and found | {"figures": [figure_view(figure) for figure in found["figures"]]}


def _galleries(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Examples of each model; those of the model with the least to lose are not hidden behind the others'."""
    return [
        {
            "look": look,
            "cards": [{**card, "magnified": plain(number(card["magnified"]))} for card in learner["examples"]],
            "open": learner["spec"] != PIXELS,
        }
        for look, learner in zip(assign(document["learners"]), document["learners"])
        if learner.get("examples")
    ]


def _class_cell(row: Mapping[str, Any]) -> tuple[float, str, str]:
    """Share of queries that the attack breaks; R@1 attacked, and clean beside it."""
    attacked = number(row["attacked"]) or 0.0
    return 1.0 - attacked, percent(attacked), percent(number(row["recall"]), 0)


def _learner(learner: Mapping[str, Any]) -> dict[str, Any]:
    clean = learner["clean"]
    figures = [(f"R@{k}", number((clean.get(f"recall_at_{k}") or {}).get("mean"))) for k in (1, 2, 4, 8)]
    figures += [("mAP@R", number((clean.get("map_at_r") or {}).get("mean")))]
    figures += [("mAP", number((clean.get("map") or {}).get("mean"))), ("NMI", number(clean.get("nmi")))]
    config = (learner.get("training") or {}).get("config")
    return {
        "label": learner["label"],
        "source": learner["source"] or MISSING,
        "dim": learner["dim"],
        "parameters": f"{learner['n_parameters']:,}",
        "figures": [percent(value) for _, value in figures],
        "header": [name for name, _ in figures],
        "config": [] if config is None else [(name, _words(section)) for name, section in config.items() if section],
    }


def _words(section: Any) -> str:
    if not isinstance(section, Mapping):
        return str(section)
    return ", ".join(
        f"{key} = {json.dumps(value, ensure_ascii=False)}"
        for key, value in section.items()
        if value not in (None, {}, [])
    )


def _reproduction(document: Mapping[str, Any]) -> dict[str, Any]:
    data, protocol, told = document["data"], document["protocol"], document["reproduction"]
    left = f", {data['n_without_positive']} left out that have no other picture of their class"
    shape: Sequence[int] = data["image_shape"]
    dims = dict.fromkeys(str(learner["dim"]) for learner in document["learners"])
    machine = told.get("machine") or {}
    scales = [(learner["label"], number(learner.get("neighbour_distance"))) for learner in document["learners"]]
    scale = "; ".join(f"{label} {plain(value, 4)}" for label, value in scales if value is not None)
    return {
        "command": told.get("command") or "",
        "facts": [
            ("Data", f"{data['name']} ({data.get('source') or MISSING})"),
            ("Queries", f"{data['n_queries']}{left if data['n_without_positive'] else ''}"),
            ("Gallery", f"{data['n_gallery']} of {data['n_classes']} classes"),
            *([("Groups", f"{data['n_groups']}: no query finds its own")] if data.get("n_groups") else []),
            ("Pictures", " × ".join(map(str, shape))) if len(shape) == 3 else ("Dimensions", ", ".join(dims)),
            *([("Median distance to the nearest", scale)] if scale else []),
            ("Attacks", "; ".join(protocol["attacks"])),
            ("Seed", str(protocol["seed"])),
            ("Started", moment(told.get("started"))),
            ("Wall time", duration(number(told.get("wall_seconds")))),
            ("Machine", ", ".join(f"{key} {value}" for key, value in machine.items()) or MISSING),
        ],
        "sha256": data.get("sha256") or "",
        "versions": list((told.get("versions") or {}).items()),
        "models": list((told.get("model_sha256") or {}).items()),
        "files": [],
    }
