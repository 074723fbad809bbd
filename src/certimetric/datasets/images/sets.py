"""Image sets with the splits that retrieval is evaluated on; nothing is downloaded."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from certimetric.base.arrays import Indices
from certimetric.base.wording import counted, did_you_mean
from certimetric.datasets.data_root import VARIABLE, array_file, image_folder
from certimetric.datasets.images.arrays import read_npz
from certimetric.datasets.images.class_split import check_two_classes
from certimetric.datasets.images.files import ImageFiles
from certimetric.datasets.images.idx import read_idx_set
from certimetric.datasets.images.layouts import LAYOUTS, read_layout, remarks
from certimetric.datasets.images.omniglot import SIZE as OMNIGLOT_SIZE
from certimetric.datasets.images.omniglot import read_omniglot
from certimetric.datasets.images.pixels import check_size, resized

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
    remarks : tuple of str
        What was left out, or taken in another way than it may be meant, in sentences; nothing, as a rule.
    ids, groups : arrays of shape (n,), whole numbers or names, optional
        Of an ``.npz`` file that has them: equal ids are the same picture, and no query finds an item of its group.
    """

    images: NDArray[np.float32] | ImageFiles
    labels: Indices
    class_names: tuple[str, ...]
    name: str
    remarks: tuple[str, ...] = ()
    ids: NDArray[Any] | None = None
    groups: NDArray[Any] | None = None

    def __len__(self) -> int:
        return len(self.images)


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
    loaded = _load(name, split, root, size, skip_corrupt)
    for remark in loaded.remarks:
        warnings.warn(remark, stacklevel=2)
    return loaded


def _load(
    name: str | os.PathLike[str],
    split: str,
    root: str | os.PathLike[str] | None,
    size: int | None,
    skip_corrupt: bool,
) -> Images:
    if split not in SPLITS:
        raise ValueError(f"split must be 'train' or 'test', got {split!r}")
    if size is not None:
        check_size(size)
    name = os.fspath(name)
    if name.endswith(".npz"):
        path = array_file(name, root)
        images, labels, names, damaged, known = read_npz(path, split, size, skip_corrupt)
        told = _skipped(damaged, len(labels) + len(damaged), str(path))
        return Images(images, labels, names, path.stem, told, **known)
    if name not in IMAGE_SETS and root is None and Path(name).is_dir():
        name, root = "folder", name
    if name not in IMAGE_SETS:
        known = f"{', '.join(IMAGE_SETS)}, and paths of folders and of .npz files"
        raise ValueError(f"unknown image set {name!r}{did_you_mean(name, IMAGE_SETS)}; known are {known}")
    if name == "digits":
        images, labels, names = _digits(split)
        return Images(resized(images, size), labels, names, name)
    if (folder := image_folder(name, root)) is None:
        raise ValueError(
            f"{name} needs root, the folder with its files: nothing is downloaded, and {VARIABLE} leads to none"
        )
    if name in LAYOUTS:
        paths, labels, names = read_layout(name, split, folder)
        files = ImageFiles(paths, FILES_SIZE if size is None else size)
        told = tuple(remarks(folder)) if name == "folder" else ()
        if not skip_corrupt or not (damaged := files.damaged()):
            return Images(files, labels, names, name, told)
        sound = np.setdiff1d(np.arange(len(files)), list(damaged))
        own, codes = np.unique(labels[sound], return_inverse=True)
        check_two_classes(len(own), split, repr(str(folder)))
        told += _skipped(damaged, len(files), str(folder))
        kept = ImageFiles([files.paths[row] for row in sound], files.size)
        return Images(kept, codes.astype(np.int64), tuple(names[code] for code in own), name, told)
    if name == "omniglot":
        images, labels, names, damaged = read_omniglot(split, folder, size or OMNIGLOT_SIZE, skip_corrupt)
        return Images(images, labels, names, name, _skipped(damaged, len(labels) + len(damaged), str(folder)))
    images, labels, names = read_idx_set(name, split, folder)
    return Images(resized(images, size), labels, names, name)


def _skipped(damaged: Mapping[int, str], total: int, where: str) -> tuple[str, ...]:
    """What to say of damaged pictures that were skipped: how many, and the reason of the first."""
    if not damaged:
        return ()
    first = damaged[min(damaged)]
    return (f"{len(damaged)} of {counted(total, 'picture')} of {where!r} skipped, which cannot be decoded: {first}",)


def _digits(split: str) -> tuple[NDArray[np.float32], Indices, tuple[str, ...]]:
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
