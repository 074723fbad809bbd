"""Image sets with the splits that retrieval is evaluated on; nothing is downloaded."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from certimetric.datasets.idx import read_idx_set
from certimetric.datasets.image_arrays import read_npz
from certimetric.datasets.omniglot import SIZE as OMNIGLOT_SIZE
from certimetric.datasets.omniglot import read_omniglot
from certimetric.datasets.pixels import check_size, resized
from certimetric.datasets.wording import did_you_mean

IMAGE_SETS = ("digits", "omniglot", "mnist", "fashion-mnist")
SPLITS = ("train", "test")


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
    name: str | os.PathLike[str],
    split: str = "train",
    root: str | os.PathLike[str] | None = None,
    size: int | None = None,
) -> Images:
    """Load one side of an image set.

    Parameters
    ----------
    name : {"digits", "omniglot", "mnist", "fashion-mnist"} or path of an .npz file
        ``digits`` comes with scikit-learn, 8 × 8: half of the instances of every class are for training. ``omniglot``
        reads the published ``images_background_small1.zip`` (train) and ``…_small2.zip`` (test, without the alphabets
        that both contain) at 28 × 28, strokes bright. ``mnist`` and ``fashion-mnist`` read published idx files; the
        classes 0 to 4 are for training, 5 to 9 for testing. A file ends in ``.npz``: it holds ``images`` (uint8, or
        floating from 0 to 1; (n, h, w), (n, h, w, 3) or (n, c, h, w)), or ``jpeg`` (the bytes of all pictures, uint8)
        with ``offsets`` (n + 1); ``labels``; and, if wanted, ``zero_shot_test`` (bool, the test side; by default the
        second half of the classes) and ``class_names``.
    split : {"train", "test"}, default="train"
        The two sides have no class in common, but for ``digits``.
    root : path, optional
        Folder with the files of the set.
    size : int, optional
        The shorter side is brought to this size, bilinear with antialiasing, and the centre is cut out:
        (size, size). By default pictures keep the size of the set.

    Raises
    ------
    ValueError
        If the set or split is unknown, ``root`` is missing, or a file is damaged.
    FileNotFoundError
        If a file is missing.

    Examples
    --------
    >>> load_images("digits").images.shape
    (901, 1, 8, 8)
    >>> load_images("digits", "test", size=16).images.shape
    (896, 1, 16, 16)
    """
    if split not in SPLITS:
        raise ValueError(f"split must be 'train' or 'test', got {split!r}")
    check_size(size)
    name = os.fspath(name)
    if name.endswith(".npz"):
        path = Path(name) if root is None else Path(root) / name
        return Images(*read_npz(path, split, size), path.stem)
    if name not in IMAGE_SETS:
        known = f"{', '.join(IMAGE_SETS)}, and files that end in .npz"
        raise ValueError(f"unknown image set {name!r}{did_you_mean(name, IMAGE_SETS)}; known are {known}")
    if name == "digits":
        images, labels, names = _digits(split)
        return Images(resized(images, size), labels, names, name)
    if root is None:
        raise ValueError(f"{name} needs root, the folder with its files: nothing is downloaded")
    if name == "omniglot":
        return Images(*read_omniglot(split, Path(root), size or OMNIGLOT_SIZE), name)
    images, labels, names = read_idx_set(name, split, Path(root))
    return Images(resized(images, size), labels, names, name)


def _digits(split: str) -> tuple[NDArray[np.float32], NDArray[np.int64], tuple[str, ...]]:
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    place = np.empty(len(y), dtype=np.int64)
    for label in np.unique(y):
        own = order[y[order] == label]
        place[own] = np.arange(len(own))
    rows = place % 2 == (split == "test")
    images = (X[rows] / 16.0).astype(np.float32).reshape(-1, 1, 8, 8)
    return images, y[rows].astype(np.int64), tuple(map(str, range(10)))
