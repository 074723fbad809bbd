"""Omniglot from the published archives."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from certimetric.base.arrays import Indices
from certimetric.base.wording import first_line
from certimetric.datasets.images.class_split import check_two_classes

_ARCHIVES = {"train": "images_background_small1.zip", "test": "images_background_small2.zip"}
SIZE = 28


def read_omniglot(
    split: str, root: Path, size: int = SIZE, skip_corrupt: bool = False
) -> tuple[NDArray[np.float32], Indices, tuple[str, ...], dict[int, str]]:
    """One side of Omniglot: images (n, 1, size, size) with bright strokes, labels, class names, pictures left out.

    The test side leaves out the alphabets that both archives contain. With ``skip_corrupt`` pictures that cannot be
    decoded are left out, too, and told by their place with the reason of each.

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
    damaged: dict[int, str] = {}
    with _archive(archives[split]) as archive:
        paths = sorted(path for path in archive.namelist() if path.endswith(".png") and not _hidden(path))
        paths = [path for path in paths if path.split("/")[1] not in skipped]
        for place, path in enumerate(paths):
            try:
                images.append(1.0 - _picture(archive, path, size))
            except ValueError as error:
                if not skip_corrupt:
                    raise
                damaged[place] = str(error)
                continue
            labels.append("/".join(path.split("/")[1:3]))
    names, codes = np.unique(labels, return_inverse=True)
    check_two_classes(len(names), split, repr(str(root)))
    return np.stack(images)[:, None], codes.astype(np.int64), tuple(map(str, names)), damaged


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


def _picture(archive: zipfile.ZipFile, name: str, size: int) -> NDArray[np.float32]:
    """Grey values from 0 to 1."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(archive.read(name))) as image:
            small = image.convert("L").resize((size, size), Image.Resampling.BILINEAR)
    except Exception as error:  # of damaged archives and pictures, by many kinds of errors
        raise ValueError(f"the image {name!r} cannot be read: {first_line(error)}") from None
    return np.asarray(small, dtype=np.float32) / 255.0
