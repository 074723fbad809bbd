"""Attacks on a place of the picture: a square that is covered, or a patch that is made for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from certimetric.base.arguments import require
from certimetric.deep.attacks.balls import UNIT, aligned, check_region
from certimetric.deep.attacks.base import Attack, Best, at_least_one, images_only

_SHADES = (0.0, 0.5, 1.0)  # between the bounds


@dataclass(frozen=True)
class Window:
    """One square anywhere in the picture, of which ``eps`` is the share of its area; in it everything may change.

    Parameters
    ----------
    eps : float
        From 0 to 1; the side is whole pixels, one at least, and no longer than the shorter side of the picture.
    bounds : (float, float), default=(0, 1)
    """

    eps: float
    bounds: tuple[float, float] = UNIT
    name = "window"

    def __post_init__(self) -> None:
        check_region(self, "Window")
        require(self.eps <= 1, "eps", "must be a share of the picture, from 0 to 1", self.eps, self)

    def side(self, shape: Sequence[int]) -> int:
        """Of the square, in pixels, in pictures of shape (…, h, w)."""
        h, w = shape[-2:]
        return max(1, min(h, w, int((self.eps * h * w) ** 0.5 + 1e-9)))

    def size(self, perturbed: Tensor, x: Tensor) -> Tensor:
        """The share of the picture that the smallest square around all changed pixels has, (b,)."""
        changed = (perturbed != x).any(dim=1)
        sides = []
        for axis in (1, 2):
            lines = changed.any(dim=axis)
            number = torch.arange(lines.shape[1], device=x.device)
            last = torch.where(lines, number, -1).amax(dim=1)
            first = torch.where(lines, number, lines.shape[1]).amin(dim=1)
            sides.append((last - first + 1).clamp_min(0))
        return torch.maximum(*sides).double() ** 2 / (x.shape[2] * x.shape[3])

    def corners(self, shape: Sequence[int], stride: float) -> Iterator[tuple[int, int]]:
        """Upper left corners on a grid that reaches all four borders, ``stride`` sides apart or less."""
        side = self.side(shape)
        grids = []
        for extent in shape[-2:]:
            room = extent - side
            n = 1 + -int(-room // max(1.0, stride * side)) if room else 1
            grids.append([round(room * i / max(n - 1, 1)) for i in range(n)])
        return ((top, left) for top in grids[0] for left in grids[1])


class OcclusionAttack(Attack):
    """Cover a square with black, grey or white, at the place where it does most harm: all on a grid are tried.

    It needs nothing but the embeddings: anyone who holds a hand over a part of the picture can do it.

    Parameters
    ----------
    area : float, default=0.1
        Share of the picture that is covered.
    stride : float, default=0.5
        Distance of places, in sides of the square.
    bounds : (float, float), default=(0, 1)
    seed : int, default=0
        Nothing is drawn.

    Examples
    --------
    >>> from certimetric.deep import TargetEmbedding
    >>> grey, white = torch.full((1, 1, 6, 6), 0.5), TargetEmbedding(torch.ones(1, 36))
    >>> int((OcclusionAttack(0.25)(torch.nn.Flatten(), grey, white) == 1).sum())
    9
    """

    uses_gradients = False

    def __init__(self, area: float = 0.1, stride: float = 0.5, bounds: tuple[float, float] = UNIT, *, seed: int = 0):
        super().__init__(Window(area, bounds), seed=seed)
        require(0 < stride <= 1, "stride", "must be a share of the side, from 0 to 1", stride, self)
        self.stride = stride

    @torch.no_grad()
    def _attack(self, x: Tensor, best: Best, generator: torch.Generator) -> None:
        images_only(self, x)
        (low, high), side = self.ball.bounds, self.ball.side(x.shape)
        for top, left in self.ball.corners(x.shape, self.stride):
            for shade in _SHADES:
                covered = x.clone()
                covered[:, :, top : top + side, left : left + side] = low + shade * (high - low)
                best.end(covered)


class PatchAttack(Attack):
    """A square patch at the place where covering does most harm, and what it shows made by gradient ascent.

    With a ``wobble`` or ``light`` the patch is made for the mean over draws of both, so that it works as well where it
    sticks a little elsewhere, or is lit otherwise; it is judged as it was meant, at its place.

    Parameters
    ----------
    area : float, default=0.05
        Share of the picture.
    steps : int, default=40
        Of signs of the gradient.
    places : int, default=2
        So many of the places on a grid, those where a covered square does most harm, are tried.
    wobble : int, default=0
        Pixels by which the place varies, in both directions.
    light : float, default=0.0
        Share by which what the patch shows is darker or brighter.
    draws : int, default=4
        Of place and light, in every step, where they vary.
    bounds : (float, float), default=(0, 1)
    seed : int, default=0

    References
    ----------
    Brown et al., *Adversarial patch*, arXiv 1712.09665 [brown2017adversarial]; expectation over transformation as in
    arXiv 1707.07397 [athalye2018synthesizing].

    Examples
    --------
    >>> from certimetric.deep import TargetEmbedding
    >>> grey, striped = torch.full((1, 1, 6, 6), 0.5), (torch.arange(36) % 2.0).expand(1, 36)
    >>> shown = PatchAttack(0.25)(torch.nn.Flatten(), grey, TargetEmbedding(striped))
    >>> int((shown.flatten(1) == striped).sum())
    9
    """

    def __init__(
        self,
        area: float = 0.05,
        steps: int = 40,
        places: int = 2,
        wobble: int = 0,
        light: float = 0.0,
        draws: int = 4,
        bounds: tuple[float, float] = UNIT,
        *,
        seed: int = 0,
    ):
        super().__init__(Window(area, bounds), seed=seed)
        at_least_one(steps=steps, places=places, draws=draws)
        require(wobble >= 0, "wobble", "must not be negative", wobble, self)
        require(0 <= light < 1, "light", "must be a share from 0 to 1", light, self)
        self.steps, self.places, self.wobble, self.light, self.draws = steps, places, wobble, light, draws

    def _attack(self, x: Tensor, best: Best, generator: torch.Generator) -> None:
        images_only(self, x)
        side, (low, high) = self.ball.side(x.shape), self.ball.bounds
        steady = self.wobble == 0 and self.light == 0
        for corners, patch in self._starts(x, best):
            for step in range(self.steps):
                slope = torch.zeros_like(patch)
                for _ in range(1 if steady else self.draws):
                    at, lit = self._drawn(corners, x, side, generator)
                    shown = paste(x, (patch * lit).clamp(low, high), at)
                    slope += lit * cut(best.gradient(shown)[1], at, side)
                # Steps that grow shorter, from an eighth of the range.
                length = (high - low) * (1 - step / self.steps) / 8
                patch = (patch + length * slope.sign()).clamp(low, high)
                if steady or step == self.steps - 1:
                    best.end(paste(x, patch, corners))

    @torch.no_grad()
    def _starts(self, x: Tensor, best: Best) -> Iterator[tuple[Tensor, Tensor]]:
        """Places (b, 2) and patches to begin with, those that do most harm first."""
        (low, high), side = self.ball.bounds, self.ball.side(x.shape)
        found, values = [(*corner, shade) for corner in self.ball.corners(x.shape, 1.0) for shade in _SHADES], []
        for top, left, shade in found:
            covered = x.clone()
            covered[:, :, top : top + side, left : left + side] = low + shade * (high - low)
            value, broken = best.judge(covered)
            best.offer(covered, value, broken)
            values.append(value.double())
        starts = torch.tensor(found, dtype=torch.double, device=x.device)
        per_place = torch.stack(values, dim=1).view(len(x), -1, len(_SHADES))
        most, shade = per_place.max(dim=2)
        for place in most.topk(min(self.places, most.shape[1]), dim=1).indices.T:
            row = place * len(_SHADES) + shade.gather(1, place[:, None])[:, 0]
            filled = aligned(low + (high - low) * starts[row, 2], x).to(x.dtype)
            yield starts[row, :2].long(), filled.expand(*x.shape[:2], side, side).clone()

    def _drawn(self, corners: Tensor, x: Tensor, side: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        reach, b = self.wobble, len(x)
        moved = torch.randint(-reach, reach + 1, corners.shape, generator=generator, device=x.device)
        room = torch.tensor(x.shape[2:], device=x.device) - side
        drawn = torch.rand((b,), generator=generator, device=x.device).to(x.dtype)
        return torch.minimum((corners + moved).clamp_min(0), room), aligned(1 + self.light * (2 * drawn - 1), x)


def paste(x: Tensor, patches: Tensor, corners: Tensor) -> Tensor:
    """Images with patches (b, c, s, s) at upper left corners (b, 2)."""
    shown = x.permute(0, 2, 3, 1).clone()
    shown[_places(corners, patches.shape[-1])] = patches.permute(0, 2, 3, 1)
    return shown.permute(0, 3, 1, 2).contiguous()


def cut(images: Tensor, corners: Tensor, side: int) -> Tensor:
    """What images show there, (b, c, s, s)."""
    return images.permute(0, 2, 3, 1)[_places(corners, side)].permute(0, 3, 1, 2)


def _places(corners: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
    rows, columns = (corners[:, axis, None] + torch.arange(side, device=corners.device) for axis in (0, 1))
    which = torch.arange(len(corners), device=corners.device)[:, None, None]
    return which, rows[:, :, None], columns[:, None, :]
