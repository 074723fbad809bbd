"""Tuples of a mini-batch: mined on clean embeddings, a few for each anchor, as (anchor, positive, negative)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor

Triplets = tuple[Tensor, Tensor, Tensor]
Role = Literal["anchor", "positive", "negative"]
ROLES: tuple[Role, ...] = get_args(Role)  # in the order of a triplet

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
    # The how-manieth triplet of its anchor each one is, in the random order; kept anchor by anchor.
    by_anchor = torch.argsort(a, stable=True)
    kept = by_anchor[occurrences(a)[by_anchor] < per_anchor]
    return a[kept], p[kept], n[kept]


def occurrences(values: Tensor) -> Tensor:
    """How often each value came before, (t,).

    Examples
    --------
    >>> occurrences(torch.tensor([3, 1, 3, 3]))
    tensor([0, 0, 1, 2])
    """
    by_value = torch.argsort(values, stable=True)
    ordered = values[by_value]
    place = torch.arange(len(values), device=values.device) - torch.searchsorted(ordered, ordered)
    return torch.empty_like(place).index_copy_(0, by_value, place)
