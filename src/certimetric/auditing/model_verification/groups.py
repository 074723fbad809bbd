"""Rates by the group of the probe: a threshold that is right on average may not be for one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from certimetric.auditing.model_verification.request import ModelVerificationRequest
from certimetric.certify.resampling import ClassCounts, drawn_classes

if TYPE_CHECKING:
    from certimetric.base.arrays import Array, Indices
    from certimetric.deep import ImageSet

KINDS = ("tar", "far", "far_within")
_RESAMPLES = 1000
_CLASSES = 128  # more subjects are resampled as so many random sets of them: memory grows with the square


def rates_by_group(
    request: ModelVerificationRequest, model: Any, images: ImageSet, groups: Indices, threshold: float
) -> list[dict[str, Any]]:
    """TAR and FAR of the probes of each group, the group with the least TAR first; FAR also against its own group.

    Either picture of a pair is the probe once. Intervals resample subjects; their ends are None where too few resamples
    hold any pair.
    """
    from certimetric.deep.verification.pair_index import PairIndex
    from certimetric.deep.verification.pairs import Pairs

    pairs = Pairs(images)
    index = PairIndex(model, pairs, request.metric)
    n, n_groups = min(pairs.n_subjects, _CLASSES), len(request.group_names)
    drawn_with = np.random.default_rng(request.seed).permutation(pairs.n_subjects) % n
    accepted, total = np.zeros((2, len(KINDS), n_groups))
    every, within = ([ClassCounts([threshold], n) for _ in range(n_groups)] for _ in range(2))
    for distances, *sides in pairs.distances(index.metric, index.probes, index.enrolled):
        hit = distances <= threshold
        for probe, other in (sides, sides[::-1]):
            same, own = pairs.codes[probe] == pairs.codes[other], groups[probe] == groups[other]
            for kind, rows in enumerate((same, ~same, ~same & own)):
                total[kind] += np.bincount(groups[probe[rows]], minlength=n_groups)
                accepted[kind] += np.bincount(groups[probe[rows & hit]], minlength=n_groups)
            classes = drawn_with[pairs.codes[probe]], drawn_with[pairs.codes[other]]
            kept = same | (classes[0] != classes[1])
            for code in np.unique(groups[probe]):
                rows = kept & (groups[probe] == code)
                every[code].add(distances[rows], classes[0][rows], classes[1][rows])
                rows &= own
                within[code].add(distances[rows], classes[0][rows], classes[1][rows])
    draws = drawn_classes(n, _RESAMPLES, request.seed, lambda _: True)
    rows = []
    for code, name in enumerate(request.group_names):
        resampled = (_resampled(every[code], draws, 1), _resampled(every[code], draws, 0))
        resampled = (*resampled, _resampled(within[code], draws, 0))
        told = {
            kind: _estimate(*numbers) for kind, *numbers in zip(KINDS, accepted[:, code], total[:, code], resampled)
        }
        rows.append({"group": name, **told, **{f"n_{kind}": int(of) for kind, of in zip(KINDS, total[:, code])}})
    return sorted(rows, key=lambda row: 2.0 if row["tar"]["mean"] is None else row["tar"]["mean"])


def _resampled(counts: ClassCounts, draws: list[Array], side: int) -> Array:
    """FAR (side 0) or TAR (side 1) of each resample that holds any pair."""
    with np.errstate(invalid="ignore"):
        found = np.array([counts.rates(drawn)[side][0] for drawn in draws])
    return found[np.isfinite(found)]


def _estimate(accepted: float, total: float, resampled: Array) -> dict[str, float | None]:
    from certimetric.deep.verification.pair_index import ends

    if not total:
        return dict.fromkeys(("mean", "low", "high"))
    mean = float(accepted / total)
    if len(resampled) < _RESAMPLES // 2:
        return {"mean": mean, "low": None, "high": None}
    low, high = np.quantile(resampled, [0.025, 0.975])
    told = ends("rate", mean, {"low": float(low), "high": float(high)}, float(total))
    return {"mean": mean, "low": told["rate_low"], "high": told["rate_high"]}
