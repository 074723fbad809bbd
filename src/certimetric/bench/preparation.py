"""What is done to a table before a learner sees it, as the training part alone tells: scales, components, draws."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from sklearn.preprocessing import StandardScaler

from certimetric.base.arrays import Array, Indices
from certimetric.runs.splits import split_indices


@dataclass(frozen=True, eq=False)
class Preparation:
    """Standardisation, and principal components if they are asked for.

    Parameters
    ----------
    mean, scale : arrays of shape (d,)
    axes : array of shape (k, d) or None
        Principal components of the standardised training part, divided so that the largest has variance 1: one
        number for all, which leaves distances as they are but for their unit.
    """

    mean: Array
    scale: Array
    axes: Array | None

    @classmethod
    def fit(cls, X: Array, pca: int = 0) -> Preparation:
        """From the training part."""
        scaler = StandardScaler().fit(X)
        mean, scale = scaler.mean_, scaler.scale_
        if not pca or pca >= min(X.shape):
            return cls(mean, scale, None)
        _, values, axes = np.linalg.svd((X - mean) / scale, full_matrices=False)
        return cls(mean, scale, axes[:pca] * np.sqrt(len(X)) / values[0])

    def __call__(self, X: Array) -> Array:
        standardised = (X - self.mean) / self.scale
        return np.ascontiguousarray(standardised if self.axes is None else standardised @ self.axes.T)

    def digest(self, *further: Array) -> str:
        """Hash of all that was fitted: it tells whether two fits saw the same data."""
        found = hashlib.sha256()
        for array in (self.mean, self.scale, self.axes, *further):
            if array is not None:
                found.update(np.ascontiguousarray(array).tobytes())
        return found.hexdigest()


def class_draw(codes: Indices, limit: int, rng: np.random.Generator) -> Indices:
    """At most ``limit`` rows, of each class its share (but two at least, where it has them); rising.

    Examples
    --------
    >>> class_draw(np.array([0] * 8 + [1] * 4), 6, np.random.default_rng(0)).shape
    (6,)
    """
    if len(codes) <= limit:
        return np.arange(len(codes))
    rows = []
    for code in np.unique(codes):
        own = np.flatnonzero(codes == code)
        count = min(len(own), max(2, round(limit * len(own) / len(codes))))
        rows.append(rng.permutation(own)[:count])
    return np.sort(np.concatenate(rows)).astype(np.int64)


def honest_split(X: Array, codes: Indices, test_size: float, seed: int, split: int) -> tuple[Indices, Indices]:
    """Rows for training and for testing, without test rows that are in the training part to the last digit.

    Such duplicates would be answered from memory: they are left out of the test part.
    """
    train, test = split_indices(codes, test_size, seed, split)
    _, group = np.unique(X, axis=0, return_inverse=True)
    group = group.ravel()
    return train, test[~np.isin(group[test], group[train])]
