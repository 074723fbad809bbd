"""Certified retrieval in audits of embedding models: a certificate for each model, held against what attacks found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from certimetric.auditing.checks import Outcome
from certimetric.auditing.retrieval.cells import Cells, Scores
from certimetric.auditing.retrieval.request import RetrievalRequest, Subject
from certimetric.base.arrays import Array
from certimetric.base.results import estimate
from certimetric.base.wording import PIXELS
from certimetric.deep.certify.registry import certifier_class, certifiers_of, make_certifier
from certimetric.runs.key import told as as_json

if TYPE_CHECKING:
    from certimetric.deep import Index
    from certimetric.deep.certify import Certifier


_POINTS = 41  # of a curve
_ENOUGH = 0.1  # of the queries, certified at the quoted ε: with fewer the next way is tried too


def certify_subject(request: RetrievalRequest, subject: Subject, cells: Cells) -> dict[str, Any] | None:
    """What is certified of a model; None where nothing is asked for.

    Returns
    -------
    told : dict
        ``method``, ``settings``, ``constant`` (Lipschitz), ``confidence``, ``abstained`` (share), ``recall`` (R@1 of
        what is certified, without a perturbation), ``at`` (certified R@1 with its interval for every ε of the audit)
        and ``curve``; or ``method`` None and ``reason`` where there is no certificate. ``radii`` of the queries, −1
        where the prediction is wrong and "inf" where nothing changes it, are for the checks.
    """
    if request.certify is None:
        return None
    best: dict[str, Any] = {}
    most = -1.0
    for certifier in certifiers(request, subject):
        try:
            told = cells.certificate(subject, certifier)
        except ValueError as error:  # a layer that the method has no bound for
            if certifier.name == "smoothing":
                raise
            best = {"method": None, "reason": f"{str(error)[:1].upper()}{str(error)[1:]}."}
            continue
        share = float((np.asarray(told["radii"], dtype=float) >= request.report_eps).mean())
        if share > most:
            best, most = told, share
        if share >= _ENOUGH:
            break  # a proof: chance need not be asked
    return best


def certifiers(request: RetrievalRequest, subject: Subject) -> list[Certifier]:
    """The ways that are tried to certify a model, in this order; none where nothing is asked for."""
    from certimetric.deep.certify import LipschitzCertifier, PixelCertifier

    if request.certify is None:
        return []
    if subject.name == PIXELS:
        return [PixelCertifier(request.norm)]
    if subject.metric == "dot":
        return [LipschitzCertifier(metric="dot")]
    names = certifiers_of(request.norm) if request.certify == "auto" else [request.certify]
    return [certifier_class(name).for_audit(deviation(subject, request.report_eps), request.seed) for name in names]


def futile_certificates(request: Any, certifier_of: Callable[[Subject], Certifier]) -> list[str]:
    """What is to be said before the work: of each model whose smoothing can certify nothing at the quoted ε."""
    told, eps = [], request.report_eps
    for subject in request.subjects if request.certify == "smoothing" else ():
        if subject.name == PIXELS:
            continue
        certifier = certifier_of(subject)
        if certifier.name == "smoothing" and (largest := certifier.largest_radius()) < eps:
            told.append(
                f"smoothing of {subject.name!r} with sigma = {certifier.settings()['sigma']:g} certifies no radius "
                f"beyond {largest:.3g}, and so nothing at the quoted ε = {eps:g}, even if every draw agrees"
            )
    return told


def deviation(subject: Subject, report_eps: float) -> float:
    """The noise that the model was trained with; where it was not, as much as the quoted ε."""
    defense = ((subject.run or {}).get("config") or {}).get("defense") or {}
    return float(defense["sigma"]) if defense.get("kind") == "noise" else report_eps


def tell(request: RetrievalRequest, told: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The certificate of a model as the document keeps it: figures over queries."""
    if told is None or told["method"] is None:
        return None if told is None else dict(told)
    radii, sizes = np.asarray(told["radii"], dtype=float), np.linspace(0.0, request.eps[-1], _POINTS)
    unperturbed, *at = (estimate((radii >= size).astype(float)) for size in (0.0, *request.eps))
    return {
        **{key: told[key] for key in ("method", "settings", "constant", "confidence", "abstained")},
        "recall": unperturbed,
        "at": at,
        "curve": {"eps": sizes.tolist(), "recall": (radii >= sizes[:, None]).mean(axis=1).tolist()},
        "median_radius": as_json(float(np.median(np.maximum(radii, 0.0)))),
    }


def held_against(
    request: RetrievalRequest,
    told: Mapping[str, Any],
    attacked: Sequence[Sequence[Scores]],
    smallest: Array | None = None,
) -> Outcome:
    """Whether any attack breaks a query within its certified radius.

    ``told`` is the certificate of a model, as :func:`certify_subject` gives it; ``attacked`` holds for every ε the
    scores of each query in the worst case, and then under each attack; ``smallest`` changes are those that were found
    for each query, where they were looked for.
    """
    if told["method"] is None:
        return Outcome("not applicable", f"There is no certificate of this model. {told['reason']}")
    radii = np.asarray(told["radii"], dtype=float)
    # An attack in single precision may leave its ball by a rounding.
    beaten = [
        (radii > eps * (1 + 1e-5)) & (each["recall_at_1"] < 0.5)
        for eps, (_, *attacks) in zip(request.eps, attacked)
        for each in attacks
    ]
    if smallest is not None:
        beaten.append(radii > smallest * (1 + 1e-5))
    n, held = int(np.any(beaten, axis=0).sum()), int((radii >= request.eps[0]).sum())
    if n:
        message = f"Attacks break {n} queries within their certified radius: that is an error in certimetric."
        return Outcome("issue", message)
    message = f"No attack breaks any of the {held} queries that are certified at ε = {request.eps[0]:.4g} or more."
    return Outcome("passed", message)


def smoothed_against(request: RetrievalRequest, told: Mapping[str, Any], index: Index) -> Outcome:
    """The same for a smoothed model: does it find another class, with confidence, within a certified radius?"""
    import torch
    from scipy.stats import binom

    radii, eps = torch.from_numpy(np.asarray(told["radii"], dtype=float)), min(request.eps)
    rows = (radii > eps * (1 + 1e-5)).nonzero()[: request.n_checked, 0]
    if not len(rows):
        reason = (
            f"No query is certified beyond ε = {eps:.4g}." if request.n_checked else "No queries were set aside for it."
        )
        return Outcome("skipped", reason)
    sample = request.queries.select(rows)
    moved = index.attacked(sample, request.make_attack(request.attacks[0], eps)).cpu()
    again = make_certifier(told["method"], **{**told["settings"], "seed": request.seed + 1})
    found = again.certify(index.model, sample.with_images(moved), index.gallery, index.batch_size)
    n = int(((found.predictions != np.asarray(sample.labels)) & ~found.abstained).sum())
    # Each of the two certificates of a query may fail by chance.
    allowed = int(binom.ppf(0.999, len(rows), min(2 * (1 - told["confidence"]), 1.0)))
    message = (
        f"Of {len(rows)} queries certified beyond ε = {eps:.4g} the smoothed model gives up {n} once they are attacked"
    )
    if n > allowed:
        return Outcome("issue", f"{message}: that is an error in certimetric.")
    return Outcome("passed", f"{message}; chance alone may account for {allowed}.")
