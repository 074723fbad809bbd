"""Splits of a table, what is done to them as the training part alone tells, and draws: scales, components, noise."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from certimetric.base.arrays import Array, Indices
from certimetric.datasets import fill_gaps

# Streams of random numbers of one split: what draws from one does not disturb the others.
SPLIT_STREAM, NOISE_STREAM, ATTACK_STREAM, TRUST_STREAM, SAMPLE_STREAM = range(5)
FEWEST_OF_A_CLASS = 5  # in a sample of a training part


def stream(seed: int, split: int, which: int) -> np.random.Generator:
    """The generator of one purpose in one split."""
    return np.random.default_rng([seed, split, which])


def held_out_counts(class_counts: NDArray[np.integer], test_size: float) -> Indices:
    """Test instances of each class: its share, rounded, but at least one in either part.

    A class with a single instance cannot be tested: that instance is for training.

    Examples
    --------
    >>> held_out_counts(np.array([50, 4, 2, 1]), 0.3)
    array([15,  1,  1,  0])
    """
    share = np.rint(test_size * class_counts).astype(np.int64)
    return np.where(class_counts > 1, np.clip(share, 1, np.maximum(class_counts - 1, 1)), 0)


def split_indices(
    codes: Indices,
    test_size: float,
    seed: int,
    split: int,
    *,
    train_rows: int | None = None,
    test_rows: int | None = None,
) -> tuple[Indices, Indices]:
    """Rows of the training part and of the test part, each rising, of class codes (n,); see :func:`held_out_counts`.

    With ``train_rows`` or ``test_rows`` a part is a random sample of it that has about so many rows, of every class its
    share (see :func:`shares_of`); a larger sample holds the smaller one.

    Examples
    --------
    >>> train, test = split_indices(np.array([0, 0, 0, 0, 1, 1, 2]), 0.25, seed=0, split=0)
    >>> len(train), len(test), 6 in train
    (5, 2, True)
    """
    rng = stream(seed, split, SPLIT_STREAM)
    counts = np.bincount(codes)
    held_out = held_out_counts(counts, test_size)
    drawn = [rng.permutation(np.flatnonzero(codes == code)) for code in range(len(counts))]
    tested = shares_of(held_out, test_rows, 1)
    test = taken(drawn, tested)
    if train_rows is not None:
        left = [rows[count:] for rows, count in zip(drawn, held_out)]
        return taken(left, shares_of(counts - held_out, train_rows, FEWEST_OF_A_CLASS)), test
    apart = np.ones(len(codes), dtype=bool)
    apart[taken(drawn, held_out)] = False
    return np.flatnonzero(apart), test


def taken(drawn: Sequence[Indices], counts: Indices) -> Indices:
    """The first so many of the rows of each class, rising."""
    return np.sort(np.concatenate([rows[:count] for rows, count in zip(drawn, counts)])).astype(np.int64)


def shares_of(counts: NDArray[np.integer], size: int | None, least: int) -> Indices:
    """How many of each class are in a sample of about ``size``: its share, rounded, but ``least`` where it has them.

    Examples
    --------
    >>> shares_of(np.array([900, 90, 3, 0]), 100, 5)
    array([91,  9,  3,  0])
    """
    if size is None or size >= counts.sum():
        return counts.astype(np.int64)
    share = np.rint(size * (counts / counts.sum())).astype(np.int64)
    return np.minimum(np.maximum(share, least), counts).astype(np.int64)


def honest_split(X: Array, codes: Indices, test_size: float, seed: int, split: int) -> tuple[Indices, Indices]:
    """Rows for training and for testing, without test rows that are in the training part to the last digit.

    Such duplicates would be answered from memory: they are left out of the test part.
    """
    train, test = split_indices(codes, test_size, seed, split)
    _, group = np.unique(X, axis=0, return_inverse=True)
    group = group.ravel()
    return train, test[~np.isin(group[test], group[train])]


def subject_parts(codes: Indices, shares: Sequence[float], seed: int, split: int) -> tuple[tuple[Indices, ...], bool]:
    """Rows of parts for verification, each rising, with *classes* (subjects) of their own where there are enough.

    Every part needs two classes with two instances each, to have pairs of both kinds. With fewer than two such classes
    a part, the instances of each class are shared out instead.

    Parameters
    ----------
    codes : int array of shape (n,)
        Class codes.
    shares : sequence of float
        Of the classes (or instances) that each part after the first gets; the first gets what is left.
    seed, split : int

    Returns
    -------
    parts : tuple of int arrays
    apart : bool
        Whether no class is in two parts.

    Raises
    ------
    ValueError
        If a part would have no pairs of both kinds.

    Examples
    --------
    >>> (train, test), apart = subject_parts(np.repeat([0, 1, 2, 3], 2), [0.5], seed=0, split=0)
    >>> apart, len(train), len(test)
    (True, 4, 4)
    """
    rng = stream(seed, split, SPLIT_STREAM)
    counts = np.bincount(codes)
    able, single = np.flatnonzero(counts > 1), np.flatnonzero(counts == 1)
    apart = len(able) >= 2 * (len(shares) + 1)
    taken: list[list[Indices]] = [[] for _ in range(len(shares) + 1)]
    if apart:
        for classes, least in ((able, 2), (single, 0)):
            for part, some in zip(taken, _shared_out(rng.permutation(classes), shares, least)):
                part.append(np.flatnonzero(np.isin(codes, some)))
    else:
        for code in range(len(counts)):
            # A class that is too small to have two instances in every part is learned from.
            least = 2 if counts[code] >= 2 * (len(shares) + 1) else 0
            rows = rng.permutation(np.flatnonzero(codes == code))
            for part, some in zip(taken, _shared_out(rows, shares if least else [0.0] * len(shares), least)):
                part.append(some)
    parts = tuple(np.sort(np.concatenate(part)).astype(np.int64) for part in taken)
    if any((np.bincount(codes[part]) > 1).sum() < 2 for part in parts):
        smallest = " and ".join(map(str, sorted(counts[counts > 0].tolist())[:2]))
        raise ValueError(
            f"verification needs {len(parts)} parts with pairs of both kinds, each of two classes with two instances "
            f"each: y has {len(able)} classes of at least two instances, the smallest two of {smallest}"
        )
    return parts, apart


def _shared_out(items: Indices, shares: Sequence[float], least: int) -> list[Indices]:
    """Items in order: what is left for the first part, and each share of them for another, but so many at least."""
    sizes = [max(least, round(share * len(items))) for share in shares]
    while sum(sizes) > len(items) - least and max(sizes) > least:
        sizes[int(np.argmax(sizes))] -= 1
    return np.split(items, np.cumsum([len(items) - sum(sizes), *sizes])[:-1])


@dataclass(frozen=True, eq=False)
class Preparation:
    """Standardisation, and principal components or unit length if they are asked for: ``axes`` (k, d).

    These are of the standardised training part, divided so that the largest has variance 1: one number for all, which
    leaves distances as they are but for their unit. With ``unit_length`` every instance is then scaled to length 1 (one
    of length 0 stays).
    """

    mean: Array
    scale: Array
    axes: Array | None
    unit_length: bool = False

    @classmethod
    def fit(cls, X: Array, pca: int = 0, unit_length: bool = False) -> Preparation:
        """From the training part."""
        from sklearn.preprocessing import StandardScaler  # the requests of commands are loaded with these splits

        scaler = StandardScaler().fit(X)
        mean, scale = scaler.mean_, scaler.scale_
        if not pca or pca >= min(X.shape):
            return cls(mean, scale, None, unit_length)
        _, values, axes = np.linalg.svd((X - mean) / scale, full_matrices=False)
        return cls(mean, scale, axes[:pca] * np.sqrt(len(X)) / values[0], unit_length)

    def __call__(self, X: Array) -> Array:
        prepared = (X - self.mean) / self.scale
        if self.axes is not None:
            prepared = prepared @ self.axes.T
        if self.unit_length:
            lengths = np.linalg.norm(prepared, axis=1, keepdims=True)
            prepared = np.divide(prepared, lengths, out=prepared, where=lengths > 0)
        return np.ascontiguousarray(prepared)

    def digest(self, *further: Array) -> str:
        """Hash of all that was fitted: it tells whether two fits saw the same data."""
        found = hashlib.sha256()
        for array in (self.mean, self.scale, self.axes, *further):
            if array is not None:
                found.update(np.ascontiguousarray(array).tobytes())
        return found.hexdigest()


@dataclass(frozen=True, eq=False)
class Split:
    """One split in standardised units, by ``mean`` and ``scale`` of the training part; constant features have scale 1.

    ``train`` and ``test`` are rows of the data, ``original`` are all of these in original units, gaps filled.
    """

    train: Indices
    test: Indices
    X_train: Array
    X_test: Array
    mean: Array
    scale: Array
    original: Array


def make_split(X: Array, train: Indices, test: Indices, imputed: NDArray[np.bool_] | None = None) -> Split:
    """Fill gaps and standardise; nothing of the test part enters the medians and the scale."""
    if imputed is not None:
        X = fill_gaps(X, imputed, train)
    standardise = Preparation.fit(X[train])
    return Split(train, test, standardise(X[train]), standardise(X[test]), standardise.mean, standardise.scale, X)


def unit_noise(shape: tuple[int, ...], seed: int, split: int) -> Array:
    """Standard Gaussian noise of a split: every learner gets it, and every level is a multiple of it.

    So levels can be compared, and the figure at one level does not depend on which others were asked for.
    """
    return stream(seed, split, NOISE_STREAM).standard_normal(shape)
