"""Verification by an embedding model: what a threshold accepts, clean and when probes are attacked."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from certimetric.base.arguments import ArgumentError, require
from certimetric.base.arrays import Array, Indices
from certimetric.base.results import Framed, Rows, finite_rows
from certimetric.base.wording import PIXELS
from certimetric.certify.rates import VerificationCurve, check_far, claimable_far, verification_curve
from certimetric.certify.resampling import class_intervals
from certimetric.deep.attacks.base import Attack
from certimetric.deep.models.calling import seeded
from certimetric.deep.models.images import ImageSet
from certimetric.deep.retrieval.evaluation import CLEAN, MODEL, WORST, attack_names, by_ball
from certimetric.deep.retrieval.reliability import Attackable, warn_of_attacks
from certimetric.deep.verification.pair_index import PairIndex, ends
from certimetric.deep.verification.pairs import Pairs

_RESAMPLED = 25_000  # pairs of each kind, at most, that intervals of areas and equal error rates rest on
KEYS = ("subject", "attack", "norm", "eps")
Key = tuple[str, str, str, float]


@dataclass(frozen=True, eq=False)
class AttackedPairs:
    """Pairs before and after an attack on their probes.

    Parameters
    ----------
    pairs : int array of shape (m, 2)
        Rows of probes and of enrolled, genuine ones first.
    subjects : int array of shape (m, 2)
        Codes of the subjects of either side.
    genuine : bool array of shape (m,)
    clean, distances : array of shape (m,)
        Before and after: of genuine pairs the largest distance that was found, of impostor pairs the smallest.
    """

    pairs: Indices
    subjects: Indices
    genuine: NDArray[np.bool_]
    clean: Array
    distances: Array

    @cached_property
    def curve(self) -> VerificationCurve:
        """Operating points when genuine pairs dodge and impostor pairs impersonate."""
        return verification_curve(self.distances, self.genuine)


@dataclass(frozen=True, eq=False)
class VerificationResult(Rows, Framed):
    """What thresholds accept, of a model and of raw pixels, clean, under each attack and in the worst case.

    Parameters
    ----------
    rows : list of dict
        One for each ``subject`` ("model", "raw pixels"), ``attack`` ("clean", a name, "worst case" over several; with
        ``norm`` and ``eps``) and operating ``point``: "far=0.01" (with its ``target_far``), "eer", "threshold".
        ``threshold``; ``far`` and ``tar`` with the ends of their 95 % intervals, ``far_low`` …: under an attack ``tar``
        is that under dodging, ``far`` that under impersonation. ``tar_retuned`` is the TAR under attack at another
        threshold, at which the FAR under attack is the target. ``n_genuine`` and ``n_impostor`` count the pairs.
        Figures that so few pairs cannot support are None: those of a FAR below 3 / impostor pairs (the rule of three).
    summary : list of dict
        For each subject ``auc`` and ``eer`` with their intervals, ``eer_threshold``, numbers of pairs and of
        ``n_subjects``, and ``claimable_far``, the smallest that the pairs support.
    curves : dict of str to VerificationCurve
        Of clean pairs, by subject.
    attacked : dict of (subject, attack, norm, eps) to AttackedPairs
    worst : dict of str to list
        The model's farthest "genuine" and nearest "impostor" pairs: (distance, row of probes, row of enrolled).
    metric : str
    calibrated : bool
        Whether thresholds are those of other pairs.
    labels : list of int
        Subjects that occur.
    """

    rows: list[dict[str, Any]]
    summary: list[dict[str, Any]]
    curves: dict[str, VerificationCurve]
    attacked: dict[Key, AttackedPairs]
    worst: dict[str, list[tuple[float, int, int]]]
    metric: str
    calibrated: bool
    labels: list[int]

    def to_json(self) -> str:
        """Rows, summary and thinned curves as JSON; an infinite threshold is null."""
        document: dict[str, Any] = {"metric": self.metric, "calibrated": self.calibrated}
        document |= {"rows": finite_rows(self.rows), "summary": finite_rows(self.summary)}
        document["curves"] = {name: json.loads(curve.thinned().to_json()) for name, curve in self.curves.items()}
        document["attacked"] = [
            dict(zip(KEYS, key)) | {"curve": json.loads(found.curve.thinned().to_json())}
            for key, found in self.attacked.items()
        ]
        return json.dumps(document | {"worst": self.worst}, allow_nan=False)

    def _repr_html_(self) -> str:
        return self.to_frame().to_html(float_format="{:.4g}".format, na_rep="")


@seeded(0)
def evaluate_verification(
    model: nn.Module | Callable[[Tensor], Any],
    probes: ImageSet,
    enrolled: ImageSet | None = None,
    *,
    pairs: ArrayLike | None = None,
    metric: str = "euclidean",
    far: Sequence[float] = (0.1, 0.01, 0.001, 0.0001),
    threshold: float | None = None,
    calibration: VerificationResult | None = None,
    attacks: Iterable[Attack] = (),
    n_attacked: int | None = 500,
    surrogate: nn.Module | Callable[[Tensor], Any] | None = None,
    batch_size: int = 256,
    with_pixels: bool = True,
    n_resamples: int = 1000,
    seed: int = 0,
    advance: Callable[[], None] | None = None,
) -> VerificationResult:
    """Decide by a threshold on the distance of embeddings whether two pictures show one subject, clean and attacked.

    An attacker perturbs the probe, the enrolled picture stays clean. Probes of genuine pairs *dodge*: they try to get
    beyond the threshold. Probes of impostor pairs *impersonate*: they try to get within it. The worst case takes, for
    each pair, the worst over all attacks of one ball.

    Parameters
    ----------
    model : Module or callable
        Images (b, c, h, w) from 0 to 1 to embeddings (b, k). Attacks by gradients need torch code from end to end.
    probes : ImageSet
        Labels are subjects.
    enrolled : ImageSet, optional
        By default the probes themselves.
    pairs : int array-like of shape (m, 2), optional
        Rows of probes and of enrolled. By default all pairs, in bounded memory however many: without ``enrolled`` each
        two pictures once; pictures of one id, or of one group, are no pair.
    metric : {"euclidean", "cosine", "normalized-euclidean"}, default="euclidean"
    far : sequence of float, default=(0.1, 0.01, 0.001, 0.0001)
        False accept rates that thresholds are chosen for.
    threshold : float, optional
        Another operating point: a threshold of the model that is in use.
    calibration : VerificationResult, optional
        Thresholds are those that it found, on pictures of other subjects. Without it they are chosen on the very pairs
        that are evaluated.
    attacks : iterable of Attack
        Each at its own ε.
    n_attacked : int or None, default=500
        Pairs of each kind that are attacked at most, drawn alike among all of the kind; None for all that were given.
    surrogate : Module or callable, optional
        Attacks are computed on this model, at its own threshold for the same FAR, and scored on the other.
    batch_size : int, default=256
    with_pixels : bool, default=True
        Evaluate the pixels themselves as an embedding too.
    n_resamples : int, default=1000
        Of the subjects, for intervals; 0 for none.
    seed : int, default=0
    advance : callable, optional
        Is called, without arguments, after each attack on the model and on raw pixels, to show progress.

    Returns
    -------
    result : VerificationResult

    Raises
    ------
    ArgumentError, ValueError
        On images outside of 0 to 1, a model that gives no finite embeddings, pairs of one kind only, a rate of 0, or a
        threshold that is NaN.

    Warns
    -----
    UserWarning
        As :func:`evaluate_retrieval`.

    Examples
    --------
    >>> images = ImageSet(torch.tensor([0.0, 0.1, 0.7, 1.0]).reshape(4, 1, 1, 1), torch.tensor([0, 0, 1, 1]))
    >>> result = evaluate_verification(nn.Flatten(), images, far=[0.5], with_pixels=False, n_resamples=0)
    >>> result.curves["model"].auc, result.curves["model"].tar_at(0.5)
    (1.0, 1.0)
    """
    targets = [check_far(rate) for rate in far]
    if threshold is not None:
        require(not np.isnan(threshold), "threshold", "must be a distance", threshold)
    require(n_attacked is None or n_attacked >= 1, "n_attacked", "must be at least 1, or None", n_attacked)
    require(n_resamples >= 0, "n_resamples", "must not be negative", n_resamples)
    if calibration is not None and calibration.metric != metric:
        raise ArgumentError("calibration", f"must be of the metric {metric!r}", calibration.metric)
    attacks = list(attacks)
    compared = Pairs(probes, enrolled, pairs)
    listed = compared.drawn(n_attacked, seed) if attacks else np.empty((0, 2), dtype=np.int64)
    sampled = compared.drawn(_RESAMPLED, seed) if n_resamples else listed
    rows: list[dict[str, Any]] = []
    summary: list[dict[str, Any]] = []
    curves: dict[str, VerificationCurve] = {}
    attacked: dict[Key, AttackedPairs] = {}
    worst: dict[str, list[tuple[float, int, int]]] = {}
    for subject, network in ({MODEL: model} | ({PIXELS: nn.Flatten()} if with_pixels else {})).items():
        index = PairIndex(network, compared, metric, batch_size)
        curve, extremes = index.curve()
        curves[subject] = curve
        if subject == MODEL:
            worst = extremes
        chosen_on = curve if calibration is None else _curve_of(calibration, subject)
        points = _points(chosen_on, curve, targets, threshold if subject == MODEL else None)
        summary.append({"subject": subject, **_summary(index, curve, sampled, n_resamples, seed)})
        thresholds = np.array([point["threshold"] for point in points])
        known = ~np.isnan(thresholds)
        rates = iter(index.rates(thresholds[known], n_resamples, seed))
        told = {"subject": subject, "attack": CLEAN, "norm": None, "eps": None}
        numbers = {"n_genuine": curve.n_genuine, "n_impostor": curve.n_impostor}
        rows += [_row(told, point, next(rates) if given else {}, numbers) for point, given in zip(points, known)]
        if not attacks:
            continue
        finite = [float(t) for t in thresholds[known] if np.isfinite(t)] or [curve.eer_threshold]
        attacker = index if surrogate is None else PairIndex(surrogate, compared, metric, batch_size)
        if subject == MODEL:
            warn_of_attacks(_asked(index, attacker, listed, finite[0]), compared.probes.select(
                torch.from_numpy(listed[:, 0])), attacks)  # fmt: skip
        seen = finite if surrogate is None else thresholds_of(attacker, curve, finite)
        found: dict[Key, AttackedPairs] = {}
        for name, attack in zip(attack_names(attacks), attacks):
            key = (subject, name, attack.ball.name, attack.ball.eps)
            found[key] = _attacked(index, attacker, listed, attack, seen)
            if advance is not None:
                advance()
        found |= {(subject, WORST, *ball): _worst(some) for ball, some in by_ball(found).items()}
        for key, after in found.items():
            told = dict(zip(KEYS, key))
            rows += _attacked_rows(told, points, after, n_resamples, seed)
        attacked |= found
    labels = sorted({*compared.probes.labels.tolist(), *compared.enrolled.labels.tolist()})
    return VerificationResult(rows, summary, curves, attacked, worst, metric, calibration is not None, labels)


def _curve_of(calibration: VerificationResult, subject: str) -> VerificationCurve:
    if subject not in calibration.curves:
        raise ArgumentError("calibration", f"must have a curve of the {subject}", [*calibration.curves])
    return calibration.curves[subject]


def _points(
    chosen_on: VerificationCurve, curve: VerificationCurve, targets: list[float], threshold: float | None
) -> list[dict[str, Any]]:
    """Operating points with their thresholds, NaN where the pairs cannot support a rate."""
    least = claimable_far(min(chosen_on.n_impostor, curve.n_impostor))
    points: list[dict[str, Any]] = []
    for target in targets:
        found = chosen_on.threshold_at(target) if target >= least else np.nan
        points.append({"point": f"far={target:g}", "target_far": target, "threshold": found})
    points.append({"point": "eer", "target_far": None, "threshold": chosen_on.eer_threshold})
    if threshold is not None:
        points.append({"point": "threshold", "target_far": None, "threshold": float(threshold)})
    return points


FIGURES = ("far", "far_low", "far_high", "tar", "tar_low", "tar_high", "tar_retuned")


def _row(told: dict[str, Any], point: dict[str, Any], rates: dict[str, Any], numbers: dict[str, Any]) -> dict[str, Any]:
    threshold = None if np.isnan(point["threshold"]) else point["threshold"]
    return told | point | {"threshold": threshold} | dict.fromkeys(FIGURES) | rates | numbers


def _summary(
    index: PairIndex, curve: VerificationCurve, sampled: Indices, n_resamples: int, seed: int
) -> dict[str, Any]:
    """AUC and EER; their intervals rest on drawn pairs where there are very many, for it is subjects that vary."""
    found: dict[str, Any] = {"auc": curve.auc, "eer": curve.eer}
    if n_resamples:
        figures = {"auc": lambda drawn: drawn.auc, "eer": lambda drawn: drawn.eer}
        told = class_intervals(
            index.distances(sampled), index.pairs.subjects(sampled), figures, n_resamples=n_resamples, random_state=seed
        )
        for name in figures:
            found |= ends(name, found[name], told[name])
    found |= {"eer_threshold": curve.eer_threshold, "n_genuine": curve.n_genuine, "n_impostor": curve.n_impostor}
    return found | {"n_subjects": index.pairs.n_subjects, "claimable_far": claimable_far(curve.n_impostor)}


def _asked(index: PairIndex, attacker: PairIndex, listed: Indices, threshold: float) -> Attackable:
    """What :func:`warn_of_attacks` looks at: the first pairs as their attacker sees them."""

    def goal(queries: ImageSet) -> Any:
        return attacker.goal(listed[: len(queries)], threshold, genuine=True)

    return Attackable(index.model, attacker.model, attacker.device, index.batch_size, goal)


def thresholds_of(surrogate: PairIndex, curve: VerificationCurve, thresholds: list[float]) -> list[float]:
    """Thresholds of a surrogate at which it accepts as many impostor pairs as the model does at its own."""
    own, _ = surrogate.curve()
    rates = [max(curve.at(threshold)[0], claimable_far(curve.n_impostor) / 3) for threshold in thresholds]
    found = [own.threshold_at(rate) for rate in rates]
    return [t for t in found if np.isfinite(t)] or [own.eer_threshold]


def _attacked(
    index: PairIndex, attacker: PairIndex, listed: Indices, attack: Attack, thresholds: list[float]
) -> AttackedPairs:
    """Distances after an attack. One that is content with reaching a threshold is run for each of them."""
    clean = index.distances(listed)
    same = index.pairs.same(listed)
    distances = clean  # a probe may stay as it is
    for threshold in thresholds if attack.smallest else thresholds[:1]:
        moved = index.distances(listed, index.placed(attacker.attacked(listed, attack, threshold)))
        distances = np.where(same, np.maximum(distances, moved), np.minimum(distances, moved))
    return AttackedPairs(listed, index.pairs.subjects(listed), same, clean, distances)


def _worst(some: list[AttackedPairs]) -> AttackedPairs:
    """The worst of each pair over several attacks in one ball."""
    several, genuine = np.stack([after.distances for after in some]), some[0].genuine
    return replace(some[0], distances=np.where(genuine, several.max(axis=0), several.min(axis=0)))


def _rate(threshold: float, side: int) -> Callable[[VerificationCurve], float]:
    return lambda curve: curve.at(threshold)[side]


def _attacked_rows(
    told: dict[str, Any], points: list[dict[str, Any]], after: AttackedPairs, n_resamples: int, seed: int
) -> list[dict[str, Any]]:
    curve = after.curve
    numbers = {"n_genuine": curve.n_genuine, "n_impostor": curve.n_impostor}
    figures: dict[str, Callable[[VerificationCurve], float]] = {}
    for place, point in enumerate(points):
        if not np.isnan(t := point["threshold"]):
            figures |= {f"far{place}": _rate(t, 0), f"tar{place}": _rate(t, 1)}
    drawn = (
        class_intervals(after.distances, after.subjects, figures, n_resamples=n_resamples, random_state=seed)
        if n_resamples
        else {}
    )
    rows = []
    for place, point in enumerate(points):
        rates: dict[str, Any] = {}
        for name in ("far", "tar") if f"far{place}" in figures else ():
            rates[name] = figures[f"{name}{place}"](curve)
            if n_resamples:
                n = curve.n_impostor if name == "far" else curve.n_genuine
                rates |= ends(name, rates[name], drawn[f"{name}{place}"], n)
        if (target := point["target_far"]) is not None and target >= claimable_far(curve.n_impostor):
            rates["tar_retuned"] = curve.tar_at(target)
        rows.append(_row(told, point, rates, numbers))
    return rows
