"""Robust training losses: what a mini-batch costs under an attacker, with any loss of pytorch-metric-learning."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from certimetric.deep.attack import Attack
from certimetric.deep.freeze import frozen
from certimetric.deep.gradient_attacks import PGD
from certimetric.deep.objectives import AwayFromPositive, Objective, TowardsNegative, TupleLoss, distance
from certimetric.deep.threats import LinfBall
from certimetric.deep.tuples import mine_triplets

ROLES = ("positive", "negative", "anchor")
Loss = Callable[..., Tensor]
Miner = Callable[..., Any]

EPS, STEPS = 0.01, 5  # the paper's attack in training: steps of 2ε/5


class Defense(ABC):
    """How a batch is made hard before its loss is taken.

    A training loop of one's own becomes robust by one call::

        loss = defense.loss(model, images, labels, loss_fn, miner)

    Attributes
    ----------
    skipped : int
        Batches in which the miner found no tuple: their loss is 0.
    """

    skipped = 0

    @abstractmethod
    def loss(
        self, model: nn.Module, images: Tensor, labels: Tensor, loss_fn: Loss, miner: Miner | None = None
    ) -> Tensor:
        """The loss to minimise, with gradients to the parameters of the model and of the loss.

        Parameters
        ----------
        model : Module
            Images (b, c, h, w) to embeddings (b, k).
        images : tensor of shape (b, c, h, w)
        labels : int tensor of shape (b,)
        loss_fn : callable
            ``loss_fn(embeddings, labels, indices_tuple)`` as in pytorch-metric-learning.
        miner : callable, optional
            ``miner(embeddings, labels)``.
        """

    def _nothing(self, embeddings: Tensor) -> Tensor:
        self.skipped += 1
        return embeddings.sum() * 0.0

    def __repr__(self) -> str:
        settings = ", ".join(f"{key}={value!r}" for key, value in vars(self).items() if key != "skipped")
        return f"{type(self).__name__}({settings})"


class NoDefense(Defense):
    """Natural training."""

    def loss(
        self, model: nn.Module, images: Tensor, labels: Tensor, loss_fn: Loss, miner: Miner | None = None
    ) -> Tensor:
        embeddings = model(images)
        found = None if miner is None else miner(embeddings.detach(), labels)
        return loss_fn(embeddings, labels, found)


class NoiseDefense(Defense):
    """Train on images with Gaussian noise, so that a smoothed model knows what it will be asked about.

    Parameters
    ----------
    sigma : float, default=0.25
        Standard deviation, in pixels. Pixels are not brought back to 0 to 1: the certificate is about this very noise.

    References
    ----------
    Cohen, Rosenfeld & Kolter, arXiv 1902.02918, section 3.3: training for :class:`certimetric.deep.SmoothingCertifier`.
    """

    def __init__(self, sigma: float = 0.25):
        if not 0 < sigma < float("inf"):
            raise ValueError(f"sigma of NoiseDefense must be a positive deviation, in pixels, got {sigma!r}")
        self.sigma = sigma

    def loss(
        self, model: nn.Module, images: Tensor, labels: Tensor, loss_fn: Loss, miner: Miner | None = None
    ) -> Tensor:
        embeddings = model(images + self.sigma * torch.randn_like(images))
        found = None if miner is None else miner(embeddings.detach(), labels)
        return loss_fn(embeddings, labels, found)


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
        self.role, self.attack = role, _default(attack)
        self.attack_rate, self.per_anchor = attack_rate, per_anchor

    def loss(
        self, model: nn.Module, images: Tensor, labels: Tensor, loss_fn: Loss, miner: Miner | None = None
    ) -> Tensor:
        clean = clean_embeddings(model, images)
        a, p, n = mine_triplets(clean, labels, miner, self.per_anchor)
        if not len(a):
            return self._nothing(model(images))
        attacked = torch.randperm(len(a), device=a.device)[: round(self.attack_rate * len(a))]
        if not len(attacked):
            return loss_fn(model(images), labels, (a, p, n))
        role = ROLES.index(self.role)
        which = (p, n, a)[role][attacked]
        goal: Objective
        if self.role == "positive":
            goal = AwayFromPositive(clean[a[attacked]])
        elif self.role == "negative":
            goal = TowardsNegative(clean[a[attacked]])
        else:
            goal = AnchorObjective(clean[p[attacked]], clean[n[attacked]])
        perturbed = self.attack.for_training()(model, images[which], goal)
        new = torch.arange(len(attacked), device=a.device) + len(images)
        tuples = [a.clone(), p.clone(), n.clone()]
        tuples[(1, 2, 0)[role]][attacked] = new
        embeddings = model(torch.cat([images, perturbed]))
        return loss_fn(embeddings, torch.cat([labels, labels[which]]), tuple(tuples))


class BatchDefense(Defense):
    """Perturb all images of the batch jointly, to raise the metric loss on tuples mined on the clean batch.

    It needs no tuples of its own, and so serves proxy and classification losses as well; their parameters are fixed
    in the attack too.

    Parameters
    ----------
    attack : Attack, default=None
        None for 5 steps of PGD in the l∞ ball of 0.01. The point at which PGD ends is trained on.
    """

    def __init__(self, attack: Attack | None = None):
        self.attack = _default(attack)

    def loss(
        self, model: nn.Module, images: Tensor, labels: Tensor, loss_fn: Loss, miner: Miner | None = None
    ) -> Tensor:
        found = None
        if miner is not None:
            found = miner(clean_embeddings(model, images), labels)
            if not any(len(part) for part in found):
                return self._nothing(model(images))
        inner = without_memory(loss_fn)
        with frozen(*([inner] if isinstance(inner, nn.Module) else []), evaluate=False):
            perturbed = self.attack.for_training()(model, images, TupleLoss(inner, labels, found))
        return loss_fn(model(perturbed), labels, found)


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
    per_anchor : int, default=1

    References
    ----------
    The perturbation loss of Yang et al., arXiv 2006.05945, on a linearisation of the network.
    """

    def __init__(self, radius: float = 0.03, weight: float = 1.0, norm: str = "linf", per_anchor: int = 1):
        if norm not in ("linf", "l2"):
            raise ValueError(f"norm of PerturbationDefense must be 'linf' or 'l2', got {norm!r}")
        if not radius > 0 or not weight >= 0:
            raise ValueError(f"radius must be positive and weight at least 0, got {radius} and {weight}")
        self.radius, self.weight, self.norm, self.per_anchor = radius, weight, norm, per_anchor

    def loss(
        self, model: nn.Module, images: Tensor, labels: Tensor, loss_fn: Loss, miner: Miner | None = None
    ) -> Tensor:
        images = images.detach().requires_grad_(True)
        embeddings = model(images)
        a, p, n = mine_triplets(embeddings, labels, miner, self.per_anchor)
        if not len(a):
            return self._nothing(embeddings)
        margin = first_order_margin(images, embeddings, (a, p, n), self.norm)
        # A triplet in the wrong order has no margin to enlarge: the metric loss has to put it right first.
        robust = torch.where(margin > 0, (1.0 - (margin / self.radius) ** 2).clamp_min(0.0), torch.ones_like(margin))
        return loss_fn(embeddings, labels, (a, p, n)) + self.weight * robust.mean()


class AnchorObjective(Objective):
    """Distance to the positive minus distance to the negative of each sample; broken where it is not negative."""

    per_sample = ("positives", "negatives")

    def __init__(self, positives: Tensor, negatives: Tensor):
        self.positives, self.negatives = positives.detach(), negatives.detach()

    def __call__(self, embeddings: Tensor) -> Tensor:
        return distance(embeddings, self.positives) - distance(embeddings, self.negatives)

    def broken(self, embeddings: Tensor) -> Tensor:
        with torch.no_grad():
            return self(embeddings) >= 0


def first_order_margin(
    images: Tensor, embeddings: Tensor, triplets: tuple[Tensor, Tensor, Tensor], norm: str
) -> Tensor:
    """``a / ‖∇a‖_*`` of every triplet, differentiable; the gradient is in the anchor's image alone.

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
    order = _occurrence(a)
    margins = torch.empty_like(gap)
    for turn in range(int(order.max()) + 1):
        rows = (order == turn).nonzero()[:, 0]
        (gradient,) = torch.autograd.grad(gap[rows].sum(), images, create_graph=True)
        flat = gradient[a[rows]].flatten(1)
        dual = flat.abs().sum(dim=1) if norm == "linf" else flat.norm(dim=1)
        margins = margins.index_put((rows,), gap[rows] / dual.clamp_min(1e-12))
    return margins


def _occurrence(values: Tensor) -> Tensor:
    """How often each value came before, (t,)."""
    by_value = torch.argsort(values, stable=True)
    ordered = values[by_value]
    place = torch.arange(len(values), device=values.device) - torch.searchsorted(ordered, ordered)
    return torch.empty_like(place).index_copy_(0, by_value, place)


def clean_embeddings(model: nn.Module, images: Tensor) -> Tensor:
    """Embeddings to mine tuples on, in the mode that the model is in, without touching its running statistics."""
    with torch.no_grad(), frozen(model, evaluate=False):
        return model(images)


def without_memory(loss_fn: Loss) -> Loss:
    """The loss inside a cross-batch memory: that takes in embeddings whenever it is called, attacked ones too."""
    from pytorch_metric_learning.losses import CrossBatchMemory

    return loss_fn.loss if isinstance(loss_fn, CrossBatchMemory) else loss_fn


def _default(attack: Attack | None) -> Attack:
    return PGD(LinfBall(EPS), steps=STEPS, step_size=2 * EPS / 5) if attack is None else attack
