"""Omniglot from the published archives."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_ARCHIVES = {"train": "images_background_small1.zip", "test": "images_background_small2.zip"}
SIZE = 28


def read_omniglot(
    split: str, root: Path, size: int = SIZE
) -> tuple[NDArray[np.float32], NDArray[np.int64], tuple[str, ...]]:
    """One side of Omniglot: images (n, 1, size, size) with bright strokes, labels, class names.

    The test side leaves out the alphabets that both archives contain.

    Raises
    ------
    FileNotFoundError
        If an archive is missing.
    ValueError
        If an archive or a picture is damaged.
    """
    archives = {side: _existing(root / file) for side, file in _ARCHIVES.items()}
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
            images.append(1.0 - _picture(archive.read(path), path, size))
            labels.append(code["/".join(path.split("/")[1:3])])
    return np.stack(images)[:, None], np.array(labels, dtype=np.int64), tuple(names)


def _hidden(path: str) -> bool:
    return any(part.startswith((".", "__")) for part in path.split("/"))


def _existing(path: Path) -> Path:
    if not path.exists():
        raise FileNotFoundError(f"there is no file {str(path)!r}")
    return path


def _archive(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile:
        raise ValueError(f"{str(path)!r} is not a zip file, or a damaged one") from None


def _picture(content: bytes, name: str, size: int) -> NDArray[np.float32]:
    """Grey values from 0 to 1."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(content)) as image:
            small = image.convert("L").resize((size, size), Image.Resampling.BILINEAR)
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"the image {name!r} cannot be read: {error}") from None
    return np.asarray(small, dtype=np.float32) / 255.0
