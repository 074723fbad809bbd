"""The whole batch: as it is, with noise, or perturbed jointly, by the model itself or by others."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from certimetric.base.arguments import require
from certimetric.deep.attacks.base import Attack
from certimetric.deep.defenses.base import MODELS, AttackedDefense, Batch, Defense
from certimetric.deep.defenses.loss_support import check_loss, without_memory
from certimetric.deep.goals import TupleLoss
from certimetric.deep.models.calling import frozen


class NoDefense(Defense):
    """Natural training.

    Examples
    --------
    >>> defense = NoDefense()
    """

    passes_images = True

    def compute_loss(self, batch: Batch) -> Tensor:
        return batch.loss_of(batch.images)


class NoiseDefense(Defense):
    """Train on images with Gaussian noise, so that a smoothed model knows what it will be asked about.

    Parameters
    ----------
    sigma : float, default=0.25
        Standard deviation, in pixels. Pixels are not brought back to 0 to 1: the certificate is about this very noise.

    References
    ----------
    Cohen, Rosenfeld & Kolter, arXiv 1902.02918 [cohen2019certified], section 3.3: training for
    :class:`certimetric.deep.SmoothingCertifier`.

    Examples
    --------
    >>> defense = NoiseDefense(sigma=0.1)
    """

    passes_images = True

    def __init__(self, sigma: float = 0.25):
        require(sigma > 0, "sigma", "must be positive", sigma, self)
        require(sigma < float("inf"), "sigma", "must be a finite deviation, in pixels", sigma, self)
        self.sigma = sigma

    def compute_loss(self, batch: Batch) -> Tensor:
        return batch.loss_of(batch.images + self.sigma * torch.randn_like(batch.images))


class PerturbedBatch(Defense):
    """What defenses have in common that perturb the batch itself, and take its loss on tuples of the clean one."""

    def compute_loss(self, batch: Batch) -> Tensor:
        embeddings = self._embeddings(batch)
        found = None if embeddings is None else batch.mined(embeddings)
        if found is not None and not any(len(part) for part in found):
            return self._nothing(batch.model(batch.images))
        return batch.loss(batch.model(self._perturbed(batch, found, embeddings)), found)

    def _embeddings(self, batch: Batch) -> Tensor | None:
        """Those of the clean batch, to mine on."""
        return None if batch.miner is None else batch.clean()

    @abstractmethod
    def _perturbed(self, batch: Batch, found: Any, embeddings: Tensor | None) -> Tensor:
        """The images to train on."""


class BatchDefense(PerturbedBatch, AttackedDefense):
    """Perturb all images of the batch jointly, to raise the metric loss on tuples mined on the clean batch.

    It needs no tuples of its own, and so serves proxy and classification losses as well; their parameters are fixed
    in the attack too. The attack is as of :class:`Defense`.

    Parameters
    ----------
    attack : Attack, default=None
        As of :class:`Defense`.

    Examples
    --------
    >>> from certimetric.deep import PGD, LinfBall
    >>> defense = BatchDefense(PGD(LinfBall(0.1), steps=2))
    """

    def _perturbed(self, batch: Batch, found: Any, embeddings: Tensor | None) -> Tensor:
        return attacked_jointly(self._attack_now(), batch.model, batch, found)


class EnsembleDefense(BatchDefense):
    """Perturb each batch by the gradients of one model drawn from several: the one in training, and fixed ones.

    What a fixed model is fooled by does not follow the one in training, which therefore cannot learn to hide its
    gradients; and it is hardened against attacks that are transferred from other models.

    Parameters
    ----------
    sources : sequence of Module
        Trained embedding models, of any length of embeddings; they stay as they are. In a configuration, folders of
        finished runs.
    attack
        As of :class:`Defense`.

    References
    ----------
    Tramèr et al., *Ensemble adversarial training: attacks and defenses*, arXiv 1705.07204 [tramer2017ensemble].

    Examples
    --------
    >>> from certimetric.deep import PGD, LinfBall
    >>> defense = EnsembleDefense([torch.nn.Flatten()], PGD(LinfBall(0.1), steps=2))
    """

    compares_samples = True

    def __init__(self, sources: MODELS, attack: Attack | None = None):
        super().__init__(attack)
        require(len(sources) > 0, "sources", "must hold at least one other model", sources, self)
        self.sources = tuple(sources)

    def _perturbed(self, batch: Batch, found: Any, embeddings: Tensor | None) -> Tensor:
        drawn = int(torch.randint(len(self.sources) + 1, ()))
        source = batch.model if drawn == len(self.sources) else self.sources[drawn].to(batch.images.device)
        return attacked_jointly(self._attack_now(), source, batch, found)

    def __repr__(self) -> str:
        return f"EnsembleDefense({len(self.sources)} models, attack={self.attack!r})"


def attacked_jointly(attack: Attack, model: nn.Module, batch: Batch, found: Any) -> Tensor:
    """The batch as an attack on a model leaves it that raises its loss, tuples and parameters of the loss fixed."""
    check_loss(batch.loss_fn, found is not None, batch.labels)
    inner = without_memory(batch.loss_fn)
    with frozen(*([inner] if isinstance(inner, nn.Module) else []), evaluate=False):
        return attack.for_training()(model, batch.images, TupleLoss(inner, batch.labels, found))
