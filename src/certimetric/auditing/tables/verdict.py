"""What the verdict on metrics rests on: which is recommended, what thresholds are about, and what figures say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from certimetric.auditing.tables.request import Request
from certimetric.auditing.tables.summary import (
    Array,
    Cell,
    certified_accuracy,
    finished,
    is_imbalanced,
    mean_median_radius,
)
from certimetric.auditing.thresholds import Threshold
from certimetric.auditing.verdict import front_runner, with_interval
from certimetric.base.results import WIDTH

Learner = dict[str, Any]


def recommend(learners: Sequence[Learner], quoted: int, *, balanced: bool = False) -> int | None:
    """The learner with the highest certified accuracy at the quoted ε among those that are accurate enough.

    Accurate enough is a learner whose error is not significantly above the lowest: the 95 % intervals overlap. Where
    there is one split only, the interval is that of the share of wrong test instances. None if none could be fitted;
    ``quoted`` is the position of the quoted ε on the curve. Where figures shall be ``balanced``, for one class is most
    of the data, both are means over classes.
    """
    accuracy = _balanced if balanced else _less_error
    able = {i: accuracy(learner) for i, learner in enumerate(learners) if learner["summary"]}
    figure = "balanced_certified" if balanced else "certified_accuracy"
    certified = {i: float(learners[i]["summary"][figure][quoted]["mean"]) for i in able}
    return front_runner(able, lambda i: (certified[i], able[i]["mean"]))


def _less_error(learner: Learner) -> dict[str, float]:
    """The error with its interval, the sign changed: what should be high."""
    error = learner["summary"]["error"]
    low, high = error["low"], error["high"]
    if low is None:
        n = sum(split["n_test"] for split in finished(learner["splits"]))
        half = WIDTH * math.sqrt(error["mean"] * (1 - error["mean"]) / n)
        low, high = error["mean"] - half, error["mean"] + half
    return {"mean": -error["mean"], "low": -high, "high": -low}


def _balanced(learner: Learner) -> dict[str, float]:
    """Balanced accuracy with its interval; of one split that of recalls, two of either kind added."""
    found = learner["summary"]["balanced_accuracy"]
    mean, low, high = found["mean"], found["low"], found["high"]
    if low is None:
        rows = [((row["count"] * row["recall"] + 2) / (row["count"] + 4), row["count"]) for row in learner["per_class"]]
        half = WIDTH * math.sqrt(sum(share * (1 - share) / (n + 4) for share, n in rows)) / len(rows)
        low, high = mean - half, mean + half
    return {"mean": mean, "low": low, "high": high}


def observe(request: Request, threshold: Threshold, learner: Learner, radii: Sequence[Array]) -> float | None:
    """The figure of a learner that a threshold is about: the mean over splits; None where no split finished."""
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


def say(
    request: Request,
    learners: Sequence[Learner],
    recommended: int | None,
    quoted: int,
    eps: float,
    baseline: dict[str, Any],
) -> list[str]:
    """The figures of the recommended learner beside those of the Euclidean distance and of always answering one class.

    ``quoted`` is the position of the quoted ``eps`` on the curve; ``baseline`` is what always answering the most
    frequent class gives.
    """
    if recommended is None:
        return ["No learner could be fitted, so there is nothing to recommend"]
    balanced = learners[recommended]["summary"]["balanced_accuracy"]
    sample = [f"of this table {request.sizes.told(request.everything)}"] if request.is_sample else []
    return [
        _recommendation(request, learners, recommended, quoted, eps),
        *_imbalance(request, learners[recommended], quoted),
        *sample,
        f"always answering {baseline['class']!r}, the most frequent class, is wrong on "
        f"{100 * baseline['error']:.1f} %, and its balanced accuracy is {100 * baseline['balanced_accuracy']:.1f} % "
        f"where that of {learners[recommended]['label']} is {with_interval(balanced)}",
    ]


def _imbalance(request: Request, chosen: Learner, quoted: int) -> list[str]:
    """Where one class is most of the data: that balanced figures decide, and how the class told worst fares."""
    if not is_imbalanced(request):
        return []
    counts, worst = np.bincount(request.codes), chosen["per_class"][0]
    certified = chosen["summary"]["balanced_certified"][quoted]
    return [
        f"{100 * counts.max() / counts.sum():.1f} % of the instances are of the class "
        f"{request.classes[counts.argmax()]!r}, so that balanced figures decide: certified correct, the mean over "
        f"classes, are {with_interval(certified)}, and of the class {worst['class']!r} {100 * worst['recall']:.1f} % "
        f"are found and {100 * worst['certified']:.1f} % certified"
    ]


def _recommendation(request: Request, learners: Sequence[Learner], recommended: int, quoted: int, eps: float) -> str:
    chosen = learners[recommended]
    error, certified = chosen["summary"]["error"], chosen["summary"]["certified_accuracy"][quoted]
    norm = "the ellipsoid norm" if request.norm_name == "ellipsoid" else f"{request.norm_name} norm"
    size = f"{eps:g} standard deviations ({norm})"
    if hasattr(request.norm, "base"):  # other units, or some features only
        size = f"{eps:g} ({request.norm!r}, of standardised features)"
    sentence = (
        f"{chosen['label']} is recommended: it is wrong on {with_interval(error)} of test instances and certified "
        f"correct on {with_interval(certified)} within ε = {size}"
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
