"""Labelled inputs, images above all: in memory or lazy, with ids, groups and names; every mistake is named."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from certimetric.deep.models.bounds import Bounds
from certimetric.deep.models.kinds import PICTURES, Kind, LazyImages
from certimetric.deep.ranking.distances import slices

if TYPE_CHECKING:
    from typing_extensions import Self

AnySamples = TypeVar("AnySamples", bound="Samples")


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
class Samples:
    """Labelled inputs of any kind: series, spectra, sound, embeddings of text. :class:`ImageSet` is that of pictures.

    Parameters
    ----------
    inputs : tensor or array of shape (n, …), or lazy ones
        Of a floating type; they become float32. Lazy inputs have a shape, a length, and rows that are read when they
        are taken.
    labels, ids, groups
        As of :class:`ImageSet`.
    bounds : pair of float or of sequences of float, optional
        Smallest and largest value that an input can have, one for all or one for each channel (the second axis of the
        inputs); None where there is none. Attackers keep to them.

    Attributes
    ----------
    kind : Kind
        Bounds, and whether the inputs are pictures.
    counted, keys, classes
        As of :class:`ImageSet`.

    Raises
    ------
    TypeError
        If the inputs are not of a floating type.
    ValueError
        If shapes do not match, or values are not finite or lie outside of the bounds. Of lazy inputs the values are
        checked as they are used.

    Examples
    --------
    >>> waves = Samples(torch.sin(torch.arange(60.0)).view(6, 1, 10), ["a", "a", "b", "b", "c", "c"], bounds=(-1, 1))
    >>> waves.select(torch.tensor([0, 3])).kind.bounds
    (-1.0, 1.0)
    """

    inputs: Tensor | LazyImages
    labels: Tensor
    ids: Tensor = None  # type: ignore[assignment]  # made in __post_init__ where none are given
    groups: Tensor | None = None
    bounds: Bounds | None = None
    counted: bool = field(init=False)
    classes: dict[int, str] = field(init=False)
    kind: Kind = field(init=False)

    def __post_init__(self) -> None:
        kind = self._kind()
        inputs = kind.converted(self.inputs)
        kind.check(inputs)
        labels, classes = _labelled(self.labels)
        counted = self.ids is None
        _set(self, inputs=inputs, kind=kind, bounds=kind.bounds)
        ids = torch.arange(len(self.inputs)) if self.ids is None else _numbered(self.ids)
        groups = None if self.groups is None else _numbered(self.groups)
        for name, value in (("labels", labels), ("ids", ids), ("groups", ids if groups is None else groups)):
            if value.shape != (len(self.inputs),) or value.is_floating_point():
                raise ValueError(
                    f"{name} must be one whole number for each of the {len(self.inputs)} {kind.name}, "
                    f"got shape {tuple(value.shape)} of {value.dtype}"
                )
        _set(self, labels=labels, classes=classes, ids=ids, groups=groups, counted=counted)

    def __len__(self) -> int:
        return len(self.inputs)

    def _kind(self) -> Kind:
        return Kind(self.bounds)

    @property
    def images(self) -> Tensor | LazyImages:
        """The inputs, as rooms that know pictures call them."""
        return self.inputs

    @property
    def keys(self) -> Tensor:
        return self.ids if self.groups is None else self.groups

    def select(self, rows: Tensor) -> Self:
        """Some of the inputs, with their labels, ids and groups. Lazy inputs stay lazy."""
        rows = torch.as_tensor(rows)
        inputs = self.inputs[rows] if isinstance(self.inputs, Tensor) else _Rows(self.inputs, np.asarray(rows.cpu()))
        return self._part(inputs, rows)

    def with_images(self, inputs: Tensor | LazyImages) -> Self:
        """Other inputs in the place of these, such as perturbed ones: they stay the same samples."""
        return self._part(inputs, slice(None))

    def with_ids(self, ids: Tensor) -> Self:
        """Other ids, at their word."""
        return self._made(ids=ids)

    def batches(self, batch_size: int) -> Iterator[Self]:
        """The inputs in order, ``batch_size`` at a time, as tensors."""
        for rows in slices(len(self), batch_size):
            yield self._part(self.kind.decoded(self.inputs, rows), rows)

    def _part(self, inputs: Tensor | LazyImages, rows: Tensor | slice) -> Self:
        groups = None if self.groups is None else self.groups[rows]
        part = self._made(inputs=inputs, labels=self.labels[rows], ids=self.ids[rows], groups=groups)
        return _set(part, counted=self.counted, classes=self.classes)

    def _made(self, **values: Any) -> Self:
        made = _set(copy.copy(self), **values)
        made.__post_init__()
        return made

    def tensor(self) -> Tensor:
        """All of the inputs in memory."""
        return self.kind.decoded(self.inputs, slice(None))


class ImageSet(Samples):
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

    def __init__(self, images: Any, labels: Any, ids: Any = None, groups: Any = None):
        super().__init__(images, labels, ids, groups, PICTURES.bounds)

    def _kind(self) -> Kind:
        return PICTURES


def _set(made: AnySamples, **values: Any) -> AnySamples:
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


def labels_by_position(queries: AnySamples, gallery: AnySamples) -> tuple[AnySamples, AnySamples, tuple[str, ...]]:
    """Both sets with labels that are positions in a list of names, and that list: empty where labels are no names."""
    named = queries.classes | gallery.classes
    if not named:
        return queries, gallery, ()
    check_comparable(queries, gallery)
    names = sorted(set(named.values()))
    codes = {code: names.index(name) for code, name in named.items()}

    def placed(images: AnySamples) -> AnySamples:
        labels = torch.tensor([codes[code] for code in images.labels.tolist()], dtype=torch.long)
        return _set(images.with_images(images.images), labels=labels, classes={})

    found = placed(gallery)
    return (found if queries is gallery else placed(queries)), found, tuple(names)


def check_comparable(queries: Samples, gallery: Samples) -> None:
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
