"""A labelled sample summed up class by class: what the scatters of *all* its pairs need, whatever parts it came in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from certimetric.base.arrays import Array, Indices
from certimetric.constraints.neighbors import class_members
from certimetric.constraints.scatter import PairScatter, centred_scatter, scatter_of_classes


@dataclass(frozen=True, eq=False)
class ClassScatter:
    """Size, mean and scatter around the mean of every class of a sample; ``+`` merges two samples.

    Pairs across the two samples count as well, other than where two :class:`PairScatter` are added: the sum tells of
    all pairs of the united sample, in whatever order and sizes its parts came.

    Parameters
    ----------
    labels : array of shape (n_classes,)
        In increasing order.
    counts : int array of shape (n_classes,)
        Instances, at least 1 of each class.
    means : array of shape (n_classes, d)
    rests : array of shape (n_classes, d)
        What rounding left of the means: the digits that count where features lie far from 0.
    scatters : array of shape (n_classes, d, d)
        ``Σ (x − mean)(x − mean)ᵀ`` over each class.

    References
    ----------
    Chan, Golub, LeVeque (1983), *Algorithms for computing the sample variance* [chan1983algorithms], The American
    Statistician 37: means and scatters around them merge without the cancellation of sums of squares.

    Examples
    --------
    >>> X, y = np.array([[0.0], [1.0], [5.0], [6.0]]), np.array(["a", "a", "b", "b"])
    >>> united = ClassScatter.from_labels(X[:3], y[:3]) + ClassScatter.from_labels(X[3:], y[3:])
    >>> united.labels.tolist(), united.counts.tolist(), united.means.ravel().tolist()
    (['a', 'b'], [2, 2], [0.5, 5.5])
    >>> united.pairs().similar.item(), united.pairs().dissimilar.item()
    (1.0, 25.5)
    """

    labels: NDArray[Any]
    counts: Indices
    means: Array
    rests: Array
    scatters: Array

    @classmethod
    def from_labels(cls, X: Array, y: ArrayLike) -> ClassScatter:
        """Sum up a sample X (n, d) with labels y (n,), n ≥ 1, in one pass: O(n d²)."""
        labels, codes = np.unique(np.asarray(y), return_inverse=True)
        d = X.shape[1]
        means, rests, scatters = np.empty((len(labels), d)), np.empty((len(labels), d)), np.empty((len(labels), d, d))
        for code, members in enumerate(class_members(codes)):
            means[code], rests[code], scatters[code] = centred_scatter(X[members])
        return cls(labels, np.bincount(codes, minlength=len(labels)).astype(np.int64), means, rests, scatters)

    def __add__(self, other: ClassScatter) -> ClassScatter:
        if self.means.shape[1] != other.means.shape[1]:
            raise ValueError(
                f"samples of {self.means.shape[1]} and of {other.means.shape[1]} features cannot be merged"
            )
        if (self.labels.dtype.kind in "biuf") != (other.labels.dtype.kind in "biuf"):
            some = [labels.tolist()[0] for labels in (self.labels, other.labels)]
            raise ValueError(f"labels must be all numbers or all strings, got {some[0]!r} and {some[1]!r}")
        labels = np.union1d(self.labels, other.labels)
        counts, means, rests, scatters = self._among(labels)
        place = np.searchsorted(labels, other.labels)
        before, total = counts[place], counts[place] + other.counts
        # The mean of the united class lies between the two means, and their distance adds to its scatter.
        step = (other.means - means[place]) + (other.rests - rests[place])
        share = (other.counts / total)[:, None]
        scatters[place] += other.scatters
        scatters[place] += (before[:, None] * share * step)[:, :, None] * step[:, None, :]
        rests[place] += share * step
        counts[place] = total
        rounded = means + rests
        return ClassScatter(labels, counts, rounded, rests - (rounded - means), scatters)

    def _among(self, labels: NDArray[Any]) -> tuple[Indices, Array, Array, Array]:
        """Copies of counts, means, rests and scatters in the order of more labels; 0 where a label is not here."""
        place, d = np.searchsorted(labels, self.labels), self.means.shape[1]
        counts, scatters = np.zeros(len(labels), dtype=np.int64), np.zeros((len(labels), d, d))
        means, rests = np.zeros((2, len(labels), d))
        counts[place], scatters[place] = self.counts, self.scatters
        means[place], rests[place] = self.means, self.rests
        return counts, means, rests, scatters

    def pairs(self) -> PairScatter:
        """Scatter of all n(n−1)/2 pairs of the sample, the same as :meth:`PairScatter.from_labels` of it."""
        counts = self.counts.tolist()
        return scatter_of_classes(counts, zip(self.means, self.rests, self.scatters), counts)
