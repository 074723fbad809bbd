"""Whether a figure changed by more than chance: on the same rows in pairs, else by the intervals of both.

References
----------
McNemar (1947), *Note on the sampling error of the difference between correlated proportions or percentages*
[mcnemar1947note], Psychometrika 12. Newcombe (1998), *Interval estimation for the difference between independent
proportions* [newcombe1998interval], Statistics in Medicine 17. Holm (1979), *A simple sequentially rejective multiple
test procedure* [holm1979simple], Scandinavian Journal of Statistics 6.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from certimetric.base.arrays import Indices
from certimetric.base.results import WIDTH

End = float | None


class Change(NamedTuple):
    """A difference with the ends of its 95 % interval, and its p-value where it can be told."""

    low: float | None
    high: float | None
    p: float | None


def in_pairs(before: Indices, after: Indices, times: float) -> Change:
    """The change of a share over the same rows, of which each counted so often in either audit.

    The p-value is exact: under no change, whatever a row gained or lost it could as well have lost or gained. With one
    count a row that is McNemar's test; a row that was tested in several splits moves as one.

    Parameters
    ----------
    before, after : int array of shape (n,)
    times : float
        How often a row was tested, in the mean: the share is the mean count divided by it.

    Examples
    --------
    >>> change = in_pairs(np.array([1, 1, 1, 1, 1, 0]), np.array([0, 0, 0, 0, 0, 0]), 1)
    >>> round(change.p, 4)
    0.0625
    """
    moved = after - before
    spread = WIDTH * float(moved.std(ddof=1)) / (math.sqrt(len(moved)) * times) if len(moved) > 1 else 1.0
    middle = float(moved.mean()) / times
    return Change(max(middle - spread, -1.0), min(middle + spread, 1.0), _sign_flips(moved))


def _sign_flips(moved: Indices) -> float:
    """Chance that signs drawn at random give a sum at least as far from 0."""
    from scipy.stats import binom

    sizes, counts = np.unique(np.abs(moved[moved != 0]), return_counts=True)
    chances = np.ones(1)  # of each sum of the moves that gain
    for size, count in zip(sizes.tolist(), counts.tolist()):
        gains = np.zeros(size * count + 1)
        gains[::size] = binom.pmf(np.arange(count + 1), count, 0.5)
        chances = np.convolve(chances, gains)
    total = len(chances) - 1
    far = np.abs(2 * np.arange(total + 1) - total) >= abs(int(moved.sum()))
    return min(float(chances[far].sum()), 1.0)


def by_intervals(before: tuple[float, End, End], after: tuple[float, End, End]) -> Change:
    """The change of a figure from its means and 95 % intervals in two independent audits.

    The interval of the difference is Newcombe's, of the distances from each mean to the ends that point at the other.

    Examples
    --------
    >>> change = by_intervals((0.9, 0.88, 0.92), (0.8, 0.78, 0.82))
    >>> round(change.low, 4), round(change.high, 4), change.p < 0.001
    (-0.1283, -0.0717, True)
    """
    (a, a_low, a_high), (b, b_low, b_high) = before, after
    if a_low is None or a_high is None or b_low is None or b_high is None or not math.isfinite(b - a):
        return Change(None, None, None)
    down, up = math.hypot(b - b_low, a_high - a), math.hypot(b_high - b, a - a_low)
    if not math.isfinite(down + up):
        return Change(None, None, None)
    towards = up if b < a else down  # the side on which no change lies
    if a == b:
        p = 1.0
    else:
        p = math.erfc(WIDTH * abs(b - a) / towards / math.sqrt(2)) if towards > 0 else 0.0
    return Change(b - a - down, b - a + up, p)


def holm(p: Sequence[float]) -> list[float]:
    """The p-values of several figures, so that any false alarm among them all has the chance that one alone has.

    Examples
    --------
    >>> [round(each, 3) for each in holm([0.01, 0.04, 0.5])]
    [0.03, 0.08, 0.5]
    """
    told, highest = [0.0] * len(p), 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        highest = max(highest, min((len(p) - rank) * p[i], 1.0))
        told[i] = highest
    return told
