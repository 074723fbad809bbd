"""Class-disjoint splits: the classes that are tested are none of those that were learned."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TypeVar

import numpy as np

from certimetric.base.arrays import Indices
from certimetric.base.wording import counted

Name = TypeVar("Name", bound=Hashable)


def half_of(classes: Sequence[Name], split: str) -> list[Name]:
    """The first half of the classes for training, the rest for testing; of an odd number, the first half is larger.

    Examples
    --------
    >>> half_of("abcde", "train"), half_of("abcde", "test")
    (['a', 'b', 'c'], ['d', 'e'])
    """
    middle = (len(classes) + 1) // 2
    return list(classes[:middle] if split == "train" else classes[middle:])


def numbered(values: Sequence[Name], classes: Sequence[Name]) -> Indices:
    """The position of each value in ``classes``.

    Examples
    --------
    >>> numbered("babc", "abc")
    array([1, 0, 1, 2])
    """
    place = {name: i for i, name in enumerate(classes)}
    return np.array([place[value] for value in values], dtype=np.int64)


def check_two_classes(n_classes: int, split: str, where: str) -> None:
    """Raise an error unless there is a class to tell another from."""
    if n_classes < 2:
        raise ValueError(f"the {split} side of {where} has {counted(n_classes, 'class')}, and needs at least two")
