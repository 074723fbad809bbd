"""Tuples of a mini-batch: mined on clean embeddings, a few for each anchor, as (anchor, positive, negative)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Triplets = tuple[Tensor, Tensor, Tensor]

CUTOFF, NONZERO_LOSS_CUTOFF = 0.5, 1.4  # of distance-weighted sampling, as in the paper


def mine_triplets(
    embeddings: Tensor, labels: Tensor, miner: Callable[..., Any] | None = None, per_anchor: int = 1
) -> Triplets:
    """Triplets of a batch, at most ``per_anchor`` of each anchor, drawn at random among those that the miner gives.

    Parameters
    ----------
    embeddings : tensor of shape (b, k)
    labels : int tensor of shape (b,)
    miner : callable, optional
        ``miner(embeddings, labels)`` as in pytorch-metric-learning, of triplets or pairs; by default distance-weighted
        sampling, for embeddings on the unit sphere.
    per_anchor : int, default=1

    Returns
    -------
    anchors, positives, negatives : int tensors of shape (t,)
        Empty where the miner finds nothing.

    References
    ----------
    Distance-weighted sampling: Wu et al., arXiv 1706.07567.
    """
    from pytorch_metric_learning.miners import DistanceWeightedMiner
    from pytorch_metric_learning.utils import loss_and_miner_utils

    if miner is None:
        miner = DistanceWeightedMiner(cutoff=CUTOFF, nonzero_loss_cutoff=NONZERO_LOSS_CUTOFF)
    with torch.no_grad():
        found = miner(embeddings.detach(), labels)
        a, p, n = loss_and_miner_utils.convert_to_triplets(found, labels, labels, t_per_anchor="all")
    order = torch.randperm(len(a), device=a.device)
    a, p, n = a[order], p[order], n[order]
    # The how-manieth triplet of its anchor each one is, in the random order.
    by_anchor = torch.argsort(a, stable=True)
    sorted_anchors = a[by_anchor]
    first = torch.searchsorted(sorted_anchors, sorted_anchors)
    kept = by_anchor[torch.arange(len(a), device=a.device) - first < per_anchor]
    return a[kept], p[kept], n[kept]
