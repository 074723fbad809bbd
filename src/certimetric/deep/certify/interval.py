"""Certified retrieval by intervals: the box of possible pixels is followed through the layers (l∞)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from certimetric.deep.certify.base import Certified, Certifier
from certimetric.deep.certify.lipschitz_constant import CONTRACTIONS, Standardise, plain_layers
from certimetric.deep.certify.operator_norms import rounding
from certimetric.deep.models.calling import device_of
from certimetric.deep.models.comparing import OnSphere, check_lengths
from certimetric.deep.models.images import ImageSet
from certimetric.deep.models.orthogonal import NormPool2d
from certimetric.deep.ranking.distances import by_differences, slices
from certimetric.deep.retrieval.same_pictures import exclusion_keys

_NEAREST = 4  # own items that an opponent is held against: more hardly certify more
_NUMBERS = 2**22  # that are held together

Box = tuple[Tensor, Tensor]


class IntervalCertifier(Certifier):
    """l∞: bounds on every feature, followed layer by layer; the last layer as the comparison that decides.

    An item l of another class stays farther than an own item j while ::

        ‖f − e_l‖² − ‖f − e_j‖² = 2 (e_j − e_l)ᵀ f + ‖e_l‖² − ‖e_j‖² > 0,

    which is linear in f: its lower bound over the box is taken with the last linear layer merged into it. A query is
    certified at ε if every l has such a j; the largest such ε is found by halving. Changed pixels stay within 0 to 1.

    Parameters
    ----------
    resolution : float, default=1/1024
        To which radii are found, in pixels; they are rounded down.

    References
    ----------
    Gowal et al., *On the effectiveness of interval bound propagation*, arXiv 1810.12715 [gowal2018effectiveness];
    linear specifications in its section 3.

    Examples
    --------
    >>> from certimetric.deep import ImageSet, certify_retrieval
    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)
    >>> data = ImageSet(X.reshape(-1, 1, 8, 8)[:100] / 16, y[:100])
    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 8))
    >>> certifier = IntervalCertifier()
    >>> found = certify_retrieval(model, data, method=certifier, with_pixels=False)
    >>> found.norm, found.radii.shape
    ('linf', (100,))
    """

    name, norm = "interval", "linf"

    def __init__(self, resolution: float = 1 / 1024):
        if not 0 < resolution < 1:
            raise ValueError(f"resolution must lie between 0 and 1, got {resolution!r}")
        self.resolution = float(resolution)

    @torch.no_grad()
    def certify(self, model: nn.Module, queries: ImageSet, gallery: ImageSet, batch_size: int = 256) -> Certified:
        layers, device = plain_layers(model), device_of(model)
        network = nn.Sequential(*layers)
        items = torch.cat([network(part.tensor().double().to(device)) for part in gallery.batches(batch_size)])
        if not queries.kind.pictures:
            raise ValueError("interval bounds are for pictures, whose values are from 0 to 1: take 'smoothing'")
        if layers and isinstance(layers[-1], OnSphere):
            layers = layers[:-1]  # of items of equal length the nearest is the same before scaling
            check_lengths(items)
        keys = exclusion_keys(queries, gallery)[1].to(device)
        comparison = _Comparison(layers, items, gallery.labels.to(device), keys)
        found = []
        for part in queries.batches(batch_size):
            x = part.tensor().double().to(device)
            opponents = comparison.against(x, part.keys.to(device))
            found.append((opponents.predicted, self._largest(comparison, x, opponents)))
        predictions, radii = (np.asarray(torch.cat(column).cpu()) for column in zip(*found))
        return Certified(predictions, radii, np.zeros(len(queries), dtype=bool))

    def _largest(self, comparison: _Comparison, x: Tensor, opponents: _Opponents) -> Tensor:
        low, high = torch.zeros(len(x), dtype=torch.double, device=x.device), torch.ones_like(x[:, 0, 0, 0])
        while float((high - low).max()) > self.resolution:
            middle = (low + high) / 2
            holds = comparison.certified(x, middle, opponents)
            low, high = torch.where(holds, middle, low), torch.where(holds, high, middle)
        return low


class _Opponents(NamedTuple):
    """What a certificate of each of some queries compares: its class, the items of others, its own nearest ones."""

    predicted: Tensor  # (b,)
    others: Tensor  # (b, n), which items are of another class
    near: Tensor  # (b, j), rows
    present: Tensor  # (b, j), fewer where the class has fewer


class _Comparison:
    """The gallery, and the layers split into those that boxes go through and the linear one that decides."""

    def __init__(self, layers: Sequence[nn.Module], items: Tensor, labels: Tensor, keys: Tensor):
        linear = layers[-1] if layers and type(layers[-1]) is nn.Linear else None
        self.layers = layers if linear is None else layers[:-1]
        self.decide = nn.Identity() if linear is None else linear
        self.items, self.labels, self.keys = items, labels, keys
        self.specification = items if linear is None else items @ linear.weight  # rows Wᵀe
        self.gamma = rounding(items.shape[1] + self.specification.shape[1] + 16)
        self.weight = 1.0 if linear is None else float(linear.weight.norm())
        self.bias = 0.0 if linear is None or linear.bias is None else float(linear.bias.norm())

    def against(self, x: Tensor, own: Tensor) -> _Opponents:
        """What decides about queries of these keys."""
        distances = by_differences(self.decide(nn.Sequential(*self.layers)(x)), self.items)
        alone = self.keys == own[:, None]
        predicted = self.labels[distances.masked_fill(alone, torch.inf).argmin(dim=1)]
        same = self.labels == predicted[:, None]
        k = min(_NEAREST, len(self.items))
        near = distances.masked_fill(~same | alone, torch.inf).topk(k, dim=1, largest=False)
        return _Opponents(predicted, ~same & ~alone, near.indices, near.values.isfinite())

    def certified(self, x: Tensor, eps: Tensor, opponents: _Opponents) -> Tensor:
        """Whether no image within ε of each, (b,), is nearer to an item of another class."""
        reach = eps[:, None, None, None] * (1 + 1e-12)
        lower, upper = follow(self.layers, ((x - reach).clamp_min(0.0), (x + reach).clamp_max(1.0)))
        known = (lower, upper, *opponents[1:])
        parts = slices(len(x), _NUMBERS // max(self.specification.numel(), 1))
        return torch.cat([self._hold(*(each[rows] for each in known)) for rows in parts])

    def _hold(self, lower: Tensor, upper: Tensor, others: Tensor, near: Tensor, present: Tensor) -> Tensor:
        centre, radius = _centred(lower, upper)
        point = self.decide(centre)
        squares = by_differences(point, self.items).pow(2)
        margin = squares[:, :, None] - squares.gather(1, near)[:, None, :]  # (b, l, j)
        scaled = radius[:, None, :] * self.specification
        own = radius[:, None, :] * self.specification[near]
        spread = 2 * torch.cdist(scaled, own, p=1.0)
        # Every product here has terms within these lengths.
        length, items = point.norm(dim=1)[:, None, None], self.items.norm(dim=1)
        both = items[:, None] + items[near][:, None, :]
        inner = self.weight * (centre.norm(dim=1) + radius.norm(dim=1))[:, None, None] + self.bias
        slack = 8 * self.gamma * ((2 * length + both) ** 2 + both * inner)
        sure = (margin - spread - slack > 0) & present[:, None, :]
        return (sure.any(dim=2) | ~others).all(dim=1)


def follow(layers: Sequence[nn.Module], box: Box) -> Box:
    """Lower and upper bounds on what layers make of everything between two tensors (b, …), rounded outward."""
    for layer in layers:
        lower, upper = box
        kind, known = type(layer), cast(Any, layer)  # the type itself: a subclass may do anything
        if kind in _EXACT or (kind is nn.LeakyReLU and known.negative_slope >= 0):  # a slope rounds, monotonically
            box = layer(lower), layer(upper)
        elif kind is nn.Linear or (kind is nn.Conv2d and known.padding_mode == "zeros"):
            box = _weighted(layer, lower, upper)
        elif kind in (nn.BatchNorm1d, nn.BatchNorm2d) and known.running_mean is not None:
            box = _normalised(layer, lower, upper)
        elif kind is NormPool2d:
            least = torch.where((lower <= 0) & (upper >= 0), 0.0, torch.minimum(lower.abs(), upper.abs()))
            most = torch.maximum(lower.abs(), upper.abs())
            gamma = rounding(known.size**2 + 4)
            box = layer(least) * (1 - gamma), layer(most) * (1 + gamma)
        elif kind in (nn.AvgPool2d, nn.AdaptiveAvgPool2d):
            gamma = rounding(lower.shape[-1] * lower.shape[-2])
            terms = gamma * layer(torch.maximum(lower.abs(), upper.abs()))
            box = layer(lower) - terms, layer(upper) + terms
        elif kind is Standardise:
            one, other = layer(lower), layer(upper)
            terms = 1e-15 * (one.abs() + other.abs() + 2 * (known.mean / known.std).abs())
            box = torch.minimum(one, other) - terms, torch.maximum(one, other) + terms
        else:
            raise ValueError(f"there are no interval bounds for the layer {type(layer).__name__}")
    return box


_EXACT = (*CONTRACTIONS, nn.MaxPool2d)  # monotone, and free of rounding


def _centred(lower: Tensor, upper: Tensor) -> Box:
    """Centre and radius of a box that holds the given one."""
    centre = (lower + upper) / 2
    return centre, torch.maximum(upper - centre, centre - lower) * (1 + 1e-15)


def _weighted(layer: Any, lower: Tensor, upper: Tensor) -> Box:
    """A linear layer on centre and radius; its rounding is bounded by the same layer with absolute weights."""
    centre, radius = _centred(lower, upper)
    gamma = rounding(layer.weight[0].numel() + 2)
    out = layer(centre)
    grown = radius + gamma * (centre.abs() + radius)
    weight, bias = layer.weight.abs(), None if layer.bias is None else gamma * layer.bias.abs()
    if isinstance(layer, nn.Linear):
        reach = nn.functional.linear(grown, weight, bias)
    else:
        reach = nn.functional.conv2d(grown, weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups)
    reach = reach * (1 + gamma)
    # The last two sums round once each.
    return (out - reach) - 1e-15 * (out.abs() + reach), (out + reach) + 1e-15 * (out.abs() + reach)


def _normalised(layer: Any, lower: Tensor, upper: Tensor) -> Box:
    one, other = layer(lower), layer(upper)  # falls where a weight is negative
    middle = float(layer.running_mean.abs().max())
    scale = float((1.0 / (layer.running_var + layer.eps).sqrt()).max())
    bias = 0.0
    if layer.affine:
        scale, bias = scale * float(layer.weight.abs().max()), float(layer.bias.abs().max())
    terms = 1e-14 * (scale * (torch.maximum(lower.abs(), upper.abs()) + middle) + bias)
    return torch.minimum(one, other) - terms, torch.maximum(one, other) + terms
