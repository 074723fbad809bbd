"""Evidence about one calibrated metric: attacks against its certificates, DET curves under attack, its worst pairs."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from certimetric.attacks.pairs import PairAttack
from certimetric.auditing.verification.cells import verifier_of
from certimetric.auditing.verification.request import VerificationRequest, VerificationSplit
from certimetric.base.arrays import Array, Indices
from certimetric.base.threads import single_threaded
from certimetric.certify.rates import verification_curve
from certimetric.certify.verifier import PairVerifier
from certimetric.geometry import MahalanobisMetric
from certimetric.runs.key import Cell, told
from certimetric.runs.splits import ATTACK_STREAM, stream

PROTOCOL = "verification-evidence/1"
# Pairs of each kind, and thresholds of the DET curve. Under l1 and l∞ every change is a convex program.
N_ATTACKED, N_ATTACKED_PROGRAM = 200, 80
N_THRESHOLDS, N_THRESHOLDS_PROGRAM = 24, 12
N_PERTURBATIONS = 20
N_SHOWN = 4  # pairs of each kind that the page shows
N_CHANGES = 6
TOLERANCE = 1e-9  # covers the last digits of a distance alone


def evidence_cell(request: VerificationRequest, cell: Cell, eps: float) -> Cell:
    """What is examined of the metric of a cell: a cell too."""
    shape = request.data.image_shape
    further = {"cell": cell.key, "eps": eps, "image_shape": None if shape is None else list(shape)}
    return replace(cell, suite="verification evidence", protocol=PROTOCOL, parameters=further)


def compute_evidence(
    request: VerificationRequest, fitted: Mapping[str, tuple[Array, float | None]], eps: float, cell: Cell
) -> dict[str, Any]:
    """Attack the decisions of a metric, and tell its worst pairs.

    ``fitted`` holds by learner the metric in original units and its threshold, None for one that accepts nothing.
    Found are ``det`` and ``worst`` as in the document, ``attack`` and ``random`` with what the reliability checks
    count, and arrays of the attacked pairs: ``genuine``, ``accepted``, ``radii`` and ``attacks``, the smallest changes
    that were found.
    """
    with single_threaded(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        part = request.part(cell.split)
        components, threshold = fitted[cell.learner]
        verifier = verifier_of(
            request, MahalanobisMetric.from_components(components), part, -np.inf if threshold is None else threshold
        )
        return _examine(request, verifier, part, eps, cell.split)


def _examine(
    request: VerificationRequest, verifier: PairVerifier, part: VerificationSplit, eps: float, split: int
) -> dict[str, Any]:
    rng = stream(request.seed, split, ATTACK_STREAM)
    n = N_ATTACKED if request.norm.dual_order == 2 else N_ATTACKED_PROGRAM
    rows = np.concatenate([rng.permutation(np.flatnonzero(kind))[:n] for kind in (part.genuine, ~part.genuine)])
    genuine, pairs = part.genuine[rows], part.tuples(part.pairs[rows])
    decisions, radii = verifier.predict_with_radius(pairs)
    result = PairAttack()(verifier, pairs, threat=request.norm)
    inside = np.flatnonzero(np.isfinite(result.distances) & (result.distances < radii * (1 - TOLERANCE)))
    finite = np.isfinite(radii)
    return {
        "split": split,
        "attack": {
            "attacked": len(rows),
            "vulnerable": int(finite.sum()),
            "without_flip": int((finite & ~result.success).sum()),
            "inside": [
                {
                    "pair": part.pairs[rows[i]].tolist(),
                    "radius": told(radii[i]),
                    "distance": float(result.distances[i]),
                }
                for i in inside
            ],
        },
        "random": _perturb(request, verifier, part, part.pairs[rows], decisions, radii, rng),
        "det": _under_attack(request, verifier, part, rows, eps),
        "worst": [*_worst(request, verifier, part)],
        "genuine": genuine,
        "accepted": decisions == 1,
        "radii": radii,
        "attacks": result.distances,
    }


def _perturb(
    request: VerificationRequest,
    verifier: PairVerifier,
    part: VerificationSplit,
    pairs: Indices,
    decisions: Indices,
    radii: Array,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Random changes of probes as large as the certificate allows; where it allows any, ten standard deviations."""
    some = radii > 0
    probes, enrolled = (part.standardised[side] for side in pairs[some].T)
    sizes = np.where(np.isfinite(radii[some]), radii[some] * (1 - TOLERANCE), 10.0 * np.sqrt(probes.shape[1]))
    flipped: set[int] = set()
    for _ in range(N_PERTURBATIONS if len(probes) else 0):
        moved = probes + sizes[:, None] * request.norm.sample(rng, *probes.shape)
        flipped.update(np.flatnonzero(verifier.predict((moved, enrolled)) != decisions[some]).tolist())
    return {"perturbations": len(probes) * N_PERTURBATIONS, "flipped": pairs[some][sorted(flipped)].tolist()}


def _under_attack(
    request: VerificationRequest, verifier: PairVerifier, part: VerificationSplit, rows: Indices, eps: float
) -> dict[str, Any]:
    """Operating points of some pairs, clean, under the changes up to ε that attacks found, and certified against all.

    Of each threshold, dodging lowers TAR and impersonation raises FAR, both at once.
    """
    genuine, pairs = part.genuine[rows], part.tuples(part.pairs[rows])
    curve = verification_curve(verifier.pair_distance(pairs), genuine)
    n = N_THRESHOLDS if request.norm.dual_order == 2 else N_THRESHOLDS_PROGRAM
    chosen = np.searchsorted(curve.thresholds, curve.thinned(n).thresholds)
    # Between two distances: a pair that lies on a threshold has no smallest change.
    following = np.append(curve.thresholds[1:], 2.0 * curve.thresholds[-1])[chosen]
    thresholds = np.maximum(curve.thresholds[chosen], 0.0) / 2.0 + following / 2.0
    points: dict[str, Any] = {name: {"far": [], "tar": []} for name in ("clean", "attacked", "certified")}
    for threshold in thresholds:
        at = PairVerifier(verifier.metric_, float(threshold), norm=request.norm).fit()
        decisions, radii = at.predict_with_radius(pairs)
        accepted = decisions == 1
        found = PairAttack()(at, pairs, threat=request.norm).distances
        for name, turned in (
            ("clean", np.zeros(len(rows), dtype=bool)),
            ("attacked", found <= eps),
            ("certified", radii < eps),
        ):
            tar, far = rates_of(genuine, accepted, turned)
            points[name]["far"].append(far)
            points[name]["tar"].append(tar)
    return {"eps": eps, "pairs": len(rows), **points}


def rates_of(genuine: NDArray[np.bool_], accepted: NDArray[np.bool_], turned: NDArray[np.bool_]) -> tuple[float, float]:
    """TAR and FAR where the decisions that can be ``turned`` go against the system."""
    return float((accepted & ~turned)[genuine].mean()), float((accepted | turned)[~genuine].mean())


def _worst(request: VerificationRequest, verifier: PairVerifier, part: VerificationSplit) -> Sequence[dict[str, Any]]:
    """The genuine pairs that are farthest from each other and the impostor pairs that are nearest; and of those that
    are decided right, the ones that give way to the smallest change."""
    pairs = part.tuples(part.pairs)
    distances = verifier.pair_distance(pairs)
    decisions, radii = verifier.predict_with_radius(pairs)
    told_already: set[int] = set()
    found = []
    for name, kind, right in (("genuine", part.genuine, 1), ("impostor", ~part.genuine, -1)):
        extreme = np.flatnonzero(kind)[np.argsort(-right * distances[kind], kind="stable")][:N_SHOWN]
        told_already.update(extreme.tolist())
        held = np.flatnonzero(kind & (decisions == right) & np.isfinite(radii))
        held = held[np.argsort(radii[held], kind="stable")]
        held = held[~np.isin(held, list(told_already))][:N_SHOWN]
        for why, rows in (("extreme", extreme), ("fragile", held)):
            attack = PairAttack()(verifier, part.tuples(part.pairs[rows]), threat=request.norm) if len(rows) else None
            for i, row in enumerate(rows):
                assert attack is not None
                moved = attack.adversarial[i] if attack.success[i] else None
                found.append(
                    {
                        "kind": name,
                        "why": why,
                        "distance": float(distances[row]),
                        "accepted": bool(decisions[row] == 1),
                        "radius": told(radii[row]),
                        "attack_distance": told(attack.distances[i]) if attack.success[i] else None,
                        **_told_pair(request, part, part.pairs[row], moved),
                    }
                )
    return found


def _told_pair(
    request: VerificationRequest, part: VerificationSplit, pair: Indices, moved: Array | None
) -> dict[str, Any]:
    """Who the two are, and feature by feature (or as pictures) how they differ and what the attack makes of the probe.

    Features that the attack moves most come first; without an attack, those in which the two differ most.
    """
    probe, enrolled = (part.standardised[row] for row in pair)
    originals = [part.original[row] for row in pair]
    change = np.zeros_like(probe) if moved is None else moved - probe
    after = originals[0] + change * part.scale
    order = np.argsort(-np.abs(probe - enrolled if moved is None else change), kind="stable")[:N_CHANGES]
    shape = request.data.image_shape
    pictures = None
    if shape is not None:
        names = ("probe", "enrolled", "changed") if moved is not None else ("probe", "enrolled")
        pictures = {name: image.reshape(shape).tolist() for name, image in zip(names, (*originals, after))}
    return {
        "pair": pair.tolist(),
        "subjects": [request.classes[code] for code in request.codes[pair]],
        "features": [
            {
                "name": request.data.feature_names[j],
                "probe": float(originals[0][j]),
                "enrolled": float(originals[1][j]),
                "changed": None if moved is None else float(after[j]),
                "standardised": float(change[j]),
            }
            for j in order
        ],
        "pictures": pictures,
    }
