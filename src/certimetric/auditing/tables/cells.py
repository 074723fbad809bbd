"""One cell of an audit: one learner on one split, computed once and kept on disk."""

from __future__ import annotations

import hashlib
import json
import math
import time
import uuid
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from certimetric.auditing.tables.request import Request, Subject
from certimetric.base.arrays import Array
from certimetric.base.files import write_atomically
from certimetric.base.interrupts import is_interrupt
from certimetric.base.threads import single_threaded
from certimetric.base.version import __version__
from certimetric.certify import CertifiedKNeighborsClassifier
from certimetric.geometry import MahalanobisMetric
from certimetric.geometry.mahalanobis import as_metric
from certimetric.runs.splits import Split, unit_noise

CELL_SCHEMA = "certimetric.audit-cell/2"
_UNKNOWN = "content not known"
_WITHOUT_EFFECT = ("verbose", "n_jobs")  # parameters that do not change what is learned

_warm: set[str] = set()


def cell_key(request: Request, data_hash: str, subject: Subject, split: int) -> str:
    """Hash of everything that the cell depends on: the name under which it is kept."""
    content = {
        "schema": CELL_SCHEMA,
        "version": __version__,
        "data": data_hash,
        "imputed": canonical(request.data.imputed),
        # The hash of the data holds labels as text: 2 before 10 and "10" before "2" decide ties otherwise.
        "classes": list(request.classes),
        "learner": [subject.spec, canonical(subject.estimator)],
        "split": split,
        "seed": request.seed,
        "test_size": request.test_size,
        "n_neighbors": request.n_neighbors,
        "norm": canonical(request.norm),
        "noise": list(request.noise),
    }
    text = json.dumps(content, sort_keys=True)
    if _UNKNOWN in text:
        text += uuid.uuid4().hex  # never the same, so that nothing that rests on it is reused
    return hashlib.sha256(text.encode()).hexdigest()


def canonical(value: Any) -> Any:
    """A JSON value that is the same for equal parameters, in every process, and differs for others.

    What cannot be told in full, such as a lambda, is told by its kind alone, and marked.
    """
    if isinstance(value, np.ndarray) and value.dtype.kind != "O":
        content = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        return ["array", list(value.shape), str(value.dtype), content]
    if hasattr(value, "get_params") and not isinstance(value, type):
        parameters = {k: canonical(v) for k, v in value.get_params(deep=False).items() if k not in _WITHOUT_EFFECT}
        return [f"{type(value).__module__}.{type(value).__qualname__}", parameters]
    if isinstance(value, (list, tuple)):
        return [canonical(item) for item in value]
    if isinstance(value, Mapping):
        return ["mapping", sorted([canonical(key), canonical(item)] for key, item in value.items())]
    if isinstance(value, (bool, int, float, complex, str, bytes, type(None), np.generic)):
        return repr(value.item() if isinstance(value, np.generic) else value)
    # The repr of an object is no content: it may round, shorten or leave out.
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    try:
        return [kind, joblib.hash(value)]
    except Exception:
        return [kind, _UNKNOWN]


def metric_path(subject: Subject, split: int) -> str:
    """Where the metric of a cell is kept, below the folder of the audit."""
    return f"metrics/{subject.file_stem}-{split}.safetensors"


def compute_cell(request: Request, subject: Subject, split: int, key: str, folder: Path | None) -> dict[str, Any]:
    """Fit, predict and certify; with a folder, keep the metric and then the cell.

    Returns
    -------
    cell : dict
        What is kept, and ``components``: the metric in original units.
    """
    with single_threaded(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        part = request.part(split)
        cell, metric = _measure(request, subject, split, part)
    said = {f"{w.category.__name__}: {' '.join(str(w.message).split())}"[:300] for w in caught}
    cell = {"schema": CELL_SCHEMA, "key": key, "spec": subject.spec, **cell, "warnings": sorted(said)}
    if folder is not None:
        file = metric_path(subject, split)
        metric.save(folder / file)
        cell |= {"metric_file": file, "metric_sha256": file_hash(folder / file)}
        write_atomically(cell_path(folder, key), json.dumps(cell, allow_nan=False))
    return {**cell, "components": metric.components}


def _measure(request: Request, subject: Subject, split: int, part: Split) -> tuple[dict[str, Any], MahalanobisMetric]:
    y_train, y_test = request.codes[part.train], request.codes[part.test]
    warm_up(subject.estimator, part.X_train, y_train)
    learner = clone(subject.estimator)
    start = time.perf_counter()
    learner.fit(part.X_train, y_train)
    seconds = time.perf_counter() - start
    metric = in_file_units(request, subject, split, part, learner)
    # What is audited is what the file holds: a metric read again from the disk gives the same figures.
    classifier = fitted_classifier(request, metric, part)
    predicted, radii = classifier.predict_with_radius(part.X_test)
    noise = unit_noise(part.X_test.shape, request.seed, split)
    noisy = [classifier.predict(part.X_test + level * noise) for level in request.noise]
    n_iter = getattr(learner, "n_iter_", None)
    cell = {
        "split": split,
        "n_train": len(part.train),
        "n_test": len(part.test),
        "predicted": predicted.tolist(),
        "radii": [told(radius) for radius in radii],
        "error": float((predicted != y_test).mean()),
        "noise_error": [float((labels != y_test).mean()) for labels in noisy],
        "fit_seconds": seconds,
        "n_iter": None if n_iter is None else int(np.max(n_iter)),
    }
    return cell, metric


def in_file_units(request: Request, subject: Subject, split: int, part: Split, learner: Any) -> MahalanobisMetric:
    """The learned metric, for data in original units, with a summary of where it comes from."""
    learned = as_metric(getattr(learner, "metric_", learner))
    training = {
        **learned.training,
        "spec": subject.spec,
        "data": request.data.name,
        "seed": request.seed,
        "split": split,
        "n_samples": len(part.train),
        "classes": list(request.classes),
        "mean": part.mean.tolist(),
        "scale": part.scale.tolist(),
    }
    return MahalanobisMetric.from_components(
        learned.components / part.scale, feature_names=request.data.feature_names, training=training
    )


def fitted_classifier(request: Request, metric: MahalanobisMetric, part: Split) -> CertifiedKNeighborsClassifier:
    """The classifier of a cell, in standardised units, from the metric in original units."""
    standardised = metric.compose(1.0 / part.scale)
    classifier = CertifiedKNeighborsClassifier(request.n_neighbors, metric=standardised, norm=request.norm)
    return classifier.fit(part.X_train, request.codes[part.train])


def warm_up(estimator: Any, X: Array, codes: NDArray[np.int64]) -> None:
    """Fit a few instances once per process and kind of learner, so that compilation is not counted as fitting."""
    kind = repr(canonical(estimator))
    if kind in _warm:
        return
    _warm.add(kind)
    largest = np.argsort(-np.bincount(codes), kind="stable")[:2]
    rows = np.concatenate([np.flatnonzero(codes == code)[:12] for code in largest])
    small = clone(estimator)
    try:
        if "max_iter" in small.get_params(deep=False):
            small.set_params(max_iter=2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it says is not about the data
            small.fit(X[rows], codes[rows])
    except Exception as error:  # the real fit will say what is wrong
        if is_interrupt(error):
            raise KeyboardInterrupt from error


def cell_path(folder: Path, key: str) -> Path:
    """Where a cell is kept."""
    return folder / "cells" / f"{key}.json"


def read_cell(folder: Path, subject: Subject, split: int, key: str) -> dict[str, Any] | None:
    """A finished cell with the components of its metric; None if it must be computed.

    A damaged cell, or one whose metric file was changed or is gone, counts as unfinished.
    """
    cell = read_record(cell_path(folder, key), CELL_SCHEMA, key)
    if cell is None:
        return None
    file = folder / metric_path(subject, split)
    try:
        if file_hash(file) != cell["metric_sha256"]:
            return None
        metric = MahalanobisMetric.load(file)
    except (OSError, ValueError, KeyError):
        return None
    return {**cell, "spec": subject.spec, "metric_file": metric_path(subject, split), "components": metric.components}


def read_record(path: Path, schema: str, key: str) -> dict[str, Any] | None:
    """A JSON record of this schema and key; None if there is none or it is damaged."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(record, dict) or record.get("schema") != schema or record.get("key") != key:
        return None
    return record


def file_hash(path: Path) -> str:
    """SHA-256 of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def told(value: float) -> float | str:
    """A figure as JSON can hold it: infinity is text."""
    return "inf" if math.isinf(value) else float(value)
