"""Metric files at the command line: fitted on standardised data, used on data in their own units."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.preprocessing import StandardScaler

from certimetric.certify import CertifiedKNeighborsClassifier
from certimetric.cli.inputs import labelled_rows
from certimetric.datasets import Dataset
from certimetric.geometry import MahalanobisMetric
from certimetric.learners import make_learner


def fit_metric(data: Dataset, spec: str, n_neighbors: int, seed: int) -> tuple[MahalanobisMetric, float]:
    """Standardise, fit, and fold the scale into the metric.

    Returns
    -------
    metric : MahalanobisMetric
        For data in original units; its training summary holds the standardisation.
    error : float
        Share of the training instances that their neighbours, without themselves, predict wrongly.
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
    metric = MahalanobisMetric.from_components(
        learned.components / scaler.scale_, feature_names=data.feature_names, training=training
    )
    return metric, _leave_one_out_error(metric, data, n_neighbors)


def _leave_one_out_error(metric: MahalanobisMetric, data: Dataset, n_neighbors: int) -> float:
    from certimetric.geometry.neighbors import nearest_neighbors

    _, codes = np.unique(data.y, return_inverse=True)
    points = metric.transform(data.X - data.X.mean(axis=0))
    nearest, _ = nearest_neighbors(points, points, n_neighbors, exclude=np.arange(len(points)))
    ballots = np.stack([(codes[nearest] == code).sum(axis=1) for code in range(codes.max() + 1)], axis=1)
    return float((ballots.argmax(axis=1) != codes).mean())


@dataclass(frozen=True)
class Certified:
    """Radii as a CSV text, and lines that sum them up."""

    csv: str
    lines: list[str]


def certify_queries(
    file: Path, train: str, queries: str, target: str | None, n_neighbors: int, norm: str, units: str | None
) -> Certified:
    """Predict and certify queries under the metric of a file.

    Radii in standardised units need the scale that ``fit`` and ``audit`` put into the file: features are then divided
    by it, and the metric takes it back. The mean plays no part in distances.
    """
    metric = MahalanobisMetric.load(file)
    scale = _scale(metric, file, units)
    X, y, names = labelled_rows(train, metric.feature_names, target)
    if y is None:
        raise ValueError(f"{train!r} must have a column of labels: name it with --target")
    if X.shape[1] != metric.n_features:
        raise ValueError(f"{train!r} must have the {metric.n_features} features of the metric, got {X.shape[1]}")
    if len(set(y)) < 2:
        raise ValueError(f"{train!r} must have at least two classes, got 1 class only ({y[0]!r})")
    Q, labels, _ = labelled_rows(queries, names, target)
    if not 1 <= n_neighbors <= len(X):
        raise ValueError(f"--neighbors must be between 1 and the {len(X)} rows of {train!r}, got {n_neighbors}")
    classifier = CertifiedKNeighborsClassifier(n_neighbors, metric=metric.compose(1.0 / scale), norm=norm)
    predicted, radii = classifier.fit(X / scale, np.array(y)).predict_with_radius(Q / scale)
    unit = "original units" if units == "original" or (scale == 1).all() else "standard deviations"
    return Certified(_csv(predicted, labels, radii), _lines(predicted, labels, radii, f"{unit}, {norm} norm"))


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


def _csv(predicted: Any, labels: list[str] | None, radii: Any) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["row", "predicted", *([] if labels is None else ["label", "correct"]), "radius"])
    for row, (guess, radius) in enumerate(zip(predicted.tolist(), radii.tolist())):
        judged = [] if labels is None else [labels[row], int(guess == labels[row])]
        writer.writerow([row, guess, *judged, repr(radius)])
    return stream.getvalue()


def _lines(predicted: Any, labels: list[str] | None, radii: Any, unit: str) -> list[str]:
    median = float(np.median(radii))
    lines = [f"{len(radii)} predictions, median certified radius {median:.3g} ({unit})"]
    if labels is not None:
        right = predicted == np.array(labels)
        lines.append(f"Accuracy {100 * right.mean():.1f} %")
        finite = radii[np.isfinite(radii) & right]
        if len(finite) and finite.max() > 0:
            # Half of the right predictions, a tenth and all but a tenth: three radii that tell the curve.
            for quantile in (0.1, 0.5, 0.9):
                eps = float(f"{np.quantile(finite, quantile, method='lower'):.2g}")
                share = (right & (radii >= eps)).mean()
                lines.append(f"Certified accuracy {100 * share:.1f} % at ε = {eps:g}")
    return (
        lines if math.isfinite(median) else [*lines, "An infinite radius: no change of the input can change the label"]
    )
