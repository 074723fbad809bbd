"""Embeddings that were computed elsewhere, from .npz files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from certimetric.base.arrays import Array, Indices
from certimetric.base.files import read_arrays


@dataclass(frozen=True, eq=False)
class Embeddings:
    """A gallery of embeddings with labels, and queries of their own if there are any.

    Parameters
    ----------
    gallery : float array of shape (n, k)
    labels : int array of shape (n,)
        Positions in ``class_names``.
    class_names : tuple of str
    queries : float array of shape (m, k), optional
        None: every item of the gallery is a query that is not its own result.
    query_labels : int array of shape (m,), optional
        Positions in ``class_names``; the gallery may lack the class.
    source : str
    ids, query_ids : int arrays of shapes (n,) and (m,), optional
        Equal ids are the same picture.
    groups, query_groups : int arrays of shapes (n,) and (m,), optional
        Of a camera, a video, a session: no query finds an item of its own group.
    """

    gallery: Array
    labels: Indices
    class_names: tuple[str, ...]
    queries: Array | None = None
    query_labels: Indices | None = None
    source: str = ""
    ids: Indices | None = None
    query_ids: Indices | None = None
    groups: Indices | None = None
    query_groups: Indices | None = None

    @classmethod
    def from_arrays(
        cls,
        embeddings: object,
        labels: object,
        queries: object = None,
        query_labels: object = None,
        source: str = "",
        *,
        ids: object = None,
        query_ids: object = None,
        groups: object = None,
        query_groups: object = None,
    ) -> Embeddings:
        """Check arrays; labels, ids and groups may be numbers or text.

        Raises
        ------
        ValueError
            If shapes do not fit, values are not finite, there is one class only, only one of gallery and queries has
            ids or groups, or equal ids have different labels or groups.

        Examples
        --------
        >>> Embeddings.from_arrays([[0.0], [1.0]], ["cat", "dog"]).class_names
        ('cat', 'dog')
        """
        told = source or "embeddings"
        gallery = _points(embeddings, f"{told}: the embeddings")
        names, codes = np.unique(_labels(labels, len(gallery), f"{told}: labels"), return_inverse=True)
        if len(names) < 2:
            raise ValueError(f"{told}: the gallery must hold at least two classes, got {len(names)}")
        if (queries is None) != (query_labels is None):
            raise ValueError(f"{told}: queries need labels, and labels of queries need queries")
        points = found = None
        if queries is not None:
            points = _points(queries, f"{told}: the queries")
            if points.shape[1] != gallery.shape[1]:
                raise ValueError(f"{told}: queries have {points.shape[1]} dimensions, the gallery {gallery.shape[1]}")
            own = _labels(query_labels, len(points), f"{told}: query_labels")
            if (own.dtype.kind in "US") != (names.dtype.kind in "US"):
                raise ValueError(f"{told}: labels are of {names.dtype} and query_labels of {own.dtype}")
            names = np.union1d(names, own)  # a query of a class that the gallery lacks has no positive there
            codes = np.searchsorted(names, _labels(labels, len(gallery), f"{told}: labels"))
            found = np.searchsorted(names, own).astype(np.int64)
        codes, n = codes.astype(np.int64), None if points is None else len(points)
        known = {
            name: _codes((ids, len(gallery)), (query_ids, n), f"{told}: {name}")
            for name, ids, query_ids in (("ids", ids, query_ids), ("groups", groups, query_groups))
        }
        _check_ids(known["ids"], {"labels": (codes, found), "groups": known["groups"]}, told)
        return cls(gallery, codes, tuple(map(str, names)), points, found, source, *known["ids"], *known["groups"])


def _points(values: object, what: str) -> Array:
    points = np.asarray(values)
    if points.ndim != 2 or points.dtype.kind not in "fiu" or not points.size:
        raise ValueError(f"{what} must be numbers of shape (n, k), got shape {points.shape} of {points.dtype}")
    points = np.ascontiguousarray(points, dtype=np.float64)
    if not np.isfinite(points).all():
        raise ValueError(f"{what} must be finite")
    return points


def _labels(values: object, n: int, what: str) -> NDArray[np.generic]:
    labels = np.asarray(values)
    if labels.shape != (n,):
        raise ValueError(f"{what} must be one for each of the {n} embeddings, got shape {labels.shape}")
    if labels.dtype.kind not in "biufUS" or (labels.dtype.kind == "f" and not np.isfinite(labels).all()):
        raise ValueError(f"{what} must be numbers or text, got {labels.dtype}")
    return labels


def _codes(
    gallery: tuple[object, int], queries: tuple[object, int | None], what: str
) -> tuple[Indices | None, Indices | None]:
    """Ids or groups of gallery and queries as whole numbers, the same for the same."""
    (own, n), (other, m) = gallery, queries
    if m is None and other is not None:
        raise ValueError(f"{what} of queries need queries")
    if m is not None and (own is None) != (other is None):
        raise ValueError(f"{what} must be given for gallery and queries or for neither")
    if own is None:
        return None, None
    parts = [_labels(own, n, what)] + ([] if m is None else [_labels(other, m, f"{what} of queries")])
    if len({part.dtype.kind in "US" for part in parts}) > 1:
        raise ValueError(f"{what} are of {parts[0].dtype}, and those of queries of {parts[1].dtype}")
    codes = np.unique(np.concatenate(parts), return_inverse=True)[1].astype(np.int64)
    return codes[:n], None if m is None else codes[n:]


_Pair = tuple["Indices | None", "Indices | None"]


def _check_ids(ids: _Pair, others: Mapping[str, _Pair], told: str) -> None:
    """Items of one id must have one label and one group."""
    if ids[0] is None:
        return
    for name, parts in others.items():
        if parts[0] is not None:
            known = np.concatenate([part for part in ids if part is not None])
            values = np.concatenate([part for part in parts if part is not None])
            first = np.unique(known, return_index=True)[1]
            if (values != values[first][known]).any():
                row = int(np.argmax(values != values[first][known]))
                side, row = ("row", row) if row < len(ids[0]) else ("query", row - len(ids[0]))
                raise ValueError(f"{told}: equal ids must be the same picture, but {side} {row} has other {name}")


def load_embeddings(path: str | os.PathLike[str]) -> Embeddings:
    """Read a .npz file with ``embeddings`` (n, k) and ``labels`` (n,), checked by :meth:`Embeddings.from_arrays`.

    ``query_embeddings`` and ``query_labels`` may be there too; otherwise every item is a query. ``ids`` and
    ``query_ids`` tell which are the same picture, ``groups`` and ``query_groups`` which no query shall find. Nothing in
    the file is run.
    """
    known = ("ids", "query_ids", "groups", "query_groups")
    arrays, present = read_arrays(path, ("embeddings", "labels", "query_embeddings", "query_labels", *known))
    if missing := [name for name in ("embeddings", "labels") if name not in arrays]:
        raise ValueError(f"{str(path)!r} lacks the array {missing[0]!r}; it holds {', '.join(present) or 'none'}")
    return Embeddings.from_arrays(
        arrays["embeddings"],
        arrays["labels"],
        arrays.get("query_embeddings"),
        arrays.get("query_labels"),
        str(path),
        **{name: arrays.get(name) for name in known},
    )
