"""Where cross-batch memories stand: their queues are buffers, but how far they are filled is in no ``state_dict``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

Places = dict[str, tuple[int, bool]]  # by the name of the memory: where the next batch goes, and whether it was full


def memory_places(loss: Any) -> Places:
    """Of every ``CrossBatchMemory`` of pytorch-metric-learning in a loss, as plain numbers; none, for most losses."""
    return {name: (int(memory.queue_idx), bool(memory.has_been_filled)) for name, memory in _memories(loss)}


def set_memory_places(loss: Any, places: Mapping[str, Any]) -> None:
    """Go on from :func:`memory_places`.

    Raises
    ------
    ValueError
        If they are those of another loss.
    """
    memories = dict(_memories(loss))
    if memories.keys() != places.keys():
        raise ValueError(f"it knows of {len(places)} cross-batch memories, and the loss has {len(memories)}")
    for name, memory in memories.items():
        memory.queue_idx, memory.has_been_filled = places[name]


def _memories(loss: Any) -> Iterator[tuple[str, Any]]:
    from pytorch_metric_learning.losses import CrossBatchMemory

    if isinstance(loss, nn.Module):
        yield from ((name, part) for name, part in loss.named_modules() if isinstance(part, CrossBatchMemory))
