"""Approximate indexes: what a search as deployed finds, beside the exact one on which all evidence rests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from certimetric.base.arrays import Indices

KINDS = ("faiss", "hnswlib", "usearch")
Search = Callable[[NDArray[np.float32], int], Any]
"""Queries (m, k) in single precision, and how many results are wanted, to rows of the gallery (m, r), −1 for none."""
_BATCH, _OTHERS = 65_536, 100  # items that are added at once; items of a query's own key that are looked past


def check_index(index: Any) -> None:
    """See that an index is known, and the package that makes it is installed; a ValueError or ImportError if not."""
    if index is None or callable(index):
        return
    kind, _, told = str(index).partition(":")
    if kind not in KINDS or (kind == "faiss") != bool(told):
        raise ValueError(f"index must be faiss:FACTORY or faiss:FILE, hnswlib, usearch or a function, got {index!r}")
    try:
        __import__(kind)
    except ImportError:
        package = "faiss-cpu" if kind == "faiss" else kind
        raise ImportError(f"the index {index!r} needs {kind}: pip install {package}") from None


def search_of(index: Any, gallery: NDArray[Any], metric: str) -> Search:
    """The search of an index over a gallery (n, k), built here unless it is a function or a file.

    Parameters
    ----------
    index : str or callable
        ``faiss:FACTORY`` such as ``faiss:IVF64,Flat``, ``faiss:FILE`` of an index with the gallery's rows in order,
        ``hnswlib`` or ``usearch`` with the settings that they come with; or a function, see ``Search``.
    gallery : float array of shape (n, k)
    metric : {"euclidean", "cosine", "dot"}
        By cosine, items and queries are scaled to length 1 first.
    """
    if callable(index):
        return lambda points, k: index(points, k)
    kind, _, told = str(index).partition(":")
    make = {"faiss": _faiss, "hnswlib": _hnswlib, "usearch": _usearch}[kind]
    search = make(gallery, metric, told)
    return lambda points, k: search(_singles(points, metric), k)


def _singles(points: NDArray[Any], metric: str) -> NDArray[np.float32]:
    points = np.ascontiguousarray(points, dtype=np.float32)
    if metric != "cosine":
        return points
    lengths = np.linalg.norm(points, axis=1, keepdims=True)
    return np.asarray(points / np.where(lengths > 0, lengths, 1.0), dtype=np.float32)


def _batches(gallery: NDArray[Any], metric: str) -> Any:
    for start in range(0, len(gallery), _BATCH):
        yield start, _singles(gallery[start : start + _BATCH], metric)


def _faiss(gallery: NDArray[Any], metric: str, told: str) -> Search:
    import faiss

    if Path(told).is_file():
        made = faiss.read_index(told)
        if (made.ntotal, made.d) != gallery.shape:
            sizes = " × ".join(map(str, gallery.shape))
            raise ValueError(f"index {told!r} holds {made.ntotal} × {made.d} numbers, the gallery {sizes}")
    else:
        kind = faiss.METRIC_L2 if metric == "euclidean" else faiss.METRIC_INNER_PRODUCT
        try:
            made = faiss.index_factory(gallery.shape[1], told, kind)
        except RuntimeError:
            raise ValueError(f"index must be faiss:FACTORY or faiss:FILE, {told!r} is neither") from None
        rows = np.random.default_rng(0).permutation(len(gallery))[:_BATCH]
        made.train(_singles(gallery[np.sort(rows)], metric))
        for _, part in _batches(gallery, metric):
            made.add(part)
    return lambda points, k: made.search(points, k)[1]


def _hnswlib(gallery: NDArray[Any], metric: str, _: str) -> Search:
    import hnswlib

    made = hnswlib.Index(space="l2" if metric == "euclidean" else "ip", dim=gallery.shape[1])
    made.init_index(max_elements=len(gallery), random_seed=0)
    for start, part in _batches(gallery, metric):
        made.add_items(part, np.arange(start, start + len(part)), num_threads=1)  # more are not repeatable

    def search(points: NDArray[np.float32], k: int) -> Any:
        made.set_ef(max(10, k))
        return made.knn_query(points, k)[0].astype(np.int64)

    return search


def _usearch(gallery: NDArray[Any], metric: str, _: str) -> Search:
    from usearch.index import Index

    made = Index(ndim=gallery.shape[1], metric="l2sq" if metric == "euclidean" else "ip")
    for start, part in _batches(gallery, metric):
        made.add(np.arange(start, start + len(part)), part, threads=1)
    return lambda points, k: np.asarray(made.search(points, k).keys, dtype=np.int64).reshape(len(points), -1)


def first_of_index(search: Search, points: NDArray[Any], keys: Indices, gallery_keys: Indices) -> Indices:
    """The row that an index finds first for each query (m, k), without those of the query's own key; −1 for none."""
    _, counts = np.unique(gallery_keys, return_counts=True)
    k = min(1 + min(int(counts.max()), _OTHERS), len(gallery_keys))
    found = np.asarray(search(np.ascontiguousarray(points, dtype=np.float32), k), dtype=np.int64)
    if found.ndim != 2 or len(found) != len(points) or found.min() < -1 or found.max() >= len(gallery_keys):
        raise ValueError(f"index must give rows of the gallery, (m, r), got shape {found.shape}")
    allowed = (found >= 0) & (gallery_keys[found] != keys[:, None])
    best = allowed.argmax(axis=1)
    rows = np.arange(len(points))
    return np.where(allowed[rows, best], found[rows, best], -1)
