"""Which losses of pytorch-metric-learning can be trained here: all but the few that are named, each with its reason."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

# Losses that cannot be trained on labelled batches at all.
UNUSABLE = {
    "BaseLossWrapper": "it is a base of losses, not a loss",
    "BaseMetricLossFunction": "it is a base of losses, not a loss",
    "DynamicSoftMarginLoss": "it keeps the graph of one batch into the next, which cannot be differentiated twice",
    "EmbeddingRegularizerMixin": "it is a part of losses, not a loss",
    "GenericPairLoss": "it is a base of losses, not a loss",
    "ManifoldLoss": "it takes no labels",
    "SelfSupervisedLoss": "it compares two views of each image, and takes no labels",
    "VICRegLoss": "it compares two views of each image, and takes no labels",
    "WeightRegularizerMixin": "it is a part of losses, not a loss",
}
# Losses of whole batches: without a miner, and under the defenses that perturb batches.
WITHOUT_TUPLES = {
    "InstanceLoss": "it takes whole batches, and no tuples",
    "P2SGradLoss": "it takes whole batches, and no tuples",
    "PNPLoss": "it takes whole batches, and no tuples",
    "RankedListLoss": "it takes whole batches, and no tuples",
    "SmoothAPLoss": "it takes batches with as many images of each class, class by class, and no copies beside them",
}


def check_loss(loss: Any, tuples: bool, labels: Tensor | None = None) -> None:
    """Raise an error if a loss cannot be trained.

    Parameters
    ----------
    loss : callable
        One of pytorch-metric-learning's is known by its class; those of others are taken as they are.
    tuples : bool
        Whether it is asked about tuples: those of a miner, or of a defense.
    labels : int tensor of shape (b,), optional
        Of the batch: SmoothAPLoss counts on their order, and does not look.

    Raises
    ------
    TypeError
        If it is one of those that are named above, or has such a loss, or a cross-batch memory, inside.
    ValueError
        If labels are not in the order that it needs.
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
        raise ValueError(
            "SmoothAPLoss needs batches with as many images of each class, class by class: ClassBalancedBatches gives "
            "them"
        )
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
