"""The verdict: which learner is recommended, whether thresholds hold, and one sentence about it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from certimetric.auditing.tables.checks import CERTIFICATE_CHECKS
from certimetric.auditing.tables.request import Request
from certimetric.auditing.tables.summary import Array, Cell, certified_accuracy, finished, mean_median_radius
from certimetric.auditing.thresholds import Threshold
from certimetric.runs.key import told

Learner = dict[str, Any]

NO_STANDARD = "no threshold was declared, so nothing is passed"


def recommend(learners: Sequence[Learner], quoted: int) -> int | None:
    """The learner with the highest certified accuracy at the quoted ε among those that are accurate enough.

    Accurate enough is a learner whose error is not significantly above the lowest: the 95 % intervals overlap. Where
    there is one split only, the interval is that of the share of wrong test instances.

    Parameters
    ----------
    learners : list of dict
        Learners of the document.
    quoted : int
        Position of the quoted ε on the curve.

    Returns
    -------
    position : int or None
        None if no learner could be fitted.
    """
    able = [i for i, learner in enumerate(learners) if learner["summary"]]
    if not able:
        return None
    ranges = {i: _error_range(learners[i]) for i in able}
    best = min(able, key=lambda i: learners[i]["summary"]["error"]["mean"])
    accurate = [i for i in able if ranges[i][0] <= ranges[best][1]]
    return max(accurate, key=lambda i: (_certified(learners[i], quoted), -learners[i]["summary"]["error"]["mean"]))


def _error_range(learner: Learner) -> tuple[float, float]:
    error = learner["summary"]["error"]
    if error["low"] is not None:
        return error["low"], error["high"]
    n = sum(split["n_test"] for split in finished(learner["splits"]))
    half = 1.96 * math.sqrt(error["mean"] * (1 - error["mean"]) / n)
    return error["mean"] - half, error["mean"] + half


def _certified(learner: Learner, quoted: int) -> float:
    return float(learner["summary"]["certified_accuracy"][quoted]["mean"])


def judge_thresholds(
    request: Request, learners: Sequence[Learner], radii: Sequence[Sequence[Array]], recommended: int | None
) -> list[dict[str, Any]]:
    """Every threshold with the figure observed: the mean over splits; none is passed without a figure."""
    specs = [subject.spec for subject in request.subjects]
    judged = []
    for threshold in request.thresholds:
        position = recommended if threshold.learner is None else specs.index(threshold.learner)
        value = None if position is None else _observe(request, threshold, learners[position], radii[position])
        name = "recommended" if position is None else specs[position]
        judged.append(
            {
                "expression": threshold.expression(name),
                "observed": None if value is None else told(value),
                "passed": value is not None and value >= threshold.value - 1e-12,
            }
        )
    return judged


def _observe(request: Request, threshold: Threshold, learner: Learner, radii: Sequence[Array]) -> float | None:
    done: list[Cell] = finished(learner["splits"])
    if not done:
        return None
    if threshold.figure == "certified":
        return float(np.mean([certified_accuracy(some, threshold.at or 0.0) for some in radii]))
    if threshold.figure == "median_radius":
        return mean_median_radius(radii)
    if threshold.figure == "balanced_accuracy":
        return float(np.mean([split["balanced_accuracy"] for split in done]))
    if threshold.figure == "recall":
        return float(next(row["recall"] for row in learner["per_class"] if row["class"] == threshold.label))
    if threshold.figure == "noise":
        level = next(i for i, sigma in enumerate(request.noise) if math.isclose(sigma, threshold.at or 0.0))
        return 1.0 - float(np.mean([split["noise_error"][level] for split in done]))
    return 1.0 - float(np.mean([split["error"] for split in done]))


def conclude(
    request: Request,
    learners: Sequence[Learner],
    checks: Sequence[dict[str, Any]],
    thresholds: Sequence[dict[str, Any]],
    recommended: int | None,
    quoted: int,
    eps: float,
    baseline: dict[str, Any],
) -> dict[str, str | None]:
    """Status, sentence, and which learner is recommended.

    FAIL if a threshold does not hold, if a check of the certificates found an issue, or if nothing could be fitted;
    WARN if any other check found an issue; else PASS where thresholds were declared, and REPORT where none was.
    """
    missed = [entry for entry in thresholds if not entry["passed"]]
    issues = [entry for entry in checks if entry["severity"] == "issue"]
    broken = [entry for entry in issues if entry["code"] in CERTIFICATE_CHECKS]
    status = overall_status(bool(missed or broken) or recommended is None, bool(issues), bool(thresholds))
    if recommended is None:
        sentence = "No learner could be fitted, so there is nothing to recommend."
        return {"status": status, "sentence": sentence, "recommended": None}
    parts = [_recommendation(request, learners, recommended, quoted, eps)]
    balanced = learners[recommended]["summary"]["balanced_accuracy"]
    parts.append(
        f"always answering {baseline['class']!r}, the most frequent class, is wrong on "
        f"{100 * baseline['error']:.1f} %, and its balanced accuracy is {100 * baseline['balanced_accuracy']:.1f} % "
        f"where that of {learners[recommended]['label']} is {_percent(balanced)}"
    )
    if broken:
        parts.append("a certificate was broken, which is an error of this library")
    if missed:
        parts.append(f"{counted(len(missed), 'threshold')} of {len(thresholds)} missed: {missed[0]['expression']}")
    elif thresholds:
        parts.append("the threshold holds" if len(thresholds) == 1 else f"all {len(thresholds)} thresholds hold")
    if others := len(issues) - len(broken):
        parts.append(f"{counted(others, 'reliability check')} found an issue")
    if status == "REPORT":
        parts.append(NO_STANDARD)
    return {"status": status, "sentence": "; ".join(parts) + ".", "recommended": learners[recommended]["spec"]}


def overall_status(failed: bool, issues: bool, thresholds: bool) -> str:
    """FAIL, WARN, PASS or REPORT: without a declared threshold nothing passes, and the audit reports what it found.

    Parameters
    ----------
    failed : bool
        Whether a threshold or a certificate is broken, or there is nothing to judge.
    issues : bool
        Whether a reliability check found an issue.
    thresholds : bool
        Whether any threshold was declared.
    """
    if failed:
        return "FAIL"
    return "WARN" if issues else "PASS" if thresholds else "REPORT"


def _recommendation(request: Request, learners: Sequence[Learner], recommended: int, quoted: int, eps: float) -> str:
    chosen = learners[recommended]
    error, certified = chosen["summary"]["error"], chosen["summary"]["certified_accuracy"][quoted]
    norm = "the ellipsoid norm" if request.norm_name == "ellipsoid" else f"{request.norm_name} norm"
    size = f"{eps:g} standard deviations ({norm})"
    if hasattr(request.norm, "base"):  # other units, or some features only
        size = f"{eps:g} ({request.norm!r}, of standardised features)"
    sentence = (
        f"{chosen['label']} is recommended: it is wrong on {_percent(error)} of test instances and certified correct "
        f"on {_percent(certified)} within ε = {size}"
    )
    specs = [learner["spec"] for learner in learners]
    if "euclidean" not in specs or specs[recommended] == "euclidean":
        return sentence
    baseline = learners[specs.index("euclidean")]
    if not baseline["summary"]:
        return sentence
    against = baseline["summary"]
    return (
        f"{sentence}, against {100 * against['error']['mean']:.1f} % and "
        f"{100 * against['certified_accuracy'][quoted]['mean']:.1f} % for {baseline['label']}"
    )


def _percent(estimate: dict[str, Any]) -> str:
    text = f"{100 * estimate['mean']:.1f} %"
    if estimate["low"] is None:
        return text
    return f"{text} (95 % interval {100 * estimate['low']:.1f} to {100 * estimate['high']:.1f})"


def counted(number: int, noun: str) -> str:
    """``1 threshold``, ``2 thresholds``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
