"""The evidence of an audit of embeddings that were computed elsewhere: exact under changes of the embedding itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from certimetric.auditing.embeddings.changes import smallest
from certimetric.auditing.embeddings.checks import Observed
from certimetric.auditing.embeddings.indexes import first_of_index, search_of
from certimetric.auditing.embeddings.request import QUOTED, RADII, THREATS, EmbeddingRequest
from certimetric.auditing.embeddings.seen import Known, Seen, digest
from certimetric.auditing.retrieval.hubs import FIRST, hubness
from certimetric.auditing.retrieval.poisoning import poison, tell_poisoning
from certimetric.auditing.retrieval.ranking import RankedEvidence, Scores, describe, per_class
from certimetric.auditing.retrieval.request import checked_radii
from certimetric.auditing.retrieval.threat_evidence import threat_outcomes
from certimetric.auditing.retrieval.threats import as_asked, tell_threats
from certimetric.auditing.run import Gathered
from certimetric.base.arrays import Array, Indices
from certimetric.base.results import estimate
from certimetric.report.changes.outcomes import digest_of, pack
from certimetric.runs.key import Cell, canonical
from certimetric.runs.progress import progress_bar
from certimetric.runs.scheduling import InTurn
from certimetric.runs.store import Store

if TYPE_CHECKING:
    from certimetric.datasets.embedding_files import Embeddings

PROTOCOL = "embedding-cell/2"
_NO_FIGURES = ("radii", "changed_first", "index_first", "index_changed", "new", "captured_by", "withstands")


class EmbeddingEvidence(RankedEvidence):
    """The evidence of an audit of embeddings."""

    asked = EmbeddingRequest
    scope = "embeddings"

    def __init__(self, request: EmbeddingRequest) -> None:
        super().__init__(request)
        self.known = Known.of(request.models)
        self.rows = self.known.drawn(request.n_queries, request.seed)  # refused here, before anything is written

    def options(self) -> dict[str, Any]:
        request = self.request
        first = next(iter(request.models.values()))
        known = (first.labels, first.query_labels, first.ids, first.query_ids, first.groups, first.query_groups)
        return {
            "data": [None if part is None else digest(part) for part in known],
            "class_names": list(first.class_names),
            "models": [[key, digest(*_arrays(given))] for key, given in request.models.items()],
            "eps": None if request.radii is None else list(request.radii[0]),
            "report_eps": None if request.radii is None else request.radii[1],
            "n_queries": min(request.n_queries, len(first.gallery if first.queries is None else first.queries)),
            "seed": request.seed,
            "metric": request.metric,
            "index": _index_name(request.index),
            **({"threats": as_asked(request)} if request.threats else {}),
        }

    def command(self) -> str:
        sizes, seed = list(self._radii()[0]), self.request.seed
        also = "" if self.request.metric == "euclidean" else f", metric={self.request.metric!r}"
        also += "" if self.request.index is None else f", index={_index_name(self.request.index)!r}"
        also += f", threats={as_asked(self.request)}" if self.request.threats else ""
        return f"certimetric.auditing.audit_embeddings({{…}}, eps={sizes}, seed={seed}{also})"

    def working(self, progress: bool) -> AbstractContextManager[Callable[[bool], None]]:
        return progress_bar(progress, len(self.request.models))

    def _radii(self) -> tuple[tuple[float, ...], float]:
        also = [threshold.at for threshold in self.request.thresholds if threshold.at]
        return self.request.radii or checked_radii([*RADII, *also], QUOTED)

    def gather(self, store: Store, counting: Callable[[bool], None]) -> Gathered:
        """Rank the queries, and compute the smallest change of each that puts another class first."""
        request, models, known, rows = self.request, self.request.models, self.known, self.rows
        first = next(iter(models.values()))
        sizes, quoted = self._radii()
        cells = InTurn(store)
        learners, equal, galleries = [], {}, {}
        for key, given in models.items():
            seen = Seen.of(given, known, rows, request.metric)
            found = cells.result(_cell(request, key, seen), partial(_ranked, request, given, seen, rows))
            counting(False)
            learners.append(_learner(request, key, given, seen, found, sizes, quoted))
            equal[key], galleries[key] = seen.equal, given.gallery
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
                "sha256": digest(first.labels, known.labels, known.keys, known.gallery_keys),
                "tested": {"sha256": digest_of(rows), "rows": len(rows), "tests": len(rows)},
            },
            protocol={
                "norm": "l2",
                "units": "neighbour distance",
                "eps": list(sizes),
                "report_eps": quoted,
                "attacks": ["exact smallest change"],
                "metric": request.metric,
                "index": _index_name(request.index),
                "objective": "margin",
                "n_checked": 0,
                **tell_threats(request, request.sizes, THREATS),
                "seed": request.seed,
            },
            learners=learners,
            observed=Observed(galleries, equal, len(rows), known, learners, first.class_names),
            cells=cells.counts,
            traces={"model_sha256": {key: digest(*_arrays(given)) for key, given in models.items()}},
        )


def _index_name(index: Any) -> str | None:
    if index is None or isinstance(index, str):
        return index
    return f"{getattr(index, '__module__', '')}.{getattr(index, '__qualname__', type(index).__qualname__)}"


def _cell(request: EmbeddingRequest, key: str, seen: Seen) -> Cell:
    """A model: all that its figures depend on is what it sees, and by which index it is searched."""
    sees = seen.told() | ({} if request.index is None else {"index": canonical(request.index)})
    sees |= {"added items": [*request.sizes.values(), request.seed]} if request.sizes else {}
    source = request.models[key].source
    return Cell("embedding audit", request.name, "", source, key, 0, 0, PROTOCOL, sees)


def _ranked(request: EmbeddingRequest, given: Embeddings, seen: Seen, rows: Indices) -> dict[str, NDArray[Any]]:
    """Figures of each query, the size of the smallest change that puts another class first, and what is found then."""
    import torch

    from certimetric.deep.ranking.ranks import nearest, relevant_ranks
    from certimetric.deep.retrieval.index import figures

    sides = seen.points, seen.labels, seen.keys, seen.gallery, seen.gallery_labels, seen.gallery_keys
    ranks = relevant_ranks(*map(torch.from_numpy, sides))
    found: dict[str, NDArray[Any]] = {key: np.asarray(value.double()) for key, value in figures(ranks).items()}
    found["radii"], changed = smallest(seen, found["recall_at_1"] > 0)
    asked, own, items, keys = map(torch.from_numpy, (changed, seen.keys, seen.gallery, seen.gallery_keys))
    found["changed_first"] = nearest(asked, own, items, keys, FIRST).numpy()
    if request.index is not None:
        k = given.gallery.shape[1]  # without the coordinate of inner products
        search = search_of(request.index, seen.gallery[:, :k], seen.metric)
        for name, points in (("index_first", seen.points), ("index_changed", changed)):
            found[name] = first_of_index(search, points[:, :k], seen.keys, seen.gallery_keys)
    for n_added in request.sizes.values():  # the one threat that needs embeddings alone
        queries = given.gallery if given.queries is None else given.queries
        sides = queries[rows], given.gallery, seen.keys, seen.gallery_keys, seen.labels, seen.gallery_labels
        found |= poison(*sides, n_added=int(n_added), metric=request.metric, seed=request.seed)
    return found


def _learner(
    request: EmbeddingRequest,
    key: str,
    given: Embeddings,
    seen: Seen,
    found: Scores,
    sizes: Sequence[float],
    quoted: float,
) -> dict[str, Any]:
    import torch

    from certimetric.auditing.retrieval.evidence import flat_map

    clean, radii = {name: found[name] for name in found if name not in _NO_FIGURES}, found["radii"]
    worst = [{"recall_at_1": (radii > eps * seen.scale).astype(float)} for eps in sizes]
    gallery, labels = torch.from_numpy(given.gallery), torch.from_numpy(given.labels)
    attacked = [(eps, scores, {"exact": scores}) for eps, scores in zip(sizes, worst)]
    broken = worst[sizes.index(quoted)]["recall_at_1"] == 0
    first = np.where(broken[:, None], found["changed_first"], seen.first).astype(np.int64)
    threats = [
        {"threat": name, "reason": "", **tell_poisoning(found, clean["recall_at_1"] > 0, int(size), len(gallery))}
        for name, size in request.sizes.items()
    ]
    return describe(key, given.source, gallery, labels, clean, attacked) | {
        "neighbour_distance": seen.scale,
        "outcomes": {
            "recall_at_1": pack(clean["recall_at_1"]),
            "recall_at_1_attacked": pack(worst[sizes.index(quoted)]["recall_at_1"]),
            **threat_outcomes(threats),
        },
        "threats": threats,
        "per_class": per_class(seen.labels, given.class_names, clean, worst[sizes.index(quoted)]),
        "examples": [],
        "map": flat_map(given.gallery, given.labels, given.class_names),
        "hubness": {
            "clean": hubness(seen.first, seen.labels, given.labels),
            "attacked": hubness(first, seen.labels, given.labels),
        },
        "deployed": None if request.index is None else _deployed(given, seen, found, broken),
    }


def _deployed(given: Embeddings, seen: Seen, found: Mapping[str, Any], broken: NDArray[np.bool_]) -> dict[str, Any]:
    """R@1 of the index, clean and where those queries are changed whose exact search an attacker breaks; and how often
    it finds the same item first as exact search does."""
    rows = np.asarray(found["index_first"], dtype=np.int64)
    changed = np.where(broken, np.asarray(found["index_changed"], dtype=np.int64), rows)
    return {
        "clean": estimate(_right(given, seen, rows)),
        "attacked": estimate(_right(given, seen, changed)),
        "agreement": float((rows == seen.first[:, 0]).mean()),
    }


def _right(given: Embeddings, seen: Seen, rows: Indices) -> Array:
    return ((rows >= 0) & (given.labels[rows] == seen.labels)).astype(float)


def _arrays(given: Embeddings) -> list[NDArray[Any]]:
    return [given.gallery] if given.queries is None else [given.gallery, given.queries]
