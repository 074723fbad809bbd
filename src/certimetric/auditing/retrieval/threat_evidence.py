"""What threats make of a model: scores of every query, once for each, and what the document tells of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from certimetric.auditing.retrieval.cells import Cells, Scores
from certimetric.auditing.retrieval.request import RetrievalRequest, Subject
from certimetric.auditing.retrieval.threats import GUESSED, SERVED, THREATS, Threat, kinds
from certimetric.base.results import estimate
from certimetric.report.changes.outcomes import pack

if TYPE_CHECKING:
    from certimetric.deep import Attack, Index


def try_threats(
    request: RetrievalRequest, subject: Subject, index: Index, clean: Scores, cells: Cells
) -> Iterator[dict[str, Any]]:
    """What each threat that is asked for makes of a model.

    Yields
    ------
    told : dict
        ``threat``, ``clean`` and ``attacked`` (R@1 with its interval), for corruptions ``recall`` too, R@1 by kind and
        severity, for others ``outcomes``, R@1 of each query; or ``attacked`` None and the ``reason``.
    """
    from certimetric.deep.models.calling import NoGradients

    for name in request.threats:
        threat = THREATS[name]
        told: dict[str, Any] = {"threat": name, "clean": estimate(clean["recall_at_1"]), "reason": ""}
        try:
            if threat.attack is None:
                told |= _corrupt(request, subject, index, cells)
            else:
                told |= _attack(request, subject, index, threat, threat.attack(request), cells)
        except NoGradients:
            told |= {"attacked": None, "reason": "the model is a function without gradients"}
        yield told


def _attack(
    request: RetrievalRequest, subject: Subject, index: Index, threat: Threat, attack: Attack, cells: Cells
) -> dict[str, Any]:
    from certimetric.deep import Index
    from certimetric.deep.attacks import Reencoded

    if not threat.served:
        found = cells.score(subject, index, attack)["recall_at_1"]
        return {"attacked": estimate(found), "outcomes": pack(found)}

    @cache
    def behind() -> Index:
        return Index(Reencoded(subject.model, SERVED), request.gallery, surrogate=Reencoded(subject.model, GUESSED))

    def served(attack: Attack | None) -> Scores:
        name = f"{attack!r} on JPEG of {GUESSED}, served at {SERVED}"
        return cells.scores(subject, name, lambda: behind().score(request.queries, attack))

    before, after = (served(each)["recall_at_1"] for each in (None, attack))
    # What was made for other qualities may happen to help: the attacker then sends the picture as it is.
    worst = np.minimum(before, after)
    return {"clean": estimate(before), "attacked": estimate(worst), "outcomes": pack(worst)}


def _corrupt(request: RetrievalRequest, subject: Subject, index: Index, cells: Cells) -> dict[str, Any]:
    from certimetric.deep.attacks.corruptions import SEVERITIES
    from certimetric.deep.retrieval.corruptions import corrupted

    recall, total = {}, np.zeros(len(request.queries))
    for kind in kinds(request):

        def compute(kind: Any = kind) -> Mapping[str, Any]:
            sets = (corrupted(request.queries, kind, severity, request.seed) for severity in SEVERITIES)
            return {str(severity): index.score(each)["recall_at_1"] for severity, each in zip(SEVERITIES, sets)}

        found = cells.scores(subject, f"{kind!r}, seed {request.seed}", compute)
        recall[kind.name] = [float(found[str(severity)].mean()) for severity in SEVERITIES]
        total += np.mean([found[str(severity)] for severity in SEVERITIES], axis=0)
    return {"attacked": estimate(total / len(recall)), "recall": recall}


def tell_threats(request: RetrievalRequest) -> dict[str, list[dict[str, str]]]:
    """What the document tells of the threats that were tried, and of those that were not."""

    def told(names: Iterable[str]) -> list[dict[str, str]]:
        chosen = (THREATS[name] for name in names)
        return [{"name": each.name, "what": each.what(request), "who": each.who} for each in chosen]

    pictures = request.queries.kind.pictures  # threats change pictures: of other inputs there is nothing to try
    untried = [name for name in THREATS if name not in request.threats and pictures]
    return {"threats": told(request.threats), "untried": told(untried)}


def with_corruption_errors(learners: list[dict[str, Any]], pixels: str) -> None:
    """Add errors under corruptions, as shares of those of raw pixels, to what was told of each model."""
    from certimetric.deep.retrieval.corruptions import corruption_errors

    tried = {
        learner["spec"]: told for learner in learners for told in learner["threats"] if told["threat"] == "corruptions"
    }
    for told in tried.values():
        told["errors"], told["mean_error"] = corruption_errors(told["recall"], tried[pixels]["recall"])
