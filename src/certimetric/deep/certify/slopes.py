"""Radii of networks that bend little: the slope of a distance at a query, and how far it can leave the tangent.

A Lipschitz constant is that of the worst place and direction. Of a network of one convolution, one pooling by smooth
norms and one linear layer more is known at a query::

    f(x) = W h + b,   h_k = √(c² + ‖y_k‖²),   y_k the k-th block of the convolution y of x.

An item l of another class is farther than an item j of the own one as long as ``s = wᵀh + const`` is positive, half the
difference of the squared distances, with ``w = Wᵀ(e_j − e_l)``. A change of x by δ changes the blocks by η_k. A norm
lies above its tangent, and above it by at most ``φ(ρ) = ρ² / 2h`` for ``ρ = ‖η_k‖ ≤ 2h`` and ``2 (ρ − h)`` beyond, so
that with g the gradient of s and any μ > 0 ::

    s(x + δ) − s(x)  ≥  gᵀδ − Σ_{w_k < 0} |w_k| φ(‖η_k‖)  ≥  −‖g‖ ‖δ‖ − μ ‖η‖² − Σ_{w_k < 0} [w_k² / μ − 2 |w_k| h_k]_+,

since φ is concave in ρ², and the last sum is what ``|w_k| φ(ρ) − μ ρ²`` is at most. With κ the norm of the convolution
``‖η‖ ≤ κ ‖δ‖``, which leaves a quadratic inequality for ‖δ‖.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from certimetric.base.arrays import Array
from certimetric.certify.kernels import rounding_of_distances
from certimetric.deep.certify.lipschitz_constant import LayerBound, Standardise, run_with_error, total_constant
from certimetric.deep.certify.operator_norms import rounding
from certimetric.deep.models.orthogonal import NormPool2d

_KINDS = (Standardise, nn.Conv2d, NormPool2d, nn.Flatten, nn.Linear)
_LEAST_OFFSET = 1e-6  # with less, norms bend too much to gain anything, and squares of it vanish beside rounding
_BENDS = np.geomspace(1e-2, 1e1, 16)  # the values of μ that are tried, for an item and another at distance 1
_OPPONENTS, _OWN, _NEAREST = 128, 2, 16  # looked at together; own items held against each, of the nearest ones
_AT_ONCE = 8  # opponents whose bends are followed block by block
_SHARE = 1e-9  # of κ, which stands for what the computed y is off by: (κε + e)² ≤ (1 + _SHARE)² (κε)² + e² / _SHARE


def bends_little(layers: Sequence[nn.Module]) -> bool:
    """Whether radii by slopes are known of these layers."""
    if tuple(map(type, layers)) != _KINDS:
        return False
    convolution, pooling = layers[1], layers[2]
    assert isinstance(convolution, nn.Conv2d) and isinstance(pooling, NormPool2d)
    return convolution.stride == (1, 1) and pooling.offset >= _LEAST_OFFSET


@dataclass(frozen=True)
class _Place:
    """What is known of a network at a query: the derivative of the embedding, (k, n); a bound on what rounds in every
    row of it, (k,), in length; h, (p,); a bound on ``|w_k| / 2h_k`` over ‖e_j − e_l‖; how far the computed y may be
    off."""

    derivative: Array
    rounds: float
    norms: Array
    bend: float
    error: float


class Slopes:
    """Radii by slopes.

    Parameters
    ----------
    layers : sequence of Module
        Of which :func:`bends_little` holds, in double precision.
    bounds : sequence of LayerBound
    """

    def __init__(self, layers: Sequence[nn.Module], bounds: Sequence[LayerBound]):
        self.before, self.bounds_before = layers[:2], bounds[:2]
        scale, convolution, pooling, _, last = layers
        assert isinstance(scale, Standardise) and isinstance(last, nn.Linear)
        assert isinstance(convolution, nn.Conv2d) and isinstance(pooling, NormPool2d)
        self.convolution, self.pooling, self.std = convolution, pooling, scale.std
        self.weight = np.asarray(last.weight.cpu())
        self.size = float(np.linalg.norm(self.weight)) * (1 + 1e-9)
        self.kappa, self.constant = total_constant(bounds[:2]) * (1 + _SHARE), total_constant(bounds)
        # A bound on the norm of the transposed convolution with absolute values, and the terms of its sums.
        kernel = np.asarray(self.convolution.weight.cpu())
        self.spread = float(np.linalg.norm(kernel, axis=(0, 1)).sum() / self.std.abs().min()) * (1 + 1e-9)
        self.terms = kernel[:, 0].size

    def radius(self, image: Tensor, point: Array, error: float, own: Array, others: Array) -> float:
        """Lower bound on the change of an image after which one of the others can be nearest.

        Parameters
        ----------
        image : tensor of shape (1, c, h, w)
        point : array of shape (k,)
            Its embedding, off by at most ``error``.
        own, others : arrays of shape (n, k) and (m, k)
            Embeddings of the items of the class that is nearest, and of those of other classes.
        """
        if not len(others):
            return math.inf
        k = len(point)
        near = np.linalg.norm(own - point, axis=1)
        nearest = np.argsort(near)[:_NEAREST]
        own, near = own[nearest], near[nearest]
        far = np.linalg.norm(others - point, axis=1)[:, None]
        total = far + near
        # Half the difference of the squares, less all that rounds: the search at a changed query, too. Its distances
        # are less than twice ``total``, for no radius is said to reach farther than ``limits``.
        relative, error = rounding_of_distances(k), error + rounding(k) * float(np.linalg.norm(point) + far.max())
        gaps = 0.5 * (far - near) * total - error * total - 16.0 * relative * total**2
        limits = total / (2.0 * self.constant)
        between = far**2 + near**2 - 2.0 * (others - point) @ (own - point).T + 4.0 * rounding(k) * total**2
        known = np.maximum(gaps, 0.0) / np.sqrt(np.maximum(between, np.finfo(float).tiny)) / self.constant
        known = np.minimum(known * (1 - 1e-12), limits)
        lowest = known.max(axis=1)
        order, place, best = np.argsort(lowest), None, math.inf
        for start in range(0, len(order), _OPPONENTS):
            rows = order[start : start + _OPPONENTS]
            if lowest[rows[0]] >= best:
                break
            place = self._at(image) if place is None else place
            pairs = rows[:, None], np.argsort(-known[rows], axis=1)[:, :_OWN]
            differences = own[pairs[1]] - others[rows][:, None]
            lengths = np.linalg.norm(differences, axis=2) * (1 + rounding(k))
            slopes = np.linalg.norm(differences @ place.derivative, axis=2)
            slopes = slopes * (1 + rounding(place.derivative.shape[1])) + place.rounds * lengths
            left = gaps[pairs] - 2.0 * place.error * self.size * lengths
            # Without a look at the blocks first: none bends more than the one that could bend most.
            reach = np.maximum(known[pairs], self._reach(place, left, slopes, place.bend * lengths))
            near_first = np.argsort(reach.max(axis=1))
            for first in range(0, len(rows), _AT_ONCE):
                some = near_first[first : first + _AT_ONCE]
                if reach[some[0]].max() >= best:
                    break
                closer = self._block_by_block(place, differences[some], lengths[some], left[some], slopes[some])
                closer = np.minimum(np.maximum(closer, reach[some]), limits[rows[some][:, None], pairs[1][some]])
                best = min(best, float(closer.max(axis=1).min()))
        return best

    @torch.no_grad()
    def _at(self, image: Tensor) -> _Place:
        convolved, error = run_with_error(self.before, self.bounds_before, image)
        norms = self.pooling(convolved)[0]
        channels, height, _ = norms.shape
        maps = torch.from_numpy(self.weight).to(image).view(-1, channels, height, norms.shape[2])
        turned = nn.functional.conv_transpose2d(
            self._spread(maps, convolved) * (convolved[0] / self._spread(norms, convolved)),
            self.convolution.weight,
            padding=self.convolution.padding,  # type: ignore[arg-type]
        )
        derivative = (turned / self.std).flatten(1).cpu().numpy()
        flat = norms.flatten().cpu().numpy()
        bend = float((np.linalg.norm(self.weight, axis=0) / (2.0 * flat)).max()) * (1 + 1e-9)
        # Of the directions, the convolution, and products with differences of embeddings.
        terms = self.pooling.size**2 + self.terms + len(derivative)
        return _Place(derivative, rounding(terms + 32) * 2.0 * self.spread * self.size, flat, bend, float(error))

    def _spread(self, blocks: Tensor, picture: Tensor) -> Tensor:
        """The value of every block (…, p, q) at each of its pixels in a picture (…, h, w)."""
        size, (height, width) = self.pooling.size, picture.shape[-2:]
        return blocks.repeat_interleave(size, -2).repeat_interleave(size, -1)[..., :height, :width]

    def _reach(self, place: _Place, left: Array, slopes: Array, mu: Array) -> Array:
        """Largest ε with ``left ≥ slope · ε + μ (κ ε + e)²``, e being what the computed y may be off by."""
        left = np.maximum(left - mu * place.error**2 / _SHARE, 0.0)
        root = np.sqrt(slopes**2 + 4.0 * mu * self.kappa**2 * left)
        return 2.0 * left / np.maximum(slopes + root, np.finfo(float).tiny) * (1 - 1e-12)

    def _block_by_block(self, place: _Place, differences: Array, lengths: Array, left: Array, slopes: Array) -> Array:
        """Sizes of changes within which gaps stay positive, for pairs with these ``e_j − e_l``, (…, k)."""
        weights = differences @ self.weight
        falling = np.maximum(-weights, 0.0)
        squares, twice = falling**2, 2.0 * falling * place.norms
        n, reach = len(place.norms), np.zeros(left.shape)
        # The weights as computed are off by a little, which a change multiplies by how far it moves the blocks.
        slopes = slopes + rounding(self.weight.shape[0] + 4) * self.size * self.kappa * lengths
        for scale in _BENDS:
            mu = np.maximum(scale * lengths, np.finfo(float).tiny)
            bend = np.maximum(squares / mu[..., None] - twice, 0.0).sum(axis=-1)
            rest = left - bend - rounding(n + self.pooling.size**2 + 16) * (self.size * lengths) ** 2 / mu
            reach = np.maximum(reach, self._reach(place, rest, slopes, mu))
        return reach
