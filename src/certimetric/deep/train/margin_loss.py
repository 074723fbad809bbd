"""A metric loss that counts what a Lipschitz certificate counts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from certimetric.base.arguments import require


class CertifiedMarginLoss(nn.Module):
    """Smooth hinge on the certified radius of every sample within its batch.

    For an anchor a, an item l of another class and an item j of its own, the embedding has to move by at least ::

        r(a, l, j) = (‖f_a − f_l‖² − ‖f_a − f_j‖²) / (2 ‖f_l − f_j‖)

    before l is nearer than j. With a network whose Lipschitz constant is 1, the radius that is certified for the anchor
    is ``r(a) = min_l max_j r(a, l, j)``, in pixels. The loss is the mean of ``T softplus((margin − r(a)) / T)``, in
    which the minimum is a soft one of the same temperature T. Embeddings are taken as they are, not scaled to length 1.
    All triplets of the batch are held at once: memory grows with the square of its size times that of a class in it.

    Parameters
    ----------
    margin : float, default=1.0
        Radius wanted, in pixels (l2).
    temperature : float, default=0.25
        T, in pixels too: opponents that lie within it of the worst one share its weight.

    References
    ----------
    Training for the margin that is certified: Tsuzuku et al., arXiv 1802.04034 [tsuzuku2018lipschitz]; the radius is
    the bound of Wang et al., arXiv 2006.07024 [wang2020provably], at the embedding.

    Examples
    --------
    >>> loss = CertifiedMarginLoss(margin=1.0, temperature=0.01)
    >>> loss(torch.tensor([[0.0], [0.0], [1.0], [1.0]]), torch.tensor([0, 0, 1, 1])).round(decimals=2)
    tensor(0.5100)
    """

    def __init__(self, margin: float = 1.0, temperature: float = 0.25):
        super().__init__()
        require(margin > 0, "margin", "must be positive, in pixels", margin, self)
        require(temperature > 0, "temperature", "must be positive, in pixels", temperature, self)
        self.margin, self.temperature = float(margin), float(temperature)

    def forward(self, embeddings: Tensor, labels: Tensor, indices_tuple: Any = None) -> Tensor:
        """The loss of a batch (b, k), as losses of pytorch-metric-learning are called.

        ``indices_tuple`` must be None: all triplets of the batch count, and no miner has to choose.
        """
        if indices_tuple is not None:
            raise ValueError("CertifiedMarginLoss takes all triplets of the batch: train it without a miner")
        # By differences, not products: what lies close together keeps its digits.
        squares = (embeddings[:, None] - embeddings).pow(2).sum(dim=-1)
        between = torch.where(squares > 0, squares, 1.0).sqrt()  # items at one point: a margin of 0
        same = labels[:, None] == labels
        own = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        usable = own.any(dim=1) & ~same.all(dim=1)
        if not usable.any():
            return embeddings.sum() * 0.0
        # Own items in front, as many columns as the largest class asks for.
        items = own.float().topk(int(own.sum(dim=1).max()), dim=1).indices
        radii = (squares[:, None, :] - squares.gather(1, items)[:, :, None]) / (2 * between[items])  # (a, j, l)
        best = radii.masked_fill(~own.gather(1, items)[:, :, None], -torch.inf).amax(dim=1)[usable]
        worst = -torch.logsumexp((-best / self.temperature).masked_fill(same[usable], -torch.inf), dim=1)
        return self.temperature * nn.functional.softplus(self.margin / self.temperature - worst).mean()
