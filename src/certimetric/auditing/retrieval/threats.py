"""What people, cameras and services do to pictures, beside changes within a norm: threats that an audit can try."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from certimetric.base.wording import counted

if TYPE_CHECKING:
    from certimetric.deep import Attack
    from certimetric.deep.attacks import Corruption

GUESSED = 50, 95  # what an attacker knows of the quality of JPEG of the service


@dataclass(frozen=True)
class Threat:
    """A threat: what is done, who could do it, how much of it, and the attack on queries that stands for it."""

    name: str
    what: Callable[[Any, float], str]  # of the request and the size
    who: str
    unit: str  # of its size
    usual: Callable[[Any], float]  # its size, of the request, where none is asked for
    most: float = math.inf  # the largest size
    whole: bool = True  # sizes are whole numbers
    attack: Callable[[Any, float], Attack] | None = None  # None for what is no attack on queries
    pictures: bool = True  # it is done to pictures; else to whatever the gallery holds

    def size(self, text: str) -> float:
        """The size that was asked for; a ValueError if it is none."""
        try:
            size = float(text)
        except ValueError:
            size = math.nan
        if not 0 < size <= self.most or math.isinf(size) or (self.whole and size != int(size)):
            kind = "a whole number above 0" if self.whole else "a number above 0"
            most = "" if math.isinf(self.most) else f" and at most {self.most:g}"
            raise ValueError(f"threats: {self.name}=SIZE is {self.unit}, {kind}{most}, got {text!r}")
        return size


def kinds(request: Any) -> list[Corruption]:
    """The corruptions that change pictures of this kind."""
    from certimetric.deep.retrieval.corruptions import suitable

    return suitable(request.queries.images.shape)


def _corruptions(request: Any, severity: float) -> str:
    n = len(kinds(request))
    sizes = f"of severity {severity:g}" if severity else "in five severities"
    return f"the mean of {n} natural corruptions {sizes}: noise, blur, light, encoding, geometry"


def _l1(request: Any, eps: float) -> Attack:
    from certimetric.deep import APGD
    from certimetric.deep.attacks import ball

    return APGD(ball("l1", eps), seed=request.seed)


def _l0(request: Any, n_pixels: float) -> Attack:
    from certimetric.deep.attacks import AutoAttack, ball

    return AutoAttack(ball("l0", int(n_pixels)), seed=request.seed)


def _hundredth(request: Any) -> float:
    h, w = request.queries.images.shape[2:]
    return max(1, h * w // 100)


def _by(kind: str, *further: float) -> Callable[[Any, float], Attack]:
    """An attack of ``certimetric.deep.attacks`` that takes the size first."""

    def make(request: Any, size: float) -> Attack:
        from certimetric.deep import attacks

        made: Attack = getattr(attacks, kind)(size, *further, seed=request.seed)
        return made

    return make


def _jpeg(request: Any, quality: float) -> Attack:
    from certimetric.deep import PGD
    from certimetric.deep.attacks import Expectation

    return Expectation(PGD(request.ball(request.report_eps), seed=request.seed), draws=4)


_SHARE = "a share of the picture"
# The one list of threats, by the names that commands use.
THREATS: dict[str, Threat] = {
    each.name: each
    for each in (
        Threat(
            "corruptions",
            _corruptions,
            "nobody: cameras, networks and screens do it",
            "a severity",
            lambda request: 0,  # all of them
            most=5,
        ),
        Threat(
            "l1",
            lambda request, eps: f"changes of pixels that sum up to {eps:g}",
            "who knows the model and sends pictures",
            "a sum of changes",
            lambda request: request.usual_eps("l1"),
            whole=False,
            attack=_l1,
        ),
        Threat(
            "l0",
            lambda request, n_pixels: f"any change of {n_pixels:g} of the pixels",
            "who knows the model and retouches pictures",
            "a number of pixels",
            _hundredth,
            attack=_l0,
        ),
        Threat(
            "patch",
            lambda request, area: f"a square patch on {100 * area:g} % of the picture, anywhere",
            "who knows the model and sticks something on the thing or the picture",
            _SHARE,
            lambda request: 0.05,
            most=1,
            whole=False,
            attack=_by("PatchAttack"),
        ),
        Threat(
            "occlusion",
            lambda request, area: f"a plain square over {100 * area:g} % of the picture, anywhere",
            "anyone: a hand, a logo, a watermark",
            _SHARE,
            lambda request: 0.1,
            most=1,
            whole=False,
            attack=_by("OcclusionAttack"),
        ),
        Threat(
            "rotation",
            lambda request, degrees: f"turned by up to {degrees:g}° and moved by up to 10 %",
            "anyone who can try pictures out",
            "an angle in degrees",
            lambda request: 30,
            most=180,
            whole=False,
            attack=_by("SpatialAttack", 0.1),
        ),
        Threat(
            "jpeg",
            lambda request, quality: f"changes of the quoted ε that survive JPEG, here of quality {quality:g}",
            "who knows the model, but not how pictures are re-encoded",
            "the quality of the service",
            lambda request: 75,
            most=100,
            attack=_jpeg,
        ),
        Threat(
            "poisoning",
            lambda request, n_items: f"{counted(int(n_items), 'item')} of any embedding added to the gallery",
            "who may add items: sellers, users who upload, whoever writes what is crawled",
            "a number of items",
            lambda request: 10,
            most=1000,  # R@1 is told after each of them
            pictures=False,
        ),
    )
}
# Those that need embeddings alone, of whatever they are.
OF_ANY_INPUTS = {name: threat for name, threat in THREATS.items() if not threat.pictures}


def threat_sizes(texts: Iterable[str], known: Mapping[str, Threat]) -> dict[str, float | None]:
    """Threats that are asked for as NAME or NAME=SIZE, by name with their sizes; None for the usual one.

    Raises
    ------
    ValueError
        If a name is not known, or a size does not suit it.

    Examples
    --------
    >>> threat_sizes(["patch=0.1", "rotation"], THREATS)
    {'patch': 0.1, 'rotation': None}
    """
    found: dict[str, float | None] = {}
    for text in texts:
        name, equals, size = text.partition("=")
        if name not in known:
            raise ValueError(f"threats must be of {', '.join(known)}, got {name!r}")
        if name in found:
            raise ValueError(f"threats must be different, got {name!r} more than once")
        found[name] = known[name].size(size) if equals else None
    return found


def settled(request: Any, asked: Mapping[str, float | None]) -> dict[str, float]:
    """The same with the usual sizes of a request, whose data are known, where none is asked for."""
    return {name: THREATS[name].usual(request) if size is None else size for name, size in asked.items()}


def as_asked(request: Any) -> list[str]:
    """The threats of a request as they are asked for."""
    sizes = {name: "" if size == THREATS[name].usual(request) else f"={size:g}" for name, size in request.sizes.items()}
    return [f"{name}{size}" for name, size in sizes.items()]


def tell_threats(request: Any, sizes: Mapping[str, float], known: Mapping[str, Threat]) -> dict[str, Any]:
    """What the document tells of the threats that were tried, and of those that were not."""

    def told(threat: Threat, size: float) -> dict[str, str]:
        return {"name": threat.name, "what": threat.what(request, size), "who": threat.who}

    return {
        "threats": [told(known[name], size) for name, size in sizes.items()],
        "untried": [told(each, each.usual(request)) for each in known.values() if each.name not in sizes],
    }
