"""Random changes of training images, a batch at a time; torchvision's transforms can stand in their place."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from certimetric.base.arguments import ArgumentError, require
from certimetric.base.wording import did_you_mean

Augmentation = Callable[[Tensor], Tensor]


class RandomFlip:
    """Mirror each image left to right, with probability one half."""

    def __call__(self, images: Tensor) -> Tensor:
        chosen = torch.rand(len(images), device=images.device) < 0.5
        return torch.where(chosen[:, None, None, None], images.flip(-1), images)


class RandomShift:
    """Move each image by up to ``share`` of its size in both directions; what enters repeats the border.

    Parameters
    ----------
    share : float, default=0.1
    """

    def __init__(self, share: float = 0.1):
        require(0 < share < 1, "share", "must lie between 0 and 1", share, self)
        self.share = share

    def __call__(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        reach = max(1, round(self.share * max(height, width)))
        padded = nn.functional.pad(images, (reach, reach, reach, reach), mode="replicate")
        top, left = (torch.randint(0, 2 * reach + 1, (len(images), 1), device=images.device) for _ in range(2))
        rows = top + torch.arange(height, device=images.device)
        columns = left + torch.arange(width, device=images.device)
        which = torch.arange(len(images), device=images.device)[:, None, None]
        return padded.permute(0, 2, 3, 1)[which, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


class RandomAffine:
    """Turn, stretch and move each image a little: a random affine map, bilinear, with the border repeated.

    Parameters
    ----------
    degrees : float, default=10
    scale : float, default=0.15
        Sizes from 1 − scale to 1 + scale, of both axes on their own.
    shift : float, default=0.08
        Of the size of the image.
    """

    def __init__(self, degrees: float = 10.0, scale: float = 0.15, shift: float = 0.08):
        self.degrees, self.scale, self.shift = degrees, scale, shift

    def __call__(self, images: Tensor) -> Tensor:
        def uniform(reach: float) -> Tensor:
            return (2 * torch.rand(len(images), device=images.device) - 1) * reach

        angle = torch.deg2rad(uniform(self.degrees))
        across, down = 1 + uniform(self.scale), 1 + uniform(self.scale)
        map_ = torch.stack(
            [
                torch.stack([angle.cos() * across, -angle.sin() * down, 2 * uniform(self.shift)], dim=1),
                torch.stack([angle.sin() * across, angle.cos() * down, 2 * uniform(self.shift)], dim=1),
            ],
            dim=1,
        ).to(images.dtype)
        grid = nn.functional.affine_grid(map_, list(images.shape), align_corners=False)
        moved = nn.functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
        return moved.clamp(0.0, 1.0)  # interpolation rounds


AUGMENTATIONS: dict[str, Callable[[], Augmentation]] = {
    "flip": RandomFlip,
    "shift": RandomShift,
    "affine": RandomAffine,
}


def augmentation(augment: Sequence[str] = ()) -> Augmentation | None:
    """Augmentations by name, one after the other; None for no names.

    Raises
    ------
    ValueError
        If a name is unknown.

    Examples
    --------
    >>> augmentation(["flip", "shift"])(torch.rand(4, 3, 16, 16)).shape
    torch.Size([4, 3, 16, 16])
    """
    for name in augment:
        if name not in AUGMENTATIONS:
            hint = did_you_mean(name, [*AUGMENTATIONS])
            raise ArgumentError("augment", f"must name {', '.join(AUGMENTATIONS)}", name, hint=hint)
    steps = [AUGMENTATIONS[name]() for name in augment]

    def apply(images: Tensor) -> Tensor:
        for step in steps:
            images = step(images)
        return images

    return apply if steps else None
