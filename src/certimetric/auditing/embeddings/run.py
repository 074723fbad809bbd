"""The evidence of an audit of embeddings that were computed elsewhere: exact under changes of the embedding itself."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from certimetric.auditing.embeddings.checks import NEAR, Observed
from certimetric.auditing.embeddings.request import QUOTED, RADII, EmbeddingRequest
from certimetric.auditing.retrieval.ranking import RankedEvidence, Scores, describe, per_class
from certimetric.auditing.retrieval.request import checked_radii
from certimetric.auditing.run import Gathered
from certimetric.base.arrays import Indices
from certimetric.certify.exact.minimal import smallest_changes
from certimetric.certify.radius import PredictedQueries
from certimetric.certify.reference import ReferenceSet
from certimetric.geometry import MahalanobisMetric
from certimetric.geometry.norms import resolve_norm
from certimetric.report.changes.outcomes import digest_of, pack
from certimetric.runs.key import Cell, canonical
from certimetric.runs.progress import progress_bar
from certimetric.runs.scheduling import InTurn
from certimetric.runs.store import Store

if TYPE_CHECKING:
    from certimetric.datasets.embedding_files import Embeddings

PROTOCOL = "embedding-cell/1"


class EmbeddingEvidence(RankedEvidence):
    """The evidence of an audit of embeddings."""

    asked = EmbeddingRequest
    scope = "embeddings"

    def options(self) -> dict[str, Any]:
        request = self.request
        first = next(iter(request.models.values()))
        known = (first.labels, first.query_labels, first.ids, first.query_ids, first.groups, first.query_groups)
        return {
            "data": [None if part is None else _digest(part) for part in known],
            "class_names": list(first.class_names),
            "models": [[key, _digest(*_arrays(given))] for key, given in request.models.items()],
            "eps": None if request.radii is None else list(request.radii[0]),
            "report_eps": None if request.radii is None else request.radii[1],
            "n_queries": min(request.n_queries, len(first.gallery if first.queries is None else first.queries)),
            "seed": request.seed,
        }

    def command(self) -> str:
        sizes, seed = list(self._radii()[0]), self.request.seed
        return f"certimetric.auditing.audit_embeddings({{…}}, eps={sizes}, seed={seed})"

    def working(self, progress: bool) -> AbstractContextManager[Callable[[bool], None]]:
        return progress_bar(progress, len(self.request.models))

    def _radii(self) -> tuple[tuple[float, ...], float]:
        also = [threshold.at for threshold in self.request.thresholds if threshold.at]
        return self.request.radii or checked_radii([*RADII, *also], QUOTED)

    def gather(self, store: Store, counting: Callable[[bool], None]) -> Gathered:
        """Rank the queries, and compute the smallest change of each that puts another class first."""
        request, models = self.request, self.request.models
        first = next(iter(models.values()))
        known = _known(models)
        rows = _drawn(known, request.n_queries, request.seed)
        seen = {key: _Seen.of(given, known, rows) for key, given in models.items()}
        sizes, quoted = self._radii()
        cells = InTurn(store)
        learners = []
        for key, given in models.items():
            found = cells.result(_cell(request, key, seen[key]), partial(_ranked, seen[key]))
            counting(False)
            learners.append(_learner(key, given, seen[key], found, sizes, quoted))
        return Gathered(
            data={
                "name": request.name,
                "source": ", ".join(given.source for given in models.values()),
                "n_queries": len(rows),
                "n_without_positive": int((~known.able).sum()),
                "n_gallery": len(first.gallery),
                "n_groups": None if first.groups is None else len(np.unique(first.groups)),
                "n_classes": len(np.unique(first.labels)),
                "image_shape": [first.gallery.shape[1]],
                "sha256": _digest(first.labels, known.labels, known.keys, known.gallery_keys),
                "tested": {"sha256": digest_of(rows), "rows": len(rows), "tests": len(rows)},
            },
            protocol={
                "norm": "l2",
                "units": "neighbour distance",
                "eps": list(sizes),
                "report_eps": quoted,
                "attacks": ["exact smallest change"],
                "objective": "margin",
                "n_checked": 0,
                "seed": request.seed,
            },
            learners=learners,
            observed=Observed(
                {key: each.gallery for key, each in seen.items()},
                {key: each.equal for key, each in seen.items()},
                len(rows),
                known.n_guessed,
            ),
            cells=cells.counts,
            traces={"model_sha256": {key: _digest(*_arrays(given)) for key, given in models.items()}},
        )


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


def _cell(request: EmbeddingRequest, key: str, seen: _Seen) -> Cell:
    """A model: all that its figures depend on is what it sees."""
    sees = {field.name: canonical(getattr(seen, field.name)) for field in fields(seen)}
    source = request.models[key].source
    return Cell("embedding audit", request.name, "", source, key, 0, 0, PROTOCOL, sees)


def _ranked(seen: _Seen) -> dict[str, NDArray[np.float64]]:
    """Figures of each query, and the size of the smallest change that puts another class first."""
    import torch

    from certimetric.deep.ranking.ranks import relevant_ranks
    from certimetric.deep.retrieval.index import figures

    sides = seen.points, seen.labels, seen.keys, seen.gallery, seen.gallery_labels, seen.gallery_keys
    ranks = relevant_ranks(*map(torch.from_numpy, sides))
    clean = {key: np.asarray(value.double()) for key, value in figures(ranks).items()}
    return {**clean, "radii": _smallest(seen, clean["recall_at_1"] > 0)}


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
    key: str, given: Embeddings, seen: _Seen, found: Scores, sizes: Sequence[float], quoted: float
) -> dict[str, Any]:
    import torch

    from certimetric.auditing.retrieval.evidence import flat_map

    clean, radii = {name: found[name] for name in found if name != "radii"}, found["radii"]
    worst = [{"recall_at_1": (radii > eps * seen.scale).astype(float)} for eps in sizes]
    gallery, labels = torch.from_numpy(given.gallery), torch.from_numpy(given.labels)
    attacked = [(eps, scores, {"exact": scores}) for eps, scores in zip(sizes, worst)]
    return describe(key, given.source, gallery, labels, clean, attacked) | {
        "neighbour_distance": seen.scale,
        "outcomes": {
            "recall_at_1": pack(clean["recall_at_1"]),
            "recall_at_1_attacked": pack(worst[sizes.index(quoted)]["recall_at_1"]),
        },
        "per_class": per_class(seen.labels, given.class_names, clean, worst[sizes.index(quoted)]),
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
