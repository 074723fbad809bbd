"""Image sets with the splits that retrieval is evaluated on; nothing is downloaded."""

from __future__ import annotations

import gzip
import io
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

IMAGE_SETS = ("digits", "omniglot", "mnist")
SPLITS = ("train", "test")
_OMNIGLOT = {"train": "images_background_small1.zip", "test": "images_background_small2.zip"}
_OMNIGLOT_SIZE = 28
_IDX_IMAGES, _IDX_LABELS = 2051, 2049


@dataclass(frozen=True, eq=False)
class Images:
    """Labelled images.

    Parameters
    ----------
    images : float32 array of shape (n, channels, height, width)
        Values from 0 to 1.
    labels : int array of shape (n,)
        Positions in ``class_names``.
    class_names : tuple of str
    name : str
    """

    images: NDArray[np.float32]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    name: str

    def __len__(self) -> int:
        return len(self.images)


def load_images(
    name: str, split: str = "train", root: str | os.PathLike[str] | None = None, size: int | None = None
) -> Images:
    """Load one side of an image set.

    Parameters
    ----------
    name : {"digits", "omniglot", "mnist"}
        ``digits`` comes with scikit-learn, 8 × 8: half of the instances of every class are for training. ``omniglot``
        reads the published ``images_background_small1.zip`` (train) and ``…_small2.zip`` (test, without the alphabets
        that both contain) at 28 × 28, strokes bright. ``mnist`` reads published idx files; the digits 0 to 4 are for
        training, 5 to 9 for testing.
    split : {"train", "test"}, default="train"
        The two sides of ``omniglot`` and ``mnist`` have no class in common.
    root : path, optional
        Folder with the files of the set.

    Raises
    ------
    ValueError
        If the set or split is unknown, ``root`` is missing, or a file is damaged.
    FileNotFoundError
        If the folder lacks a file.

    Examples
    --------
    >>> load_images("digits").images.shape
    (901, 1, 8, 8)
    """
    if name not in IMAGE_SETS:
        raise ValueError(f"unknown image set {name!r}; known are {', '.join(IMAGE_SETS)}")
    if split not in SPLITS:
        raise ValueError(f"split must be 'train' or 'test', got {split!r}")
    if name == "digits":
        return _digits(split)
    if root is None:
        raise ValueError(f"{name} needs root, the folder with its files: nothing is downloaded")
    return _omniglot(split, Path(root)) if name == "omniglot" else _mnist(split, Path(root))


def _digits(split: str) -> Images:
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    place = np.empty(len(y), dtype=np.int64)
    for label in np.unique(y):
        own = order[y[order] == label]
        place[own] = np.arange(len(own))
    rows = place % 2 == (split == "test")
    images = (X[rows] / 16.0).astype(np.float32).reshape(-1, 1, 8, 8)
    return Images(images, y[rows].astype(np.int64), tuple(map(str, range(10))), "digits")


def _omniglot(split: str, root: Path) -> Images:
    archives = {side: _existing(root / file) for side, file in _OMNIGLOT.items()}
    skipped = set()
    if split == "test":
        with _archive(archives["train"]) as other:
            skipped = {path.split("/")[1] for path in other.namelist() if path.endswith(".png")}
    images, labels = [], []
    with _archive(archives[split]) as archive:
        paths = sorted(path for path in archive.namelist() if path.endswith(".png") and not _hidden(path))
        paths = [path for path in paths if path.split("/")[1] not in skipped]
        names = sorted({"/".join(path.split("/")[1:3]) for path in paths})
        code = {name: i for i, name in enumerate(names)}
        for path in paths:
            images.append(1.0 - _picture(archive.read(path), path))
            labels.append(code["/".join(path.split("/")[1:3])])
    return Images(np.stack(images)[:, None], np.array(labels, dtype=np.int64), tuple(names), "omniglot")


def _hidden(path: str) -> bool:
    return any(part.startswith((".", "__")) for part in path.split("/"))


def _archive(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile:
        raise ValueError(f"{str(path)!r} is not a zip file, or a damaged one") from None


def _picture(content: bytes, name: str) -> NDArray[np.float32]:
    """Grey values from 0 to 1 at the size of the set."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(content)) as image:
            small = image.convert("L").resize((_OMNIGLOT_SIZE, _OMNIGLOT_SIZE), Image.Resampling.BILINEAR)
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"the image {name!r} cannot be read: {error}") from None
    return np.asarray(small, dtype=np.float32) / 255.0


def _mnist(split: str, root: Path) -> Images:
    images, labels = [], []
    found = [part for part in ("train", "t10k") if _idx_path(root, part, "images-idx3").exists()]
    if not found:
        raise FileNotFoundError(f"{str(root)!r} holds neither train-images-idx3-ubyte nor t10k-images-idx3-ubyte (.gz)")
    for part in found:
        images.append(_read_idx(_idx_path(root, part, "images-idx3"), _IDX_IMAGES))
        labels.append(_read_idx(_existing(_idx_path(root, part, "labels-idx1")), _IDX_LABELS))
        if len(images[-1]) != len(labels[-1]):
            raise ValueError(f"{str(root)!r} has {len(images[-1])} images but {len(labels[-1])} labels in {part}")
    pixels, y = np.concatenate(images), np.concatenate(labels).astype(np.int64)
    rows = (y >= 5) == (split == "test")
    scaled = (pixels[rows] / 255.0).astype(np.float32)[:, None]
    return Images(scaled, y[rows] - 5 * (split == "test"), tuple("01234" if split == "train" else "56789"), "mnist")


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


def _existing(path: Path) -> Path:
    if not path.exists():
        raise FileNotFoundError(f"there is no file {str(path)!r}")
    return path
