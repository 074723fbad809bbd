"""Omniglot from the published archives."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from certimetric.base.wording import first_line
from certimetric.datasets.images.side import Images, existing, numbered, skipped

_ARCHIVES = {"train": "images_background_small1.zip", "test": "images_background_small2.zip"}
_SIZE = 28


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
    names, codes = numbered(labels, split, repr(str(root)))
    return Images(np.stack(images)[:, None], codes, tuple(names), remarks=skipped(damaged, len(paths), root))


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
