"""Goals of attacks on a ranking: candidates raised or lowered, queries led astray.

Each is a value, which every attack can maximise. Items that are perturbed or asked for are known by their ids and
are never compared with themselves. Sums over a gallery come with their gradient in closed form, so that memory is that
of a chunk of the gallery, whatever its size.

CA, QA and SP-QA are those of Zhou et al., *Adversarial ranking attack and defense*, arXiv 2002.11293; GTM and GTT those
of Zhou et al., *Adversarial attack and defense in deep ranking*, arXiv 2106.03614.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from certimetric.deep.goals.base import Goal, LevelGoal
from certimetric.deep.goals.margins import CHUNK, MarginGoal
from certimetric.deep.ranking.distances import EmbeddingMetric


class RankGoal(LevelGoal):
    """What goals have in common that raise or lower ranks; parameters as of :class:`QueryRank`."""

    def __init__(
        self, gallery: Tensor, ids: Tensor, gallery_ids: Tensor, *, raising: bool = True, metric: str = "euclidean"
    ):
        self.metric, self.sign = EmbeddingMetric(metric), 1.0 if raising else -1.0
        self.gallery, self.ids, self.gallery_ids = self.metric.place(gallery.detach()), ids, gallery_ids


class CandidateRank(RankGoal):
    """The rank of each sample as a candidate for chosen queries, raised (CA+) or lowered (CA−); arXiv 2002.11293.

    Minimised is ``Σ_q Σ_x [±(d(q, c) − d(q, x))]₊`` over the chosen queries q and the items x of the gallery other than
    the query and the clean copy of the candidate c. It is 0 exactly when the candidate comes first, or last, for all of
    its queries.

    Parameters
    ----------
    queries : int tensor of shape (b, w)
        Rows of the gallery that serve as the queries of each candidate.
    gallery, ids, gallery_ids, raising, metric
        As of :class:`QueryRank`.

    Notes
    -----
    The distances d(q, x) do not change under the attack: they are sorted once, with 16 · b · w · n bytes of memory, and
    every step is a binary search.

    Examples
    --------
    >>> gallery = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    >>> goal = CandidateRank(torch.tensor([[0]]), gallery, torch.tensor([3]), torch.arange(4))
    >>> goal(torch.tensor([[3.0]])), goal.broken(torch.tensor([[0.5]]))  # (3 − 1) + (3 − 2)
    (tensor([-3.], dtype=torch.float64), tensor([True]))
    """

    per_sample = ("ids", "queries", "sorted", "sums")

    def __init__(self, queries: Tensor, *known: Tensor, **settings: Any):
        super().__init__(*known, **settings)
        with torch.no_grad():
            self.queries = self.gallery[queries]
            found = self.sign * self.metric.between(self.queries, self.gallery)
            own = self.gallery_ids == self.ids[:, None, None]
            own = own | (self.gallery_ids == self.gallery_ids[queries][:, :, None])
            self.sorted = found.masked_fill_(own, torch.inf).sort(dim=2).values
            finite = torch.where(self.sorted.isfinite(), self.sorted, 0.0)
            self.sums = torch.nn.functional.pad(finite.cumsum(dim=2), (1, 0))

    def __call__(self, embeddings: Tensor) -> Tensor:
        placed = self.metric.place(embeddings)[:, None]
        reached = self.sign * self.metric.paired(placed, self.queries)
        # Held against the others as they were computed, so that an equal item is a tie to the last digit.
        alike = self.sign * self.metric.between(self.queries, placed.detach())
        count = torch.searchsorted(self.sorted, alike)
        below = self.sums.gather(2, count)[:, :, 0]
        return (below - count[:, :, 0] * reached).sum(dim=1)


class QueryRank(RankGoal):
    """The ranks of chosen candidates for each sample as a query, raised (QA+) or lowered (QA−); arXiv 2002.11293.

    Minimised is ``Σ_c Σ_x [±(d(q, c) − d(q, x))]₊`` over the chosen candidates c and the items x of the gallery other
    than the candidate and the clean copy of the query q.

    Parameters
    ----------
    candidates : int tensor of shape (b, m)
        Rows of the gallery.
    gallery : tensor of shape (n, k)
        Embeddings; no gradient flows into them.
    ids, gallery_ids : int tensors of shape (b,) and (n,)
        Equal ids are the same picture.
    raising : bool, default=True
    metric : {"euclidean", "cosine", "normalized-euclidean"}, default="euclidean"

    Examples
    --------
    >>> gallery = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    >>> goal = QueryRank(torch.tensor([[3]]), gallery, torch.tensor([0]), torch.arange(4))
    >>> goal(torch.tensor([[0.0]])), goal.broken(torch.tensor([[2.6]]))  # (3 − 1) + (3 − 2)
    (tensor([-3.], dtype=torch.float64), tensor([True]))
    """

    per_sample = ("candidates", "ids")

    def __init__(self, candidates: Tensor, *known: Tensor, **settings: Any):
        super().__init__(*known, **settings)
        self.candidates = candidates

    def __call__(self, embeddings: Tensor) -> Tensor:
        placed = self.metric.place(embeddings)
        own = self.metric.paired(placed[:, None], self.gallery[self.candidates])
        value, count, slope = self._hinges(placed.detach(), own.detach())
        # The sum is linear in the distances between its kinks: its value, and a term of value 0 with its gradient.
        along = (count * (own - own.detach())).sum(dim=1) - (slope * (placed - placed.detach())).sum(dim=1)
        return -(value + self.sign * along)

    @torch.no_grad()
    def _hinges(self, placed: Tensor, own: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The sum (b,); items in the way of each candidate (b, m); the gradient of their distances, summed (b, k)."""
        value, count = torch.zeros_like(own[:, 0]), torch.zeros_like(own)
        slope = torch.zeros_like(placed, dtype=own.dtype)
        own_squares = (placed.double()[:, None] - self.gallery[self.candidates].double()).pow(2).sum(dim=2)
        step = max(1, CHUNK // max(own.numel(), 1))
        for start in range(0, len(self.gallery), step):
            rows = slice(start, start + step)
            items = self.gallery[rows]
            squares, error = self.metric.squares(placed, items)
            distances = self.metric.of_squares(squares)
            # What rounding cannot tell from a tie is none: a tie counts for the attacker.
            ahead = self.sign * (own_squares[:, :, None] - squares[:, None]) > error[:, None]
            columns = torch.arange(start, start + len(items), device=placed.device)
            ahead &= (self.gallery_ids[rows] != self.ids[:, None])[:, None] & (columns != self.candidates[:, :, None])
            gaps = self.sign * (own[:, :, None] - distances[:, None])
            value += gaps.masked_fill_(~ahead, 0.0).sum(dim=(1, 2))
            in_the_way = ahead.to(own.dtype)
            count += in_the_way.sum(dim=2)
            slope += self.metric.slope(placed, items, distances, in_the_way.sum(dim=1))
        return value, count, slope


class SemanticsPreservingRank(Goal):
    """QA+ or QA− while the items that came first for the query stay there (SP-QA+, SP-QA−; arXiv 2002.11293).

    Parameters
    ----------
    candidates : int tensor of shape (b, m)
        Rows of the gallery, to be raised or lowered.
    kept : int tensor of shape (b, g)
        Rows of the gallery to keep in front: in the paper the 5 that came first for the query.
    gallery, ids, gallery_ids, raising, metric
        As of :class:`QueryRank`.
    weight : float, default=1.0
        ξ of the paper: what keeping weighs beside the goal.

    Examples
    --------
    >>> gallery, ids = torch.tensor([[0.0], [1.0], [2.0], [5.0]]), torch.arange(4)
    >>> goal = SemanticsPreservingRank(torch.tensor([[3]]), torch.tensor([[1, 2]]), gallery, torch.tensor([0]), ids)
    >>> float(goal(torch.tensor([[3.0]]))) > float(goal(torch.tensor([[0.0]])))
    True
    """

    per_sample = ("goal", "kept")

    def __init__(
        self, candidates: Tensor, kept: Tensor, *known: Any, raising: bool = True, weight: float = 1.0, **settings: Any
    ):
        if not weight >= 0:
            raise ValueError(f"weight must not be negative, got {weight!r}")
        self.goal = QueryRank(candidates, *known, raising=raising, **settings)
        self.kept = QueryRank(kept, *known, **settings)
        self.weight = weight

    def __call__(self, embeddings: Tensor) -> Tensor:
        return self.goal(embeddings) + self.weight * self.kept(embeddings)

    def broken(self, embeddings: Tensor) -> Tensor:
        return self.goal.broken(embeddings)

    def judge(self, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        value, broken = self.goal.judge(embeddings)
        return value + self.weight * self.kept(embeddings), broken


class LearningToMisrank(MarginGoal):
    """All items of other classes before any item of the query's own (LTM).

    Minimised is ``[max d(q, negative) − min d(q, positive)]₊``, of the farthest item of another class and the nearest
    of the query's own class other than the query itself; both are looked for again at every step. Parameters are those
    of :class:`MarginGoal`.

    References
    ----------
    Wang et al., *Transferable, controllable, and inconspicuous adversarial attacks on person re-identification with
    deep mis-ranking*, arXiv 2004.04199 [wang2020transferable].

    Examples
    --------
    >>> gallery, labels = torch.tensor([[0.0], [1.0], [5.0]]), torch.tensor([0, 0, 1])
    >>> goal = LearningToMisrank(torch.tensor([0]), gallery, labels)
    >>> goal(torch.tensor([[2.0]])).tolist(), goal.broken(torch.tensor([[4.0]])).tolist()
    ([-2.0], [True])
    """

    def __call__(self, embeddings: Tensor) -> Tensor:
        nearest, farthest = self._distances(embeddings, farthest=True)
        return -(farthest - nearest).clamp_min(0.0)


class GreedyMisranking(MarginGoal):
    """Towards the item of another class that is nearest to the clean query (GTM; arXiv 2106.03614); broken when R@1 is.

    Parameters
    ----------
    embeddings : tensor of shape (b, k)
        Of the clean queries.
    *known, **settings
        As of :class:`MarginGoal`.

    Examples
    --------
    >>> gallery, labels = torch.tensor([[0.0], [1.0], [5.0]]), torch.tensor([0, 0, 1])
    >>> goal = GreedyMisranking(torch.tensor([[0.5]]), torch.tensor([0]), gallery, labels)
    >>> goal(torch.tensor([[4.0]])).tolist(), goal.broken(torch.tensor([[4.0]])).tolist()
    ([-1.0], [True])
    """

    per_sample = (*MarginGoal.per_sample, "negatives")

    def __init__(self, embeddings: Tensor, *known: Any, **settings: Any):
        super().__init__(*known, **settings)
        self.negatives = self.gallery[self._search(self.metric.place(embeddings))[1]]

    judge = Goal.judge  # the value does not tell success

    def __call__(self, embeddings: Tensor) -> Tensor:
        return -self.metric.paired(self.metric.place(embeddings), self.negatives)

    @torch.no_grad()
    def broken(self, embeddings: Tensor) -> Tensor:
        return super().__call__(embeddings) >= 0


class GreedyTranslocation(QueryRank):
    """The first item of the clean query out of the first few (GTT; arXiv 2106.03614): QA− on it, broken once it left.

    Parameters
    ----------
    first : int tensor of shape (b,)
        Rows of the gallery that come first for the clean queries.
    gallery, ids, gallery_ids, metric
        As of :class:`QueryRank`.
    top : int, default=4
        How many the first few are.

    Examples
    --------
    >>> gallery, ids = torch.tensor([[0.0], [1.0], [2.0], [5.0]]), torch.arange(4)
    >>> goal = GreedyTranslocation(torch.tensor([1]), gallery, torch.tensor([0]), ids, top=1)
    >>> goal.broken(torch.tensor([[4.0]])).tolist()
    [True]
    """

    def __init__(self, first: Tensor, *known: Any, top: int = 4, **settings: Any):
        super().__init__(first[:, None], *known, raising=False, **settings)
        self.top = top

    judge = Goal.judge  # the value does not tell success

    def broken(self, embeddings: Tensor) -> Tensor:
        placed = self.metric.place(embeddings)
        own = self.metric.paired(placed[:, None], self.gallery[self.candidates])
        # An item is ahead where it is not in the way of going back.
        in_the_way = self._hinges(placed, own)[1][:, 0]
        others = (self.gallery_ids != self.ids[:, None]).sum(dim=1) - 1
        return others - in_the_way >= self.top
