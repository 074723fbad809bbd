"""``certimetric explain``: what would have to change of each query for another prediction, under a metric of a file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from certimetric.cli.inputs import writable
from certimetric.cli.options import NEIGHBORS, Metric, Neighbors, Queries, Target, ThreatOption, Train, UnitsOption

if TYPE_CHECKING:
    from certimetric.attacks import ThreatModel
    from certimetric.certify import Counterfactuals
    from certimetric.cli.queries import Queries as Read

EPILOG = """Examples:

`certimetric explain wine.safetensors wine.csv new.csv`

`certimetric explain loans.safetensors loans.csv new.csv --wanted yes -n 3 --threat l1:increase=age,immutable=sex`"""

_SHOWN = 20  # queries that are told on the screen


def explain(
    metric: Metric,
    train: Train,
    queries: Queries,
    wanted: Annotated[
        str | None, typer.Option("--wanted", metavar="CLASS", help="The class to reach. [default: any other]")
    ] = None,
    threat: ThreatOption = "l1",
    n: Annotated[int, typer.Option("-n", "--n", metavar="N", help="Different changes for each query.")] = 1,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="CSV or JSON file to write.")] = Path(
        "changes.csv"
    ),
    target: Target = None,
    neighbors: Neighbors = NEIGHBORS,
    units: UnitsOption = None,
    time_limit: Annotated[
        float, typer.Option("--time-limit", metavar="SECONDS", help="For each change that is looked for.")
    ] = 1.0,
) -> None:
    """Find the smallest change of each query that can be made and gives it another class, in words.

    Nothing smaller does, with a proof. l1 changes few features.
    """
    from certimetric.attacks import ThreatModel
    from certimetric.base.files import write_atomically
    from certimetric.base.wording import listing
    from certimetric.cli.queries import read_queries

    if not time_limit > 0:
        raise ValueError(f"--time-limit must be a positive number of seconds, got {time_limit:g}")
    if n < 1:
        raise ValueError(f"-n must be at least 1, got {n}")
    model = ThreatModel.from_string(threat)
    writable("--out", out, metric, train, queries)
    read = read_queries(metric, train, queries, target, neighbors, model.norm, units)
    if wanted is not None and wanted not in read.classifier.classes_:
        raise ValueError(f"--wanted must be one of {listing(read.classifier.classes_)}, got {wanted!r}")
    found, lines = _explained(read, model, wanted, n, time_limit)
    write_atomically(out, found.to_json() if out.suffix == ".json" else found.to_frame().to_csv(index=False))
    for line in [*read.told, *lines, f"Changes: {out}"]:
        typer.echo(line)


def _explained(
    queries: Read, threat: ThreatModel, wanted: str | None, n: int, time_limit: float
) -> tuple[Counterfactuals, list[str]]:
    """The changes of queries, and what is told of them; a query that is a training row is predicted without itself."""
    from certimetric.base.wording import counted
    from certimetric.certify.counterfactuals import changes_of
    from certimetric.certify.radius import PredictedQueries, radii_of

    knn, names = queries.classifier, list(queries.X.columns)
    bound = replace(threat, norm=queries.norm).bind(len(names), names)
    asked = PredictedQueries.of(knn.reference_, np.ascontiguousarray(queries.X), knn.n_neighbors, exclude=queries.same)
    found = changes_of(asked, knn.classes_, bound, names, wanted, n, time_limit)
    radii = radii_of(asked, bound.norm.restrict(bound.mutable))
    lines: list[str] = []
    first = np.flatnonzero(np.diff(found.rows, prepend=-1))
    for row, entries in enumerate(np.split(np.arange(len(found)), first[1:])):
        if row == _SHOWN:
            lines.append(f"… and {len(radii) - row} more, which are in the file")
            break
        lines.append(f"Query {row}: {found.predicted[row]}, certified up to {radii[row]:.3g}")
        for entry in entries:
            line = found.in_words(entry)
            if found.found[entry]:
                doubt = "" if found.proven[entry] else ", not proven to be least"
                line = f"{found.labels[entry]} by {line} ({found.distances[entry]:.3g}{doubt})"
            kept = ", ".join(found.names[j] for j in found.kept[entry])
            lines.append(f"  {line}; with {kept} as it is" if kept else f"  {line}")
    of_first = found.found[first]
    told = f"{int(of_first.sum())} of {counted(len(first), 'prediction')} can be changed"
    if of_first.any():
        told += f", by {float(np.median(found.distances[first][of_first])):.3g} in the median ({queries.unit})"
    lines.append(told)
    if not found.proven.all():
        lines.append(f"{int((~found.proven).sum())} of {len(found)} are not proven: 'lower' is a lower bound for them")
    return found, lines
