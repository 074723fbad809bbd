"""MNIST, Fashion-MNIST and Omniglot from the archives that were published, with class-disjoint splits."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from certimetric.base.wording import first_line
from certimetric.datasets.images.pixels import resized
from certimetric.datasets.images.side import Images, existing, numbered, skipped

_ARCHIVES = {"train": "images_background_small1.zip", "test": "images_background_small2.zip"}
_SIZE = 28
_IDX_IMAGES, _IDX_LABELS = 2051, 2049

DIGITS = "0123456789"
FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


def read_idx_set(class_names: Sequence[str], split: str, root: Path, size: int | None, skip_corrupt: bool) -> Images:
    """One side of a set of ten classes, the first five for training: images (n, 1, h, w).

    Of ``train-images-idx3-ubyte``, ``t10k-images-idx3-ubyte`` and their labels, plain or with ``.gz``, those that are
    there are read, and joined. No picture can be damaged alone.
    """
    images, labels = [], []
    found = [part for part in ("train", "t10k") if _idx_path(root, part, "images-idx3").exists()]
    if not found:
        raise FileNotFoundError(f"{str(root)!r} holds neither train-images-idx3-ubyte nor t10k-images-idx3-ubyte (.gz)")
    for part in found:
        images.append(_read_idx(_idx_path(root, part, "images-idx3"), _IDX_IMAGES))
        labels.append(_read_idx(existing(_idx_path(root, part, "labels-idx1")), _IDX_LABELS))
        if len(images[-1]) != len(labels[-1]):
            raise ValueError(f"{str(root)!r} has {len(images[-1])} images but {len(labels[-1])} labels in {part}")
    pixels, y = np.concatenate(images), np.concatenate(labels).astype(np.int64)
    first = 5 if split == "test" else 0
    rows = (y >= first) & (y < first + 5)
    scaled = (pixels[rows] / 255.0).astype(np.float32)[:, None]
    return Images(resized(scaled, size), y[rows] - first, tuple(class_names[first : first + 5]))


def _idx_path(root: Path, part: str, kind: str) -> Path:
    plain = root / f"{part}-{kind}-ubyte"
    return plain if plain.exists() else plain.with_name(plain.name + ".gz")


def _read_idx(path: Path, magic: int) -> NDArray[np.uint8]:
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        head = np.frombuffer(content[:4], dtype=">i4")[0]
        n_axes = head % 256
        shape = np.frombuffer(content[4 : 4 + 4 * n_axes], dtype=">i4")
        values = np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * n_axes)
        if head != magic or len(values) != shape.prod():
            raise ValueError("it does not hold what its head says")
        return values.reshape(shape)
    except (OSError, EOFError, IndexError, ValueError) as error:
        raise ValueError(f"{str(path)!r} is not an idx file, or a damaged one: {error}") from None


def read_omniglot(split: str, root: Path, size: int | None, skip_corrupt: bool) -> Images:
    """One side of Omniglot: images (n, 1, size, size), by default of 28 × 28, with bright strokes.

    The test side leaves out the alphabets that both archives contain. With ``skip_corrupt`` pictures that cannot be
    decoded are left out, too, and told of.
    """
    archives = {side: existing(root / file) for side, file in _ARCHIVES.items()}
    shared = set()
    if split == "test":
        with _archive(archives["train"]) as other:
            shared = {path.split("/")[1] for path in other.namelist() if path.endswith(".png")}
    images, labels = [], []
    damaged: dict[int, str] = {}
    with _archive(archives[split]) as archive:
        paths = sorted(path for path in archive.namelist() if path.endswith(".png") and not _hidden(path))
        paths = [path for path in paths if path.split("/")[1] not in shared]
        for place, path in enumerate(paths):
            try:
                images.append(1.0 - _picture(archive, path, size or _SIZE))
            except ValueError as error:
                if not skip_corrupt:
                    raise
                damaged[place] = str(error)
                continue
            labels.append("/".join(path.split("/")[1:3]))
    told = skipped(damaged, len(paths), root)
    names, codes = numbered(labels, split, repr(str(root)), told)
    return Images(np.stack(images)[:, None], codes, tuple(names), remarks=told)


def _hidden(path: str) -> bool:
    return any(part.startswith((".", "__")) for part in path.split("/"))


def _archive(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile:
        raise ValueError(f"{str(path)!r} is not a zip file, or a damaged one") from None


def _picture(archive: zipfile.ZipFile, name: str, size: int) -> NDArray[np.float32]:
    """Grey values from 0 to 1."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(archive.read(name))) as image:
            small = image.convert("L").resize((size, size), Image.Resampling.BILINEAR)
    except Exception as error:  # of damaged archives and pictures, by many kinds of errors
        raise ValueError(f"the image {name!r} cannot be read: {first_line(error)}") from None
    return np.asarray(small, dtype=np.float32) / 255.0
