"""The threats of an audit of verification: dodging and impersonation; and what was not tried."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from certimetric.report.document import of_models, quoted_eps
from certimetric.report.formatting import norm_name, plain, unit_name
from certimetric.report.threats import Effect, Threat, other_norms

_AIMS = (
    (
        "tar",
        "dodging",
        "TAR of the pairs that were attacked",
        "a person who does not want to be recognised",
        ("certified",),
    ),
    (
        "far",
        "impersonation",
        "FAR of the pairs that were attacked, lower is better",
        "who wants to be taken for somebody else",
        ("rejected",),
    ),
)


def threats(document: Mapping[str, Any]) -> list[Threat]:
    """Dodging, told by the rate of true accepts, and impersonation, by that of false ones."""
    if (index := quoted_eps(document)) is None:
        return []
    protocol = document["protocol"]
    eps, surrogate = float(protocol["eps"][index]), protocol.get("surrogate")
    size = f"ε = {plain(eps)} {unit_name(document)} ({norm_name(document)})"
    found = []
    for key, name, figure, who, standard in _AIMS:
        # Of models TAR under attack is what a threshold is about, of metrics what is certified.
        asked = "attacked" if of_models(document) and key == "tar" else standard
        effects = [_effect(learner, key, index, eps) for learner in document["learners"]]
        knows = "another model" if surrogate else "everything"
        what = f"{name} by a change of the probe within {size}"
        found.append(Threat(what, f"{who}, and knows {knows}", figure, effects, [f"{asked}@{eps:g}"]))
    return found


def untried(document: Mapping[str, Any]) -> list[str]:
    """What could be done to such a system that this audit did not try."""
    told = [
        "Enrolled instances, thresholds or training data changed by somebody: all are trusted",
        other_norms(document),
    ]
    if document["protocol"].get("surrogate"):
        told.append("Attackers who know the audited model: changes were made for another one")
    if str(document["protocol"]["units"]) == "pixels":
        told.append("Patches, occlusion, rotation, corruptions and re-encoding of pictures")
    return told


def _effect(learner: Mapping[str, Any], key: str, index: int, eps: float) -> Effect:
    """A rate, and what is left of it; of the pairs that were attacked alone where there are such figures."""
    summary, curve = learner["summary"] or {}, learner.get("brackets")
    certified = (summary.get("certified") or [])[index : index + 1]
    if not curve:
        return Effect(summary.get(key), None, certified[0][key] if certified else None)
    sizes = [float(size) for size in curve["eps"]]
    place = min(range(len(sizes)), key=lambda i: abs(sizes[i] - eps))
    clean = {"mean": curve["attacked"][key][0]} if sizes[0] == 0 else None
    proven = {"mean": curve["certified"][key][place]} if "certified" in curve else None
    if proven is None and certified:  # of the smoothed model, whose bracket it is not
        proven = certified[0][key]
    return Effect(clean, {"mean": curve["attacked"][key][place]}, proven)
