"""``certimetric check``: whether new rows are like those that a metric was learned on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from certimetric.cli.options import NEIGHBORS, Metric, Neighbors, NormOption, Target, Train, UnitsOption
from certimetric.cli.tables import FileOptions, with_table

if TYPE_CHECKING:
    import pandas as pd

    from certimetric.datasets import Reading

EPILOG = "Example: `certimetric check wine.safetensors wine.csv new.csv --json`"
FIGURES = {"comparable": False, "near": False, "stable": False}  # what --fail-under may ask for


@with_table
def check(
    metric: Metric,
    train: Train,
    new: Annotated[str, typer.Argument(metavar="NEW", help="New instances, with or without labels.")],
    target: Target = None,
    *,
    files: FileOptions,
    neighbors: Neighbors = NEIGHBORS,
    norm: NormOption = "l2",
    units: UnitsOption = None,
    eps: Annotated[
        float | None,
        typer.Option(
            "--eps",
            metavar="EPS",
            help="Change under which outliers must stay so. [default: median certified radius of training rows]",
        ),
    ] = None,
    alpha: Annotated[
        float, typer.Option("--alpha", metavar="P", help="Probability of an alarm on rows like those of training.")
    ] = 0.01,
    fail_under: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-under",
            metavar="FIGURE=VALUE",
            help="A standard: comparable, near or stable, shares from 0 to 1. Repeat it for more.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """See whether new rows are like those that a metric was learned on: drift, gaps, unknown categories, outliers.

    The exit code is 0 where nothing is an alarm, 1 where something is or a standard is missed, and 2 for bad input.
    """
    from certimetric.auditing.drift.check import check_drift
    from certimetric.auditing.thresholds import parse_threshold
    from certimetric.cli.queries import measured, reading_of, unit_of, without_labels
    from certimetric.datasets.tables.encoding import encode_labels
    from certimetric.geometry import MahalanobisMetric

    standards = [(text, parse_threshold(text, [], figures=FIGURES)) for text in fail_under or []]
    learned = MahalanobisMetric.load(metric)
    scale, unit = unit_of(learned, metric, units)
    reading = reading_of(learned, metric, files.reading())
    rows, labels = _table(train, target, learned.feature_names, reading)
    if labels is None:
        raise without_labels(train, target)
    features = rows.drop(columns=labels)
    asked, labels_new = _table(new, labels, [str(column) for column in features.columns], reading)
    found = check_drift(
        learned,
        features,
        encode_labels(rows[labels], where=repr(train)),
        asked if labels_new is None else asked.drop(columns=labels_new),
        n_neighbors=neighbors,
        norm=measured(norm, scale),
        unit=f"{unit}, {norm} norm",
        eps=eps,
        alpha=alpha,
    )
    missed = {text: found.figures[each.figure] for text, each in standards if found.figures[each.figure] < each.value}
    if as_json:
        typer.echo(json.dumps(json.loads(found.to_json()) | {"missed": missed}, ensure_ascii=False, indent=1))
    else:
        typer.echo(str(found))
        for text, figure in missed.items():
            typer.echo(f"Threshold {text} does not hold: observed {figure:.4g}")
    if found.alarm or missed:
        raise typer.Exit(1)


def _table(
    source: str, target: str | None, wanted: Sequence[str] | None, reading: Reading | None
) -> tuple[pd.DataFrame, str | None]:
    """The rows of a source as they came, and the name of their column of labels, if they have one.

    No column that is ``wanted`` as a feature is taken for the labels.
    """
    import pandas as pd

    from certimetric import datasets
    from certimetric.datasets.data_root import table_file
    from certimetric.datasets.tables.files import read_labelled

    if source in [info.name for info in datasets.available()]:
        data = datasets.load(source)
        frame = pd.DataFrame(data.X, columns=list(data.feature_names))
        return frame.assign(**{_LABELS: data.y}), _LABELS
    path = source if Path(source).exists() else table_file(source) or source
    frame, labels, _ = read_labelled(path, target, wanted=wanted, reading=reading)
    return frame, labels


_LABELS = "labels of a bundled data set"
