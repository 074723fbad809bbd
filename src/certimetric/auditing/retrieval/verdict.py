"""What the verdict on embedding models rests on: which is recommended, what thresholds are about, what figures say."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from certimetric.auditing.retrieval.certificates import certified_recall
from certimetric.auditing.run import Evidence, Gathered
from certimetric.auditing.thresholds import Threshold
from certimetric.auditing.verdict import with_interval
from certimetric.base.wording import PIXELS
from certimetric.report.document import RETRIEVAL_SCHEMA
from certimetric.report.formatting import size_name

Learner = Mapping[str, Any]
_NORMS = {"linf": "l∞", "l2": "l2"}
_UNITS = {
    "pixels": "in pixels from 0 to 1",
    "embedding": "of its embedding",
    "neighbour distance": "in median distances to the nearest item",
}


def recommend(learners: Sequence[Learner], quoted: int) -> int:
    """The model with the highest R@1 under attack among those that retrieve well enough clean.

    Well enough is a model whose clean R@1 is not significantly below the best: the 95 % intervals overlap. Raw pixels
    are never recommended.

    Parameters
    ----------
    learners : list of dict
        Of the document.
    quoted : int
        Position of the quoted ε.
    """
    able = [i for i, learner in enumerate(learners) if learner["spec"] != PIXELS]
    clean = [learner["clean"]["recall_at_1"] for learner in learners]
    best = max(able, key=lambda i: clean[i]["mean"])
    accurate = [i for i in able if clean[i]["high"] >= clean[best]["low"]]
    return max(accurate, key=lambda i: (_worst(learners[i], quoted)["mean"], clean[i]["mean"]))


def _worst(learner: Learner, quoted: int) -> Mapping[str, float]:
    found: Mapping[str, float] = learner["attacked"][quoted]["worst"]["recall_at_1"]
    return found


def observe(threshold: Threshold, learner: Learner) -> float | None:
    """The figure of a model that a threshold is about; None where there is none."""
    figure = "map_at_r" if threshold.figure in ("map", "attacked_map") else "recall_at_1"
    entry = learner["clean"]
    at = threshold.at
    if threshold.figure == "certified":
        return certified_recall(learner, at)
    if at is not None:
        entry = next(e["worst"] for e in learner["attacked"] if math.isclose(e["eps"], at, rel_tol=1e-3))
    told = entry[figure]
    return None if told is None else float(told["mean"])


def say(protocol: Mapping[str, Any], learners: Sequence[Learner], recommended: int) -> list[str]:
    """What a model reaches clean, under attack and certified, beside the others."""
    parts = [_recommendation(protocol, learners, recommended)]
    chosen = learners[recommended]
    if (certified := certified_recall(chosen, float(protocol["report_eps"]))) is not None:
        smoothed = chosen["certificate"]["method"] == "smoothing"
        how = "of its smoothed form that is certified for" if smoothed else "that is proven, of every such change, for"
        parts.append(f"{how} {100 * certified:.1f} %")
    return parts


def _recommendation(protocol: Mapping[str, Any], learners: Sequence[Learner], recommended: int) -> str:
    quoted = protocol["eps"].index(protocol["report_eps"])
    chosen = learners[recommended]
    clean, attacked = chosen["clean"]["recall_at_1"], _worst(chosen, quoted)
    several = sum(learner["spec"] != PIXELS for learner in learners) > 1
    sentence = (
        f"{chosen['label']}{' is recommended: it' if several else ''} finds a picture of the right class first for "
        f"{100 * clean['mean']:.1f} % of the queries, and still for {with_interval(attacked)} when an attacker changes "
        f"each query by up to ε = {size_name(protocol['report_eps'])} ({_NORMS[protocol['norm']]}, "
        f"{_UNITS[protocol['units']]})"
    )
    others = [learner for i, learner in enumerate(learners) if i != recommended]
    if len(others) > 3:  # the best of them, and the pixels
        ranked = sorted(others, key=lambda learner: (learner["spec"] != PIXELS, _worst(learner, quoted)["mean"]))
        others = [*ranked[:-3:-1], *(learner for learner in ranked[:1] if learner["spec"] == PIXELS)]
    shown = [f"{100 * _worst(learner, quoted)['mean']:.1f} % for {learner['spec']}" for learner in others]
    return f"{sentence}, against {_listed(shown)}" if shown else sentence


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


class RankedEvidence(Evidence):
    """What audits of models on pictures and of embeddings have in common: their document and their verdict."""

    schema = RETRIEVAL_SCHEMA
    with_titles = True

    def recommend(self, found: Gathered) -> int | None:
        return recommend(found.learners, found.protocol["eps"].index(found.protocol["report_eps"]))

    def observe(self, found: Gathered, threshold: Threshold, position: int) -> float | str | None:
        return observe(threshold, found.learners[position])

    def say(self, found: Gathered, recommended: int | None) -> list[str]:
        return [] if recommended is None else say(found.protocol, found.learners, recommended)
