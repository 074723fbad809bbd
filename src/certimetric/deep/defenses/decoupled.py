"""Collapse-aware triplet decoupling: anchors perturbed in one batch, positives and negatives in another."""

from __future__ import annotations

import torch
from torch import Tensor

from certimetric.base.arguments import require
from certimetric.deep.attacks.base import Attack
from certimetric.deep.defenses.base import Batch
from certimetric.deep.defenses.triplets import TripletDefense
from certimetric.deep.defenses.tuples import Triplets
from certimetric.deep.goals.base import JointGoal
from certimetric.deep.ranking.distances import distance


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
    Tian et al., *Collapse-aware triplet decoupling for adversarially robust image retrieval*, arXiv 2312.07364; the
    goals are those of the code published with it, which perturbs the two sides in turn and lets steps grow with
    the epochs.
    """

    def __init__(self, attack: Attack | None = None, sharpness: float = 2.0, per_anchor: int = 1):
        super().__init__(attack, per_anchor)
        require(sharpness > 0, "sharpness", "must be positive", sharpness, self)
        self.sharpness = sharpness

    def _loss_on(self, batch: Batch, clean: Tensor, triplets: Triplets) -> Tensor:
        anchors, positives, negatives = (clean[part] for part in triplets)
        if bool(torch.rand(()) < 0.5):
            goal = MovedAnchors(anchors, positives, negatives, self.sharpness)
            return self._loss_on_copies(batch, triplets, ["anchor"], goal)
        return self._loss_on_copies(
            batch, triplets, ["positive", "negative"], CollapsedCandidates(anchors, self.sharpness)
        )


class CollapsedCandidates(JointGoal):
    """Collapseness of positives and negatives, in this order, with their fixed anchors; no more than 0.

    Parameters
    ----------
    anchors : tensor of shape (t, k)
    sharpness : float
    """

    def __init__(self, anchors: Tensor, sharpness: float):
        self.anchors, self.sharpness = anchors.detach(), sharpness

    def together(self, embeddings: Tensor) -> Tensor:
        near, far = (distance(self.anchors, block) for block in embeddings.chunk(2))
        return collapseness(near, far, self.sharpness).clamp_max(0.0)


class MovedAnchors(JointGoal):
    """Anchors on the way to the nearer half of their negatives, unless the collapseness rises above 0.

    The value is ``−[c]_+ − exp(−[−c]_+) · [d_half(ã, n) − d(ã, a)]_+`` with the collapseness c, the mean distance
    to the nearer half of the negatives, and the mean distance from the place of the clean anchor.

    Parameters
    ----------
    clean, positives, negatives : tensors of shape (t, k)
        Embeddings of the clean anchors, and of what stands against them.
    sharpness : float
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

    Parameters
    ----------
    near, far : tensors of shape (t,)
    sharpness : float

    Examples
    --------
    >>> near, far = torch.tensor([0.2, 0.4]), torch.tensor([0.5, 1.0])
    >>> round(float(collapseness(near, far, 1e-6)), 3), round(float(collapseness(near, far, 1e3)), 3)
    (-0.45, -0.6)
    """
    weighted_near, weighted_far = ((sharpness * values).softmax(dim=0) @ values for values in (near, far))
    return weighted_near - weighted_far
