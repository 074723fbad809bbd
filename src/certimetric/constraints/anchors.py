"""Anchors: a stratified sample of instances that grows."""

from __future__ import annotations

import math

import numpy as np

from certimetric.base.arrays import Array, Indices
from certimetric.constraints.neighbors import class_members

_FEWEST_OF_A_CLASS = 5  # anchors, where a class has as many members


class StratifiedSample:
    """A random sample of rows that grows: of every class its share, and at least five members where it has them.

    With weights of the rows the share of a class is that of its weights, as far as it has members.

    Parameters
    ----------
    y : int array of shape (n,)
        Class codes; equal ones where there are no classes.
    rng : RandomState
    row_weights : array of shape (n,), optional

    Examples
    --------
    >>> y = np.repeat([0, 1], [995, 5])
    >>> sample = StratifiedSample(y, np.random.RandomState(0))
    >>> rows = sample.grow(100)
    >>> np.bincount(y[rows]).tolist(), len(sample.grow(200))
    ([100, 5], 99)
    """

    def __init__(self, y: Indices, rng: np.random.RandomState, row_weights: Array | None = None):
        self._row_weights = np.ones(len(y)) if row_weights is None else row_weights
        self._classes = [rng.permutation(members) for members in class_members(y)]
        self._sizes = [float(self._row_weights[members].sum()) for members in self._classes]
        self._total = sum(self._sizes)
        self._taken = np.zeros(len(self._classes), dtype=np.int64)
        self._spent = np.zeros(len(self._classes), dtype=np.int64)

    def grow(self, size: int) -> Indices:
        """The rows to add so that about ``size`` are in the sample: none is taken twice."""
        new = []
        for number, members in enumerate(self._classes):
            share = max(round(size * self._sizes[number] / self._total), _FEWEST_OF_A_CLASS)
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
            wanted = math.ceil(size * self._sizes[number] / self._total)
            share = min(wanted, (len(members) - self._taken[number]) // 3)
            rows.append(members[len(members) - share :])
            self._spent[number] = share
        return np.concatenate(rows)

    def weights(self, rows: Indices, y: Indices) -> Array:
        """How many times its share in all weights each row of a sample stands for: 1 where every class has its share,
        and rows weigh the same."""
        share = np.bincount(y, minlength=y.max() + 1) / np.maximum(np.bincount(y[rows], minlength=y.max() + 1), 1)
        weights = share[y[rows]] * self._row_weights[rows]
        return np.asarray(weights * (len(rows) / weights.sum()))
