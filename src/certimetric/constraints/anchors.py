"""Anchors: a stratified sample of instances that grows."""

from __future__ import annotations

import numpy as np

from certimetric.base.arrays import Array, Indices
from certimetric.constraints.neighbors import class_members

_FEWEST_OF_A_CLASS = 5  # anchors, where a class has as many members


class StratifiedSample:
    """A random sample of rows that grows: of every class its share, and at least five members where it has them.

    Parameters
    ----------
    y : int array of shape (n,)
        Class codes; equal ones where there are no classes.
    rng : RandomState

    Examples
    --------
    >>> y = np.repeat([0, 1], [995, 5])
    >>> sample = StratifiedSample(y, np.random.RandomState(0))
    >>> rows = sample.grow(100)
    >>> np.bincount(y[rows]).tolist(), len(sample.grow(200))
    ([100, 5], 99)
    """

    def __init__(self, y: Indices, rng: np.random.RandomState):
        self.n = len(y)
        self._classes = [rng.permutation(members) for members in class_members(y)]
        self._taken = np.zeros(len(self._classes), dtype=np.int64)
        self._spent = np.zeros(len(self._classes), dtype=np.int64)

    def grow(self, size: int) -> Indices:
        """The rows to add so that about ``size`` are in the sample: none is taken twice."""
        new = []
        for number, members in enumerate(self._classes):
            share = max(round(size * len(members) / self.n), _FEWEST_OF_A_CLASS)
            before = self._taken[number]
            after = max(before, min(share, len(members) - self._spent[number]))
            new.append(members[before:after])
            self._taken[number] = after
        return np.concatenate(new)

    def hold_out(self, size: int) -> Indices:
        """About ``size`` rows, of every class its share, that will not be among those that :meth:`grow` takes.

        A class gives up at most a third of its members for it.
        """
        rows = []
        for number, members in enumerate(self._classes):
            share = min(-(-size * len(members) // self.n), (len(members) - self._taken[number]) // 3)
            rows.append(members[len(members) - share :])
            self._spent[number] = share
        return np.concatenate(rows)

    def weights(self, rows: Indices, y: Indices) -> Array:
        """How many times its share in all rows each row of a sample stands for: 1 where every class has its share."""
        share = np.bincount(y, minlength=y.max() + 1) / np.maximum(np.bincount(y[rows], minlength=y.max() + 1), 1)
        weights = share[y[rows]]
        return np.asarray(weights * (len(rows) / weights.sum()))
