"""Operating points of pairs that come in blocks, too many to be kept."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from certimetric.base.arguments import require
from certimetric.base.arrays import Array, Indices
from certimetric.certify.rates import VerificationCurve, check_kinds, checked_distances

_BITS = 20  # of the number of histogram bins on either side of 0
_TAIL = 2**20  # smallest distances of each kind that are kept as they are


class StreamedDistances:
    """Counts of distances that come in blocks, over hundreds of millions of pairs in bounded memory.

    The smallest distances of each kind are kept as they are: where thresholds for small false accept rates lie, the
    curve is that of :func:`verification_curve`, to the last digit. All others are counted in bins of equal width, whose
    ends are exact operating points. The result depends neither on blocks nor on their order.

    Parameters
    ----------
    tail : int, default=1048576
        Distances of each kind that are kept: with 10⁸ impostor and 10⁶ genuine pairs, thresholds for FAR up to 1 % are
        those of all pairs; for others the nearest grid point below.
    bits : int, default=20
        There are ``2^bits`` bins or half as many between 0 and the largest distance, and as many below 0.

    Examples
    --------
    >>> stream = StreamedDistances()
    >>> stream.add([0.1, 0.4], [True, True])
    >>> stream.add([0.2, 0.9], [False, False])
    >>> stream.curve().auc
    0.75
    """

    def __init__(self, tail: int = _TAIL, bits: int = _BITS):
        require(tail >= 1, "tail", "must be at least 1", tail)
        require(1 <= bits <= 26, "bits", "must be between 1 and 26", bits)
        self._tail, self._half = tail, 2**bits
        self._exponent: int | None = None  # of the power of two that no distance is beyond
        self._counts = np.zeros((2, 2 * self._half + 1), dtype=np.int64)  # bin b holds (b − half − 1, b − half]
        self._smallest = [np.empty(0), np.empty(0)]
        self._pending: list[list[Array]] = [[], []]
        self._cut = [np.inf, np.inf]

    def add(self, distances: ArrayLike, genuine: ArrayLike) -> None:
        """Count a block of pairs, as :func:`verification_curve` takes them; of any shape."""
        distances, genuine = checked_distances(np.ravel(distances), np.ravel(genuine))
        if not len(distances):
            return
        if largest := float(np.abs(distances).max()):  # zeros are in the same bin whatever the range
            self._make_room(int(np.frexp(largest)[1]))
        for kind, values in enumerate((distances[~genuine], distances[genuine])):
            bins = np.ceil(np.ldexp(values, self._shift)).astype(np.int64) + self._half
            self._counts[kind] += np.bincount(bins, minlength=self._counts.shape[1])
            self._pending[kind].append(values[values <= self._cut[kind]])
            if sum(map(len, self._pending[kind])) > self._tail:
                self._settle(kind)

    @property
    def n_genuine(self) -> int:
        """Genuine pairs counted so far."""
        return int(self._counts[1].sum())

    @property
    def n_impostor(self) -> int:
        """Impostor pairs counted so far."""
        return int(self._counts[0].sum())

    @property
    def _shift(self) -> int:
        return self._half.bit_length() - 1 - (self._exponent or 0)

    def _make_room(self, exponent: int) -> None:
        """Join pairs of bins until the range holds ``2^exponent``."""
        if self._exponent is None:
            self._exponent = exponent
        half = self._half
        if exponent - self._exponent > half.bit_length():  # bins are joined into the two around 0 long before
            self._join(np.repeat([half, half + 1], [half + 1, half]))
            self._exponent = exponent
        while self._exponent < exponent:
            self._join(np.ceil(np.arange(-half, half + 1) / 2.0).astype(np.int64) + half)
            self._exponent += 1

    def _join(self, into: Indices) -> None:
        joined = np.zeros_like(self._counts)
        for of_kind, counts in zip(joined, self._counts):
            np.add.at(of_kind, into, counts)
        self._counts = joined

    def _settle(self, kind: int) -> None:
        """Keep the smallest of what has come."""
        values = np.concatenate([self._smallest[kind], *self._pending[kind]])
        if len(values) > self._tail:
            values = np.partition(values, self._tail - 1)[: self._tail]
            self._cut[kind] = float(values.max())
        self._smallest[kind], self._pending[kind] = values, []

    def curve(self) -> VerificationCurve:
        """The operating points of all pairs so far.

        Raises
        ------
        ValueError
            If there were pairs of one kind only.
        """
        totals = self._counts.sum(axis=1)
        check_kinds(int(totals[1]), int(totals[0]))
        for kind in (0, 1):
            self._settle(kind)
        # Of distances equal to the largest that is kept, some may have been dropped.
        exact_below = min(self._cut)
        kept = [np.sort(values[values < exact_below]) for values in self._smallest]
        listed = np.unique(np.concatenate(kept))
        filled = self._counts.any(axis=0)
        ends = np.ldexp(np.arange(-self._half, self._half + 1, dtype=float), -self._shift)
        grid = filled & (ends >= exact_below)
        thresholds = np.concatenate([[-np.inf], listed, ends[grid]])
        shares = []
        for values, counts, total in zip(kept, self._counts, totals):
            below = np.searchsorted(values, listed, side="right")
            shares.append(np.concatenate([[0], below, np.cumsum(counts)[grid]]) / total)
        return VerificationCurve(thresholds, shares[0], shares[1], int(totals[1]), int(totals[0]), exact_below)
