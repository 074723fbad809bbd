"""``certimetric certify``: predictions of a metric of a file, and the size of change that each withstands."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from certimetric.cli.inputs import writable
from certimetric.cli.options import NEIGHBORS, Metric, Neighbors, NormOption, Queries, Target, Train, UnitsOption
from certimetric.cli.tables import FileOptions, with_table

if TYPE_CHECKING:
    from certimetric.base.arrays import Array
    from certimetric.certify import MinimalPerturbation
    from certimetric.cli.queries import Queries as Read

_TIME_LIMIT = 1.0
EPILOG = "Example: `certimetric certify wine.safetensors wine.csv new.csv -o radii.csv`"


@with_table
def certify(
    metric: Metric,
    train: Train,
    queries: Queries,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="CSV file to write.")] = Path("radii.csv"),
    target: Target = None,
    *,
    files: FileOptions,
    neighbors: Neighbors = NEIGHBORS,
    norm: NormOption = "l2",
    units: UnitsOption = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Find the exact smallest change of each query as well.")
    ] = False,
    time_limit: Annotated[
        float, typer.Option("--time-limit", metavar="SECONDS", help="For --exact, each query, with -k above 1.")
    ] = _TIME_LIMIT,
) -> None:
    """Predict queries by their nearest training instances, with the size of change that each prediction withstands.

    With --exact also the smallest change that alters it: the certificate is a lower bound of that.
    """
    from certimetric.cli.queries import read_queries, tell

    if not exact and time_limit != _TIME_LIMIT:
        raise ValueError("--time-limit is that of a search for exact changes: it needs --exact")
    if not time_limit > 0:
        raise ValueError(f"--time-limit must be a positive number of seconds, got {time_limit:g}")
    writable("--out", out, metric, train, queries)
    read = read_queries(metric, train, queries, target, neighbors, norm, units, files.reading())
    tell(out, "Radii", *_certified(read, time_limit if exact else None))


def _certified(queries: Read, time_limit: float | None) -> tuple[dict[str, Any], list[str]]:
    """Predict and certify queries; with a time limit, look for their exact smallest changes too.

    A query that is a training row is predicted without itself.
    """
    from certimetric.certify.exact.minimal import smallest_changes
    from certimetric.certify.radius import PredictedQueries, bound_radii
    from certimetric.cli.queries import judged

    knn, X = queries.classifier, np.ascontiguousarray(queries.X)
    codes, radii = bound_radii(knn.reference_, X, knn.n_neighbors, queries.norm, exclude=queries.same)
    predicted = knn.classes_[codes]
    columns: dict[str, Any] = judged(predicted, queries.labels) | {"radius": radii}
    lines = queries.told + _lines(queries, predicted, radii)
    if n_same := int((queries.same >= 0).sum()):
        lines.append(
            f"{n_same} of {len(X)} queries are training rows: each was predicted without itself (leave-one-out)"
        )
    if time_limit is not None:
        asked = PredictedQueries.of(knn.reference_, X, knn.n_neighbors, exclude=queries.same)
        found = smallest_changes(asked, queries.norm, time_limit=time_limit)
        columns |= {"exact": found.radii, "proven_at_least": found.lower, "proven": found.proven.astype(int)}
        lines += _exact_lines(radii, found, queries.unit)
    return columns, lines


def _exact_lines(radii: Array, found: MinimalPerturbation, unit: str) -> list[str]:
    lines = [f"Median smallest change {float(np.median(found.radii)):.3g} ({unit})"]
    known = np.isfinite(found.radii) & (found.radii > 0)
    if known.any():
        share = float(np.median(radii[known] / found.radii[known]))
        lines[0] += f"; the median certificate reaches {100 * share:.1f} % of it"
    if not found.proven.all():
        lines.append(
            f"{int((~found.proven).sum())} of {len(radii)} are not proven within the time limit: "
            f"for them 'exact' is an upper bound and 'proven_at_least' a lower one"
        )
    return lines


def _lines(queries: Read, predicted: Any, radii: Array) -> list[str]:
    from certimetric.cli.queries import base_rate

    median = float(np.median(radii))
    lines = [f"{len(radii)} predictions, median certified radius {median:.3g} ({queries.unit})"]
    if queries.labels is not None:
        right = predicted == np.array(queries.labels)
        lines += [f"Accuracy {100 * right.mean():.1f} %", base_rate(predicted, queries.labels, queries.classifier.y_)]
        finite = radii[np.isfinite(radii) & right]
        if len(finite) and finite.max() > 0:
            # Half of the right predictions, a tenth and all but a tenth: three radii that tell the curve.
            tenths = np.quantile(finite, (0.1, 0.5, 0.9), method="lower")
            for eps in dict.fromkeys(float(f"{radius:.2g}") for radius in tenths):
                share = (right & (radii >= eps)).mean()
                lines.append(f"Certified accuracy {100 * share:.1f} % at ε = {eps:g}")
    return (
        lines if math.isfinite(median) else [*lines, "An infinite radius: no change of the input can change the label"]
    )
