"""Rows in the blocks of a Dask array, as learners of anchors need them: gathered by number, or searched there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from certimetric.base.arrays import Array
from certimetric.base.threads import single_threaded

_FAN_IN = 8  # parts that are merged at a time, so that few are held at once


class LazyRows:
    """Rows of a Dask array (n, d) in blocks of whole rows of known lengths, kept by the workers.

    Parameters
    ----------
    X : Dask array of shape (n, d)
    """

    def __init__(self, X: Any):
        self._X = X.persist()
        self.shape: tuple[int, int] = X.shape

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: NDArray[np.integer]) -> Array:
        """Some rows, by number, in the order of the numbers."""
        wanted, place = np.unique(rows, return_inverse=True)
        if not len(wanted):
            return np.empty((0, self.shape[1]))
        return np.ascontiguousarray(self._X[wanted].compute()[place])

    def reduce(self, function: Callable[..., Any], merge: Callable[[list[Any]], Any], *along: NDArray[Any]) -> Any:
        """``function(block, *parts, first)`` of every block on the workers, merged in a tree.

        A block of which the worker dies is given to another one.

        Parameters
        ----------
        function : callable
            Of the rows of a block, of the entries of ``along`` for them, and of the number of the first; it is pickled.
        merge : callable
            Of a list of results in the order of the rows, or of merged ones.
        along : arrays of shape (n, …)
        """
        from dask import delayed

        work, join = delayed(function, traverse=False), delayed(merge, traverse=False)
        ends = np.cumsum(self._X.chunks[0])
        blocks = [
            (block, slice(end - length, end))
            for block, length, end in zip(self._X.to_delayed().ravel(), self._X.chunks[0], ends.tolist())
            if length
        ]
        parts = [
            delayed(_called, pure=False)(work, block, *(array[rows] for array in along), rows.start)
            for block, rows in blocks
        ]
        while len(parts) > 1:
            parts = [delayed(_called)(join, parts[i : i + _FAN_IN]) for i in range(0, len(parts), _FAN_IN)]
        return parts[0].compute()


def _called(function: Callable[..., Any], *arguments: Any) -> Any:
    with single_threaded():  # blocks are what uses the cores
        return function(*arguments)
