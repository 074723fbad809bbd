"""Attacks at the command line: what a chosen change of each query can do under a metric of a file."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from certimetric.attacks import ATTACKS, AttackResult, BestOf, ThreatModel
from certimetric.certify import CertifiedKNeighborsClassifier
from certimetric.cli.metrics import Queries, Told, base_rate, judged, table


def attack_queries(queries: Queries, threat: ThreatModel, attacks: list[str]) -> Told:
    """Attack queries under a threat model whose norm is that of the queries, and keep the nearest change of each."""
    attack = BestOf([ATTACKS[name]() for name in attacks])
    threat = replace(threat, norm=queries.norm)
    # With labels, what is wrong already needs no change.
    labels = None if queries.labels is None else np.array(queries.labels)
    result = attack(queries.classifier, queries.X, labels, threat)
    predicted = queries.classifier.predict(queries.X)
    names = list(queries.X.columns)
    columns: dict[str, Any] = judged(predicted, queries.labels) | {
        "success": result.success.astype(int),
        "distance": result.distances,
        "adversarial_prediction": result.labels,
    }
    columns |= {
        name if name not in columns else f"{name}_changed": result.adversarial[:, j] for j, name in enumerate(names)
    }
    return Told(table(columns), _lines(queries, threat, predicted, result))


def _lines(queries: Queries, threat: ThreatModel, predicted: Any, result: AttackResult) -> list[str]:
    within = "" if threat.eps is None else f" within ε = {threat.eps:g}"
    changed = "changed" if queries.labels is None else "wrong or changed"
    lines = [
        *queries.told,
        f"{int(result.success.sum())} of {len(predicted)} predictions {changed}{within} ({queries.unit})",
    ]
    if queries.labels is not None:
        right = predicted == np.array(queries.labels)
        lines.append(
            f"Accuracy {100 * right.mean():.1f} %, under attack {100 * (right & ~result.success).mean():.1f} %"
        )
        lines.append(base_rate(predicted, queries.labels, queries.training_labels))
    if n_same := int((queries.same >= 0).sum()):
        lines.append(
            f"{n_same} of {len(predicted)} queries are training rows and their own nearest neighbours: of new rows "
            f"fewer are right, and smaller changes will do"
        )
    moved = result.success & (result.distances > 0)
    if moved.any():
        bound = threat.bind(queries.X.shape[1], list(queries.X.columns))
        # What cannot be changed makes the certificate larger; bounds of features leave it as it is.
        certifier = CertifiedKNeighborsClassifier(
            queries.classifier.n_neighbors, metric=queries.classifier.metric_, norm=bound.norm.restrict(bound.mutable)
        ).fit(queries.classifier.X_, queries.classifier.y_)
        _, radii = certifier.predict_with_radius(queries.X.to_numpy()[moved])
        share = float(np.median(radii / result.distances[moved]))
        lines.append(
            f"Median smallest change found {float(np.median(result.distances[moved])):.3g}; "
            f"the median certificate reaches {100 * share:.1f} % of it"
        )
    return lines
