"""An audit of embeddings that were computed elsewhere: exact under changes of the embedding itself."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from certimetric.auditing.progress import progress_bar
from certimetric.auditing.retrieval_request import N_QUERIES, checked_radii
from certimetric.auditing.retrieval_result import RetrievalAudit
from certimetric.auditing.retrieval_summary import Scores, estimate, per_class
from certimetric.auditing.retrieval_verdict import conclude, judge_thresholds, recommend
from certimetric.auditing.run import describe_machine, describe_versions
from certimetric.auditing.runner import prepare_folder
from certimetric.auditing.thresholds import parse_threshold
from certimetric.certify.minimal import smallest_changes
from certimetric.certify.reference import ReferenceSet
from certimetric.geometry import MahalanobisMetric
from certimetric.geometry.norms import resolve_norm
from certimetric.report.document import RETRIEVAL_SCHEMA

if TYPE_CHECKING:
    from certimetric.datasets.embeddings import Embeddings

_PACKAGES = ("numpy", "scipy", "torch")
_FIGURES = {"recall": False, "map": False, "attacked": True}
_STEPS = (0.25, 0.5, 1.0, 1.5, 2.0)  # radii by default, of the median smallest change


def audit_embeddings(
    models: Mapping[str, Embeddings],
    *,
    eps: Sequence[float] | None = None,
    report_eps: float | None = None,
    n_queries: int = N_QUERIES,
    seed: int = 0,
    name: str = "embeddings",
    fail_under: str | Iterable[str] = (),
    out: str | os.PathLike[str] | None = None,
    command: str | None = None,
    title: str | None = None,
    progress: bool = False,
) -> RetrievalAudit:
    """Compare embeddings by retrieval, clean and under every change of a query's embedding up to ε (l2).

    The pictures are not known, so nothing can be said about changes of pictures. Within the embedding the answer is
    exact: the smallest change of each query that puts an item of another class first is computed.

    Parameters
    ----------
    models : mapping of str to Embeddings
        Embeddings of the same pictures by each model.
    eps : sequence of float, default=None
        Sizes of the change. None for five about the median smallest change of all models, and those of thresholds.
    report_eps : float, default=None
        The one of ``eps`` that table and verdict quote; None for the middle one.
    n_queries : int, default=500
        So many queries, drawn at random, are ranked.
    seed : int, default=0
    name : str, default="embeddings"
        Name of the data in the report.
    fail_under : str or sequence of str, default=()
        Thresholds on ``recall``, ``map`` or ``attacked@EPS``; see :func:`certimetric.auditing.audit_retrieval`.
    out : path, default=None
        Folder for ``report.html`` and ``results.json``.
    command, title : str, optional
        What the report tells as its command, and its heading.
    progress : bool, default=False

    Returns
    -------
    result : RetrievalAudit

    Raises
    ------
    ValueError
        If models embed different pictures, if no query has another picture of its class, or if radii or thresholds do
        not fit.

    Examples
    --------
    >>> from certimetric.datasets.embeddings import Embeddings
    >>> given = Embeddings.from_arrays([[0.0], [1.0], [4.0], [5.0]], [0, 0, 1, 1])
    >>> audit_embeddings({"model": given}, eps=[0.5, 2.0]).to_frame()["recall_at_1"].tolist()
    [1.0, 1.0, 1.0, 0.5, 0.5]
    """
    started, clock = datetime.now(timezone.utc), time.perf_counter()
    first = _same_pictures(models)
    if eps is None and report_eps is not None:
        raise ValueError("report_eps must be one of eps, which was not given")
    given_radii = None if eps is None else checked_radii(eps, report_eps)
    texts = [fail_under] if isinstance(fail_under, str) else list(fail_under)
    at = None if given_radii is None else given_radii[0]
    asked = [parse_threshold(text, list(models), figures=_FIGURES, at=at) for text in texts]
    rows = _drawn(first, n_queries, seed)
    if out is not None:
        prepare_folder(Path(out))
    clean: dict[str, Scores] = {}
    radii: dict[str, NDArray[np.float64]] = {}
    with progress_bar(progress, 2 * len(models)) as advance:
        for key, given in models.items():
            clean[key] = _clean(given, rows)
            advance(False)
            radii[key] = _smallest(given, rows, clean[key]["recall_at_1"] > 0)
            advance(False)
    sizes, quoted_eps = given_radii or _chosen(radii, [threshold.at for threshold in asked if threshold.at])
    quoted = sizes.index(quoted_eps)
    learners = [_learner(key, given, rows, clean[key], radii[key], sizes, quoted) for key, given in models.items()]
    checks = [entry for key, given in models.items() for entry in _checks(key, given)]
    recommended = recommend(learners, quoted)
    thresholds = judge_thresholds(asked, learners, recommended)
    protocol = {
        "norm": "l2",
        "units": "embedding",
        "eps": list(sizes),
        "report_eps": quoted_eps,
        "attacks": ["exact smallest change"],
        "objective": "margin",
        "n_checked": 0,
        "seed": seed,
    }
    n_all = len(first.gallery if first.queries is None else first.queries)
    document = {
        "schema": RETRIEVAL_SCHEMA,
        "data": {
            "name": name,
            "source": ", ".join(given.source for given in models.values()),
            "n_queries": len(rows),
            "n_without_positive": n_all - len(_able(first)),
            "n_gallery": len(first.gallery),
            "n_classes": len(first.class_names),
            "image_shape": [first.gallery.shape[1]],
            "sha256": _digest(first.labels, *(() if first.query_labels is None else (first.query_labels,))),
        },
        "protocol": protocol,
        "learners": learners,
        "checks": sorted(checks, key=lambda entry: entry["code"]),
        "thresholds": thresholds,
        "verdict": conclude(protocol, learners, checks, thresholds, recommended),
        "reproduction": {
            "command": command or f"certimetric.auditing.audit_embeddings({{…}}, eps={list(sizes)}, seed={seed})",
            "started": started.isoformat(timespec="seconds"),
            "wall_seconds": time.perf_counter() - clock,
            "versions": describe_versions(_PACKAGES),
            "machine": describe_machine(),
            "cells": {"computed": len(models), "reused": 0, "failed": 0},
            "model_sha256": {key: _digest(*_arrays(given)) for key, given in models.items()},
        },
    }
    result = RetrievalAudit(document)
    if out is not None:
        result.save(out, title=title)
    return result


def _same_pictures(models: Mapping[str, Embeddings]) -> Embeddings:
    if not models:
        raise ValueError("models must hold the embeddings of at least one model")
    (name, first), *others = models.items()
    for other, given in others:
        for part in ("labels", "query_labels"):
            mine, theirs = getattr(first, part), getattr(given, part)
            if (mine is None) != (theirs is None) or (mine is not None and not np.array_equal(mine, theirs)):
                raise ValueError(f"{name!r} and {other!r} do not embed the same pictures: their {part} differ")
        if first.class_names != given.class_names:
            raise ValueError(f"{name!r} and {other!r} do not embed the same pictures: their classes differ")
    return first


def _able(given: Embeddings) -> NDArray[np.int64]:
    """Queries with another item of their class in the gallery."""
    counts = np.bincount(given.labels, minlength=len(given.class_names))
    if given.query_labels is None:
        return np.flatnonzero(counts[given.labels] > 1)
    return np.flatnonzero(counts[given.query_labels] > 0)


def _drawn(given: Embeddings, n_queries: int, seed: int) -> NDArray[np.int64]:
    if n_queries < 1:
        raise ValueError(f"n_queries must be at least 1, got {n_queries}")
    able = _able(given)
    if not len(able):
        raise ValueError("no query has another item of its class in the gallery")
    return np.sort(np.random.default_rng(seed).permutation(able)[:n_queries])


def _queries(given: Embeddings, rows: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    if given.queries is None or given.query_labels is None:
        return given.gallery[rows], given.labels[rows]
    return given.queries[rows], given.query_labels[rows]


def _clean(given: Embeddings, rows: NDArray[np.int64]) -> Scores:
    import torch

    from certimetric.deep.index import figures
    from certimetric.deep.ranking import relevant_ranks

    points, labels = _queries(given, rows)
    ids = torch.from_numpy(rows) if given.queries is None else torch.arange(len(rows)) + len(given.gallery)
    ranks = relevant_ranks(
        torch.from_numpy(points),
        torch.from_numpy(labels),
        ids,
        torch.from_numpy(given.gallery),
        torch.from_numpy(given.labels),
        torch.arange(len(given.gallery)),
    )
    return {key: np.asarray(value.double()) for key, value in figures(ranks).items()}


def _smallest(given: Embeddings, rows: NDArray[np.int64], hit: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The smallest change of each query that puts another class first; 0 where it is first already."""
    reference = ReferenceSet(MahalanobisMetric(np.eye(given.gallery.shape[1])), given.gallery, given.labels)
    points, _ = _queries(given, rows[hit])
    exclude = rows[hit] if given.queries is None else None
    radii = np.zeros(len(rows))
    if hit.any():
        found = smallest_changes(reference, points, 1, resolve_norm("l2"), exclude=exclude, n_jobs=os.cpu_count() or 1)
        radii[hit] = found.lower
    return radii


def _chosen(found: Mapping[str, NDArray[np.float64]], asked: Sequence[float]) -> tuple[tuple[float, ...], float]:
    """Radii about the median of all models, to two digits, which is quoted, and those that thresholds ask for."""
    known = np.concatenate([radii[(radii > 0) & np.isfinite(radii)] for radii in found.values()])
    middle = float(np.median(known)) if len(known) else 1.0
    radii = [float(f"{step * middle:.2g}") for step in _STEPS]
    return checked_radii([*radii, *asked], radii[_STEPS.index(1.0)])


def _learner(
    key: str,
    given: Embeddings,
    rows: NDArray[np.int64],
    clean: Scores,
    radii: NDArray[np.float64],
    sizes: Sequence[float],
    quoted: int,
) -> dict[str, Any]:
    import torch

    from certimetric.auditing.retrieval_evidence import flat_map
    from certimetric.deep.retrieval import nmi

    worst = [{"recall_at_1": (radii > eps).astype(float)} for eps in sizes]
    figures: dict[str, Any] = {name: estimate(values) for name, values in clean.items()}
    return {
        "spec": key,
        "label": key,
        "source": given.source,
        "dim": int(given.gallery.shape[1]),
        "n_parameters": 0,
        "training": None,
        "clean": figures | {"nmi": nmi(torch.from_numpy(given.gallery), torch.from_numpy(given.labels))},
        "attacked": [
            {
                "eps": eps,
                "worst": {name: estimate(values) for name, values in scores.items()},
                "attacks": {"exact": {name: estimate(values) for name, values in scores.items()}},
            }
            for eps, scores in zip(sizes, worst)
        ],
        "per_class": per_class(_queries(given, rows)[1], given.class_names, clean, worst[quoted]),
        "examples": [],
        "map": flat_map(given.gallery, given.labels, given.class_names),
    }


def _checks(key: str, given: Embeddings) -> Iterator[dict[str, Any]]:
    """Those checks that need no pictures; the others say that they do not apply."""
    from certimetric.auditing.retrieval_checks import CHECKS, spread

    for each in CHECKS:
        message = "Pictures and model are not known: only the embeddings were given."
        severity = "not applicable"
        if each.code == "CR108":
            severity, message = spread(given.gallery)
        yield {"code": each.code, "title": each.title, "severity": severity, "learner": key, "message": message}


def _arrays(given: Embeddings) -> list[NDArray[np.float64]]:
    return [given.gallery] if given.queries is None else [given.gallery, given.queries]


def _digest(*arrays: NDArray[Any]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
