"""What threats make of a model: scores of every query, once for each, and what the document tells of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from certimetric.auditing.retrieval.cells import Cells, Scores
from certimetric.auditing.retrieval.poisoning import poison, tell_poisoning
from certimetric.auditing.retrieval.request import RetrievalRequest, Subject
from certimetric.auditing.retrieval.threats import GUESSED, THREATS, kinds
from certimetric.base.results import estimate
from certimetric.base.wording import PIXELS
from certimetric.report.changes.outcomes import pack
from certimetric.report.retrieval.poisoning import VOTE

if TYPE_CHECKING:
    from certimetric.deep import Attack, Index


def try_threats(
    request: RetrievalRequest, subject: Subject, index: Index, clean: Scores, cells: Cells
) -> Iterator[dict[str, Any]]:
    """What each threat that is asked for makes of a model.

    Yields
    ------
    told : dict
        ``threat``, ``clean`` and ``attacked`` (R@1 with its interval) or None and the ``reason``, and ``outcomes``, R@1
        of each query; for corruptions instead ``recall``, R@1 by kind and severity; for poisoning what
        :func:`tell_poisoning` says too.
    """
    from certimetric.deep.models.calling import NoGradients

    for name, size in request.sizes.items():
        told: dict[str, Any] = {"threat": name, "clean": estimate(clean["recall_at_1"]), "reason": ""}
        try:
            if name == "poisoning":
                told |= _poison(request, subject, index, clean, int(size), cells)
            elif name == "corruptions":
                told |= _corrupt(request, subject, index, size, cells)
            else:
                told |= _attack(request, subject, index, name, size, cells)
        except NoGradients:
            told |= {"attacked": None, "reason": "the model is a function without gradients"}
        yield told


def _attack(
    request: RetrievalRequest, subject: Subject, index: Index, name: str, size: float, cells: Cells
) -> dict[str, Any]:
    from certimetric.deep import Index
    from certimetric.deep.attacks import Reencoded

    make = THREATS[name].attack
    assert make is not None
    attack = make(request, size)
    if name != "jpeg":
        found = cells.score(subject, index, attack)["recall_at_1"]
        return {"attacked": estimate(found), "outcomes": pack(found)}

    @cache
    def behind() -> Index:
        served, guessed = (Reencoded(subject.model, quality) for quality in (int(size), GUESSED))
        return Index(served, request.gallery, surrogate=guessed, metric=subject.metric)

    def served(attack: Attack | None) -> Scores:
        what = f"{attack!r} on JPEG of {GUESSED}, served at {int(size)}"
        return cells.scores(subject, what, lambda: behind().score(request.queries, attack))

    before, after = (served(each)["recall_at_1"] for each in (None, attack))
    # What was made for other qualities may happen to help: the attacker then sends the picture as it is.
    worst = np.minimum(before, after)
    return {"clean": estimate(before), "attacked": estimate(worst), "outcomes": pack(worst)}


def _corrupt(
    request: RetrievalRequest, subject: Subject, index: Index, severity: float, cells: Cells
) -> dict[str, Any]:
    from certimetric.deep.attacks.corruptions import SEVERITIES
    from certimetric.deep.retrieval.corruptions import corrupted

    severities = [int(severity)] if severity else list(SEVERITIES)
    recall, total = {}, np.zeros(len(request.queries))
    for kind in kinds(request):

        def compute(kind: Any = kind) -> Mapping[str, Any]:
            sets = (corrupted(request.queries, kind, each, request.seed) for each in severities)
            return {str(each): index.score(some)["recall_at_1"] for each, some in zip(severities, sets)}

        also = f", severity {severity:g}" if severity else ""
        found = cells.scores(subject, f"{kind!r}, seed {request.seed}{also}", compute)
        recall[kind.name] = [float(found[str(each)].mean()) for each in severities]
        total += np.mean([found[str(each)] for each in severities], axis=0)
    return {"attacked": estimate(total / len(recall)), "recall": recall, "severities": severities}


def _poison(
    request: RetrievalRequest, subject: Subject, index: Index, clean: Scores, n_added: int, cells: Cells
) -> dict[str, Any]:
    from certimetric.deep import embed

    metric = request.metric if subject.name != PIXELS else "euclidean"

    def compute() -> dict[str, Any]:
        points = embed(subject.model, request.queries.images, kind=request.queries.kind)
        sides = points, index.embeddings[:, : points.shape[1]]  # without the coordinate of inner products
        known = index.keys_of(request.queries), index.ids, request.queries.labels, index.labels
        arrays = [np.asarray(each.cpu()) for each in (*sides, *known)]
        return poison(*arrays, n_added=n_added, metric=metric, seed=request.seed)

    found = cells.kept(subject, f"{n_added} added items by {metric}, seed {request.seed}", compute)
    return tell_poisoning(found, clean["recall_at_1"] > 0, n_added, len(request.gallery))


def with_corruption_errors(learners: list[dict[str, Any]], pixels: str) -> None:
    """Add errors under corruptions, as shares of those of raw pixels, to what was told of each model."""
    from certimetric.deep.retrieval.corruptions import corruption_errors

    tried = {
        learner["spec"]: told for learner in learners for told in learner["threats"] if told["threat"] == "corruptions"
    }
    for told in tried.values():
        told["errors"], told["mean_error"] = corruption_errors(told["recall"], tried[pixels]["recall"])


def threat_outcomes(threats: list[dict[str, Any]]) -> dict[str, str | None]:
    """R@1 of each query under each threat, taken out of what was told of it, by the column that shows it."""
    found = {each["threat"]: each.pop("outcomes", None) for each in threats}
    for vote in (each["vote"] for each in threats if each.get("vote")):
        found[VOTE] = vote.pop("outcomes")
    return found
