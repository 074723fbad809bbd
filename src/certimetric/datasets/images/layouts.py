"""Folders of pictures as the sets were published: which file belongs to which class, and to which side."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from certimetric.base.wording import counted, first_line, listing
from certimetric.datasets.images.files import FILES_SIZE, ImageFiles
from certimetric.datasets.images.side import Images, existing, half_of, numbered, skipped

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
_CUB_TRAIN, _CARS_TRAIN = 100, 98

# A picture and the class it belongs to, a number or a name.
Found = list[tuple[Path, Any]]
Finder = Callable[[str, Path], tuple[Found, dict[Any, str]]]


def read_layout(find: Finder, split: str, root: Path, size: int | None, skip_corrupt: bool) -> Images:
    """One side of a set of files, which are decoded where rows are taken.

    ``find`` gives the pictures of a side with their classes, and names of classes that are not called as they are told.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {str(root)!r}")
    found, names = find(split, root)
    own, labels = numbered([key for _, key in found], split, repr(str(root)))
    missing = [path for path, _ in found if not path.is_file()]
    if missing:
        raise FileNotFoundError(
            f"there is no file {str(missing[0])!r}: {len(missing)} of {counted(len(found), 'picture')} are missing"
        )
    files, told = ImageFiles([path for path, _ in found], size or FILES_SIZE), ()
    if skip_corrupt and (damaged := files.damaged()):
        sound = [pair for row, pair in enumerate(found) if row not in damaged]
        told = skipped(damaged, len(found), root)
        own, labels = numbered([key for _, key in sound], split, repr(str(root)), told)
        files = ImageFiles([path for path, _ in sound], files.size)
    return Images(files, labels, tuple(names.get(key, str(key)) for key in own), remarks=told)


def read_folder(split: str, root: Path, size: int | None, skip_corrupt: bool) -> Images:
    """One side of a folder of folders, with remarks on what is not plain about it."""
    side = read_layout(_folder, split, root, size, skip_corrupt)
    return replace(side, remarks=(*_remarks(root), *side.remarks))


def find_cub(split: str, root: Path) -> tuple[Found, dict[Any, str]]:
    """CUB-200-2011: the first 100 classes are for training."""
    root = _home(root, "CUB_200_2011", "images.txt")
    paths, classes = _pairs(root / "images.txt"), _pairs(root / "image_class_labels.txt")
    names = {_whole(key, root / "classes.txt"): value for key, value in _pairs(root / "classes.txt").items()}
    if paths.keys() != classes.keys():
        odd = min(paths.keys() ^ classes.keys())
        raise ValueError(
            f"{str(root)!r} has {counted(len(paths), 'image')} in images.txt but {counted(len(classes), 'label')} "
            f"in image_class_labels.txt: image {odd!r} is in one of them only"
        )
    found = [
        (root / "images" / path, _whole(classes[key], root / "image_class_labels.txt")) for key, path in paths.items()
    ]
    return [(path, key) for path, key in found if (key <= _CUB_TRAIN) == (split == "train")], names


def find_cars196(split: str, root: Path) -> tuple[Found, dict[Any, str]]:
    """Cars196: the first 98 classes are for training; the boxes around the cars are not used."""
    from scipy.io import loadmat

    path = existing(root / "cars_annos.mat")
    try:
        held = loadmat(path, squeeze_me=True)
        rows = np.atleast_1d(held["annotations"])
        files = [str(file) for file in rows["relative_im_path"]]
        keys = [int(key) for key in rows["class"]]
        names = {i + 1: str(name) for i, name in enumerate(np.atleast_1d(held["class_names"]))}
    except Exception as error:  # scipy raises errors of many kinds on damaged files
        raise ValueError(f"{str(path)!r} is not the file of annotations of Cars196: {first_line(error)}") from None
    found = [(root / file, key) for file, key in zip(files, keys)]
    return [(file, key) for file, key in found if (key <= _CARS_TRAIN) == (split == "train")], names


def find_sop(split: str, root: Path) -> tuple[Found, dict[Any, str]]:
    """Stanford Online Products: the published lists are class-disjoint."""
    root = _home(root, "Stanford_Online_Products", "Ebay_train.txt")
    sides: dict[str, Found] = {}
    for side in ("train", "test"):
        path = root / f"Ebay_{side}.txt"
        header, *lines = _lines(path, 4)
        if header != ("image_id", "class_id", "super_class_id", "path"):
            raise ValueError(f"{str(path)!r} must begin with 'image_id class_id super_class_id path', got {header}")
        sides[side] = [(root / file, _whole(key, path)) for _, key, _, file in lines]
    _check_disjoint({key for _, key in sides["train"]}, {key for _, key in sides["test"]}, root)
    return sides[split], {}


def find_visualphish(split: str, root: Path) -> tuple[Found, dict[Any, str]]:
    """VisualPhish: pages of brands and of those who imitate them; the first half of the brands is for training."""
    root = _home(root, "VisualPhish", "trusted_list")
    found = []
    for part in ("trusted_list", "phishing"):
        if not (root / part).is_dir():
            raise FileNotFoundError(f"there is no folder {str(root / part)!r}")
        found += _by_folder(root / part, may_be_empty=part == "phishing")  # not every brand is imitated
    chosen = set(half_of(sorted({key for _, key in found}), split))
    return [(path, key) for path, key in sorted(found, key=lambda pair: pair[1]) if key in chosen], {}


def _folder(split: str, root: Path) -> tuple[Found, dict[Any, str]]:
    """One folder for each class, in ``train`` and ``test`` or all together."""
    present = [side for side in ("train", "test") if _folders(root / side)]
    if len(present) == 1:
        other = "test" if present == ["train"] else "train"
        raise ValueError(f"{str(root)!r} has a folder {present[0]!r} with classes in it, but none {other!r}")
    if present:
        sides = {side: _by_folder(root / side) for side in present}
        _check_disjoint({key for _, key in sides["train"]}, {key for _, key in sides["test"]}, root)
        return sides[split], {}
    found = _by_folder(root)
    chosen = set(half_of(sorted({key for _, key in found}), split))
    return [(path, key) for path, key in found if key in chosen], {}


def _remarks(root: Path) -> list[str]:
    """What is not plain about a ``folder`` set, in sentences: files that are left out, pictures that lie deeper.

    Hidden files and folders are not spoken of.
    """
    sides = [root / side for side in ("train", "test") if _folders(root / side)] or [root]
    taken = {path: folder for side in sides for folder in _folders(side) for path in _files(folder)}
    taken = {path: folder for path, folder in taken.items() if _is_picture(path)}
    found = []
    if others := [path for path in _files(root) if path not in taken]:
        stray = [path for path in others if _is_picture(path)]
        shown = listing([path.relative_to(root) for path in stray or others], limit=3)
        kind = f", {counted(len(stray), 'picture')} outside of the folders of classes among them" if stray else ""
        found.append(f"{counted(len(others), 'file')} in {str(root)!r} left out{kind}: {shown}")
    if deeper := [path.relative_to(root) for path, folder in taken.items() if path.parent != folder]:
        told = f"{counted(len(deeper), 'picture')} in {str(root)!r} in folders inside those of classes"
        found.append(f"{told}, taken for the outer class: {listing(deeper, limit=3)}")
    return found


def _by_folder(root: Path, may_be_empty: bool = False) -> Found:
    """The pictures in the folders of a folder, and in folders in these, in order, each with the name of its folder."""
    found: Found = []
    for folder in _folders(root):
        pictures = [path for path in _files(folder) if _is_picture(path)]
        if not pictures and not may_be_empty:
            raise ValueError(
                f"the folder {str(folder)!r} of a class holds no picture: no file that ends in {', '.join(PICTURES)}"
            )
        found += [(path, folder.name) for path in pictures]
    if not found and not may_be_empty:
        raise ValueError(f"{str(root)!r} holds no folders, one for each class")
    return found


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not _hidden(path)) if root.is_dir() else []


def _files(folder: Path) -> list[Path]:
    """The files in a folder and in its folders, in order, but for hidden ones."""
    found: list[Path] = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not _hidden(Path(name))]
        found += [Path(place, name) for name in files if not _hidden(Path(name))]
    return sorted(found)


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in PICTURES


def _hidden(path: Path) -> bool:
    return path.name.startswith((".", "__"))


def _home(root: Path, archive: str, sign: str) -> Path:
    """The folder that has ``sign`` in it: ``root``, or the one in it that the published archive unpacks to."""
    return root / archive if not (root / sign).exists() and (root / archive / sign).exists() else root


def _lines(path: Path, n_parts: int) -> list[tuple[str, ...]]:
    """The lines of a list, each in its parts; the last may have spaces in it."""
    try:
        text = existing(path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{str(path)!r} is not a list in UTF-8") from None
    parts = [tuple(line.split(maxsplit=n_parts - 1)) for line in text.splitlines() if line.strip()]
    if bad := [i for i, part in enumerate(parts) if len(part) != n_parts]:
        raise ValueError(f"{str(path)!r} must have {n_parts} entries in each line, got {len(parts[bad[0]])} in one")
    if not parts:
        raise ValueError(f"{str(path)!r} is empty")
    return parts


def _pairs(path: Path) -> dict[str, str]:
    return {part[0]: part[1] for part in _lines(path, 2)}


def _whole(text: str, path: Path) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{str(path)!r} must number its classes, got {text!r}") from None


def _check_disjoint(train: Iterable[Any], test: Iterable[Any], root: Path) -> None:
    if shared := sorted(set(train) & set(test)):
        raise ValueError(f"train and test of {str(root)!r} share {counted(len(shared), 'class')}: {listing(shared)}")
