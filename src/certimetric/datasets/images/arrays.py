"""Image sets in one .npz file: arrays of pixels or of JPEG bytes, with labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from certimetric.base.arrays import Indices
from certimetric.base.files import read_arrays
from certimetric.base.wording import listing
from certimetric.datasets.images.pixels import decode, in_threads_or_told, resized
from certimetric.datasets.images.side import Images, half_of, numbered, skipped

MASK = "zero_shot_test"
_KNOWN = ("ids", "groups")
_ARRAYS = ("images", "jpeg", "offsets", "labels", MASK, "class_names", *_KNOWN)


def read_npz(split: str, path: Path, size: int | None, skip_corrupt: bool) -> Images:
    """One side of an image set: images (n, c, h, w), with ``ids`` and ``groups`` where there are any.

    :func:`~certimetric.datasets.images.sets.load_images` says what arrays the file may hold.
    """
    where = repr(str(path))
    held = _arrays(path, where)
    codes, names = classes_of(held["labels"], held.get("class_names"), where)
    n_images = len(held["images"]) if "images" in held else held["offsets"].size - 1
    if n_images != len(codes):
        raise ValueError(f"{where} has {n_images} images but {len(codes)} labels")
    known = [one_for_each(name, held.get(name), n_images, where) for name in _KNOWN]
    test = _test_side(codes, held.get(MASK), where)
    rows = np.flatnonzero(test if split == "test" else ~test)
    numbered(codes[rows].tolist(), split, where)  # before pictures are decoded
    damaged: dict[int, str] = {}
    if "images" in held:
        images = resized(_pixels(held["images"], rows, where), size)
    else:
        images, damaged = _decoded(held["jpeg"], held["offsets"], rows, size, path, skip_corrupt)
    told = skipped(damaged, len(rows), path)
    rows = np.delete(rows, list(damaged))
    own, labels = numbered(codes[rows].tolist(), split, where, told)
    ids, groups = (None if values is None else values[rows] for values in known)
    return Images(images, labels, tuple(names[code] for code in own), "", told, ids, groups)


def _arrays(path: Path, where: str) -> dict[str, NDArray[Any]]:
    held, present = read_arrays(path, _ARRAYS)
    told = listing(present) if present else "nothing"
    if "images" not in held and not {"jpeg", "offsets"} <= held.keys():
        raise ValueError(f"{where} has no array 'images', nor 'jpeg' with 'offsets': it has {told}")
    if "labels" not in held:
        raise ValueError(f"{where} has no array 'labels': it has {told}")
    return held


def classes_of(labels: NDArray[Any], class_names: NDArray[Any] | None, where: str) -> tuple[Indices, list[str]]:
    """Positions in a list of names, and that list."""
    if labels.ndim != 1 or labels.dtype.kind not in "iuU":
        raise ValueError(
            f"labels of {where} must be one whole number or name for each input, "
            f"got shape {labels.shape} of {labels.dtype}"
        )
    if class_names is None or labels.dtype.kind == "U":
        values, codes = np.unique(labels, return_inverse=True)
        return codes.astype(np.int64), [str(value) for value in values]
    if class_names.ndim != 1 or class_names.dtype.kind not in "iuU":
        raise ValueError(f"class_names of {where} must be a list of names, got shape {class_names.shape}")
    if len(labels) and not (labels.min() >= 0 and labels.max() < len(class_names)):
        raise ValueError(
            f"labels of {where} must be positions in its {len(class_names)} class_names, "
            f"got {labels.min()} to {labels.max()}"
        )
    return labels.astype(np.int64), [str(name) for name in class_names]


def one_for_each(name: str, values: NDArray[Any] | None, n: int, where: str) -> NDArray[Any] | None:
    """Ids or groups, checked; None stays."""
    if values is not None and (values.shape != (n,) or values.dtype.kind not in "iuU"):
        raise ValueError(
            f"{name} of {where} must be one whole number or name for each of the {n} inputs, "
            f"got shape {values.shape} of {values.dtype}"
        )
    return values


def _test_side(codes: Indices, mask: NDArray[Any] | None, where: str) -> NDArray[np.bool_]:
    present = np.unique(codes)
    if mask is None:
        return np.isin(codes, half_of(present.tolist(), "test"))
    if mask.dtype != np.bool_ or mask.shape != codes.shape:
        raise ValueError(
            f"{MASK} of {where} must be true or false for each of the {len(codes)} images, "
            f"got shape {mask.shape} of {mask.dtype}"
        )
    if shared := np.intersect1d(codes[mask], codes[~mask]).size:
        raise ValueError(f"{MASK} of {where} puts {shared} of {len(present)} classes on both sides")
    return mask


def _pixels(images: NDArray[Any], rows: Indices, where: str) -> NDArray[np.float32]:
    """Images (n, c, h, w) from 0 to 1, of some rows."""
    if images.ndim not in (3, 4) or 0 in images.shape[1:]:
        raise ValueError(
            f"images of {where} must have shape (n, h, w), (n, h, w, 3), (n, h, w, 4) or (n, c, h, w), "
            f"got {images.shape}"
        )
    if images.dtype not in (np.uint8, np.uint16) and images.dtype.kind != "f":
        raise ValueError(f"images of {where} must be uint8, uint16, or floating from 0 to 1, got {images.dtype}")
    chosen = images[rows]
    if images.dtype.kind == "u":
        chosen = chosen.astype(np.float32)
        chosen /= np.iinfo(images.dtype).max
    elif not bool(((chosen >= 0) & (chosen <= 1)).all()):
        raise ValueError(f"images of {where} must have values from 0 to 1, got {chosen.min():g} to {chosen.max():g}")
    if chosen.ndim == 3:
        chosen = chosen[:, None]
    elif chosen.shape[3] == 4 and chosen.shape[1] > 4:
        opacity = chosen[..., 3:]
        chosen = (chosen[..., :3] * opacity + (1 - opacity)).transpose(0, 3, 1, 2)  # on white
    elif chosen.shape[3] in (1, 3):
        chosen = chosen.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(chosen, dtype=np.float32)


def _decoded(
    jpeg: NDArray[Any], offsets: NDArray[Any], rows: Indices, size: int | None, path: Path, skip_corrupt: bool
) -> tuple[NDArray[np.float32], dict[int, str]]:
    """Images (n, 3, h, w) from pieces of a string of bytes, and the places of those that are skipped, with reasons."""
    if jpeg.ndim != 1 or jpeg.dtype != np.uint8:
        raise ValueError(
            f"jpeg of {str(path)!r} must be bytes, uint8 in one axis, got {jpeg.ndim} axes of {jpeg.dtype}"
        )
    rising = offsets.ndim == 1 and offsets.dtype.kind in "iu" and not bool((offsets[1:] < offsets[:-1]).any())
    if not rising or offsets[0] < 0 or offsets[-1] > len(jpeg):
        raise ValueError(f"offsets of {str(path)!r} must be whole numbers that rise from 0 to at most {len(jpeg)}")

    def picture(row: int) -> NDArray[np.float32]:
        return decode(jpeg[offsets[row] : offsets[row + 1]].tobytes(), f"{path}, image {row}", size)

    images, damaged = in_threads_or_told(picture, rows.tolist(), skip_corrupt)
    if not images:
        raise ValueError(f"none of the {len(rows)} pictures of {str(path)!r} can be decoded")
    if len(shapes := {image.shape for image in images}) > 1:
        raise ValueError(f"the pictures of {str(path)!r} have {len(shapes)} different shapes: give a size")
    return np.stack(images), damaged
