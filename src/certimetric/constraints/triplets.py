"""Triplets drawn from labels, and those told from other tuples where two of their pairs share an instance."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_random_state

from certimetric.base.arrays import Array, Indices
from certimetric.constraints.labels import check_number, codes_of_classes, say_fewer
from certimetric.constraints.neighbors import combined_triplets
from certimetric.constraints.pairs import drawn_mates, drawn_pairs


def random_triplets(y: ArrayLike, n_triplets: int, random_state: Any = None) -> Indices:
    """Triplets (instance, another of its class, one of another class), drawn at random with replacement.

    Learners that see one triplet after the other take them in the order of the draws, as often as they come. For the
    nearest of both kinds, each once, see :func:`nearest_triplets`.

    Parameters
    ----------
    y : array-like of shape (n,)
        Class labels.
    n_triplets : int
    random_state : int, RandomState or None, default=None
        The same seed gives the same triplets.

    Returns
    -------
    triplets : int array of shape (n_triplets, 3)
        Row numbers in the order of the draws; none, and a warning, where no class has two instances, or there is only
        one class.

    Examples
    --------
    >>> triplets = random_triplets([0, 0, 1], 50, random_state=0)
    >>> np.unique(triplets, axis=0).tolist()
    [[0, 1, 2], [1, 0, 2]]
    """
    codes = codes_of_classes(y)
    n_triplets = check_number(n_triplets, "n_triplets")
    triplets = triplets_of_classes(codes, n_triplets, check_random_state(random_state))
    say_fewer(len(triplets), n_triplets, "triplets")
    return triplets


def triplets_of_classes(
    y: Indices, n_triplets: int, rng: np.random.RandomState, weights: Array | None = None
) -> Indices:
    """:func:`random_triplets` of class codes 0, 1, …, for learners: without a word where there are none.

    With weights of the instances, shape (n,), all three are drawn by them.
    """
    i, mate = drawn_pairs(y, n_triplets, 1, rng, weights)
    if not len(i) or (y == y[0]).all():
        return np.zeros((0, 3), dtype=np.int64)
    return np.stack([i, mate, drawn_mates(y, i, -1, rng, weights)], axis=1)


def triplets_of_pairs(X: Array, pairs: Indices, y: Indices, n_targets: int, n_impostors: int) -> Indices:
    """Triplets of instances that are in a similar and in a dissimilar pair.

    Parameters
    ----------
    X : array of shape (n, d)
    pairs : int array of shape (m, 2)
        Row numbers.
    y : int array of shape (m,)
        +1 for similar, −1 for dissimilar pairs.
    n_targets, n_impostors : int
        How many partners of either kind, the nearest ones, are combined.

    Returns
    -------
    triplets : int array of shape (p, 3)
        Rows (instance, partner of a similar pair, partner of a dissimilar one); p is at most
        ``n · n_targets · n_impostors``, and 0 where no instance is in pairs of both kinds.

    Examples
    --------
    >>> X = np.array([[0.0], [1.0], [5.0]])
    >>> triplets_of_pairs(X, np.array([[0, 1], [2, 0]]), np.array([1, -1]), 3, 10).tolist()
    [[0, 1, 2]]
    """
    nearest = [_nearest_partners(X, pairs[y == label], k) for label, k in ((1, n_targets), (-1, n_impostors))]
    return combined_triplets(np.arange(len(X)), *nearest)


def triplets_of_quadruplets(quadruplets: Indices) -> Indices:
    """Triplets of quadruplets (a, b, c, d) whose two pairs share an instance: that one and its two partners.

    Parameters
    ----------
    quadruplets : int array of shape (m, 4)
        Row numbers.

    Returns
    -------
    triplets : int array of shape (p, 3)
        Distinct rows (instance, the one that should be nearer, the one that should be farther).

    Examples
    --------
    >>> triplets_of_quadruplets(np.array([[0, 1, 2, 0], [0, 1, 2, 3]])).tolist()
    [[0, 1, 2]]
    """
    found = []
    for shared, near in ((0, 1), (1, 0)):
        for same, far in ((2, 3), (3, 2)):
            rows = quadruplets[quadruplets[:, shared] == quadruplets[:, same]]
            found.append(rows[:, [shared, near, far]])
    triplets = np.concatenate(found)
    i, j, l = triplets.T
    return np.unique(triplets[(i != j) & (i != l) & (j != l)], axis=0)


def _nearest_partners(X: Array, pairs: Indices, k: int) -> Indices:
    """The k nearest instances that each is in a pair with, shape (n, k); −1 where there are fewer."""
    both = np.concatenate([pairs, pairs[:, ::-1]])
    both = np.unique(both[both[:, 0] != both[:, 1]], axis=0)
    i, j = both.T
    squared = np.square(X[i] - X[j]).sum(axis=1)
    order = np.lexsort((squared, i))
    i, j = i[order], j[order]
    rank = np.arange(len(i)) - np.searchsorted(i, i)
    partners = np.full((len(X), k), -1, dtype=np.int64)
    kept = rank < k
    partners[i[kept], rank[kept]] = j[kept]
    return partners
