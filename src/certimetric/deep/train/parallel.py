"""A model over several processes that looks like one: each embeds its part of the batch, all see all embeddings."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class ShardedModel(nn.Module):
    """Embed a batch that all processes hold, each one a part of it, and give all of them all embeddings.

    Whatever is computed from the embeddings is the same in every process; gradients of parameters are those of the
    process's own part, and :func:`add_gradients` makes them whole. Gradients of the input are whole, so that attacks
    work as in one process.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        world, rank = dist.get_world_size(), dist.get_rank()
        part = -(-len(images) // world)
        # Parts are of equal size: the last is filled up with copies of the first image, whose embeddings are cut off.
        padding = images[:1].expand(part * world - len(images), *images.shape[1:])
        padded = torch.cat([images, padding]) if len(padding) else images
        own = _Part.apply(padded, rank, part)
        return _All.apply(self.model(own), rank, part)[: len(images)]


class _Part(torch.autograd.Function):
    """The rows of this process; backwards, the gradients of all processes' rows."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rank: int, part: int) -> Tensor:
        ctx.rank, ctx.part = rank, part
        return x[rank * part : (rank + 1) * part].clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _All.apply(gradient, ctx.rank, ctx.part), None, None


class _All(torch.autograd.Function):
    """The rows of all processes; backwards, the gradient of this process's rows."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rank: int, part: int) -> Tensor:
        ctx.rank, ctx.part = rank, part
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _Part.apply(gradient, ctx.rank, ctx.part), None, None


def gather_batch(*tensors: Tensor) -> list[Tensor]:
    """Batches of all processes, one behind the other; the parts may differ in length."""
    out = []
    for tensor in tensors:
        sizes = [torch.zeros(1, dtype=torch.long, device=tensor.device) for _ in range(dist.get_world_size())]
        dist.all_gather(sizes, torch.tensor([len(tensor)], device=tensor.device))
        longest = max(int(size) for size in sizes)
        padded = torch.zeros((longest, *tensor.shape[1:]), dtype=tensor.dtype, device=tensor.device)
        padded[: len(tensor)] = tensor
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        out.append(torch.cat([part[: int(size)] for part, size in zip(parts, sizes)]))
    return out


def add_gradients(parameters: list[nn.Parameter]) -> None:
    """Sum the gradients of a sharded model's parameters over the processes."""
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        dist.all_reduce(parameter.grad)
