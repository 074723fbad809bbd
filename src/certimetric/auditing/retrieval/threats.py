"""What people, cameras and services do to pictures, beside changes within a norm: threats that an audit can try."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from certimetric.base.results import estimate

if TYPE_CHECKING:
    from certimetric.auditing.retrieval.cells import Cells, Scores
    from certimetric.auditing.retrieval.request import RetrievalRequest, Subject
    from certimetric.deep import Attack, Index

Made = Callable[["RetrievalRequest"], "Attack"]
_SERVED, _GUESSED = 75, (50, 95)  # quality of JPEG of the service, and what an attacker knows of it


@dataclass(frozen=True)
class Threat:
    """A threat: what is done, who could do it, and the attack that stands for it; None for corruptions."""

    name: str
    what: Callable[[RetrievalRequest], str]
    who: str
    attack: Made | None = None
    served: bool = False  # pictures are re-encoded before the model sees them


def _corruptions(request: RetrievalRequest) -> str:
    return f"{len(_kinds(request))} natural corruptions in five severities: noise, blur, light, encoding, geometry"


def _l1(request: RetrievalRequest) -> Attack:
    from certimetric.deep import APGD
    from certimetric.deep.attacks import ball

    return APGD(ball("l1", request.usual_eps("l1")), seed=request.seed)


def _l0(request: RetrievalRequest) -> Attack:
    from certimetric.deep.attacks import AutoAttack, ball

    h, w = request.queries.images.shape[2:]
    return AutoAttack(ball("l0", max(1, h * w // 100)), seed=request.seed)


def _patch(request: RetrievalRequest) -> Attack:
    from certimetric.deep.attacks import PatchAttack

    return PatchAttack(0.05, seed=request.seed)


def _occlusion(request: RetrievalRequest) -> Attack:
    from certimetric.deep.attacks import OcclusionAttack

    return OcclusionAttack(0.1, seed=request.seed)


def _rotation(request: RetrievalRequest) -> Attack:
    from certimetric.deep.attacks import SpatialAttack

    return SpatialAttack(30.0, 0.1, seed=request.seed)


def _jpeg(request: RetrievalRequest) -> Attack:
    from certimetric.deep import PGD
    from certimetric.deep.attacks import Expectation

    return Expectation(PGD(request.ball(request.report_eps), seed=request.seed), draws=4)


# The one list of threats, by the names that commands use.
THREATS: dict[str, Threat] = {
    each.name: each
    for each in (
        Threat("corruptions", _corruptions, "nobody: cameras, networks and screens do it"),
        Threat(
            "l1",
            lambda request: f"changes of pixels that sum up to {_l1(request).ball.eps:g}",
            "who knows the model and sends pictures",
            _l1,
        ),
        Threat(
            "l0",
            lambda request: f"any change of {_l0(request).ball.eps:g} of the pixels",
            "who knows the model and retouches pictures",
            _l0,
        ),
        Threat(
            "patch",
            lambda request: "a square patch on 5 % of the picture, anywhere",
            "who knows the model and sticks something on the thing or the picture",
            _patch,
        ),
        Threat(
            "occlusion",
            lambda request: "a plain square over 10 % of the picture, anywhere",
            "anyone: a hand, a logo, a watermark",
            _occlusion,
        ),
        Threat(
            "rotation",
            lambda request: "turned by up to 30° and moved by up to 10 %",
            "anyone who can try pictures out",
            _rotation,
        ),
        Threat(
            "jpeg",
            lambda request: f"changes of the quoted ε that survive JPEG, here of quality {_SERVED}",
            "who knows the model, but not how pictures are re-encoded",
            _jpeg,
            served=True,
        ),
    )
}


def try_threats(
    request: RetrievalRequest, subject: Subject, index: Index, clean: Scores, cells: Cells
) -> Iterator[dict[str, Any]]:
    """What each threat that is asked for makes of a model.

    Yields
    ------
    told : dict
        ``threat``, ``clean`` and ``attacked`` (R@1 with its interval), for corruptions ``recall`` too, R@1 by kind and
        severity; or ``attacked`` None and the ``reason``.
    """
    from certimetric.deep.models.calling import NoGradients

    for name in request.threats:
        threat = THREATS[name]
        told: dict[str, Any] = {"threat": name, "clean": estimate(clean["recall_at_1"]), "reason": ""}
        try:
            told |= _corrupt(request, subject, index, cells) if threat.attack is None else {}
            told |= _attack(request, subject, index, threat, clean, cells) if threat.attack is not None else {}
        except NoGradients:
            told |= {"attacked": None, "reason": "the model is a function without gradients"}
        yield told


def _attack(
    request: RetrievalRequest, subject: Subject, index: Index, threat: Threat, clean: Scores, cells: Cells
) -> dict[str, Any]:
    from certimetric.deep import Index
    from certimetric.deep.attacks import Reencoded

    assert threat.attack is not None
    attack = threat.attack(request)
    if not threat.served:
        return {"attacked": estimate(cells.score(subject, index, attack)["recall_at_1"])}
    made: list[Index] = []

    def served(attack: Attack | None) -> Scores:
        def compute() -> Mapping[str, Any]:
            if not made:
                seen = Reencoded(subject.model, _GUESSED)
                made.append(Index(Reencoded(subject.model, _SERVED), request.gallery, surrogate=seen))
            return made[0].score(request.queries, attack)

        return cells.scores(subject, f"{attack!r} on JPEG of {_GUESSED}, served at {_SERVED}", compute)

    before, after = (served(each)["recall_at_1"] for each in (None, attack))
    # What was made for other qualities may happen to help: the attacker then sends the picture as it is.
    return {"clean": estimate(before), "attacked": estimate(np.minimum(before, after))}


def _corrupt(request: RetrievalRequest, subject: Subject, index: Index, cells: Cells) -> dict[str, Any]:
    from certimetric.deep.attacks.corruptions import SEVERITIES
    from certimetric.deep.retrieval.corruptions import corrupted

    recall, total = {}, np.zeros(len(request.queries))
    for kind in _kinds(request):

        def compute(kind: Any = kind) -> Mapping[str, Any]:
            sets = (corrupted(request.queries, kind, severity, request.seed) for severity in SEVERITIES)
            return {str(severity): index.score(each)["recall_at_1"] for severity, each in zip(SEVERITIES, sets)}

        found = cells.scores(subject, f"{kind!r}, seed {request.seed}", compute)
        recall[kind.name] = [float(found[str(severity)].mean()) for severity in SEVERITIES]
        total += np.mean([found[str(severity)] for severity in SEVERITIES], axis=0)
    return {"attacked": estimate(total / len(recall)), "recall": recall}


def _kinds(request: RetrievalRequest) -> list[Any]:
    from certimetric.deep.retrieval.corruptions import suitable

    return suitable(request.queries.images.shape)


def tell_threats(request: RetrievalRequest) -> list[dict[str, str]]:
    """What the document tells of the threats that were tried."""
    chosen = (THREATS[name] for name in request.threats)
    return [{"name": each.name, "what": each.what(request), "who": each.who} for each in chosen]


def with_corruption_errors(learners: list[dict[str, Any]], pixels: str) -> None:
    """Add errors under corruptions, as shares of those of raw pixels, to what was told of each model."""
    from certimetric.deep.retrieval.corruptions import corruption_errors

    tried = {
        learner["spec"]: told for learner in learners for told in learner["threats"] if told["threat"] == "corruptions"
    }
    for told in tried.values():
        told["errors"], told["mean_error"] = corruption_errors(told["recall"], tried[pixels]["recall"])
