"""One cell of an audit: one learner on one split, computed once and kept."""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
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
from certimetric.report.formatting import NORMS
from certimetric.runs.key import Cell, Record, canonical
from certimetric.runs.scheduling import Execute, Keep, Outcome, run_cells
from certimetric.runs.splits import Split, unit_noise
from certimetric.runs.store import Store, prepare_folder

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


def options_told(request: Any, digest: str, norm: Any) -> dict[str, Any]:
    """What tells an audit of learners from another one, whatever it measures."""
    measure = hashlib.sha256(json.dumps(canonical(norm)).encode()).hexdigest()[:12]
    return {
        "data": digest,
        "imputed": canonical(request.data.imputed),
        "classes": list(request.classes),
        "image_shape": None if request.data.image_shape is None else list(request.data.image_shape),
        "learners": [[subject.spec, canonical(subject.estimator)] for subject in request.subjects],
        "norm": request.norm_name if request.norm_name in NORMS else f"{request.norm_name} ({measure})",
        "eps": None if request.eps is None else list(request.eps),
        **{name: getattr(request, name) for name in ("repeats", "test_size", "seed")},
    }


def data_told(request: TableRequest) -> dict[str, Any]:
    """What documents tell of a table, whatever is audited on it."""
    data = request.data
    return {
        **{key: getattr(data, key) for key in ("name", "source", "n_samples", "n_features")},
        "classes": list(request.classes),
        "feature_names": list(data.feature_names),
        "image_shape": None if data.image_shape is None else list(data.image_shape),
    }


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
    return measured(request, folder, cell, lambda metric, part: (metric, tested(request, metric, part, cell.split)))


def measured(
    request: Any, folder: Path | None, cell: Cell, figures: Callable[[MahalanobisMetric, Any], tuple[Any, Any]]
) -> dict[str, Any]:
    """Fit the learner of a cell of any audit of learners; with a folder, save the metric there.

    ``figures`` gives of the metric in original units and of the split the metric that is kept, and what is found.
    """
    subject = next(subject for subject in request.subjects if subject.spec == cell.learner)
    with single_threaded(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        part = request.part(cell.split)
        metric, fitted = learned(request, subject, cell.split, part)
        metric, found = figures(metric, part)
    said = {f"{w.category.__name__}: {' '.join(str(w.message).split())}"[:300] for w in caught}
    told = {**fitted, **found, "warnings": sorted(said), "components": metric.components}
    if folder is not None:
        file = f"{METRICS}/{subject.file_stem}-{cell.split}.safetensors"
        metric.save(folder / file)
        told |= {"metric_file": file, "metric_sha256": _file_hash(folder / file)}
    return told


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


def learned(
    request: TableRequest, subject: Subject, split: int, part: Split
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


def warm_up(estimator: Any, X: Array, codes: Indices) -> None:
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


def compute_all(
    request: Any, store: Store, cells: Sequence[Cell], execute: Execute, progress: bool
) -> tuple[Outcome, list[list[dict[str, Any]]]]:
    """Compute the cells, split by split, that are not whole in the store; and tell the splits of each learner.

    One that failed is ``{"split": …, "failed": …}``, and is tried again by the next run.
    """
    if store.folder is not None:
        prepare_folder(store.folder / METRICS)
    outcome = run_cells(cells, store, execute, usable=lambda each: is_whole(each, store.folder), progress=progress)
    n = len(request.subjects)
    return outcome, [[_of(record) for record in outcome.records[i::n]] for i in range(n)]


def examine_first(
    request: Any,
    store: Store,
    records: Sequence[Record],
    evidence: Callable[[Cell], Cell],
    execute: Callable[[dict[str, Any]], Execute],
    progress: bool,
) -> list[dict[str, Any] | None]:
    """What attacks find on the first finished split of each learner; None where there is none.

    ``evidence`` makes of its cell another one, and ``execute`` of the results by learner what computes those.
    """
    fitted: dict[str, Record] = {}
    for record in records:
        if record.done:
            fitted.setdefault(record.cell.learner, record)
    outcome = run_cells(
        [evidence(record.cell) for record in fitted.values()],
        store,
        execute({spec: record.result for spec, record in fitted.items()}),
        usable=lambda record: record.done,
        progress=progress,
        name="attacks",
    )
    examined = {record.cell.learner: _of(record) for record in outcome.records}
    return [examined.get(subject.spec) for subject in request.subjects]


def _of(record: Record) -> dict[str, Any]:
    return {"split": record.cell.split, "failed": record.error} if record.result is None else dict(record.result)


def metric_files(subjects: Sequence[Subject], cells: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The files of metrics, as documents tell them, of the splits of each learner."""
    return [
        {"learner": subject.spec, "split": cell["split"], "file": cell["metric_file"], "sha256": cell["metric_sha256"]}
        for subject, some in zip(subjects, cells)
        for cell in some
        if "metric_file" in cell
    ]


def _file_hash(path: Path) -> str:
    """SHA-256 of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
