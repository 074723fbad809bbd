"""A gallery as a model sees it: embedded once, ranked for clean and attacked queries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from certimetric.deep.attacks.base import Attack
from certimetric.deep.goals.base import Goal
from certimetric.deep.goals.margins import MarginGoal
from certimetric.deep.models.calling import as_module, device_of, embed
from certimetric.deep.models.comparing import placed_items, querying
from certimetric.deep.models.images import ImageSet, LazyImages
from certimetric.deep.ranking.ranks import nearest, relevant_ranks
from certimetric.deep.retrieval.same_pictures import exclusion_keys

RECALL_AT = (1, 2, 4, 8, 10, 100, 1000)
PRECISION_AT = (10,)

GoalFactory = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Goal]


class Index:
    """The embeddings of a gallery, against which queries are attacked and ranked.

    Parameters
    ----------
    model, gallery, batch_size, goal, surrogate, metric
        As of :func:`evaluate_retrieval`. Embeddings of the surrogate may be of another length.

    Examples
    --------
    >>> items = ImageSet(torch.linspace(0, 1, 4).reshape(4, 1, 1, 1), torch.tensor([0, 0, 1, 1]))
    >>> Index(nn.Flatten(), items).score(items)["recall_at_1"]
    tensor([1., 0., 0., 1.])
    """

    def __init__(
        self,
        model: nn.Module | Callable[[Tensor], Any],
        gallery: ImageSet,
        batch_size: int = 256,
        goal: GoalFactory | None = None,
        surrogate: nn.Module | Callable[[Tensor], Any] | None = None,
        metric: str = "euclidean",
    ):
        model = as_module(model)
        # Other searches are that of the nearest, of embeddings that are placed otherwise.
        self.model, self.gallery, self.batch_size = querying(model, metric), gallery, batch_size
        self.make = MarginGoal if goal is None else goal
        self.goal_name = getattr(self.make, "__name__", type(self.make).__name__)
        self.device = device_of(model)
        self.embeddings = placed_items(embed(model, gallery.images, batch_size, gallery.kind), metric)
        self._asked_alike = metric == "euclidean"  # queries are placed as items are
        self.labels, self.ids = gallery.labels.to(self.device), gallery.keys.to(self.device)
        self.attacker = self if surrogate is None else Index(surrogate, gallery, batch_size, goal, metric=metric)

    def goal(self, queries: ImageSet) -> Goal:
        """What an attacker of these queries maximises. Queries need a positive and a negative in the gallery."""
        labels = queries.labels.to(self.device)
        return self.make(labels, self.embeddings, self.labels, self.keys_of(queries), self.ids)

    def keys_of(self, queries: ImageSet) -> Tensor:
        """Ids, or groups, by which queries are kept from finding themselves: int (m,)."""
        return exclusion_keys(queries, self.gallery)[0].to(self.device)

    def attacked(self, queries: ImageSet, attack: Attack) -> Tensor:
        """The queries as an attack leaves them, a tensor like their images."""
        seen, parts = self.attacker, queries.batches(self.batch_size)
        return torch.cat([attack(seen.model, part.tensor().to(seen.device), seen.goal(part)) for part in parts])

    def score(self, queries: ImageSet, attack: Attack | None = None) -> dict[str, Tensor]:
        """R@k, mAP@R and mAP of each query, attacked or not: tensors of shape (m,)."""
        if attack is None and self._asked_alike and queries.images is self.gallery.images:
            embedded = self.embeddings  # no picture is shown to a model twice
        elif attack is None:
            embedded = embed(self.model, queries.images, self.batch_size, queries.kind)
        else:
            parts = (self.attacked(part, attack) for part in queries.batches(self.batch_size))
            embedded = torch.cat([embed(self.model, part, self.batch_size, queries.kind) for part in parts])
        asked = embedded, queries.labels.to(self.device), self.keys_of(queries)
        return figures(relevant_ranks(*asked, self.embeddings, self.labels, self.ids))

    def nearest(self, images: Tensor | LazyImages, ids: Tensor, k: int) -> Tensor:
        """Gallery rows of the k nearest items of each image, nearest first, other than itself: int (m, k).

        ``ids`` are groups where there are any, see :attr:`ImageSet.keys`.
        """
        embedded = embed(self.model, images, self.batch_size, self.gallery.kind)
        return nearest(embedded, ids.to(self.device), self.embeddings, self.ids, k)


def figures(ranks: Tensor) -> dict[str, Tensor]:
    """Figures of each query from the ranks of its relevant items, (m, r) with 0 for none.

    Returns
    -------
    figures : dict of str to tensor of shape (m,)
        ``recall_at_k`` (a relevant item is among the first k), ``precision_at_k`` (the share of the first k that is
        relevant), ``mrr`` (1 / rank of the first), ``map_at_r``, ``map``, and ``ndcg`` (over the whole ranking, with a
        gain of 1 for each relevant item and a discount of log₂(1 + rank)).

    Examples
    --------
    >>> found = figures(torch.tensor([[1, 4]]))
    >>> found["map_at_r"], found["map"], found["precision_at_10"]
    (tensor([0.5000]), tensor([0.7500]), tensor([0.2000]))
    """
    present = ranks > 0
    n_relevant = present.sum(dim=1).clamp_min(1)
    position = torch.arange(1, ranks.shape[1] + 1, device=ranks.device)
    precision = torch.where(present, position / ranks.clamp_min(1), torch.zeros((), device=ranks.device))
    within = precision * (ranks <= n_relevant[:, None])
    first = torch.where(present[:, 0], ranks[:, 0], torch.full_like(ranks[:, 0], torch.iinfo(ranks.dtype).max))
    discount = torch.where(present, 1 / torch.log2(1.0 + ranks), torch.zeros((), device=ranks.device))
    ideal = torch.log2(1.0 + position).reciprocal().cumsum(dim=0)[n_relevant - 1]
    return {
        **{f"recall_at_{k}": (first <= k).float() for k in RECALL_AT},
        "map_at_r": within.sum(dim=1) / n_relevant,
        "map": precision.sum(dim=1) / n_relevant,
        "mrr": torch.where(present[:, 0], 1.0 / first, torch.zeros((), device=ranks.device)),
        "ndcg": discount.sum(dim=1) / ideal,
        **{f"precision_at_{k}": (present & (ranks <= k)).sum(dim=1) / k for k in PRECISION_AT},
    }
