"""The types of arrays in signatures, and the largest values that they may hold."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

LARGEST = 1e150
"""Squares of larger values, summed over features, may overflow float64 (its largest value is 1.8e308)."""

MODEST = 1e75
"""The same for fourth powers: for learners, which multiply scatters, and for attacks, which step beyond the data."""


def check_dense(X: Any, user: str, name: str = "X") -> None:
    """Refuse a sparse matrix, in one sentence that says who needs dense rows.

    Examples
    --------
    >>> from scipy.sparse import csr_array
    >>> check_dense(csr_array(np.eye(2)), "LMNN")
    Traceback (most recent call last):
        ...
    TypeError: X is sparse; LMNN needs dense rows: use X.toarray()
    """
    from scipy.sparse import issparse  # not for those who only list what there is

    if issparse(X):
        raise TypeError(f"{name} is sparse; {user} needs dense rows: use {name}.toarray()")


def check_size(X: Array, what: str = "X", *, limit: float = LARGEST) -> Array:
    """Values whose squares (with ``limit=MODEST`` fourth powers) can be summed; an error names the first beyond ±limit.

    Examples
    --------
    >>> check_size(np.array([[1.0, 1e300]]))
    Traceback (most recent call last):
        ...
    ValueError: X holds the value 1e+300 (row 0, feature 1): powers of values beyond 1e+150 overflow, so scale the ...
    """
    if X.size and max(X.max(), -X.min()) > limit:
        place = tuple(int(axis[0]) for axis in (abs(X) > limit).nonzero())
        where = f" (row {place[0]}, feature {place[-1]})" if len(place) > 1 else ""
        raise ValueError(
            f"{what} holds the value {X[place]:.4g}{where}: powers of values beyond {limit:g} overflow, so scale "
            f"the data first"
        )
    return X
