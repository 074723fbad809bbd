"""Open-set identification by an embedding model: who of the enrolled is it, or none; clean and under attack."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from certimetric.base.arguments import ArgumentError, chosen, require
from certimetric.base.arrays import Array, Indices
from certimetric.base.results import Framed, Rows, finite_rows
from certimetric.base.wording import PIXELS
from certimetric.certify.rates import IdentificationCurve, check_far, claimable_far, identification_curve
from certimetric.certify.resampling import drawn_classes
from certimetric.deep.attacks.base import Attack
from certimetric.deep.goals.base import Goal
from certimetric.deep.goals.identification import TEMPLATES, FalseIdentification, MissedIdentification, Templates
from certimetric.deep.models.calling import as_module, device_of, embed, seeded
from certimetric.deep.models.images import ImageSet
from certimetric.deep.ranking.distances import EmbeddingMetric, slices
from certimetric.deep.retrieval.evaluation import CLEAN, MODEL, WORST, attack_names, by_ball
from certimetric.deep.retrieval.reliability import Attackable, warn_of_attacks
from certimetric.deep.retrieval.same_pictures import exclusion_keys, same_pictures
from certimetric.deep.verification.pair_index import ends

_BLOCK = 2**21  # distances that are looked at together


@dataclass(frozen=True, eq=False)
class IdentificationResult(Rows, Framed):
    """Rates of open-set identification, of a model and of raw pixels, clean, under each attack and in the worst case.

    Parameters
    ----------
    rows : list of dict
        One for each ``subject`` ("model", "raw pixels"), ``attack`` (with ``norm`` and ``eps``) and operating
        ``point``, "fpir=0.01" with its ``target_fpir`` and ``threshold``. ``dir`` is the share of the probes of
        enrolled subjects that are accepted as who they are, ``fpir`` that of the probes of others that are accepted,
        both with the ends of their 95 % intervals; under attack those of probes that try to be missed, and to be taken
        for anyone. Figures that so few probes cannot support are None.
    curves : dict of str to IdentificationCurve
        Of clean probes.
    templates, metric : str
    calibrated : bool
        Whether thresholds are those of other probes.
    """

    rows: list[dict[str, Any]]
    curves: dict[str, IdentificationCurve]
    templates: str
    metric: str
    calibrated: bool

    def to_json(self) -> str:
        """Rows and curves as JSON; an infinite threshold is null."""
        document = {"templates": self.templates, "metric": self.metric, "calibrated": self.calibrated}
        document |= {"rows": finite_rows(self.rows)}
        curves = {name: json.loads(curve.to_json()) for name, curve in self.curves.items()}
        return json.dumps(document | {"curves": curves}, allow_nan=False)


@seeded(0)
def evaluate_identification(
    model: nn.Module | Callable[[Tensor], Any],
    probes: ImageSet,
    enrolled: ImageSet,
    *,
    templates: str = "nearest",
    metric: str = "euclidean",
    fpir: Sequence[float] = (0.1, 0.01),
    calibration: IdentificationResult | None = None,
    attacks: Iterable[Attack] = (),
    n_attacked: int = 500,
    batch_size: int = 256,
    with_pixels: bool = True,
    n_resamples: int = 1000,
    seed: int = 0,
) -> IdentificationResult:
    """Look for the subject of each probe among the enrolled, or answer that it is none of them.

    The answer is the subject at the least distance, if that is at most the threshold.

    Parameters
    ----------
    model : Module or callable
        Images (b, c, h, w) from 0 to 1 to embeddings (b, k).
    probes : ImageSet
        Of enrolled subjects, and of others: both are needed.
    enrolled : ImageSet
        One picture of each subject or several. None of the probes is among them.
    templates : {"nearest", "mean", "multi"}, default="nearest"
        What several pictures of a subject count for: the nearest of them, the mean of their embeddings, or the mean of
        the distances to them.
    metric : {"euclidean", "cosine", "normalized-euclidean"}, default="euclidean"
    fpir : sequence of float, default=(0.1, 0.01)
        False-positive identification rates that thresholds are chosen for.
    calibration : IdentificationResult, optional
        Thresholds are those that it found, on probes of other subjects. Without it they are chosen on these probes.
    attacks : iterable of Attack
        Each at its own ε. Probes of enrolled subjects try to be missed, those of others to be taken for anyone.
    n_attacked : int, default=500
        Probes of each kind that are attacked at most, drawn at random.
    batch_size, with_pixels, n_resamples, seed
        As of :func:`evaluate_verification`.

    Returns
    -------
    result : IdentificationResult

    Raises
    ------
    ArgumentError, ValueError
        If probes are of one kind only, a probe is an enrolled picture, or has its group; on a rate of 0; and as
        :func:`evaluate_verification`.

    Examples
    --------
    >>> values = torch.tensor([0.0, 0.1, 0.5, 0.9, 1.0]).reshape(5, 1, 1, 1)
    >>> probes = ImageSet(values[[1, 2, 4]], torch.tensor([0, 7, 1]))
    >>> result = evaluate_identification(nn.Flatten(), probes, ImageSet(values[[0, 3]], torch.tensor([0, 1])))
    >>> result.curves["model"].dir_at(0.1)
    1.0
    """
    targets = [check_far(rate, "fpir") for rate in fpir]
    chosen("templates", templates, TEMPLATES)
    require(n_attacked >= 1, "n_attacked", "must be at least 1", n_attacked)
    require(n_resamples >= 0, "n_resamples", "must not be negative", n_resamples)
    EmbeddingMetric(metric)
    if calibration is not None and (calibration.metric, calibration.templates) != (metric, templates):
        raise ArgumentError("calibration", f"must be of the metric {metric!r} with templates {templates!r}",
                            (calibration.metric, calibration.templates))  # fmt: skip
    attacks = list(attacks)
    asked = _apart(probes, enrolled)
    rows: list[dict[str, Any]] = []
    curves: dict[str, IdentificationCurve] = {}
    for subject, network in ({MODEL: model} | ({PIXELS: nn.Flatten()} if with_pixels else {})).items():
        gallery = _Enrolled(network, enrolled, templates, metric, batch_size)
        known = gallery.known(asked)
        found = gallery.identified(asked)
        curve = identification_curve(*found, known)
        curves[subject] = curve
        chosen_on = curve if calibration is None else calibration.curves[subject]
        least = claimable_far(min(chosen_on.n_unknown, curve.n_unknown))
        some = _drawn(known, n_attacked, seed)
        few = asked.select(torch.from_numpy(some))
        names = attack_names(attacks)
        for place, target in enumerate(targets):
            threshold = chosen_on.threshold_at(target) if target >= least else None
            told = {"subject": subject, "point": f"fpir={target:g}", "target_fpir": target, "threshold": threshold}
            outcomes: dict[tuple[Any, ...], tuple[ImageSet, NDArray[np.bool_]]] = {}
            if threshold is not None:
                outcomes[CLEAN, None, None] = asked, _outcome(*found, known, threshold)
                before = _outcome(found[0][some], found[1][some], known[some], threshold)
                if attacks and subject == MODEL and place == 0:
                    warn_of_attacks(gallery.attackable(threshold), few, attacks)
                for name, attack in zip(names, attacks):
                    moved = gallery.attacked(few, attack, threshold)
                    after = _outcome(*gallery.identified(few.with_images(moved)), known[some], threshold)
                    # A probe may stay as it is.
                    after = np.where(known[some], after & before, after | before)
                    outcomes[name, attack.ball.name, attack.ball.eps] = few, after
                for ball, those in by_ball(outcomes).items():
                    several = np.stack([outcome for _, outcome in those])
                    worst = np.where(known[some], several.all(axis=0), several.any(axis=0))
                    outcomes[(WORST, *ball)] = few, worst
            for (attack_name, norm, eps), (pictures, outcome) in outcomes.items() or [
                ((CLEAN, None, None), (asked, None))
            ]:
                row = {"attack": attack_name, "norm": norm, "eps": eps}
                rows.append(told | row | _rates(outcome, gallery.known(pictures), pictures, n_resamples, seed))
    return IdentificationResult(rows, curves, templates, metric, calibration is not None)


class _Enrolled:
    """Templates as a model sees them, and what it makes of probes."""

    def __init__(self, model: Any, enrolled: ImageSet, templates: str, metric: str, batch_size: int):
        self.model, self.batch_size = as_module(model), batch_size
        self.device = device_of(self.model)
        self.templates = Templates(
            embed(self.model, enrolled.images, batch_size, enrolled.kind), enrolled.labels, templates, metric
        )  # fmt: skip
        self.subjects = self.templates.subjects.cpu()

    def known(self, probes: ImageSet) -> NDArray[np.bool_]:
        """Which probes are of enrolled subjects."""
        return np.asarray(torch.isin(probes.labels.cpu(), self.subjects))

    def identified(self, probes: ImageSet) -> tuple[Array, NDArray[np.bool_]]:
        """Distance to the nearest subject, and whether that is the right one and no other is as near."""
        embeddings = embed(self.model, probes.images, self.batch_size, probes.kind)
        distances, right = [], []
        for rows in slices(len(probes), _BLOCK // max(len(self.templates.points), 1)):
            found = self.templates(embeddings[rows])
            nearest = found.amin(dim=1)
            own = probes.labels[rows].to(self.device)[:, None] == self.templates.subjects
            alone = (found == nearest[:, None]).sum(dim=1) == 1
            right.append((own.gather(1, found.argmin(dim=1)[:, None])[:, 0] & alone).cpu())
            distances.append(nearest.cpu())
        return np.asarray(torch.cat(distances)), np.asarray(torch.cat(right))

    def goal(self, probes: ImageSet, threshold: float, known: bool) -> Goal:
        if known:
            return MissedIdentification(probes.labels, self.templates, threshold)
        return FalseIdentification(self.templates, threshold)

    def attackable(self, threshold: float) -> Attackable:
        return Attackable(
            self.model, self.model, self.device, self.batch_size,
            lambda probes: FalseIdentification(self.templates, threshold),
        )  # fmt: skip

    def attacked(self, probes: ImageSet, attack: Attack, threshold: float) -> Tensor:
        """Probes as an attack leaves them."""
        known = self.known(probes)
        moved = probes.tensor().clone()
        for kind in (True, False):
            places = torch.from_numpy((known == kind).nonzero()[0])
            for rows in slices(len(places), self.batch_size):
                part = probes.select(places[rows])
                moved[places[rows]] = attack(
                    self.model, part.tensor().to(self.device), self.goal(part, threshold, kind)
                ).cpu()
        return moved


def _apart(probes: ImageSet, enrolled: ImageSet) -> ImageSet:
    """Probes with ids of their own; an error where one is enrolled itself."""
    found, _ = same_pictures(probes, enrolled)
    keys, enrolled_keys = exclusion_keys(found, enrolled)
    shared = torch.isin(keys.cpu(), enrolled_keys.cpu())
    if bool(shared.any()):
        what = "a group" if found.groups is not None else "a picture"
        raise ValueError(f"probe {int(shared.nonzero()[0])} has {what} in common with the enrolled: enrol others")
    return found


def _drawn(known: NDArray[np.bool_], n: int, seed: int) -> Indices:
    rng = np.random.default_rng(seed)
    parts = [kind.nonzero()[0] for kind in (known, ~known)]
    return np.concatenate([np.sort(rng.choice(part, min(n, len(part)), replace=False)) for part in parts])


def _outcome(distances: Array, right: NDArray[np.bool_], known: NDArray[np.bool_], t: float) -> NDArray[np.bool_]:
    """Known probes: accepted as who they are. Others: accepted."""
    return (distances <= t) & (right | ~known)


def _rates(
    outcome: NDArray[np.bool_] | None, known: NDArray[np.bool_], probes: ImageSet, n_resamples: int, seed: int
) -> dict[str, Any]:
    """DIR and FPIR, with intervals by resampling the subjects of the probes."""
    found: dict[str, Any] = dict.fromkeys(f"{name}{end}" for name in ("dir", "fpir") for end in ("", "_low", "_high"))
    for name, kind in (("dir", known), ("fpir", ~known)):
        if outcome is None:
            continue
        found[name] = float(outcome[kind].mean())
        if n_resamples:
            codes = np.unique(np.asarray(probes.labels.cpu())[kind], return_inverse=True)[1]
            total, hits = np.bincount(codes), np.bincount(codes, outcome[kind])
            draws = drawn_classes(len(total), n_resamples, seed, lambda drawn: True)
            low, high = np.quantile([(drawn @ hits) / (drawn @ total) for drawn in draws], [0.025, 0.975])
            found |= ends(name, found[name], {"low": float(low), "high": float(high)}, float(kind.sum()))
    return found | {"n_known": int(known.sum()), "n_unknown": int((~known).sum())}
