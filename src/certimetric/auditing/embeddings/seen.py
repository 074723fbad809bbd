"""What is known of queries and gallery apart from any model, and how one model sees them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from certimetric.auditing.retrieval.hubs import FIRST
from certimetric.base.arrays import Indices

if TYPE_CHECKING:
    from certimetric.datasets.embedding_files import Embeddings

NEAR = 0.01  # of the median distance to the nearest item: nearer ones are taken for the same picture


@dataclass(frozen=True, eq=False)
class Known:
    """What is known of queries and gallery apart from any model: no query may find an item of its key."""

    labels: Indices
    keys: Indices
    gallery_keys: Indices
    able: NDArray[np.bool_]  # which queries have an item of their class to find
    n_guessed: int  # queries that were taken for items of the gallery because they equal them

    @classmethod
    def of(cls, models: Mapping[str, Embeddings]) -> Known:
        """Of embeddings of the same items by one or more models."""
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
        return cls(labels, keys, gallery_keys, able, n_guessed)

    def drawn(self, n_queries: int, seed: int) -> Indices:
        """So many of the queries that have an answer, at random."""
        if not self.able.any():
            raise ValueError(
                "no query has another item of its class in the gallery, where nothing of its own id or group counts: "
                "at least one is needed"
            )
        return np.sort(np.random.default_rng(seed).permutation(np.flatnonzero(self.able))[:n_queries])


def _guessed(models: Mapping[str, Embeddings]) -> tuple[Indices, int]:
    """Rows of the gallery that queries equal in every model, of their own class; elsewhere numbers of no row."""
    first = next(iter(models.values()))
    assert first.query_labels is not None
    rows: dict[bytes, int] = {}
    queries = [given.queries for given in models.values() if given.queries is not None]
    wanted = set(_told(queries, first.query_labels))
    for row, item in enumerate(_told([given.gallery for given in models.values()], first.labels)):
        if item in wanted:
            rows.setdefault(item, row)
    found = np.array([rows.get(query, -1) for query in _told(queries, first.query_labels)])
    own = len(first.gallery) + np.arange(len(found))
    return np.where(found < 0, own, found), int((found >= 0).sum())


def _told(embeddings: Sequence[NDArray[Any]], labels: Indices) -> Iterator[bytes]:
    """A digest of what all models and the label say of each item; 0 and −0 are the same."""
    for parts in zip(*embeddings, labels):
        told = b"".join((np.asarray(part, dtype=np.float64) + 0.0).tobytes() for part in parts)
        yield hashlib.blake2b(told, digest_size=16).digest()


@dataclass(frozen=True, eq=False)
class Seen:
    """The queries that are ranked, and the gallery, as one model sees them.

    Both are placed so that Euclidean distance compares them as ``metric`` does. ``scale`` is the median distance from a
    query to the nearest item that it may find, of distances above 0; ``equal`` counts the queries with such an item so
    near that it must be the same picture; ``first`` are the rows (m, ≤ 10) of the first results.
    """

    points: NDArray[Any]
    labels: Indices
    keys: Indices
    gallery: NDArray[Any]
    gallery_labels: Indices
    gallery_keys: Indices
    metric: str
    scale: float
    equal: int
    first: Indices

    @classmethod
    def of(cls, given: Embeddings, known: Known, rows: Indices, metric: str) -> Seen:
        """Of some of the queries."""
        import torch

        from certimetric.deep.models.comparing import placed_items, placed_queries
        from certimetric.deep.ranking.ranks import nearest

        gallery = placed_items(torch.from_numpy(given.gallery), metric)
        queries = given.gallery if given.queries is None else given.queries
        own = placed_queries(torch.from_numpy(queries[rows]), metric).to(gallery.dtype)
        keys, gallery_keys = known.keys[rows], known.gallery_keys
        first = nearest(own, torch.from_numpy(keys), gallery, torch.from_numpy(gallery_keys), FIRST)
        distances = np.asarray((own.double() - gallery[first[:, 0]].double()).norm(dim=1))
        scale = float(np.median(distances[distances > 0])) if (distances > 0).any() else 1.0
        equal = int((distances <= NEAR * scale).sum())
        sides = known.labels[rows], keys, gallery.numpy(), given.labels, gallery_keys
        return cls(own.numpy(), *sides, metric, scale, equal, first.numpy())

    def told(self) -> dict[str, Any]:
        """All that figures depend on, large arrays by their digests."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: [digest(value), str(value.dtype), list(value.shape)] if isinstance(value, np.ndarray) else value
            for name, value in values.items()
        }


def digest(*arrays: NDArray[Any]) -> str:
    """Of the content of arrays, of which no copy is made."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(np.ascontiguousarray(array).data.cast("B"))
    return found.hexdigest()
