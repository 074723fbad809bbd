"""The view of an audit of embedding models, on pictures or of embeddings alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from certimetric.base.wording import PIXELS
from certimetric.report.blocks import classes_view, threat_view
from certimetric.report.comparison import Column, make_column
from certimetric.report.document import RETRIEVAL_SCHEMA, items_of, models_told, number, of_models, quoted_eps
from certimetric.report.formatting import MISSING, percent, plain, size_name
from certimetric.report.page import figure_view
from certimetric.report.retrieval.certificates import certificates_view, certified_estimates
from certimetric.report.retrieval.deployed import deployed_view
from certimetric.report.retrieval.figures import attack_curves, loss_figure, map_figures, training_rows
from certimetric.report.retrieval.hubs import hubs_column, hubs_view
from certimetric.report.retrieval.poisoning import VOTE, poisoned, poisoning_figures, votes
from certimetric.report.retrieval.robustness_score import score_column, score_view
from certimetric.report.retrieval.threats import corruptions_view, smallest_figure, threats, untried
from certimetric.report.view import Block, View, figures_block, of_document

if TYPE_CHECKING:
    import pandas as pd

_MEANING = {
    "linf": "the largest change of any single value of a pixel",
    "l2": "the Euclidean length of the change over all pixels together",
    "l1": "the changes of all values of pixels added up, regardless of sign",
    "l0": "the number of pixels that change, each in all of its channels",
}


def _threat(view: RetrievalView) -> dict[str, Any] | None:
    told, norm = threat_view(view), str(view.document["protocol"]["norm"])
    if told is not None and view.document["protocol"]["units"] == "pixels":
        told["norm_meaning"] = _MEANING.get(norm, norm)
        if norm == "l0":
            told["unit_meaning"] = "pixels, whatever becomes of them"
    certified = any(learner.get("certificate") for learner in view.learners)
    return told and told | {"certified": certified, "poisoned": any(map(poisoned, view.learners))}


def _curves(view: RetrievalView) -> dict[str, Any]:
    """Figures; and for every model and ε, R@1 under each attack and the worst of them."""
    rows = []
    for look, learner in zip(view.looks, view.learners):
        for entry in learner["attacked"]:
            told = [*entry["attacks"].values(), entry["worst"]]
            shares = [percent(number(each["recall_at_1"]["mean"])) for each in told]
            rows.append((look, [size_name(float(entry["eps"])), *shares]))
    drawn = [*attack_curves(view.document), smallest_figure(view.document)]
    figures = [figure_view(figure) for figure in drawn if figure is not None]
    return {"figures": figures, "attacks": view.document["protocol"]["attacks"], "rows": rows}


def _training(view: RetrievalView) -> dict[str, Any] | None:
    rows = training_rows(view.document)
    if not rows:
        return None
    configs = [
        (learner["label"], [(name, _words(section)) for name, section in told["config"].items() if section])
        for learner in view.learners
        if (told := learner.get("training"))
    ]
    return {
        "rows": rows,
        "configs": [each for each in configs if each[1]],
        "loss": figure_view(loss_figure(view.document)),
    }


def _galleries(view: RetrievalView) -> dict[str, Any] | None:
    """Examples of each model; those of the model with the least to lose are not hidden behind the others'."""
    groups = [
        {
            "look": look,
            "cards": [{**card, "magnified": plain(number(card["magnified"]))} for card in learner["examples"]],
            "open": learner["spec"] != PIXELS,
        }
        for look, learner in zip(view.looks, view.learners)
        if learner.get("examples")
    ]
    return {"groups": groups, "lines": items_of(view.document) == "inputs"} if groups else None


def _maps(view: RetrievalView) -> str:
    moved = " What counts is how far the arrows reach, compared with the distances between the groups."
    return (
        "Two directions show a small part of the truth: near on the map need not be near in the embedding."
        f"{moved if of_models(view.document) else ''}"
    )


def _class_cell(row: Mapping[str, Any]) -> tuple[float, str, str]:
    """Share of queries that the attack breaks; R@1 attacked, and clean beside it."""
    attacked = number(row["attacked"]) or 0.0
    return 1.0 - attacked, percent(attacked), percent(number(row["recall"]), 0)


def _words(section: Any) -> str:
    if not isinstance(section, Mapping):
        return str(section)
    return ", ".join(
        f"{key} = {json.dumps(value, ensure_ascii=False)}"
        for key, value in section.items()
        if value not in (None, {}, [])
    )


def _comparison(view: RetrievalView) -> dict[str, Any]:
    names = {f"recall_at_{k}": f"R@{k}" for k in (1, 2, 4, 8, 10, 100, 1000)}
    names |= {"map_at_r": "mAP@R", "map": "mAP", "mrr": "MRR", "ndcg": "nDCG", "precision_at_10": "P@10"}
    rows = []
    for learner in view.learners:
        clean = learner["clean"]
        figures = [*(number((clean.get(key) or {}).get("mean")) for key in names), number(clean.get("nmi"))]
        sizes = [learner["dim"], f"{learner['n_parameters']:,}"]
        rows.append((learner["label"], learner["source"] or MISSING, [*sizes, *map(percent, figures)]))
    return {"learners": rows, "header": [*names.values(), "NMI"]}


def _classes(view: RetrievalView) -> dict[str, Any]:
    return classes_view(view.learners, _class_cell)


class RetrievalView(View):
    """Verdict, curves, certificates, galleries and maps of embedding models."""

    schema, folder = RETRIEVAL_SCHEMA, "retrieval"
    noun, corner = "model", "Model"
    baseline = PIXELS
    twins = ("CR109",)
    unsteady = ("nmi", "hubness")
    beside = ("nmi", "ers", "hubness", VOTE)  # columns whose best figure is no headline, nor are those of threats
    size = staticmethod(size_name)
    threats_of, untried_of = staticmethod(threats), staticmethod(untried)
    blocks = (
        Block("threat", "threat", "Threat model", _threat),
        Block("threats", "corruptions", "Natural corruptions", of_document(corruptions_view)),
        figures_block("threats", "poisoning", "Items added to the gallery", poisoning_figures),
        Block("curves", "robustness", "Retrieval under attack", _curves),
        Block("curves", "ers", "Empirical robustness score", of_document(score_view)),
        Block("curves", "certificates", "Certificates", of_document(certificates_view)),
        Block("comparison", "comparison", "Comparison", _comparison),
        Block("comparison", "deployed", "The index as deployed", of_document(deployed_view)),
        Block("comparison", "training", "Cost of training", _training),
        Block("classes", "classes", "Classes", _classes, heading="Classes, worst first"),
        Block("instances", "galleries", "What an attack does", _galleries),
        Block("anatomy", "hubs", "Hubs", of_document(hubs_view)),
        figures_block("anatomy", "maps", "Maps of embeddings", map_figures, _maps),
    )

    @property
    def untold(self) -> tuple[str, ...]:  # type: ignore[override]
        return (*self.beside, *(threat["name"] for threat in self.document["protocol"].get("threats") or []))

    @cached_property
    def columns(self) -> list[Column]:
        learners, index = self.learners, quoted_eps(self.document)
        assert index is not None
        eps = f"ε = {size_name(float(self.document['protocol']['eps'][index]))}"
        columns = []
        for key, name in (("recall_at_1", "R@1"), ("map_at_r", "mAP@R")):
            clean = [learner["clean"][key] for learner in learners]
            columns.append(make_column(clean, key, name, "", "%", "higher"))
            worst = [learner["attacked"][index]["worst"].get(key) for learner in learners]
            if all(worst):
                # The attack is on R@1: what it makes of the rest of the ranking is not the worst that can be made.
                told = f"{name} attacked" if key == "recall_at_1" else f"{name} under the R@1 attack"
                columns.append(make_column(worst, f"{key}_attacked", told, eps, "%", "higher"))
            if key == "recall_at_1" and (certified := certified_estimates(learners, index)) is not None:
                columns.append(make_column(certified, "certified", "R@1 certified", eps, "%", "higher"))
            if key == "recall_at_1" and all(learner.get("deployed") for learner in learners):
                for part, told in (("clean", "R@1 of the index"), ("attacked", "R@1 of the index, attacked")):
                    found = [learner["deployed"][part] for learner in learners]
                    columns.append(make_column(found, f"deployed_{part}", told, eps * (part != "clean"), "%", "higher"))
        columns += score_column(learners)
        for threat in self.document["protocol"].get("threats") or []:
            tried = [each for learner in learners for each in learner["threats"] if each["threat"] == threat["name"]]
            shares = [each["attacked"] or {} for each in tried]
            columns.append(make_column(shares, threat["name"], f"R@1, {threat['name']}", "", "%", "higher"))
        if found := votes(self.document):
            told = [vote.get("certified") or {} for vote in found]
            columns.append(make_column(told, VOTE, "R@1 of a vote, certified against poisoning", "", "%", "higher"))
        columns += hubs_column(learners)
        nmi = [learner["clean"]["nmi"] for learner in learners]
        if any(value is not None for value in nmi):  # of a large gallery it is not computed
            known = [{} if value is None else {"mean": value} for value in nmi]
            columns.append(make_column(known, "nmi", "NMI", "", "%", "higher"))
        return columns

    def rests_on(self, column: Column) -> dict[str, Any]:
        """Of a threat, what is done and with how large a change."""
        threats = {each["name"]: each["what"] for each in self.document["protocol"].get("threats") or []}
        told, key = super().rests_on(column), "poisoning" if column.key == VOTE else column.key
        return told | {"threat": threats[key]} if key in threats else told

    def spread(self) -> dict[str, Any]:
        quoted = self.size(float(self.document["protocol"]["report_eps"]))
        return super().spread() | {"pixels": of_models(self.document), "eps": quoted}

    def lede(self) -> list[str]:
        """Sizes of queries and gallery, and number of models."""
        data, items = self.document["data"], items_of(self.document)
        against = f"{data['n_queries']} queries against {data['n_gallery']} {items} of {data['n_classes']} classes"
        return [against, models_told(self.document)]

    def facts(self) -> list[tuple[str, str]]:
        """Queries, gallery and protocol."""
        data, protocol = self.document["data"], self.document["protocol"]
        left = f", {data['n_without_positive']} left out that have no other item of their class"
        shape = list(map(str, data["image_shape"]))
        dims = dict.fromkeys(str(learner["dim"]) for learner in self.learners)
        scales = [(each["label"], number(each.get("neighbour_distance"))) for each in self.learners]
        scale = "; ".join(f"{label} {plain(value, 4)}" for label, value in scales if value is not None)
        return [
            ("Queries", f"{data['n_queries']}{left if data['n_without_positive'] else ''}"),
            ("Gallery", f"{data['n_gallery']} of {data['n_classes']} classes"),
            *([("Groups", f"{data['n_groups']}: no query finds its own")] if data.get("n_groups") else []),
            ("Pictures", " × ".join(shape)) if len(shape) == 3 else ("Dimensions", ", ".join(dims)),
            *([("Median distance to the nearest", scale)] if scale else []),
            *([("Compared by", str(protocol["metric"]))] if protocol.get("metric") else []),
            *([("Index", str(protocol["index"]))] if protocol.get("index") else []),
            ("Attacks", "; ".join(protocol["attacks"])),
            ("Seed", str(protocol["seed"])),
        ]

    def to_frame(self) -> pd.DataFrame:
        """A row for each model, attack and ε: R@k, mAP@R and mAP."""
        import pandas as pd

        rows: list[dict[str, Any]] = []
        for learner in self.learners:
            told: list[tuple[str, float | None, Any]] = [("clean", 0.0, learner["clean"])]
            for entry in learner["attacked"]:
                told += [(name, entry["eps"], figures) for name, figures in entry["attacks"].items()]
                told.append(("worst case", entry["eps"], entry["worst"]))
            for each in learner.get("threats") or []:
                told.append((each["threat"], None, {"recall_at_1": each["attacked"]}))
            for attack, eps, figures in told:
                row = {"model": learner["spec"], "attack": attack, "eps": eps}
                rows.append(row | {name: f["mean"] for name, f in figures.items() if isinstance(f, dict)})
        return pd.DataFrame(rows)
