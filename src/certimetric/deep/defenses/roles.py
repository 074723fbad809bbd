"""One role of each tuple perturbed, everything else held fixed."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from certimetric.deep.attacks.base import Attack
from certimetric.deep.defenses.base import (
    ROLES,
    Defense,
    Loss,
    Miner,
    batch_loss,
    clean_embeddings,
    default_attack,
    loss_on_copies,
)
from certimetric.deep.defenses.loss_support import check_loss
from certimetric.deep.defenses.tuples import mine_triplets
from certimetric.deep.goals.base import Goal
from certimetric.deep.goals.shifts import AwayFromPositive, TowardsNegative
from certimetric.deep.ranking.embedding_metric import distance


class TupleDefense(Defense):
    """Perturb one role of each tuple, everything else held fixed, as an attacker at test time would.

    Tuples are mined on the clean batch. For a share of them, the sample in the role is perturbed against the clean
    embeddings of the others; each perturbed copy is appended as a new point, and only its tuple is led to it, so that a
    sample may be clean in one tuple and perturbed in another. The metric loss on these tuples gives the update.

    Parameters
    ----------
    role : {"positive", "negative", "anchor"}, default="positive"
        Positives are driven away from the anchor, negatives towards it, anchors from positive to negative.
    attack : Attack, default=None
        None for 5 steps of PGD in the l∞ ball of 0.01. The point at which PGD ends is trained on.
    attack_rate : float, default=1.0
        Share of the tuples that are perturbed.
    per_anchor : int, default=1
        Tuples kept of each anchor.

    References
    ----------
    Panum et al., *Exploring adversarial robustness of deep metric learning*, arXiv 2102.07265, section on robust
    training.
    """

    def __init__(
        self, role: str = "positive", attack: Attack | None = None, attack_rate: float = 1.0, per_anchor: int = 1
    ):
        if role not in ROLES:
            raise ValueError(f"role of TupleDefense must be one of {', '.join(map(repr, ROLES))}, got {role!r}")
        if not 0 <= attack_rate <= 1 or per_anchor < 1:
            raise ValueError(
                f"attack_rate must lie between 0 and 1 and per_anchor be at least 1, got {attack_rate} and {per_anchor}"
            )
        self.role, self.attack = role, default_attack(attack)
        self.attack_rate, self.per_anchor = attack_rate, per_anchor

    def loss(
        self, model: nn.Module, images: Tensor, labels: Tensor, loss_fn: Loss, miner: Miner | None = None
    ) -> Tensor:
        check_loss(loss_fn, tuples=True)
        clean = clean_embeddings(model, images)
        a, p, n = mine_triplets(clean, labels, miner, self.per_anchor)
        if not len(a):
            return self._nothing(model(images))
        attacked = torch.randperm(len(a), device=a.device)[: round(self.attack_rate * len(a))]
        if not len(attacked):
            return batch_loss(loss_fn, model(images), labels, (a, p, n))
        goal: Goal
        if self.role == "positive":
            goal = AwayFromPositive(clean[a[attacked]])
        elif self.role == "negative":
            goal = TowardsNegative(clean[a[attacked]])
        else:
            goal = AnchorGoal(clean[p[attacked]], clean[n[attacked]])
        which = (a, p, n)[ROLES.index(self.role)][attacked]
        perturbed = self.attack.for_training()(model, images[which], goal)
        return loss_on_copies(model, images, labels, loss_fn, (a, p, n), perturbed, [self.role], attacked)


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
