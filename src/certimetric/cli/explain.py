"""``certimetric explain``: what would have to change of each query for another prediction, under a metric of a file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from certimetric.cli.inputs import writable
from certimetric.cli.options import NEIGHBORS, Metric, Neighbors, Queries, Target, ThreatOption, Train, UnitsOption
from certimetric.cli.tables import FeaturesOption, FileOptions, FractionsOption, with_table

if TYPE_CHECKING:
    from certimetric.attacks import ThreatModel
    from certimetric.certify import Counterfactuals
    from certimetric.cli.queries import Queries as Read

EPILOG = """Examples:

`certimetric explain wine.safetensors wine.csv new.csv`

`certimetric explain loans.safetensors loans.csv new.csv --wanted yes -n 3 --threat l1:increase=age,immutable=sex`"""

_SHOWN = 20  # queries that are told on the screen


@with_table
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
    features: FeaturesOption = None,
    fractions: FractionsOption = False,
    target: Target = None,
    *,
    files: FileOptions,
    neighbors: Neighbors = NEIGHBORS,
    units: UnitsOption = None,
    time_limit: Annotated[
        float, typer.Option("--time-limit", metavar="SECONDS", help="For each change that is looked for.")
    ] = 1.0,
) -> None:
    """Find the smallest change of each query that can be made and gives it another class, in words.

    Nothing smaller does, with a proof. l1 changes few features. Those that are whole numbers in all training rows stay
    so, and of the features of a category one is 1.
    """
    from certimetric.attacks import FeatureRules, ThreatModel
    from certimetric.base.files import write_atomically
    from certimetric.base.wording import listing
    from certimetric.cli.queries import kept_whole, read_queries

    if not time_limit > 0:
        raise ValueError(f"--time-limit must be a positive number of seconds, got {time_limit:g}")
    if n < 1:
        raise ValueError(f"-n must be at least 1, got {n}")
    model = ThreatModel.from_string(threat)
    rules = FeatureRules() if features is None else FeatureRules.read(features)
    writable("--out", out, metric, train, queries, features)
    read = read_queries(metric, train, queries, target, neighbors, model.norm, units, files.reading())
    if wanted is not None and wanted not in read.classifier.classes_:
        raise ValueError(f"--wanted must be one of {listing(read.classifier.classes_)}, got {wanted!r}")
    found, words, lines = _explained(read, kept_whole(read, model, rules, fractions), wanted, n, time_limit)
    table = found.to_frame().assign(change=words).to_csv(index=False)
    write_atomically(out, found.to_json() if out.suffix == ".json" else table)
    for line in [*read.told, *lines, f"Changes: {out}"]:
        typer.echo(line)


def _explained(
    queries: Read, threat: ThreatModel, wanted: str | None, n: int, time_limit: float
) -> tuple[Counterfactuals, list[str], list[str]]:
    """The changes of queries, and what is told of them; a query that is a training row is predicted without itself."""
    from certimetric.base.wording import counted
    from certimetric.certify.counterfactuals import changes_of
    from certimetric.certify.radius import PredictedQueries, radii_of

    knn, names = queries.classifier, list(queries.X.columns)
    bound = replace(threat, norm=queries.norm).bind(len(names), names)
    asked = PredictedQueries.of(knn.reference_, np.ascontiguousarray(queries.X), knn.n_neighbors, exclude=queries.same)
    found = changes_of(asked, knn.classes_, bound, names, wanted, n, time_limit)
    radii = radii_of(asked, bound.norm.restrict(bound.mutable))
    words = _in_words(queries, found)
    lines: list[str] = []
    first = np.flatnonzero(np.diff(found.rows, prepend=-1))
    for row, entries in enumerate(np.split(np.arange(len(found)), first[1:])):
        if row == _SHOWN:
            lines.append(f"… and {len(radii) - row} more, which are in the file")
            break
        lines.append(f"Query {row}: {found.predicted[row]}, certified up to {radii[row]:.3g}")
        for entry in entries:
            line = words[entry]
            if found.found[entry]:
                doubt = "" if found.proven[entry] else ", not proven to be least"
                line = f"{found.labels[entry]} by {line} ({found.distances[entry]:.3g}{doubt})"
            kept = ", ".join(found.names[j] for j in found.kept[entry])
            lines.append(f"  {line}; with {kept} as it is" if kept else f"  {line}")
    there = np.array([label == wanted for label in found.predicted])  # nowhere, if any other class will do
    of_first = found.found[first] & ~there
    told = f"{int(of_first.sum())} of {counted(int((~there).sum()), 'prediction')} can be changed"
    if of_first.any():
        told += f", by {float(np.median(found.distances[first][of_first])):.3g} in the median ({queries.unit})"
    lines.append(f"{told}; {int(there.sum())} are {wanted!r} already" if there.any() else told)
    if not found.proven.all():
        lines.append(f"{int((~found.proven).sum())} of {len(found)} are not proven: 'lower' is a lower bound for them")
    return found, words, lines


def _in_words(queries: Read, found: Counterfactuals) -> list[str]:
    """What each entry changes: of columns that were encoded the cells, as they stand in the files."""
    words = [found.in_words(entry) for entry in range(len(found))]
    if queries.encoder is None or not found.found.any():
        return words
    entries = np.flatnonzero(found.found)
    before = queries.encoder.decode(queries.X.to_numpy()[found.rows[entries]])
    after = queries.encoder.decode(found.points[entries])
    for row, entry in enumerate(entries):
        cells = [(name, before[name][row], after[name][row]) for name in before.columns]
        told = [f"{name} {_cell(old)} → {_cell(new)}" for name, old, new in cells if old != new]
        words[entry] = ", ".join(told) or words[entry]  # a value that stands for a gap has no cell
    return words


def _cell(value: object) -> str:
    return "missing" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
