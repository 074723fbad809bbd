"""The image sets of the suites, named once: where each lies, and how many pictures and classes it must have."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from certimetric.bench.datasets import Found
from certimetric.datasets.data_root import first_folder
from certimetric.datasets.images.files import ImageFiles
from certimetric.datasets.images.sets import IMAGE_SETS, Images, load_images

DEEP = ("torch", "pytorch_metric_learning", "lightning", "PIL")


@dataclass(frozen=True)
class NamedImages:
    """An image set as the experiments mean it, under its name for ``load_images``."""

    name: str
    folders: tuple[str, ...]  # where it may lie in the data root, the first that is there counts; none if it is bundled
    images: tuple[int, int] | None  # of training and test side; None where parts of the set may be at hand
    classes: tuple[int, int]
    size: int | None = None  # side of the pictures in pixels; None for that of the set
    backbones: tuple[str, ...] = ()  # packages of which the model that the experiments use on this set needs one

    @property
    def numbers(self) -> int:
        """Sets of pictures come in the order in which they are named."""
        return 0

    def find(self, root: Path | None, *, network: bool) -> Found:
        """Bundled, or in one of its folders; pictures are never downloaded."""
        source = ""
        if self.folders:
            if (folder := first_folder(root, self.folders)) is None:
                raise FileNotFoundError(f"there is no folder {' or '.join(self.folders)} in the data root")
            source = str(folder.resolve())
        if lacking := [package for package in DEEP if find_spec(package) is None]:
            raise ImportError(f'needs {", ".join(lacking)}: pip install "certimetric[deep]"')
        if self.backbones and not any(find_spec(package) for package in self.backbones):
            raise ImportError(f"the data are there, but its model needs {' or '.join(self.backbones)}: install one")
        return Found(self, source, digest(load_sides(self, source), source))


DIGITS = NamedImages("digits", (), (901, 896), (10, 10))
OMNIGLOT = NamedImages("omniglot", IMAGE_SETS["omniglot"].folders, (2720, 2120), (136, 106))
MNIST = NamedImages("mnist", IMAGE_SETS["mnist"].folders, None, (5, 5))

_RESNET = ("timm", "torchvision")
CUB = NamedImages("cub", IMAGE_SETS["cub"].folders, (5864, 5924), (100, 100), 224, _RESNET)
CARS196 = NamedImages("cars196", IMAGE_SETS["cars196"].folders, (8054, 8131), (98, 98), 224, _RESNET)
SOP = NamedImages("sop", IMAGE_SETS["sop"].folders, (59551, 60502), (11318, 11316), 224, _RESNET)


@lru_cache(maxsize=2)
def load_sides(named: NamedImages, source: str) -> tuple[Images, Images]:
    """The training and the test side of a set, seen to be what its name says (else a ValueError)."""
    sides = (
        load_images(named.name, "train", source or None, named.size),
        load_images(named.name, "test", source or None, named.size),
    )
    counts = (len(sides[0]), len(sides[1])), (len(sides[0].class_names), len(sides[1].class_names))
    for what, got, expected in (("pictures", counts[0], named.images), ("classes", counts[1], named.classes)):
        if expected is not None and got != expected:
            raise ValueError(
                f"{source!r} is not the image set {named.name!r}: its {what} for training and testing are "
                f"{got[0]} and {got[1]}, expected {expected[0]} and {expected[1]}"
            )
    return sides


def digest(sides: tuple[Images, Images], source: str) -> str:
    """Hash of pictures and labels; of pictures in files their names and sizes, since to read all would take long."""
    found = hashlib.sha256()
    for side in sides:
        if isinstance(side.images, ImageFiles):
            for path in side.images.paths:
                found.update(f"{os.path.relpath(path.resolve(), source)}\0{path.stat().st_size}\0".encode())
        else:
            found.update(np.ascontiguousarray(side.images).tobytes())
        found.update(side.labels.tobytes())
    return found.hexdigest()
