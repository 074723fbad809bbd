"""What an attack on embeddings maximises: one value for each sample, and whether the goal is reached."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from certimetric.deep.ranking.distances import EmbeddingMetric, expanded, expansions, separation
from certimetric.deep.ranking.distances import distance as distance  # defenses take it from here

_CHUNK = 2**22  # distances of embeddings that are looked at together
ALIKE = 0.99  # cosine from which an embedding counts as another one


class Objective(ABC):
    """A goal for the embeddings of a batch; attacks maximise it sample by sample.

    A subclass keeps what belongs to its samples in ``per_sample``, by name: each is a tensor of length b, indexed by
    sample, that :meth:`select` cuts.
    """

    per_sample: tuple[str, ...] = ()

    @abstractmethod
    def __call__(self, embeddings: Tensor) -> Tensor:
        """Values (b,) of embeddings (b, k), differentiable."""

    @abstractmethod
    def broken(self, embeddings: Tensor) -> Tensor:
        """Whether each sample has reached the goal, bool (b,): what attacks take for success, and nothing else."""

    def judge(self, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """Values, differentiable, and whether each sample has reached the goal: what attacks ask for at every point.

        A subclass whose values tell success too need not compute them twice.
        """
        return self(embeddings), self.broken(embeddings.detach())

    def select(self, rows: Tensor) -> Objective:
        """The same objective for some of the samples, ``rows`` an index or a mask."""
        part = object.__new__(type(self))
        part.__dict__.update(self.__dict__)
        for name in self.per_sample:
            value = getattr(self, name)
            if value is not None:
                setattr(part, name, value[rows])
        return part


class LevelObjective(Objective):
    """A goal that is reached where its value is not below a level."""

    def level(self) -> float | Tensor:
        """0, or another number, or one (b,) for each sample."""
        return 0.0

    def broken(self, embeddings: Tensor) -> Tensor:
        with torch.no_grad():
            return self(embeddings) >= self.level()

    def judge(self, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        value = self(embeddings)
        return value, value.detach() >= self.level()


class MarginObjective(LevelObjective):
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

    Raises
    ------
    ValueError
        If a query has no positive or no negative in the gallery.

    Notes
    -----
    A tie between positive and negative counts as broken. The nearest are looked for by products in double precision,
    about the middle of the gallery; their distances are computed from differences. Embeddings that lie close together,
    or are small, are told apart as any others are.
    """

    per_sample: tuple[str, ...] = ("labels", "ids")

    def __init__(
        self,
        labels: Tensor,
        gallery: Tensor,
        gallery_labels: Tensor,
        ids: Tensor | None = None,
        gallery_ids: Tensor | None = None,
    ):
        if (ids is None) != (gallery_ids is None):
            raise ValueError("ids of queries and gallery_ids must be given together, or neither")
        self.labels, self.ids = labels, ids
        self.gallery, self.gallery_labels, self.gallery_ids = gallery.detach(), gallery_labels, gallery_ids
        self.centre = self.gallery.mean(dim=0, dtype=torch.double)
        with torch.no_grad():
            same, own = labels[:, None] == gallery_labels, self._self_matches()
            alone, all_same = ~(same & ~own).any(dim=1), (same | own).all(dim=1)
        for flags, kind in ((alone, "positive"), (all_same, "negative")):
            if flags.any():
                raise ValueError(
                    f"query {int(flags.nonzero()[0])} has no {kind} in the gallery: leave such queries out"
                )

    def _self_matches(self, part: slice = slice(None)) -> Tensor:
        """Which items count for nothing, for some of the samples: (b, n), or one False for all."""
        if self.ids is None or self.gallery_ids is None:
            return torch.zeros(1, dtype=torch.bool, device=self.gallery.device)
        return self.ids[part, None] == self.gallery_ids

    def __call__(self, embeddings: Tensor) -> Tensor:
        positive, negative = self._nearest(embeddings.detach())
        return separation(embeddings, self.gallery[positive]) - separation(embeddings, self.gallery[negative])

    @torch.no_grad()
    def _nearest(self, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """Gallery rows of the nearest positive and the nearest negative of each query."""
        points, b = expanded(embeddings, self.centre)[0], len(embeddings)
        best = [torch.full((b,), torch.inf, device=embeddings.device, dtype=torch.double) for _ in range(2)]
        index = [torch.zeros(b, dtype=torch.long, device=embeddings.device) for _ in range(2)]
        for rows, products, _ in expansions(points, self.gallery, self.centre, 4 * _CHUNK):
            same = self.labels[:, None] == self.gallery_labels[rows]
            own = self.ids[:, None] == self.gallery_ids[rows] if self.ids is not None else None  # type: ignore[index]
            positive, wrong = (same, same) if own is None else (same & ~own, same | own)
            for kind in range(2):
                # The second time the products are not needed any more.
                seen = products.masked_fill_(wrong, torch.inf) if kind else torch.where(positive, products, torch.inf)
                value, where = seen.min(dim=1)
                nearer = value < best[kind]
                best[kind] = torch.where(nearer, value, best[kind])
                index[kind] = torch.where(nearer, where + rows.start, index[kind])
        return index[0], index[1]


class AwayFromPositive(LevelObjective):
    """Distance to a reference, such as the nearest positive of each sample; broken from ``reach`` on.

    Parameters
    ----------
    references : tensor of shape (b, k)
        Embeddings; no gradient flows into them.
    reach : tensor of shape (b,) or float, optional
        By default the distance at which an embedding of the length of its reference stops counting as the same: that
        of a cosine of 0.99, 0.14 of the length.
    metric : {"euclidean", "cosine", "normalized-euclidean"}, default="euclidean"
        How distances are measured.
    """

    per_sample = ("references", "reach")

    def __init__(self, references: Tensor, reach: Tensor | float | None = None, *, metric: str = "euclidean"):
        self.metric = EmbeddingMetric(metric)
        self.references = self.metric.place(references.detach())
        self.reach = (
            reach if reach is None else torch.as_tensor(reach, device=references.device).expand(len(references))
        )

    def __call__(self, embeddings: Tensor) -> Tensor:
        return self.metric.paired(self.metric.place(embeddings), self.references)

    def level(self) -> Tensor:
        if self.reach is not None:
            return self.reach
        length = torch.linalg.vector_norm(self.references.double(), dim=-1)
        return self.metric.of_squares(2 * (1 - ALIKE) * length**2)


class EmbeddingShift(AwayFromPositive):
    """Distance from the clean embedding of the sample itself; broken as :class:`AwayFromPositive` is."""


class TowardsNegative(AwayFromPositive):
    """Minus the distance to a reference of another class; broken within ``reach``, by default where the two are alike.

    Parameters
    ----------
    references, reach, metric
        As of :class:`AwayFromPositive`.
    """

    def __call__(self, embeddings: Tensor) -> Tensor:
        return -super().__call__(embeddings)

    def level(self) -> Tensor:
        return -super().level()


class TargetEmbedding(TowardsNegative):
    """Minus the distance to a wanted embedding; broken within ``reach`` of it, by default where the two are alike."""


class JointObjective(Objective):
    """A goal that samples have together: one number, which each is given a share of.

    It has no meaning for some of the samples alone, so that attacks keep the best step of the batch as a whole; no
    sample ever reaches it by itself.
    """

    @abstractmethod
    def together(self, embeddings: Tensor) -> Tensor:
        """The number, of embeddings (b, k)."""

    def __call__(self, embeddings: Tensor) -> Tensor:
        return self.together(embeddings).expand(len(embeddings)) / len(embeddings)

    def broken(self, embeddings: Tensor) -> Tensor:
        return torch.zeros(len(embeddings), dtype=torch.bool, device=embeddings.device)

    def select(self, rows: Tensor) -> Objective:
        raise ValueError("samples that have a goal together have none one by one")


class TupleLoss(JointObjective):
    """A metric loss of the whole batch on fixed tuples: perturbing samples jointly raises it.

    Parameters
    ----------
    loss : callable
        ``loss(embeddings, labels, indices_tuple)`` as in pytorch-metric-learning, with parameters of its own or not.
    labels : int tensor of shape (b,)
    indices_tuple : tuple of tensors or None
        What a miner gave for the clean batch.
    """

    def __init__(self, loss: Callable[..., Tensor], labels: Tensor, indices_tuple: Any = None):
        self.loss, self.labels, self.indices_tuple = loss, labels, indices_tuple

    def together(self, embeddings: Tensor) -> Tensor:
        return self.loss(embeddings, self.labels, self.indices_tuple)
