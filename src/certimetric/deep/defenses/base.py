"""What all robust training losses have in common: a batch, a model, and a loss of pytorch-metric-learning."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from certimetric.deep.attacks.balls import LinfBall
from certimetric.deep.attacks.base import Attack
from certimetric.deep.attacks.gradient import PGD
from certimetric.deep.defenses.loss_support import check_loss
from certimetric.deep.defenses.tuples import Triplets
from certimetric.deep.models.calling import frozen

ROLES = ("anchor", "positive", "negative")  # in the order of a triplet
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
    replays : int
        How often a training loop is to take the loss of each batch and step, one after the other.
    """

    skipped = 0
    replays = 1

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
            ``loss_fn(embeddings, labels, indices_tuple)`` as in pytorch-metric-learning, but for the few of its losses
            that ``certimetric.deep.defenses.loss_support`` names.
        miner : callable, optional
            ``miner(embeddings, labels)``.
        """

    def state_dict(self) -> dict[str, Any]:
        """What the loss of a batch depends on of the batches before it, for checkpoints: nothing, for most."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state_dict`.

        Raises
        ------
        KeyError, ValueError
            If it is that of another defense.
        """
        if state:
            raise ValueError(f"{type(self).__name__} has no state, got {', '.join(state)}")

    def attach(self, optimizer: torch.optim.Optimizer, *followers: nn.Module) -> None:  # noqa: B027
        """Tell what follows the weights, for a defense that takes weights back: what is here must be taken back, too.

        A training loop calls it once, before the first batch. Most defenses take nothing back, and need not know.

        Parameters
        ----------
        optimizer : Optimizer
            Whose moments belong to the weights; learning rates and the like stay as they are.
        *followers : Module
            Such as a running average of the weights.
        """

    def _nothing(self, embeddings: Tensor) -> Tensor:
        self.skipped += 1
        return embeddings.sum() * 0.0

    def __repr__(self) -> str:
        shown = {key: value for key, value in vars(self).items() if key != "skipped" and not key.startswith("_")}
        settings = ", ".join(f"{key}={value!r}" for key, value in shown.items())
        return f"{type(self).__name__}({settings})"


class NoDefense(Defense):
    """Natural training."""

    def loss(
        self, model: nn.Module, images: Tensor, labels: Tensor, loss_fn: Loss, miner: Miner | None = None
    ) -> Tensor:
        embeddings = model(images)
        found = None if miner is None else miner(embeddings.detach(), labels)
        return batch_loss(loss_fn, embeddings, labels, found)


def batch_loss(loss_fn: Loss, embeddings: Tensor, labels: Tensor, tuples: Any = None, n: int | None = None) -> Tensor:
    """The loss of a batch on its tuples; with a cross-batch memory, that and the loss of the batch against the memory.

    Parameters
    ----------
    embeddings : tensor of shape (b, k)
    labels : int tensor of shape (b,)
    tuples : tuple of int tensors, optional
        Positions in ``embeddings``.
    n : int, optional
        The first n are the batch, which a memory takes in and compares with what it holds; the rest are copies that
        stand in their tuples alone. By default all.

    Raises
    ------
    TypeError, ValueError
        If the loss cannot be trained so, or a memory does not fit.

    References
    ----------
    The sum of both losses: Wang et al., *Cross-batch memory for embedding learning*, arXiv 1912.06798. The class
    itself takes positions of tuples for places in its memory.
    """
    check_loss(loss_fn, tuples is not None, labels)
    inner = without_memory(loss_fn)
    if inner is loss_fn:
        return loss_fn(embeddings, labels, tuples)
    n = len(embeddings) if n is None else n
    size, k = loss_fn.memory_size, loss_fn.embedding_size  # type: ignore[attr-defined]
    if size < n:
        raise ValueError(f"memory_size of CrossBatchMemory must be at least a batch, got {size} for {n} images")
    if k != embeddings.shape[1]:
        raise ValueError(
            f"embedding_size of CrossBatchMemory must be that of the model, {embeddings.shape[1]}, got {k}"
        )
    against_memory = loss_fn(embeddings[:n], labels[:n])
    return against_memory if tuples is None else against_memory + inner(embeddings, labels, tuples)


def clean_embeddings(model: nn.Module, images: Tensor) -> Tensor:
    """Embeddings to mine tuples on, in the mode that the model is in, without touching its running statistics."""
    with torch.no_grad(), frozen(model, evaluate=False):
        return model(images)


def finds_nothing(found: Any) -> bool:
    """Whether a miner was asked, and found no tuple."""
    return found is not None and not any(len(part) for part in found)


def without_memory(loss_fn: Loss) -> Loss:
    """The loss inside a cross-batch memory: that takes in embeddings whenever it is called, attacked ones too."""
    from pytorch_metric_learning.losses import CrossBatchMemory

    return loss_fn.loss if isinstance(loss_fn, CrossBatchMemory) else loss_fn


def loss_on_copies(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    loss_fn: Loss,
    triplets: Triplets,
    perturbed: Tensor,
    roles: Sequence[str],
    rows: Tensor | None = None,
) -> Tensor:
    """The loss of the batch with perturbed copies, each of which stands in its one tuple alone.

    Parameters
    ----------
    perturbed : tensor of shape (len(roles) · len(rows), c, h, w)
        A block for each role: copies of the images that have it in the triplets of ``rows``.
    rows : int tensor, optional
        Triplets whose samples are replaced; by default all.
    """
    rows = torch.arange(len(triplets[0]), device=images.device) if rows is None else rows
    tuples = [part.clone() for part in triplets]
    originals = []
    for block, role in enumerate(roles):
        part = tuples[ROLES.index(role)]
        originals.append(part[rows])
        part[rows] = len(images) + block * len(rows) + torch.arange(len(rows), device=rows.device)
    embeddings = model(torch.cat([images, perturbed]))
    copied = torch.cat([labels, labels[torch.cat(originals)]])
    return batch_loss(loss_fn, embeddings, copied, tuple(tuples), len(images))


def check_compares_samples(loss_fn: Loss, defense: str) -> None:
    """Raise TypeError if the loss compares samples with parameters of its own: it has no tuples to perturb."""
    check_loss(loss_fn, tuples=False)
    inner = without_memory(loss_fn)
    if isinstance(inner, nn.Module) and next(inner.parameters(), None) is not None:
        raise TypeError(
            f"{defense} perturbs samples against each other, but {type(inner).__name__} compares them with parameters "
            "of its own: use a loss of pairs or triplets, or BatchDefense"
        )


def default_attack(attack: Attack | None) -> Attack:
    return PGD(LinfBall(EPS), steps=STEPS, step_size=2 * EPS / 5) if attack is None else attack
