"""Batches with several images of each class: a metric loss sees only the tuples that its batch holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from certimetric.base.arguments import require


class ClassBalancedBatches(Sampler[list[int]]):
    """Batches of ``batch_size // per_class`` classes drawn at random, with ``per_class`` images of each.

    Give it to a DataLoader as ``batch_sampler``. It draws from torch's random numbers. In several processes all draw
    the same batch, and each gives its part of it.

    Parameters
    ----------
    labels : int tensor of shape (n,)
    batch_size : int, default=112
        Images of a batch over all processes.
    per_class : int, default=2
        A class with fewer images gives some of them again.

    Raises
    ------
    ValueError
        If the batch holds fewer than two classes, or the labels do.

    Examples
    --------
    >>> labels = torch.arange(40) % 10
    >>> batches = list(ClassBalancedBatches(labels, batch_size=8, per_class=2))
    >>> len(batches), labels[batches[0]].unique().numel()
    (5, 4)
    """

    def __init__(self, labels: Tensor, batch_size: int = 112, per_class: int = 2):
        require(per_class >= 1, "per_class", "must be at least 1", per_class)
        wanted = f"must be at least two classes of per_class = {per_class}"
        require(batch_size >= 2 * per_class, "batch_size", wanted, batch_size, beside=["per_class"])
        classes, codes = torch.unique(torch.as_tensor(labels), return_inverse=True)
        if len(classes) < 2:
            raise ValueError("labels must be of at least two classes")
        self.per_class = per_class
        self.n_classes = min(batch_size // per_class, len(classes))
        # With few classes each gives more images, so that the batch keeps its size.
        if self.n_classes == len(classes):
            self.per_class = max(per_class, batch_size // len(classes))
        self.members = [(codes == code).nonzero()[:, 0] for code in range(len(classes))]
        self.length = max(1, len(codes) // (self.n_classes * self.per_class))

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[list[int]]:
        for _ in range(self.length):
            chosen = torch.randperm(len(self.members))[: self.n_classes]
            rows = torch.cat([self._draw(self.members[int(code)]) for code in chosen])
            if dist.is_available() and dist.is_initialized():
                rows = rows.tensor_split(dist.get_world_size())[dist.get_rank()]
            yield rows.tolist()

    def _draw(self, members: Tensor) -> Tensor:
        order = members[torch.randperm(len(members))]
        return order.repeat(-(-self.per_class // len(order)))[: self.per_class]


def balanced_loader(
    images: Any, labels: Any, batch_size: int = 112, per_class: int = 2, workers: int = 0
) -> DataLoader[Any]:
    """Whole batches, drawn by class: the rows of a batch are taken from the images all at once.

    Parameters
    ----------
    images : array of shape (n, c, h, w), or lazy images
    labels : int array of shape (n,)
    batch_size, per_class
        As of :class:`ClassBalancedBatches`.
    workers : int, default=0
        Processes that decode pictures.
    """
    sampler = ClassBalancedBatches(torch.as_tensor(labels), batch_size, per_class)
    return DataLoader(_Rows(images, labels), batch_size=None, sampler=sampler, num_workers=workers)  # type: ignore[arg-type]


class _Rows:
    """Some rows of images and labels as tensors."""

    def __init__(self, images: Any, labels: Any):
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: list[int]) -> tuple[Tensor, Tensor]:
        return torch.as_tensor(self.images[rows]), torch.as_tensor(self.labels[rows])
