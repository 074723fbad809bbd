"""Radii of networks that bend little: a proof that starts where an attack ends.

A Lipschitz constant is that of the worst place and direction. Of a network of one convolution, one pooling by smooth
norms and one linear layer more is known::

    f(x) = W h + b,   h_k = √(c² + ‖y_k‖²),   y_k the k-th block of the convolution y of x.

An item l of another class is farther than one of the items j of the own class as long as, for some weights α ≥ 0,

    s = Σ α_j (‖f − e_l‖² − ‖f − e_j‖²) / 2 = wᵀh + const,   w = Wᵀ Σ α_j (e_j − e_l),

is positive. Let a change move block k by η_k, from wherever the network is looked at. A norm lies above its tangent,
and below every parabola that touches it: for any m_k > 0 ::

    h_k + y_kᵀη_k / h_k  ≤  √(h_k² + 2 y_kᵀη_k + ‖η_k‖²)  ≤  (h_k² + 2 y_kᵀη_k + ‖η_k‖²) / 2m_k + m_k / 2.

The left side serves where w_k ≥ 0, with m_k = h_k, the right one where w_k < 0. With κ the norm of the convolution and
g the gradient of wᵀh, each w_k in it times h_k / m_k, this makes of any place x + δ and any other x + δ + ζ ::

    s(x + δ + ζ)  ≥  s' + gᵀζ − a ‖ζ‖²,   s' = s(x + δ) − Σ |w_k| (m_k − h_k)² / 2m_k,   a = κ² max |w_k| / 2m_k,

sum and maximum over w_k < 0. For λ > a, adding λ (‖δ + ζ‖² − R²) ≤ 0 and taking the least of all ζ, s is positive for
every change no longer than R if ::

    R²  <  ‖δ‖² + (s' − ‖g + 2λδ‖² / 4(λ − a)) / λ.

Where the attack that walks down the gradient to the nearest zero of s has arrived, s is 0 and g is −2λδ for some λ. If
that is larger than a, with m = h, then R is ‖δ‖: no attack on this pair is better, and nothing is lost.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import type_before_parametrizations

from certimetric.base.arrays import Array
from certimetric.certify.kernels import rounding_of_distances
from certimetric.deep.certify.lipschitz_constant import LayerBound, Standardise, run_with_error, total_constant
from certimetric.deep.certify.operator_norms import rounding
from certimetric.deep.models.orthogonal import NormPool2d
from certimetric.deep.ranking.distances import slices

_KINDS = (Standardise, nn.Conv2d, NormPool2d, nn.Flatten, nn.Linear)
_LEAST_OFFSET = 1e-6  # with less, norms bend too much to gain anything, and squares of it vanish beside rounding
_NEAREST, _OPPONENTS = 16, 128  # own items held against each opponent, and opponents of which gradients are looked at
_BYTES = 2**23  # of the outputs of the convolution that are held together
_SWEEPS = 10  # over the own items, for their weights
_STEPS, _CLOSE = 6, 1e-3  # of the attack; it ends where the proof reaches all but this share of its length
_CAP = 0.8  # of λ: what a is held below, by m_k larger than h_k where it has to be
_SHARE = 1e-9  # of κ, which stands for what the computed y is off by: (κε + e)² ≤ (1 + _SHARE)² (κε)² + e² / _SHARE
_TINY = float(np.finfo(float).tiny)


def bends_little(layers: Sequence[nn.Module]) -> bool:
    """Whether radii by slopes are known of these layers, plain ones or as a network trains them."""
    if tuple(map(type_before_parametrizations, layers)) != _KINDS:
        return False
    convolution, pooling = layers[1], layers[2]
    assert isinstance(convolution, nn.Conv2d) and isinstance(pooling, NormPool2d)
    return convolution.stride == (1, 1) and pooling.offset >= _LEAST_OFFSET


@dataclass(frozen=True)
class _Place:
    """What is known of a network at a query: the derivative of the embedding, (k, n); its product with the transposed
    is ``root rootᵀ``; a bound on ``|w_k| / 2h_k`` over ‖e_j − e_l‖; how far the computed y may be off; how many
    pictures are looked at together."""

    derivative: Array
    root: Array
    bend: float
    error: float
    at_once: int


@dataclass(frozen=True)
class _Opponents:
    """Items l and what is held against each: weights α (p, j) of own items e_j (j, k); bounds on
    ``Σ α_j ‖e_j − e_l‖`` and on the sum of a distance to l and one to an own item, (p,); w, (p, n)."""

    points: Tensor
    own: Tensor
    alpha: Tensor
    lengths: Tensor
    total: Tensor
    w: Tensor


class Slopes:
    """Radii by slopes.

    Parameters
    ----------
    layers : sequence of Module
        Of which :func:`bends_little` holds, in double precision.
    bounds : sequence of LayerBound
    """

    def __init__(self, layers: Sequence[nn.Module], bounds: Sequence[LayerBound]):
        scale, convolution, pooling, _, last = layers
        assert isinstance(scale, Standardise) and isinstance(last, nn.Linear)
        assert isinstance(convolution, nn.Conv2d) and isinstance(pooling, NormPool2d)
        self.layers, self.bounds = layers, bounds
        self.convolution, self.pooling, self.std, self.weight = convolution, pooling, scale.std, last.weight
        self.kappa, self.constant = total_constant(bounds[:2]) * (1 + _SHARE), total_constant(bounds)
        # For one unit of e_j − e_l: bounds on ‖w‖, and on what rounds in a gradient, w among it: in sums over a block,
        # over the transposed kernel, with absolute values, and over embeddings.
        self.size = float(last.weight.norm()) * (1 + 1e-9)
        kernel = np.asarray(convolution.weight.cpu())
        spread = float(np.linalg.norm(kernel, axis=(0, 1)).sum() / scale.std.abs().min()) * (1 + 1e-9)
        terms = pooling.size**2 + kernel[:, 0].size + len(last.weight) + 2 * _NEAREST
        self.rounds = rounding(terms + 32) * 4.0 * spread * self.size

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
        # are at most three times ``total``, for no radius is said to reach farther than ``limits``.
        error = error + rounding(k) * float(np.linalg.norm(point) + far.max())
        gaps = 0.5 * (far - near) * total - error * total - 16.0 * rounding_of_distances(k) * total**2
        limits = total.min(axis=1) / self.constant * (1 - 1e-12)
        between = far**2 + near**2 - 2.0 * (others - point) @ (own - point).T + 4.0 * rounding(k) * total**2
        known = (np.maximum(gaps, 0.0) / np.sqrt(np.maximum(between, _TINY))).max(axis=1) / self.constant
        known = np.minimum(known * (1 - 1e-12), limits)
        if not known.all():
            return 0.0
        # How near each would be if nothing bent, which is no bound: the nearest is looked at first.
        place = self._at(image)
        turned_own, turned = (own - point) @ place.root, (others - point) @ place.root
        squares = (turned**2).sum(axis=1)[:, None] + (turned_own**2).sum(axis=1) - 2.0 * turned @ turned_own.T
        straight = gaps / np.sqrt(np.maximum(squares, _TINY))
        against, order, best = straight.argmax(axis=1), np.argsort(straight.max(axis=1)), math.inf
        for part in slices(len(order), _OPPONENTS):
            rows = order[part]
            rows = rows[known[rows] < best]
            reach = self._without_a_step(place, own[against[rows]] - others[rows], gaps[rows, against[rows]])
            known[rows] = np.maximum(known[rows], np.minimum(reach, limits[rows]))
            for some in slices(len(rows), place.at_once):
                left = rows[some][known[rows[some]] < best]
                if len(left):
                    alpha = _weights(turned_own, turned[left], gaps[left])
                    found = self._walk(
                        image, place, own, others[left], alpha, gaps[left], total[left], known[left], limits[left], best
                    )
                    best = min(best, float(found.min()))
        return best

    def _without_a_step(self, place: _Place, differences: Array, gaps: Array) -> Array:
        """Bounds for pairs with these ``e_j − e_l`` from the query alone: largest R with s' = ‖g‖ R + a R²."""
        lengths = np.linalg.norm(differences, axis=1) * (1 + rounding(differences.shape[1]))
        slopes = np.linalg.norm(differences @ place.derivative, axis=1) * (1 + rounding(place.derivative.shape[1]))
        slopes += self.rounds * lengths
        a = self.kappa**2 * place.bend * lengths
        s = np.maximum(gaps - (2.0 * self.size + place.bend * place.error / _SHARE) * place.error * lengths, 0.0)
        return 2.0 * s / np.maximum(slopes + np.sqrt(slopes**2 + 4.0 * a * s), _TINY) * (1 - 1e-12)

    @torch.no_grad()
    def _walk(
        self,
        image: Tensor,
        place: _Place,
        own: Array,
        others: Array,
        alpha: Array,
        gaps: Array,
        total: Array,
        known: Array,
        limits: Array,
        best: float,
    ) -> Array:
        """Bounds for opponents, from where Newton's steps to the nearest zero of s lead, until none is below what the
        nearest of them, or ``best``, can reach."""
        differences = own - others[:, None]
        mixed = (alpha[..., None] * differences).sum(axis=1)
        lengths = (alpha * np.linalg.norm(differences, axis=2)).sum(axis=1) * (1 + rounding(2 * own.shape[1]))
        known_here = (others, own, alpha, lengths, total.max(axis=1), mixed @ np.asarray(self.weight.cpu()))
        at_query = (limits, known, mixed @ place.derivative, (alpha * gaps).sum(axis=1))
        opponents = _Opponents(*(torch.from_numpy(part).to(image) for part in known_here))
        far, found, g, s = (torch.from_numpy(part).to(image) for part in at_query)
        delta = torch.zeros_like(g)
        for step in range(_STEPS):
            slope = g.norm(dim=1).clamp_min(_TINY)
            length = torch.minimum(((s - (g * delta).sum(dim=1)) / slope).clamp_min(_TINY), far)
            if step > 1 and (found >= min(best, (1 - _CLOSE) * float(torch.maximum(length, found).min()))).all():
                break
            delta, s, g, a = self._seen_from(
                image, -g * (length / slope)[:, None], opponents, _CAP * slope / length / 2
            )
            found = torch.maximum(found, torch.minimum(self._proven(delta, s, g, a, opponents.lengths), far))
        return found.cpu().numpy()

    def _seen_from(
        self, image: Tensor, delta: Tensor, opponents: _Opponents, cap: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What a change δ is as computed, and s', less all that rounds, g, and a, which is at most ``cap``, there."""
        lengths, falling = opponents.lengths, (-opponents.w).clamp_min(0.0)
        moved = image + delta.view(-1, *image.shape[1:])
        y, off = run_with_error(self.layers[:2], self.bounds[:2], moved)
        f, error = run_with_error(self.layers[2:], self.bounds[2:], y)
        norms = self.pooling(y)
        h = norms.flatten(1)
        far, near = (f - opponents.points).norm(dim=1)[:, None], (f[:, None] - opponents.own).norm(dim=2)
        room = 16.0 * rounding_of_distances(f.shape[1]) * (opponents.total[:, None] + far + near) ** 2
        s = (opponents.alpha * (0.5 * (far - near) * (far + near) - room)).sum(dim=1) - error * lengths
        m = torch.maximum(h, falling * (self.kappa**2 / 2.0 / cap)[:, None])
        lost = (m - h) ** 2 / (2.0 * m) + rounding(h.shape[1] + self.pooling.size**2 + 16) * m
        bend = (falling / (2.0 * m)).amax(dim=1)
        s = s - (falling * lost).sum(dim=1) - (self.size * lengths + bend * off / _SHARE) * off
        g = self._turned((opponents.w / m).view_as(norms), y)
        return (moved - image).flatten(1), s, g, self.kappa**2 * bend * (1 + 1e-12)

    def _proven(self, delta: Tensor, s: Tensor, g: Tensor, a: Tensor, lengths: Tensor) -> Tensor:
        """Sizes R of changes that leave s positive, for the λ that makes ``‖g + 2λδ‖`` least, or one above a."""
        square = (delta**2).sum(dim=1)
        lam = torch.maximum(-(g * delta).sum(dim=1) / (2.0 * square).clamp_min(_TINY), 1.01 * a).clamp_min(_TINY)
        rest = (g + 2.0 * lam[:, None] * delta).norm(dim=1) * (1 + rounding(g.shape[1]))
        rest = rest + self.rounds * lengths + rounding(8) * (g.norm(dim=1) + 2.0 * lam * square.sqrt())
        squared = square * (1 - rounding(g.shape[1] + 8)) + (s - rest**2 / (4.0 * (lam - a))) / lam
        return squared.clamp_min(0.0).sqrt().nan_to_num(0.0, posinf=0.0) * (1 - 1e-12)

    @torch.no_grad()
    def _at(self, image: Tensor) -> _Place:
        convolved, error = run_with_error(self.layers[:2], self.bounds[:2], image)
        norms, at_once = self.pooling(convolved)[0], max(1, _BYTES // (8 * convolved.numel()))
        gradients = [
            self._turned(self.weight[rows].view(-1, *norms.shape) / norms, convolved)
            for rows in slices(len(self.weight), at_once)
        ]
        derivative = torch.cat(gradients).cpu().numpy()
        bend = float((self.weight.norm(dim=0) / (2.0 * norms.flatten())).max()) * (1 + 1e-9)
        return _Place(derivative, np.asarray(np.linalg.qr(derivative.T, mode="r")).T, bend, float(error), at_once)

    def _turned(self, blocks: Tensor, y: Tensor) -> Tensor:
        """The gradient of Σ v_kᵀy_k by the image, (b, n), for v_k the blocks of y times numbers (b, c, p, q)."""
        padding: tuple[int, int] = self.convolution.padding  # type: ignore[assignment]
        spread = self.pooling.spread(blocks, y) * y
        turned = nn.functional.conv_transpose2d(spread, self.convolution.weight, padding=padding)
        return (turned / self.std).flatten(1)


def _weights(own: Array, others: Array, gaps: Array) -> Array:
    """Weights α (p, j) of own items against each other one: those of the nearest change of a network without bends that
    makes each ``s_j`` 0 or less, by ascent over the coordinates of the dual of this quadratic program."""
    differences = own - others[:, None]
    products = differences @ differences.transpose(0, 2, 1)
    squares = np.maximum(np.einsum("pjj->pj", products), _TINY)
    first = np.arange(len(gaps)), (gaps / np.sqrt(squares)).argmax(axis=1)
    alpha = np.zeros(gaps.shape)
    alpha[first] = (gaps / squares)[first]
    for _ in range(_SWEEPS):
        for j in range(gaps.shape[1]):
            missing = gaps[:, j] - (products[:, j] * alpha).sum(axis=1)
            alpha[:, j] = np.maximum(alpha[:, j] + missing / squares[:, j], 0.0)
    return alpha / alpha.sum(axis=1, keepdims=True)
