"""Labels to chunklets: small sets of instances of one class, drawn at random."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_random_state

from certimetric.base.arrays import Indices
from certimetric.constraints.labels import check_number, codes_of_classes, say_fewer
from certimetric.constraints.neighbors import class_members


def random_chunklets(y: ArrayLike, n_chunklets: int, chunklet_size: int = 2, random_state: Any = None) -> Indices:
    """Disjoint sets of instances of one class, drawn at random: what :class:`~certimetric.RCA` learns from.

    Parameters
    ----------
    y : array-like of shape (n,)
        Class labels.
    n_chunklets : int
    chunklet_size : int, default=2
        Instances of a chunklet, two or more.
    random_state : int, RandomState or None, default=None
        The same seed gives the same chunklets.

    Returns
    -------
    chunklets : int array of shape (n,)
        Chunklet of each instance, 0 to ``n_chunklets - 1``; −1 for none. A warning says where the labels have fewer.

    Examples
    --------
    >>> random_chunklets(["a", "a", "b", "b", "b"], 2, random_state=0).tolist()
    [0, 0, 1, -1, 1]
    """
    codes = codes_of_classes(y)
    n_chunklets = check_number(n_chunklets, "n_chunklets")
    if check_number(chunklet_size, "chunklet_size") == 1:
        raise ValueError("chunklet_size must be 2 or more: a chunklet of one instance says nothing")
    rows = chunklets_of_classes(codes, chunklet_size, check_random_state(random_state))
    say_fewer(len(rows), n_chunklets, f"disjoint chunklets of {chunklet_size}")
    chunklets = np.full(len(codes), -1, dtype=np.int64)
    rows = rows[:n_chunklets]
    chunklets[rows] = np.arange(len(rows))[:, None]
    return chunklets


def chunklets_of_classes(y: Indices, size: int, rng: np.random.RandomState) -> Indices:
    """As many disjoint sets of ``size`` instances of one class as there are, shape (m, size), in random order.

    The shuffled classes fall into them; any are as good as others.
    """
    possible = [
        members[: len(members) // size * size].reshape(-1, size) for members in map(rng.permutation, class_members(y))
    ]
    rows = np.concatenate(possible) if possible else np.empty((0, size), dtype=np.int64)
    return rows[rng.permutation(len(rows))]
