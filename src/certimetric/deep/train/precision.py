"""A model whose layers run in another precision, and whose embeddings come in single."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn


class PreciseModel(nn.Module):
    """Embed within a context of precision, such as ``torch.autocast``.

    Losses, miners and the goals of attacks stay outside, in single precision: a difference of two distances has few
    digits left in bfloat16, and the update goes by it.

    Parameters
    ----------
    model : Module
    context : callable
        Gives the context, anew each time.

    Examples
    --------
    >>> lower = lambda: torch.autocast("cpu", torch.bfloat16)
    >>> PreciseModel(nn.Linear(4, 2), lower)(torch.rand(3, 4)).dtype
    torch.float32
    """

    def __init__(self, model: nn.Module, context: Callable[[], AbstractContextManager[object]]):
        super().__init__()
        self.model, self.context = model, context

    def forward(self, images: Tensor) -> Tensor:
        with self.context():
            embeddings: Tensor = self.model(images)
        return embeddings if embeddings.dtype == torch.float64 else embeddings.float()
