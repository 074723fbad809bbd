"""Tuples of a mini-batch: mined on clean embeddings, one role of each perturbed, or their margins enlarged."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from certimetric.base.arguments import chosen, require
from certimetric.deep.attacks.base import Attack
from certimetric.deep.defenses.base import AttackedDefense, Batch, Defense, NormName
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
    Distance-weighted sampling: Wu et al., arXiv 1706.07567 [wu2017sampling].

    Examples
    --------
    >>> embeddings = torch.nn.functional.normalize(torch.randn(8, 3), dim=1)
    >>> anchors, positives, negatives = mine_triplets(embeddings, torch.arange(8) // 2)
    >>> len(anchors) == len(positives) == len(negatives)
    True
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
    Panum et al., *Exploring adversarial robustness of deep metric learning*, arXiv 2102.07265 [panum2021exploring],
    section on robust training.

    Examples
    --------
    >>> from certimetric.deep import PGD, LinfBall
    >>> defense = TupleDefense("negative", PGD(LinfBall(0.1), steps=2))
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
        goal: Goal = AnchorGoal(positives, negatives)
        if self.role != "anchor":
            goal = (AwayFromPositive if self.role == "positive" else TowardsNegative)(anchors)
        return self._loss_on_copies(batch, triplets, [self.role], goal, attacked)


class AnchorGoal(LevelGoal):
    """Distance to the positive minus distance to the negative of each sample; broken where it is not negative."""

    per_sample = ("positives", "negatives")

    def __init__(self, positives: Tensor, negatives: Tensor):
        self.positives, self.negatives = positives.detach(), negatives.detach()

    def __call__(self, embeddings: Tensor) -> Tensor:
        return distance(embeddings, self.positives) - distance(embeddings, self.negatives)


class PerturbationDefense(Defense):
    """Add the perturbation loss on first-order adversarial margins: one more gradient, no attack loop.

    The margin of a triplet is ``r = a(x) / ‖∇a(x)‖_*`` with ``a = ‖f(x) − f(x_n)‖² − ‖f(x) − f(x_p)‖²``, exact for a
    linear f. The loss added is the mean of ``[1 − r²/radius²]_+`` where a > 0, and 1 (without gradient) elsewhere.
    Layers that normalise by statistics of the batch couple its images, which the gradient of a single one does not see.

    Parameters
    ----------
    radius : float, default=0.03
        Margin wanted, in units of the input.
    weight : float, default=1.0
    norm : {"linf", "l2"}, default="linf"
        How a perturbation is measured.
    per_anchor
        As of :class:`Defense`.

    References
    ----------
    The perturbation loss of Yang et al., arXiv 2006.05945 [yang2020towards], on a linearisation of the network.

    Examples
    --------
    >>> defense = PerturbationDefense(radius=0.05)
    """

    mines = True

    def __init__(self, radius: float = 0.03, weight: float = 1.0, norm: NormName = "linf", per_anchor: int = 1):
        chosen("norm", norm, ("linf", "l2"), self)
        require(radius > 0, "radius", "must be positive", radius, self)
        require(weight >= 0, "weight", "must not be negative", weight, self)
        require(per_anchor >= 1, "per_anchor", "must be at least 1", per_anchor, self)
        self.radius, self.weight, self.norm, self.per_anchor = radius, weight, norm, per_anchor

    def compute_loss(self, batch: Batch) -> Tensor:
        images = batch.images.detach().requires_grad_(True)
        embeddings = batch.model(images)
        triplets = mine_triplets(embeddings, batch.labels, batch.miner, self.per_anchor)
        if not len(triplets[0]):
            return self._nothing(embeddings)
        margin = first_order_margin(images, embeddings, triplets, self.norm)
        # A triplet in the wrong order has no margin to enlarge: the metric loss has to put it right first.
        robust = torch.where(margin > 0, (1.0 - (margin / self.radius) ** 2).clamp_min(0.0), torch.ones_like(margin))
        return batch.loss(embeddings, triplets) + self.weight * robust.mean()


def first_order_margin(images: Tensor, embeddings: Tensor, triplets: Triplets, norm: str) -> Tensor:
    """``a / ‖∇a‖_*`` of every triplet, differentiable; the gradient is in the anchor's image alone.

    Infinite where the gradient is 0 and the triplet in the right order.

    Parameters
    ----------
    images : tensor of shape (b, …)
        Leaf that requires gradients, of which ``embeddings`` were computed.
    embeddings : tensor of shape (b, k)
    triplets : int tensors of shape (t,)
        Each anchor at most once in a call of the gradient; anchors of several triplets are taken in turn.
    norm : {"linf", "l2"}
    """
    a, p, n = triplets
    # The positive and negative stay where they are: only the anchor is moved.
    fixed = embeddings.detach()
    gap = (embeddings[a] - fixed[n]).pow(2).sum(dim=1) - (embeddings[a] - fixed[p]).pow(2).sum(dim=1)
    order = occurrences(a)
    margins = torch.empty_like(gap)
    for turn in range(int(order.max()) + 1):
        rows = (order == turn).nonzero()[:, 0]
        (gradient,) = torch.autograd.grad(gap[rows].sum(), images, create_graph=True)
        flat = gradient[a[rows]].flatten(1).double()  # whose squares are not lost
        dual = flat.abs().sum(dim=1) if norm == "linf" else flat.norm(dim=1)
        # Where nothing that is done to the anchor changes the gap, its margin has no end.
        endless = torch.where(gap[rows] > 0, torch.inf, 0.0).double()
        margin = torch.where(dual > 0, gap[rows] / torch.where(dual > 0, dual, 1.0), endless)
        margins = margins.index_put((rows,), margin.to(gap.dtype))
    return margins
