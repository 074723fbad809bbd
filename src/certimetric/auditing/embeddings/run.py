"""An audit of embeddings that were computed elsewhere: exact under changes of the embedding itself."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from certimetric.auditing.embeddings.checks import NEAR, data_checks, model_checks
from certimetric.auditing.retrieval.request import N_QUERIES, checked_radii
from certimetric.auditing.retrieval.result import RetrievalAudit
from certimetric.auditing.retrieval.summary import Scores, estimate, per_class
from certimetric.auditing.retrieval.verdict import conclude, judge_thresholds, recommend
from certimetric.auditing.runner import prepare_folder
from certimetric.auditing.saved import refuse_other_report
from certimetric.auditing.tables.run import describe_machine, describe_versions
from certimetric.auditing.thresholds import parse_threshold
from certimetric.base.arrays import Indices
from certimetric.certify.exact.minimal import smallest_changes
from certimetric.certify.radius import PredictedQueries
from certimetric.certify.reference import ReferenceSet
from certimetric.geometry import MahalanobisMetric
from certimetric.geometry.norms import resolve_norm
from certimetric.report.document import RETRIEVAL_SCHEMA
from certimetric.runs.progress import progress_bar

if TYPE_CHECKING:
    from certimetric.datasets.embedding_files import Embeddings


_PACKAGES = ("numpy", "scipy", "torch")
_FIGURES = {"recall": False, "map": False, "attacked": True}
# Radii by default, in median distances to the nearest item, and the one that is quoted.
_RADII, _QUOTED = (0.05, 0.1, 0.25, 0.5, 1.0), 0.25


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

    Sizes are fractions of the median distance from a query to its nearest item, of each model's own embeddings: the
    same for all models, and the same for embeddings that are multiplied by a number.

    Parameters
    ----------
    models : mapping of str to Embeddings
        Embeddings of the same pictures by each model. No query finds an item of its id or group. Where gallery and
        queries have neither, a query that equals an item of its class in the embeddings of every model is taken for it.
    eps : sequence of float, default=None
        Sizes of the change, in median distances to the nearest item. None for 0.05, 0.1, 0.25 (which is quoted), 0.5
        and 1, and those of thresholds.
    report_eps : float, default=None
        The one of ``eps`` that table and verdict quote; None for the middle one.
    n_queries : int, default=500
        So many queries, drawn at random, are ranked.
    seed : int, default=0
    name : str, default="embeddings"
        Name of the data in the report.
    fail_under : str or sequence of str, default=()
        Thresholds on ``recall``, ``map`` or ``attacked@EPS``; see :func:`certimetric.auditing.audit_retrieval`. Without
        any the status is never PASS.
    out : path, default=None
        Folder for ``report.html`` and ``results.json``; one with the report of another audit is refused.
    command, title : str, optional
        What the report tells as its command, and its heading.
    progress : bool, default=False

    Returns
    -------
    result : RetrievalAudit

    Raises
    ------
    ValueError
        If models embed different pictures, if no query has another picture of its class, if radii or thresholds do
        not fit, or if the folder holds the report of an audit with other options.

    Examples
    --------
    >>> from certimetric.datasets.embedding_files import Embeddings
    >>> given = Embeddings.from_arrays([[0.0], [1.0], [4.0], [5.0]], [0, 0, 1, 1])
    >>> audit_embeddings({"model": given}, eps=[0.5, 2.0]).to_frame()["recall_at_1"].tolist()  # each is 1 apart
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
    known = _known(models)
    rows = _drawn(known, n_queries, seed)
    seen = {key: _Seen.of(given, known, rows) for key, given in models.items()}
    options = embedding_options(models, eps=eps, report_eps=report_eps, n_queries=n_queries, seed=seed)
    if out is not None:
        refuse_other_report(Path(out), options)
        prepare_folder(Path(out))
    clean: dict[str, Scores] = {}
    radii: dict[str, NDArray[np.float64]] = {}
    with progress_bar(progress, 2 * len(models)) as advance:
        for key, embedded in seen.items():
            clean[key] = _clean(embedded)
            advance(False)
            radii[key] = _smallest(embedded, clean[key]["recall_at_1"] > 0)
            advance(False)
    also = [threshold.at for threshold in asked if threshold.at]
    sizes, quoted_eps = given_radii or checked_radii([*_RADII, *also], _QUOTED)
    quoted = sizes.index(quoted_eps)
    learners = [_learner(key, given, seen[key], clean[key], radii[key], sizes, quoted) for key, given in models.items()]
    checks = list(data_checks(len(rows), known.n_guessed))
    for key, embedded in seen.items():
        checks += model_checks(key, embedded.gallery, embedded.equal, len(rows))
    recommended = recommend(learners, quoted)
    thresholds = judge_thresholds(asked, learners, recommended)
    protocol = {
        "norm": "l2",
        "units": "neighbour distance",
        "eps": list(sizes),
        "report_eps": quoted_eps,
        "attacks": ["exact smallest change"],
        "objective": "margin",
        "n_checked": 0,
        "seed": seed,
    }
    document = {
        "schema": RETRIEVAL_SCHEMA,
        "data": {
            "name": name,
            "source": ", ".join(given.source for given in models.values()),
            "n_queries": len(rows),
            "n_without_positive": int((~known.able).sum()),
            "n_gallery": len(first.gallery),
            "n_groups": None if first.groups is None else len(np.unique(first.groups)),
            "n_classes": len(np.unique(first.labels)),
            "image_shape": [first.gallery.shape[1]],
            "sha256": _digest(first.labels, known.labels, known.keys, known.gallery_keys),
        },
        "protocol": protocol,
        "learners": learners,
        "checks": sorted(checks, key=lambda entry: entry["code"]),
        "thresholds": thresholds,
        "verdict": conclude(protocol, learners, checks, thresholds, recommended),
        "reproduction": {
            "command": command or f"certimetric.auditing.audit_embeddings({{…}}, eps={list(sizes)}, seed={seed})",
            "options": options,
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


def embedding_options(
    models: Mapping[str, Embeddings],
    *,
    eps: Sequence[float] | None,
    report_eps: float | None,
    n_queries: int,
    seed: int,
) -> dict[str, Any]:
    """What tells one audit from another: all that its figures depend on, but not what they are judged by."""
    first = next(iter(models.values()))
    known = (first.labels, first.query_labels, first.ids, first.query_ids, first.groups, first.query_groups)
    radii = None if eps is None else checked_radii(eps, report_eps)
    return {
        "data": [None if part is None else _digest(part) for part in known],
        "class_names": list(first.class_names),
        "models": [[key, _digest(*_arrays(given))] for key, given in models.items()],
        "eps": None if radii is None else list(radii[0]),
        "report_eps": None if radii is None else radii[1],
        "n_queries": min(n_queries, len(first.gallery if first.queries is None else first.queries)),
        "seed": seed,
    }


def _same_pictures(models: Mapping[str, Embeddings]) -> Embeddings:
    if not models:
        raise ValueError("models must hold the embeddings of at least one model")
    (name, first), *others = models.items()
    for other, given in others:
        for part in ("labels", "query_labels", "ids", "query_ids", "groups", "query_groups"):
            mine, theirs = getattr(first, part), getattr(given, part)
            if (mine is None) != (theirs is None) or (mine is not None and not np.array_equal(mine, theirs)):
                raise ValueError(f"{name!r} and {other!r} do not embed the same pictures: their {part} differ")
        if first.class_names != given.class_names:
            raise ValueError(f"{name!r} and {other!r} do not embed the same pictures: their classes differ")
    return first


@dataclass(frozen=True, eq=False)
class _Known:
    """What is known of queries and gallery apart from any model: no query may find an item of its key."""

    labels: Indices
    keys: Indices
    gallery_keys: Indices
    able: NDArray[np.bool_]
    n_guessed: int


def _known(models: Mapping[str, Embeddings]) -> _Known:
    import torch

    from certimetric.deep.retrieval.evaluation import others

    first, n_guessed = next(iter(models.values())), 0
    gallery_keys = first.ids if first.groups is None else first.groups
    keys = first.query_ids if first.groups is None else first.query_groups
    if gallery_keys is None:
        gallery_keys = np.arange(len(first.gallery))
    if first.queries is None or first.query_labels is None:
        keys, labels = gallery_keys, first.labels
    else:
        labels = first.query_labels
        if keys is None:
            keys, n_guessed = _guessed(models)
    positive, negative = others(*map(torch.from_numpy, (labels, keys, first.labels, gallery_keys)))
    able = np.asarray(positive > 0)
    if first.groups is not None:
        able &= np.asarray(negative > 0)
    return _Known(labels, keys, gallery_keys, able, n_guessed)


def _guessed(models: Mapping[str, Embeddings]) -> tuple[Indices, int]:
    """Rows of the gallery that queries equal in every model, of their own class; elsewhere numbers of no row."""
    first = next(iter(models.values()))
    assert first.query_labels is not None
    rows: dict[bytes, int] = {}
    for row, item in enumerate(_joined([given.gallery for given in models.values()], first.labels)):
        rows.setdefault(item, row)
    queries = [given.queries for given in models.values() if given.queries is not None]
    found = np.array([rows.get(query, -1) for query in _joined(queries, first.query_labels)])
    own = len(first.gallery) + np.arange(len(found))
    return np.where(found < 0, own, found), int((found >= 0).sum())


def _joined(embeddings: Sequence[NDArray[np.float64]], labels: Indices) -> Iterator[bytes]:
    """What all models and the label say of each item; 0 and −0 are the same."""
    for parts in zip(*embeddings, labels):
        yield b"".join((part + 0).tobytes() for part in parts)


def _drawn(known: _Known, n_queries: int, seed: int) -> Indices:
    if n_queries < 1:
        raise ValueError(f"n_queries must be at least 1, got {n_queries}")
    if not known.able.any():
        raise ValueError("no query has another item of its class in the gallery")
    return np.sort(np.random.default_rng(seed).permutation(np.flatnonzero(known.able))[:n_queries])


@dataclass(frozen=True, eq=False)
class _Seen:
    """The queries that are ranked, and the gallery, as one model sees them.

    ``scale`` is the median distance from a query to the nearest item that it may find, of distances above 0; ``equal``
    counts the queries with such an item so near that it must be the same picture.
    """

    points: NDArray[np.float64]
    labels: Indices
    keys: Indices
    gallery: NDArray[np.float64]
    gallery_labels: Indices
    gallery_keys: Indices
    scale: float
    equal: int

    @classmethod
    def of(cls, given: Embeddings, known: _Known, rows: Indices) -> _Seen:
        import torch

        from certimetric.deep.ranking.ranks import nearest

        points = (given.gallery if given.queries is None else given.queries)[rows]
        sides = points, known.keys[rows], given.gallery, known.gallery_keys
        own, keys, gallery, gallery_keys = map(torch.from_numpy, sides)
        first = np.asarray(nearest(own, keys, gallery, gallery_keys, 1)[:, 0])
        distances = np.linalg.norm(points - given.gallery[first], axis=1)
        scale = float(np.median(distances[distances > 0])) if (distances > 0).any() else 1.0
        equal = int((distances <= NEAR * scale).sum())
        return cls(points, known.labels[rows], sides[1], given.gallery, given.labels, sides[3], scale, equal)


def _clean(seen: _Seen) -> Scores:
    import torch

    from certimetric.deep.ranking.ranks import relevant_ranks
    from certimetric.deep.retrieval.index import figures

    sides = seen.points, seen.labels, seen.keys, seen.gallery, seen.gallery_labels, seen.gallery_keys
    ranks = relevant_ranks(*map(torch.from_numpy, sides))
    return {key: np.asarray(value.double()) for key, value in figures(ranks).items()}


def _smallest(seen: _Seen, hit: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The smallest change of each query that puts another class first; 0 where it is first already."""
    from certimetric.deep.retrieval.same_pictures import apart

    metric, hits = MahalanobisMetric(np.eye(seen.gallery.shape[1])), np.flatnonzero(hit)
    radii, n_jobs = np.zeros(len(hit)), os.cpu_count() or 1
    for rows, kept, exclude in apart(seen.keys[hits], seen.gallery_keys):
        reference = ReferenceSet(metric, seen.gallery[kept], seen.gallery_labels[kept])
        points = seen.points[hits[rows]]
        queries = PredictedQueries.of(reference, points, 1, exclude=exclude, n_jobs=n_jobs)
        found = smallest_changes(queries, resolve_norm("l2"))
        radii[hits[rows]] = found.lower
    return radii


def _learner(
    key: str,
    given: Embeddings,
    seen: _Seen,
    clean: Scores,
    radii: NDArray[np.float64],
    sizes: Sequence[float],
    quoted: int,
) -> dict[str, Any]:
    import torch

    from certimetric.auditing.retrieval.evidence import flat_map
    from certimetric.deep.retrieval.evaluation import CLUSTERED, nmi

    worst = [{"recall_at_1": (radii > eps * seen.scale).astype(float)} for eps in sizes]
    figures: dict[str, Any] = {name: estimate(values) for name, values in clean.items()}
    clustered = len(given.gallery) <= CLUSTERED
    figures["nmi"] = nmi(torch.from_numpy(given.gallery), torch.from_numpy(given.labels)) if clustered else None
    return {
        "spec": key,
        "label": key,
        "source": given.source,
        "dim": int(given.gallery.shape[1]),
        "n_parameters": 0,
        "training": None,
        "neighbour_distance": seen.scale,
        "clean": figures,
        "attacked": [
            {
                "eps": eps,
                "worst": {name: estimate(values) for name, values in scores.items()},
                "attacks": {"exact": {name: estimate(values) for name, values in scores.items()}},
            }
            for eps, scores in zip(sizes, worst)
        ],
        "per_class": per_class(seen.labels, given.class_names, clean, worst[quoted]),
        "examples": [],
        "map": flat_map(given.gallery, given.labels, given.class_names),
    }


def _arrays(given: Embeddings) -> list[NDArray[np.float64]]:
    return [given.gallery] if given.queries is None else [given.gallery, given.queries]


def _digest(*arrays: NDArray[Any]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
