"""Retrieval where relevance is told pair by pair: several labels an item, or grades, as a sparse matrix."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from scipy.sparse import csr_array

from certimetric.base.arrays import Array, Indices
from certimetric.base.results import Framed
from certimetric.deep.models.comparing import placed_items, placed_queries
from certimetric.deep.ranking.ranks import ranks_of
from certimetric.deep.retrieval.index import figures
from certimetric.deep.retrieval.same_pictures import paired_ids


@dataclass(frozen=True, eq=False)
class RelevanceResult(Framed):
    """Figures of each query that has a relevant item.

    Parameters
    ----------
    figures : dict of str to array of shape (m,)
        As of :func:`~certimetric.deep.retrieval.index.figures`; ``ndcg`` counts the grades.
    rows : int array of shape (m,)
        The queries that have a relevant item.
    n_without_positive : int
        The others.
    """

    figures: dict[str, Array]
    rows: Indices
    n_without_positive: int

    def to_frame(self) -> pd.DataFrame:
        """Means over queries, one row."""
        return pd.DataFrame([{name: float(values.mean()) for name, values in self.figures.items()}])

    def to_json(self) -> str:
        """The figures as JSON."""
        told: dict[str, Any] = {name: values.tolist() for name, values in self.figures.items()}
        return json.dumps({**told, "rows": self.rows.tolist(), "n_without_positive": self.n_without_positive})


def evaluate_relevance(
    queries: ArrayLike,
    gallery: ArrayLike,
    relevance: Any,
    *,
    ids: ArrayLike | None = None,
    gallery_ids: ArrayLike | None = None,
    metric: str = "euclidean",
) -> RelevanceResult:
    """Rank a gallery of embeddings for every query, with the relevance of each pair given.

    Parameters
    ----------
    queries, gallery : arrays of shape (m, k) and (n, k)
    relevance : sparse matrix or array of shape (m, n)
        Grades: an item is relevant where its grade is above 0, and by grades ``ndcg`` weighs it. Of items with several
        labels, ``Y_queries @ Y_gallery.T`` of indicator matrices is the number of labels in common.
    ids, gallery_ids : int arrays of shapes (m,) and (n,), optional
        No query finds an item of its id.
    metric : {"euclidean", "cosine", "dot"}, default="euclidean"

    Returns
    -------
    result : RelevanceResult

    Raises
    ------
    ValueError
        If shapes do not fit, a grade is negative or not finite, or no query has a relevant item.

    Notes
    -----
    Items at equal distance are ranked against the query: those of lower grade first. Of nDCG (Järvelin & Kekäläinen,
    ACM TOIS 2002) the gain is the grade itself and the discount log₂(1 + rank), over the whole ranking, as
    scikit-learn's ``ndcg_score`` has it, which shares gains among ties.

    Examples
    --------
    >>> grades = np.array([[2, 0, 1], [0, 0, 1]])
    >>> result = evaluate_relevance([[0.0], [3.0]], [[1.0], [2.0], [4.0]], grades)
    >>> result.figures["mrr"].round(3), result.figures["ndcg"].round(3)
    (array([1. , 0.5]), array([0.95 , 0.631]))
    """
    points, items = (torch.from_numpy(np.array(part, dtype=_precision(part))) for part in (queries, gallery))
    if points.ndim != 2 or items.ndim != 2 or points.shape[1] != items.shape[1] or not len(points) or not len(items):
        shapes = f"{tuple(points.shape)} and {tuple(items.shape)}"
        raise ValueError(f"queries and gallery must be of shapes (m, k) and (n, k), got {shapes}")
    n = len(items)
    own, theirs = (given.numpy() for given in paired_ids(ids, gallery_ids, len(points), n))
    grades = csr_array(relevance, dtype=np.float64, copy=True)
    if grades.shape != (len(points), n):
        raise ValueError(f"relevance must be of shape ({len(points)}, {n}), got {grades.shape}")
    if not np.isfinite(grades.data).all() or (grades.data < 0).any():
        raise ValueError("relevance must hold grades of at least 0")
    grades.sum_duplicates()
    grades.eliminate_zeros()
    of_row = np.repeat(np.arange(len(points)), np.diff(grades.indptr))
    kept = theirs[grades.indices] != own[of_row]  # a query is not relevant to itself
    order = np.lexsort((grades.data[kept], of_row[kept]))  # lower grades first, which is how ties are ranked
    of_row, rows, gain = of_row[kept][order], grades.indices[kept][order].astype(np.int64), grades.data[kept][order]
    count = np.bincount(of_row, minlength=len(points))
    able = np.flatnonzero(count)
    if not len(able):
        raise ValueError("relevance must name a relevant item for at least one query")
    first = (np.cumsum(count) - count)[able]
    told = tuple(map(torch.from_numpy, (rows, first, count[able])))
    sides = placed_queries(points[able], metric), torch.from_numpy(own[able])
    ranks = ranks_of(*sides, placed_items(items, metric), torch.from_numpy(theirs), told)  # type: ignore[arg-type]
    ordered = torch.where(ranks > 0, ranks, n + 1).sort(dim=1).values
    found = figures(torch.where(ordered <= n, ordered, 0))
    table = np.zeros(ranks.shape)
    table[ranks.numpy() > 0] = gain
    discount = np.where(ranks > 0, 1 / np.log2(1.0 + ranks.clamp_min(1).numpy()), 0.0)
    best = -np.sort(-table, axis=1) / np.log2(2.0 + np.arange(table.shape[1]))
    measured = {name: np.asarray(values.double()) for name, values in found.items()}
    measured["ndcg"] = (table * discount).sum(axis=1) / best.sum(axis=1)
    return RelevanceResult(measured, able, len(points) - len(able))


def _precision(values: ArrayLike) -> type:
    kind = np.asarray(values).dtype
    return np.float32 if kind.kind == "f" and kind.itemsize <= 4 else np.float64
