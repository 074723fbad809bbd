"""Tuples of a mini-batch: mined on clean embeddings, a few for each anchor, and one role of each perturbed."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from certimetric.base.arguments import chosen, require
from certimetric.deep.attacks.base import Attack
from certimetric.deep.defenses.base import AttackedDefense, Batch
from certimetric.deep.defenses.loss_support import batch_loss
from certimetric.deep.goals import AwayFromPositive, TowardsNegative
from certimetric.deep.goals.base import Goal, LevelGoal
from certimetric.deep.ranking.distances import distance

Triplets = tuple[Tensor, Tensor, Tensor]
Role = Literal["anchor", "positive", "negative"]
ROLES: tuple[Role, ...] = get_args(Role)  # in the order of a triplet

CUTOFF, NONZERO_LOSS_CUTOFF = 0.5, 1.4  # of distance-weighted sampling, as in the paper


def mine_triplets(
    embeddings: Tensor, labels: Tensor, miner: Callable[..., Any] | None = None, per_anchor: int = 1
) -> Triplets:
    """Triplets of a batch, at most ``per_anchor`` of each anchor, drawn at random among those that the miner gives.

    Parameters
    ----------
    embeddings : tensor of shape (b, k)
    labels : int tensor of shape (b,)
    miner : callable, optional
        ``miner(embeddings, labels)`` as in pytorch-metric-learning, of triplets or pairs; by default distance-weighted
        sampling, for embeddings on the unit sphere.
    per_anchor : int, default=1

    Returns
    -------
    anchors, positives, negatives : int tensors of shape (t,)
        Empty where the miner finds nothing.

    References
    ----------
    Distance-weighted sampling: Wu et al., arXiv 1706.07567.
    """
    from pytorch_metric_learning.miners import DistanceWeightedMiner
    from pytorch_metric_learning.utils import loss_and_miner_utils

    if miner is None:
        miner = DistanceWeightedMiner(cutoff=CUTOFF, nonzero_loss_cutoff=NONZERO_LOSS_CUTOFF)
    with torch.no_grad():
        found = miner(embeddings.detach(), labels)
        a, p, n = loss_and_miner_utils.convert_to_triplets(found, labels, labels, t_per_anchor="all")
    order = torch.randperm(len(a), device=a.device)
    a, p, n = a[order], p[order], n[order]
    # The how-manieth triplet of its anchor each one is, in the random order; kept anchor by anchor.
    by_anchor = torch.argsort(a, stable=True)
    kept = by_anchor[occurrences(a)[by_anchor] < per_anchor]
    return a[kept], p[kept], n[kept]


def occurrences(values: Tensor) -> Tensor:
    """How often each value came before, (t,).

    Examples
    --------
    >>> occurrences(torch.tensor([3, 1, 3, 3]))
    tensor([0, 0, 1, 2])
    """
    by_value = torch.argsort(values, stable=True)
    ordered = values[by_value]
    place = torch.arange(len(values), device=values.device) - torch.searchsorted(ordered, ordered)
    return torch.empty_like(place).index_copy_(0, by_value, place)


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

        The goal is of the samples in these roles, role by role, in the triplets of these rows, by default all.
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


class AnchorGoal(LevelGoal):
    """Distance to the positive minus distance to the negative of each sample; broken where it is not negative."""

    per_sample = ("positives", "negatives")

    def __init__(self, positives: Tensor, negatives: Tensor):
        self.positives, self.negatives = positives.detach(), negatives.detach()

    def __call__(self, embeddings: Tensor) -> Tensor:
        return distance(embeddings, self.positives) - distance(embeddings, self.negatives)
