"""What ``certify``, ``attack`` and ``explain`` read, a metric of a file, training data and queries; and what they
write."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import typer
from numpy.typing import NDArray

from certimetric.attacks import FeatureRules, ThreatModel
from certimetric.auditing.tables.feature_kinds import find_kinds
from certimetric.auditing.tables.summary import balanced_accuracy
from certimetric.base.arrays import Array, Indices
from certimetric.base.files import write_atomically
from certimetric.certify import CertifiedKNeighborsClassifier
from certimetric.cli.inputs import labelled_rows
from certimetric.cli.options import UNITS
from certimetric.constraints.labels import unknown_labels
from certimetric.datasets import Reading, TableEncoder
from certimetric.geometry import MahalanobisMetric, Norm, resolve_norm


@dataclass(frozen=True)
class Queries:
    """Queries and the classifier that predicts them, both in original units.

    ``norm`` measures changes in the ``unit`` that was asked for. ``same`` holds for every query the training row that
    it is, with its label, or −1; ``told`` are sentences on what was read.
    """

    classifier: CertifiedKNeighborsClassifier
    X: pd.DataFrame
    labels: list[str] | None
    norm: Norm
    unit: str
    same: Indices
    told: list[str]
    encoder: TableEncoder | None = None
    imputed: NDArray[np.bool_] | None = None  # of the training data


@dataclass(frozen=True)
class Rows:
    """A metric of a file, labelled rows and queries with its features, all in original units.

    ``scale`` is that of the unit in which changes are measured, and ``unit`` what that is called.
    """

    metric: MahalanobisMetric
    X: Array
    y: list[str]
    queries: Array
    labels: list[str] | None
    names: tuple[str, ...]
    scale: Array
    unit: str
    told: list[str]
    encoder: TableEncoder | None = None  # how the columns of the files became features, if they were encoded
    imputed: NDArray[np.bool_] | None = None  # cells of X that were missing

    @property
    def same(self) -> Indices:
        """For every query the labelled row with its features and label, −1 for none or where queries have no labels."""
        if self.labels is None:
            return np.full(len(self.queries), -1, dtype=np.int64)
        # −0 is 0
        places = {(row.tobytes(), label): i for i, (row, label) in enumerate(zip(self.X + 0.0, self.y))}
        asked = zip(self.queries + 0.0, self.labels)
        return np.array([places.get((row.tobytes(), label), -1) for row, label in asked], dtype=np.int64)


def read_rows(
    file: Path, train: str, queries: str, target: str | None, units: str | None, reading: Reading | None = None
) -> Rows:
    """Read a metric, labelled rows and queries; ``reading`` says how their files are written, other than its own was.

    Sizes in standardised units need the scale that ``fit`` and ``audit`` put into the file. The mean plays no part in
    distances.
    """
    metric = MahalanobisMetric.load(file)
    scale, unit = unit_of(metric, file, units)
    encoder = _encoder(metric, file)
    reading = reading_of(metric, file, reading)
    rows = labelled_rows(train, metric.feature_names, target, encoder, reading)
    if rows.y is None:
        raise without_labels(train, target)
    X, names = rows.X, rows.feature_names
    if X.shape[1] != metric.n_features:
        raise ValueError(f"{train!r} must have the {metric.n_features} features of the metric, got {X.shape[1]}")
    asked = labelled_rows(queries, names, target, encoder, reading)
    labels = None if asked.y is None else asked.y.tolist()
    told = [f"{source}: {gaps}" for source, gaps in ((train, rows.gaps), (queries, asked.gaps)) if gaps]
    told = list(dict.fromkeys(told))
    return Rows(metric, X, rows.y.tolist(), asked.X, labels, tuple(names), scale, unit, told, encoder, rows.imputed)


def read_queries(
    file: Path,
    train: str,
    queries: str,
    target: str | None,
    n_neighbors: int,
    norm: str,
    units: str | None,
    reading: Reading | None = None,
) -> Queries:
    """Read a metric, the training data and queries, and fit the classifier."""
    rows = read_rows(file, train, queries, target, units, reading)
    X, y, labels = rows.X, rows.y, rows.labels
    if len(set(y)) < 2:
        raise ValueError(f"{train!r} must have at least two classes, got 1 class only ({y[0]!r})")
    if labels is not None:
        differ = unknown_labels(sorted(set(y)), labels, repr(train), repr(queries))
        if differ is not None:
            raise ValueError(f"{differ.sentence}: mend the labels, or leave their column out")
    same = rows.same
    most = len(X) - int((same >= 0).any())
    if not 1 <= n_neighbors <= most:
        less = " less the query itself" if most < len(X) else ""
        raise ValueError(f"--neighbors must be between 1 and the {len(X)} rows of {train!r}{less}, got {n_neighbors}")
    measure = measured(norm, rows.scale)
    classifier = CertifiedKNeighborsClassifier(n_neighbors, metric=rows.metric, norm=measure)
    classifier.fit(pd.DataFrame(X, columns=list(rows.names)), np.array(y))
    frame = pd.DataFrame(rows.queries, columns=list(rows.names))
    return Queries(
        classifier, frame, labels, measure, f"{rows.unit}, {norm} norm", same, rows.told, rows.encoder, rows.imputed
    )


def without_labels(train: str, target: str | None) -> ValueError:
    """What is wrong with training data of which no column is taken for the labels."""
    said = "name it with --target" if target is None else f"there is none called {target!r}, which --target names"
    return ValueError(f"{train!r} must have a column of labels: {said}")


def _encoder(metric: MahalanobisMetric, file: Path) -> TableEncoder | None:
    """How the table was encoded that the metric was learned on, if it was."""
    encoder = _kept(metric, file, "encoding", TableEncoder)
    if encoder is not None and encoder.feature_names != metric.feature_names:
        raise ValueError(
            f"the metric file {str(file)!r} is damaged: its encoding makes other features than its metric has"
        )
    return encoder


def reading_of(metric: MahalanobisMetric, file: Path, given: Reading | None) -> Reading | None:
    """How files of text are written: as ``given``, or else as the one that the metric was learned on, if that was
    said."""
    return given if given not in (None, Reading()) else _kept(metric, file, "reading", Reading) or given


def _kept(metric: MahalanobisMetric, file: Path, name: str, kind: Any) -> Any:
    """What the file of a metric tells of its training; None where it does not."""
    try:
        return None if (known := metric.training.get(name)) is None else kind.from_dict(known)
    except ValueError as error:
        raise ValueError(f"the metric file {str(file)!r} is damaged: {error}") from None


def unit_of(metric: MahalanobisMetric, file: Path, units: str | None) -> tuple[Array, str]:
    """The scale of the unit in which changes are measured, of the metric in a file, and what that unit is called."""
    if units not in (None, *UNITS):
        raise ValueError(f"--units must be one of {', '.join(UNITS)}, got {units!r}")
    scale = _scale(metric, file, units)
    return scale, "original units" if (scale == 1).all() else "standard deviations"


def measured(norm: str, scale: Array) -> Norm:
    """A norm in the unit of a scale."""
    return resolve_norm(norm) if (scale == 1).all() else resolve_norm(norm).in_units(scale)


def _scale(metric: MahalanobisMetric, file: Path, units: str | None) -> Array:
    """Ones for original units."""
    known = metric.training.get("scale")
    if units == "original" or (known is None and units is None):
        return np.ones(metric.n_features)
    if known is None:
        raise ValueError(f"--units standardised needs the scale of the features, which {str(file)!r} does not hold")
    try:
        scale = np.array(known, dtype=float)
    except (TypeError, ValueError):
        scale = np.zeros(0)
    if scale.shape != (metric.n_features,) or not np.isfinite(scale).all() or not (scale > 0).all():
        raise ValueError(f"the scale in the metric file {str(file)!r} must be {metric.n_features} positive numbers")
    return scale


def kept_whole(queries: Queries, threat: ThreatModel, rules: FeatureRules, fractions: bool) -> ThreatModel:
    """A threat model with the rules of a file; whole numbers and categories of the training rows stay so, unless
    ``fractions`` may be."""
    names = list(queries.X.columns)
    threat = rules.threat(threat, names, {} if queries.encoder is None else queries.encoder.features_of)
    if fractions:
        return threat
    return find_kinds(queries.classifier.X_, names, queries.imputed).keep(threat, queries.X.to_numpy(), names)


def judged(predicted: Any, labels: list[str] | None) -> dict[str, Any]:
    """Columns of predictions and, where labels are known, of whether they are right."""
    columns = {"predicted": predicted}
    return columns if labels is None else {**columns, "label": labels, "correct": (predicted == labels).astype(int)}


def tell(out: Path, what: str, columns: dict[str, Any], lines: Sequence[str]) -> None:
    """Write columns as CSV, rows numbered from 0, infinity as inf; say what was found, and where it is."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["row", *columns])
    for row, values in enumerate(zip(*(np.asarray(column).tolist() for column in columns.values()))):
        writer.writerow([row, *(repr(value) if isinstance(value, float) else value for value in values)])
    write_atomically(out, stream.getvalue())
    for line in lines:
        typer.echo(line)
    typer.echo(f"{what}: {out}")


def base_rate(predicted: Any, labels: Any, training: Any) -> str:
    """What an accuracy is worth: the mean over classes of their recall, beside what one constant answer gives."""
    labels, (classes, counts) = np.asarray(labels), np.unique(training, return_counts=True)
    there, codes = np.unique(labels, return_inverse=True)
    right = predicted == labels
    told = f"Balanced accuracy {100 * balanced_accuracy(codes, right):.1f} %"
    if never := [label for code, label in enumerate(there.tolist()) if not right[codes == code].any()]:
        more = f" and {len(never) - 4} more" if len(never) > 4 else ""
        told += f", never found: {', '.join(map(repr, never[:4]))}{more}"
    most = classes[counts.argmax()]
    share = f"{100 * (labels == most).mean():.1f} %"
    return f"{told}; always answering {most.item()!r}, the most frequent class, is right on {share}"
