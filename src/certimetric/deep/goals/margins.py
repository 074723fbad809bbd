"""The goal of an attacker of R@1: an item of another class comes first."""

from __future__ import annotations

import torch
from torch import Tensor

from certimetric.deep.goals.base import LevelGoal
from certimetric.deep.ranking.distances import EmbeddingMetric, expanded, expansions

CHUNK = 2**22  # distances of embeddings that are looked at together


class MarginGoal(LevelGoal):
    """Distance to the nearest positive minus distance to the nearest negative: positive exactly when R@1 breaks.

    A positive is a gallery item of the query's label that is not the query itself: self-matches are known by their ids,
    never by their rank, for an attacked query need not be its own nearest neighbour.

    Parameters
    ----------
    labels : int tensor of shape (b,)
        Of the queries.
    gallery : tensor of shape (n, k)
        Embeddings; no gradient flows into them.
    gallery_labels : int tensor of shape (n,)
    ids, gallery_ids : int tensors of shape (b,) and (n,), optional
        Items of the query's id count for nothing: the same picture, or one of the same group.
    metric : {"euclidean", "cosine", "normalized-euclidean"}, default="euclidean"
        How distances are measured.

    Raises
    ------
    ValueError
        If a query has no positive or no negative in the gallery.

    Notes
    -----
    A tie between positive and negative counts as broken. The nearest are looked for by products in double precision,
    about the middle of the gallery; their distances are computed from differences. Embeddings that lie close together,
    or are small, are told apart as any others are.

    Examples
    --------
    >>> gallery, labels = torch.tensor([[0.0], [4.0]]), torch.tensor([0, 1])
    >>> goal = MarginGoal(torch.tensor([0, 0]), gallery, labels)
    >>> goal(torch.tensor([[1.0], [3.0]])).tolist(), goal.broken(torch.tensor([[1.0], [3.0]])).tolist()
    ([-2.0, 2.0], [False, True])
    """

    per_sample: tuple[str, ...] = ("labels", "ids")

    def __init__(
        self,
        labels: Tensor,
        gallery: Tensor,
        gallery_labels: Tensor,
        ids: Tensor | None = None,
        gallery_ids: Tensor | None = None,
        *,
        metric: str = "euclidean",
    ):
        if (ids is None) != (gallery_ids is None):
            raise ValueError("ids of queries and gallery_ids must be given together, or neither")
        self.labels, self.ids = labels, ids
        self.metric = EmbeddingMetric(metric)
        self.gallery = self.metric.place(gallery.detach())
        self.gallery_labels, self.gallery_ids = gallery_labels, gallery_ids
        self.centre = self.gallery.mean(dim=0, dtype=torch.double)
        with torch.no_grad():
            same, own = labels[:, None] == gallery_labels, self._self_matches()
            alone, all_same = ~(same & ~own).any(dim=1), (same | own).all(dim=1)
        for flags, kind in ((alone, "positive"), (all_same, "negative")):
            if flags.any():
                row = int(flags.nonzero()[0])
                raise ValueError(f"query {row} has no {kind} in the gallery: leave such queries out")

    def _self_matches(self, part: slice = slice(None), rows: slice = slice(None)) -> Tensor:
        """Which of some items count for nothing, for some of the samples: (b, n), or one False for all."""
        if self.ids is None or self.gallery_ids is None:
            return torch.zeros(1, dtype=torch.bool, device=self.gallery.device)
        return self.ids[part, None] == self.gallery_ids[rows]

    def __call__(self, embeddings: Tensor) -> Tensor:
        positive, negative = self._distances(embeddings)
        return positive - negative

    def _distances(self, embeddings: Tensor, farthest: bool = False) -> tuple[Tensor, Tensor]:
        """From the nearest positive, and from the nearest or farthest negative, (b,) each."""
        placed = self.metric.place(embeddings)
        positive, negative = self._search(placed.detach(), farthest)
        return self.metric.paired(placed, self.gallery[positive]), self.metric.paired(placed, self.gallery[negative])

    @torch.no_grad()
    def _search(self, placed: Tensor, farthest: bool = False) -> list[Tensor]:
        """Gallery rows of the nearest positive, and of the nearest or farthest negative, of each query."""
        points, b = expanded(placed, self.centre)[0], len(placed)
        best = [torch.full((b,), torch.inf, device=placed.device, dtype=torch.double) for _ in range(2)]
        index = [torch.zeros(b, dtype=torch.long, device=placed.device) for _ in range(2)]
        for rows, products, _ in expansions(points, self.gallery, self.centre, 4 * CHUNK):
            same, own = self.labels[:, None] == self.gallery_labels[rows], self._self_matches(rows=rows)
            for kind, wrong in enumerate((~same | own, same | own)):
                if kind:  # the second time the products are not needed any more
                    seen = (products.neg_() if farthest else products).masked_fill_(wrong, torch.inf)
                else:
                    seen = products.masked_fill(wrong, torch.inf)
                value, where = seen.min(dim=1)
                nearer = value < best[kind]
                best[kind] = torch.where(nearer, value, best[kind])
                index[kind] = torch.where(nearer, where + rows.start, index[kind])
        return index
