"""Outcomes of a figure, row by row, as a document holds them: so that two audits of the same rows compare in pairs."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import ArrayLike, NDArray

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def pack(counts: ArrayLike) -> str | None:
    """How often each row counted, over all splits in which it was tested: a digit for each, None beyond 35.

    Parameters
    ----------
    counts : array of shape (n,)
        Whole numbers.

    Examples
    --------
    >>> pack([1, 0, 1, 12]), unpack("101c").tolist()
    ('101c', [1, 0, 1, 12])
    """
    told = np.asarray(counts, dtype=np.int64)
    if len(told) and not 0 <= told.min() <= told.max() < len(_DIGITS):
        return None
    return np.frombuffer(_DIGITS.encode(), dtype="S1")[told].tobytes().decode()


def unpack(text: str) -> NDArray[np.int64]:
    """The counts that were packed."""
    codes = np.full(256, -1)
    codes[np.frombuffer(_DIGITS.encode(), dtype=np.uint8)] = np.arange(len(_DIGITS))
    return codes[np.frombuffer(text.encode(), dtype=np.uint8)]


def digest_of(*rows: ArrayLike) -> str:
    """Which rows they are, and in which split: two audits with the same digest on the same data tested the same."""
    digest = hashlib.sha256()
    for some in rows:
        digest.update(np.asarray(some, dtype=np.int64).tobytes() + b"|")
    return digest.hexdigest()
