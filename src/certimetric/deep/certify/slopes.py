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
_BENDS = np.geomspace(1e-3, 1e2, 26)  # the values of μ that are tried
_OPPONENTS, _OWN, _NEAREST = 12, 3, 16  # looked at together; own items held against each, of the nearest ones


def bends_little(layers: Sequence[nn.Module]) -> bool:
    """Whether radii by slopes are known of these layers."""
    if tuple(map(type, layers)) != _KINDS:
        return False
    convolution, pooling = layers[1], layers[2]
    assert isinstance(convolution, nn.Conv2d) and isinstance(pooling, NormPool2d)
    return convolution.stride == (1, 1) and pooling.offset >= _LEAST_OFFSET


@dataclass(frozen=True)
class _Place:
    """What is known of a network at a query: ``y_k / h_k`` for every entry of y, (c, h, w); h, (p,); how far the
    computed y may be off."""

    directions: Tensor
    norms: Array
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
        scale, self.convolution, self.pooling, _, last = layers
        assert isinstance(self.convolution, nn.Conv2d) and isinstance(self.pooling, NormPool2d)
        self.std: Tensor = scale.std  # type: ignore[assignment]
        self.weight = np.asarray(last.weight.cpu())  # type: ignore[operator, union-attr]
        self.kappa, self.constant = total_constant(bounds[:2]), total_constant(bounds)
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
            columns = np.argsort(-known[rows], axis=1)[:, :_OWN]
            pairs = rows[:, None], columns
            differences = own[columns] - others[rows][:, None]
            found = self._reach(place, differences.reshape(-1, k), gaps[pairs].ravel()).reshape(columns.shape)
            found = np.minimum(np.maximum(found, known[pairs]), limits[pairs])
            best = min(best, float(found.max(axis=1).min()))
        return best

    @torch.no_grad()
    def _at(self, image: Tensor) -> _Place:
        convolved, error = run_with_error(self.before, self.bounds_before, image)
        norms = self.pooling(convolved)[0]
        directions = convolved[0] / self._spread(norms, convolved)
        return _Place(directions, norms.flatten().cpu().numpy(), float(error))

    def _spread(self, blocks: Tensor, picture: Tensor) -> Tensor:
        """The value of every block (…, p, q) at each of its pixels in a picture (…, h, w)."""
        size, (height, width) = self.pooling.size, picture.shape[-2:]
        return blocks.repeat_interleave(size, -2).repeat_interleave(size, -1)[..., :height, :width]

    @torch.no_grad()
    def _reach(self, place: _Place, differences: Array, gaps: Array) -> Array:
        """Sizes of changes within which the gaps (t,) of pairs stay positive that differ by these, (t, k)."""
        weights = differences @ self.weight
        lengths = np.linalg.norm(differences, axis=1)
        off = rounding(self.weight.shape[0] + 4) * float(np.linalg.norm(self.weight)) * lengths
        long = np.linalg.norm(weights, axis=1) * (1 + 1e-9) + off
        channels, height, _ = place.directions.shape
        maps = torch.from_numpy(weights).to(place.directions)
        maps = maps.view(len(maps), channels, -(-height // self.pooling.size), -1)
        kernel, padding = self.convolution.weight, self.convolution.padding
        spread = self._spread(maps, place.directions) * place.directions
        turned = nn.functional.conv_transpose2d(spread, kernel, padding=padding)  # type: ignore[arg-type]
        slopes = (turned / self.std).flatten(1).norm(dim=1).cpu().numpy()
        rounds = rounding(self.pooling.size**2 + 8) + rounding(self.terms + 8)  # of directions, and of the convolution
        slopes = slopes * (1 + rounding(turned[0].numel() + 8)) + rounds * self.spread * long + off * self.kappa
        falling = np.maximum(-weights, 0.0)
        left = gaps - 2.0 * place.error * long
        reach = np.zeros(len(gaps))
        for mu in _BENDS:
            bend = np.maximum(falling**2 / mu - 2.0 * falling * place.norms, 0.0).sum(axis=1)
            rest = np.maximum(left - bend - rounding(len(place.norms) + 16) * long**2 / mu, 0.0)
            root = np.sqrt(slopes**2 + 4.0 * mu * self.kappa**2 * rest)
            reach = np.maximum(reach, 2.0 * rest / np.maximum(slopes + root, np.finfo(float).tiny))
        return reach * (1 - 1e-12)
