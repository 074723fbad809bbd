"""The threats of an audit of a table: chosen changes within the norm, and noise; and what was not tried."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from certimetric.base.results import estimate as share_of
from certimetric.report.document import quoted_eps
from certimetric.report.formatting import norm_name, plain, unit_name
from certimetric.report.tables.comparison import accuracy, estimate
from certimetric.report.threats import Effect, Threat, other_norms


def threats(document: Mapping[str, Any]) -> list[Threat]:
    """A chosen change of the quoted ε, and the strongest noise."""
    protocol, learners, unit = document["protocol"], document["learners"], unit_name(document)
    found = []
    if (index := quoted_eps(document)) is not None:
        eps = float(protocol["eps"][index])
        effects = [_chosen(learner, index, eps) for learner in learners]
        attacked = max((each["robustness"]["instances"] for each in learners if each.get("robustness")), default=0)
        figure = (
            f"accuracy on the {attacked} test instances of one split that were attacked" if attacked else "accuracy"
        )
        what = f"a chosen change of ε = {plain(eps)} {unit} ({norm_name(document)})"
        who = "who knows metric and training data, and can set every feature"
        found.append(Threat(what, who, figure, effects, [f"certified@{eps:g}"]))
    levels = [float(level) for level in protocol.get("noise") or []]
    for index, level in sorted(enumerate(levels), key=lambda each: -each[1])[:1]:
        effects = [
            Effect(_accuracy(learner, "error"), _accuracy(learner, "noise_error", index)) for learner in learners
        ]
        what = f"Gaussian noise of σ = {plain(level)} {unit} on every feature"
        found.append(Threat(what, "nobody: sensors and rounding do it", "accuracy", effects, [f"noise@{level:g}"]))
    return found


def untried(document: Mapping[str, Any]) -> list[str]:
    """What could be done to such a predictor that this audit did not try."""
    told = ["Training data, labels or the metric changed by somebody: all are trusted", other_norms(document)]
    if not any(each.get("robustness") for each in document["learners"]):
        told.append("Attacks: no learner has figures of them")
    if not document["protocol"].get("noise"):
        told.append("Noise")
    return told


def _accuracy(learner: Mapping[str, Any], key: str, index: int | None = None) -> dict[str, float | None] | None:
    mean, low, high = accuracy(learner, key, index)
    return None if mean is None else {"mean": mean, "low": low, "high": high}


def _chosen(learner: Mapping[str, Any], index: int, eps: float) -> Effect:
    """All of the same instances, so that they bracket the truth: the curve has them at sizes of its own.

    Attacked is what was found at the largest size not above ε, certified what is at the smallest one not below it.
    """
    curve = learner.get("robustness")
    if not curve:
        return Effect(_accuracy(learner, "error"), None, estimate(learner, "certified_accuracy", index) or None)
    sizes, n = [float(size) for size in curve["eps"]], int(curve["instances"])
    below = [share for size, share in zip(sizes, curve["adversarial"]) if size <= eps * (1 + 1e-9)]
    above = [share for size, share in zip(sizes, curve["certified"]) if size >= eps * (1 - 1e-9)]
    return Effect(_share(curve["clean"], n), _share(below[-1], n), _share(above[0], n) if above else None)


def _share(share: float, n: int) -> dict[str, float]:
    """A share of so many instances, with its interval."""
    return share_of((np.arange(n) < round(share * n)).astype(float))
