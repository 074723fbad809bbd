"""What people, cameras and services do to pictures, beside changes within a norm: threats that an audit can try."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from certimetric.deep import Attack, ImageSet
    from certimetric.deep.attacks import Ball, Corruption

SERVED, GUESSED = 75, (50, 95)  # quality of JPEG of the service, and what an attacker knows of it


class Asked(Protocol):
    """What a threat depends on of the request for an audit."""

    @property
    def queries(self) -> ImageSet:
        """Pictures that are searched for."""
        ...

    @property
    def report_eps(self) -> float:
        """The ε that is quoted."""
        ...

    @property
    def seed(self) -> int:
        """Of attacks and corruptions."""
        ...

    def ball(self, eps: float) -> Ball:
        """What the attacker may change within the norm of the audit."""
        ...

    def usual_eps(self, norm: str) -> float:
        """The radius that is quoted by default in a norm."""
        ...


@dataclass(frozen=True)
class Threat:
    """A threat: what is done, who could do it, and the attack that stands for it; None for corruptions."""

    name: str
    what: Callable[[Asked], str]
    who: str
    attack: Callable[[Asked], Attack] | None = None
    served: bool = False  # pictures are re-encoded before the model sees them


def kinds(request: Asked) -> list[Corruption]:
    """The corruptions that change pictures of this kind."""
    from certimetric.deep.retrieval.corruptions import suitable

    return suitable(request.queries.images.shape)


def _corruptions(request: Asked) -> str:
    n = len(kinds(request))
    return f"the mean of {n} natural corruptions in five severities: noise, blur, light, encoding, geometry"


def _l1(request: Asked) -> Attack:
    from certimetric.deep import APGD
    from certimetric.deep.attacks import ball

    return APGD(ball("l1", request.usual_eps("l1")), seed=request.seed)


def _l0(request: Asked) -> Attack:
    from certimetric.deep.attacks import AutoAttack, ball

    h, w = request.queries.images.shape[2:]
    return AutoAttack(ball("l0", max(1, h * w // 100)), seed=request.seed)


def _patch(request: Asked) -> Attack:
    from certimetric.deep.attacks import PatchAttack

    return PatchAttack(0.05, seed=request.seed)


def _occlusion(request: Asked) -> Attack:
    from certimetric.deep.attacks import OcclusionAttack

    return OcclusionAttack(0.1, seed=request.seed)


def _rotation(request: Asked) -> Attack:
    from certimetric.deep.attacks import SpatialAttack

    return SpatialAttack(30.0, 0.1, seed=request.seed)


def _jpeg(request: Asked) -> Attack:
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
            lambda request: f"changes of the quoted ε that survive JPEG, here of quality {SERVED}",
            "who knows the model, but not how pictures are re-encoded",
            _jpeg,
            served=True,
        ),
    )
}
