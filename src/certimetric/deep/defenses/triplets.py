"""Several samples of a triplet perturbed together: anti-collapse, and hardness manipulation."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from certimetric.deep.attacks.base import Attack
from certimetric.deep.defenses.base import (
    Defense,
    Loss,
    Miner,
    batch_loss,
    check_compares_samples,
    clean_embeddings,
    default_attack,
    loss_on_copies,
    without_memory,
)
from certimetric.deep.defenses.loss_support import check_loss
from certimetric.deep.defenses.tuples import Triplets, mine_triplets
from certimetric.deep.goals.base import Goal
from certimetric.deep.ranking.embedding_metric import distance

DESTINATIONS = ("gradual", "semihard", "constant")


class TripletDefense(Defense):
    """What defenses that perturb mined triplets share.

    Parameters
    ----------
    attack : Attack, default=None
        None for 5 steps of PGD in the l∞ ball of 0.01.
    per_anchor : int, default=1
        Triplets kept of each anchor; without a miner they are sampled by distance.
    """

    def __init__(self, attack: Attack | None = None, per_anchor: int = 1):
        if per_anchor < 1:
            raise ValueError(f"per_anchor must be at least 1, got {per_anchor}")
        self.attack, self.per_anchor = default_attack(attack), per_anchor

    def loss(
        self, model: nn.Module, images: Tensor, labels: Tensor, loss_fn: Loss, miner: Miner | None = None
    ) -> Tensor:
        check_compares_samples(loss_fn, type(self).__name__)
        check_loss(loss_fn, tuples=True)
        clean = clean_embeddings(model, images)
        triplets = mine_triplets(clean, labels, miner, self.per_anchor)
        if not len(triplets[0]):
            return self._nothing(model(images))
        return self._triplet_loss(model, images, labels, loss_fn, clean, triplets)

    @abstractmethod
    def _triplet_loss(
        self, model: nn.Module, images: Tensor, labels: Tensor, loss_fn: Loss, clean: Tensor, triplets: Triplets
    ) -> Tensor:
        """The loss on triplets of a batch with these clean embeddings."""


class AntiCollapseDefense(TripletDefense):
    """ACT: collapse the positive and the negative of each triplet into one, and train to tell them apart again.

    Parameters
    ----------
    attack : Attack, default=None
        None for 5 steps of PGD in the l∞ ball of 0.01.
    per_anchor : int, default=1
        Triplets kept of each anchor; without a miner they are sampled by distance.

    Raises
    ------
    TypeError
        In :meth:`loss`, if the loss has parameters of its own, such as proxies.

    References
    ----------
    Zhou et al., *Adversarial attack and defense in deep ranking*, arXiv 2106.03614: the anti-collapse triplet.

    Examples
    --------
    >>> from pytorch_metric_learning.losses import TripletMarginLoss
    >>> from certimetric.deep import PGD, LinfBall
    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(16, 4))
    >>> images, labels = torch.rand(8, 1, 4, 4), torch.arange(8) % 2
    >>> AntiCollapseDefense(PGD(LinfBall(0.1), steps=2)).loss(model, images, labels, TripletMarginLoss(0.2)).ndim
    0
    """

    def _triplet_loss(
        self, model: nn.Module, images: Tensor, labels: Tensor, loss_fn: Loss, clean: Tensor, triplets: Triplets
    ) -> Tensor:
        _, p, n = triplets
        perturbed = self.attack.for_training()(model, images[torch.cat([p, n])], Collapse())
        return loss_on_copies(model, images, labels, loss_fn, triplets, perturbed, ["positive", "negative"])


class HardnessDefense(TripletDefense):
    """HM: perturb whole triplets until they are as hard as wanted, and no harder.

    The hardness of a triplet is ``d(a, p) − d(a, n)``. All three samples are perturbed, to bring it up to a level:

    * ``"gradual"``: ``−margin · min(ℓ / margin, 1)`` with the loss ℓ of the last batch, the linear gradual adversary:
      easy while the model is weak, up to 0 as it learns;
    * ``"semihard"``: that of a clean triplet of the same anchor, drawn from the semi-hard ones of the batch, which are
      in the right order by less than the margin; ``−margin`` where there is none;
    * ``"constant"``: ``level``, a pseudo-hardness.

    Parameters
    ----------
    attack : Attack, default=None
        None for 5 steps of PGD in the l∞ ball of 0.01.
    destination : {"gradual", "semihard", "constant"}, default="gradual"
    level : float, default=0.0
        Of the constant destination.
    margin : float, default=0.2
        Of the triplet loss, which scales the gradual destination and says what is semi-hard.
    structure : float, default=0.5
        Weight of the intra-class structure: the mean of ``[d(a, ã) − d(a, p)]_+``, so that an anchor's perturbed self
        ã is nearer to it than another sample of its class. 0 leaves out a forward pass of the clean batch.
    per_anchor : int, default=1
        Triplets kept of each anchor; without a miner they are sampled by distance.

    Raises
    ------
    TypeError
        In :meth:`loss`, if the loss has parameters of its own, such as proxies.

    References
    ----------
    Zhou & Patel, *Enhancing adversarial robustness for deep metric learning*, arXiv 2203.01439.
    """

    def __init__(
        self,
        attack: Attack | None = None,
        destination: str = "gradual",
        level: float = 0.0,
        margin: float = 0.2,
        structure: float = 0.5,
        per_anchor: int = 1,
    ):
        super().__init__(attack, per_anchor)
        if destination not in DESTINATIONS:
            known = ", ".join(map(repr, DESTINATIONS))
            raise ValueError(f"destination of HardnessDefense must be one of {known}, got {destination!r}")
        if not margin > 0 or not structure >= 0:
            raise ValueError(f"margin must be positive and structure at least 0, got {margin} and {structure}")
        self.destination, self.level, self.margin, self.structure = destination, level, margin, structure
        self._last_loss = margin

    def _triplet_loss(
        self, model: nn.Module, images: Tensor, labels: Tensor, loss_fn: Loss, clean: Tensor, triplets: Triplets
    ) -> Tensor:
        a, p, _ = triplets
        which = torch.cat(triplets)
        goal = TowardsHardness(self._wanted(clean, labels, a))
        perturbed = self.attack.for_training()(model, images[which], goal)
        inner = without_memory(loss_fn)
        remembers = inner is not loss_fn
        embeddings = model(torch.cat([perturbed, images]) if self.structure or remembers else perturbed)
        tuples = torch.arange(len(which), device=a.device).split(len(a))
        hard = inner(embeddings[: len(which)], labels[which], tuples)
        self._last_loss = float(hard.detach())
        if remembers:
            hard = hard + batch_loss(loss_fn, embeddings[len(which) :], labels)
        if not self.structure:
            return hard
        moved, before = embeddings[: len(a)], embeddings[len(which) :]
        strayed = distance(before[a], moved) - distance(before[a], before[p])
        return hard + self.structure * strayed.clamp_min(0.0).mean()

    def _wanted(self, clean: Tensor, labels: Tensor, anchors: Tensor) -> Tensor:
        """The hardness to reach, of each triplet."""
        if self.destination == "semihard":
            wanted = torch.full((len(clean),), -self.margin, device=clean.device)
            semihard = semihard_triplets(clean, labels, self.margin)
            wanted[semihard[0]] = hardness(*(clean[part] for part in semihard)).to(wanted)
            return wanted[anchors]
        level = self.level if self.destination == "constant" else -self.margin * min(self._last_loss / self.margin, 1.0)
        return torch.full((len(anchors),), level, device=clean.device)

    def state_dict(self) -> dict[str, Any]:
        return {"last_loss": self._last_loss}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._last_loss = float(state["last_loss"])


class GroupGoal(Goal):
    """A goal for several samples together: blocks of embeddings, of which row i of each belongs to tuple i."""

    blocks: int

    @abstractmethod
    def together(self, *blocks: Tensor) -> Tensor:
        """Value of each tuple, (t,), of the embeddings of its samples, (t, k) each."""

    @abstractmethod
    def reached(self, values: Tensor, *blocks: Tensor) -> Tensor:
        """Whether each tuple, of this value and these embeddings, has reached the goal, bool (t,)."""

    def __call__(self, embeddings: Tensor) -> Tensor:
        return self.together(*embeddings.chunk(self.blocks)).repeat(self.blocks) / self.blocks

    def broken(self, embeddings: Tensor) -> Tensor:
        with torch.no_grad():
            blocks = embeddings.chunk(self.blocks)
            return self.reached(self.together(*blocks), *blocks).repeat(self.blocks)

    def select(self, rows: Tensor) -> Goal:
        raise ValueError("the samples of a tuple have no goal one by one")


class Collapse(GroupGoal):
    """Minus the distance of positive and negative; reached where they coincide, but for rounding."""

    blocks = 2

    def together(self, *blocks: Tensor) -> Tensor:
        return -distance(*blocks)

    def reached(self, values: Tensor, *blocks: Tensor) -> Tensor:
        return -values <= 1e-6 * torch.maximum(*(block.norm(dim=1) for block in blocks))


class TowardsHardness(GroupGoal):
    """Minus the square of what the hardness of anchor, positive and negative lacks; reached at the wanted one.

    Parameters
    ----------
    wanted : tensor of shape (t,)
    """

    blocks = 3

    def __init__(self, wanted: Tensor):
        self.wanted = wanted.detach()

    def together(self, *blocks: Tensor) -> Tensor:
        a, p, n = blocks
        return -(self.wanted - hardness(a, p, n)).clamp_min(0.0).pow(2)

    def reached(self, values: Tensor, *blocks: Tensor) -> Tensor:
        return values >= 0


def hardness(anchors: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
    """``d(a, p) − d(a, n)`` of triplets of embeddings, (t,): in the wrong order where it is not negative."""
    return distance(anchors, positives) - distance(anchors, negatives)


def semihard_triplets(embeddings: Tensor, labels: Tensor, margin: float) -> Triplets:
    """A triplet of each anchor that has one, drawn from those in the right order by no more than the margin."""
    from pytorch_metric_learning.distances import LpDistance
    from pytorch_metric_learning.miners import TripletMarginMiner

    as_they_are = LpDistance(normalize_embeddings=False)
    return mine_triplets(embeddings, labels, TripletMarginMiner(margin, "semihard", distance=as_they_are))
