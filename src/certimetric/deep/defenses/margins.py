"""The perturbation loss: margins of triplets enlarged by a gradient, without an attack."""

from __future__ import annotations

import torch
from torch import Tensor

from certimetric.base.arguments import chosen, require
from certimetric.deep.defenses.base import Batch, Defense, NormName
from certimetric.deep.defenses.tuples import Triplets, mine_triplets, occurrences


class PerturbationDefense(Defense):
    """Add the perturbation loss on first-order adversarial margins: one more gradient, no attack loop.

    The margin of a triplet is ``r = a(x) / ‖∇a(x)‖_*`` with ``a = ‖f(x) − f(x_n)‖² − ‖f(x) − f(x_p)‖²``, exact for a
    linear f. The loss added is the mean of ``[1 − r²/radius²]_+`` where a > 0, and 1 (without gradient) elsewhere.
    Layers that normalise by statistics of the batch couple its images, which the gradient of a single one does not see.

    Parameters
    ----------
    radius : float, default=0.03
        Margin wanted, in units of the input.
    weight : float, default=1.0
    norm : {"linf", "l2"}, default="linf"
        How a perturbation is measured.
    per_anchor
        As of :class:`Defense`.

    References
    ----------
    The perturbation loss of Yang et al., arXiv 2006.05945, on a linearisation of the network.
    """

    mines = True

    def __init__(self, radius: float = 0.03, weight: float = 1.0, norm: NormName = "linf", per_anchor: int = 1):
        chosen("norm", norm, ("linf", "l2"), self)
        require(radius > 0, "radius", "must be positive", radius, self)
        require(weight >= 0, "weight", "must not be negative", weight, self)
        require(per_anchor >= 1, "per_anchor", "must be at least 1", per_anchor, self)
        self.radius, self.weight, self.norm, self.per_anchor = radius, weight, norm, per_anchor

    def compute_loss(self, batch: Batch) -> Tensor:
        images = batch.images.detach().requires_grad_(True)
        embeddings = batch.model(images)
        triplets = mine_triplets(embeddings, batch.labels, batch.miner, self.per_anchor)
        if not len(triplets[0]):
            return self._nothing(embeddings)
        margin = first_order_margin(images, embeddings, triplets, self.norm)
        # A triplet in the wrong order has no margin to enlarge: the metric loss has to put it right first.
        robust = torch.where(margin > 0, (1.0 - (margin / self.radius) ** 2).clamp_min(0.0), torch.ones_like(margin))
        return batch.loss(embeddings, triplets) + self.weight * robust.mean()


def first_order_margin(images: Tensor, embeddings: Tensor, triplets: Triplets, norm: str) -> Tensor:
    """``a / ‖∇a‖_*`` of every triplet, differentiable; the gradient is in the anchor's image alone.

    Infinite where the gradient is 0 and the triplet in the right order.

    Parameters
    ----------
    images : tensor of shape (b, …)
        Leaf that requires gradients, of which ``embeddings`` (b, k) were computed.
    triplets : int tensors of shape (t,)
        Each anchor at most once in a call of the gradient; anchors of several triplets are taken in turn.
    """
    a, p, n = triplets
    # The positive and negative stay where they are: only the anchor is moved.
    fixed = embeddings.detach()
    gap = (embeddings[a] - fixed[n]).pow(2).sum(dim=1) - (embeddings[a] - fixed[p]).pow(2).sum(dim=1)
    order = occurrences(a)
    margins = torch.empty_like(gap)
    for turn in range(int(order.max()) + 1):
        rows = (order == turn).nonzero()[:, 0]
        (gradient,) = torch.autograd.grad(gap[rows].sum(), images, create_graph=True)
        flat = gradient[a[rows]].flatten(1).double()  # whose squares are not lost
        dual = flat.abs().sum(dim=1) if norm == "linf" else flat.norm(dim=1)
        # Where nothing that is done to the anchor changes the gap, its margin has no end.
        endless = torch.where(gap[rows] > 0, torch.inf, 0.0).double()
        margin = torch.where(dual > 0, gap[rows] / torch.where(dual > 0, dual, 1.0), endless)
        margins = margins.index_put((rows,), margin.to(gap.dtype))
    return margins
