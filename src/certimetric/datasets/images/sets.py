"""Image sets with the splits that retrieval is evaluated on, in one list; nothing is downloaded."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from certimetric.base.warnings import warn
from certimetric.base.wording import did_you_mean
from certimetric.datasets.data_root import VARIABLE, array_file, folder_of
from certimetric.datasets.images.archives import DIGITS, FASHION, read_idx_set, read_omniglot
from certimetric.datasets.images.arrays import read_npz
from certimetric.datasets.images.layouts import (
    find_cars196,
    find_cub,
    find_sop,
    find_visualphish,
    read_folder,
    read_layout,
)
from certimetric.datasets.images.pixels import check_size, resized
from certimetric.datasets.images.side import Images

__all__ = ["IMAGE_SETS", "ImageSet", "Images", "load_images"]

SPLITS = ("train", "test")


@dataclass(frozen=True)
class ImageSet:
    """A set that is loaded by its name.

    Parameters
    ----------
    read : callable
        Of the side, the folder of the set, the size asked for or None, and whether damaged pictures are skipped, makes
        the :class:`Images` of one side. It raises a FileNotFoundError where files are missing, and a ValueError where
        they are damaged, do not fit each other, or leave fewer than two classes.
    folders : tuple of str
        Under what names it lies in a folder of data sets, the first that is there counts.
    bundled : bool
        Whether it needs no folder.

    Examples
    --------
    >>> load_images("digits").images.shape, IMAGE_SETS["digits"].bundled
    ((901, 1, 8, 8), True)
    """

    read: Callable[[str, Any, int | None, bool], Images]
    folders: tuple[str, ...] = ()
    bundled: bool = False


def _digits(split: str, root: None, size: int | None, skip_corrupt: bool) -> Images:
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    place = np.empty(len(y), dtype=np.int64)
    for label in np.unique(y):
        own = order[y[order] == label]
        place[own] = np.arange(len(own))
    rows = place % 2 == (split == "test")
    images = (X[rows] / 16.0).astype(np.float32).reshape(-1, 1, 8, 8)
    return Images(resized(images, size), y[rows].astype(np.int64), tuple(DIGITS))


IMAGE_SETS = {
    "digits": ImageSet(_digits, bundled=True),
    "omniglot": ImageSet(read_omniglot, ("images/omniglot", "omniglot")),
    "mnist": ImageSet(partial(read_idx_set, DIGITS), ("images/mnist", "mnist")),
    "fashion-mnist": ImageSet(partial(read_idx_set, FASHION), ("images/fashion-mnist", "fashion-mnist")),
    "cub": ImageSet(partial(read_layout, find_cub), ("CUB_200_2011", "cub", "images/cub")),
    "cars196": ImageSet(partial(read_layout, find_cars196), ("images/cars196", "cars196")),
    "sop": ImageSet(partial(read_layout, find_sop), ("Stanford_Online_Products", "sop", "images/sop")),
    "visualphish": ImageSet(partial(read_layout, find_visualphish), ("images/visualphish", "visualphish")),
    "folder": ImageSet(read_folder),
}
"""All image sets by name: a new one is a reader and a line here."""


def load_images(
    name: str | os.PathLike[str],
    split: str = "train",
    root: str | os.PathLike[str] | None = None,
    size: int | None = None,
    skip_corrupt: bool = False,
) -> Images:
    """Load one side of an image set.

    Parameters
    ----------
    name : str or path
        Name of a set, or path of a folder or of a file that ends in ``.npz``; see Notes.
    split : {"train", "test"}, default="train"
        The two sides have no class in common, but for ``digits``.
    root : path, optional
        Folder with the files of the set, or one that holds it under its name, as ``omniglot/`` or ``images/omniglot/``.
        By default the folder that the environment variable ``CERTIMETRIC_DATA`` names, which must hold it.
    size : int, optional
        The shorter side is brought to this size, bilinear with antialiasing, and the centre is cut out:
        (size, size). By default 224 for the sets that are folders of pictures; others keep their own size.
    skip_corrupt : bool, default=False
        Leave out pictures that cannot be decoded, and say how many. All of them are decoded for it once.

    Returns
    -------
    images : Images
        Of ``cub``, ``cars196``, ``sop``, ``visualphish`` and ``folder`` the images are `ImageFiles`: red, green and
        blue, decoded where rows are taken.

    Raises
    ------
    ValueError
        If the set or split is unknown, ``root`` is not given and the variable leads to no such set, a file is damaged,
        lists do not fit each other, or a side has fewer than two classes. A damaged picture of `ImageFiles` is named
        when its row is taken, unless ``skip_corrupt`` leaves it out.
    FileNotFoundError
        If a file is missing.

    Warns
    -----
    UserWarning
        For each of the ``remarks`` of the result: files left out, pictures skipped.

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
        training. The path of a folder as the name is this set with that root. Pictures in folders inside that of their
        class belong to it, too; files that have no ending of a picture, and pictures in no class, are left out. Both
        are remarked upon.
    a file that ends in ``.npz``
        ``images`` (uint8, uint16, or floating from 0 to 1; (n, h, w), (n, h, w, 3), (n, h, w, 4), the last of them
        opacity, or (n, c, h, w)), or ``jpeg`` (the bytes of all pictures, uint8) with ``offsets`` (n + 1 of them);
        ``labels``; and, if wanted, ``zero_shot_test`` (bool, the test side; by default the second half of the classes)
        and ``class_names``; ``ids``, equal for the same picture, and ``groups``, of a camera or a video, say, within
        which no query shall find anything. Nothing is unpickled.

    Pictures are decoded as a viewer shows them: upright by their EXIF orientation, on white where they are transparent,
    the first frame of several; grey values of 16 bits are divided by 65535.

    Examples
    --------
    >>> load_images("digits").images.shape
    (901, 1, 8, 8)
    >>> load_images("digits", "test", size=16).images.shape
    (896, 1, 16, 16)
    """
    loaded = _load(os.fspath(name), split, root, size, skip_corrupt)
    for remark in loaded.remarks:
        warn(remark)
    return loaded


def _load(name: str, split: str, root: str | os.PathLike[str] | None, size: int | None, skip_corrupt: bool) -> Images:
    if split not in SPLITS:
        raise ValueError(f"split must be 'train' or 'test', got {split!r}")
    if size is not None:
        check_size(size)
    if name.endswith(".npz"):
        path = array_file(name, root)
        return replace(read_npz(split, path, size, skip_corrupt), name=path.stem)
    if name not in IMAGE_SETS and root is None and Path(name).is_dir():
        name, root = "folder", name
    if name not in IMAGE_SETS:
        known = f"{', '.join(IMAGE_SETS)}, and paths of folders and of .npz files"
        raise ValueError(f"unknown image set {name!r}{did_you_mean(name, IMAGE_SETS)}; known are {known}")
    named = IMAGE_SETS[name]
    if not named.bundled and (root := folder_of(named.folders, root)) is None:
        raise ValueError(
            f"{name} needs root (--data-root), the folder with its files: nothing is downloaded, and {VARIABLE} leads "
            f"to none"
        )
    return replace(named.read(split, root, size, skip_corrupt), name=name)
