"""Comparing learners over data sets: ranks, tests, and the difference of mean ranks that counts.

References
----------
Demšar (2006), *Statistical comparisons of classifiers over multiple data sets* [demsar2006statistical], JMLR 7.
Pratt (1959), *Remarks on zeros and ties in the Wilcoxon signed rank procedures* [pratt1959remarks], JASA 54.
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import ArrayLike

from certimetric.base.arrays import Array

TIE = 1e-9


def mean_ranks(scores: ArrayLike, *, lower_is_better: bool = True) -> Array:
    """Mean rank of each learner, of scores (n_datasets, n_learners); equal ones share the mean of their ranks.

    Examples
    --------
    >>> mean_ranks([[0.1, 0.2, 0.2], [0.3, 0.1, 0.4]])
    array([1.5 , 1.75, 2.75])
    """
    from scipy.stats import rankdata

    values = np.asarray(scores, dtype=float)
    return np.asarray(rankdata(values if lower_is_better else -values, axis=1).mean(axis=0))


def friedman(scores: ArrayLike) -> tuple[float, float]:
    """Friedman's test of whether learners differ: statistic and p; (nan, nan) where it cannot tell.

    It needs three learners and two data sets.

    Examples
    --------
    >>> statistic, p = friedman([[1, 2, 3], [1, 2, 3], [1, 3, 2]])
    >>> round(statistic, 3), round(p, 3)
    (4.667, 0.097)
    """
    from scipy.stats import friedmanchisquare

    values = np.asarray(scores, dtype=float)
    if values.ndim != 2 or values.shape[0] < 2 or values.shape[1] < 3:
        return float("nan"), float("nan")
    with np.errstate(invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # all alike on every data set
        statistic, p = friedmanchisquare(*values.T)
    return float(statistic), float(p)


def wilcoxon(first: ArrayLike, second: ArrayLike) -> float:
    """p of the two-sided signed-rank test that two learners do alike; 1 where they are equal everywhere.

    Equal pairs are ranked with the others, and then their ranks are left out (Pratt 1959). p is exact: the share of all
    ways to sign the other ranks, ties of size averaged, with a sum at least as far from its mean. NaN where a score is.

    Examples
    --------
    Ranks 3 to 8 beside two equal pairs, of which only the 5 is negative: of 64 ways to sign them, 4 have a negative sum
    of at most 5 (none, 3, 4, 5), and as many a positive one.

    >>> wilcoxon([0, 0, 1, 2, -3, 4, 5, 6], np.zeros(8))
    0.125
    """
    from scipy.stats import rankdata

    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    with np.errstate(invalid="ignore"):
        difference = np.where(a == b, 0.0, a - b)  # equal infinities are equal
    if np.isnan(difference).any():
        return float("nan")
    steps = np.round(difference / TIE)  # sizes that differ by rounding only are tied
    doubled = np.round(2 * rankdata(np.abs(steps))).astype(np.int64)[steps != 0]  # whole numbers, ties and all
    if not len(doubled):
        return 1.0
    chances = np.zeros(doubled.sum() + 1)  # of every sum of positive ranks
    chances[0] = 1.0
    for rank in doubled:
        chances = (chances + np.concatenate([np.zeros(rank), chances[:-rank]])) / 2
    observed = doubled[steps[steps != 0] > 0].sum()
    return float(min(1.0, 2 * min(chances[: observed + 1].sum(), chances[observed:].sum())))


def win_tie_loss(first: ArrayLike, second: ArrayLike, *, lower_is_better: bool = True) -> tuple[int, int, int]:
    """On how many data sets the first learner is better, equal, and worse.

    Examples
    --------
    >>> win_tie_loss([0.1, 0.2, 0.3], [0.2, 0.2, 0.1])
    (1, 1, 1)
    """
    difference = np.asarray(first, dtype=float) - np.asarray(second, dtype=float)
    if not lower_is_better:
        difference = -difference
    return int((difference < -TIE).sum()), int((np.abs(difference) <= TIE).sum()), int((difference > TIE).sum())


def critical_difference(n_learners: int, n_datasets: int) -> float:
    """Nemenyi's critical difference at α = 0.05: mean ranks that differ by less are not told apart.

    Examples
    --------
    >>> round(critical_difference(4, 14), 2)
    1.25
    """
    from scipy.stats import studentized_range

    quantile = studentized_range.ppf(0.95, n_learners, np.inf) / np.sqrt(2.0)
    return float(quantile * np.sqrt(n_learners * (n_learners + 1) / (6.0 * n_datasets)))


def groups(ranks: ArrayLike, difference: float) -> list[list[int]]:
    """Largest groups of learners, two at least, that are not told apart; each is the numbers of its learners.

    Examples
    --------
    >>> groups([1.0, 3.5, 1.5, 2.2], 1.25)
    [[0, 2, 3]]
    """
    values = np.asarray(ranks, dtype=float)
    order = np.argsort(values, kind="stable")
    found: list[list[int]] = []
    end = 0
    for start in range(len(order)):
        last = int(np.flatnonzero(values[order] <= values[order[start]] + difference)[-1])
        if last > start and last + 1 > end:
            found.append(sorted(int(i) for i in order[start : last + 1]))
            end = last + 1
    return found
