"""Labelled images: in memory or lazy, with ids, groups and names, and every mistake of shape or range named."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from certimetric.deep.ranking.distances import slices


class LazyImages(Protocol):
    """An array of images of which rows are read, or decoded, when they are taken: of files, of an array on disk.

    ``certimetric.datasets.images.files.ImageFiles`` is one. A row is never held longer than its batch.
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
        self.images: LazyImages = images.images if isinstance(images, _Rows) else images
        self.rows: np.ndarray = images.rows[rows] if isinstance(images, _Rows) else rows

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.rows), *self.images.shape[1:])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Any) -> Any:
        return self.images[self.rows[rows]]


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Labelled images; equal ids are the same picture, whatever its pixels say.

    Parameters
    ----------
    images : tensor or array of shape (n, c, h, w), or lazy images
        Values from 0 to 1, of a floating type: normalisation belongs inside the model, so that ε means pixels. They
        become float32, whatever their precision; values from 0 to 255 of type uint8 are divided by 255. Lazy images,
        such as the ``ImageFiles`` of large sets, are decoded batch by batch, and converted then.
    labels : tensor, array or sequence of shape (n,)
        Whole numbers of any type, bools, or names. A name becomes a number that is the same in every set, its digest,
        so that queries and gallery agree; ``classes`` tells the names.
    ids : int tensor of shape (n,), or n names such as paths, optional
        By default they are counted, 0, 1, …: give them where gallery and queries share pictures.
    groups : int tensor of shape (n,), or n names, optional
        Of pictures that are one find: of a camera, a video, a person in one session. No query may find an item of its
        own group, itself among them.

    Attributes
    ----------
    counted : bool
        Whether the ids were counted, not given.
    keys : int tensor of shape (n,)
        No query may find an item of its own key: groups, or ids where there are none.
    classes : dict of int to str
        Names of labels that were given as names; empty where labels are numbers.

    Raises
    ------
    TypeError
        If the images are neither of a floating type nor uint8.
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
    groups: Tensor | None = None
    counted: bool = field(init=False)
    classes: dict[int, str] = field(init=False)

    def __post_init__(self) -> None:
        images = as_pixels(self.images)
        check_images(images)
        labels, classes = _labelled(self.labels)
        counted = self.ids is None
        _set(self, images=images)
        ids = torch.arange(len(self.images)) if self.ids is None else _numbered(self.ids)
        groups = None if self.groups is None else _numbered(self.groups)
        for name, value in (("labels", labels), ("ids", ids), ("groups", ids if groups is None else groups)):
            if value.shape != (len(self.images),) or value.is_floating_point():
                raise ValueError(
                    f"{name} must be one whole number for each of the {len(self.images)} images, "
                    f"got shape {tuple(value.shape)} of {value.dtype}"
                )
        _set(self, labels=labels, classes=classes, ids=ids, groups=groups, counted=counted)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def keys(self) -> Tensor:
        return self.ids if self.groups is None else self.groups

    def select(self, rows: Tensor) -> ImageSet:
        """Some of the images, with their labels, ids and groups. Lazy images stay lazy."""
        rows = torch.as_tensor(rows)
        images = self.images[rows] if isinstance(self.images, Tensor) else _Rows(self.images, np.asarray(rows.cpu()))
        return self._part(images, rows)

    def with_images(self, images: Tensor | LazyImages) -> ImageSet:
        """Other images in the place of these, such as perturbed ones: they stay the same pictures."""
        return self._part(images, slice(None))

    def batches(self, batch_size: int) -> Iterator[ImageSet]:
        """The images in order, ``batch_size`` at a time, as tensors."""
        for rows in slices(len(self), batch_size):
            yield self._part(decoded(self.images, rows), rows)

    def _part(self, images: Tensor | LazyImages, rows: Tensor | slice) -> ImageSet:
        part = ImageSet(images, self.labels[rows], self.ids[rows], None if self.groups is None else self.groups[rows])
        return _set(part, counted=self.counted, classes=self.classes)

    def tensor(self) -> Tensor:
        """All of the images in memory."""
        return decoded(self.images, slice(None))


def _set(made: ImageSet, **values: Any) -> ImageSet:
    """Values of a frozen dataclass that is in the making."""
    vars(made).update(values)
    return made


def _labelled(labels: Any) -> tuple[Tensor, dict[int, str]]:
    """Labels as whole numbers, and the names of those that were names."""
    if isinstance(labels, Tensor):
        if labels.is_floating_point() or labels.is_complex():
            return labels, {}  # the message about shape and type names it
        whole = labels.long()
        if labels.dtype == torch.uint64 and bool((whole < 0).any()):
            raise ValueError("labels must be whole numbers below 2⁶³, or names, got larger ones")
        return whole, {}
    given = np.asarray(labels)
    if given.dtype.kind == "O" and all(isinstance(label, (bool, np.bool_, int, np.integer)) for label in given.ravel()):
        given = np.array([int(label) for label in given.ravel()]).reshape(given.shape)
    if given.dtype.kind == "u" and given.size and int(given.max()) > np.iinfo(np.int64).max:
        raise ValueError(f"labels must be whole numbers below 2⁶³, or names, got {int(given.max())}")
    if given.dtype.kind in "biu":
        return torch.from_numpy(given.astype(np.int64)), {}
    names = [name.decode() if isinstance(name, bytes) else name for name in given.ravel().tolist()]
    if given.dtype.kind not in "USO" or not all(isinstance(name, str) for name in names):
        odd = next((name for name in names if not isinstance(name, str)), None)
        raise ValueError(f"labels must be whole numbers, bools or names, got {odd!r} among labels of {given.dtype}")
    codes = _numbered(np.array(names, dtype=str).reshape(given.shape))
    return codes, dict(zip(codes.ravel().tolist(), names))


def labels_by_position(queries: ImageSet, gallery: ImageSet) -> tuple[ImageSet, ImageSet, tuple[str, ...]]:
    """Both sets with labels that are positions in a list of names, and that list: empty where labels are no names."""
    named = queries.classes | gallery.classes
    if not named:
        return queries, gallery, ()
    check_comparable(queries, gallery)
    names = sorted(set(named.values()))
    codes = {code: names.index(name) for code, name in named.items()}

    def placed(images: ImageSet) -> ImageSet:
        labels = torch.tensor([codes[code] for code in images.labels.tolist()], dtype=torch.long)
        return _set(images.with_images(images.images), labels=labels, classes={})

    found = placed(gallery)
    return (found if queries is gallery else placed(queries)), found, tuple(names)


def check_comparable(queries: ImageSet, gallery: ImageSet) -> None:
    """Raise an error if labels are names on one side and numbers on the other: none of them would ever be equal."""
    if bool(queries.classes) != bool(gallery.classes):
        which = ("queries", "the gallery") if queries.classes else ("the gallery", "queries")
        raise ValueError(f"labels of {which[0]} are names and those of {which[1]} are numbers: give both as names")


def _numbered(values: Any) -> Tensor:
    """Ids or groups as whole numbers; names by their digest, which is the same in every set."""
    if not isinstance(values, Tensor):
        named = np.asarray(values)
        if named.dtype.kind in "US" or any(isinstance(name, (str, PurePath)) for name in named.ravel()[:1]):
            found = [int.from_bytes(hashlib.sha256(str(name).encode()).digest()[:7], "big") for name in named.ravel()]
            named = np.array(found, dtype=np.int64).reshape(named.shape)
        values = torch.from_numpy(named.astype(np.int64) if named.dtype.kind in "biuO" else named)
    return values if values.is_floating_point() else values.long()


def decoded(images: Tensor | LazyImages, rows: slice) -> Tensor:
    """Some of the images as a tensor; lazy ones are checked now that they are there."""
    if isinstance(images, Tensor):
        return images[rows]
    taken = as_pixels(torch.as_tensor(images[rows]))
    check_images(taken)
    return taken


def as_pixels(images: Any) -> Any:
    """Images in float32, from 0 to 1: other precisions converted, 8-bit levels divided by 255; lazy ones as they are.

    What cannot be images is given back, for :func:`check_images` to tell.

    Examples
    --------
    >>> as_pixels(np.array([[[[0, 51, 255]]]], dtype=np.uint8))
    tensor([[[[0.0000, 0.2000, 1.0000]]]])
    """
    if isinstance(images, np.ndarray) and images.dtype.kind in "fu":
        images = torch.from_numpy(np.ascontiguousarray(images))
    if not isinstance(images, Tensor):
        return images
    if images.dtype == torch.uint8:
        return images.float() / 255
    return images.float() if images.is_floating_point() else images


def check_images(images: Any) -> None:
    """Raise an error unless these are images (n, c, h, w), floating, finite and from 0 to 1.

    Of lazy images only the shape is looked at.
    """
    arrays, shape = isinstance(images, (Tensor, np.ndarray)), getattr(images, "shape", ())
    if not arrays and len(shape) == 4 and hasattr(images, "__getitem__"):
        return
    if not arrays or len(shape) != 4:
        told = tuple(shape) if hasattr(images, "shape") else type(images).__name__
        raise ValueError(f"images must be a tensor of shape (n, channels, height, width), got {told}")
    if not isinstance(images, Tensor) or not images.is_floating_point():
        raise TypeError(f"images must be of a floating type, from 0 to 1, or uint8, got {images.dtype}")
    if len(images) and not bool(((images >= 0) & (images <= 1)).all()):
        raise ValueError(f"images must have values from 0 to 1, got {images.min():g} to {images.max():g}")
