"""One side of an image set: labelled images, of classes that the other side has none of."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from certimetric.base.arrays import Indices
from certimetric.base.wording import counted

if TYPE_CHECKING:
    from certimetric.datasets.images.files import ImageFiles

Name = TypeVar("Name", bound=Hashable)


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

    Examples
    --------
    >>> import numpy as np
    >>> two = Images(np.zeros((2, 1, 8, 8), np.float32), np.array([0, 1]), ("cat", "dog"))
    >>> len(two), two.class_names[two.labels[1]]
    (2, 'dog')
    """

    images: NDArray[np.float32] | ImageFiles
    labels: Indices
    class_names: tuple[str, ...]
    name: str = ""
    remarks: tuple[str, ...] = ()
    ids: NDArray[Any] | None = None
    groups: NDArray[Any] | None = None

    def __len__(self) -> int:
        return len(self.images)


def half_of(classes: Sequence[Name], split: str) -> list[Name]:
    """The first half of the classes for training, the rest for testing; of an odd number, the first half is larger.

    Examples
    --------
    >>> half_of("abcde", "train"), half_of("abcde", "test")
    (['a', 'b', 'c'], ['d', 'e'])
    """
    middle = (len(classes) + 1) // 2
    return list(classes[:middle] if split == "train" else classes[middle:])


def numbered(classes: Sequence[Any], split: str, where: str, remarks: Sequence[str] = ()) -> tuple[list[Any], Indices]:
    """The different classes of this side in order, two at least, and the position there of each that is given.

    What was remarked before, such as pictures that were skipped, may be why there are fewer: it is told first.

    Examples
    --------
    >>> numbered("babc", "train", "a set")
    (['a', 'b', 'c'], array([1, 0, 1, 2]))
    """
    own = sorted(set(classes))
    if len(own) < 2:
        before = "".join(f"{remark}; " for remark in remarks)
        raise ValueError(
            f"{before}the {split} side of {where} has {counted(len(own), 'class')}, and needs at least two: "
            "the sides are the halves of all classes, where the set does not divide them itself"
        )
    place = {key: i for i, key in enumerate(own)}
    return own, np.array([place[key] for key in classes], dtype=np.int64)


def skipped(damaged: Mapping[int, str], total: int, where: Path) -> tuple[str, ...]:
    """What to say of damaged pictures that were skipped: how many, and the reason of the first."""
    if not damaged:
        return ()
    first = damaged[min(damaged)]
    told = f"{len(damaged)} of {counted(total, 'picture')} of {str(where)!r} skipped"
    return (f"{told}, which cannot be decoded: {first}",)


def existing(path: Path) -> Path:
    """The path of a file that is there."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {str(path)!r}")
    return path
