"""Figures of an audit of verification from its cells: rates with intervals over subjects, curves, groups."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from certimetric.auditing.tables.summary import interval
from certimetric.auditing.verification.request import VerificationRequest, VerificationSplit
from certimetric.base.arrays import Array, Indices
from certimetric.base.results import finite
from certimetric.certify.rates import VerificationCurve, claimable_far, verification_curve

Flags = NDArray[np.bool_]
# Of flags of the test pairs of each finished split, and of those among which the share is taken: see `Rates.estimate`.
Estimate = Callable[[Sequence[Flags], Sequence[Flags]], dict[str, Any]]
N_RESAMPLES = 400
RESAMPLE_STREAM = 4
N_BINS = 40
# Of impostor and of genuine pairs, at which DET curves of several splits are averaged.
DET_RATES = np.geomspace(1e-5, 1.0, 41)
_WEIGHED = 2**22  # weights that are held at once


@dataclass(frozen=True, eq=False)
class Decided:
    """The test pairs of one finished split of a learner, and what its threshold makes of them."""

    part: VerificationSplit
    cell: dict[str, Any]

    @property
    def threshold(self) -> float:
        return -np.inf if self.cell["threshold"] is None else float(self.cell["threshold"])

    @property
    def genuine(self) -> Flags:
        return self.part.genuine

    @cached_property
    def accepted(self) -> Flags:
        return np.asarray(self.cell["distances"] <= self.threshold)

    @property
    def radii(self) -> Array:
        return np.asarray(self.cell["radii"])

    @cached_property
    def dodged(self) -> Array:
        """How far dodging has to go for each genuine pair that is accepted, at least."""
        return self.radii[self.accepted & self.genuine]

    @cached_property
    def curve(self) -> VerificationCurve:
        return verification_curve(self.cell["distances"], self.genuine)

    @cached_property
    def calibration(self) -> VerificationCurve:
        return verification_curve(self.cell["calibration"], self.part.calibration_genuine)

    def accepted_at(self, far: float) -> Flags:
        """Pairs that are accepted at the threshold that was calibrated to a false accept rate."""
        return np.asarray(self.cell["distances"] <= self.calibration.threshold_at(far))


class Rates:
    """Shares of test pairs over splits, with intervals by resampling classes.

    A resample draws classes with replacement for all splits at once; a pair of two classes drawn v and w times counts
    v·w times, one within a class drawn w times w times. The figure is the mean over splits, as that of all classes is.

    Parameters
    ----------
    codes : int array of shape (n,)
        Classes of all instances.
    parts : sequence of VerificationSplit
    seed : int
    """

    def __init__(self, codes: Indices, parts: Sequence[VerificationSplit], seed: int):
        tested = np.unique(np.concatenate([codes[part.test] for part in parts]))
        rng = np.random.default_rng([seed, 0, RESAMPLE_STREAM])
        draws = np.zeros((N_RESAMPLES, int(codes.max()) + 1))
        draws[:, tested] = rng.multinomial(len(tested), np.full(len(tested), 1.0 / len(tested)), size=N_RESAMPLES)
        self.draws = draws
        self.cells = []
        for part in parts:
            sides = np.sort(codes[part.pairs], axis=1)
            between, cell = np.unique(sides[:, 0] * len(draws[0]) + sides[:, 1], return_inverse=True)
            self.cells.append((*np.divmod(between, len(draws[0])), cell))

    def estimate(self, places: Sequence[int], of: Sequence[Flags], among: Sequence[Flags]) -> dict[str, Any]:
        """Share ``of`` the pairs ``among`` which it is taken, for the splits at these places.

        Returns
        -------
        estimate : dict
            ``mean``, ``low``, ``high``; all None where there are no such pairs. The ends are None where too few
            resamples hold any.
        """
        values, resampled = [], []
        for place, hit, kind in zip(places, of, among):
            first, second, cell = self.cells[place]
            total, found = (
                np.bincount(cell[flags], minlength=len(first)).astype(float) for flags in (kind, kind & hit)
            )
            if not total.sum():
                continue
            values.append(found.sum() / total.sum())
            kept = total > 0
            resampled.append(self._shares(first[kept], second[kept], total[kept], found[kept]))
        if not values:
            return {"mean": None, "low": None, "high": None}
        means = np.ma.masked_invalid(np.stack(resampled)).mean(axis=0).compressed()
        mean = float(np.mean(values))
        if len(means) < N_RESAMPLES // 2:
            return {"mean": mean, "low": None, "high": None}
        low, high = np.quantile(means, (0.025, 0.975))
        # The percentiles of few classes may leave the figure itself out by rounding.
        return {"mean": mean, "low": min(float(low), mean), "high": max(float(high), mean)}

    def _shares(self, first: Indices, second: Indices, total: Array, hit: Array) -> Array:
        found = np.empty(len(self.draws))
        step = max(1, _WEIGHED // len(first))
        for start in range(0, len(found), step):
            some = self.draws[start : start + step]
            weights = some[:, first] * np.where(first == second, 1.0, some[:, second])
            with np.errstate(invalid="ignore"):
                found[start : start + step] = (weights @ hit) / (weights @ total)
        return found


def operating_points(
    request: VerificationRequest, estimate: Estimate, decided: Sequence[Decided]
) -> list[dict[str, Any]]:
    """For each false accept rate: thresholds, what they accept of the test pairs, and whether so few pairs show it."""
    return [
        {
            "target": far,
            "thresholds": [finite(each.calibration.threshold_at(far)) for each in decided],
            "tar": estimate([each.accepted_at(far) for each in decided], [each.genuine for each in decided]),
            "far": estimate([each.accepted_at(far) for each in decided], [~each.genuine for each in decided]),
            "claimable": far >= max(claimable_far(each.calibration.n_impostor) for each in decided),
        }
        for far in request.rates
    ]


def certified(estimate: Estimate, decided: Sequence[Decided], eps: float) -> dict[str, dict[str, Any]]:
    """TAR that no dodging up to ε takes away, and FAR that no impersonation up to ε exceeds."""
    stands = [each.radii >= eps for each in decided]
    genuine = [each.genuine for each in decided]
    held = [each.accepted & sure for each, sure in zip(decided, stands)]
    won = [each.accepted | ~sure for each, sure in zip(decided, stands)]
    return {
        "tar": estimate(held, genuine),
        "far": estimate(won, [~kind for kind in genuine]),
    }


def summarise(
    request: VerificationRequest, estimate: Estimate, decided: Sequence[Decided], eps: Sequence[float]
) -> dict[str, Any] | None:
    """Figures over the splits that finished; None if there are none."""
    if not decided:
        return None
    points = operating_points(request, estimate, decided)
    quoted = next(point for point in points if point["target"] == request.far)
    return {
        "tar": quoted["tar"],
        "far": quoted["far"],
        # The threshold of this one is of the test pairs themselves, as those of areas are: it compares metrics.
        "tar_matched": estimate(
            [np.asarray(each.cell["distances"] <= each.curve.threshold_at(request.far)) for each in decided],
            [each.genuine for each in decided],
        ),
        "auc": interval([each.curve.auc for each in decided], share=True),
        "eer": interval([each.curve.eer for each in decided], share=True),
        "fit_seconds": interval([each.cell["fit_seconds"] for each in decided]),
        "operating_points": points,
        "certified": [{"eps": size, **certified(estimate, decided, size)} for size in eps],
    }


def tell_split(cell: dict[str, Any], decided: Decided | None) -> dict[str, Any]:
    """One split of one learner as the document has it."""
    if decided is None:
        return {"split": cell["split"], "failed": cell["failed"]}
    kept = ("split", "n_train", "threshold", "fit_seconds", "n_iter")
    far, tar = (float(decided.accepted[kind].mean()) for kind in (~decided.genuine, decided.genuine))
    return {key: cell[key] for key in kept} | {"tar": tar, "far": far, "auc": decided.curve.auc}


def det(curves: Sequence[VerificationCurve]) -> dict[str, Any] | None:
    """False reject rate at false accept rates, mean over splits, as far down as the impostor pairs go."""
    if not curves:
        return None
    least = 1.0 / min(curve.n_impostor for curve in curves)
    rates = [float(far) for far in DET_RATES if far >= least]
    return {"far": rates, "frr": [float(np.mean([1.0 - curve.tar_at(far) for curve in curves])) for far in rates]}


def histogram(decided: Decided) -> dict[str, Any]:
    """Genuine and impostor distances of a split, in shares of each, in bins from 0 to beyond most of them."""
    distances = decided.cell["distances"]
    end = float(np.quantile(distances, 0.995, method="inverted_cdf")) or float(distances.max()) or 1.0
    edges = np.linspace(0.0, end, N_BINS + 1)
    clipped = np.minimum(distances, end)  # the last bin has what is beyond
    kinds = {"genuine": decided.genuine, "impostor": ~decided.genuine}
    shares = {name: np.histogram(clipped[kind], edges)[0] / kind.sum() for name, kind in kinds.items()}
    threshold = decided.cell["threshold"]
    return {"edges": edges.tolist(), "threshold": threshold} | {name: share.tolist() for name, share in shares.items()}


def groups(request: VerificationRequest, estimate: Estimate, decided: Sequence[Decided]) -> list[dict[str, Any]]:
    """TAR and FAR of the probes of each group, the group with the least TAR first; FAR also against its own group."""
    if request.groups is None or not decided:
        return []
    rows = []
    for code, name in enumerate(request.group_names):
        sides = [request.groups[each.part.pairs] == code for each in decided]
        accepted = [each.accepted for each in decided]
        kinds = {
            "tar": [side[:, 0] & each.genuine for side, each in zip(sides, decided)],
            "far": [side[:, 0] & ~each.genuine for side, each in zip(sides, decided)],
            "far_within": [side.all(axis=1) & ~each.genuine for side, each in zip(sides, decided)],
        }
        told = {key: estimate(accepted, among) for key, among in kinds.items()}
        counts = {f"n_{key}": int(sum(map(np.sum, among))) for key, among in kinds.items()}
        rows.append({"group": name, **told, **counts})
    return sorted(rows, key=lambda row: 2.0 if row["tar"]["mean"] is None else row["tar"]["mean"])
