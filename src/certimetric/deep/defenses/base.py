"""What all robust training losses have in common: a batch, the attack on it, and how its loss is taken."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from certimetric.base.arguments import require
from certimetric.deep.attacks import balls
from certimetric.deep.attacks.balls import Ball
from certimetric.deep.attacks.base import Attack
from certimetric.deep.attacks.gradient import PGD
from certimetric.deep.defenses.loss_support import batch_loss, check_compares_samples, check_loss, reads_images
from certimetric.deep.models.calling import frozen

Loss = Callable[..., Tensor]
Miner = Callable[..., Any]
NormName = Literal["linf", "l2"]


@dataclass(frozen=True)
class Batch:
    """What :meth:`Defense.loss` is asked about.

    Parameters
    ----------
    model : Module
    images : tensor of shape (b, c, h, w)
    labels : int tensor of shape (b,)
    loss_fn : callable
    miner : callable, optional
        As of :meth:`Defense.loss`.

    Examples
    --------
    >>> from pytorch_metric_learning.losses import TripletMarginLoss
    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 4))
    >>> images, labels = torch.rand(8, 1, 4, 4), torch.arange(8) % 2
    >>> batch = Batch(model, images, labels, TripletMarginLoss(0.2))
    >>> batch.clean().shape, batch.loss_of(images).shape
    (torch.Size([8, 4]), torch.Size([]))
    """

    model: nn.Module
    images: Tensor
    labels: Tensor
    loss_fn: Loss
    miner: Miner | None = None

    def mined(self, embeddings: Tensor) -> Any:
        """What the miner finds; None without a miner."""
        return None if self.miner is None else self.miner(embeddings.detach(), self.labels)

    def clean(self) -> Tensor:
        """Embeddings to mine on, in the mode that the model is in, without touching its running statistics."""
        with torch.no_grad(), frozen(self.model, evaluate=False):
            return self.model(self.images)

    def loss(self, embeddings: Tensor, tuples: Any = None) -> Tensor:
        """The loss of embeddings in the place of the batch's, on its tuples."""
        return batch_loss(self.loss_fn, embeddings, self.labels, tuples)

    def loss_of(self, images: Tensor) -> Tensor:
        """The loss of images in the place of the batch's, with tuples that are mined on themselves."""
        if reads_images(self.loss_fn):
            return self.loss_fn.of_images(self.model, images, self.labels)  # type: ignore[attr-defined]
        embeddings = self.model(images)
        return self.loss(embeddings, self.mined(embeddings))


class Defense(ABC):
    """How a batch is made hard before its loss is taken.

    A training loop of one's own becomes robust by one call::

        loss = defense.loss(model, images, labels, loss_fn, miner)

    So it is with each of them: the examples of the subclasses make one, the example below uses it.

    A subclass says in :meth:`compute_loss` what it makes of a batch. By its place in the list ``DEFENSES`` of
    ``certimetric.deep.defenses`` it is a ``kind`` of configurations, whose keys are the parameters of its constructor.

    Parameters that several of them have, and mean the same by:

    * ``attack``, an Attack or None: of defenses that attack in several steps; None for 5 steps of PGD in the l∞ ball of
      0.01, each of 2 · ε / 5. It should start at random. Of PGD the point at which it ends is trained on.
    * ``ball``, a Ball or None: of defenses with steps of their own; None for the l∞ ball of 0.01.
    * ``per_anchor``, a whole number, 1 by default: of defenses that mine, triplets kept of each anchor. Without a miner
      they are sampled by distance.

    Attributes
    ----------
    skipped : int
        Batches in which the miner found no tuple: their loss is 0.
    replays : int
        How often a training loop is to take the loss of each batch and step, one after the other.
    mines : bool
        Whether it asks the loss about tuples without a miner, too.
    compares_samples : bool
        Whether it perturbs samples against each other, and has no place for losses with parameters of their own.
    has_radius : bool
        Whether it perturbs within a ball, which :meth:`shrink` makes smaller.
    passes_images : bool
        Whether it takes losses that read the network and its images, not embeddings alone.

    Raises
    ------
    TypeError
        In :meth:`loss`, if the loss cannot be trained so: see ``certimetric.deep.defenses.loss_support``.

    Examples
    --------
    >>> from pytorch_metric_learning.losses import TripletMarginLoss
    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 4))
    >>> images, labels = torch.rand(8, 1, 4, 4), torch.arange(8) % 2
    >>> class Shaken(Defense):
    ...     def compute_loss(self, batch):
    ...         return batch.loss_of(batch.images + 0.1 * torch.randn_like(batch.images))
    >>> defense = Shaken()
    >>> loss = defense.loss(model, images, labels, TripletMarginLoss(0.2))
    >>> loss.backward()
    >>> model[1].weight.grad.shape
    torch.Size([4, 16])
    """

    skipped = 0
    replays = 1
    mines: ClassVar[bool] = False
    compares_samples: ClassVar[bool] = False
    has_radius: ClassVar[bool] = False
    passes_images: ClassVar[bool] = False
    _shrunk = 1.0

    def shrink(self, share: float) -> None:
        """Perturb within this share of the radius from now on: a training loop raises it to 1, epoch by epoch."""
        self._shrunk = share

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
            ``loss_fn(embeddings, labels, indices_tuple)`` as in pytorch-metric-learning, but for the few of its losses
            that ``certimetric.deep.defenses.loss_support`` names.
        miner : callable, optional
            ``miner(embeddings, labels)``.
        """
        self.check(loss_fn, type(self).__name__)
        return self.compute_loss(Batch(model, images, labels, loss_fn, miner))

    @abstractmethod
    def compute_loss(self, batch: Batch) -> Tensor:
        """The loss of a batch, which has a place in this defense."""

    @classmethod
    def check(cls, loss_fn: Loss, name: str, miner: bool = False) -> None:
        """Raise TypeError if a loss has no place in this defense, which the message calls ``name``."""
        check_loss(loss_fn, cls.mines or miner)
        if reads_images(loss_fn) and not cls.passes_images:
            raise TypeError(f"{name} takes losses of embeddings, and has no place for one that reads the network")
        if cls.compares_samples:
            check_compares_samples(loss_fn, name)

    def state_dict(self) -> dict[str, Any]:
        """What the loss of a batch depends on of the batches before it, for checkpoints: nothing, for most."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state_dict`; a KeyError or ValueError if it is that of another defense."""
        if state:
            raise ValueError(f"{type(self).__name__} has no state, got {', '.join(state)}")

    def attach(self, optimizer: torch.optim.Optimizer, *followers: nn.Module) -> None:  # noqa: B027
        """Tell what follows the weights, for a defense that takes weights back: what is here must be taken back, too.

        A training loop calls it once, before the first batch. Most defenses take nothing back, and need not know. The
        moments of the optimiser belong to the weights; learning rates and the like stay as they are. Followers are
        such as a running average of the weights.
        """

    def _nothing(self, embeddings: Tensor) -> Tensor:
        self.skipped += 1
        return embeddings.sum() * 0.0

    def __repr__(self) -> str:
        shown = {key: value for key, value in vars(self).items() if key != "skipped" and not key.startswith("_")}
        settings = ", ".join(f"{key}={value!r}" for key, value in shown.items())
        return f"{type(self).__name__}({settings})"


class AttackedDefense(Defense):
    """A defense by an attack of several steps."""

    has_radius = True

    def __init__(self, attack: Attack | None = None):
        self.attack = training_attack() if attack is None else attack

    def _attacked(self, model: nn.Module, images: Tensor, goal: Any) -> Tensor:
        return self._attack_now().for_training()(model, images, goal)

    def _attack_now(self) -> Attack:
        return self.attack if self._shrunk == 1.0 else self.attack.with_eps(self._shrunk * self.attack.ball.eps)


def training_ball(norm: NormName = "linf", eps: float = 0.01) -> Ball:
    """What may be done to an image in training, as a configuration says it."""
    require(0 <= eps < float("inf"), "eps", "must not be negative", eps)
    return balls.ball(norm, eps)


def training_attack(
    norm: NormName = "linf", eps: float = 0.01, steps: int = 5, step_size: float | None = None, restarts: int = 1
) -> Attack:
    """The attack in training, as a configuration says it: PGD with steps of 2 · eps / steps, if of no other size."""
    ball = training_ball(norm, eps)
    require(steps >= 1, "steps", "must be at least 1", steps)
    require(restarts >= 1, "restarts", "must be at least 1", restarts)
    require(step_size is None or step_size > 0, "step_size", "must be positive", step_size)
    return PGD(ball, steps, 2 * eps / steps if step_size is None else step_size, restarts)


# What a parameter of a defense is made by where plain values describe it; models come from outside.
MADE_BY: dict[Any, Callable[..., Any]] = {Attack | None: training_attack, Ball | None: training_ball}
MODELS = Sequence[nn.Module]
