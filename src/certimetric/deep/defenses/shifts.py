"""Embeddings that an attacker shifts: train on them, or charge the shift beside the clean loss."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from certimetric.base.arguments import require
from certimetric.deep.attacks.base import Attack
from certimetric.deep.defenses.base import AttackedDefense, Batch
from certimetric.deep.defenses.batches import PerturbedBatch
from certimetric.deep.goals import EmbeddingShift
from certimetric.deep.goals.base import Goal
from certimetric.deep.models.calling import embed
from certimetric.deep.models.images import Kind
from certimetric.deep.ranking.distances import distance


class EmbeddingShiftDefense(PerturbedBatch, AttackedDefense):
    """EST: move every embedding as far as possible from where it was, and take the loss of the moved ones.

    The attack, as of :class:`Defense`, sees neither labels nor tuples, so that it serves any loss. It must start at
    random: the gradient is 0 at the image itself.

    Parameters
    ----------
    attack : Attack, default=None
        As of :class:`Defense`.

    References
    ----------
    Zhou et al., *Adversarial ranking attack and defense*, arXiv 2002.11293 [zhou2020adversarial]: the embedding-shifted
    triplet loss.

    Examples
    --------
    >>> from certimetric.deep import PGD, LinfBall
    >>> defense = EmbeddingShiftDefense(PGD(LinfBall(0.1), steps=2))
    """

    def _embeddings(self, batch: Batch) -> Tensor:
        # In evaluation mode, as the attack has the model: a shift that comes of the mode alone is none.
        return embed(batch.model, batch.images, len(batch.images), Kind())

    def _perturbed(self, batch: Batch, found: Any, embeddings: Tensor | None) -> Tensor:
        assert embeddings is not None
        return self._attacked(batch.model, batch.images, EmbeddingShift(embeddings))


class PenaltyDefense(AttackedDefense):
    """The clean loss, and a charge, times ``weight``, on what an attacker can do to the embeddings of a batch."""

    def __init__(self, attack: Attack | None = None, weight: float = 1.0):
        super().__init__(attack)
        require(weight >= 0, "weight", "must not be negative", weight, self)
        self.weight = weight

    @abstractmethod
    def _goal(self, references: Tensor) -> Goal:
        """What the attacker does to clean embeddings."""

    @abstractmethod
    def _charge(self, moved: Tensor, clean: Tensor) -> Tensor:
        """How much of it is done, (b,)."""

    def compute_loss(self, batch: Batch) -> Tensor:
        images = batch.images
        goal = self._goal(embed(batch.model, images, len(images), Kind()))
        perturbed = self._attacked(batch.model, images, goal)
        clean, moved = batch.model(torch.cat([images, perturbed])).split(len(images))
        return batch.loss(clean, batch.mined(clean)) + self.weight * self._charge(moved, clean).mean()


class ShiftPenaltyDefense(PenaltyDefense):
    """SES: the clean loss, and the mean distance by which an attacker can shift embeddings.

    Parameters
    ----------
    attack
        As of :class:`Defense`.
    weight : float, default=1.0
        Of the shift beside the loss.

    References
    ----------
    After Zhou et al., arXiv 2002.11293 [zhou2020adversarial], with the shift itself suppressed in place of a loss of
    shifted embeddings.

    Examples
    --------
    >>> from certimetric.deep import PGD, LinfBall
    >>> defense = ShiftPenaltyDefense(PGD(LinfBall(0.1), steps=2), weight=0.5)
    """

    def _goal(self, references: Tensor) -> Goal:
        return EmbeddingShift(references)

    def _charge(self, moved: Tensor, clean: Tensor) -> Tensor:
        return distance(moved, clean)


class TradesDefense(PenaltyDefense):
    """The clean loss, and how much an attacker can change whom each image is near to, as TRADES does for classes.

    Neighbours in the batch take the place of classes: image i has neighbour j with probability
    ``softmax_j(−‖f(x_i) − f(x_j)‖² / temperature)``. The attack raises the Kullback–Leibler divergence from the
    probabilities of the clean image to those of the perturbed one among clean neighbours, and training lowers it.

    Parameters
    ----------
    attack
        As of :class:`Defense`.
    weight : float, default=1.0
        Of the divergence beside the loss.
    temperature : float, default=0.2

    References
    ----------
    Zhang et al., *Theoretically principled trade-off between robustness and accuracy*, arXiv 1901.08573
    [zhang2019theoretically], there with the classes of a classifier.

    Examples
    --------
    >>> from certimetric.deep import PGD, LinfBall
    >>> defense = TradesDefense(PGD(LinfBall(0.1), steps=2), weight=0.5)
    """

    def __init__(self, attack: Attack | None = None, weight: float = 1.0, temperature: float = 0.2):
        super().__init__(attack, weight)
        require(temperature > 0, "temperature", "must be positive", temperature, self)
        self.temperature = temperature

    def _goal(self, references: Tensor) -> Goal:
        return NeighbourDivergence(references, self.temperature)

    def _charge(self, moved: Tensor, clean: Tensor) -> Tensor:
        return neighbour_divergence(moved, clean, self.temperature)


class NeighbourDivergence(Goal):
    """Divergence of each sample's neighbours in a batch from those that its reference has; see `TradesDefense`.

    References are the embeddings of the batch, (n, k): sample i moves away from reference i, among the others.
    """

    per_sample = ("own",)

    def __init__(self, references: Tensor, temperature: float):
        self.references, self.temperature = references.detach(), temperature
        self.own = torch.arange(len(references), device=references.device)

    def __call__(self, embeddings: Tensor) -> Tensor:
        return neighbour_divergence(embeddings, self.references, self.temperature, self.own)

    def broken(self, embeddings: Tensor) -> Tensor:
        """Whether the most probable neighbour is another."""
        with torch.no_grad():
            nearest, before = (
                _log_probabilities(points, self.references, self.own, self.temperature).argmax(dim=1)
                for points in (embeddings, self.references[self.own])
            )
            return nearest != before


def neighbour_divergence(
    embeddings: Tensor, references: Tensor, temperature: float, own: Tensor | None = None
) -> Tensor:
    """Kullback–Leibler divergence of neighbour probabilities, (b,), from those of the references to the embeddings'.

    ``own``, (b,), is the reference that each embedding was, which is no neighbour of its own; by default 0, 1, ….
    """
    own = torch.arange(len(embeddings), device=embeddings.device) if own is None else own
    before = _log_probabilities(references[own], references, own, temperature)
    after = _log_probabilities(embeddings, references, own, temperature)
    return (before.exp() * (before - after)).sum(dim=1)


def _log_probabilities(points: Tensor, references: Tensor, own: Tensor, temperature: float) -> Tensor:
    a, b = points.float(), references.float()
    centre = b.mean(dim=0)  # that points close together keep their digits in products
    a, b = a - centre, b - centre
    squared = a.pow(2).sum(dim=1, keepdim=True) + b.pow(2).sum(dim=1) - 2.0 * a @ b.T
    # The least number rather than −∞: its probability is 0 all the same, and 0 · (∞ − ∞) is not a number.
    return (-squared / temperature).scatter(1, own[:, None], torch.finfo(squared.dtype).min).log_softmax(dim=1)
