"""The request for an audit of embedding models: what is compared, under which threat, checked before any work."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from certimetric.auditing.thresholds import Threshold, parse_threshold
from certimetric.base.interrupts import is_interrupt
from certimetric.deep.certify.registry import CERTIFIERS
from certimetric.report.document import PIXELS, printable

if TYPE_CHECKING:
    from torch import Tensor, nn

    from certimetric.deep import Attack, ImageSet
    from certimetric.deep.attacks.balls import Ball

NORMS = ("linf", "l2")
ATTACKS = ("pgd", "apgd", "square", "fgsm")
BLACK_BOX = ("square",)
DEFAULT_ATTACKS = ("pgd", "apgd")
N_QUERIES, N_CHECKED = 500, 100
# Radii that suit the size of the picture: small grey ones, and colour in steps of its 8-bit values.
_GREY = {"linf": ((0.025, 0.05, 0.1, 0.15, 0.2), 0.1), "l2": ((0.25, 0.5, 1.0, 1.5, 2.0), 1.0)}
_COLOUR = {
    "linf": (tuple(step / 255 for step in (1, 2, 4, 8, 16)), 8 / 255),
    "l2": ((0.25, 0.5, 1.0, 2.0, 4.0), 1.0),
}
CERTIFY = {"auto": NORMS, **{name: (norm,) for name, (norm, _) in CERTIFIERS.items()}}  # and their norms
FIGURES = {"recall": False, "map": False, "attacked": True, "attacked_map": True}


@dataclass(frozen=True, eq=False)
class Subject:
    """One of the models that are compared.

    Parameters
    ----------
    name : str
        Unique among the subjects.
    model : Module
    source : str
        Where it came from.
    run : dict, optional
        What the ``run.json`` of its training says.
    trained_on : set of str, optional
        Digests of the images that it was trained on.
    """

    name: str
    model: nn.Module
    source: str = ""
    run: Mapping[str, Any] | None = None
    trained_on: frozenset[str] | None = None


@dataclass(frozen=True, eq=False)
class RetrievalRequest:
    """A validated audit of embedding models; see :func:`certimetric.auditing.audit_retrieval`."""

    subjects: tuple[Subject, ...]
    queries: ImageSet
    gallery: ImageSet
    norm: str
    eps: tuple[float, ...]
    report_eps: float
    attacks: tuple[str, ...]
    n_checked: int
    seed: int
    name: str
    source: str
    class_names: tuple[str, ...]
    n_without_positive: int
    n_guessed: int = 0
    thresholds: tuple[Threshold, ...] = field(default=())
    ers: bool = False
    certify: str | None = None

    @property
    def with_model(self) -> tuple[Subject, ...]:
        """The subjects but for raw pixels."""
        return tuple(subject for subject in self.subjects if subject.name != PIXELS)

    @cached_property
    def data_sha256(self) -> str:
        """Digest of queries and gallery, for which every picture is read, once."""
        from certimetric.auditing.retrieval.cells import data_hash

        return data_hash(self)

    def ball(self, eps: float) -> Ball:
        """What the attacker may change."""
        from certimetric.deep import L2Ball, LinfBall

        return LinfBall(eps) if self.norm == "linf" else L2Ball(eps)

    def make_attack(self, name: str, eps: float) -> Attack:
        """One of the attacks of the audit."""
        from certimetric.deep import APGD, FGSM, PGD, SquareAttack

        ball = self.ball(eps)
        if name == "pgd":
            return PGD(ball, steps=20, seed=self.seed)
        if name == "apgd":
            return APGD(ball, steps=50, seed=self.seed)
        if name == "square":
            return SquareAttack(ball, queries=1000, seed=self.seed)
        return FGSM(ball, seed=self.seed)

    def told_attack(self, name: str) -> str:
        """The attack as reports name it."""
        attack = self.make_attack(name, self.report_eps)
        length = {"steps": "steps", "queries": "queries"}
        told = [f"{getattr(attack, key):,} {word}" for key, word in length.items() if getattr(attack, key, 1) > 1]
        return ", ".join([type(attack).__name__, *told])


def make_request(
    models: Mapping[str, Any],
    queries: ImageSet,
    gallery: ImageSet | None = None,
    *,
    subjects: Iterable[Subject] = (),
    norm: str = "linf",
    eps: Sequence[float] | None = None,
    report_eps: float | None = None,
    attacks: Sequence[str] = DEFAULT_ATTACKS,
    n_queries: int = N_QUERIES,
    n_checked: int = N_CHECKED,
    seed: int = 0,
    name: str = "images",
    source: str = "",
    class_names: Sequence[str] = (),
    fail_under: str | Iterable[str] = (),
    ers: bool = False,
    certify: str | None = None,
) -> RetrievalRequest:
    """Validate; the parameters are those of :func:`certimetric.auditing.audit_retrieval`."""
    import torch
    from torch import nn

    from certimetric.deep import ImageSet
    from certimetric.deep.models.calling import as_module
    from certimetric.deep.models.images import labels_by_position
    from certimetric.deep.retrieval.evaluation import with_positive
    from certimetric.deep.retrieval.same_pictures import same_pictures

    named = [*subjects, *(Subject(key, model, type(model).__name__) for key, model in models.items())]
    if not named:
        raise ValueError("models must hold at least one model")
    for i, subject in enumerate(named):
        if not isinstance(subject.model, nn.Module) and not callable(subject.model):
            given = type(subject.model).__name__
            raise TypeError(f"model {subject.name!r} must be a Module or a callable that embeds images, got {given}")
        if not isinstance(subject.model, nn.Module):
            named[i] = replace(subject, model=as_module(subject.model))
    names = [subject.name for subject in named]
    if PIXELS in names:
        raise ValueError(f"no model may be called {PIXELS!r}: the pictures themselves are in every comparison")
    if duplicates := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"every model must have a name of its own, got {min(duplicates)!r} twice")
    if norm not in NORMS:
        raise ValueError(f"norm must be 'linf' or 'l2', got {norm!r}")
    if not attacks or (unknown := [attack for attack in attacks if attack not in ATTACKS]):
        given = unknown[0] if attacks else "none"
        raise ValueError(f"attacks must be of {', '.join(ATTACKS)}, got {given!r}")
    if certify is not None and certify not in CERTIFY:
        raise ValueError(f"certify must be one of {', '.join(CERTIFY)}, got {certify!r}")
    if certify is not None and norm not in CERTIFY[certify]:
        raise ValueError(
            f"certificates by {certify} are for the norm {CERTIFY[certify][0]}, and this audit is in {norm}"
        )
    if n_queries < 1 or n_checked < 0:
        raise ValueError(f"n_queries must be at least 1 and n_checked not negative, got {n_queries} and {n_checked}")
    queries, items, known = labels_by_position(queries, queries if gallery is None else gallery)
    class_names = known or class_names
    queries, n_guessed = same_pictures(queries, items)
    if queries.groups is None:  # settled, once: whoever asks again takes the ids at their word
        queries, items = (ImageSet(some.images, some.labels, some.ids) for some in (queries, items))
    if len(torch.unique(items.labels)) < 2:
        raise ValueError("the gallery must hold at least two classes")
    able = with_positive(queries, items).nonzero()[:, 0]
    order = torch.randperm(len(able), generator=torch.Generator().manual_seed(seed))[:n_queries]
    chosen = queries.select(able[order.sort().values])
    images = next(chosen.batches(2)).tensor()
    for subject in named:
        embedded(subject, images)
    radii, quoted = _radii(tuple(queries.images.shape), norm, eps, report_eps)
    specs = [*names, PIXELS]
    texts = [fail_under] if isinstance(fail_under, str) else list(fail_under)
    figures = FIGURES if certify is None else {**FIGURES, "certified": True}
    return RetrievalRequest(
        subjects=(*named, Subject(PIXELS, nn.Flatten(), "the images themselves")),
        queries=chosen,
        gallery=items,
        norm=norm,
        eps=radii,
        report_eps=quoted,
        attacks=tuple(dict.fromkeys(attacks)),
        n_checked=min(n_checked, len(chosen)),
        seed=seed,
        name=printable(name),
        source=printable(source),
        class_names=tuple(printable(str(told)) for told in class_names),
        n_without_positive=len(queries) - len(able),
        n_guessed=n_guessed,
        ers=ers,
        thresholds=tuple(parse_threshold(text, specs, figures=figures, at=radii) for text in texts),
        certify=certify,
    )


def embedded(subject: Subject, images: Tensor) -> Tensor:
    """What a model makes of images; an error names the model."""
    from certimetric.deep import embed
    from certimetric.deep.models.randomness import seeded

    try:
        with seeded(0):
            return embed(subject.model, images)
    except Exception as error:  # a model of the user's may raise anything
        if is_interrupt(error):
            raise
        shape, reason = " × ".join(map(str, images.shape[1:])), str(error) or type(error).__name__
        raise ValueError(f"model {subject.name!r} cannot embed images of {shape}: {reason}") from error


def _radii(
    shape: tuple[int, ...], norm: str, eps: Sequence[float] | None, report_eps: float | None
) -> tuple[tuple[float, ...], float]:
    """Radii in rising order, and the one that table and verdict quote, which is among them."""
    default, quoted = (_GREY if shape[1] == 1 else _COLOUR)[norm]
    radii = checked_radii(default if eps is None else eps, quoted if eps is None and report_eps is None else report_eps)
    if norm == "linf" and radii[0][-1] > 1:
        raise ValueError(f"eps of linf must be at most 1, for pixels run from 0 to 1, got {radii[0][-1]:g}")
    return radii


def checked_radii(eps: Sequence[float], report_eps: float | None) -> tuple[tuple[float, ...], float]:
    """Radii in rising order, and the one that table and verdict quote: one of them, by default the middle one.

    Raises
    ------
    ValueError
        If a radius is not positive, or the quoted one is not among them.
    """
    radii = sorted({float(value) for value in np.atleast_1d(np.asarray(eps, dtype=float))})
    if not radii or not all(np.isfinite(radii)) or radii[0] <= 0:
        raise ValueError(f"eps must be positive numbers, got {eps}")
    if report_eps is None:
        report_eps = radii[len(radii) // 2]
    elif not any(np.isclose(report_eps, radii)):
        raise ValueError(f"report_eps must be one of the radii {radii}, got {report_eps:g}")
    return tuple(radii), min(radii, key=lambda value: abs(value - report_eps))
