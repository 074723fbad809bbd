"""Several samples of a triplet perturbed: anti-collapse, hardness manipulation, collapse-aware decoupling."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from certimetric.base.arguments import chosen, require
from certimetric.deep.attacks.base import Attack
from certimetric.deep.defenses.base import Batch
from certimetric.deep.defenses.loss_support import without_memory
from certimetric.deep.defenses.tuples import TripletDefense, Triplets, mine_triplets
from certimetric.deep.goals.base import Goal, JointGoal
from certimetric.deep.ranking.distances import distance

Destination = Literal["gradual", "semihard", "constant"]


class AntiCollapseDefense(TripletDefense):
    """ACT: collapse the positive and the negative of each triplet into one, and train to tell them apart again.

    Parameters are as of :class:`Defense`.

    References
    ----------
    Zhou et al., *Adversarial attack and defense in deep ranking*, arXiv 2106.03614 [zhou2021adversarial]: the
    anti-collapse triplet.

    Examples
    --------
    >>> from certimetric.deep import PGD, LinfBall
    >>> defense = AntiCollapseDefense(PGD(LinfBall(0.1), steps=2))
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
    Zhou & Patel, *Enhancing adversarial robustness for deep metric learning*, arXiv 2203.01439 [zhou2022enhancing].

    Examples
    --------
    >>> from certimetric.deep import PGD, LinfBall
    >>> defense = HardnessDefense(PGD(LinfBall(0.1), steps=2), "constant")
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


class DecoupledDefense(TripletDefense):
    """Collapse-aware triplet decoupling: a coin tells whether anchors are perturbed, or positives and negatives.

    Negatives that fall onto their anchors make a model collapse that is trained on them. How far the triplets of a
    batch have collapsed is told by their :func:`collapseness`, and no attack goes on where it is 0:

    * positives and negatives raise it up to 0;
    * anchors leave their place for the nearer half of their negatives, and what this adds to the collapseness above 0
      counts against them.

    Parameters
    ----------
    sharpness : float, default=2.0
        Of the collapseness: λ of the paper's code, where it is 10 for CUB, 9.5 for Cars196 and 2 for SOP.
    attack, per_anchor
        As of :class:`Defense`.

    References
    ----------
    Tian et al., *Collapse-aware triplet decoupling for adversarially robust image retrieval*, arXiv 2312.07364
    [tian2023collapse]; the goals are those of the code published with it, which perturbs the two sides in turn and lets
    steps grow with the epochs.

    Examples
    --------
    >>> from certimetric.deep import PGD, LinfBall
    >>> defense = DecoupledDefense(PGD(LinfBall(0.1), steps=2))
    """

    def __init__(self, attack: Attack | None = None, sharpness: float = 2.0, per_anchor: int = 1):
        super().__init__(attack, per_anchor)
        require(sharpness > 0, "sharpness", "must be positive", sharpness, self)
        self.sharpness = sharpness

    def _loss_on(self, batch: Batch, clean: Tensor, triplets: Triplets) -> Tensor:
        anchors, positives, negatives = (clean[part] for part in triplets)
        if bool(torch.rand(()) < 0.5):
            moved = MovedAnchors(anchors, positives, negatives, self.sharpness)
            return self._loss_on_copies(batch, triplets, ["anchor"], moved)
        collapsed = CollapsedCandidates(anchors, self.sharpness)
        return self._loss_on_copies(batch, triplets, ["positive", "negative"], collapsed)


class GroupGoal(Goal):
    """A goal for several samples together: blocks of embeddings, of which row i of each belongs to tuple i."""

    blocks: int

    @abstractmethod
    def together(self, *blocks: Tensor) -> Tensor:
        """Value of each tuple, (t,), of the embeddings of its samples, (t, k) each."""

    def reached(self, values: Tensor, *blocks: Tensor) -> Tensor:
        """Whether each tuple, of this value and these embeddings, has reached the goal, bool (t,)."""
        return values >= 0

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
    """Minus the square of what the hardness of anchor, positive and negative lacks; reached at the wanted one, (t,)."""

    blocks = 3

    def __init__(self, wanted: Tensor):
        self.wanted = wanted.detach()

    def together(self, *blocks: Tensor) -> Tensor:
        return -(self.wanted - hardness(*blocks)).clamp_min(0.0).pow(2)


def hardness(anchors: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
    """``d(a, p) − d(a, n)`` of triplets of embeddings, (t,): in the wrong order where it is not negative."""
    return distance(anchors, positives) - distance(anchors, negatives)


def semihard_triplets(embeddings: Tensor, labels: Tensor, margin: float) -> Triplets:
    """A triplet of each anchor that has one, drawn from those in the right order by no more than the margin."""
    from pytorch_metric_learning.distances import LpDistance
    from pytorch_metric_learning.miners import TripletMarginMiner

    as_they_are = LpDistance(normalize_embeddings=False)
    return mine_triplets(embeddings, labels, TripletMarginMiner(margin, "semihard", distance=as_they_are))


class CollapsedCandidates(JointGoal):
    """Collapseness of positives and negatives, in this order, with their fixed anchors; no more than 0."""

    def __init__(self, anchors: Tensor, sharpness: float):
        self.anchors, self.sharpness = anchors.detach(), sharpness

    def together(self, embeddings: Tensor) -> Tensor:
        near, far = (distance(self.anchors, block) for block in embeddings.chunk(2))
        return collapseness(near, far, self.sharpness).clamp_max(0.0)


class MovedAnchors(JointGoal):
    """Anchors on the way to the nearer half of their negatives, unless the collapseness rises above 0.

    The value is ``−[c]_+ − exp(−[−c]_+) · [d_half(ã, n) − d(ã, a)]_+`` with the collapseness c, the mean distance
    to the nearer half of the negatives, and the mean distance from the place of the clean anchor.
    """

    def __init__(self, clean: Tensor, positives: Tensor, negatives: Tensor, sharpness: float):
        self.clean, self.positives, self.negatives = clean.detach(), positives.detach(), negatives.detach()
        self.sharpness = sharpness

    def together(self, embeddings: Tensor) -> Tensor:
        near, far = distance(embeddings, self.positives), distance(embeddings, self.negatives)
        collapsed = collapseness(near, far, self.sharpness)
        half = far.topk(max(1, len(far) // 2), largest=False).values.mean()
        left = (half - distance(embeddings, self.clean).mean()).clamp_min(0.0)
        share = (-(-collapsed).clamp_min(0.0)).exp().detach()
        return -(collapsed.clamp_min(0.0) + share * left)


def collapseness(near: Tensor, far: Tensor, sharpness: float) -> Tensor:
    """Mean of the distances to positives less that to negatives, each weighted by ``softmax(sharpness · distances)``.

    Below 0 the farthest negatives are farther than the farthest positives; a model that maps everything to one point
    has 0.

    Examples
    --------
    >>> near, far = torch.tensor([0.2, 0.4]), torch.tensor([0.5, 1.0])
    >>> round(float(collapseness(near, far, 1e-6)), 3), round(float(collapseness(near, far, 1e3)), 3)
    (-0.45, -0.6)
    """
    weighted_near, weighted_far = ((sharpness * values).softmax(dim=0) @ values for values in (near, far))
    return weighted_near - weighted_far
