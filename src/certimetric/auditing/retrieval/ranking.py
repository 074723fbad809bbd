"""What audits of models on pictures and of embeddings have in common: their figures, their document, their verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from certimetric.auditing.run import Evidence, Gathered
from certimetric.auditing.thresholds import Threshold
from certimetric.auditing.verdict import front_runner, with_interval
from certimetric.base.arrays import Array, Indices
from certimetric.base.results import estimate
from certimetric.base.wording import PIXELS
from certimetric.report.document import RETRIEVAL_SCHEMA
from certimetric.report.formatting import size_name

Scores = Mapping[str, Array]  # by figure, of each query
Learner = Mapping[str, Any]  # of the document
_NORMS = {"linf": "l∞", "l2": "l2", "l1": "l1", "l0": "l0"}
UNITS = {
    "pixels": "in pixels from 0 to 1",
    "inputs": "in units of the input",
    "embedding": "of its embedding",
    "neighbour distance": "in median distances to the nearest item",
}


def describe(
    name: str,
    source: str,
    embeddings: Any,
    labels: Any,
    clean: Scores,
    attacked: Sequence[tuple[float, Scores, Mapping[str, Scores]]],
    n_parameters: int = 0,
) -> dict[str, Any]:
    """A model as the document has it.

    ``embeddings`` and ``labels`` are tensors of the gallery; ``attacked`` holds each ε with the scores of the worst
    case, and those of each attack by its name.
    """
    from certimetric.deep.retrieval.evaluation import CLUSTERED, nmi

    def told(scores: Scores) -> dict[str, Any]:
        return {figure: estimate(values) for figure, values in scores.items()}

    return {
        "spec": name,
        "label": name[:1].upper() + name[1:] if name == PIXELS else name,
        "source": source,
        "dim": int(embeddings.shape[1]),
        "n_parameters": n_parameters,
        "training": None,
        "clean": told(clean) | {"nmi": nmi(embeddings, labels) if len(labels) <= CLUSTERED else None},
        "attacked": [
            {"eps": eps, "worst": told(worst), "attacks": {attack: told(scores) for attack, scores in each.items()}}
            for eps, worst, each in attacked
        ],
    }


def per_class(labels: Indices, class_names: Sequence[str], clean: Scores, worst: Scores) -> list[dict[str, Any]]:
    """R@1 of the queries of each class, clean and in the worst case."""
    rows = [(label, labels == label) for label in np.unique(labels)]
    return [
        {
            "class": class_name(class_names, label),
            "count": int(own.sum()),
            "recall": float(clean["recall_at_1"][own].mean()),
            "attacked": float(worst["recall_at_1"][own].mean()),
        }
        for label, own in rows
    ]


def class_name(names: Sequence[str], label: int) -> str:
    """The name of a label 0, 1, …; others are told as they are."""
    return names[label] if 0 <= label < len(names) else str(label)


class RankedEvidence(Evidence):
    """Evidence about models whose queries were ranked, clean and changed by an attacker."""

    schema = RETRIEVAL_SCHEMA
    with_titles = True

    def recommend(self, found: Gathered) -> int | None:
        """The model with the highest R@1 under attack among those that retrieve well enough clean, never pixels.

        Well enough is a clean R@1 that is not significantly below the best: the 95 % intervals overlap.
        """
        quoted = found.protocol["eps"].index(found.protocol["report_eps"])
        clean = {
            i: learner["clean"]["recall_at_1"] for i, learner in enumerate(found.learners) if learner["spec"] != PIXELS
        }
        return front_runner(clean, lambda i: (_worst(found.learners[i], quoted)["mean"], clean[i]["mean"]))

    def observe(self, found: Gathered, threshold: Threshold, position: int) -> float | str | None:
        learner = found.learners[position]
        if threshold.figure == "certified":
            return _certified(learner, threshold.at or 0.0)
        if tried := [told for told in learner.get("threats") or [] if told["threat"] == threshold.figure]:
            return None if tried[0]["attacked"] is None else float(tried[0]["attacked"]["mean"])
        figure = "map_at_r" if threshold.figure in ("map", "attacked_map") else "recall_at_1"
        at = None if threshold.at is None else _nearest(learner, threshold.at)
        told = (learner["clean"] if at is None else learner["attacked"][at]["worst"])[figure]
        return None if told is None else float(told["mean"])

    def say(self, found: Gathered, recommended: int | None) -> list[str]:
        return [] if recommended is None else say(found.protocol, found.learners, recommended)


def say(protocol: Mapping[str, Any], learners: Sequence[Learner], recommended: int) -> list[str]:
    """What a model reaches clean, under attack and certified, beside the others."""
    parts = [_recommendation(protocol, learners, recommended)]
    chosen = learners[recommended]
    if (certified := _certified(chosen, float(protocol["report_eps"]))) is not None:
        smoothed = chosen["certificate"]["method"] == "smoothing"
        how = "of its smoothed form that is certified for" if smoothed else "that is proven, of every such change, for"
        parts.append(f"{how} {100 * certified:.1f} %")
    return parts


def _recommendation(protocol: Mapping[str, Any], learners: Sequence[Learner], recommended: int) -> str:
    quoted = protocol["eps"].index(protocol["report_eps"])
    chosen = learners[recommended]
    clean, attacked = chosen["clean"]["recall_at_1"], _worst(chosen, quoted)
    several = sum(learner["spec"] != PIXELS for learner in learners) > 1
    item = "an item" if protocol["units"] == "inputs" else "a picture"
    sentence = (
        f"{chosen['label']}{' is recommended: it' if several else ''} finds {item} of the right class first for "
        f"{100 * clean['mean']:.1f} % of the queries, and still for {with_interval(attacked)} when an attacker changes "
        f"each query by up to ε = {size_name(protocol['report_eps'])} ({_NORMS[protocol['norm']]}, "
        f"{'a number of pixels' if protocol['norm'] == 'l0' else UNITS[protocol['units']]})"
    )
    others = [learner for i, learner in enumerate(learners) if i != recommended]
    if len(others) > 3:  # the best of them, and the pixels
        ranked = sorted(others, key=lambda learner: (learner["spec"] != PIXELS, _worst(learner, quoted)["mean"]))
        others = [*ranked[:-3:-1], *(learner for learner in ranked[:1] if learner["spec"] == PIXELS)]
    names = [each["label"].lower() if each["spec"] == PIXELS else each["spec"] for each in others]
    shown = [f"{100 * _worst(learner, quoted)['mean']:.1f} % for {name}" for name, learner in zip(names, others)]
    listed = " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)
    return f"{sentence}, against {listed}" if shown else sentence


def _worst(learner: Learner, position: int) -> Mapping[str, float]:
    found: Mapping[str, float] = learner["attacked"][position]["worst"]["recall_at_1"]
    return found


def _nearest(learner: Learner, eps: float) -> int:
    """Position of the size of the audit that is meant."""
    return min(range(len(learner["attacked"])), key=lambda i: abs(learner["attacked"][i]["eps"] - eps))


def _certified(learner: Learner, eps: float) -> float | None:
    """Certified R@1 at one of the sizes of the audit; None of a model without a certificate."""
    told = learner.get("certificate")
    return float(told["at"][_nearest(learner, eps)]["mean"]) if told and told["method"] is not None else None
