"""Pairs as the report shows them: the worst that a model tells apart, and the worst that attacks make of others."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from certimetric.auditing.model_verification.request import ModelVerificationRequest
from certimetric.auditing.retrieval.drawing import before_and_after, on_one_scale
from certimetric.auditing.retrieval.ranking import class_name
from certimetric.report.pictures import images as as_png

if TYPE_CHECKING:
    from certimetric.base.arrays import Indices
    from certimetric.certify.rates import VerificationCurve
    from certimetric.deep import ImageSet
    from certimetric.deep.verification import AttackedPairs

N_SHOWN = 4  # of each kind


def extreme_pairs(
    request: ModelVerificationRequest, images: ImageSet, found: Mapping[str, Any], threshold: float
) -> Iterator[dict[str, Any]]:
    """The genuine pairs that are farthest apart and the impostor pairs that are nearest, with their pictures."""
    for kind, pairs in found.items():
        for distance, *rows in pairs[:N_SHOWN]:
            sides = dict(zip(("probe", "enrolled"), images.select(torch.tensor(rows)).tensor()))
            yield {
                "kind": kind,
                "why": "extreme",
                "distance": distance,
                "accepted": distance <= threshold,
                "radius": None,
                "attack_distance": None,
                "pair": rows,
                "subjects": _names(request, images, rows),
                "features": [],
                "pictures": on_one_scale(sides, images.kind.pictures),
            }


def attacked_pairs(
    request: ModelVerificationRequest,
    model: Any,
    images: ImageSet,
    after: AttackedPairs,
    curve: VerificationCurve,
    threshold: float,
) -> Iterator[dict[str, Any]]:
    """What attacks at the quoted ε make of the probes of pairs that are decided rightly; of each the worst attack.

    ``after`` are the pairs of the audit after those attacks: the ones that were carried farthest are attacked again,
    for their pictures. ``curve`` has all clean pairs. Nothing is shown where no distance is accepted.
    """
    if not math.isfinite(threshold):
        return
    from certimetric.deep.verification.evaluation import thresholds_of
    from certimetric.deep.verification.pair_index import PairIndex
    from certimetric.deep.verification.pairs import Pairs

    chosen = _farthest(after, threshold)
    if not len(chosen):
        return
    listed, genuine, clean = after.pairs[chosen], after.genuine[chosen], after.clean[chosen]
    rows, places = np.unique(listed, return_inverse=True)
    some, pairs = images.select(torch.from_numpy(rows)), places.reshape(listed.shape)
    originals = some.tensor()
    index = attacker = PairIndex(model, Pairs(some), request.metric)
    seen = threshold
    if request.surrogate is not None:
        attacker = PairIndex(request.surrogate.model, Pairs(some), request.metric)
        seen = thresholds_of(PairIndex(request.surrogate.model, Pairs(images), request.metric), curve, [threshold])[0]
    # What is no worse stays as it is: the attacker need not change the probe.
    tried = [("", originals[torch.from_numpy(pairs[:, 0])], clean)]
    for attack in request.make_attacks(request.report_eps):
        moved = attacker.attacked(pairs, attack, seen)
        tried.append((type(attack).__name__, moved, index.distances(pairs, index.placed(moved))))
    reached = np.stack([distances for _, _, distances in tried])
    worst = np.where(genuine, reached, -reached).argmax(axis=0)
    for i, (pair, (probe, enrolled)) in enumerate(zip(listed.tolist(), pairs)):
        name, changed, distances = tried[worst[i]]
        yield {
            "kind": "genuine" if genuine[i] else "impostor",
            "attack": name,
            "pair": pair,
            "subjects": _names(request, images, pair),
            "distance": float(clean[i]),
            "attacked_distance": float(distances[i]),
            "threshold": float(threshold),
            "broken": bool((distances[i] <= threshold) != genuine[i]),
            **before_and_after(originals[probe], changed[i], images.kind.pictures).told(),
            **as_png(on_one_scale({"enrolled": originals[enrolled]}, images.kind.pictures)),
        }


def _farthest(after: AttackedPairs, threshold: float) -> Indices:
    """Of each kind the rows of pairs decided rightly that end farthest on the wrong side."""
    found = []
    for kind, away in ((after.genuine, 1.0), (~after.genuine, -1.0)):
        rows = np.flatnonzero(kind & ((after.clean <= threshold) == after.genuine))
        found.append(rows[np.argsort(-away * after.distances[rows], kind="stable")[:N_SHOWN]])
    return np.concatenate(found)


def _names(request: ModelVerificationRequest, images: ImageSet, rows: list[int]) -> list[str]:
    return [class_name(request.class_names, int(images.labels[row])) for row in rows]
