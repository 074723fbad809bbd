"""Where the relevant items of a gallery stand in the ranking of each query: exact, in bounded memory."""

from __future__ import annotations

import torch
from torch import Tensor

_MEMORY = 2**24  # floats that are held together


@torch.no_grad()
def relevant_ranks(
    queries: Tensor,
    labels: Tensor,
    ids: Tensor,
    gallery: Tensor,
    gallery_labels: Tensor,
    gallery_ids: Tensor,
    *,
    memory: int = _MEMORY,
) -> Tensor:
    """Ranks of the relevant gallery items of each query, nearest first.

    Relevant are items of the query's label other than the query itself, which is known by its id and is not ranked at
    all. Items at equal distance are ranked against the query: irrelevant ones first.

    Parameters
    ----------
    queries, gallery : tensors of shape (m, k) and (n, k)
    labels, ids, gallery_labels, gallery_ids : int tensors of shapes (m,) and (n,)
    memory : int
        Bound on the floats held together.

    Returns
    -------
    ranks : int tensor of shape (m, r)
        From 1 on; r is the largest number of relevant items, and 0 fills the rows of queries that have fewer.
    """
    order = torch.argsort(gallery_labels, stable=True)
    sorted_labels = gallery_labels[order]
    first = torch.searchsorted(sorted_labels, labels)
    count = torch.searchsorted(sorted_labels, labels, right=True) - first
    width = max(int(count.max()), 1) if len(count) else 1
    out = torch.zeros((len(queries), width), dtype=torch.long, device=queries.device)
    rows_at_once = max(1, memory // max(width * gallery.shape[1], 1))
    for start in range(0, len(queries), rows_at_once):
        rows = slice(start, start + rows_at_once)
        place = torch.arange(width, device=queries.device)
        within = place < count[rows, None]
        items = order[(first[rows, None] + place).clamp_max(len(order) - 1)]
        relevant = within & (gallery_ids[items] != ids[rows, None])
        distances = (gallery[items] - queries[rows, None]).norm(dim=2).masked_fill(~relevant, torch.inf)
        distances, _ = distances.sort(dim=1)
        ahead = _irrelevant_ahead(queries[rows], labels[rows], gallery, gallery_labels, distances, memory)
        ranks = place + 1 + ahead
        out[rows] = torch.where(torch.isfinite(distances), ranks, torch.zeros_like(ranks))
    widest = int((out > 0).sum(dim=1).max()) if len(out) else 0
    return out[:, : max(widest, 1)]


def _irrelevant_ahead(
    queries: Tensor, labels: Tensor, gallery: Tensor, gallery_labels: Tensor, distances: Tensor, memory: int
) -> Tensor:
    """For each relevant distance (sorted, (q, r)) the number of items of other labels that are no farther."""
    q, r = distances.shape
    passed = torch.zeros((q, r + 1), dtype=torch.long, device=queries.device)
    step = max(1, memory // max(q * gallery.shape[1], 1))
    for start in range(0, len(gallery), step):
        rows = slice(start, start + step)
        # The same differences as for relevant items, so that equal embeddings are at exactly equal distances.
        other = (gallery[None, rows] - queries[:, None]).norm(dim=2)
        other = other.masked_fill(labels[:, None] == gallery_labels[rows], torch.inf)
        # An item is ahead of the relevant ones from the first on that is no nearer than it.
        passed.scatter_add_(1, torch.searchsorted(distances, other), torch.ones_like(other, dtype=torch.long))
    return passed[:, :r].cumsum(dim=1)


@torch.no_grad()
def nearest(
    queries: Tensor, ids: Tensor, gallery: Tensor, gallery_ids: Tensor, k: int, *, memory: int = _MEMORY
) -> Tensor:
    """Rows of the k nearest gallery items of each query, nearest first, other than the query itself: int (m, k).

    Parameters
    ----------
    queries, gallery : tensors of shape (m, d) and (n, d)
    ids, gallery_ids : int tensors of shape (m,) and (n,)
    k : int
        Fewer where the gallery holds fewer.
    memory : int
        Bound on the floats held together.
    """
    k = min(k, len(gallery) - 1)
    out = []
    for part, own in zip(*(t.split(max(1, memory // max(len(gallery), 1))) for t in (queries, ids))):
        distances = torch.cdist(part, gallery, compute_mode="donot_use_mm_for_euclid_dist")
        distances = distances.masked_fill(own[:, None] == gallery_ids, torch.inf)
        out.append(distances.topk(k, dim=1, largest=False).indices)
    return torch.cat(out)
