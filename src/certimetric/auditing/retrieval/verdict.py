"""The verdict on embedding models: which is recommended, whether thresholds hold, and one sentence about it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from certimetric.auditing.retrieval.certificates import CODE, certified_recall
from certimetric.auditing.tables.verdict import NO_STANDARD, counted, overall_status
from certimetric.auditing.thresholds import Threshold
from certimetric.report.document import PIXELS
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


def judge_thresholds(asked: Sequence[Threshold], learners: Sequence[Learner], recommended: int) -> list[dict[str, Any]]:
    """Every threshold with the figure observed."""
    specs = [learner["spec"] for learner in learners]
    judged = []
    for threshold in asked:
        position = recommended if threshold.learner is None else specs.index(threshold.learner)
        value = _observe(threshold, learners[position])
        judged.append(
            {
                "expression": threshold.expression(specs[position]),
                "observed": value,
                "passed": value is not None and value >= threshold.value - 1e-12,
            }
        )
    return judged


def _observe(threshold: Threshold, learner: Learner) -> float | None:
    figure = "map_at_r" if threshold.figure in ("map", "attacked_map") else "recall_at_1"
    entry = learner["clean"]
    at = threshold.at
    if threshold.figure == "certified":
        return certified_recall(learner, at)
    if at is not None:
        entry = next(e["worst"] for e in learner["attacked"] if math.isclose(e["eps"], at, rel_tol=1e-3))
    told = entry[figure]
    return None if told is None else float(told["mean"])


def conclude(
    protocol: Mapping[str, Any],
    learners: Sequence[Learner],
    checks: Sequence[Mapping[str, Any]],
    thresholds: Sequence[Mapping[str, Any]],
    recommended: int,
) -> dict[str, str]:
    """Status and sentence.

    FAIL if a threshold does not hold or a certificate was broken; WARN if any other check found an issue; else PASS
    where thresholds were declared, and REPORT where none was: there is no standard to pass.
    """
    missed = [entry for entry in thresholds if not entry["passed"]]
    issues = [entry for entry in checks if entry["severity"] == "issue"]
    parts = [_recommendation(protocol, learners, recommended)]
    quoted, chosen = float(protocol["report_eps"]), learners[recommended]
    if (certified := certified_recall(chosen, quoted)) is not None:
        smoothed = chosen["certificate"]["method"] == "smoothing"
        how = "of its smoothed form that is certified for" if smoothed else "that is proven, of every such change, for"
        parts.append(f"{how} {100 * certified:.1f} %")
    if missed:
        parts.append(f"{counted(len(missed), 'threshold')} of {len(thresholds)} missed: {missed[0]['expression']}")
    elif thresholds:
        parts.append("the threshold holds" if len(thresholds) == 1 else f"all {len(thresholds)} thresholds hold")
    broken = [entry for entry in issues if entry["code"] == CODE]
    if broken:
        parts.append("a certificate was broken, which is an error of this library")
    if others := [entry for entry in issues if entry not in broken]:
        titles = ", ".join(dict.fromkeys(str(entry["title"]).lower() for entry in others))
        parts.append(f"{counted(len(others), 'reliability check')} found an issue ({titles})")
    status = overall_status(bool(missed or broken), bool(issues), bool(thresholds))
    if status == "REPORT":
        parts.append(NO_STANDARD)
    return {"status": status, "sentence": "; ".join(parts) + "."}


def _recommendation(protocol: Mapping[str, Any], learners: Sequence[Learner], recommended: int) -> str:
    quoted = protocol["eps"].index(protocol["report_eps"])
    chosen = learners[recommended]
    clean, attacked = chosen["clean"]["recall_at_1"], _worst(chosen, quoted)
    several = sum(learner["spec"] != PIXELS for learner in learners) > 1
    sentence = (
        f"{chosen['label']}{' is recommended: it' if several else ''} finds a picture of the right class first for "
        f"{100 * clean['mean']:.1f} % of the queries, and still for {_percent(attacked)} when an attacker changes each "
        f"query by up to ε = {size_name(protocol['report_eps'])} ({_NORMS[protocol['norm']]}, "
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


def _percent(estimate: Mapping[str, float]) -> str:
    return f"{100 * estimate['mean']:.1f} % (95 % interval {100 * estimate['low']:.1f} to {100 * estimate['high']:.1f})"
