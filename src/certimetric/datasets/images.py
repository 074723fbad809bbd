"""Image sets with the splits that retrieval is evaluated on; nothing is downloaded."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from certimetric.datasets.idx import read_idx_set
from certimetric.datasets.image_arrays import read_npz
from certimetric.datasets.image_files import ImageFiles
from certimetric.datasets.image_layouts import LAYOUTS, read_layout
from certimetric.datasets.omniglot import SIZE as OMNIGLOT_SIZE
from certimetric.datasets.omniglot import read_omniglot
from certimetric.datasets.pixels import check_size, resized
from certimetric.datasets.wording import did_you_mean

IMAGE_SETS = ("digits", "omniglot", "mnist", "fashion-mnist", *LAYOUTS)
SPLITS = ("train", "test")
FILES_SIZE = 224


@dataclass(frozen=True, eq=False)
class Images:
    """Labelled images.

    Parameters
    ----------
    images : float32 array of shape (n, channels, height, width), or ImageFiles
        Values from 0 to 1. `ImageFiles` of large sets have the same shape and are decoded where rows are taken.
    labels : int array of shape (n,)
        Positions in ``class_names``.
    class_names : tuple of str
    name : str
    """

    images: NDArray[np.float32] | ImageFiles
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
    name : str or path
        Name of a set, or path of a folder or of a file that ends in ``.npz``; see Notes.
    split : {"train", "test"}, default="train"
        The two sides have no class in common, but for ``digits``.
    root : path, optional
        Folder with the files of the set; every set but ``digits`` and an .npz file needs it.
    size : int, optional
        The shorter side is brought to this size, bilinear with antialiasing, and the centre is cut out:
        (size, size). By default 224 for the sets that are folders of pictures; others keep their own size.

    Returns
    -------
    images : Images
        Of ``cub``, ``cars196``, ``sop``, ``visualphish`` and ``folder`` the images are `ImageFiles`: red, green and
        blue, decoded where rows are taken.

    Raises
    ------
    ValueError
        If the set or split is unknown, ``root`` is not given, a file is damaged, lists do not fit each other, or a side
        has fewer than two classes. A damaged picture of `ImageFiles` is named when its row is taken.
    FileNotFoundError
        If a file is missing.

    Notes
    -----
    ``digits``
        With scikit-learn, 8 × 8; half of the instances of every class are for training.
    ``omniglot``
        The published ``images_background_small1.zip`` (train) and ``…_small2.zip`` (test, without the alphabets that
        both contain), at 28 × 28, strokes bright.
    ``mnist``, ``fashion-mnist``
        The published idx files, with ``.gz`` or without; classes 0 to 4 are for training, 5 to 9 for testing.
    ``cub``
        CUB-200-2011: ``images.txt``, ``image_class_labels.txt``, ``classes.txt`` and ``images/``; the first 100 classes
        are for training.
    ``cars196``
        ``cars_annos.mat`` and ``car_ims/``; the first 98 classes are for training. The boxes are not used.
    ``sop``
        Stanford Online Products: ``Ebay_train.txt``, ``Ebay_test.txt`` and the folders they name.
    ``visualphish``
        ``trusted_list/BRAND/*`` and ``phishing/BRAND/*``; the first half of the brands in the order of their names is
        for training. ``images.paths`` tells the two apart.
    ``folder``
        ``train/CLASS/*`` and ``test/CLASS/*``, or ``CLASS/*``, of which the first half in the order of names is for
        training. The path of a folder as the name is this set with that root.
    a file that ends in ``.npz``
        ``images`` (uint8, or floating from 0 to 1; (n, h, w), (n, h, w, 3) or (n, c, h, w)), or ``jpeg`` (the bytes of
        all pictures, uint8) with ``offsets`` (n + 1 of them); ``labels``; and, if wanted, ``zero_shot_test`` (bool, the
        test side; by default the second half of the classes) and ``class_names``. Nothing is unpickled.

    Examples
    --------
    >>> load_images("digits").images.shape
    (901, 1, 8, 8)
    >>> load_images("digits", "test", size=16).images.shape
    (896, 1, 16, 16)
    """
    if split not in SPLITS:
        raise ValueError(f"split must be 'train' or 'test', got {split!r}")
    if size is not None:
        check_size(size)
    name = os.fspath(name)
    if name.endswith(".npz"):
        path = Path(name) if root is None else Path(root) / name
        return Images(*read_npz(path, split, size), path.stem)
    if name not in IMAGE_SETS and root is None and Path(name).is_dir():
        name, root = "folder", name
    if name not in IMAGE_SETS:
        known = f"{', '.join(IMAGE_SETS)}, and paths of folders and of .npz files"
        raise ValueError(f"unknown image set {name!r}{did_you_mean(name, IMAGE_SETS)}; known are {known}")
    if name == "digits":
        images, labels, names = _digits(split)
        return Images(resized(images, size), labels, names, name)
    if root is None:
        raise ValueError(f"{name} needs root, the folder with its files: nothing is downloaded")
    if name in LAYOUTS:
        paths, labels, names = read_layout(name, split, Path(root))
        return Images(ImageFiles(paths, FILES_SIZE if size is None else size), labels, names, name)
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
