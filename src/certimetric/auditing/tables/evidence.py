"""Evidence about one fitted metric: its fragile instances, attacks against its certificates, its anatomy."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from typing import Any

import numpy as np

from certimetric.attacks import AttackResult, ThreatModel
from certimetric.auditing.tables.cells import fitted_classifier
from certimetric.auditing.tables.feature_kinds import find_kinds
from certimetric.auditing.tables.request import Request
from certimetric.auditing.tables.robustness import Attacked, attack, exact, measure_robustness
from certimetric.auditing.tables.sizes import FRAGILE
from certimetric.base.arrays import Array, Indices
from certimetric.base.threads import limited_threads, single_threaded
from certimetric.certify import CertifiedKNeighborsClassifier, MinimalPerturbation
from certimetric.certify.exact.witnesses import PROVEN
from certimetric.geometry import MahalanobisMetric
from certimetric.runs.key import Cell, canonical, told
from certimetric.runs.splits import ATTACK_STREAM, Split, stream

PROTOCOL = "audit-evidence/6"
N_CHANGES = 8
N_HEAVIEST = 10
# Of the search for the exact change of each fragile instance, with more than one neighbour: not seconds, because the
# same seed shall give the same figures on a busy machine. Under l1 and l∞ every node is a linear programme.
FRAGILE_NODES, FRAGILE_NODES_LP = 1000, 100
_SEARCHED = 10_000  # training instances, of more of which there are fewer nodes
N_PERTURBATIONS = 20
# Certificates are rounded down and attacks are verified: this covers the last digits of a distance alone.
TOLERANCE = 1e-9


def evidence_cell(request: Request, cell: Cell) -> Cell:
    """What is examined of the metric of a cell: a cell too."""
    further = {
        "cell": cell.key,
        "image_shape": request.data.image_shape,
        "classes": list(request.classes),
        "attacked": request.sizes.attacked,
        **({} if request.features is None else {"features": canonical(asdict(request.features))}),
    }
    return replace(cell, suite="audit evidence", protocol=PROTOCOL, parameters=further)


def compute_evidence(request: Request, components: Mapping[str, Array], cell: Cell) -> dict[str, Any]:
    """Attack the certificates of a metric and tell its most fragile instances.

    ``components`` holds by learner the metric in original units. Found are ``fragile`` and ``robustness`` as in the
    audit document, ``attack`` and ``random`` with what the reliability checks count.
    """
    with single_threaded(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        metric = MahalanobisMetric.from_components(components[cell.learner])
        return examine(request, metric, request.part(cell.split), cell.split)


def examine(request: Request, metric: MahalanobisMetric, part: Split, split: int) -> dict[str, Any]:
    """The same of a metric in original units, on a split."""
    classifier = fitted_classifier(request, metric, part)
    predicted, radii = classifier.predict_with_radius(part.X_test)
    candidates = np.flatnonzero((predicted == request.codes[part.test]) & np.isfinite(radii))
    fragile = candidates[np.argsort(radii[candidates], kind="stable")][:FRAGILE]
    rng = stream(request.seed, split, ATTACK_STREAM)
    drawn = rng.permutation(len(part.test))[: request.sizes.attacked]
    rows = np.concatenate([fragile, np.setdiff1d(drawn, fragile)]).astype(np.int64)
    X = part.X_test[rows]
    found = attack(classifier, X, request.norm), exact(classifier, X)
    attacked = Attacked(request, classifier, part, rows, predicted[rows], radii[rows], *found)
    nodes = FRAGILE_NODES if request.norm.dual_order == 2 else FRAGILE_NODES_LP
    # Each may look at all training instances; and an audit that attacks few instances is a quick one.
    share = request.sizes.attacked / request.everything.attacked * _SEARCHED / max(len(part.train), _SEARCHED)
    nodes = max(int(nodes * share), 10)
    nearest = classifier.minimal_perturbation(X[: len(fragile)], time_limit=np.inf, node_limit=nodes)
    kept = _keeping_kinds(request, classifier, part, fragile)
    random = _perturb(attacked, rng)
    return {
        "split": split,
        "fragile": [{"split": split, **_tell(attacked, i, nearest, kept)} for i in range(len(fragile))],
        "attack": _attacks_against_certificates(attacked, nearest),
        "random": random,
        "robustness": measure_robustness(attacked.some(np.isin(rows, drawn)), rng),
    }


def _keeping_kinds(
    request: Request, classifier: CertifiedKNeighborsClassifier, part: Split, rows: Indices
) -> AttackResult | None:
    """Small changes of test instances, in original units, that keep whole numbers whole and categories categories.

    None where every feature is a number, and for pictures, whose pixels are shown as they are.
    """
    data = request.data
    if data.image_shape is not None or not len(rows):
        return None
    norm = request.norm.in_units(part.scale)
    threat = find_kinds(data.X, data.feature_names, data.imputed).threat(norm)
    if request.features is not None:
        threat = request.features.threat(threat or ThreatModel(norm), data.feature_names, data.columns)
    if threat is None:
        return None
    X = part.original[part.test[rows]]
    unscaled = CertifiedKNeighborsClassifier(
        request.n_neighbors, metric=classifier.metric_.compose(part.scale), norm=norm
    ).fit(part.original[part.train], request.codes[part.train])
    result = AttackResult(X, np.zeros(len(X), dtype=bool), np.full(len(X), np.inf), unscaled.predict(X))
    try:
        # A median that is no whole number stands where one was missing: nothing is told of such an instance.
        able = (threat.bind(X.shape[1]).repair(X, X) == X).all(axis=1)
    except ValueError:  # nothing that varies may change
        return result
    if able.any():
        found = attack(unscaled, X[able], threat)
        for field in fields(result):
            getattr(result, field.name)[able] = getattr(found, field.name)
    return result


def _attacks_against_certificates(attacked: Attacked, nearest: MinimalPerturbation) -> dict[str, Any]:
    """What the reliability checks count: certified ≤ exact ≤ attack must hold for every instance.

    ``nearest`` is about the first of them.
    """
    rows, radii, result = attacked.part.test[attacked.rows], attacked.radii, attacked.result
    bounds = [(radii, result.distances, "certified radius")]
    for found in (nearest,) if attacked.minimal is None else (nearest, attacked.minimal):
        some = slice(len(found.radii))
        # A radius that is proven is exact up to the tolerance of the proof: no attack can be nearer, and none may
        # change a prediction where the radius is infinite.
        exact_radius = np.where(found.proven, found.radii * (1 - PROVEN), 0.0)
        bounds += [
            (radii[some], found.radii, "certified radius"),
            (found.lower, result.distances[some], "proven lower bound"),
            (exact_radius, result.distances[some], "exact radius"),
        ]
    vulnerable = np.isfinite(radii)
    return {
        "attacked": len(rows),
        "vulnerable": int(vulnerable.sum()),
        "without_flip": int((vulnerable & ~result.success).sum()),
        "inside": [
            {"index": int(rows[i]), "radius": told(below[i]), "distance": float(above[i]), "bound": name}
            for below, above, name in bounds
            for i in np.flatnonzero(np.isfinite(above) & (above < below * (1 - TOLERANCE)))
        ],
    }


def _perturb(attacked: Attacked, rng: np.random.Generator) -> dict[str, Any]:
    """Random perturbations as large as the certificate allows; where it allows any, ten standard deviations."""
    attacked = attacked.some(attacked.radii > 0)
    rows, radii, X = attacked.part.test[attacked.rows], attacked.radii, attacked.X
    n, d = X.shape
    sizes = np.where(np.isfinite(radii), radii * (1 - TOLERANCE), 10.0 * np.sqrt(d))
    flipped: set[int] = set()
    for _ in range(N_PERTURBATIONS):
        moved = X + sizes[:, None] * attacked.request.norm.sample(rng, n, d)
        if n:
            flipped.update(rows[attacked.classifier.predict(moved) != attacked.predicted].tolist())
    return {"instances": n, "perturbations": n * N_PERTURBATIONS, "flipped": sorted(flipped)}


def _tell(attacked: Attacked, i: int, nearest: MinimalPerturbation, kept: AttackResult | None) -> dict[str, Any]:
    """A fragile instance as the report shows it: the nearest change, feature by feature.

    Where ``kept`` holds a change that keeps to the kinds of the features, that one is told: it may be larger.
    """
    request, classifier, part, result = attacked.request, attacked.classifier, attacked.part, attacked.result
    x, index, predicted = attacked.X[i], int(part.test[attacked.rows[i]]), int(attacked.predicted[i])
    moved, found, distance = result.adversarial[i], bool(result.success[i]), float(result.distances[i])
    witness = float(request.norm.norm(nearest.witnesses[i] - x))
    if nearest.verified[i] and witness < distance:
        moved, found, distance = nearest.witnesses[i], True, witness
    original = part.original[index]
    kinds_kept = None
    if found and kept is not None:
        could = x + (kept.adversarial[i] - original) / part.scale
        kinds_kept = bool(kept.success[i] and classifier.predict(could[None])[0] != predicted)
        if kinds_kept:
            moved, distance = could, min(distance, float(request.norm.norm(could - x)))
    change = moved - x
    after = kept.adversarial[i] if kinds_kept and kept is not None else original + change * part.scale
    shape, image = request.data.image_shape, None
    if shape is not None and found:
        image = {"original": original.reshape(shape).tolist(), "adversarial": after.reshape(shape).tolist()}
    changes = [
        {
            "name": request.data.feature_names[j],
            "before": float(original[j]),
            "after": float(after[j]),
            "unit": "original",
            "standardised": float(change[j]),
        }
        for j in np.argsort(-np.abs(change), kind="stable")[:N_CHANGES]
        if change[j] != 0
    ]
    return {
        "index": index,
        "label": request.classes[request.codes[index]],
        "predicted": request.classes[predicted],
        "radius": told(attacked.radii[i]),
        "attack_distance": distance if found else None,
        "exact_radius": told(nearest.radii[i]) if nearest.proven[i] else None,
        "adversarial_prediction": request.classes[int(classifier.predict(moved[None])[0])] if found else None,
        "changes": changes if found else [],
        "change_size": told(float(request.norm.norm(change))) if found else None,
        "kinds_kept": kinds_kept,
        "image": image,
        "neighbours_before": _neighbours(attacked, x),
        "neighbours_after": _neighbours(attacked, moved) if found else None,
    }


def _neighbours(attacked: Attacked, x: Array) -> list[str]:
    """Labels of the nearest training instances, in the very coordinates that the classifier predicts from."""
    request = attacked.request
    _, nearest = attacked.classifier.kneighbors(x[None], request.n_neighbors)
    return [request.classes[code] for code in request.codes[attacked.part.train][nearest[0]]]


def describe_metric(request: Request, cell: dict[str, Any], part: Split) -> dict[str, Any]:
    """Anatomy of the metric of a cell in standardised units: of the features that vary in the training part."""
    # A feature that never varied in training says nothing about the metric: learners leave its weight as it was.
    varies = np.flatnonzero(np.ptp(part.X_train, axis=0) > 0)
    if not len(varies):
        varies = np.arange(part.X_train.shape[1])
    metric = MahalanobisMetric.from_components((cell["components"] * part.scale)[:, varies])
    with limited_threads(len(varies)):
        spectrum = metric.spectrum()
    largest, d = float(spectrum[0]), metric.n_features
    spectrum = spectrum / largest if largest > 0 else np.zeros(d)
    rank = int((spectrum > d * np.finfo(float).eps).sum())
    weights = (metric.components**2).sum(axis=0)
    weights = weights / weights.sum() if largest > 0 else weights
    heaviest = np.argsort(-weights, kind="stable")[:N_HEAVIEST]
    return {
        "n_components": metric.n_components,
        "spectrum": spectrum.tolist(),
        "condition_number": float(1.0 / spectrum[-1]) if rank == d else None,
        "rank": rank,
        "features": [{"name": request.data.feature_names[varies[j]], "weight": float(weights[j])} for j in heaviest],
    }
