"""From images to embeddings, in batches, with every mistake of shape or range named."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from certimetric.deep.freeze import frozen


class LazyImages(Protocol):
    """An array of images of which rows are read, or decoded, when they are taken: of files, of an array on disk.

    ``certimetric.datasets.image_files.ImageFiles`` is one. A row is never held longer than its batch.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, c, h, w)."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any) -> Any:
        """Float images (k, c, h, w) from 0 to 1 for a slice or an int array of k rows."""
        ...


class _Rows:
    """Some rows of lazy images, which stay lazy."""

    def __init__(self, images: LazyImages, rows: np.ndarray):
        if isinstance(images, _Rows):
            inner, rows = images.images, images.rows[rows]
        else:
            inner = images
        self.images: LazyImages = inner
        self.rows: np.ndarray = rows

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.rows), *self.images.shape[1:])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Any) -> Any:
        return self.images[self.rows[rows]]


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Labelled images; equal ids are the same picture.

    Parameters
    ----------
    images : float tensor or array of shape (n, c, h, w), or lazy images
        Values from 0 to 1: normalisation belongs inside the model, so that ε means pixels. Lazy images, such as the
        ``ImageFiles`` of large sets, are decoded batch by batch.
    labels : int tensor of shape (n,)
    ids : int tensor of shape (n,), optional
        By default 0, 1, …: give them where gallery and queries share pictures.

    Raises
    ------
    TypeError
        If the images are not of a floating type.
    ValueError
        If shapes do not match, or values lie outside of 0 to 1. Of lazy images the values are checked as they are used.

    Examples
    --------
    >>> items = ImageSet(torch.rand(6, 3, 8, 8), torch.tensor([0, 0, 1, 1, 2, 2]))
    >>> [len(batch) for batch in items.batches(4)]
    [4, 2]
    """

    images: Tensor | LazyImages
    labels: Tensor
    ids: Tensor = None  # type: ignore[assignment]  # made in __post_init__ where none are given

    def __post_init__(self) -> None:
        images = torch.from_numpy(self.images) if isinstance(self.images, np.ndarray) else self.images
        check_images(images)
        object.__setattr__(self, "images", images)
        labels = torch.as_tensor(self.labels)
        ids = torch.arange(len(self.images)) if self.ids is None else torch.as_tensor(self.ids)
        for name, value in (("labels", labels), ("ids", ids)):
            if value.shape != (len(self.images),) or value.is_floating_point():
                raise ValueError(
                    f"{name} must be one whole number for each of the {len(self.images)} images, "
                    f"got shape {tuple(value.shape)} of {value.dtype}"
                )
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "ids", ids)

    def __len__(self) -> int:
        return len(self.images)

    def select(self, rows: Tensor) -> ImageSet:
        """Some of the images, with their labels and ids. Lazy images stay lazy."""
        rows = torch.as_tensor(rows)
        images = self.images[rows] if isinstance(self.images, Tensor) else _Rows(self.images, np.asarray(rows.cpu()))
        return ImageSet(images, self.labels[rows], self.ids[rows])

    def batches(self, batch_size: int) -> Iterator[ImageSet]:
        """The images in order, ``batch_size`` at a time, as tensors."""
        for start in range(0, len(self), batch_size):
            part = slice(start, start + batch_size)
            yield ImageSet(_tensor(self.images, part), self.labels[part], self.ids[part])

    def tensor(self) -> Tensor:
        """All of the images in memory."""
        images = _tensor(self.images, slice(None))
        check_images(images)
        return images


def _tensor(images: Tensor | LazyImages, part: slice) -> Tensor:
    return images[part] if isinstance(images, Tensor) else torch.as_tensor(images[part])


def check_images(images: Tensor | LazyImages) -> None:
    """Raise an error unless these are images (n, c, h, w), floating, finite and from 0 to 1.

    Of lazy images only the shape is looked at.
    """
    lazy = not isinstance(images, (Tensor, np.ndarray)) and hasattr(images, "shape") and hasattr(images, "__getitem__")
    if lazy and len(images.shape) == 4:
        return
    if not isinstance(images, Tensor) or images.ndim != 4:
        shape = tuple(images.shape) if hasattr(images, "shape") else type(images).__name__
        raise ValueError(f"images must be a tensor of shape (n, channels, height, width), got {shape}")
    if not images.is_floating_point():
        raise TypeError(f"images must be of a floating type with values from 0 to 1, got {images.dtype}: divide by 255")
    if len(images) and not bool(((images >= 0) & (images <= 1)).all()):
        raise ValueError(f"images must have values from 0 to 1, got {images.min():g} to {images.max():g}")


@torch.no_grad()
def embed(
    model: nn.Module,
    images: Tensor | LazyImages,
    batch_size: int = 256,
    device: torch.device | str | None = None,
) -> Tensor:
    """Embeddings of images, (n, c, h, w) to (n, k), with the model in evaluation mode.

    Parameters
    ----------
    model : Module
    images : float tensor of shape (n, c, h, w), or lazy images
        From 0 to 1. Lazy images are decoded batch by batch.
    batch_size : int, default=256
    device : device, optional
        Where the model computes; by default where its parameters are.

    Raises
    ------
    TypeError
        If the model gives something else than a tensor.
    ValueError
        If there are no images, if images lie outside of 0 to 1, or if embeddings are not of shape (b, k) and finite.
    """
    check_images(images)
    if not len(images):
        raise ValueError("images must hold at least one image, got none")
    device = device_of(model) if device is None else torch.device(device)
    parts = []
    with frozen(model):
        for start in range(0, len(images), batch_size):
            batch = _tensor(images, slice(start, start + batch_size))
            if not isinstance(images, Tensor):
                check_images(batch)
            batch = batch.to(device)
            parts.append(check_embeddings(model(batch), len(batch)).float())
    return torch.cat(parts)


def check_embeddings(embeddings: Tensor, b: int) -> Tensor:
    """Give embeddings if they are a finite tensor of shape (b, k); raise an error that says what came instead."""
    if not isinstance(embeddings, Tensor):
        raise TypeError(f"the model must give one tensor of embeddings, got {type(embeddings).__name__}")
    if embeddings.ndim != 2 or len(embeddings) != b:
        raise ValueError(f"the model must give embeddings of shape ({b}, k), got {tuple(embeddings.shape)}")
    if not bool(torch.isfinite(embeddings).all()):
        raise ValueError("the model gives embeddings that are not finite")
    return embeddings


def device_of(model: nn.Module) -> torch.device:
    """Where the parameters of a model are; the CPU for a model without any."""
    parameter = next(model.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device
