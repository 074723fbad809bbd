"""Labels to pairs and quadruplets drawn at random."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state

from certimetric.base.arrays import Array, Indices
from certimetric.constraints.labels import check_number, codes_of_classes, say_fewer

LARGEST_DRAW = 15_000  # of tuples of a kind that learners take by default: 20 c² are 5 million for 500 classes


def random_pairs(y: ArrayLike, n_pairs: int, random_state: Any = None) -> tuple[Indices, Indices]:
    """Similar and dissimilar pairs of instances, drawn at random.

    Parameters
    ----------
    y : array-like of shape (n,)
        Class labels.
    n_pairs : int
        Draws of each kind. A pair that is drawn twice counts once.
    random_state : int, RandomState or None, default=None
        The same seed gives the same pairs.

    Returns
    -------
    pairs : int array of shape (m, 2)
        Row numbers of distinct pairs, the lower first, in random order; m is at most ``2 * n_pairs``. A warning says
        where the labels have fewer of a kind than that.
    labels : int array of shape (m,)
        +1 for two instances of one class, −1 for two of different classes.

    Examples
    --------
    >>> pairs, labels = random_pairs(["a", "a", "b", "b"], 2, random_state=0)
    >>> sorted(zip(pairs.tolist(), labels.tolist()))
    [([0, 1], 1), ([0, 3], -1), ([1, 3], -1), ([2, 3], 1)]
    """
    codes = codes_of_classes(y)
    n_pairs = check_number(n_pairs, "n_pairs")
    for kind, available in zip(("similar pairs", "dissimilar pairs"), _numbers_of_pairs(codes)):
        say_fewer(available, n_pairs, kind)
    return pairs_of_classes(codes, n_pairs, check_random_state(random_state))


def random_quadruplets(y: ArrayLike, n_quadruplets: int, random_state: Any = None) -> Indices:
    """Quadruplets (a, b, c, d) drawn at random: a and b of one class, c and d of different ones.

    Parameters
    ----------
    y : array-like of shape (n,)
        Class labels.
    n_quadruplets : int
        Draws. A quadruplet that is drawn twice counts once.
    random_state : int, RandomState or None, default=None
        The same seed gives the same quadruplets.

    Returns
    -------
    quadruplets : int array of shape (m, 4)
        Distinct row numbers, sorted; m is at most ``n_quadruplets``, and 0 where no two instances are of one class. A
        warning says where the labels have fewer than that.

    Examples
    --------
    >>> random_quadruplets([0, 0, 1], 3, random_state=0).tolist()
    [[0, 1, 0, 2], [1, 0, 1, 2]]
    """
    codes = codes_of_classes(y)
    n_quadruplets = check_number(n_quadruplets, "n_quadruplets")
    similar, dissimilar = _numbers_of_pairs(codes)
    say_fewer(4 * similar * dissimilar, n_quadruplets, "quadruplets")  # both pairs in either order
    return quadruplets_of_classes(codes, n_quadruplets, check_random_state(random_state))


def pairs_of_classes(
    y: Indices, n_pairs: int, rng: np.random.RandomState, weights: Array | None = None
) -> tuple[Indices, Indices]:
    """:func:`random_pairs` of class codes 0, 1, …, for learners: as many as there are, without a word.

    With weights of the instances these are drawn by them, and a pair that is drawn twice is there twice: few pairs of
    large weights could not count as much otherwise.
    """
    n = len(y)
    found = []
    for label in (1, -1):
        i, j = drawn_pairs(y, n_pairs, label, rng, weights)
        keys = np.minimum(i, j) * n + np.maximum(i, j)
        distinct = np.unique(keys) if weights is None else keys
        both = np.stack([distinct // n, distinct % n], axis=1)
        found.append((both, np.full(len(both), label, dtype=np.int64)))
    pairs, labels = (np.concatenate(parts) for parts in zip(*found))
    shuffled = rng.permutation(len(pairs))
    return pairs[shuffled], labels[shuffled]


def all_pairs(y: Indices, limit: int | None, rng: np.random.Generator) -> tuple[Indices, NDArray[np.bool_]]:
    """Every two instances once, or of each kind as many as are allowed, each as likely as any other.

    Which of the two comes first is drawn.

    Parameters
    ----------
    y : int array of shape (n,)
        Class codes.
    limit : int or None
        Most pairs of a kind; None for all.
    rng : Generator

    Returns
    -------
    pairs : int array of shape (m, 2)
        Row numbers: those of one class, then those of two.
    genuine : bool array of shape (m,)

    Examples
    --------
    >>> pairs, genuine = all_pairs(np.array([0, 0, 1]), None, np.random.default_rng(0))
    >>> np.sort(pairs, axis=1).tolist(), genuine.tolist()
    ([[0, 1], [0, 2], [1, 2]], [True, False, False])
    """
    rows = [np.flatnonzero(y == code) for code in np.unique(y)]
    sizes = np.array([len(own) for own in rows])
    n_genuine = int((sizes * (sizes - 1) // 2).sum())
    n_impostor = len(y) * (len(y) - 1) // 2 - n_genuine
    if limit is None or n_genuine <= limit:
        found = [own[np.stack(np.triu_indices(len(own), 1), axis=1)] for own in rows]
    else:
        found = [_drawn_within(rows, sizes, rng.choice(n_genuine, limit, replace=False))]
    genuine = np.concatenate(found).reshape(-1, 2)
    if limit is None or n_impostor <= limit:
        order = np.concatenate(rows)
        ends = np.cumsum(sizes)
        found = [
            np.stack([np.repeat(own, len(order) - end), np.tile(order[end:], len(own))], axis=1)
            for own, end in zip(rows, ends)
        ]
        impostor = np.concatenate(found).reshape(-1, 2)
    else:
        impostor = _drawn_between(y, limit, rng)
    pairs = np.concatenate([genuine, impostor]).astype(np.int64)
    turned = rng.random(len(pairs)) < 0.5
    pairs[turned] = pairs[turned, ::-1]
    return pairs, np.arange(len(pairs)) < len(genuine)


def _drawn_within(rows: list[Indices], sizes: Indices, numbers: Indices) -> Indices:
    """The pairs of these numbers, where pairs within classes are counted class by class."""
    starts = np.concatenate([[0], np.cumsum(sizes * (sizes - 1) // 2)])
    found = []
    for own, start, end in zip(rows, starts, starts[1:]):
        rest = numbers[(numbers >= start) & (numbers < end)] - start
        # The pair of places i < j has the number j (j − 1) / 2 + i.
        j = ((1.0 + np.sqrt(1.0 + 8.0 * rest)) / 2.0).astype(np.int64)
        j -= j * (j - 1) // 2 > rest
        j += (j + 1) * j // 2 <= rest
        found.append(np.stack([own[rest - j * (j - 1) // 2], own[j]], axis=1) if len(own) > 1 else np.empty((0, 2)))
    return np.concatenate(found)


def _drawn_between(y: Indices, limit: int, rng: np.random.Generator) -> Indices:
    """So many different pairs of two classes, of which there are more."""
    n = len(y)
    found = np.empty(0, dtype=np.int64)
    while len(found) < limit:
        i, j = rng.integers(n, size=(2, 2 * limit))
        i, j = np.minimum(i, j), np.maximum(i, j)
        found = np.unique(np.append(found, (i * n + j)[y[i] != y[j]]))
    chosen = np.sort(rng.choice(found, limit, replace=False))
    return np.stack([chosen // n, chosen % n], axis=1)


def quadruplets_of_classes(
    y: Indices, n_quadruplets: int, rng: np.random.RandomState, weights: Array | None = None
) -> Indices:
    """:func:`random_quadruplets` of class codes 0, 1, …, for learners: as many as there are, without a word.

    With weights of the instances as in :func:`pairs_of_classes`.
    """
    similar, dissimilar = (np.stack(drawn_pairs(y, n_quadruplets, label, rng, weights), axis=1) for label in (1, -1))
    if not len(similar) or not len(dissimilar):
        return np.zeros((0, 4), dtype=np.int64)
    both = np.concatenate([similar, dissimilar], axis=1)
    return np.unique(both, axis=0) if weights is None else both


def drawn_pairs(
    y: Indices, n_pairs: int, label: int, rng: np.random.RandomState, weights: Array | None = None
) -> tuple[Indices, Indices]:
    """As many draws of two instances, of one class (``label`` +1) or of two (−1), as row numbers; none without any.

    By weights, shape (n,), where they are given: the first of all that have a mate, the second of its mates.
    """
    sizes = np.bincount(y)[y]
    able = np.flatnonzero((sizes - 1 if label == 1 else len(y) - sizes) > 0)
    if not len(able):
        return able, able
    if weights is None:
        i = able[rng.randint(len(able), size=n_pairs)]
    else:
        i = rng.choice(able, size=n_pairs, p=weights[able] / weights[able].sum())
    return i, drawn_mates(y, i, label, rng, weights)


def drawn_mates(
    y: Indices, i: Indices, label: int, rng: np.random.RandomState, weights: Array | None = None
) -> Indices:
    """For each of the instances another one of its class (``label`` +1) or one of another (−1), which there must be."""
    if weights is not None:
        return _weighted_mates(y, i, label, rng, weights)
    order, place, start, stop = _by_class(y, i)
    mate = rng.randint(0, stop - start - 1 if label == 1 else len(y) - (stop - start))
    # Numbers of mates become places in the order by class: step over the instance itself, or over its class.
    if label == 1:
        mate += start
        mate += mate >= place
    else:
        mate += np.where(mate >= start, stop - start, 0)
    return order[mate]


def _by_class(y: Indices, i: Indices) -> tuple[Indices, Indices, Indices, Indices]:
    """Instances in the order of their classes; and of some of them their places in it, and where their classes begin
    and end."""
    order = np.argsort(y, kind="stable")
    place = np.empty(len(y), dtype=np.int64)
    place[order] = np.arange(len(y))
    counts = np.bincount(y)
    stops = np.cumsum(counts)
    return order, place[i], (stops - counts)[y[i]], stops[y[i]]


def _weighted_mates(y: Indices, i: Indices, label: int, rng: np.random.RandomState, weights: Array) -> Indices:
    """The same by weights: a point of the line on which the weights of the classes lie one after the other."""
    order, place, start, stop = _by_class(y, i)
    ends = np.cumsum(weights[order])
    # As with numbers of mates: step over the instance itself, or over its class.
    left, right = (place, place + 1) if label == 1 else (start, stop)
    first, last = (start, stop) if label == 1 else (np.zeros_like(i), np.full_like(i, len(y)))
    begin = np.append(0.0, ends)
    gap = begin[right] - begin[left]
    point = begin[first] + rng.random_sample(len(i)) * (begin[last] - begin[first] - gap)
    point += np.where(point >= begin[left], gap, 0.0)
    mate = np.clip(np.searchsorted(ends, point, side="right"), first, last - 1)
    # Rounding may lead to what was stepped over: the next one then, or the one before.
    wrong = (mate >= left) & (mate < right)
    mate[wrong] = np.where(right < last, right, left - 1)[wrong]
    return order[mate]


def _numbers_of_pairs(y: Indices) -> tuple[int, int]:
    """How many pairs there are of one class, and of two."""
    counts = np.bincount(y).astype(object)  # whole numbers of any size
    similar = int((counts * (counts - 1)).sum()) // 2
    return similar, len(y) * (len(y) - 1) // 2 - similar
