"""What an audit of verification by embedding models is asked to do, checked before any work starts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from certimetric.auditing.request import AuditRequest, whole
from certimetric.auditing.retrieval.request import (
    CERTIFIED,
    Subject,
    check_gradients,
    digest_of,
    embedded,
    radii_for,
    subjects_of,
)
from certimetric.base.wording import PIXELS
from certimetric.report.document import printable
from certimetric.runs.splits import subject_parts

if TYPE_CHECKING:
    from certimetric.base.arrays import Indices
    from certimetric.deep import Attack, ImageSet

FIGURES = {"auc": False, "tar": True, "attacked": True, "rejected": True}
METRICS = ("euclidean", "cosine")
CERTIFY = ("lipschitz", "smoothing")


@dataclass(frozen=True, eq=False, repr=False)
class ModelVerificationRequest(AuditRequest):
    """An audit of verification by models: what :func:`certimetric.auditing.audit_model_verification` has too.

    Parameters
    ----------
    models : mapping of str to Module or callable
        Images (b, c, h, w) from 0 to 1, or other inputs, to embeddings (b, k). One without gradients is attacked by
        "square" only.
    images : ImageSet or Samples
        Labels are subjects, which no model was trained on. Pictures of one id or group are no pair. Of inputs that are
        no pictures attackers stay within the bounds.
    metric : {"euclidean", "cosine"}
        How embeddings are compared.
    far : float
        Thresholds accept this share of the impostor pairs that they are calibrated on.

        Those are pairs of half of the subjects; pairs of the others are tested and attacked.
    norm : {"linf", "l2"}
        How the change of a probe is measured, in pixels from 0 to 1 or in units of the input.
    eps : sequence of float
        Sizes of the change of a probe, such as 0.1 or 8/255. None for five that suit the pictures; needed for other
        inputs.
    report_eps : float
        The size that table and verdict quote. None for the middle one.
    attacks : sequence of {"pgd", "apgd", "square", "fgsm", "carlini-wagner", "nes"}
        The worst counts for each pair.
    n_attacked : int
        So many pairs of each kind are attacked.
    certify : {"lipschitz", "smoothing"}
        How to certify the decisions about the attacked pairs, for l2. None for no certificates.

        "smoothing" is for any model, and about the majority of its decisions under Gaussian noise: as much as the model
        was trained with, or else as the quoted ε. Raw pixels are certified by their Lipschitz constant, which is 1.
    draws : int
        Smoothing shows a model so many noisy copies of each attacked probe, and a tenth as many to guess from.
    groups : array-like of shape (n,)
        A name for each picture, such as its camera: rates are told by the group of the probe too. Unlike groups of the
        ImageSet, within which there are no pairs, these leave all pairs as they are.
    surrogate : Module or callable
        Attacks are computed on this model, at its own threshold for the same rate, and tried on the others.

        None for attackers who know the model itself.
    source : str
        Where the pictures came from, for the report.
    class_names : sequence of str
        Names of the labels 0, 1, ….
    fail_under : str or sequence of str
        Thresholds ``FIGURE=VALUE`` or ``MODEL.FIGURE=VALUE`` with the FIGURE ``auc``, ``tar@FAR`` (or
        ``tar@far=1e-3:0.9``), ``attacked@EPS`` (TAR under dodging) or ``rejected@EPS`` (impostors that do not get in).

    Raises
    ------
    ValueError, TypeError
        On images outside of 0 to 1, a model that gives no finite embeddings (b, k), settings that do not fit, or a
        folder that holds the report of an audit with other options.

    Examples
    --------
    >>> import torch
    >>> from certimetric.deep import ImageSet
    >>> images = ImageSet(torch.rand(24, 1, 8, 8), torch.arange(24) % 4)
    >>> ModelVerificationRequest({"pixels": torch.nn.Flatten()}, images, eps=[0.1], far=0.1).far
    0.1
    """

    options = {
        "metric": "--metric",
        "far": "--far RATE",
        "norm": "--norm",
        "eps": "--eps EPS,…",
        "report_eps": "--report-eps EPS",
        "attacks": "--attack",
        "n_attacked": "--attacked N",
        "certify": "--certify",
        "draws": "--draws N",
    }

    models: Mapping[str, Any]
    images: ImageSet
    _: KW_ONLY
    metric: str = "euclidean"
    far: float = 0.01
    norm: str = "linf"
    eps: Any = None
    report_eps: Any = None
    attacks: Sequence[str] = ("pgd",)
    n_attacked: int = 200
    certify: str | None = None
    draws: int = 320
    groups: Any = None
    surrogate: Any = None  # a Subject, once it is checked
    source: str = ""
    class_names: Sequence[str] = ()
    name: str = "images"
    subjects: tuple[Subject, ...] = field(init=False)  # derived: the models and raw pixels
    rates: tuple[float, ...] = field(init=False)
    group_names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        from torch import nn

        from certimetric.auditing.verification.request import rates_of, told_rates
        from certimetric.base.arguments import chosen
        from certimetric.certify.rates import check_far
        from certimetric.deep.attacks import ATTACKS
        from certimetric.deep.certify.smoothing import ALPHA, least_samples

        models = subjects_of(self.models)
        chosen("metric", self.metric, METRICS)
        chosen("norm", self.norm, CERTIFIED)
        if self.certify is not None:
            chosen("certify", self.certify, CERTIFY)
            if self.norm != "l2":
                raise ValueError(
                    f"certificates by {self.certify} are for the norm l2, and this audit is in {self.norm}"
                )
        for attack in self.attacks:
            chosen("attacks", attack, [*ATTACKS])
        if not self.attacks:
            raise ValueError(f"attacks must be of {', '.join(ATTACKS)}, got none")
        first, kind = next(self.images.batches(2)).tensor(), self.images.kind
        surrogate = None if self.surrogate is None else subjects_of({"surrogate": self.surrogate})[0]
        for subject in (*models, *([] if surrogate is None else [surrogate])):
            embedded(subject, first, kind)
        for subject in models if surrogate is None else (surrogate,):  # whom attacks are computed on
            check_gradients(subject, first, self.attacks)
        radii, quoted = radii_for(tuple(self.images.images.shape), self.norm, self.eps, self.report_eps, kind)
        self._settle(
            far=check_far(self.far),
            eps=radii,
            report_eps=quoted,
            attacks=tuple(dict.fromkeys(self.attacks)),
            n_attacked=whole("n_attacked", self.n_attacked, 1),
            draws=whole("draws", self.draws, least_samples(ALPHA)),
            surrogate=surrogate,
            **self._grouped(),
            name=printable(self.name),
            source=printable(self.source),
            class_names=tuple(printable(str(told)) for told in self.class_names),
            subjects=(*models, Subject(PIXELS, nn.Flatten(), f"the {kind.name} themselves")),
            fail_under=told_rates(self.fail_under),
        )
        assert len(self.parts) == 3  # or an error said what is missing
        self._judge_by([subject.name for subject in self.subjects], FIGURES, at=None)
        self._settle(rates=rates_of(self.far, self.thresholds))
        for threshold in self.thresholds:
            if threshold.figure in ("attacked", "rejected") and not np.isclose(threshold.at or 0.0, radii).any():
                sizes = ", ".join(f"{size:g}" for size in radii)
                raise ValueError(f"fail_under needs the ε {threshold.at:g}, but those of the audit are {sizes}")

    def certifier(self, subject: Subject) -> Any:
        """How the decisions of a model are certified."""
        from certimetric.auditing.retrieval.certificates import deviation
        from certimetric.deep import SmoothingCertifier

        if self.certify != "smoothing" or subject.name == PIXELS:
            return "lipschitz"
        sigma = deviation(subject, self.report_eps)
        return SmoothingCertifier(
            sigma=sigma, n_samples=self.draws, n_selection=math.ceil(self.draws / 10), seed=self.seed
        )

    def _grouped(self) -> dict[str, Any]:
        """Codes of the groups, and their names."""
        from certimetric.auditing.verification.request import coded_groups

        if self.groups is None:
            return {"group_names": ()}
        codes, names = coded_groups(self.groups, len(self.images), "pictures, got")
        return {"groups": codes, "group_names": tuple(map(printable, names))}

    @cached_property
    def parts(self) -> tuple[Indices, Indices, bool]:
        """Rows of the pictures to calibrate on and to test, and whether no subject is in both."""
        codes = np.unique(np.asarray(self.images.labels.cpu()), return_inverse=True)[1]
        (calibration, test), apart = subject_parts(codes, [0.5], self.seed, 0)
        return calibration, test, apart

    @cached_property
    def data_sha256(self) -> str:
        """Digest of the pictures, for which every one is read, once."""
        return digest_of(self.images)

    def make_attacks(self, eps: float) -> list[Attack]:
        """The attacks of the audit at one size."""
        from certimetric.deep.attacks import ATTACKS, ball

        allowed = ball(self.norm, eps, self.images.kind.bounds)
        return [ATTACKS[name](allowed, **ATTACKS[name].in_audits, seed=self.seed) for name in self.attacks]
