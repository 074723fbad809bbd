"""Natural corruptions of pictures: noise, blur, light, encoding and geometry, in five severities each.

They are after the common-corruptions benchmark of Hendrycks & Dietterich, arXiv 1903.12261: its kinds without the
weather, and what happens to pictures on their way, such as crops and screenshots. Lengths are shares of the height of
the picture, so that a severity means the same of every size; figures are for comparisons of models here, not with those
of the benchmark.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from certimetric.base.arguments import require
from certimetric.deep.attacks.encoding import encoded
from certimetric.deep.attacks.warps import perspective, turn, warped
from certimetric.deep.models.kinds import PICTURES, LazyImages

SEVERITIES = (1, 2, 3, 4, 5)
_APART = 2654435761  # of the first pictures of two seeds


class Draws:
    """Random numbers of pictures by their numbers: the same of a picture in every batch, on every device."""

    def __init__(self, numbers: Sequence[int], seed: int, device: torch.device):
        # A generator of torch is seeded by 32 bits.
        self.generators = [torch.Generator().manual_seed((seed * _APART + int(n)) % 2**32) for n in numbers]
        self.device = device

    def uniform(self, *shape: int) -> Tensor:
        """From 0 to 1, (b, …)."""
        return self._of(lambda g: torch.rand(shape, generator=g))

    def normal(self, *shape: int) -> Tensor:
        """Of deviation 1, (b, …)."""
        return self._of(lambda g: torch.randn(shape, generator=g))

    def poisson(self, rates: Tensor) -> Tensor:
        """Counts of these means (b, …)."""
        parts = iter(rates.cpu())
        return self._of(lambda g: torch.poisson(next(parts), generator=g))

    def signs(self) -> Tensor:
        """−1 or 1, (b,)."""
        return torch.where(self.uniform() < 0.5, -1.0, 1.0)

    def _of(self, draw: Callable[[torch.Generator], Tensor]) -> Tensor:
        return torch.stack([draw(generator) for generator in self.generators]).to(self.device)


Change = Callable[[Tensor, Any, Draws], Tensor]


@dataclass(frozen=True, eq=False)
class Corruption:
    """One kind of corruption.

    Parameters
    ----------
    name : str
    levels : tuple of 5
        What the severities mean.
    change : callable
        ``(images, level, draws) -> images``.
    colour : bool, default=False
        Whether it is one of colours: pictures of another number of channels than three it leaves as they are.

    Examples
    --------
    >>> images = torch.full((1, 1, 4, 4), 0.5)
    >>> float(CORRUPTIONS["brightness"](images, severity=2).mean())
    0.699...
    """

    name: str
    levels: tuple[Any, ...]
    change: Change
    colour: bool = False

    def __call__(self, images: Tensor, severity: int, seed: int = 0, numbers: Sequence[int] | None = None) -> Tensor:
        """The corrupted images, of the same shape and from 0 to 1.

        Parameters
        ----------
        images : tensor of shape (b, c, h, w)
            From 0 to 1.
        severity : {1, 2, 3, 4, 5}
        seed : int, default=0
        numbers : sequence of int, optional
            Of the pictures, by which random numbers are theirs; by default 0, 1, ….
        """
        require(severity in SEVERITIES, "severity", "must be 1, 2, 3, 4 or 5", severity)
        numbers = range(len(images)) if numbers is None else numbers
        if not len(images) or not self.suits(images.shape):
            return images
        draws = Draws(numbers, seed, images.device)
        return self.change(images, self.levels[severity - 1], draws).clamp(0.0, 1.0).to(images.dtype)

    def suits(self, shape: Sequence[int]) -> bool:
        """Whether it changes images of this shape (b, c, h, w)."""
        return not self.colour or shape[1] == 3

    def of(self, images: Tensor | LazyImages, severity: int, seed: int = 0) -> CorruptedImages:
        """Lazy images, corrupted as they are taken: for :meth:`certimetric.deep.ImageSet.with_images`."""
        require(severity in SEVERITIES, "severity", "must be 1, 2, 3, 4 or 5", severity)
        return CorruptedImages(images, self, severity, seed)

    def __repr__(self) -> str:
        return f"Corruption({self.name!r}, levels={self.levels})"


@dataclass(frozen=True, eq=False)
class CorruptedImages:
    """Images that are corrupted as they are taken, each in one way, however they are taken."""

    images: Tensor | LazyImages
    corruption: Corruption
    severity: int
    seed: int

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, c, h, w)."""
        return tuple(self.images.shape)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: Any) -> Tensor:
        numbers = np.arange(len(self))[np.asarray(rows) if isinstance(rows, Tensor) else rows]
        return self.corruption(PICTURES.decoded(self.images, rows), self.severity, self.seed, numbers.tolist())


# Noise ---------------------------------------------------------------------------------------------------------------


def _gaussian_noise(x: Tensor, level: float, draws: Draws) -> Tensor:
    return x + level * draws.normal(*x.shape[1:])


def _shot_noise(x: Tensor, level: float, draws: Draws) -> Tensor:
    return draws.poisson(level * x) / level


def _impulse_noise(x: Tensor, level: float, draws: Draws) -> Tensor:
    salt = (draws.uniform(*x.shape[1:]) < 0.5).to(x.dtype)
    return torch.where(draws.uniform(*x.shape[1:]) < level, salt, x)


# Blur ----------------------------------------------------------------------------------------------------------------


def _filtered(x: Tensor, kernels: Tensor) -> Tensor:
    """Every image with its own kernel (b, k, k), of odd size."""
    b, c, h, w = x.shape
    reach = kernels.shape[-1] // 2
    padded = nn.functional.pad(x, (reach,) * 4, mode="replicate").view(1, b * c, h + 2 * reach, w + 2 * reach)
    weights = (kernels / kernels.sum(dim=(1, 2), keepdim=True)).to(x).repeat_interleave(c, dim=0)
    return nn.functional.conv2d(padded, weights[:, None], groups=b * c).view(b, c, h, w)


def _length(level: float, x: Tensor) -> float:
    """In pixels; of pictures that have few, as of 32: a blur of less than a pixel is none."""
    return level * max(x.shape[2], 32)


def _offsets(reach: int, device: torch.device) -> Tensor:
    return torch.arange(-reach, reach + 1, device=device, dtype=torch.double)


def _gaussian_blur(x: Tensor, level: float, draws: Draws) -> Tensor:
    sigma = _length(level, x)
    line = torch.exp(-((_offsets(math.ceil(3 * sigma), x.device) / sigma) ** 2) / 2)
    return _filtered(x, (line[:, None] * line).expand(len(x), -1, -1))


def _defocus_blur(x: Tensor, level: float, draws: Draws) -> Tensor:
    radius = _length(level, x)
    place = _offsets(math.ceil(radius), x.device)
    disk = (radius + 0.5 - torch.hypot(place[:, None], place)).clamp(0.0, 1.0)
    return _filtered(x, disk.expand(len(x), -1, -1))


def _motion_blur(x: Tensor, level: float, draws: Draws) -> Tensor:
    half = _length(level, x) / 2
    place, angle = _offsets(math.ceil(half), x.device), math.pi * draws.uniform().double()[:, None, None]
    along = place * angle.cos() + place[:, None] * angle.sin()
    across = place[:, None] * angle.cos() - place * angle.sin()
    return _filtered(x, (half + 0.5 - along.abs()).clamp(0.0, 1.0) * (1.0 - across.abs()).clamp_min(0.0))


# Light ---------------------------------------------------------------------------------------------------------------


def _brightness(x: Tensor, level: float, draws: Draws) -> Tensor:
    return x + level


def _contrast(x: Tensor, level: float, draws: Draws) -> Tensor:
    middle = x.mean(dim=(1, 2, 3), keepdim=True)
    return middle + level * (x - middle)


def _saturation(x: Tensor, level: float, draws: Draws) -> Tensor:
    grey = (x * x.new_tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(dim=1, keepdim=True)
    return grey + level * (x - grey)


# Encoding ------------------------------------------------------------------------------------------------------------


def _resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    return nn.functional.interpolate(x, size=size, mode="bilinear", antialias=True, align_corners=False)


def _jpeg(x: Tensor, level: int, draws: Draws) -> Tensor:
    return encoded(x, level)


def _resize(x: Tensor, level: float, draws: Draws) -> Tensor:
    h, w = x.shape[2:]
    return _resized(_resized(x, (max(1, round(level * h)), max(1, round(level * w)))), (h, w))


def _screenshot(x: Tensor, level: tuple[float, int], draws: Draws) -> Tensor:
    """The picture on a white page, as JPEG."""
    margin, quality = level
    none = torch.zeros(len(x), device=x.device)
    maps = turn(none, none, none, x.shape, 1 / (1 - 2 * margin))
    inner, seen = (warped(part, maps, "zeros") for part in (x, torch.ones_like(x)))
    return encoded(inner + 0.95 * (1 - seen), quality)


# Geometry ------------------------------------------------------------------------------------------------------------


def _crop(x: Tensor, level: float, draws: Draws) -> Tensor:
    right, down = ((draws.uniform() - 0.5) * (1 - level) for _ in range(2))
    maps = turn(torch.zeros_like(right), right / level, down / level, x.shape, level)
    return warped(x, maps)


def _rotation(x: Tensor, level: float, draws: Draws) -> Tensor:
    degrees = level * draws.signs()
    return warped(x, turn(degrees, torch.zeros_like(degrees), torch.zeros_like(degrees), x.shape))


def _perspective(x: Tensor, level: float, draws: Draws) -> Tensor:
    square = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]], device=x.device)
    return warped(x, perspective(square * (1.0 - 2.0 * level * draws.uniform(4, 2))))


# The one list of corruptions, by the names that results have.
CORRUPTIONS: dict[str, Corruption] = {
    each.name: each
    for each in (
        Corruption("gaussian noise", (0.04, 0.08, 0.12, 0.18, 0.26), _gaussian_noise),
        Corruption("shot noise", (120, 60, 25, 12, 5), _shot_noise),
        Corruption("impulse noise", (0.01, 0.03, 0.06, 0.1, 0.17), _impulse_noise),
        Corruption("gaussian blur", (0.008, 0.014, 0.02, 0.03, 0.04), _gaussian_blur),
        Corruption("defocus blur", (0.02, 0.027, 0.034, 0.042, 0.05), _defocus_blur),
        Corruption("motion blur", (0.04, 0.06, 0.09, 0.12, 0.16), _motion_blur),
        Corruption("brightness", (0.1, 0.2, 0.3, 0.4, 0.5), _brightness),
        Corruption("contrast", (0.7, 0.5, 0.35, 0.2, 0.1), _contrast),
        Corruption("saturation", (0.7, 0.5, 0.3, 0.15, 0.0), _saturation, colour=True),
        Corruption("jpeg", (60, 40, 25, 15, 7), _jpeg),
        Corruption("resize", (0.7, 0.6, 0.5, 0.4, 0.3), _resize),
        Corruption("screenshot", ((0.02, 90), (0.04, 80), (0.07, 70), (0.1, 60), (0.14, 50)), _screenshot),
        Corruption("crop", (0.95, 0.9, 0.85, 0.8, 0.7), _crop),
        Corruption("rotation", (4.0, 8.0, 12.0, 18.0, 25.0), _rotation),
        Corruption("perspective", (0.04, 0.07, 0.1, 0.14, 0.19), _perspective),
    )
}


def corrupt_some(images: Tensor, severity: int, share: float) -> Tensor:
    """A share of the images corrupted, each in one way of a severity up to this, drawn from torch's generator."""
    kinds = [each for each in CORRUPTIONS.values() if each.suits(images.shape)]
    drawn, seed = torch.randint(len(kinds) * severity, (len(images),)), int(torch.randint(2**22, ()))
    ways = torch.where(torch.rand(len(images)) < share, drawn, -1).tolist()
    found = images.clone()
    for way in {*ways} - {-1}:
        rows = [row for row, its in enumerate(ways) if its == way]
        found[rows] = kinds[way // severity](images[rows], way % severity + 1, seed, rows)
    return found
