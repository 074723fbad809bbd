"""What an attack on embeddings maximises: one value for each sample, and whether the goal is reached."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class Goal(ABC):
    """A goal for the embeddings of a batch; attacks maximise it sample by sample.

    A subclass tells in ``per_sample`` which attributes belong to its samples: each is a tensor of length b, indexed by
    sample, another goal, or None, that :meth:`select` cuts.

    Examples
    --------
    >>> class Rightmost(Goal):
    ...     def __call__(self, embeddings):
    ...         return embeddings[:, 0]
    ...     def broken(self, embeddings):
    ...         return embeddings[:, 0] > 1.0
    >>> value, broken = Rightmost().judge(torch.tensor([[0.5, 0.0], [2.0, 0.0]]))
    >>> value.tolist(), broken.tolist()
    ([0.5, 2.0], [False, True])
    """

    per_sample: tuple[str, ...] = ()

    @abstractmethod
    def __call__(self, embeddings: Tensor) -> Tensor:
        """Values (b,) of embeddings (b, k), differentiable."""

    @abstractmethod
    def broken(self, embeddings: Tensor) -> Tensor:
        """Whether each sample has reached the goal, bool (b,): what attacks take for success, and nothing else."""

    def judge(self, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """Values, differentiable, and whether each sample has reached the goal: what attacks ask for at every point.

        A subclass whose values tell success too need not compute them twice.
        """
        return self(embeddings), self.broken(embeddings.detach())

    def select(self, rows: Tensor) -> Goal:
        """The same goal for some of the samples, ``rows`` an index or a mask."""
        part = object.__new__(type(self))
        part.__dict__.update(self.__dict__)
        for name in self.per_sample:
            value = getattr(self, name)
            if value is not None:
                setattr(part, name, value.select(rows) if isinstance(value, Goal) else value[rows])
        return part


class LevelGoal(Goal):
    """A goal that is reached where its value is not below a level."""

    def level(self) -> float | Tensor:
        """0, or another number, or one (b,) for each sample."""
        return 0.0

    def broken(self, embeddings: Tensor) -> Tensor:
        with torch.no_grad():
            return self.judge(embeddings)[1]

    def judge(self, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        value = self(embeddings)
        return value, value.detach() >= self.level()


class JointGoal(Goal):
    """A goal that samples have together: one number, which each is given a share of.

    It has no meaning for some of the samples alone, so that attacks keep the best step of the batch as a whole; no
    sample ever reaches it by itself.
    """

    @abstractmethod
    def together(self, embeddings: Tensor) -> Tensor:
        """The number, of embeddings (b, k)."""

    def __call__(self, embeddings: Tensor) -> Tensor:
        return self.together(embeddings).expand(len(embeddings)) / len(embeddings)

    def broken(self, embeddings: Tensor) -> Tensor:
        return torch.zeros(len(embeddings), dtype=torch.bool, device=embeddings.device)

    def select(self, rows: Tensor) -> Goal:
        raise ValueError("samples that have a goal together have none one by one")


class TupleLoss(JointGoal):
    """A metric loss of the whole batch on fixed tuples: perturbing samples jointly raises it.

    Where it is 0, as a hinge is that no tuple reaches, it has no gradient to follow. There the value is the margin that
    is not cut off: how much farther positives are than negatives in the mean, in the distance of the loss.

    Parameters
    ----------
    loss : callable
        ``loss(embeddings, labels, indices_tuple)`` as in pytorch-metric-learning, with parameters of its own or not.
    labels : int tensor of shape (b,)
    indices_tuple : tuple of tensors or None
        What a miner gave for the clean batch.

    Examples
    --------
    >>> from pytorch_metric_learning.losses import ContrastiveLoss
    >>> goal = TupleLoss(ContrastiveLoss(), torch.tensor([0, 0, 1, 1]))
    >>> goal(torch.randn(4, 3)).shape
    torch.Size([4])
    """

    def __init__(self, loss: Callable[..., Tensor], labels: Tensor, indices_tuple: Any = None):
        self.loss, self.labels, self.indices_tuple = loss, labels, indices_tuple

    def together(self, embeddings: Tensor) -> Tensor:
        value = self.loss(embeddings, self.labels, self.indices_tuple)
        distance = getattr(self.loss, "distance", None)
        if distance is None or bool(value.detach() != 0):
            return value
        from pytorch_metric_learning.utils.loss_and_miner_utils import convert_to_pairs

        a, positives, b, negatives = convert_to_pairs(self.indices_tuple, self.labels)
        if not len(positives) or not len(negatives):
            return value
        between = distance(embeddings)
        return distance.margin(between[a, positives].mean(), between[b, negatives].mean())
