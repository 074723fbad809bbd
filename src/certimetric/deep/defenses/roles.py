"""One role of each tuple perturbed, everything else held fixed."""

from __future__ import annotations

import torch
from torch import Tensor

from certimetric.base.arguments import chosen, require
from certimetric.deep.attacks.base import Attack
from certimetric.deep.defenses.base import Batch
from certimetric.deep.defenses.triplets import TripletDefense
from certimetric.deep.defenses.tuples import ROLES, Role, Triplets
from certimetric.deep.goals import AwayFromPositive, TowardsNegative
from certimetric.deep.goals.base import Goal
from certimetric.deep.ranking.distances import distance


class TupleDefense(TripletDefense):
    """Perturb one role of each tuple, everything else held fixed, as an attacker at test time would.

    Tuples are mined on the clean batch. For a share of them, the sample in the role is perturbed against the clean
    embeddings of the others; each perturbed copy is appended as a new point, and only its tuple is led to it, so that a
    sample may be clean in one tuple and perturbed in another. The metric loss on these tuples gives the update.

    Parameters
    ----------
    role : {"positive", "negative", "anchor"}, default="positive"
        Positives are driven away from the anchor, negatives towards it, anchors from positive to negative.
    attack_rate : float, default=1.0
        Share of the tuples that are perturbed.
    attack, per_anchor
        As of :class:`Defense`.

    References
    ----------
    Panum et al., *Exploring adversarial robustness of deep metric learning*, arXiv 2102.07265, section on robust
    training.
    """

    compares_samples = False

    def __init__(
        self, role: Role = "positive", attack: Attack | None = None, attack_rate: float = 1.0, per_anchor: int = 1
    ):
        super().__init__(attack, per_anchor)
        chosen("role", role, ROLES, self)
        require(0 <= attack_rate <= 1, "attack_rate", "must lie between 0 and 1", attack_rate, self)
        self.role, self.attack_rate = role, attack_rate

    def _loss_on(self, batch: Batch, clean: Tensor, triplets: Triplets) -> Tensor:
        a, p, n = triplets
        attacked = torch.randperm(len(a), device=a.device)[: round(self.attack_rate * len(a))]
        if not len(attacked):
            return batch.loss(batch.model(batch.images), triplets)
        anchors, positives, negatives = (clean[part[attacked]] for part in (a, p, n))
        goal: Goal
        if self.role == "positive":
            goal = AwayFromPositive(anchors)
        elif self.role == "negative":
            goal = TowardsNegative(anchors)
        else:
            goal = AnchorGoal(positives, negatives)
        return self._loss_on_copies(batch, triplets, [self.role], goal, attacked)


class AnchorGoal(Goal):
    """Distance to the positive minus distance to the negative of each sample; broken where it is not negative."""

    per_sample = ("positives", "negatives")

    def __init__(self, positives: Tensor, negatives: Tensor):
        self.positives, self.negatives = positives.detach(), negatives.detach()

    def __call__(self, embeddings: Tensor) -> Tensor:
        return distance(embeddings, self.positives) - distance(embeddings, self.negatives)

    def broken(self, embeddings: Tensor) -> Tensor:
        with torch.no_grad():
            return self(embeddings) >= 0
