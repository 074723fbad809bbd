"""What attacks on a ranking achieve: the ten figures of the empirical robustness score, query by query."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from certimetric.deep.attacks.base import Attack
from certimetric.deep.goals import ranking as goals
from certimetric.deep.goals.base import Goal
from certimetric.deep.goals.shifts import EmbeddingShift, TargetedMismatch
from certimetric.deep.models.calling import embed
from certimetric.deep.models.images import ImageSet
from certimetric.deep.ranking.distances import EmbeddingMetric, slices
from certimetric.deep.ranking.ranks import items_ahead, nearest, relevant_ranks
from certimetric.deep.retrieval.index import Index

# Goals of attackers, and the figures that are measured once each was pursued.
GOALS: dict[str, tuple[str, ...]] = {
    **{goal: (goal,) for goal in ("CA+", "CA-", "QA+", "QA-", "TMA")},
    "ES": ("ES:D", "ES:R"),
    **{goal: (goal,) for goal in ("LTM", "GTM", "GTT")},
}
_TOP_SHARE, _TOP = 100, 4  # CA− and QA− are about the first 1/100 of the gallery, GTT about the first 4 items
_NUMBERS = 2**24  # that a batch of queries may hold for each item of the gallery
_NUDGE = 1e-4  # at an embedding itself the distance from it has no gradient: the attack leaves a point so near to it,
# in units of the spread of the gallery


class RankingEvaluation:
    """Queries and a gallery as a model ranks them, with all that attacks aim at chosen beforehand.

    Every query serves as a candidate too, in CA+ and CA−, where gallery items are the queries. What is drawn at random
    depends on the seed alone.

    Parameters
    ----------
    index : Index
        Of the gallery. Its batches of queries are smaller here for large galleries, so that memory is bounded.
    queries : ImageSet
        Each with a positive and a negative in the gallery; equal ids are the same picture. Where there are groups,
        a rank is counted without the group of the query and that of the candidate.
    metric : {"euclidean", "cosine", "normalized-euclidean"}, default="euclidean"
    seed : int, default=0
    """

    def __init__(self, index: Index, queries: ImageSet, *, metric: str = "euclidean", seed: int = 0):
        self.index, self.queries, self.metric = index, queries, EmbeddingMetric(metric)
        self.labels, self.ids = queries.labels.to(index.device), index.keys_of(queries)
        self.gallery = self.metric.place(index.embeddings)
        self.clean = self.metric.place(embed(index.model, queries.images, index.batch_size))
        seen = index.attacker
        self.seen_clean = self.clean if seen is index else embed(seen.model, queries.images, index.batch_size)
        # Shifts are told in units of the length of embeddings, which is 1 on the unit sphere.
        self.unit = float(self.gallery.double().pow(2).sum(dim=1).mean().sqrt()) or 1.0
        generator = torch.Generator().manual_seed(seed)
        self.rows = self._choose(generator)
        clean = self.metric.place(self.seen_clean).double()
        direction = torch.randn(clean.shape, generator=generator).to(clean)
        items = self.metric.place(seen.embeddings).double()
        spread = (items - items.mean(dim=0)).pow(2).sum(dim=1).mean().sqrt()
        self.nudged = clean + _NUDGE * spread * nn.functional.normalize(direction, dim=1)

    def _choose(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Gallery rows (m,) that each goal is about."""
        index, m, n = self.index, len(self.queries), len(self.gallery)
        top = nearest(self.clean, self.ids, self.gallery, index.ids, max(1, n // _TOP_SHARE))
        drawn = torch.randint(top.shape[1], (2, m), generator=generator).to(index.device)
        near = top.gather(1, drawn.T)
        any_, of_query, target = (self._others(generator) for _ in range(3))
        return {"CA+": any_, "CA-": near[:, 0], "QA+": of_query, "QA-": near[:, 1], "TMA": target, "GTT": top[:, 0]}

    def _others(self, generator: torch.Generator) -> Tensor:
        """A gallery row for each query, at random, that is not the query itself."""
        ids = self.index.ids
        rows = torch.randint(len(ids), self.ids.shape, generator=generator).to(ids.device)
        while (own := ids[rows] == self.ids).any():
            rows[own] = torch.randint(len(ids), (int(own.sum()),), generator=generator).to(ids.device)
        return rows

    def recall(self) -> Tensor:
        """R@1 of each clean query, bool (m,)."""
        return self._first_is_right(self.clean, slice(None))

    def measure(self, goal: str, attack: Attack) -> dict[str, Tensor]:
        """Pursue one of ``GOALS`` with an attack; its figures, double tensors (m,) of each query.

        Ranks are in % of the other items, 0 for the first, R@1 and GTT in % too, 0 or 100; TMA is a cosine and ES:D a
        distance.
        """
        figures = GOALS[goal]
        parts = []
        step = min(self.index.batch_size, max(1, _NUMBERS // len(self.gallery)))
        for rows in slices(len(self.queries), step):
            images = self.queries.select(torch.arange(rows.start, rows.stop)).tensor()
            seen = self.index.attacker
            attacked = attack(seen.model, images.to(seen.device), AsDefined(self._goal(goal, rows)))
            embeddings = self.metric.place(embed(self.index.model, attacked, self.index.batch_size))
            parts.append([self._value(figure, embeddings, rows) for figure in figures])
        return {figure: torch.cat(column) for figure, column in zip(figures, zip(*parts))}

    def _goal(self, goal: str, rows: slice) -> Goal:
        """What an attacker who sees the model, or its surrogate, maximises for some of the queries."""
        seen, metric = self.index.attacker, self.metric.name
        known = seen.embeddings, self.ids[rows].to(seen.device), seen.ids
        chosen = self.rows[goal][rows].to(seen.device) if goal in self.rows else None
        if goal == "ES":
            return EmbeddingShift(self.nudged[rows], metric=metric)
        if chosen is None:
            by_class = self.labels[rows].to(seen.device), seen.embeddings, seen.labels, *known[1:]
            if goal == "LTM":
                return goals.LearningToMisrank(*by_class, metric=metric)
            return goals.GreedyMisranking(self.seen_clean[rows], *by_class, metric=metric)
        if goal == "TMA":
            return TargetedMismatch(seen.embeddings[chosen])
        if goal == "GTT":
            return goals.GreedyTranslocation(chosen, *known, top=_TOP, metric=metric)
        kind = goals.CandidateRank if goal.startswith("CA") else goals.QueryRank
        return kind(chosen[:, None], *known, raising=goal.endswith("+"), metric=metric)

    def _value(self, figure: str, embeddings: Tensor, rows: slice) -> Tensor:
        """A figure of some of the queries, from their embeddings under attack."""
        ids = self.ids[rows]
        if figure == "ES:D":
            return self.metric.paired(embeddings.double(), self.clean[rows].double()) / self.unit
        if figure in ("ES:R", "LTM", "GTM"):
            return 100.0 * self._first_is_right(embeddings, rows).double()
        chosen = self.rows[figure][rows]
        if figure == "TMA":
            sphere = EmbeddingMetric("cosine")
            return 1.0 - sphere.paired(sphere.place(embeddings), sphere.place(self.gallery[chosen]))
        items, apart = self.gallery[chosen], torch.stack([ids, self.index.ids[chosen]], dim=1)
        points, items = (items, embeddings) if figure.startswith("CA") else (embeddings, items)
        # Ties count for the attacker, as everywhere.
        lowering = not figure.endswith("+")
        ahead, others = items_ahead(points, items, self.gallery, self.index.ids, apart, ties=lowering)
        if figure == "GTT":
            return 100.0 * (ahead < _TOP).double()
        return 100.0 * ahead.double() / others.clamp_min(1)

    def _first_is_right(self, embeddings: Tensor, rows: slice) -> Tensor:
        index = self.index
        ranks = relevant_ranks(embeddings, self.labels[rows], self.ids[rows], self.gallery, index.labels, index.ids)
        return ranks[:, 0] == 1


class AsDefined(Goal):
    """A goal pursued for its value alone: the score is defined by losses that are minimised, however soon a rank that
    is told afterwards has changed."""

    per_sample = ("goal",)

    def __init__(self, goal: Goal):
        self.goal = goal

    def __call__(self, embeddings: Tensor) -> Tensor:
        return self.goal(embeddings)

    def broken(self, embeddings: Tensor) -> Tensor:
        return torch.zeros(len(embeddings), dtype=torch.bool, device=embeddings.device)
