"""Items that an attacker adds to a gallery: how many queries they capture, and how many of them a vote withstands."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from numbers import Integral

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from certimetric.base.arguments import require
from certimetric.base.arrays import Array, Indices
from certimetric.base.results import Framed, Told
from certimetric.deep.models.comparing import placed_items, placed_queries
from certimetric.deep.ranking.distances import by_differences, slices
from certimetric.deep.ranking.ranks import nearest
from certimetric.deep.retrieval.same_pictures import paired_ids

_KNOWN = 2000  # queries that the attacker knows, at most
_AROUND = (3, 10, 30)  # of whose means items are tried too
_NUMBERS = 2**22  # held together


@dataclass(frozen=True, eq=False)
class PoisoningResult(Told, Framed):
    """Items that were added, and the queries whose first result is one of them.

    Parameters
    ----------
    items : array of shape (a, k)
        Embeddings of the added items, the one that captures most first.
    captured_known : array of shape (a,)
        Share of the queries the attacker knew that the first 1, …, a items capture.
    captured_new : array of shape (a,)
        The same of queries that the attacker did not know.
    new : int array of shape (u,)
        Rows of the queries that the attacker did not know.
    captured_by : int array of shape (u,)
        Of each of them how many of the first items it takes until one captures it; 0 where none does.
    """

    items: Array
    captured_known: Array
    captured_new: Array
    new: Indices
    captured_by: Indices

    def to_frame(self) -> pd.DataFrame:
        """A row for each number of added items."""
        numbers = np.arange(1, len(self.items) + 1)
        shares = {"captured_known": self.captured_known, "captured_new": self.captured_new}
        return pd.DataFrame({"n_added": numbers, **shares})


def poison_gallery(
    queries: ArrayLike,
    gallery: ArrayLike,
    n_added: int = 10,
    *,
    ids: ArrayLike | None = None,
    gallery_ids: ArrayLike | None = None,
    metric: str = "euclidean",
    seed: int = 0,
) -> PoisoningResult:
    """Add items to a gallery that come first for as many queries as possible.

    The attacker knows half of the queries, at most 2,000, and the embeddings of the gallery, and may place items
    anywhere; compared by inner product, items may be as long as the longest of the gallery. Tried are the places of
    known queries and means of the nearest 3, 10 and 30 of them; items are chosen greedily, each the one that captures
    most of those left: of the best choice among the places tried that is at least the share 1 − 1/e.

    Parameters
    ----------
    queries, gallery : arrays of shape (m, k) and (n, k)
    n_added : int, default=10
    ids, gallery_ids : int arrays of shapes (m,) and (n,), optional
        No query finds an item of its id.
    metric : {"euclidean", "cosine", "dot"}, default="euclidean"
    seed : int, default=0
        Of which queries are known.

    Returns
    -------
    result : PoisoningResult
        A lower bound on what can be captured. A tie counts for the attacker.

    Raises
    ------
    ValueError
        If shapes do not fit, or there are fewer than two queries.

    References
    ----------
    Nemhauser et al., *An analysis of approximations for maximizing submodular set functions* [nemhauser1978analysis],
    1978, for the share.

    Examples
    --------
    >>> queries = [[0.0], [0.1], [0.2], [0.3]]
    >>> poison_gallery(queries, [[5.0], [-4.0]], 1).captured_new
    array([1.])
    """
    points, items = _points(queries, "queries"), _points(gallery, "gallery")
    if len(points) < 2 or points.shape[1] != items.shape[1]:
        raise ValueError(f"queries must be at least two of {items.shape[1]} dimensions, got {tuple(points.shape)}")
    require(isinstance(n_added, Integral) and n_added >= 1, "n_added", "must be a number of items, at least 1", n_added)
    own, theirs = paired_ids(ids, gallery_ids, len(points), len(items))
    order = torch.randperm(len(points), generator=torch.Generator().manual_seed(seed))
    known, new = order[: min(_KNOWN, len(points) // 2)], order[len(points) // 2 :]
    placed = placed_queries(points, metric), placed_items(items, metric)
    reach = _first(placed[0], own, placed[1], theirs)
    tried = _places(points[known], items, metric)
    # Beside the gallery, so that inner products are told in the same distance.
    there = placed_items(torch.cat([items, tried]), metric)[len(items) :]
    chosen, left = [], torch.ones(len(known), dtype=torch.bool)
    covers = _captured(placed[0][known], reach[known], there)
    for _ in range(min(n_added, len(tried))):
        best = int((covers & left).sum(dim=1).argmax())
        chosen.append(best)
        left &= ~covers[best]
    caught = _captured(placed[0][new], reach[new], there[chosen])
    shares = [each.double().cummax(dim=0).values.mean(dim=1).numpy() for each in (covers[chosen], caught)]
    by = torch.where(caught.any(dim=0), caught.int().argmax(dim=0) + 1, 0)
    return PoisoningResult(tried[chosen].double().numpy(), shares[0], shares[1], new.numpy(), by.numpy())


def _places(known: Tensor, items: Tensor, metric: str) -> Tensor:
    """Where items are tried: at known queries and means of neighbours; by "dot" as long as the longest item."""
    placed = placed_queries(known, metric)
    near = nearest(placed, torch.full((len(known),), -1), placed, torch.arange(len(known)), max(_AROUND))
    means = [known[near[:, :k]].mean(dim=1) for k in _AROUND if k <= near.shape[1]]
    tried = torch.cat([known, *means])
    if metric == "dot":
        lengths = tried.norm(dim=1, keepdim=True)
        tried = tried * (items.norm(dim=1).max() / torch.where(lengths > 0, lengths, 1.0))
    return tried


def _first(points: Tensor, own: Tensor, items: Tensor, theirs: Tensor) -> Tensor:
    """Distance of each query to its first result, infinite where there is none."""
    found = nearest(points, own, items, theirs, 1)
    if not found.shape[1]:
        return torch.full((len(points),), torch.inf, dtype=torch.double)
    return by_differences(points[:, None], items[found[:, 0], None])[:, 0, 0]


def _captured(points: Tensor, reach: Tensor, items: Tensor) -> Tensor:
    """Whether each item (a, k) comes first for each query (m, k): bool (a, m)."""
    parts = slices(len(items), _NUMBERS // len(points))
    return torch.cat([by_differences(items[part], points) <= reach for part in parts])


@dataclass(frozen=True, eq=False)
class AdditionCertificate(Told, Framed):
    """Predictions by a vote of the parts of a gallery, and how many added items each withstands.

    Parameters
    ----------
    predictions : int array of shape (m,)
        Labels.
    certified : int array of shape (m,)
        No items that are added (or removed), this many or fewer, change the prediction.
    votes : int array of shape (m,)
        For the prediction.
    n_parts : int
    """

    predictions: Indices
    certified: Indices
    votes: Indices
    n_parts: int

    def certified_recall(self, labels: ArrayLike, n_added: ArrayLike) -> Array:
        """Share of queries that are right and stay so whatever items are added, up to so many.

        A query that no part has a result for is not right.
        """
        known, sizes = np.asarray(labels), np.asarray(n_added)
        require(
            known.shape == self.predictions.shape, "labels", f"must be {len(self.predictions)}, one a query", labels
        )
        require(bool((sizes >= 0).all()), "n_added", "must hold numbers of at least 0", n_added)
        right = np.where((self.predictions == known) & (self.votes > 0), self.certified, -1)
        return np.asarray((right >= sizes[..., None]).mean(axis=-1))

    def to_frame(self) -> pd.DataFrame:
        """A row for each query."""
        told = {"prediction": self.predictions, "certified": self.certified, "votes": self.votes}
        return pd.DataFrame(told)


def certify_additions(
    queries: ArrayLike,
    gallery: ArrayLike,
    labels: ArrayLike,
    *,
    n_parts: int = 50,
    ids: ArrayLike | None = None,
    gallery_ids: ArrayLike | None = None,
    metric: str = "euclidean",
) -> AdditionCertificate:
    """Predict by a vote of the parts of a gallery, and certify how many added items do not change it.

    One added item can come first for every query there is, so that the first result of a gallery withstands none. Here
    the gallery falls into parts by a digest of each item's own embedding, every part votes for the label of its first
    result, and the label with the most votes is the prediction, the smaller one of two.

    Parameters
    ----------
    queries, gallery : arrays of shape (m, k) and (n, k)
    labels : int array of shape (n,)
    n_parts : int, default=50
        More withstand more items, and are right less often, for each sees less of the gallery.
    ids, gallery_ids : int arrays of shapes (m,) and (n,), optional
        No query finds an item of its id.
    metric : {"euclidean", "cosine"}, default="euclidean"

    Returns
    -------
    certificate : AdditionCertificate

    Raises
    ------
    ValueError
        If shapes or settings do not fit.

    Notes
    -----
    In which part an item is depends on the item alone, and what a part says on its items alone. So whatever is added,
    label and id included, or removed, r items change the votes of at most r parts: the prediction loses at most r votes
    and another label, one that the gallery lacked included, gains at most r. With a votes for the prediction and b for
    the next it stands while ``a − r > b + r``, that is for ``r ≤ (a − b − 1) / 2``. Distances are computed exactly as
    differences of the embeddings as they are, so that no rounding in one part depends on another; for this reason
    inner products are not certified.

    References
    ----------
    Levine and Feizi, *Deep partition aggregation*, arXiv 2006.14768 [levine2021deep].

    Examples
    --------
    >>> gallery = np.concatenate([np.linspace(0, 1, 40), np.linspace(9, 10, 40)])[:, None]
    >>> found = certify_additions([[0.5]], gallery, np.repeat([0, 1], 40), n_parts=5)
    >>> found.predictions, found.certified
    (array([0]), array([2]))
    """
    points, items = _points(queries, "queries"), _points(gallery, "gallery")
    known = np.asarray(labels)
    if known.shape != (len(items),) or known.dtype.kind not in "iu":
        raise ValueError(f"labels must be {len(items)} whole numbers, got shape {known.shape} of {known.dtype}")
    if points.shape[1] != items.shape[1]:
        raise ValueError(f"queries have {points.shape[1]} dimensions, the gallery {items.shape[1]}")
    require(isinstance(n_parts, Integral) and n_parts >= 1, "n_parts", "must be a number of parts, at least 1", n_parts)
    require(metric in ("euclidean", "cosine"), "metric", "must be 'euclidean' or 'cosine'", metric)
    own, theirs = paired_ids(ids, gallery_ids, len(points), len(items))
    classes, codes = np.unique(known, return_inverse=True)
    votes = np.zeros((len(points), len(classes)), dtype=np.int64)
    parts, placed = parts_of(items.numpy(), n_parts), placed_queries(points, metric)
    for part in range(n_parts):
        rows = np.flatnonzero(parts == part)
        if not len(rows):
            continue
        seen, their = placed_items(items[rows], metric), theirs[rows]
        alone = torch.isin(own, their)
        for some in (~alone, alone):  # nearest gives as many results as every one of some queries has
            asked = some.nonzero()[:, 0]
            for query in asked[:, None] if bool(alone[asked].any()) else asked[None]:
                found = nearest(placed[query], own[query], seen, their, 1)
                if len(query) and found.shape[1]:
                    votes[query.numpy(), codes[rows[found[:, 0].numpy()]]] += 1
    first = votes.argmax(axis=1)
    most = votes.max(axis=1)
    others = votes.copy()
    others[np.arange(len(points)), first] = 0
    certified = np.maximum((most - others.max(axis=1) - 1) // 2, 0)
    return AdditionCertificate(classes[first].astype(np.int64), certified, most, n_parts)


def parts_of(items: NDArray[np.floating], n_parts: int) -> Indices:
    """The part that each item (n, k) is in, by a digest of its embedding alone; 0 and −0 are the same."""
    rows = np.ascontiguousarray(items, dtype=np.float64) + 0.0
    told = (hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in rows)
    return np.array([int.from_bytes(digest, "big") % n_parts for digest in told], dtype=np.int64)


def _points(values: ArrayLike, what: str) -> Tensor:
    points = np.array(values)
    if points.ndim != 2 or points.dtype.kind not in "fiu" or not points.size or not np.isfinite(points).all():
        raise ValueError(f"{what} must be finite numbers of shape (n, k), got shape {points.shape} of {points.dtype}")
    return torch.from_numpy(points.astype(np.float64))
