"""Several samples of a triplet perturbed together: anti-collapse, and hardness manipulation."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from certimetric.base.arguments import chosen, require
from certimetric.deep.attacks.base import Attack
from certimetric.deep.defenses.base import AttackedDefense, Batch
from certimetric.deep.defenses.loss_support import batch_loss, without_memory
from certimetric.deep.defenses.tuples import ROLES, Role, Triplets, mine_triplets
from certimetric.deep.goals.base import Goal
from certimetric.deep.ranking.distances import distance

Destination = Literal["gradual", "semihard", "constant"]


class TripletDefense(AttackedDefense):
    """What defenses that perturb mined triplets have in common; parameters as of :class:`Defense`."""

    mines = True
    compares_samples = True

    def __init__(self, attack: Attack | None = None, per_anchor: int = 1):
        super().__init__(attack)
        require(per_anchor >= 1, "per_anchor", "must be at least 1", per_anchor, self)
        self.per_anchor = per_anchor

    def compute_loss(self, batch: Batch) -> Tensor:
        clean = batch.clean()
        triplets = mine_triplets(clean, batch.labels, batch.miner, self.per_anchor)
        if not len(triplets[0]):
            return self._nothing(batch.model(batch.images))
        return self._loss_on(batch, clean, triplets)

    @abstractmethod
    def _loss_on(self, batch: Batch, clean: Tensor, triplets: Triplets) -> Tensor:
        """The loss on triplets of a batch with these clean embeddings."""

    def _loss_on_copies(
        self, batch: Batch, triplets: Triplets, roles: Sequence[Role], goal: Goal, rows: Tensor | None = None
    ) -> Tensor:
        """The loss of the batch with perturbed copies, each of which stands in its one triplet alone.

        Parameters
        ----------
        roles : sequence of str
            What is perturbed in every triplet.
        goal : Goal
            Of the samples in these roles, role by role.
        rows : int tensor, optional
            Triplets whose samples are perturbed; by default all.
        """
        images, labels = batch.images, batch.labels
        rows = torch.arange(len(triplets[0]), device=images.device) if rows is None else rows
        places = [ROLES.index(role) for role in roles]
        which = torch.cat([triplets[place][rows] for place in places])
        perturbed = self._attacked(batch.model, images[which], goal)
        copies = torch.arange(len(images), len(images) + len(which), device=rows.device).chunk(len(places))
        tuples = [part.clone() for part in triplets]
        for place, copy in zip(places, copies):
            tuples[place][rows] = copy
        embeddings = batch.model(torch.cat([images, perturbed]))
        return batch_loss(batch.loss_fn, embeddings, torch.cat([labels, labels[which]]), tuple(tuples), len(images))


class AntiCollapseDefense(TripletDefense):
    """ACT: collapse the positive and the negative of each triplet into one, and train to tell them apart again.

    Parameters
    ----------
    attack, per_anchor
        As of :class:`Defense`.

    References
    ----------
    Zhou et al., *Adversarial attack and defense in deep ranking*, arXiv 2106.03614: the anti-collapse triplet.

    Examples
    --------
    >>> from pytorch_metric_learning.losses import TripletMarginLoss
    >>> from certimetric.deep import PGD, LinfBall
    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 4))
    >>> images, labels = torch.rand(8, 1, 4, 4), torch.arange(8) % 2
    >>> AntiCollapseDefense(PGD(LinfBall(0.1), steps=2)).loss(model, images, labels, TripletMarginLoss(0.2)).ndim
    0
    """

    def _loss_on(self, batch: Batch, clean: Tensor, triplets: Triplets) -> Tensor:
        return self._loss_on_copies(batch, triplets, ["positive", "negative"], Collapse())


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
    destination : {"gradual", "semihard", "constant"}, default="gradual"
    level : float, default=0.0
        Of the constant destination.
    margin : float, default=0.2
        Of the triplet loss, which scales the gradual destination and says what is semi-hard.
    structure : float, default=0.5
        Weight of the intra-class structure: the mean of ``[d(a, ã) − d(a, p)]_+``, so that an anchor's perturbed self
        ã is nearer to it than another sample of its class. 0 leaves out a forward pass of the clean batch.
    attack, per_anchor
        As of :class:`Defense`.

    References
    ----------
    Zhou & Patel, *Enhancing adversarial robustness for deep metric learning*, arXiv 2203.01439.
    """

    def __init__(
        self,
        attack: Attack | None = None,
        destination: Destination = "gradual",
        level: float = 0.0,
        margin: float = 0.2,
        structure: float = 0.5,
        per_anchor: int = 1,
    ):
        super().__init__(attack, per_anchor)
        chosen("destination", destination, get_args(Destination), self)
        require(margin > 0, "margin", "must be positive", margin, self)
        require(structure >= 0, "structure", "must not be negative", structure, self)
        self.destination, self.level, self.margin, self.structure = destination, level, margin, structure
        self._last_loss = margin

    def _loss_on(self, batch: Batch, clean: Tensor, triplets: Triplets) -> Tensor:
        a, p, _ = triplets
        images, labels, which = batch.images, batch.labels, torch.cat(triplets)
        perturbed = self._attacked(batch.model, images[which], TowardsHardness(self._wanted(clean, labels, a)))
        inner = without_memory(batch.loss_fn)
        remembers = inner is not batch.loss_fn
        embeddings = batch.model(torch.cat([perturbed, images]) if self.structure or remembers else perturbed)
        before = embeddings[len(which) :]
        tuples = torch.arange(len(which), device=a.device).split(len(a))
        hard = inner(embeddings[: len(which)], labels[which], tuples)
        self._last_loss = float(hard.detach())
        if remembers:
            hard = hard + batch.loss(before)
        if not self.structure:
            return hard
        strayed = distance(before[a], embeddings[: len(a)]) - distance(before[a], before[p])
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
