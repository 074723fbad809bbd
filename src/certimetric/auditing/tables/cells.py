"""One cell of an audit: one learner on one split, computed once and kept."""

from __future__ import annotations

import hashlib
import tempfile
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from certimetric.auditing.tables.request import Request
from certimetric.auditing.tables.subjects import Subject
from certimetric.auditing.tables.table_request import TableRequest
from certimetric.base.arrays import Array, Indices
from certimetric.base.files import write_atomically
from certimetric.base.interrupts import is_interrupt
from certimetric.base.threads import single_threaded
from certimetric.certify import CertifiedKNeighborsClassifier, MetricSearchCV
from certimetric.geometry import MahalanobisMetric
from certimetric.geometry.mahalanobis import as_metric
from certimetric.runs.key import Cell, Record, canonical
from certimetric.runs.scheduling import Execute, Keep
from certimetric.runs.splits import Split, unit_noise

PROTOCOL = "audit-cell/3"
METRICS = "metrics"  # folder of the fitted metrics, below that of the audit

_warm: set[str] = set()


def audit_cell(request: Request, digest: str, subject: Subject, split: int) -> Cell:
    """The cell of a learner on a split: everything that its figures depend on."""
    return Cell(
        suite="audit",
        dataset=request.data.name,
        digest=digest,
        source=request.data.source,
        learner=subject.spec,
        split=split,
        seed=request.seed,
        protocol=PROTOCOL,
        parameters={
            "learner": canonical(subject.estimator),
            "imputed": canonical(request.data.imputed),
            # The hash of the data holds labels as text: 2 before 10 and "10" before "2" decide ties otherwise.
            "classes": list(request.classes),
            "test_size": request.test_size,
            "n_neighbors": request.n_neighbors,
            "norm": canonical(request.norm),
            "noise": list(request.noise),
            "rows": [request.sizes.train, request.sizes.test],
            **split_told(request),
            **({} if request.data.encoder is None else {"encoding": request.data.encoder.to_dict()}),
        },
    )


def split_told(request: Request) -> dict[str, Any]:
    """What tells the splits of a request apart, where they are not drawn class by class."""
    told = {name: getattr(request.splitting, name) for name in ("groups", "times", "given")}
    told = {name: canonical(rows) for name, rows in told.items() if rows is not None}
    return {"splitting": told} if told else {}


def compute_cell(request: Request, folder: Path | None, cell: Cell) -> dict[str, Any]:
    """Fit, predict and certify; with a folder, save the metric there.

    Returns
    -------
    found : dict
        Figures of the cell; ``predicted`` and ``radii`` of the test part; and ``components``: the metric in original
        units.
    """
    subject = next(subject for subject in request.subjects if subject.spec == cell.learner)
    with single_threaded(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        part = request.part(cell.split)
        metric, fitted = learned(request, subject, cell.split, part)
        found = fitted | tested(request, metric, part, cell.split)
    return found | outcome_of(metric, subject, cell.split, caught, folder)


def compute_elsewhere(request: Request, cell: Cell) -> dict[str, Any]:
    """The same where the folder is not, with the content of the file that :func:`keeping_files` writes there."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / METRICS).mkdir()
        found = compute_cell(request, folder, cell)
        content = (folder / found["metric_file"]).read_bytes()
    return found | {"content": np.frombuffer(content, dtype=np.uint8)}


def keeping_files(execute: Execute, folder: Path) -> Execute:
    """Cells of :func:`compute_elsewhere`, with the metrics in a folder before the cells are kept."""

    def run(cells: Sequence[Cell], keep: Keep) -> Iterator[Record]:
        def keep_file(record: Record) -> Record:
            if record.result is not None:
                found = dict(record.result)
                write_atomically(folder / found["metric_file"], found.pop("content").tobytes())
                record = replace(record, result=found)
            return keep(record)

        yield from execute(cells, keep_file)

    return run


def outcome_of(
    metric: MahalanobisMetric,
    subject: Subject,
    split: int,
    caught: Iterable[warnings.WarningMessage],
    folder: Path | None,
) -> dict[str, Any]:
    """What cells of all audits of learners hold beside their figures; with a folder, save the metric there."""
    said = {f"{w.category.__name__}: {' '.join(str(w.message).split())}"[:300] for w in caught}
    told: dict[str, Any] = {"warnings": sorted(said), "components": metric.components}
    if folder is not None:
        file = f"{METRICS}/{subject.file_stem}-{split}.safetensors"
        metric.save(folder / file)
        told |= {"metric_file": file, "metric_sha256": _file_hash(folder / file)}
    return told


def is_whole(record: Record, folder: Path | None) -> bool:
    """Whether a cell is finished and its metric file is there, as it was written."""
    if not record.done or record.result is None:
        return False
    try:
        return folder is None or _file_hash(folder / record.result["metric_file"]) == record.result["metric_sha256"]
    except OSError:
        return False


def tested(request: Request, metric: MahalanobisMetric, part: Split, split: int) -> dict[str, Any]:
    """Figures of a metric on the test part of a split."""
    y_test = request.codes[part.test]
    # What is audited is what the file holds: a metric read again from the disk gives the same figures.
    classifier = fitted_classifier(request, metric, part)
    predicted, radii = classifier.predict_with_radius(part.X_test)
    noise = unit_noise(part.X_test.shape, request.seed, split)
    noisy = [classifier.predict(part.X_test + level * noise) for level in request.noise]
    return {
        "n_test": len(part.test),
        "predicted": predicted,
        "radii": radii,
        "error": float((predicted != y_test).mean()),
        "noise_error": [float((labels != y_test).mean()) for labels in noisy],
    }


class Learned(Protocol):
    """What is learned from: the training part of a split of any audit of learners, in standardised units."""

    @property
    def train(self) -> Indices: ...

    @property
    def X_train(self) -> Array: ...

    @property
    def mean(self) -> Array: ...

    @property
    def scale(self) -> Array: ...


def learned(
    request: TableRequest, subject: Subject, split: int, part: Learned
) -> tuple[MahalanobisMetric, dict[str, Any]]:
    """A metric for data in original units, with a summary of where it comes from; and what is told of the fit."""
    y_train = request.codes[part.train]
    warm_up(subject.estimator, part.X_train, y_train)
    learner = clone(subject.estimator)
    start = time.perf_counter()
    learner.fit(part.X_train, y_train)
    seconds = time.perf_counter() - start
    metric = as_metric(getattr(learner, "metric_", learner))
    training = {
        **metric.training,
        "spec": subject.spec,
        "data": request.data.name,
        "seed": request.seed,
        "split": split,
        "n_samples": len(part.train),
        "classes": list(request.classes),
        "mean": part.mean.tolist(),
        "scale": part.scale.tolist(),
    }
    if request.data.encoder is not None:
        training["encoding"] = request.data.encoder.refilled(request.data.X, request.data.imputed, part.train).to_dict()
    n_iter = getattr(learner, "n_iter_", None)
    told: dict[str, Any] = {
        "split": split,
        "n_train": len(part.train),
        "fit_seconds": seconds,
        "n_iter": None if n_iter is None else int(np.max(n_iter)),
    }
    if isinstance(learner, MetricSearchCV):
        told["search"] = learner.search_told()
    in_units = MahalanobisMetric.from_components(
        metric.components / part.scale, feature_names=request.data.feature_names, training=training
    )
    return in_units, told


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


def _file_hash(path: Path) -> str:
    """SHA-256 of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
