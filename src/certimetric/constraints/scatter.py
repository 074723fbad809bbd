"""Pairs summed up: all that the closed-form learners need to know of any number of pairs.

Sums of outer products can be taken in one pass, in any order and in parts, and merged by addition.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import issparse

from certimetric.base.arrays import Array, Indices
from certimetric.base.threads import limited_threads
from certimetric.constraints.neighbors import class_members
from certimetric.constraints.tuples import Tuples

_CHUNK_BYTES = 4 * 2**20  # small enough for the differences to stay in cache between subtraction and product


@dataclass(frozen=True, eq=False)
class PairScatter:
    """Sums of ``ΔΔᵀ`` over similar and over dissimilar pairs, and how many there were.

    Parameters
    ----------
    similar_sum, dissimilar_sum : array of shape (d, d)
    n_similar, n_dissimilar : int or float
        Numbers of pairs, or sums of their weights.

    Examples
    --------
    >>> pairs = np.array([[[0.0], [1.0]], [[0.0], [3.0]]])
    >>> scatter = PairScatter.from_pairs(pairs, np.array([1, -1]))
    >>> scatter.similar.item(), scatter.dissimilar.item(), (scatter + scatter).n_similar
    (1.0, 9.0, 2)
    """

    similar_sum: Array
    dissimilar_sum: Array
    n_similar: float
    n_dissimilar: float

    @classmethod
    def from_pairs(cls, pairs: Array, y: Indices) -> PairScatter:
        """Scatter of explicit pairs (n, 2, d) with labels ±1 (n,)."""
        return cls.from_tuples(Tuples.of(pairs, 2), y)

    @classmethod
    def from_tuples(cls, pairs: Tuples, y: Indices) -> PairScatter:
        """Scatter of pairs as row numbers of points, with labels ±1 (m,): differences are made a block at a time."""
        with limited_threads(pairs.n_features):
            sums = [cls._sum(pairs, np.flatnonzero(y == label)) for label in (1, -1)]
        return cls(sums[0], sums[1], int((y == 1).sum()), int((y == -1).sum()))

    @staticmethod
    def _sum(pairs: Tuples, rows: Indices) -> Array:
        """Sum of ``ΔΔᵀ`` over some of the pairs."""
        d = pairs.n_features
        total = np.zeros((d, d))
        step = max(1, _CHUNK_BYTES // (8 * d))
        for start in range(0, len(rows), step):
            difference = pairs.differences(rows=rows[start : start + step])
            total += difference.T @ difference
        return (total + total.T) / 2

    @classmethod
    def from_labels(cls, X: Array, y: Indices, weights: Array | None = None) -> PairScatter:
        """Scatter of *all* n(n−1)/2 pairs of a labelled sample, in O(n d²).

        Over one class, ``Σ_{i<j} (x_i − x_j)(x_i − x_j)ᵀ = n_c Σ (x_i − m)(x_i − m)ᵀ`` with its mean m, so no pair
        is ever formed and none is sampled. With ``weights`` of the instances, shape (n,), a pair weighs ``w_i w_j``.
        """
        members = class_members(y)
        with limited_threads(X.shape[1]):
            if weights is None:
                counts: list[float] = [len(rows) for rows in members]
                return scatter_of_classes(counts, (centred_scatter(X[rows]) for rows in members), counts)
            sums = [float(weights[rows].sum()) for rows in members]
            squares = [float(weights[rows] @ weights[rows]) for rows in members]
            return scatter_of_classes(sums, (centred_scatter(X[rows], weights[rows]) for rows in members), squares)

    def __add__(self, other: PairScatter) -> PairScatter:
        return PairScatter(
            self.similar_sum + other.similar_sum,
            self.dissimilar_sum + other.dissimilar_sum,
            self.n_similar + other.n_similar,
            self.n_dissimilar + other.n_dissimilar,
        )

    def along(self, axes: Array) -> PairScatter:
        """The scatter in d features of one in coordinates along orthonormal axes, shape (r, d)."""
        sums = [axes.T @ (part @ axes) for part in (self.similar_sum, self.dissimilar_sum)]
        return PairScatter((sums[0] + sums[0].T) / 2, (sums[1] + sums[1].T) / 2, self.n_similar, self.n_dissimilar)

    @property
    def similar(self) -> Array:
        """S: mean of ``ΔΔᵀ`` over similar pairs, shape (d, d); 0 without any."""
        return self.similar_sum / max(self.n_similar, 1)

    @property
    def dissimilar(self) -> Array:
        """D: mean of ``ΔΔᵀ`` over dissimilar pairs, shape (d, d); 0 without any."""
        return self.dissimilar_sum / max(self.n_dissimilar, 1)


def centred_scatter(X: Any, weights: Array | None = None) -> tuple[Array, Array, Array]:
    """Mean m of instances (n, d), what rounding left of it, and ``Σ (x − m)(x − m)ᵀ``; all of them weighted, if so.

    Of sparse instances it is the difference of ``Σ xxᵀ`` and ``n mmᵀ``. A feature that is 0 in a share s of them loses
    at most the factor 1/s to that: ``m² ≤ (1 − s) Σ x²/n``. (One that is nowhere 0, and far from it, loses digits.)
    """
    if issparse(X):
        counts = np.ones(X.shape[0]) if weights is None else weights
        mean = np.asarray(X.T @ counts / counts.sum())
        scatter = (X.T @ X.multiply(counts[:, None]).tocsr()).toarray() - counts.sum() * np.outer(mean, mean)
        return mean, np.zeros_like(mean), (scatter + scatter.T) / 2
    if weights is not None:
        mean = X[0] + weights @ (X - X[0]) / weights.sum()
        centred = X - mean
        return mean, weights @ centred / weights.sum(), (centred.T * weights) @ centred
    mean = X.mean(axis=0)
    centred = X - mean
    # The rest would enter the distances between means at full size, where features lie far from 0.
    rest = np.full(len(X), 1.0 / len(X)) @ centred
    return mean, rest, centred.T @ centred


def scatter_of_classes(
    counts: Sequence[float], classes: Iterable[tuple[Array, Array, Array]], squares: Sequence[float]
) -> PairScatter:
    """Scatter of all pairs of a sample, of the sizes n_c of its classes, and their means m_c, rests and scatters W_c.

    Sizes are sums of weights, with those of their squares: numbers of instances, where every weight is 1.

    Similar pairs sum to ``Σ n_c W_c``, dissimilar ones to ``Σ (n − n_c) W_c + n Σ n_c (m_c − m)(m_c − m)ᵀ``: no term is
    subtracted, so that nothing cancels. One class at a time is looked at.
    """
    n = sum(counts)
    similar: Any = 0.0
    dissimilar: Any = 0.0
    means, rests = [], []
    for count, (mean, rest, W) in zip(counts, classes):
        similar += float(count) * W
        dissimilar += float(n - count) * W
        means.append(mean)
        rests.append(rest)
    weights = np.array(counts, dtype=np.float64)
    offsets = (np.stack(means) - means[0]) + np.stack(rests)  # no digits are lost to a common offset
    offsets -= weights @ offsets / n
    dissimilar += n * (offsets.T * weights) @ offsets
    # An instance makes no pair with itself. Numbers of instances, which are whole, make whole numbers of pairs.
    doubled = [sum(count * count - own for count, own in zip(counts, squares)), n * n - sum(c * c for c in counts)]
    n_similar, n_dissimilar = (pairs // 2 if isinstance(pairs, int) else pairs / 2 for pairs in doubled)
    return PairScatter(similar, dissimilar, n_similar, n_dissimilar)
