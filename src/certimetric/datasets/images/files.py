"""Pictures in files as one array, decoded where it is asked for rows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from certimetric.base.arrays import Indices
from certimetric.datasets.images.pixels import check_size, decode, in_threads, in_threads_or_told

FILES_SIZE = 224


class ImageFiles:
    """Pictures in files as a float32 array of shape (n, 3, size, size), from 0 to 1, never in memory as a whole.

    Rows are taken as of an array: by a number, a slice, an int array or a bool mask. Each picture is decoded as red,
    green and blue, as a viewer shows it (see :func:`~certimetric.datasets.images.sets.load_images`), brought to
    ``size`` at its shorter side, bilinear with antialiasing, and cut to its centre.

    Parameters
    ----------
    paths : sequence of path
        Files that pillow reads. What a file is called does not matter.
    size : int, default=224

    Raises
    ------
    FileNotFoundError
        When rows are taken: if a file is missing.
    IndexError
        When rows are taken: if there are no such rows.
    ValueError
        If ``size`` is not a whole number; when rows are taken: if a file is not a picture, or a damaged one.

    Examples
    --------
    >>> pictures = ImageFiles(["a.jpg", "b.jpg"], size=64)  # no file is read before rows are taken
    >>> len(pictures), pictures.shape, pictures.dtype
    (2, (2, 3, 64, 64), dtype('float32'))
    """

    dtype = np.dtype(np.float32)

    def __init__(self, paths: Sequence[str | os.PathLike[str]], size: int = FILES_SIZE):
        check_size(size)
        self.paths = tuple(Path(path) for path in paths)
        self.size = size

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (len(self.paths), 3, self.size, self.size)

    @property
    def ndim(self) -> int:
        return 4

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, key: Any) -> NDArray[np.float32]:
        rows = self._rows(key)
        out = np.empty((rows.size, *self.shape[1:]), dtype=np.float32)

        def fill(place: int) -> None:
            path = self.paths[rows.flat[place]]
            out[place] = decode(path, str(path), self.size)

        in_threads(fill, range(rows.size))
        return out if rows.ndim else out[0]

    def damaged(self) -> dict[int, str]:
        """The rows whose pictures cannot be decoded, each with the reason; all files are read for it.

        Raises
        ------
        FileNotFoundError
            If a file is missing.
        """

        def see(path: Path) -> NDArray[np.float32]:
            decode(path, str(path), self.size)
            return np.empty(0, dtype=np.float32)  # the pictures of a large set do not fit into memory

        return in_threads_or_told(see, self.paths, skip_corrupt=True)[1]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("pictures in files are decoded into a new array: copy must not be False")
        return self[:].astype(self.dtype if dtype is None else dtype, copy=False)

    def __repr__(self) -> str:
        return f"ImageFiles({len(self)} files, size={self.size})"

    def _rows(self, key: Any) -> Indices:
        """Numbers of rows as NumPy understands them, of no or one axis."""
        if isinstance(key, tuple):
            raise IndexError("only rows can be taken of pictures in files, got a tuple of indices")
        if not isinstance(key, (int, np.integer, slice)):
            key = np.asarray(key)
            key = key.astype(np.int64) if key.size == 0 and key.dtype != np.bool_ else key
        rows = np.asarray(np.arange(len(self))[key])
        if rows.ndim > 1:
            raise IndexError(f"rows must be a number or a list of them, got {rows.ndim} axes")
        return rows
