"""Tuples of instances — pairs, triplets, quadruplets — as row numbers of points: no point is copied."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse
from sklearn.utils.validation import check_array

from certimetric.base.arrays import MODEST, Array, Indices, check_size
from certimetric.constraints.preprocessors import points_of

_SPARSEST = 16  # rows up to the last for each indicator, above which sorting these is cheaper
TUPLE_NAMES = {2: "pairs", 3: "triplets", 4: "quadruplets"}


@dataclass(frozen=True, eq=False)
class Tuples:
    """Tuples as learners see them: points, and which of them each tuple has.

    Parameters
    ----------
    points : array of shape (n, d)
    index : int array of shape (m, t)
        Row numbers of points; t is 2 for pairs, 3 for triplets, 4 for quadruplets.

    Examples
    --------
    >>> pairs = Tuples.of([[0, 2], [1, 2]], 2, lambda rows: np.array([[0.0], [1.0], [5.0]])[rows])
    >>> pairs.points.ravel().tolist(), pairs.index.tolist()
    ([0.0, 1.0, 5.0], [[0, 2], [1, 2]])
    >>> pairs.differences().ravel().tolist()
    [-5.0, -4.0]
    """

    points: Array
    index: Indices

    @classmethod
    def of(
        cls, tuples: ArrayLike, size: int, preprocessor: Callable[[NDArray[Any]], Any] | None = None, *, least: int = 1
    ) -> Tuples:
        """Check tuples as users give them.

        Parameters
        ----------
        tuples : array-like of shape (m, t, d), or (m, t) of indicators for a preprocessor
        size : int
            t.
        preprocessor : callable, optional
            As :func:`~certimetric.constraints.preprocessors.check_preprocessor` gives it. It is asked once, for the
            distinct indicators.
        least : int
            How many tuples there must be.

        Raises
        ------
        ValueError
            On another shape, NaN, infinity, or too few tuples.
        PreprocessorError
            If the preprocessor does not give a point for each indicator.
        """
        name = TUPLE_NAMES[size]
        if not is_tuples(tuples, preprocessor is not None):
            shape = np.shape(tuples)
            hint = "" if preprocessor is not None or len(shape) != 2 else "; indices of points need a preprocessor"
            raise ValueError(f"{name} must have shape (n, {size}, d), got {shape}{hint}")
        if preprocessor is not None and np.ndim(tuples) == 2:
            raw = np.asarray(tuples)
            if raw.shape[1] != size:
                raise ValueError(f"indices of {name} must have shape (n, {size}), got {raw.shape}")
            if len(raw) < least:
                raise ValueError(f"{len(raw)} {name} were given, but at least {least} are needed")
            distinct, index = numbered(raw)
            points = check_array(points_of(distinct, preprocessor), dtype=np.float64, order="C", input_name=name)
            return cls(check_size(points, name, limit=MODEST), index)
        array = check_array(
            tuples, dtype=np.float64, allow_nd=True, ensure_2d=False, input_name=name, ensure_min_samples=least
        )
        if array.ndim != 3 or array.shape[1] != size:
            raise ValueError(f"{name} must have shape (n, {size}, d), got {array.shape}")
        if not array.shape[2]:
            raise ValueError(f"{name} have no features: their shape is {array.shape}")
        array = np.ascontiguousarray(check_size(array, name, limit=MODEST))
        return cls(array.reshape(-1, array.shape[2]), np.arange(len(array) * size).reshape(-1, size))

    def __len__(self) -> int:
        return len(self.index)

    @property
    def n_features(self) -> int:
        return int(self.points.shape[1])

    def distinct(self) -> Tuples:
        """The same tuples over points that all differ: what is shared is seen to be."""
        rows, place = np.unique(self.points, axis=0, return_inverse=True)
        return Tuples(rows, place.reshape(-1)[self.index].astype(np.int64))

    def used(self) -> Tuples:
        """The same tuples over the points that occur in them."""
        rows, index = numbered(self.index)
        return self if len(rows) == len(self.points) else Tuples(self.points[rows], index)

    def differences(self, first: int = 0, second: int = 1, rows: slice | Indices = slice(None)) -> Array:
        """Member ``first`` minus member ``second`` of each tuple, shape (m, d)."""
        return self.points[self.index[rows, first]] - self.points[self.index[rows, second]]


def numbered(indicators: NDArray[Any]) -> tuple[NDArray[Any], Indices]:
    """The distinct indicators in their order, and which of them each is, in the shape of what is given.

    Row numbers need no sorting, and are what they are where every row up to the last occurs: nothing is copied then.

    Examples
    --------
    >>> numbered(np.array([[7, 3], [3, 9]]))
    (array([3, 7, 9]), array([[1, 0],
           [0, 2]]))
    """
    if indicators.dtype.kind in "iu" and indicators.size and indicators.min() >= 0:
        last = int(indicators.max())
        if last < _SPARSEST * indicators.size:
            seen = np.zeros(last + 1, dtype=bool)
            seen[indicators.ravel()] = True
            distinct = np.flatnonzero(seen).astype(indicators.dtype, copy=False)
            if len(distinct) == last + 1:
                return distinct, indicators.astype(np.int64, copy=False)
            return distinct, (np.cumsum(seen) - 1)[indicators]
    distinct, index = np.unique(indicators, return_inverse=True)
    return distinct, index.reshape(indicators.shape).astype(np.int64)


def is_tuples(X: Any, with_preprocessor: bool) -> bool:
    """Whether X is tuples of points, or with a preprocessor tuples of indicators, rather than instances."""
    n = dimensions(X)
    return n == 3 or (with_preprocessor and n == 2 and not issparse(X))


def dimensions(X: Any) -> int:
    """Number of dimensions of anything array-like, without looking at what is in it; 2 where that cannot be told."""
    n = getattr(X, "ndim", None)
    if isinstance(n, int):
        return n
    try:
        return int(np.ndim(X)) if isinstance(X, (list, tuple)) else 2
    except ValueError:  # rows of different lengths
        return 2


def check_pair_labels(y: Any, n: int) -> Indices:
    """Labels ±1 of pairs, shape (n,).

    Raises
    ------
    ValueError
        If there are not as many as pairs, or others than +1 and −1.
    """
    y = np.asarray(y)
    if y.shape == (n, 1):
        y = y[:, 0]
    if y.shape != (n,):
        raise ValueError(f"y must hold one label for each of the {n} pairs, got shape {y.shape}")
    if not np.isin(y, (-1, 1)).all():
        wrong = y[~np.isin(y, (-1, 1))].tolist()[0]
        raise ValueError(f"labels of pairs must be +1 (similar) or -1 (dissimilar), got {wrong!r}")
    return y.astype(np.int64)
