"""Losses of pytorch-metric-learning: which of them can be trained here and how, and their cross-batch memories."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

Places = dict[str, tuple[int, bool]]  # by the name of a memory: where the next batch goes, and whether it was full

# Losses that cannot be trained on labelled batches at all.
UNUSABLE = {
    **dict.fromkeys(
        ("BaseLossWrapper", "BaseMetricLossFunction", "GenericPairLoss"), "it is a base of losses, not a loss"
    ),
    **dict.fromkeys(("EmbeddingRegularizerMixin", "WeightRegularizerMixin"), "it is a part of losses, not a loss"),
    **dict.fromkeys(("SelfSupervisedLoss", "VICRegLoss"), "it compares two views of each image, and takes no labels"),
    "DynamicSoftMarginLoss": "it keeps the graph of one batch into the next, which cannot be differentiated twice",
    "ManifoldLoss": "it takes no labels",
}
# Losses of whole batches: without a miner, and under the defenses that perturb batches.
WITHOUT_TUPLES = {
    **dict.fromkeys(
        ("InstanceLoss", "P2SGradLoss", "PNPLoss", "RankedListLoss"), "it takes whole batches, and no tuples"
    ),
    "SmoothAPLoss": "it takes batches with as many images of each class, class by class, and no copies beside them",
}


def check_loss(loss: Any, tuples: bool, labels: Tensor | None = None) -> None:
    """Raise a TypeError if a loss of pytorch-metric-learning, known by its class, cannot be trained.

    It can neither be one of those that are named above, nor have such a loss, or a cross-batch memory, inside.
    ``tuples`` tells whether it is asked about tuples, of a miner or of a defense; ``labels`` of a batch must be in the
    order that SmoothAPLoss counts on without looking, else there is a ValueError.
    """
    name = type(loss).__name__
    if not type(loss).__module__.startswith("pytorch_metric_learning."):
        return
    if name in UNUSABLE:
        raise TypeError(f"{name} cannot be trained here: {UNUSABLE[name]}")
    if tuples and name in WITHOUT_TUPLES:
        raise TypeError(
            f"{name} cannot be trained on tuples, of a miner or a defense: {WITHOUT_TUPLES[name]}; without a miner, "
            "BatchDefense serves it"
        )
    if name == "SmoothAPLoss" and labels is not None and not _class_by_class(labels):
        wanted = "batches with as many images of each class, class by class: ClassBalancedBatches gives them"
        raise ValueError(f"SmoothAPLoss needs {wanted}")
    if name == "CrossBatchMemory":
        check_loss(loss.loss, tuples=True)
    if name == "MultipleLosses":
        if tuples and loss.miners:
            raise TypeError("MultipleLosses with miners of its own cannot be trained on tuples of another miner")
        for part in loss.losses.values() if loss.is_dict else loss.losses:
            if type(part).__name__ == "CrossBatchMemory":
                raise TypeError(
                    "a CrossBatchMemory inside MultipleLosses would take in what attacks try: train with it alone"
                )
            check_loss(part, tuples, labels)


def _class_by_class(labels: Tensor) -> bool:
    values, counts = torch.unique_consecutive(labels, return_counts=True)
    return len(torch.unique(values)) == len(values) and bool((counts == counts[0]).all())


def check_compares_samples(loss_fn: Any, defense: str) -> None:
    """Raise TypeError if the loss compares samples with parameters of its own: it has no tuples to perturb."""
    inner = without_memory(loss_fn)
    if isinstance(inner, nn.Module) and next(inner.parameters(), None) is not None:
        raise TypeError(
            f"{defense} perturbs samples against each other, but {type(inner).__name__} compares them with parameters "
            "of its own: use a loss of pairs or triplets, or BatchDefense"
        )


def reads_images(loss_fn: Any) -> bool:
    """Whether a loss is one of ``of_images(model, images, labels)``, such as `CertifiedMarginLoss` by slopes."""
    return bool(getattr(loss_fn, "reads_images", False))


def batch_loss(
    loss_fn: Callable[..., Tensor], embeddings: Tensor, labels: Tensor, tuples: Any = None, n: int | None = None
) -> Tensor:
    """The loss of a batch on its tuples; with a cross-batch memory, that and the loss of the batch against the memory.

    The first n embeddings, by default all, are the batch, which a memory takes in and compares with what it holds; the
    rest are copies that stand in their tuples alone. The sum of both losses is that of Wang et al., *Cross-batch memory
    for embedding learning*, arXiv 1912.06798; the class itself takes positions of tuples for places in its memory.
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
        wanted = f"that of the model, {embeddings.shape[1]}"
        raise ValueError(f"embedding_size of CrossBatchMemory must be {wanted}, got {k}")
    against_memory = loss_fn(embeddings[:n], labels[:n])
    return against_memory if tuples is None else against_memory + inner(embeddings, labels, tuples)


def without_memory(loss_fn: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The loss inside a cross-batch memory: that takes in embeddings whenever it is called, attacked ones too."""
    from pytorch_metric_learning.losses import CrossBatchMemory

    return loss_fn.loss if isinstance(loss_fn, CrossBatchMemory) else loss_fn


def memory_places(loss: Any) -> Places:
    """How far every ``CrossBatchMemory`` in a loss is filled, as plain numbers; of most losses, nothing.

    Their queues are buffers, but this is in no ``state_dict``.
    """
    return {name: (int(memory.queue_idx), bool(memory.has_been_filled)) for name, memory in _memories(loss)}


def set_memory_places(loss: Any, places: Mapping[str, Any]) -> None:
    """Go on from :func:`memory_places`; a ValueError if they are those of another loss."""
    memories = dict(_memories(loss))
    if memories.keys() != places.keys():
        raise ValueError(f"it knows of {len(places)} cross-batch memories, and the loss has {len(memories)}")
    for name, memory in memories.items():
        memory.queue_idx, memory.has_been_filled = places[name]


def _memories(loss: Any) -> Iterator[tuple[str, Any]]:
    from pytorch_metric_learning.losses import CrossBatchMemory

    if isinstance(loss, nn.Module):
        yield from ((name, part) for name, part in loss.named_modules() if isinstance(part, CrossBatchMemory))
