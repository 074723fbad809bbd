"""Labelled samples that need not fit into memory, summed up chunk by chunk or block by block of Dask arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_X_y

from certimetric.base.arrays import MODEST, Array, Indices, check_size
from certimetric.base.lazy_arrays import is_lazy, row_blocks
from certimetric.base.threads import limited_threads, single_threaded
from certimetric.constraints.class_scatter import ClassScatter

Check = Callable[[Any, Any], tuple[Any, Any]]

_FAN_IN = 8  # sums of blocks that are merged at a time, so that few are held at once
_check_block = partial(check_X_y, dtype=np.float64, order="C")


def scatter_of_chunks(chunks: Iterable[Any], check: Callable[[bool], Check]) -> ClassScatter:
    """Sum up a sample that is read once, one chunk at a time.

    Parameters
    ----------
    chunks : iterable of (X, y)
        Empty chunks are passed over.
    check : callable
        Told whether the chunk is the first, gives the function that checks X and y.

    Raises
    ------
    ValueError
        On fewer than two rows in all, a chunk that is not (X, y), and whatever :func:`checked_chunk` raises, with
        the number of the chunk from 0.
    """
    total: ClassScatter | None = None
    number = -1
    for chunk in chunks:  # enumerate would hold on to a chunk while the next one is read
        number += 1
        if not isinstance(chunk, (tuple, list)) or len(chunk) != 2:
            raise ValueError(f"chunk {number}: expected a tuple (X, y), got {type(chunk).__name__}")
        if np.shape(chunk[0])[:1] != (0,):
            X, y = checked_chunk(chunk[0], chunk[1], f"chunk {number}", check(total is None))
            with limited_threads(X.shape[1]):
                part = ClassScatter.from_labels(X, y)
            total = part if total is None else total + part
            del X, y
        del chunk
    n = 0 if total is None else int(total.counts.sum())
    if total is None or n < 2:
        raise ValueError(f"at least 2 rows are needed, got {n}")
    return total


def scatter_of_blocks(X: Any, y: Any) -> ClassScatter:
    """Sum up a sample in Dask arrays on its scheduler: a sum for every block of rows, merged in a tree.

    Parameters
    ----------
    X : Dask array of shape (n, d)
        Blocks along the features are joined.
    y : Dask array or array-like of shape (n,)
        Labels; other blocks than those of X are cut anew.

    Raises
    ------
    ValueError
        On unknown numbers of rows, other numbers of labels than rows, fewer than two rows, and whatever
        :func:`checked_chunk` raises, with the rows of the block.
    """
    import dask.array as da
    from dask import delayed

    X, y = aligned_blocks(X, y)
    # One array of one graph, so that a source of both X and y (a file, a generator) is read once for both.
    sums = da.blockwise(
        _scatter_of_block,
        "i",
        X,
        "ij",
        y,
        "i",
        da.arange(len(X), chunks=X.chunks[:1]),
        "i",
        concatenate=True,
        adjust_chunks={"i": 1},
        dtype=object,
        meta=np.empty(0, dtype=object),
    )
    parts, merge = list(sums.to_delayed()), delayed(_merge)
    while len(parts) > 1:
        parts = [merge(parts[i : i + _FAN_IN]) for i in range(0, len(parts), _FAN_IN)]
    with single_threaded():  # blocks are what uses the cores
        return parts[0].compute().item()


def checked_chunk(X: ArrayLike, y: ArrayLike, where: str, check: Check = _check_block) -> tuple[Array, NDArray[Any]]:
    """X as float64 and y of one chunk of a labelled sample.

    Raises
    ------
    ValueError
        On NaN or infinity, a wrong number of labels, or labels that are no classes; the message begins with ``where``.
    """
    try:
        X, y = check(X, y)
        check_size(X, limit=MODEST)
        if y.dtype.kind == "f" and (y != np.floor(y)).any():
            raise ValueError("y must hold classes, got continuous values (Unknown label type: continuous)")
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    return X, y


def _scatter_of_block(X: Array, y: NDArray[Any], rows: Indices) -> NDArray[Any]:
    """The sum of a block as an array of one object; None of an empty block."""
    part = np.full(1, None, dtype=object)
    if len(X):
        part[0] = ClassScatter.from_labels(*checked_chunk(X, y, f"rows {rows[0]} to {rows[-1]}"))
    return part


def _merge(parts: list[NDArray[Any]]) -> NDArray[Any]:
    merged, *rest = [part for part in np.concatenate(parts) if part is not None] or [None]
    result = np.empty(1, dtype=object)
    result[0] = sum(rest, start=merged)
    return result


def aligned_blocks(X: Any, y: Any) -> tuple[Any, Any]:
    """Both as Dask arrays in the same blocks of rows."""
    import dask.array as da

    X = row_blocks(X)
    if not is_lazy(y, "y"):
        y = da.from_array(np.asarray(y), chunks=-1)
    if y.ndim != 1:
        raise ValueError(f"y must have shape (n,), got {y.ndim} dimensions")
    for name, array in (("X", X), ("y", y)):
        if np.isnan(array.shape[0]):
            raise ValueError(f"{name} has blocks of unknown length: call {name}.compute_chunk_sizes() first")
    if len(X) != len(y):
        raise ValueError(f"y must hold one label for each of the {len(X)} rows of X, got {len(y)}")
    if len(X) < 2:
        raise ValueError(f"at least 2 rows are needed, got {len(X)}")
    return X, y if y.chunks[0] == X.chunks[0] else y.rechunk((X.chunks[0],))
