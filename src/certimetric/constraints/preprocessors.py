"""From indicators of points to points: what lets tuples be indices, so that no point is copied."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_array

from certimetric.base.arrays import Array


class PreprocessorError(ValueError):
    """A preprocessor failed, or gave something else than a point for each indicator."""


def check_preprocessor(preprocessor: Any) -> Callable[[NDArray[Any]], Any] | None:
    """A preprocessor as a function of indicators, shape (m,), or None without one.

    Parameters
    ----------
    preprocessor : array-like of shape (n, d), callable or None
        Points that are indexed by row number, or a function that takes indicators of any type (row numbers, names of
        files, …), shape (m,), and gives their points, shape (m, d).

    Raises
    ------
    ValueError
        If it is none of these, or an array that holds no points.

    Examples
    --------
    >>> check_preprocessor([[0.0, 1.0], [2.0, 3.0]])(np.array([1, 0])).tolist()
    [[2.0, 3.0], [0.0, 1.0]]
    """
    if preprocessor is None or callable(preprocessor):
        return preprocessor
    if not hasattr(preprocessor, "__len__") or isinstance(preprocessor, (str, bytes, dict)):
        told = type(preprocessor).__name__
        raise ValueError(f"preprocessor must be None, an array of points, or a callable, got {told}")
    try:
        rows: Array = check_array(preprocessor, dtype=np.float64, ensure_all_finite=False, input_name="preprocessor")
    except (TypeError, ValueError) as error:
        raise ValueError(f"preprocessor must be a matrix of points: {str(error).splitlines()[0]}") from None
    if not np.isfinite([rows.min(), rows.max()]).all():
        wrong = rows[~np.isfinite(rows)][0]
        raise ValueError(f"preprocessor must be finite, got {wrong} among its points")
    return lambda indicators: _rows(rows, indicators)


def points_of(indicators: NDArray[Any], preprocessor: Callable[[NDArray[Any]], Any]) -> Array:
    """Points, shape (m, d), of indicators, shape (m,).

    Raises
    ------
    PreprocessorError
        If the preprocessor raises, or gives something else than m rows of numbers.
    """
    try:
        points = preprocessor(indicators)
    except Exception as error:
        raise PreprocessorError(f"the preprocessor failed on {len(indicators)} indicators: {error!r}") from error
    try:
        points = check_array(points, dtype=np.float64, ensure_all_finite=False)
    except (TypeError, ValueError) as error:
        raise PreprocessorError(f"the preprocessor must give an array of points: {error}") from None
    if len(points) != len(indicators):
        raise PreprocessorError(f"the preprocessor gave {len(points)} points for {len(indicators)} indicators")
    return points


def _rows(rows: Array, indicators: ArrayLike) -> Array:
    indices = np.asarray(indicators)
    if indices.dtype.kind not in "iu":
        if indices.dtype.kind != "f" or not (indices == np.floor(indices)).all():
            raise IndexError(f"row numbers must be integers, got {indices.dtype}")
        indices = indices.astype(np.int64)
    if len(indices) and not (-len(rows) <= indices.min() and indices.max() < len(rows)):
        wrong = indices[(indices < -len(rows)) | (indices >= len(rows))][0]
        raise IndexError(f"there is no row {wrong} among {len(rows)} points")
    everything = len(indices) == len(rows) and np.array_equal(indices, np.arange(len(rows)))
    taken: Array = rows if everything else rows[indices]  # points are read only: all of them need no copy
    return taken
