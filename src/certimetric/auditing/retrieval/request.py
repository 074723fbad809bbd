"""The request for an audit of embedding models: what is compared, under which threat, checked before any work."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from certimetric.auditing.request import RankingRequest, whole
from certimetric.auditing.retrieval.threats import THREATS, settled, threat_sizes
from certimetric.base.interrupts import is_interrupt
from certimetric.base.wording import PIXELS
from certimetric.deep.certify.registry import CERTIFIERS
from certimetric.report.document import printable
from certimetric.runs.key import digest

if TYPE_CHECKING:
    from torch import Tensor, nn

    from certimetric.deep import Attack, ImageSet
    from certimetric.deep.attacks.balls import Ball
    from certimetric.deep.models.kinds import Kind

CERTIFIED = ("linf", "l2")  # norms in which there are certificates
NORMS = (*CERTIFIED, "l1", "l0")
# Radii that suit the size of the picture: small grey ones, and colour in steps of its 8-bit values.
_GREY = {
    "linf": ((0.025, 0.05, 0.1, 0.15, 0.2), 0.1),
    "l2": ((0.25, 0.5, 1.0, 1.5, 2.0), 1.0),
    "l1": ((1.0, 2.0, 4.0, 8.0, 16.0), 4.0),
    "l0": ((1.0, 2.0, 4.0, 8.0, 16.0), 4.0),
}
_COLOUR = {
    "linf": (tuple(step / 255 for step in (1, 2, 4, 8, 16)), 8 / 255),
    "l2": ((0.25, 0.5, 1.0, 2.0, 4.0), 1.0),
    "l1": ((3.0, 6.0, 12.0, 24.0, 48.0), 12.0),
    "l0": ((1.0, 4.0, 16.0, 64.0, 256.0), 16.0),
}
CERTIFY = {"auto": CERTIFIED, **{name: (norm,) for name, (norm, _) in CERTIFIERS.items()}}  # and their norms
FIGURES = {"recall": False, "map": False, "attacked": True, "attacked_map": True}


@dataclass(frozen=True, eq=False)
class Subject:
    """One of the models that are compared."""

    name: str  # unique among the subjects
    model: nn.Module
    source: str = ""  # where it came from
    run: Mapping[str, Any] | None = None  # what the ``run.json`` of its training says
    trained_on: frozenset[str] | None = None  # digests of the images that it was trained on
    metric: str = "euclidean"  # of its embeddings; by cosine it is a model that ends on the unit sphere


@dataclass(frozen=True, eq=False, repr=False)
class RetrievalRequest(RankingRequest):
    """An audit of embedding models, checked; :func:`certimetric.auditing.audit_retrieval` has the same parameters.

    Parameters
    ----------
    models : mapping of str to Module, callable or str
        Images (b, c, h, w) from 0 to 1 to embeddings (b, k), compared by ``metric``; text is a source of
        :func:`certimetric.deep.load_model`. One without gradients, such as a function of arrays, is attacked by
        "square" only.
    queries : ImageSet or Samples
        Pictures that are searched for, or inputs of another kind, within whose bounds attackers stay.
    gallery : ImageSet
        Pictures that are found; a query is never its own result, nor is an item of its group, see
        :class:`certimetric.deep.ImageSet`. None for the queries themselves.
    norm : {"linf", "l2", "l1", "l0"}
        How a perturbation is measured, in pixels from 0 to 1; l0 is the number of pixels that change.
    eps : sequence of float
        Sizes of the perturbation, such as 0.1 or 8/255. None for five that suit the pictures; needed for other inputs.
    attacks : sequence of {"pgd", "apgd", "square", "fgsm", "carlini-wagner", "nes", "fab", "pixels", "auto"}
        The worst counts for each query.
    metric : {"euclidean", "cosine", "dot"}
        The comparison that models are served with; raw pixels are always compared by Euclidean distance.

        Inner products ("dot") are certified by "lipschitz" alone.
    n_checked : int
        So many of the queries serve the reliability checks that attack; 0 skips these.
    ers : bool
        Measure the empirical robustness score too: nine more attacks.

        They have 32 steps, in l∞ whatever the norm, see :func:`certimetric.deep.empirical_robustness_score`.
    certify : {"auto", "lipschitz", "smoothing", "interval"}
        How to certify retrieval, beside the attacks. None for no certificates.

        See :func:`certimetric.deep.certify_retrieval`. "auto" is by intervals for linf; for l2 by the Lipschitz
        constant, and where that proves less than a tenth of the queries at ``report_eps``, by that or by smoothing,
        whichever certifies more.
    threats : sequence of {"corruptions", "l1", "l0", "patch", "occlusion", "rotation", "jpeg", "poisoning"}
        What else is done: R@1 under each stands in a table of threats. NAME=SIZE says how much of it, such as
        patch=0.1. None for none.

        "corruptions" are natural ones, see :func:`certimetric.deep.evaluate_corruptions`, "poisoning" adds items to the
        gallery, see :func:`certimetric.deep.poison_gallery`; in the others an attacker changes queries in the way that
        does most harm. Sizes are a severity from 1 to 5 (without one, all five), a sum of changes, a number of pixels,
        shares of the picture, degrees, a quality of JPEG, a number of items.
    smallest : bool
        Look for the smallest change that breaks each query: a curve of R@1 that needs no grid of ε.

        See :func:`certimetric.deep.smallest_changes`. What it finds counts in the worst case, too.
    source : str
        Where the pictures came from, for the report.
    class_names : sequence of str
        Names of the labels 0, 1, ….
    fail_under : str or sequence of str
        Thresholds ``FIGURE=VALUE`` or ``MODEL.FIGURE=VALUE`` with the FIGURE ``recall`` (R@1), ``map`` (mAP@R),
        ``attacked@EPS`` (R@1), ``attacked_map@EPS`` (mAP@R under the attack on R@1) or, of an audit that certifies,
        ``certified@EPS`` (R@1); or a threat that is tried, such as ``patch`` (R@1).

    Raises
    ------
    ValueError, TypeError
        On images outside of 0 to 1, a model that gives no finite embeddings (b, k), settings that do not fit, or a
        folder that holds the report of an audit with other options.

    Examples
    --------
    >>> import torch
    >>> from certimetric.deep import ImageSet
    >>> images = ImageSet(torch.rand(24, 1, 8, 8), torch.arange(24) % 3)
    >>> RetrievalRequest({"pixels": torch.nn.Flatten()}, images, eps=[0.1]).attacks
    ('pgd', 'apgd')
    """

    options = {
        "norm": "--norm",
        "eps": "--eps EPS,…",
        "attacks": "--attack",
        "metric": "--metric",
        "n_checked": "--check-queries N",
        "ers": "--ers",
        "certify": "--certify",
        "threats": "--threat",
        "smallest": "--smallest",
    }

    models: Mapping[str, Any]
    queries: ImageSet
    gallery: Any = None
    _: KW_ONLY
    norm: str = "linf"
    eps: Any = None
    attacks: Sequence[str] = ("pgd", "apgd")
    metric: str = "euclidean"
    n_checked: int = 100
    ers: bool = False
    certify: str | None = None
    threats: Sequence[str] = ()
    smallest: bool = False
    source: str = ""
    class_names: Sequence[str] = ()
    name: str = "images"
    # Derived: the models and raw pixels, and what is known of the queries that were not drawn from.
    subjects: tuple[Subject, ...] = field(init=False)
    n_without_positive: int = field(init=False)
    n_guessed: int = field(init=False)
    sizes: Mapping[str, float] = field(init=False)  # of the threats

    def __post_init__(self) -> None:
        super().__post_init__()
        import torch
        from torch import nn

        from certimetric.deep.attacks import ATTACKS
        from certimetric.deep.models.comparing import check_search, querying
        from certimetric.deep.models.images import labels_by_position
        from certimetric.deep.retrieval.evaluation import with_positive
        from certimetric.deep.retrieval.same_pictures import same_pictures

        models = subjects_of(self.models)
        if check_search(self.metric) == "dot":
            models = tuple(replace(each, metric="dot") for each in models)
            if self.certify not in (None, "auto", "lipschitz") or (self.certify and self.norm != "l2"):
                told = f"{self.certify!r} in {self.norm}"
                raise ValueError(f"certify must be 'auto' or 'lipschitz' in l2 for inner products, got {told}")
        else:  # By cosine a model is compared as one that ends on the unit sphere, to attacks and certificates too.
            models = tuple(replace(each, model=querying(each.model, self.metric)) for each in models)
        norm, certify = self.norm, self.certify
        if norm not in NORMS:
            raise ValueError(f"norm must be one of {', '.join(map(repr, NORMS))}, got {norm!r}")
        if not self.attacks or (unknown := [attack for attack in self.attacks if attack not in ATTACKS]):
            given = unknown[0] if self.attacks else "none"
            raise ValueError(f"attacks must be of {', '.join(ATTACKS)}, got {given!r}")
        threats = threat_sizes(self.threats, THREATS)
        if certify is not None and certify not in CERTIFY:
            raise ValueError(f"certify must be one of {', '.join(CERTIFY)}, got {certify!r}")
        if certify is not None and norm not in CERTIFY[certify]:
            raise ValueError(
                f"certificates by {certify} are for the norm {' or '.join(CERTIFY[certify])}, and this audit is in "
                f"{norm}"
            )
        n_checked = whole("n_checked", self.n_checked, 0)
        queries, items, known = labels_by_position(self.queries, self.queries if self.gallery is None else self.gallery)
        queries, n_guessed = same_pictures(queries, items)
        if queries.groups is None:  # settled, once: whoever asks again takes the ids at their word
            queries, items = (some.with_ids(some.ids) for some in (queries, items))
        if len(torch.unique(items.labels)) < 2:
            raise ValueError("the gallery must hold at least two classes")
        able = with_positive(queries, items).nonzero()[:, 0]
        order = torch.randperm(len(able), generator=torch.Generator().manual_seed(self.seed))[: self.n_queries]
        chosen = queries.select(able[order.sort().values])
        kind = chosen.kind
        if self.ers and not kind.pictures:
            raise ValueError("ers must be False for inputs that are no pictures, which it is defined on, got True")
        pictured = [name for name in threats if THREATS[name].pictures]
        if (pictured or norm == "l0") and not kind.pictures:
            told = f"threats must not hold {pictured[0]!r}" if pictured else "norm must not be 'l0'"
            raise ValueError(f"{told}: the inputs are no pictures, of which it tells what happens to pixels")
        images = next(chosen.batches(2)).tensor()
        for subject in models:
            embedded(subject, images, kind)
            check_gradients(subject, images, self.attacks)
        radii, quoted = radii_for(tuple(queries.images.shape), norm, self.eps, self.report_eps, kind)
        self._settle(
            queries=chosen,
            gallery=items,
            eps=radii,
            report_eps=quoted,
            attacks=tuple(dict.fromkeys(self.attacks)),
            threats=tuple(threats),
            n_checked=min(n_checked, len(chosen)),
            name=printable(self.name),
            source=printable(self.source),
            class_names=tuple(printable(str(told)) for told in known or self.class_names),
            subjects=(*models, Subject(PIXELS, nn.Flatten(), f"the {kind.name} themselves")),
            n_without_positive=len(queries) - len(able),
            n_guessed=n_guessed,
        )
        self._settle(sizes=settled(self, threats))
        for name in self.attacks:
            self.make_attack(name, quoted)  # one that cannot be made of this norm says so before the work
        for text in self.fail_under:
            figure = text.rpartition("=")[0].rstrip("> ").rpartition(".")[2]
            if figure in THREATS and figure not in self.threats:
                raise ValueError(f"fail_under {text!r} needs the threat {figure!r}, which is not asked for (--threat)")
        figures = FIGURES | ({} if certify is None else {"certified": True}) | dict.fromkeys(threats, False)
        self._judge_by([subject.name for subject in self.subjects], figures, at=radii)

    @property
    def with_model(self) -> tuple[Subject, ...]:
        """The subjects but for raw pixels."""
        return tuple(subject for subject in self.subjects if subject.name != PIXELS)

    @cached_property
    def data_sha256(self) -> str:
        """Digest of queries and gallery, for which every picture is read, once."""
        return digest_of(self.queries, self.gallery)

    def usual_eps(self, norm: str) -> float:
        """The radius that table and verdict quote by default, in a norm, of pictures of this size."""
        return radii_for(tuple(self.queries.images.shape), norm, None, None)[1]

    def ball(self, eps: float) -> Ball:
        """What the attacker may change."""
        from certimetric.deep.attacks import ball

        return ball(self.norm, eps, self.queries.kind.bounds)

    def make_attack(self, name: str, eps: float) -> Attack:
        """One of the attacks of the audit."""
        from certimetric.deep.attacks import ATTACKS

        kind = ATTACKS[name]
        return kind(self.ball(eps), **kind.in_audits, seed=self.seed)

    def told_attack(self, name: str) -> str:
        """The attack as reports name it."""
        attack = self.make_attack(name, self.report_eps)
        length = {"steps": "steps", "queries": "queries"}
        told = [f"{getattr(attack, key):,} {word}" for key, word in length.items() if getattr(attack, key, 1) > 1]
        return ", ".join([type(attack).__name__, *told])


def digest_of(*sides: ImageSet) -> str:
    """Digest of pictures or other inputs, with their labels, ids and groups."""

    def parts() -> Iterator[Tensor]:
        for side in sides:
            yield from (batch.tensor() for batch in side.batches(256))
            yield from (side.labels, side.ids)
            if side.groups is not None:
                yield side.groups

    return digest(parts())


def subjects_of(models: Mapping[str, Any]) -> tuple[Subject, ...]:
    """Models with their names; one may be given as a subject, which tells where it came from."""
    from torch import nn

    from certimetric.deep.models.calling import as_module
    from certimetric.deep.models.sources import is_source

    named = []
    for name, model in models.items():
        told = model if isinstance(model, str) else type(model).__name__
        subject = model if isinstance(model, Subject) else Subject(name, model, told)
        source = isinstance(subject.model, str) and is_source(subject.model)
        if not isinstance(subject.model, nn.Module) and not callable(subject.model) and not source:
            given = type(subject.model).__name__
            raise TypeError(f"model {name!r} must be a Module or a callable that embeds images, got {given}")
        module = isinstance(subject.model, nn.Module)
        named.append(replace(subject, name=name, model=subject.model if module else as_module(subject.model)))
    if not named:
        raise ValueError("models must hold at least one model")
    if PIXELS in models:
        raise ValueError(f"no model may be called {PIXELS!r}: the pictures themselves are in every comparison")
    return tuple(named)


def embedded(subject: Subject, images: Tensor, kind: Kind | None = None) -> Tensor:
    """What a model makes of images, or of inputs of another kind; an error names the model."""
    from certimetric.deep import embed
    from certimetric.deep.models.calling import seeded
    from certimetric.deep.models.kinds import PICTURES

    kind = PICTURES if kind is None else kind
    try:
        with seeded(0):
            return embed(subject.model, images, kind=kind)
    except Exception as error:  # a model of the user's may raise anything
        if is_interrupt(error):
            raise
        shape, reason = " × ".join(map(str, images.shape[1:])), str(error) or type(error).__name__
        raise ValueError(f"model {subject.name!r} cannot embed {kind.name} of {shape}: {reason}") from error


def check_gradients(subject: Subject, images: Tensor, attacks: Sequence[str]) -> None:
    """Raise a ValueError if attacks are asked for that need gradients, and a model has none."""
    from certimetric.deep.attacks import ATTACKS
    from certimetric.deep.models.calling import has_gradients

    white = [name for name in attacks if ATTACKS[name].uses_gradients]
    if white and not has_gradients(subject.model, images):
        blind = ", ".join(name for name, kind in ATTACKS.items() if not kind.uses_gradients)
        raise ValueError(
            f"attacks must be of {blind}, got {white[0]!r}: the model {subject.name!r} has no gradients to follow"
        )


def radii_for(
    shape: tuple[int, ...],
    norm: str,
    eps: Sequence[float] | None,
    report_eps: float | None,
    kind: Kind | None = None,
) -> tuple[tuple[float, ...], float]:
    """Radii in rising order, and the one that table and verdict quote, which is among them."""
    if kind is not None and not kind.pictures:
        if eps is None:
            raise ValueError("eps must be given for inputs that are no pictures: sizes in their units, got None")
        return checked_radii(eps, report_eps)
    default, quoted = (_GREY if shape[1] == 1 else _COLOUR)[norm]
    radii = checked_radii(default if eps is None else eps, quoted if eps is None and report_eps is None else report_eps)
    if norm == "l0" and radii[0][0] < 1:
        raise ValueError(f"eps of l0 must be at least 1, a number of pixels, got {radii[0][0]:g}")
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
