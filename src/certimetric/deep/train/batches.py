"""Batches with several images of each class, and random changes of them, where torchvision's could stand as well."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler, StackDataset

from certimetric.base.arguments import ArgumentError, require
from certimetric.base.wording import did_you_mean

Augmentation = Callable[[Tensor], Tensor]


class ClassBalancedBatches(Sampler[list[int]]):
    """Batches of ``batch_size // per_class`` classes drawn at random, with ``per_class`` images of each.

    Give it to a DataLoader as ``batch_sampler``. It draws from torch's random numbers. In several processes all draw
    the same batch, and each gives its part of it.

    Parameters
    ----------
    labels : int tensor of shape (n,)
    batch_size : int, default=112
        Images of a batch over all processes.
    per_class : int, default=2
        A class with fewer images gives some of them again.

    Raises
    ------
    ValueError
        If the batch holds fewer than two classes, or the labels do.

    Examples
    --------
    >>> labels = torch.arange(40) % 10
    >>> batches = list(ClassBalancedBatches(labels, batch_size=8, per_class=2))
    >>> len(batches), labels[batches[0]].unique().numel()
    (5, 4)
    """

    def __init__(self, labels: Tensor, batch_size: int = 112, per_class: int = 2):
        require(per_class >= 1, "per_class", "must be at least 1", per_class)
        wanted = f"must be at least two classes of per_class = {per_class}"
        require(batch_size >= 2 * per_class, "batch_size", wanted, batch_size, beside=["per_class"])
        classes, codes = torch.unique(torch.as_tensor(labels), return_inverse=True)
        if len(classes) < 2:
            raise ValueError("labels must be of at least two classes")
        self.per_class = per_class
        self.n_classes = min(batch_size // per_class, len(classes))
        # With few classes each gives more images, so that the batch keeps its size.
        if self.n_classes == len(classes):
            self.per_class = max(per_class, batch_size // len(classes))
        self.members = [(codes == code).nonzero()[:, 0] for code in range(len(classes))]
        self.length = max(1, len(codes) // (self.n_classes * self.per_class))

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[list[int]]:
        for _ in range(self.length):
            chosen = torch.randperm(len(self.members))[: self.n_classes]
            rows = torch.cat([self._draw(self.members[int(code)]) for code in chosen])
            if dist.is_available() and dist.is_initialized():
                rows = rows.tensor_split(dist.get_world_size())[dist.get_rank()]
            yield rows.tolist()

    def _draw(self, members: Tensor) -> Tensor:
        order = members[torch.randperm(len(members))]
        return order.repeat(-(-self.per_class // len(order)))[: self.per_class]


def balanced_loader(
    images: Any, labels: Any, batch_size: int = 112, per_class: int = 2, workers: int = 0, turns: bool = False
) -> DataLoader[Any]:
    """Whole batches, drawn by class: the rows of a batch are taken from the images all at once.

    Parameters
    ----------
    images : array of shape (n, c, h, w), or lazy images
    labels : int array of shape (n,)
    batch_size, per_class
        As of :class:`ClassBalancedBatches`.
    workers : int, default=0
        Processes that decode pictures.
    turns : bool, default=False
        Turn all pictures of a class alike, by 0 to 3 quarter turns that are drawn for each batch: a character or a sign
        that is turned is a class of its own, and there are four times as many.

    Raises
    ------
    ValueError
        If pictures are to be turned that are not square.
    """
    sampler = ClassBalancedBatches(torch.as_tensor(labels), batch_size, per_class)
    height, width = images.shape[-2:]
    require(not turns or height == width, "turns", f"must be false for pictures of {height} × {width} pixels", turns)
    making: dict[str, Any] = {"collate_fn": turned_by_class} if turns else {}
    return DataLoader(StackDataset(images, labels), batch_size=None, sampler=sampler, num_workers=workers, **making)


def turned_by_class(batch: Any) -> tuple[Tensor, Tensor]:
    """A batch (images, labels) with all pictures of a class turned by the same number of quarter turns, at random.

    Examples
    --------
    >>> images, labels = turned_by_class((torch.rand(6, 1, 4, 4), torch.tensor([0, 0, 1, 1, 2, 2])))
    >>> images.shape
    torch.Size([6, 1, 4, 4])
    """
    images, labels = (torch.as_tensor(part) for part in batch)
    classes, codes = labels.unique(return_inverse=True)
    turns = torch.randint(4, (len(classes),))[codes]
    return torch.stack([image.rot90(int(k), (-2, -1)) for image, k in zip(images, turns)]), labels


class RandomFlip:
    """Mirror each image left to right, with probability one half."""

    def __call__(self, images: Tensor) -> Tensor:
        chosen = torch.rand(len(images), device=images.device) < 0.5
        return torch.where(chosen[:, None, None, None], images.flip(-1), images)


class RandomShift:
    """Move each image by up to ``share`` of its size in both directions; what enters repeats the border."""

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

    Sizes are from 1 − scale to 1 + scale, of both axes on their own; the shift is a share of the size of the image.
    """

    def __init__(self, degrees: float = 10.0, scale: float = 0.15, shift: float = 0.08):
        self.degrees, self.scale, self.shift = degrees, scale, shift

    def __call__(self, images: Tensor) -> Tensor:
        def uniform(reach: float) -> Tensor:
            return (2 * torch.rand(len(images), device=images.device) - 1) * reach

        angle = torch.deg2rad(uniform(self.degrees))
        across, down = 1 + uniform(self.scale), 1 + uniform(self.scale)
        first = torch.stack([angle.cos() * across, -angle.sin() * down, 2 * uniform(self.shift)], dim=1)
        second = torch.stack([angle.sin() * across, angle.cos() * down, 2 * uniform(self.shift)], dim=1)
        map_ = torch.stack([first, second], dim=1).to(images.dtype)
        grid = nn.functional.affine_grid(map_, list(images.shape), align_corners=False)
        moved = nn.functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
        return moved.clamp(0.0, 1.0)  # interpolation rounds


class RandomColour:
    """Change light and colours of each image: brightness, contrast, and of three channels saturation and hue.

    Brightness is moved by up to so much of the range of pixels, contrast about the mean and saturation by factors from
    1 − share to 1 + share, and hues are turned about the axis of greys by up to ``hue`` degrees.
    """

    def __init__(self, brightness: float = 0.2, contrast: float = 0.3, saturation: float = 0.5, hue: float = 30.0):
        self.brightness, self.contrast, self.saturation, self.hue = brightness, contrast, saturation, hue

    def __call__(self, images: Tensor) -> Tensor:
        def uniform(reach: float) -> Tensor:
            return (2 * torch.rand(len(images), 1, 1, 1, device=images.device, dtype=images.dtype) - 1) * reach

        mean = images.mean(dim=(1, 2, 3), keepdim=True)
        changed = mean + (1 + uniform(self.contrast)) * (images - mean) + uniform(self.brightness)
        if images.shape[1] == 3:
            grey = changed.mean(dim=1, keepdim=True)
            angle, share = torch.deg2rad(uniform(self.hue)), 1 + uniform(self.saturation)
            colour = changed - grey
            # A quarter turn about (1, 1, 1) is the product with that axis, which is a difference of two channels.
            turned = (colour.roll(1, dims=1) - colour.roll(-1, dims=1)) / 3**0.5
            changed = grey + share * (angle.cos() * colour + angle.sin() * turned)
        return changed.clamp(0.0, 1.0)


AUGMENTATIONS: dict[str, Callable[[], Augmentation]] = {
    "flip": RandomFlip,
    "shift": RandomShift,
    "affine": RandomAffine,
    "colour": RandomColour,
}


def augmentation(augment: Sequence[str] = ()) -> Augmentation | None:
    """Augmentations by name, one after the other; None for no names.

    Parameters
    ----------
    augment : sequence of str
        Of "flip", "shift", "affine", "colour".

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
