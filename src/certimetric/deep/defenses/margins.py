"""The perturbation loss: margins of triplets enlarged by a gradient, without an attack."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from certimetric.deep.defenses.base import Defense, Loss, Miner, batch_loss
from certimetric.deep.defenses.loss_support import check_loss
from certimetric.deep.defenses.tuples import mine_triplets


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
    per_anchor : int, default=1

    References
    ----------
    The perturbation loss of Yang et al., arXiv 2006.05945, on a linearisation of the network.
    """

    def __init__(self, radius: float = 0.03, weight: float = 1.0, norm: str = "linf", per_anchor: int = 1):
        if norm not in ("linf", "l2"):
            raise ValueError(f"norm of PerturbationDefense must be 'linf' or 'l2', got {norm!r}")
        if not radius > 0 or not weight >= 0:
            raise ValueError(f"radius must be positive and weight at least 0, got {radius} and {weight}")
        self.radius, self.weight, self.norm, self.per_anchor = radius, weight, norm, per_anchor

    def loss(
        self, model: nn.Module, images: Tensor, labels: Tensor, loss_fn: Loss, miner: Miner | None = None
    ) -> Tensor:
        check_loss(loss_fn, tuples=True)
        images = images.detach().requires_grad_(True)
        embeddings = model(images)
        a, p, n = mine_triplets(embeddings, labels, miner, self.per_anchor)
        if not len(a):
            return self._nothing(embeddings)
        margin = first_order_margin(images, embeddings, (a, p, n), self.norm)
        # A triplet in the wrong order has no margin to enlarge: the metric loss has to put it right first.
        robust = torch.where(margin > 0, (1.0 - (margin / self.radius) ** 2).clamp_min(0.0), torch.ones_like(margin))
        return batch_loss(loss_fn, embeddings, labels, (a, p, n)) + self.weight * robust.mean()


def first_order_margin(
    images: Tensor, embeddings: Tensor, triplets: tuple[Tensor, Tensor, Tensor], norm: str
) -> Tensor:
    """``a / ‖∇a‖_*`` of every triplet, differentiable; the gradient is in the anchor's image alone.

    Infinite where the gradient is 0 and the triplet in the right order.

    Parameters
    ----------
    images : tensor of shape (b, …)
        Leaf that requires gradients, of which ``embeddings`` were computed.
    embeddings : tensor of shape (b, k)
    triplets : int tensors of shape (t,)
        Each anchor at most once in a call of the gradient; anchors of several triplets are taken in turn.
    norm : {"linf", "l2"}
    """
    a, p, n = triplets
    # The positive and negative stay where they are: only the anchor is moved.
    fixed = embeddings.detach()
    gap = (embeddings[a] - fixed[n]).pow(2).sum(dim=1) - (embeddings[a] - fixed[p]).pow(2).sum(dim=1)
    order = _occurrence(a)
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


def _occurrence(values: Tensor) -> Tensor:
    """How often each value came before, (t,)."""
    by_value = torch.argsort(values, stable=True)
    ordered = values[by_value]
    place = torch.arange(len(values), device=values.device) - torch.searchsorted(ordered, ordered)
    return torch.empty_like(place).index_copy_(0, by_value, place)
