"""Evidence about one calibrated metric: attacks against its certificates, DET curves under attack, its worst pairs."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from certimetric.attacks.base import AttackResult
from certimetric.attacks.pairs import PairAttack
from certimetric.auditing.verification.cells import verifier_of
from certimetric.auditing.verification.request import VerificationRequest, VerificationSplit
from certimetric.base.arrays import Array, Indices
from certimetric.base.threads import single_threaded
from certimetric.certify.rates import verification_curve
from certimetric.certify.verifier import PairVerifier
from certimetric.constraints.tuples import Tuples
from certimetric.geometry import MahalanobisMetric
from certimetric.geometry.threat_models import ThreatModel
from certimetric.runs.key import Cell, canonical, told
from certimetric.runs.splits import ATTACK_STREAM, stream

PROTOCOL = "verification-evidence/2"
# Pairs of each kind, and thresholds of the DET curve. Under l1 and l∞ every change is a convex program, and within
# limits of values a search of seconds.
N_ATTACKED, N_ATTACKED_PROGRAM = 200, 80
N_THRESHOLDS, N_THRESHOLDS_PROGRAM, N_THRESHOLDS_SEARCH = 24, 12, 6
N_PERTURBATIONS = 20
N_SHOWN = 4  # pairs of each kind that the page shows
N_CHANGES = 6
TOLERANCE = 1e-9  # covers the last digits of a distance alone


def evidence_cell(request: VerificationRequest, cell: Cell, eps: float) -> Cell:
    """What is examined of the metric of a cell: a cell too."""
    further = {
        "cell": cell.key,
        "eps": eps,
        "image_shape": request.data.image_shape,
        "threat": told_threat(request),
    }
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
        metric = MahalanobisMetric.from_components(components)
        verifier = verifier_of(request, metric, part, -np.inf if threshold is None else threshold)
        return _examine(Attacker(request, part, metric), verifier, eps, cell.split)


def told_threat(request: VerificationRequest) -> Any:
    """The threat model as JSON values, None without one; its norm is told with the audit."""
    if (bound := request.bound) is None:
        return None
    return canonical([bound.low, bound.high, bound.mutable, bound.integer, *bound.one_hot])


@dataclass(frozen=True, eq=False)
class Attacker:
    """Attacks on decisions about pairs of a split, within the threat model of the audit.

    Parameters
    ----------
    request : VerificationRequest
    part : VerificationSplit
    metric : MahalanobisMetric
        In original units.
    """

    request: VerificationRequest
    part: VerificationSplit
    metric: MahalanobisMetric

    @property
    def sizes(self) -> tuple[int, int]:
        """Pairs of each kind to attack, and thresholds of the DET curve."""
        bound = self.request.bound
        if bound is not None and (bound.boxed or bound.discrete):
            return N_ATTACKED_PROGRAM, N_THRESHOLDS_SEARCH
        if self.request.norm.dual_order == 2:
            return N_ATTACKED, N_THRESHOLDS
        return N_ATTACKED_PROGRAM, N_THRESHOLDS_PROGRAM

    def __call__(self, verifier: PairVerifier, pairs: Indices) -> AttackResult:
        """Attack decisions of a verifier in standardised units about pairs of rows (m, 2); so are the results."""
        bound, part = self.request.bound, self.part
        if bound is None or not np.isfinite(verifier.threshold_):  # where none is accepted there is nothing to find
            return PairAttack()(verifier, part.tuples(pairs), threat=self.request.norm)
        threat = ThreatModel(
            bound.norm,
            bounds=((bound.low - part.mean) / part.scale, (bound.high - part.mean) / part.scale),
            immutable=np.flatnonzero(~bound.mutable).tolist(),
        )
        if not bound.discrete:
            return PairAttack()(verifier, part.tuples(pairs), threat=threat)
        # Whole numbers are whole in the units of the file alone; the size of changes stays what it was.
        norm = bound.norm.in_units(part.scale)
        threat = replace(
            threat,
            norm=norm,
            bounds=(bound.low, bound.high),
            integer=np.flatnonzero(bound.integer).tolist(),
            one_hot=[group.tolist() for group in bound.one_hot],
        )
        original = PairVerifier(self.metric, verifier.threshold_, norm=norm).fit()
        found = PairAttack()(original, Tuples(part.original, pairs), threat=threat)
        return replace(found, adversarial=(found.adversarial - part.mean) / part.scale)


def _examine(attacker: Attacker, verifier: PairVerifier, eps: float, split: int) -> dict[str, Any]:
    part, n = attacker.part, attacker.sizes[0]
    rng = stream(attacker.request.seed, split, ATTACK_STREAM)
    rows = np.concatenate([rng.permutation(np.flatnonzero(kind))[:n] for kind in (part.genuine, ~part.genuine)])
    genuine, pairs = part.genuine[rows], part.tuples(part.pairs[rows])
    decisions, radii = verifier.predict_with_radius(pairs)
    result = attacker(verifier, part.pairs[rows])
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
        "random": _perturb(attacker, verifier, part.pairs[rows], decisions, radii, rng),
        "det": _under_attack(attacker, verifier, rows, eps),
        "worst": [*_worst(attacker, verifier)],
        "genuine": genuine,
        "accepted": decisions == 1,
        "radii": radii,
        "attacks": result.distances,
    }


def _perturb(
    attacker: Attacker, verifier: PairVerifier, pairs: Indices, decisions: Indices, radii: Array, rng: Any
) -> dict[str, Any]:
    """Random changes of probes as large as the certificate allows; where it allows any, ten standard deviations."""
    some = radii > 0
    probes, enrolled = (attacker.part.standardised[side] for side in pairs[some].T)
    sizes = np.where(np.isfinite(radii[some]), radii[some] * (1 - TOLERANCE), 10.0 * np.sqrt(probes.shape[1]))
    flipped: set[int] = set()
    for _ in range(N_PERTURBATIONS if len(probes) else 0):
        moved = probes + sizes[:, None] * attacker.request.norm.sample(rng, *probes.shape)
        flipped.update(np.flatnonzero(verifier.predict((moved, enrolled)) != decisions[some]).tolist())
    return {"perturbations": len(probes) * N_PERTURBATIONS, "flipped": pairs[some][sorted(flipped)].tolist()}


def _under_attack(attacker: Attacker, verifier: PairVerifier, rows: Indices, eps: float) -> dict[str, Any]:
    """Operating points of some pairs, clean, under the changes up to ε that attacks found, and certified against all.

    Of each threshold, dodging lowers TAR and impersonation raises FAR, both at once.
    """
    part = attacker.part
    genuine, pairs = part.genuine[rows], part.tuples(part.pairs[rows])
    curve = verification_curve(verifier.pair_distance(pairs), genuine)
    n = attacker.sizes[1]
    chosen = np.searchsorted(curve.thresholds, curve.thinned(n).thresholds)
    # Between two distances: a pair that lies on a threshold has no smallest change.
    following = np.append(curve.thresholds[1:], 2.0 * curve.thresholds[-1])[chosen]
    thresholds = np.maximum(curve.thresholds[chosen], 0.0) / 2.0 + following / 2.0
    points: dict[str, Any] = {name: {"far": [], "tar": []} for name in ("clean", "attacked", "certified")}
    for threshold in thresholds:
        at = PairVerifier(verifier.metric_, float(threshold), norm=attacker.request.norm).fit()
        decisions, radii = at.predict_with_radius(pairs)
        accepted = decisions == 1
        # Of the others the rates know already; whether any gives way within its radius is looked at apart.
        left = (accepted == genuine) & (radii <= eps)
        found = np.full(len(rows), np.inf)
        if left.any():
            found[left] = attacker(at, part.pairs[rows[left]]).distances
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


def _worst(attacker: Attacker, verifier: PairVerifier) -> Sequence[dict[str, Any]]:
    """The genuine pairs that are farthest from each other and the impostor pairs that are nearest; and of those that
    are decided right, the ones that give way to the smallest change."""
    part = attacker.part
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
            attack = attacker(verifier, part.pairs[rows]) if len(rows) else None
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
                        **_told_pair(attacker, part.pairs[row], moved),
                    }
                )
    return found


def _told_pair(attacker: Attacker, pair: Indices, moved: Array | None) -> dict[str, Any]:
    """Who the two are, and feature by feature (or as pictures) how they differ and what the attack makes of the probe.

    Features that the attack moves most come first; without an attack, those in which the two differ most.
    """
    request, part = attacker.request, attacker.part
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
