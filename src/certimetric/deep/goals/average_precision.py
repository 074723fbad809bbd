"""The goal of an attacker of mAP@R: positives out of the first R results, not only out of the first place."""

from __future__ import annotations

import torch
from torch import Tensor

from certimetric.deep.goals.margins import MarginGoal
from certimetric.deep.ranking.distances import expanded, expansions, separation, slices

_NUMBERS = 2**22  # that are looked at together
_RANKS = 128  # of so many positives and negatives distances are followed: all, or ranks at equal intervals
_SOFTNESS = 0.03  # of the comparison of two distances, in units of the spread of the gallery
_DRIVE = 0.01  # weight of the margins, which tell the way where all comparisons are clear


class AveragePrecisionGoal(MarginGoal):
    """Minus a smooth average precision at R, with R the number of positives; broken where AP@R is 0.

    The precision at the i-th nearest positive is ``i / (i + h_i)``, where ``h_i`` counts the negatives that are nearer;
    it counts as far as the positive is among the first R, which is where the negative of rank R − i + 1 is farther.
    Both are sigmoids of differences of distances. The mean of ``[d⁻_(R−i+1) − d⁺_(i)]₊`` is subtracted with a small
    weight: it has a gradient where no sigmoid has any.

    An attack on R@1 stops caring once the first result is wrong, and leaves most of mAP@R: give this goal to
    ``evaluate_retrieval(..., goal=AveragePrecisionGoal)`` for mAP@R in the worst case. Parameters and errors are
    those of :class:`MarginGoal`, whose metric is the Euclidean one here.

    Notes
    -----
    Differences are compared in units of the spread of the gallery, so that the unit of the embeddings does not matter.
    Of queries with more than 128 positives, ranks at equal intervals stand for all of them.

    References
    ----------
    Sigmoids in place of ranks: Brown et al., *Smooth-AP*, arXiv 2007.12163 [brown2020smooth]; mAP@R: Musgrave et al.,
    arXiv 2003.08505 [musgrave2020metric].

    Examples
    --------
    >>> gallery, labels = torch.tensor([[0.0], [1.0], [2.0], [9.0]]), torch.tensor([0, 0, 1, 1])
    >>> goal = AveragePrecisionGoal(torch.tensor([0]), gallery, labels)
    >>> [bool(goal.broken(torch.tensor([[place]]))) for place in (0.5, 2.0, 6.0)]  # R = 2: items 0 and 1 come first
    [False, False, True]
    """

    per_sample = (*MarginGoal.per_sample, "n_relevant")

    def __init__(
        self,
        labels: Tensor,
        gallery: Tensor,
        gallery_labels: Tensor,
        ids: Tensor | None = None,
        gallery_ids: Tensor | None = None,
    ):
        super().__init__(labels, gallery, gallery_labels, ids, gallery_ids)
        self.n_relevant = (self._same(slice(None)) & ~self._self_matches()).sum(dim=1)
        self._most = int(self.n_relevant.max()) if len(labels) else 1
        spread = (self.gallery.double() - self.centre).pow(2).sum(dim=1).mean().sqrt()
        self.spread = torch.where(spread > 0, spread, 1.0)

    def __call__(self, embeddings: Tensor) -> Tensor:
        return self.judge(embeddings)[0]

    def _same(self, part: slice) -> Tensor:
        return self.labels[part, None] == self.gallery_labels

    def judge(self, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        values, broken, slopes = [], [], []
        width = max(len(self.gallery), 2 * min(self._most, _RANKS) * max(embeddings.shape[1], _RANKS))
        for part in slices(len(embeddings), _NUMBERS // width):
            with torch.enable_grad():
                e = embeddings[part].detach().double().requires_grad_(True)
                value, reached = self._precision(e, part)
                slopes.append(torch.autograd.grad(value.sum(), e)[0])
            values.append(value.detach())
            broken.append(reached)
        if not values:
            return embeddings.sum(dim=1).double(), torch.zeros(0, dtype=torch.bool, device=embeddings.device)
        # A term of value 0 with the gradient, so that memory is that of a part.
        wide = embeddings.double()
        along = (torch.cat(slopes) * (wide - wide.detach())).sum(dim=1)
        return torch.cat(values) + along, torch.cat(broken)

    def _precision(self, e: Tensor, part: slice) -> tuple[Tensor, Tensor]:
        positives, negatives, n_negatives = self._ranked(e.detach(), part)
        n_relevant = self.n_relevant[part, None]
        n_ranks = n_relevant.clamp_max(_RANKS)
        column = torch.arange(min(positives.shape[1], _RANKS), device=e.device)
        rank = ((column + 0.5) * n_relevant / n_ranks).long()  # from 0 on
        used = column < n_ranks
        there = used & (rank < n_negatives[:, None])
        rank = torch.where(used, rank, torch.zeros_like(rank))
        near, far = (separation(e[:, None], self.gallery[rows.gather(1, rank)]) for rows in (positives, negatives))
        share = n_relevant / n_ranks
        passed = torch.sigmoid((near[:, :, None] - far[:, None]) / (_SOFTNESS * self.spread)) * there[:, None]
        ahead = (share[:, :, None] * passed).sum(dim=2)
        # In the first R is the i-th positive where the negative of rank R − i + 1 is farther.
        mirrored = (n_ranks - 1 - column).clamp_min(0)
        margin = torch.where(there.gather(1, mirrored), near - far.gather(1, mirrored), -torch.inf)
        first = torch.sigmoid(-margin / (_SOFTNESS * self.spread))
        precision = torch.where(used, first * (rank + 1) / (rank + 1 + ahead), 0.0).sum(dim=1) / n_ranks[:, 0]
        drive = torch.where(used & margin.isfinite(), margin, 0.0).clamp_max(0.0).sum(dim=1)
        value = -precision + _DRIVE * drive / (n_ranks[:, 0] * self.spread)
        with torch.no_grad():
            last = negatives.gather(1, (n_relevant - 1).clamp_max(negatives.shape[1] - 1))
            beyond = separation(e, self.gallery[positives[:, 0]]) >= separation(e, self.gallery[last[:, 0]])
        return value, beyond & (n_negatives >= n_relevant[:, 0])

    @torch.no_grad()
    def _ranked(self, e: Tensor, part: slice) -> tuple[Tensor, Tensor, Tensor]:
        """Gallery rows of the R nearest positives and negatives, nearest first, (b, R), and how many negatives there
        are; rows beyond the number of either are others."""
        products = torch.empty(len(e), len(self.gallery), dtype=torch.double, device=e.device)
        for rows, some, _ in expansions(expanded(e, self.centre)[0], self.gallery, self.centre, 4 * _NUMBERS):
            products[:, rows] = some
        same, own = self._same(part), self._self_matches(part)
        most = min(self._most, len(self.gallery))
        near, far = (
            products.masked_fill(wrong, torch.inf).topk(most, dim=1, largest=False).indices
            for wrong in (~same | own, same | own)
        )
        return near, far, (~(same | own)).sum(dim=1)
