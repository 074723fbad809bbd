"""Rows that lie in a Dask array: told apart from other arrays, checked, and mapped block by block.

Dask is imported only where one of its arrays was given: whoever has none needs no Dask.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from certimetric.base.arrays import Array, check_size


def is_lazy(array: Any, name: str = "X") -> bool:
    """Whether an argument is a Dask array; a TypeError for something else of Dask, for instance a data frame.

    Examples
    --------
    >>> is_lazy(np.zeros((3, 2)))
    False
    """
    if type(array).__module__.partition(".")[0] not in ("dask", "dask_expr"):
        return False
    from dask.array import Array as DaskArray

    if not isinstance(array, DaskArray):
        raise TypeError(
            f"{name} must be an array, got a Dask {type(array).__name__}: "
            f"a Dask data frame becomes an array by .to_dask_array(lengths=True)"
        )
    return True


def row_blocks(X: Any) -> Any:
    """A Dask array of shape (n, d) in blocks of whole rows: blocks along the features are joined."""
    if X.ndim != 2:
        raise ValueError(f"X must have shape (n, d), got a Dask array of {X.ndim} dimension(s)")
    if np.isnan(X.shape[1]):
        raise ValueError("X has an unknown number of features: call X.compute_chunk_sizes() first")
    return X if X.numblocks[1] == 1 else X.rechunk({1: -1})


def map_rows(function: Callable[[Array], Array], X: Any, width: int) -> Any:
    """Apply a function to every block of rows of X, (n, d), when the result is asked for: a Dask array (n, width).

    Blocks may be of unknown length. The function takes a float64 array (b, d), b ≥ 1, without NaN and infinity, and
    gives one of shape (b, width): to each row what it would give it alone. Schedulers of many processes have to pickle
    it.
    """
    from dask import delayed

    X = row_blocks(X)
    # Delayed, the function and the training set in it are one node of the graph, not a part of every task.
    return X.map_blocks(
        _of_block,
        function=delayed(function, traverse=False),
        width=width,
        dtype=np.float64,
        chunks=(X.chunks[0], (width,)),
        meta=np.empty((0, width)),
    )


def _of_block(block: Any, function: Callable[[Array], Array], width: int) -> Array:
    from sklearn.utils.validation import check_array

    if not len(block):
        return np.empty((0, width))
    return function(check_size(check_array(block, dtype=np.float64, order="C", input_name="X")))
