"""An audit of embedding models from request to document: figures under attack, checks, examples, verdict."""

from __future__ import annotations

import math
import os
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from certimetric.auditing.retrieval.cells import SCORES, Cells, Scores, model_hash, probe_distances
from certimetric.auditing.retrieval.certificates import (
    certifiers,
    certify_subject,
    check_certificates,
    futile_certificates,
    tell,
)
from certimetric.auditing.retrieval.checks import beaten_by_pixels, run_checks
from certimetric.auditing.retrieval.evidence import embedding_map, examples
from certimetric.auditing.retrieval.request import (
    BLACK_BOX,
    DEFAULT_ATTACKS,
    N_CHECKED,
    N_QUERIES,
    RetrievalRequest,
    Subject,
    make_request,
)
from certimetric.auditing.retrieval.result import RetrievalAudit
from certimetric.auditing.retrieval.robustness_score import N_GOALS, robustness_score, score_protocol
from certimetric.auditing.retrieval.summary import estimate, per_class
from certimetric.auditing.retrieval.verdict import conclude, judge_thresholds, recommend
from certimetric.auditing.runner import prepare_folder
from certimetric.auditing.saved import refuse_other_report
from certimetric.auditing.tables.run import describe_machine, describe_versions
from certimetric.base.threads import threads_for_pictures
from certimetric.report.document import PIXELS, RETRIEVAL_SCHEMA
from certimetric.runs.progress import progress_bar

if TYPE_CHECKING:
    from certimetric.deep import ImageSet, Index

_PACKAGES = ("numpy", "scipy", "torch", "pytorch-metric-learning", "lightning", "safetensors")


def audit_retrieval(
    models: Mapping[str, Any],
    queries: ImageSet,
    gallery: ImageSet | None = None,
    *,
    norm: str = "linf",
    eps: Sequence[float] | None = None,
    report_eps: float | None = None,
    attacks: Sequence[str] = DEFAULT_ATTACKS,
    n_queries: int = N_QUERIES,
    n_checked: int = N_CHECKED,
    seed: int = 0,
    name: str = "images",
    class_names: Sequence[str] = (),
    fail_under: str | Iterable[str] = (),
    ers: bool = False,
    certify: str | None = None,
    out: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> RetrievalAudit:
    """Compare embedding models by retrieval, clean and under attack, beside the pixels themselves.

    Each query is perturbed within a ball, the gallery stays clean. The attacks maximise the margin, which is positive
    exactly when the first result is wrong, and for each query the worst over the attacks counts.

    Parameters
    ----------
    models : mapping of str to Module or callable
        Images (b, c, h, w) from 0 to 1 to embeddings (b, k), compared by Euclidean distance. One without gradients,
        such as a function of arrays, is attacked by "square" only.
    queries : ImageSet
    gallery : ImageSet, default=None
        None for the queries themselves; a query is never its own result, nor is an item of its group, see
        :class:`certimetric.deep.ImageSet`.
    norm : {"linf", "l2"}, default="linf"
        How a perturbation is measured, in pixels from 0 to 1.
    eps : sequence of float, default=None
        Sizes of the attack. None for five that suit the pictures.
    report_eps : float, default=None
        The one that table and verdict quote; None for the middle one.
    attacks : sequence of {"pgd", "apgd", "square", "fgsm"}, default=("pgd", "apgd")
    n_queries : int, default=500
        So many of the queries, drawn at random, are ranked and attacked.
    n_checked : int, default=100
        So many of those serve the reliability checks that attack; 0 skips these.
    seed : int, default=0
        Same seed, same machine, same figures.
    name : str, default="images"
        Name of the data in the report.
    class_names : sequence of str, optional
        Of the labels 0, 1, ….
    fail_under : str or sequence of str, default=()
        Thresholds ``FIGURE=VALUE`` or ``MODEL.FIGURE=VALUE`` with the FIGURE ``recall`` (R@1), ``map`` (mAP@R),
        ``attacked@EPS`` (R@1), ``attacked_map@EPS`` (mAP@R under the attack on R@1) or, of an audit that certifies,
        ``certified@EPS`` (R@1). Without a model it is about the recommended one. Without any the audit reports, and
        its status is never PASS.
    ers : bool, default=False
        Measure the empirical robustness score too, see :func:`certimetric.deep.empirical_robustness_score`: nine more
        attacks of 32 steps, in l∞ whatever the norm.
    certify : {"auto", "lipschitz", "smoothing", "interval"}, default=None
        How to certify retrieval, beside the attacks: see :func:`certimetric.deep.certify_retrieval`. "auto" is by
        intervals for linf; for l2 by the Lipschitz constant, and where that proves less than a tenth of the queries at
        ``report_eps``, by that or by smoothing, whichever certifies more.
    out : path, default=None
        Folder for ``report.html``, ``results.json`` and what was computed so far: a run that was stopped goes on from
        there. One with the report of another audit is refused.
    progress : bool, default=False
        Show a progress bar on stderr.

    Returns
    -------
    result : RetrievalAudit

    Raises
    ------
    TypeError, ValueError
        On images outside of 0 to 1, a model that gives no finite embeddings (b, k), settings that do not fit, or a
        folder that holds the report of an audit with other options.

    References
    ----------
    Panum et al., *Exploring adversarial robustness of deep metric learning*, arXiv 2102.07265.

    Examples
    --------
    >>> import torch
    >>> from certimetric.auditing import audit_retrieval
    >>> from certimetric.deep import ImageSet, embedding_model
    >>> images = ImageSet(torch.rand(24, 1, 8, 8), torch.arange(24) % 3)
    >>> audit_retrieval({"random": embedding_model("small-cnn", 8)}, images, eps=[0.1], n_checked=0).passed
    True
    """
    request = make_request(
        models,
        queries,
        gallery,
        norm=norm,
        eps=eps,
        report_eps=report_eps,
        attacks=attacks,
        n_queries=n_queries,
        n_checked=n_checked,
        seed=seed,
        name=name,
        class_names=class_names,
        fail_under=fail_under,
        ers=ers,
        certify=certify,
    )
    return run_retrieval_audit(request, out=out, progress=progress)


def run_retrieval_audit(
    request: RetrievalRequest,
    *,
    out: str | os.PathLike[str] | None = None,
    command: str | None = None,
    title: str | None = None,
    progress: bool = False,
) -> RetrievalAudit:
    """Carry out a validated audit; see :func:`audit_retrieval`."""
    from certimetric.deep.models.calling import device_of
    from certimetric.deep.models.randomness import seeded

    started, clock = datetime.now(timezone.utc), time.perf_counter()
    folder = None if out is None else Path(out)
    options = retrieval_options(request)
    if folder is not None:
        refuse_other_report(folder, options)
        prepare_folder(folder, "cells")
    for remark in futile_certificates(request):
        warnings.warn(remark, UserWarning, stacklevel=3)  # of the call of audit_retrieval
    training = {subject.name: subject.model.training for subject in request.subjects}
    cells = Cells(request, folder)
    quoted = request.eps.index(request.report_eps)
    learners: list[dict[str, Any]] = []
    worst, white, indices, certificates, found = {}, {}, {}, {}, {}
    steps = len(request.subjects) * (2 + len(request.eps) * len(request.attacks)) + 1
    steps += N_GOALS * len(request.subjects) * request.ers
    threads = threads_for_pictures(request.queries.images.shape[1:])
    with threads, seeded(request.seed), progress_bar(progress, steps) as advance:
        for subject in request.subjects:
            index = indices[subject.name] = _index(request, subject)
            clean, attacked = _scores(request, subject, index, cells, advance)
            worst[subject.name] = attacked[quoted][0]["recall_at_1"]
            white[subject.name] = _white(request, clean, attacked[: quoted + 1])
            certificates[subject.name], found[subject.name] = certify_subject(request, subject, cells), attacked
            told = {"certificate": tell(request, certificates[subject.name])}
            if request.ers:
                told["robustness_score"] = robustness_score(request, subject, index, clean, cells, advance)
            learners.append(_learner(request, subject, index, clean, attacked) | told)
        for subject, learner in zip(request.subjects, learners):
            attack = request.make_attack(request.attacks[0], request.report_eps)
            learner["examples"] = examples(request, indices[subject.name], attack)
            learner["map"] = embedding_map(request, indices[subject.name], attack)
            advance(False)
        checks = run_checks(request, indices, worst, white, training)
        advance(False)
        checks += beaten_by_pixels(learners, quoted)
        checks += check_certificates(request, certificates, found, indices)
    recommended = recommend(learners, quoted)
    thresholds = judge_thresholds(request.thresholds, learners, recommended)
    queries, gallery = request.queries, request.gallery
    protocol = {
        "norm": request.norm,
        "units": "pixels",
        "eps": list(request.eps),
        "report_eps": request.report_eps,
        "attacks": [request.told_attack(attack) for attack in request.attacks],
        "objective": "margin",
        "n_checked": request.n_checked,
        "certify": request.certify,
        "seed": request.seed,
    }
    if request.ers:
        protocol["robustness_score"] = score_protocol(request)
    document = {
        "schema": RETRIEVAL_SCHEMA,
        "data": {
            "name": request.name,
            "source": request.source,
            "n_queries": len(queries),
            "n_without_positive": request.n_without_positive,
            "n_gallery": len(gallery),
            "n_groups": None if gallery.groups is None else len(set(gallery.groups.tolist())),
            "n_classes": len(set(gallery.labels.tolist())),
            "image_shape": list(gallery.images.shape[1:]),
            "sha256": cells.data,
        },
        "protocol": protocol,
        "learners": learners,
        "checks": checks,
        "thresholds": thresholds,
        "verdict": conclude(protocol, learners, checks, thresholds, recommended),
        "reproduction": {
            "command": command or _call(request),
            "options": options,
            "started": started.isoformat(timespec="seconds"),
            "wall_seconds": time.perf_counter() - clock,
            "versions": describe_versions(_PACKAGES),
            "machine": describe_machine() | {"device": str(device_of(request.subjects[0].model))},
            "cells": {"computed": cells.computed, "reused": cells.reused, "failed": 0},
            "model_sha256": cells.models,
        },
    }
    result = RetrievalAudit(document)
    if folder is not None:
        result.save(folder, title=title)
    return result


def retrieval_options(request: RetrievalRequest) -> dict[str, Any]:
    """What tells one audit from another: all that its figures depend on, but not what they are judged by."""
    return {
        "data": request.data_sha256,
        "class_names": list(request.class_names),
        "models": [
            [subject.name, model_hash(subject), probe_distances(subject, request)] for subject in request.with_model
        ],
        "norm": request.norm,
        "eps": list(request.eps),
        "report_eps": request.report_eps,
        "attacks": list(request.attacks),
        "n_queries": len(request.queries),
        "n_checked": request.n_checked,
        "seed": request.seed,
        "ers": request.ers,
        "certify": str(request.certify).lower(),
        "certifiers": [list(map(repr, certifiers(request, subject))) for subject in request.with_model],
    }


def _scores(
    request: RetrievalRequest, subject: Subject, index: Index, cells: Cells, advance: Callable[[bool], None]
) -> tuple[Scores, list[list[Scores]]]:
    """Scores of clean queries; and for every ε those of the worst case, and then those of each attack."""
    clean = cells.score(subject, index, None)
    advance(False)
    attacked: list[list[Scores]] = []
    for eps in request.eps:
        each = []
        for name in request.attacks:
            each.append(cells.score(subject, index, request.make_attack(name, eps)))
            advance(False)
        # Whoever withstands a larger ball withstands the smaller one; an attack may have missed that.
        attacked.append([_least([clean, *each, *(part[0] for part in attacked)]), *each])
    return clean, attacked


def _index(request: RetrievalRequest, subject: Subject) -> Index:
    from certimetric.deep import Index

    try:
        return Index(subject.model, request.gallery)
    except (TypeError, ValueError) as error:
        raise type(error)(f"model {subject.name!r} on the gallery: {error}") from None


def _white(
    request: RetrievalRequest, clean: Scores, attacked: Sequence[Sequence[Scores]]
) -> NDArray[np.float64] | None:
    """R@1 of each query in the worst case over the attacks that use gradients; None where there is none."""
    found = [
        scores["recall_at_1"]
        for _, *each in attacked
        for name, scores in zip(request.attacks, each)
        if name not in BLACK_BOX
    ]
    return np.min([clean["recall_at_1"], *found], axis=0) if found else None


def _least(scores: Sequence[Scores]) -> Scores:
    """The worst of each query, figure by figure."""
    return {name: np.min([part[name] for part in scores], axis=0) for name in scores[0]}


def _learner(
    request: RetrievalRequest, subject: Subject, index: Index, clean: Scores, attacked: list[list[Scores]]
) -> dict[str, Any]:
    from certimetric.deep.retrieval.evaluation import CLUSTERED, nmi

    clustered = len(index.labels) <= CLUSTERED
    quoted = request.eps.index(request.report_eps)
    return {
        "spec": subject.name,
        "label": subject.name[:1].upper() + subject.name[1:] if subject.name == PIXELS else subject.name,
        "source": subject.source,
        "dim": int(index.embeddings.shape[1]),
        "n_parameters": sum(parameter.numel() for parameter in subject.model.parameters()),
        "training": _training(subject.run),
        "clean": {name: estimate(clean[name]) for name in SCORES}
        | {"nmi": nmi(index.embeddings, index.labels) if clustered else None},
        "attacked": [
            {
                "eps": eps,
                "worst": {name: estimate(worst[name]) for name in SCORES},
                "attacks": {
                    attack: {name: estimate(scores[name]) for name in SCORES}
                    for attack, scores in zip(request.attacks, each)
                },
            }
            for eps, (worst, *each) in zip(request.eps, attacked)
        ],
        "per_class": per_class(
            np.asarray(request.queries.labels.cpu()), request.class_names, clean, attacked[quoted][0]
        ),
    }


def _training(run: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if run is None:
        return None
    return {
        "config": run["config"],
        "epochs": len(run["history"]),
        "seconds": run["seconds"],
        "history": [loss if math.isfinite(loss) else None for loss in run["history"]],
        "finished": bool(run["finished"]),
    }


def _call(request: RetrievalRequest) -> str:
    models = ", ".join(f"{subject.name!r}: …" for subject in request.with_model)
    also = ", ers=True" if request.ers else ""
    also += f", certify={request.certify!r}" if request.certify else ""
    return (
        f"certimetric.auditing.audit_retrieval({{{models}}}, queries, gallery, norm={request.norm!r}, "
        f"eps={list(request.eps)}, report_eps={request.report_eps}, attacks={list(request.attacks)}, "
        f"n_queries={len(request.queries)}, n_checked={request.n_checked}, seed={request.seed}{also})"
    )
