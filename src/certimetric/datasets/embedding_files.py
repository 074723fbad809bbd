"""Embeddings that were computed elsewhere, from arrays, data frames, files and vector databases."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from certimetric.base.arrays import Indices
from certimetric.datasets.embedding_sources import Arrays, of_frame, read_source

Points = NDArray[np.floating[Any]]
_ROWS = 2**24  # numbers that are looked at together


@dataclass(frozen=True, eq=False)
class Embeddings:
    """A gallery of embeddings with labels, and queries of their own if there are any.

    Parameters
    ----------
    gallery : float array of shape (n, k)
        In the precision that they came in, single or double.
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

    Examples
    --------
    >>> given = Embeddings.from_arrays([[0.0], [1.0], [4.0], [5.0]], ["cat", "cat", "dog", "dog"])
    >>> given.class_names, given.labels.tolist()
    (('cat', 'dog'), [0, 0, 1, 1])
    """

    gallery: Points
    labels: Indices
    class_names: tuple[str, ...]
    queries: Points | None = None
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
        times: object = None,
        queries_from: object = None,
    ) -> Embeddings:
        """Check arrays; labels, ids and groups may be numbers or text, times numbers, dates or ISO text.

        With ``queries_from`` the items from that time on are the queries, and those before it the gallery: as a search
        is used, which knows nothing of what comes.

        Raises
        ------
        ValueError
            If shapes do not fit, values are not finite, there is one class only, only one of gallery and queries has
            ids or groups, equal ids have different labels or groups, or no item is before or from ``queries_from`` on.

        Examples
        --------
        >>> Embeddings.from_arrays([[0.0], [1.0]], ["cat", "dog"]).class_names
        ('cat', 'dog')
        """
        told = source or "embeddings"
        if queries_from is not None:
            if queries is not None:
                raise ValueError(f"{told}: queries_from makes queries of items, and queries were given")
            later = _later(times, queries_from, len(np.asarray(embeddings)), told)
            parts = [np.asarray(part)[rows] for rows in (~later, later) for part in (embeddings, labels)]
            known = [
                (None, None) if part is None else (np.asarray(part)[~later], np.asarray(part)[later])
                for part in (ids, groups)
            ]
            (ids, query_ids), (groups, query_groups) = known
            embeddings, labels, queries, query_labels = parts
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


def _points(values: object, what: str) -> Points:
    points = np.asarray(values)
    if points.ndim != 2 or points.dtype.kind not in "fiu" or not points.size:
        raise ValueError(f"{what} must be numbers of shape (n, k), got shape {points.shape} of {points.dtype}")
    single = points.dtype.kind == "f" and points.dtype.itemsize <= 4
    found: Points = np.ascontiguousarray(points, dtype=np.float32 if single else np.float64)
    step = max(1, _ROWS // found.shape[1])
    if not all(np.isfinite(found[start : start + step]).all() for start in range(0, len(found), step)):
        raise ValueError(f"{what} must be finite")
    return found


def _later(times: object, since: object, n: int, told: str) -> NDArray[np.bool_]:
    """Which items are from a time on."""
    if times is None:
        raise ValueError(f"{told}: queries_from needs times")
    known = np.asarray(times)
    if known.shape != (n,):
        raise ValueError(f"{told}: times must be one for each of the {n} embeddings, got shape {known.shape}")
    try:
        if known.dtype.kind in "biuf":
            later = known >= float(since)  # type: ignore[arg-type]
        else:
            later = np.asarray(known.astype("M8[us]") >= np.datetime64(str(since)))
    except ValueError as error:
        raise ValueError(
            f"{told}: times and queries_from must be numbers or dates such as 2026-01-31 ({error})"
        ) from None
    if later.all() or not later.any():
        raise ValueError(
            f"{told}: of {n} items {int(later.sum())} are from {since} on: queries and a gallery are needed"
        )
    return later


def _labels(values: object, n: int, what: str) -> NDArray[np.generic]:
    labels = np.asarray(_text(values))
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


def load_embeddings(
    path: str | os.PathLike[str],
    *,
    queries: str | os.PathLike[str] | None = None,
    labels: str | os.PathLike[str] | None = None,
    query_labels: str | os.PathLike[str] | None = None,
    columns: Mapping[str, str] | None = None,
    queries_from: object = None,
) -> Embeddings:
    """Read embeddings from a file or a table of a vector database, checked by :meth:`Embeddings.from_arrays`.

    Parameters
    ----------
    path : str or path
        Of the gallery, any that :func:`~certimetric.datasets.embedding_sources.read_source` reads: ``embeddings``
        (n, k) and ``labels`` (n,); ``ids``, ``groups`` and ``times`` may be there too. A ``.npz`` or ``.safetensors``
        file may hold queries as well, as ``query_embeddings``, ``query_labels`` and so on. Without queries every item
        is one.
    queries : str or path, optional
        Of the queries, in the same form.
    labels, query_labels : str or path, optional
        Files of the same rows with labels, or with ids, groups and times too, for embeddings that lie alone.
    columns : mapping of str to str, optional
        How arrays or columns are called that have other names, ``{"labels": "sku"}``.
    queries_from : number or date, optional
        Items from this time on are the queries, the others the gallery.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = pathlib.Path(folder.name, "gallery.npz")
    >>> np.savez(path, embeddings=[[0.0], [1.0], [4.0], [5.0]], labels=["cat", "cat", "dog", "dog"])
    >>> load_embeddings(path).gallery.shape
    (4, 1)
    """
    arrays = _with_labels(path, labels, columns)
    if queries is not None:
        if own := [name for name in arrays if name.startswith("query_")]:
            raise ValueError(f"{str(path)!r} holds {own[0]!r}: queries are there already")
        arrays |= {f"query_{name}": values for name, values in _with_labels(queries, query_labels, columns).items()}
    elif query_labels is not None:
        raise ValueError("query_labels needs queries")
    if missing := [name for name in ("embeddings", "labels") if name not in arrays]:
        kind = "array" if str(path).endswith((".npz", ".safetensors")) else "column"
        held = ", ".join(arrays) or "none"
        called = "columns tells what they are called (--column labels=NAME)"
        if labels is not None and missing == ["labels"]:
            raise ValueError(f"{str(labels)!r} holds nothing called labels: {called}")
        hint = f": {called}, or labels the file where they are (--labels FILE)" if missing == ["labels"] else ""
        raise ValueError(
            f"{str(path)!r} lacks the {kind} {missing[0]!r}; of those that are known it holds {held}{hint}"
        )
    return _made(arrays, str(path), queries_from)


def frame_embeddings(
    frame: object, queries: object = None, *, columns: Mapping[str, str] | None = None, queries_from: object = None
) -> Embeddings:
    """The same of data frames of pandas, polars or Arrow: a column of lists, one of labels, and the like.

    Parameters
    ----------
    frame, queries : DataFrame of pandas or polars, or Arrow table
        Of the gallery, and of queries of their own.
    columns, queries_from
        As of :func:`load_embeddings`.

    Examples
    --------
    >>> import pandas as pd
    >>> frame = pd.DataFrame({"embedding": [[0.0], [1.0], [4.0], [5.0]], "sku": ["a", "a", "b", "b"]})
    >>> frame_embeddings(frame, columns={"labels": "sku"}).labels
    array([0, 0, 1, 1])
    """
    arrays = of_frame(frame, columns)
    if queries is not None:
        arrays |= {f"query_{name}": values for name, values in of_frame(queries, columns, "the queries").items()}
    if missing := [name for name in ("embeddings", "labels") if name not in arrays]:
        raise ValueError(f"the frame lacks a column of {missing[0]}: name it by columns")
    return _made(arrays, "frame", queries_from)


def _with_labels(path: object, labels: object, columns: Mapping[str, str] | None) -> Arrays:
    if labels is None:
        return read_source(str(path), columns)
    columns = columns or {}
    known = {name: column for name, column in columns.items() if name == "embeddings"}
    if str(labels).endswith(".npy"):
        beside = {"labels": read_source(str(labels))["embeddings"]}
    else:
        beside = read_source(str(labels), {name: column for name, column in columns.items() if name not in known})
        beside.pop("embeddings", None)
    return read_source(str(path), known) | beside


def _made(arrays: Arrays, source: str, queries_from: object) -> Embeddings:
    names = ("ids", "query_ids", "groups", "query_groups", "times")
    return Embeddings.from_arrays(
        arrays["embeddings"],
        arrays["labels"],
        arrays.get("query_embeddings"),
        arrays.get("query_labels"),
        source,
        **{name: _text(arrays.get(name)) for name in names},
        queries_from=queries_from,
    )


def _text(values: Any) -> Any:
    """Arrays of objects, as data frames have them, as text."""
    return values.astype(str) if isinstance(values, np.ndarray) and values.dtype.kind == "O" else values
