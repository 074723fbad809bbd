"""The whole batch perturbed jointly, by the model itself or by others."""

from __future__ import annotations

from collections.abc import Sequence
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
    finds_nothing,
    without_memory,
)
from certimetric.deep.defenses.loss_support import check_loss
from certimetric.deep.goals.base import TupleLoss
from certimetric.deep.models.calling import frozen


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
        self.attack = default_attack(attack)

    def loss(
        self, model: nn.Module, images: Tensor, labels: Tensor, loss_fn: Loss, miner: Miner | None = None
    ) -> Tensor:
        found, empty = mined(model, images, labels, miner)
        if empty:
            return self._nothing(model(images))
        perturbed = attacked_jointly(self.attack, model, images, labels, loss_fn, found)
        return batch_loss(loss_fn, model(perturbed), labels, found)


class EnsembleDefense(Defense):
    """Perturb each batch by the gradients of one model drawn from several: the one in training, and fixed ones.

    What a fixed model is fooled by does not follow the one in training, which therefore cannot learn to hide its
    gradients; and it is hardened against attacks that are transferred from other models.

    Parameters
    ----------
    sources : sequence of Module
        Trained embedding models, of any length of embeddings; they stay as they are.
    attack : Attack, default=None
        None for 5 steps of PGD in the l∞ ball of 0.01.

    Raises
    ------
    TypeError
        In :meth:`loss`, if the loss has parameters of its own, which belong to the embeddings of one model.

    References
    ----------
    Tramèr et al., *Ensemble adversarial training: attacks and defenses*, arXiv 1705.07204.
    """

    def __init__(self, sources: Sequence[nn.Module], attack: Attack | None = None):
        if not sources:
            raise ValueError("EnsembleDefense needs at least one other model")
        self.sources, self.attack = tuple(sources), default_attack(attack)

    def loss(
        self, model: nn.Module, images: Tensor, labels: Tensor, loss_fn: Loss, miner: Miner | None = None
    ) -> Tensor:
        check_compares_samples(loss_fn, type(self).__name__)
        found, empty = mined(model, images, labels, miner)
        if empty:
            return self._nothing(model(images))
        drawn = int(torch.randint(len(self.sources) + 1, ()))
        source = model if drawn == len(self.sources) else self.sources[drawn].to(images.device)
        perturbed = attacked_jointly(self.attack, source, images, labels, loss_fn, found)
        return batch_loss(loss_fn, model(perturbed), labels, found)

    def __repr__(self) -> str:
        return f"EnsembleDefense({len(self.sources)} models, attack={self.attack!r})"


def mined(model: nn.Module, images: Tensor, labels: Tensor, miner: Miner | None) -> tuple[Any, bool]:
    """What the miner finds in the clean batch, None without a miner; and whether it finds nothing."""
    found = None if miner is None else miner(clean_embeddings(model, images), labels)
    return found, finds_nothing(found)


def attacked_jointly(
    attack: Attack, model: nn.Module, images: Tensor, labels: Tensor, loss_fn: Loss, found: Any
) -> Tensor:
    """The batch as an attack leaves it that raises its loss on fixed tuples; parameters of the loss are fixed too."""
    check_loss(loss_fn, found is not None, labels)
    inner = without_memory(loss_fn)
    with frozen(*([inner] if isinstance(inner, nn.Module) else []), evaluate=False):
        return attack.for_training()(model, images, TupleLoss(inner, labels, found))
