"""Labelled inputs that are no pictures, such as series or spectra, in one .npz file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from certimetric.base.arrays import Indices
from certimetric.base.files import read_arrays
from certimetric.base.wording import listing
from certimetric.datasets.images.arrays import classes_of, one_for_each

_ARRAYS = ("inputs", "labels", "class_names", "ids", "groups", "bounds")


@dataclass(frozen=True, eq=False)
class SampleFile:
    """What such a file holds.

    Parameters
    ----------
    inputs : array of shape (n, …)
    labels : int array of shape (n,)
        Positions in ``class_names``.
    class_names : tuple of str
    ids, groups : arrays of shape (n,), optional
    bounds : array of shape (2,) or (2, c), optional
        Smallest and largest value, of all channels or of each.
    """

    inputs: NDArray[Any]
    labels: Indices
    class_names: tuple[str, ...]
    ids: NDArray[Any] | None = None
    groups: NDArray[Any] | None = None
    bounds: NDArray[Any] | None = None


def holds_samples(path: str | os.PathLike[str]) -> bool:
    """Whether this is an ``.npz`` file with an array ``inputs``."""
    return Path(path).suffix == ".npz" and Path(path).is_file() and "inputs" in read_arrays(path, ())[1]


def read_samples(path: str | os.PathLike[str]) -> SampleFile:
    """Inputs with their labels; nothing is unpickled.

    Raises
    ------
    ValueError
        If an array is missing, or labels, ids or groups are not one for each input.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> path = Path(tempfile.mkdtemp(), "waves.npz")
    >>> np.savez(path, inputs=np.zeros((4, 1, 16)), labels=["low", "low", "high", "high"], bounds=(-1, 1))
    >>> read_samples(path).class_names
    ('high', 'low')
    """
    where = repr(str(path))
    held, present = read_arrays(path, _ARRAYS)
    if missing := [name for name in ("inputs", "labels") if name not in held]:
        raise ValueError(f"{where} has no array {missing[0]!r}: it has {listing(present)}")
    codes, names = classes_of(held["labels"], held.get("class_names"), where)
    if held["inputs"].ndim < 2 or len(held["inputs"]) != len(codes):
        raise ValueError(f"inputs of {where} must be (n, …) with {len(codes)} labels, got {held['inputs'].shape}")
    ids, groups = (one_for_each(name, held.get(name), len(codes), where) for name in ("ids", "groups"))
    return SampleFile(held["inputs"], codes, tuple(names), ids, groups, held.get("bounds"))
