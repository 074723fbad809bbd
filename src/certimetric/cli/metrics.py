"""Metric files at the command line: fitted on standardised data, used on data in their own units."""

from __future__ import annotations

import csv
import io
import math
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import StandardScaler

from certimetric.auditing.tables.summary import balanced_accuracy
from certimetric.base.arrays import Array
from certimetric.base.wording import counted
from certimetric.certify import CertifiedKNeighborsClassifier, MinimalPerturbation
from certimetric.certify.exact.minimal import smallest_changes
from certimetric.certify.radius import PredictedQueries, radii_of
from certimetric.cli.inputs import labelled_rows
from certimetric.constraints.labels import unknown_labels
from certimetric.datasets import Dataset, TableEncoder
from certimetric.geometry import MahalanobisMetric, resolve_norm
from certimetric.geometry.norms import Norm
from certimetric.learners import make_learner


def fit_metric(data: Dataset, spec: str, n_neighbors: int, seed: int) -> tuple[MahalanobisMetric, list[str]]:
    """Standardise, fit, and fold the scale into the metric.

    Returns
    -------
    metric : MahalanobisMetric
        For data in original units; its training summary holds the standardisation.
    told : list of str
        How many training instances their neighbours, without themselves, predict wrongly, and what that is worth.
    """
    learner = make_learner(spec, random_state=seed)
    if len(data.classes) < 2:
        raise ValueError(f"{data.name!r} must have at least two classes, got 1")
    if not 1 <= n_neighbors < data.n_samples:
        raise ValueError(f"--neighbors must be between 1 and {data.n_samples - 1}, got {n_neighbors}")
    scaler = StandardScaler().fit(data.X)
    learned = learner.fit(scaler.transform(data.X), data.y).metric_
    training = {
        **learned.training,
        "spec": spec,
        "data": data.name,
        "seed": seed,
        "n_samples": data.n_samples,
        "classes": [str(label) for label in data.classes],
        "mean": scaler.mean_.tolist(),
        "scale": scaler.scale_.tolist(),
    }
    if data.encoder is not None:
        training["encoding"] = data.encoder.to_dict()
    metric = MahalanobisMetric.from_components(
        learned.components / scaler.scale_, feature_names=data.feature_names, training=training
    )
    predicted = _leave_one_out(metric, data, n_neighbors)
    return metric, [
        f"{spec}: {100 * (predicted != data.y).mean():.1f} % of the training instances are wrong by their "
        f"{counted(n_neighbors, 'neighbour')}",
        base_rate(predicted, data.y, data.y),
    ]


@contextmanager
def convergence_told() -> Iterator[None]:
    """Say on stderr, in one line each, why learners did not converge; the command silences all other warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        yield
    for told in dict.fromkeys(str(w.message) for w in caught if issubclass(w.category, ConvergenceWarning)):
        print(f"certimetric: warning: {' '.join(told.split())}", file=sys.stderr)


def _leave_one_out(metric: MahalanobisMetric, data: Dataset, n_neighbors: int) -> NDArray[Any]:
    from certimetric.geometry.neighbors import nearest_neighbors

    classes, codes = np.unique(data.y, return_inverse=True)
    points = metric.transform(data.X - data.X.mean(axis=0))
    nearest, _ = nearest_neighbors(points, points, n_neighbors, exclude=np.arange(len(points)))
    ballots = np.stack([(codes[nearest] == code).sum(axis=1) for code in range(codes.max() + 1)], axis=1)
    return np.asarray(classes[ballots.argmax(axis=1)])


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
    same: NDArray[np.int64]
    told: list[str]

    @property
    def training_labels(self) -> NDArray[Any]:
        """Labels of the training data, shape (n,)."""
        return self.classifier.y_


def read_queries(
    file: Path,
    train: str,
    queries: str,
    target: str | None,
    n_neighbors: int,
    norm: str,
    units: str | None,
) -> Queries:
    """Read a metric, the training data and queries, and fit the classifier.

    Sizes in standardised units need the scale that ``fit`` and ``audit`` put into the file. The mean plays no part in
    distances.
    """
    metric = MahalanobisMetric.load(file)
    scale = _scale(metric, file, units)
    encoder = _encoder(metric, file)
    rows = labelled_rows(train, metric.feature_names, target, encoder)
    X, y, names = rows.X, rows.labels, rows.feature_names
    if y is None:
        raise ValueError(f"{train!r} must have a column of labels: name it with --target")
    if X.shape[1] != metric.n_features:
        raise ValueError(f"{train!r} must have the {metric.n_features} features of the metric, got {X.shape[1]}")
    if len(set(y)) < 2:
        raise ValueError(f"{train!r} must have at least two classes, got 1 class only ({y[0]!r})")
    asked = labelled_rows(queries, names, target, encoder)
    if asked.labels is not None:
        differ = unknown_labels(sorted(set(y)), asked.labels, repr(train), repr(queries))
        if differ is not None:
            raise ValueError(f"{differ.sentence}: mend the labels, or leave their column out")
    same = _same_rows(X, y, asked.X, asked.labels)
    most = len(X) - int((same >= 0).any())
    if not 1 <= n_neighbors <= most:
        less = " less the query itself" if most < len(X) else ""
        raise ValueError(f"--neighbors must be between 1 and the {len(X)} rows of {train!r}{less}, got {n_neighbors}")
    original = units == "original" or bool((scale == 1).all())
    measure = resolve_norm(norm) if original else resolve_norm(norm).in_units(scale)
    classifier = CertifiedKNeighborsClassifier(n_neighbors, metric=metric, norm=measure)
    classifier.fit(pd.DataFrame(X, columns=list(names)), np.array(y))
    unit = f"{'original units' if original else 'standard deviations'}, {norm} norm"
    told = [f"{source}: {gaps}" for source, gaps in ((train, rows.gaps), (queries, asked.gaps)) if gaps]
    return Queries(
        classifier,
        pd.DataFrame(asked.X, columns=list(names)),
        asked.labels,
        measure,
        unit,
        same,
        list(dict.fromkeys(told)),
    )


def _encoder(metric: MahalanobisMetric, file: Path) -> TableEncoder | None:
    """How the table was encoded that the metric was learned on, if it was."""
    known = metric.training.get("encoding")
    if known is None:
        return None
    try:
        encoder = TableEncoder.from_dict(known)
    except ValueError as error:
        raise ValueError(f"the metric file {str(file)!r} is damaged: {error}") from None
    if encoder.feature_names != metric.feature_names:
        raise ValueError(
            f"the metric file {str(file)!r} is damaged: its encoding makes other features than its metric has"
        )
    return encoder


def _same_rows(X: Array, y: list[str], Q: Array, labels: list[str] | None) -> NDArray[np.int64]:
    """For every query the training row with its features and label, −1 for none; without labels nobody can tell."""
    if labels is None:
        return np.full(len(Q), -1, dtype=np.int64)
    places = {(row.tobytes(), label): i for i, (row, label) in enumerate(zip(X + 0.0, y))}  # −0 is 0
    return np.array([places.get((row.tobytes(), label), -1) for row, label in zip(Q + 0.0, labels)], dtype=np.int64)


@dataclass(frozen=True)
class Told:
    """A table as CSV text, and lines that sum it up."""

    csv: str
    lines: list[str]


def certify_queries(queries: Queries, time_limit: float | None) -> Told:
    """Predict and certify queries; with a time limit, look for their exact smallest changes too.

    A query that is a training row is predicted without itself.
    """
    knn, X = queries.classifier, np.ascontiguousarray(queries.X)
    asked = PredictedQueries.of(knn.reference_, X, knn.n_neighbors, exclude=queries.same)
    predicted, radii = knn.classes_[asked.predicted], radii_of(asked, queries.norm)
    columns: dict[str, Any] = judged(predicted, queries.labels) | {"radius": radii}
    lines = queries.told + _lines(predicted, queries.labels, queries.training_labels, radii, queries.unit)
    if n_same := int((queries.same >= 0).sum()):
        lines.append(
            f"{n_same} of {len(X)} queries are training rows: each was predicted without itself (leave-one-out)"
        )
    if time_limit is not None:
        found = smallest_changes(asked, queries.norm, time_limit=time_limit)
        columns |= {"exact": found.radii, "proven_at_least": found.lower, "proven": found.proven.astype(int)}
        lines += _exact_lines(radii, found, queries.unit)
    return Told(table(columns), lines)


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


def _scale(metric: MahalanobisMetric, file: Path, units: str | None) -> Any:
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


def judged(predicted: Any, labels: list[str] | None) -> dict[str, Any]:
    """Columns of predictions and, where labels are known, of whether they are right."""
    columns = {"predicted": predicted}
    return columns if labels is None else {**columns, "label": labels, "correct": (predicted == labels).astype(int)}


def table(columns: dict[str, Any]) -> str:
    """Columns as CSV text, rows numbered from 0; infinity is inf."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["row", *columns])
    for row, values in enumerate(zip(*(np.asarray(column).tolist() for column in columns.values()))):
        writer.writerow([row, *(repr(value) if isinstance(value, float) else value for value in values)])
    return stream.getvalue()


def _lines(predicted: Any, labels: list[str] | None, training: NDArray[Any], radii: Any, unit: str) -> list[str]:
    median = float(np.median(radii))
    lines = [f"{len(radii)} predictions, median certified radius {median:.3g} ({unit})"]
    if labels is not None:
        right = predicted == np.array(labels)
        lines += [f"Accuracy {100 * right.mean():.1f} %", base_rate(predicted, labels, training)]
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
