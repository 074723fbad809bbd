"""The goal of an attacker of training: a metric loss of the whole batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from certimetric.deep.goals.base import JointGoal


class TupleLoss(JointGoal):
    """A metric loss of the whole batch on fixed tuples: perturbing samples jointly raises it.

    Parameters
    ----------
    loss : callable
        ``loss(embeddings, labels, indices_tuple)`` as in pytorch-metric-learning, with parameters of its own or not.
    labels : int tensor of shape (b,)
    indices_tuple : tuple of tensors or None
        What a miner gave for the clean batch.
    """

    def __init__(self, loss: Callable[..., Tensor], labels: Tensor, indices_tuple: Any = None):
        self.loss, self.labels, self.indices_tuple = loss, labels, indices_tuple

    def together(self, embeddings: Tensor) -> Tensor:
        return self.loss(embeddings, self.labels, self.indices_tuple)
