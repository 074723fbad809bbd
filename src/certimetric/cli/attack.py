"""``certimetric attack``: what a chosen change of each query can do to its prediction, under a metric of a file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from certimetric.base.arguments import chosen
from certimetric.cli.inputs import words, writable
from certimetric.cli.options import NEIGHBORS, Metric, Neighbors, Queries, Target, ThreatOption, Train, UnitsOption
from certimetric.cli.tables import FeaturesOption, FileOptions, FractionsOption, with_table

if TYPE_CHECKING:
    from certimetric.attacks import AttackResult, ThreatModel
    from certimetric.cli.queries import Queries as Read

EPILOG = """Examples:

`certimetric attack wine.safetensors wine.csv new.csv`

`certimetric attack loans.safetensors loans.csv new.csv --threat l2:eps=1,immutable=age+sex,integer=children`

`certimetric attack digits.safetensors digits digits --threat linf:bounds=0..16 --units original`"""

_NAMES = ("region", "smoothed-vote", "hop-skip-jump")  # of attacks.ATTACKS, which help must not wait for
_DEFAULT = ("region", "smoothed-vote")


@with_table
def attack(
    metric: Metric,
    train: Train,
    queries: Queries,
    threat: ThreatOption = "l2",
    kind: Annotated[
        list[str] | None,
        typer.Option(
            "--attack",
            metavar=f"[{'|'.join(_NAMES)}]",
            help=f"The best counts. Repeat it for more, or separate them by commas. [default: {', '.join(_DEFAULT)}]",
        ),
    ] = None,
    features: FeaturesOption = None,
    fractions: FractionsOption = False,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="CSV file to write.")] = Path("attack.csv"),
    target: Target = None,
    *,
    files: FileOptions,
    neighbors: Neighbors = NEIGHBORS,
    units: UnitsOption = None,
) -> None:
    """Look for the smallest change of each query that alters its prediction, within what an attacker may change.

    Features that are whole numbers in all training rows stay so, and of the features of a category one is 1.
    """
    from certimetric.attacks import ATTACKS, FeatureRules, ThreatModel
    from certimetric.cli.queries import kept_whole, read_queries, tell

    kinds = words(kind) if kind else list(_DEFAULT)
    for name in kinds or [""]:
        chosen("--attack", name, ATTACKS)
    model = ThreatModel.from_string(threat)
    rules = FeatureRules() if features is None else FeatureRules.read(features)
    writable("--out", out, metric, train, queries, features)
    read = read_queries(metric, train, queries, target, neighbors, model.norm, units, files.reading())
    model = kept_whole(read, model, rules, fractions)
    tell(out, "Changed queries", *_attacked(read, model, kinds, fractions))


def _attacked(
    queries: Read, threat: ThreatModel, kinds: list[str], fractions: bool
) -> tuple[dict[str, Any], list[str]]:
    """Attack queries under a threat model whose norm is that of the queries, and keep the nearest change of each."""
    from certimetric import attacks
    from certimetric.cli.queries import judged

    attack = attacks.BestOf([attacks.ATTACKS[name]() for name in kinds])
    threat = replace(threat, norm=queries.norm)
    # With labels, what is wrong already needs no change.
    labels = None if queries.labels is None else np.array(queries.labels)
    result = attack(queries.classifier, queries.X, labels, threat)
    predicted = queries.classifier.predict(queries.X)
    columns: dict[str, Any] = judged(predicted, queries.labels) | {
        "success": result.success.astype(int),
        "distance": result.distances,
        "adversarial_prediction": result.labels,
    }
    lines = _lines(queries, threat, predicted, result)
    changed: dict[str, Any] = {name: result.adversarial[:, j] for j, name in enumerate(queries.X.columns)}
    if queries.encoder is not None and not fractions:  # as the columns of the files
        table = queries.encoder.decode(result.adversarial)
        again = queries.classifier.predict(queries.encoder.transform(table)[0])
        if n := int((result.success & (again != result.labels)).sum()):
            # A gap stays a gap while the value in its place moves, a date is written to the second.
            lines.append(f"Read again as cells, {n} of them would be predicted otherwise: --fractions writes features")
        changed = {str(name): table[name].map(lambda cell: "" if cell is None else cell) for name in table.columns}
    columns |= {name if name not in columns else f"{name}_changed": values for name, values in changed.items()}
    return columns, lines


def _lines(queries: Read, threat: ThreatModel, predicted: Any, result: AttackResult) -> list[str]:
    from certimetric.certify import CertifiedKNeighborsClassifier
    from certimetric.cli.queries import base_rate

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
        lines.append(base_rate(predicted, queries.labels, queries.classifier.y_))
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
