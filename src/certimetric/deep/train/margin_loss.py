"""A metric loss that counts what a Lipschitz certificate counts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from certimetric.base.arguments import require
from certimetric.deep.certify.lipschitz_constant import layers_in_order
from certimetric.deep.certify.slopes import bends_little

_BENDS = 32  # values of μ that are tried, from 0.01 to 10
_LEAST = 1e-8  # added to squares whose root is differentiated, far below those of slopes that matter


class CertifiedMarginLoss(nn.Module):
    """Smooth hinge on the certified radius of every sample within its batch.

    For an anchor a, an item l of another class and an item j of its own, the embedding has to move by at least ::

        r(a, l, j) = (‖f_a − f_l‖² − ‖f_a − f_j‖²) / (2 ‖f_l − f_j‖)

    before l is nearer than j. With a network whose Lipschitz constant is 1, the radius that is certified for the anchor
    is ``r(a) = min_l max_j r(a, l, j)``, in pixels. The loss is the mean of ``T softplus((margin − r(a)) / T)``, in
    which the minimum is a soft one of the same temperature T. Embeddings are taken as they are, not scaled to length 1.
    All triplets of the batch are held at once: memory grows with the square of its size times that of a class in it.

    With ``slopes`` a larger radius counts, of networks of one convolution, a pooling by norms with an offset and a
    linear layer, none of which stretches a difference. In the words of :mod:`certimetric.deep.certify.slopes` a change
    of size ε lowers s, with ``‖e_j − e_l‖ = 1``, for any μ > 0 by at most ::

        ‖g‖ ε + μ ε² + Σ_{w_k < 0} [w_k² / μ − 2 |w_k| h_k]_+,

    for a norm lies above its tangent by at most ``φ(ρ) = ρ² / 2h`` for ``ρ = ‖η_k‖ ≤ 2h`` and ``2 (ρ − h)`` beyond, and
    ``|w_k| φ(ρ) − μ ρ²`` is at most the last bracket. How many times the radius by the constant the least root of this
    is, is computed for the opponent that is the worst by the constant, and counts for all. Such a loss reads the
    network as well: :meth:`of_images` is called in place of the loss itself.

    Parameters
    ----------
    margin : float, default=1.0
        Radius wanted, in pixels (l2).
    temperature : float, default=0.25
        T, in pixels too: opponents that lie within it of the worst one share its weight.
    slopes : bool, default=False
        Count the radius by slopes, which needs a network that it is known of, and natural training or noise.

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

    def __init__(self, margin: float = 1.0, temperature: float = 0.25, slopes: bool = False):
        super().__init__()
        require(margin > 0, "margin", "must be positive, in pixels", margin, self)
        require(temperature > 0, "temperature", "must be positive, in pixels", temperature, self)
        self.margin, self.temperature, self.slopes = float(margin), float(temperature), slopes

    @property
    def reads_images(self) -> bool:
        """Whether it is :meth:`of_images` that gives the loss of a batch."""
        return self.slopes

    def forward(self, embeddings: Tensor, labels: Tensor, indices_tuple: Any = None) -> Tensor:
        """The loss of a batch (b, k), as losses of pytorch-metric-learning are called.

        ``indices_tuple`` must be None: all triplets of the batch count, and no miner has to choose.
        """
        if indices_tuple is not None:
            raise ValueError("CertifiedMarginLoss takes all triplets of the batch: train it without a miner")
        if self.slopes:
            raise TypeError("CertifiedMarginLoss by slopes reads the network, not embeddings alone: call of_images")
        radii, _, _, same = _radii(embeddings, labels)
        return self._hinge(radii, same) if len(radii) else embeddings.sum() * 0.0

    def of_images(self, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """The loss of a batch (b, c, h, w), by slopes.

        Raises
        ------
        ValueError
            If slopes are not known of the model.
        """
        layers: list[Any] = layers_in_order(model)
        if not bends_little(layers):
            known = "one convolution without sorting, a pooling with an offset and a linear layer"
            raise ValueError(f"CertifiedMarginLoss by slopes trains networks of {known}, in single precision")
        scale, convolution, pooling, flat, last = layers
        with parametrize.cached():
            convolved, kernel, weight = convolution(scale(images)), convolution.weight, last.weight
            norms = pooling(convolved)
            embeddings = last(flat(norms))
        radii, mates, anchors, same = _radii(embeddings, labels)
        if not len(radii):
            return embeddings.sum() * 0.0
        opponents = radii.detach().masked_fill(same, torch.inf).argmin(dim=1, keepdim=True)
        by_constant = radii.gather(1, opponents)[:, 0]
        apart = embeddings[mates.gather(1, opponents)[:, 0]] - embeddings[opponents[:, 0]]
        weights, norms = ((apart / _length(apart)[:, None]) @ weight).view_as(norms[anchors]), norms[anchors]
        # The derivative of every block is its direction, which the transposed convolution takes back to the picture.
        shares = pooling.spread(weights / norms, convolved) * convolved[anchors]
        rises = nn.functional.conv_transpose2d(shares, kernel, padding=convolution.padding) / scale.std
        stretched = float(1.0 / scale.std.abs().min())
        by_slopes = _reach(by_constant, _length(rises), weights.flatten(1), norms.flatten(1), stretched)
        # Where the first result is wrong there is no radius to enlarge: it has to be put right first.
        larger = by_slopes > by_constant.clamp_min(0.0)
        times = torch.where(larger, by_slopes / torch.where(larger, by_constant, 1.0), 1.0)
        return self._hinge(radii * times[:, None], same)

    def _hinge(self, radii: Tensor, same: Tensor) -> Tensor:
        worst = -torch.logsumexp((-radii / self.temperature).masked_fill(same, -torch.inf), dim=1)
        return self.temperature * nn.functional.softplus(self.margin / self.temperature - worst).mean()


def _radii(embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """``max_j r(a, l, j)`` of the anchors that have a partner and an opponent, (u, b), and which item that j is; which
    anchors they are, (u,), and where l is of their own class, (u, b)."""
    # By differences, not products: what lies close together keeps its digits.
    squares = (embeddings[:, None] - embeddings).pow(2).sum(dim=-1)
    between = torch.where(squares > 0, squares, 1.0).sqrt()  # items at one point: a margin of 0
    same = labels[:, None] == labels
    own = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    anchors = (own.any(dim=1) & ~same.all(dim=1)).nonzero()[:, 0]
    # Own items in front, as many columns as the largest class asks for.
    items = own.float().topk(max(1, int(own.sum(dim=1).max())), dim=1).indices[anchors]
    gaps = squares[anchors][:, None, :] - squares[anchors].gather(1, items)[:, :, None]  # (a, j, l)
    radii = (gaps / (2 * between[items])).masked_fill(~own[anchors].gather(1, items)[:, :, None], -torch.inf)
    best, places = radii.max(dim=1)
    return best, items.gather(1, places), anchors, same[anchors]


def _length(vectors: Tensor) -> Tensor:
    """Euclidean lengths (b,) of (b, …), which have a gradient at 0, too."""
    return (vectors.flatten(1).pow(2).sum(dim=1) + _LEAST).sqrt()


def _reach(left: Tensor, slopes: Tensor, weights: Tensor, norms: Tensor, stretched: float) -> Tensor:
    """The radius by slopes of pairs with ``‖e_j − e_l‖ = 1``, (u,): the root of the quadratic for the best of the μ.

    ``left`` is s, ``slopes`` are ‖g‖, ``weights`` and ``norms`` w and h of every block, (u, p); 0 where none is known.
    """
    squares, twice = weights.clamp_max(0.0).pow(2), 2.0 * weights.clamp_max(0.0).neg() * norms

    def of(mu: Tensor) -> Tensor:
        rest = left - (squares / mu[:, None] - twice).clamp_min(0.0).sum(dim=1)
        known = rest > 0
        rest = torch.where(known, rest, 1.0)
        return torch.where(known, 2.0 * rest / (slopes + (slopes**2 + 4.0 * mu * stretched**2 * rest).sqrt()), 0.0)

    with torch.no_grad():
        tried = torch.logspace(-2, 1, _BENDS, device=left.device)
        best = tried[torch.stack([of(mu.expand_as(left)) for mu in tried]).argmax(dim=0)]
    return of(best)
