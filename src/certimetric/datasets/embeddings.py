"""Embeddings that were computed elsewhere, from .npz files."""

from __future__ import annotations

import os
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from certimetric.datasets.wording import first_line

# What reading a file of any content raises; an array without pickle runs nothing.
_DAMAGED = (
    OSError,
    ValueError,
    TypeError,
    AttributeError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)


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
    source : str
    """

    gallery: NDArray[np.float64]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    queries: NDArray[np.float64] | None = None
    query_labels: NDArray[np.int64] | None = None
    source: str = ""

    @classmethod
    def from_arrays(
        cls, embeddings: object, labels: object, queries: object = None, query_labels: object = None, source: str = ""
    ) -> Embeddings:
        """Check arrays; labels may be numbers or text.

        Raises
        ------
        ValueError
            If shapes do not fit, values are not finite, there is one class only, or a query has a class that the
            gallery lacks.

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
            if len(unknown := np.setdiff1d(own, names)):
                raise ValueError(f"{told}: the gallery lacks the class {unknown[0]} of a query")
            found = np.searchsorted(names, own).astype(np.int64)
        return cls(gallery, codes.astype(np.int64), tuple(map(str, names)), points, found, source)


def _points(values: object, what: str) -> NDArray[np.float64]:
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


def load_embeddings(path: str | os.PathLike[str]) -> Embeddings:
    """Read a .npz file with ``embeddings`` (n, k) and ``labels`` (n,).

    ``query_embeddings`` and ``query_labels`` may be there too; otherwise every item is a query. Nothing in the file is
    run.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not such a file; see also :meth:`Embeddings.from_arrays`.
    """
    file = Path(path)
    if not file.exists():
        raise FileNotFoundError(f"there is no file {str(file)!r}")
    try:
        with np.load(file, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
    except _DAMAGED as error:
        reason = first_line(error)
        raise ValueError(f"{str(file)!r} is not an .npz file of plain arrays, or a damaged one: {reason}") from None
    if missing := [name for name in ("embeddings", "labels") if name not in arrays]:
        raise ValueError(f"{str(file)!r} lacks the array {missing[0]!r}; it holds {', '.join(arrays) or 'none'}")
    return Embeddings.from_arrays(
        arrays["embeddings"],
        arrays["labels"],
        arrays.get("query_embeddings"),
        arrays.get("query_labels"),
        str(file),
    )
