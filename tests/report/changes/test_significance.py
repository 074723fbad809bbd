"""Tests of a change: McNemar's where a row counts once, all signs enumerated where more, and Newcombe's interval."""

from itertools import product

import numpy as np
import pytest
from scipy.stats import binomtest

from certimetric.report.changes.outcomes import digest_of, pack, unpack
from certimetric.report.changes.significance import by_intervals, holm, in_pairs


def test_one_count_a_row_is_mcnemars_exact_test():
    rng = np.random.default_rng(0)
    before, after = rng.integers(0, 2, (2, 60))
    gained, lost = int((after > before).sum()), int((after < before).sum())
    change = in_pairs(before, after, 1.0)
    assert change.p == pytest.approx(binomtest(gained, gained + lost).pvalue)
    assert change.low <= (gained - lost) / 60 <= change.high


def test_several_counts_a_row_flip_together():
    before, after = np.array([0, 3, 2, 0, 1, 4, 1]), np.array([2, 3, 0, 1, 0, 1, 3])
    moved = after - before
    sums = [abs(np.dot(signs, np.abs(moved))) for signs in product((-1, 1), repeat=len(moved))]
    assert in_pairs(before, after, 5.0).p == pytest.approx(np.mean(np.array(sums) >= abs(moved.sum())))


def test_rows_that_are_told_alike_say_nothing():
    before, after = np.array([1, 1, 0, 0, 0]), np.array([0, 0, 0, 0, 0])
    more = [np.concatenate([each, np.ones(100, dtype=int)]) for each in (before, after)]
    assert in_pairs(before, after, 1.0).p == pytest.approx(in_pairs(*more, 1.0).p)
    assert in_pairs(before, before, 1.0).p == 1.0


def test_intervals_of_normal_figures_give_the_z_test():
    change = by_intervals((0.5, 0.5 - 0.0196, 0.5 + 0.0196), (0.53, 0.53 - 0.0196, 0.53 + 0.0196))
    assert change.p == pytest.approx(0.0339, abs=2e-4)  # z = 0.03 / (0.01 √2)
    back = by_intervals((0.53, 0.5104, 0.5496), (0.5, 0.4804, 0.5196))
    assert (back.low, back.high, back.p) == pytest.approx((-change.high, -change.low, change.p))


@pytest.mark.parametrize("gap", [0.0, 0.05, 0.1, 0.2])
def test_p_and_interval_agree(gap):
    """The interval holds 0 exactly where p is not below 0.05, lopsided as it may be."""
    change = by_intervals((0.9, 0.8, 0.93), (0.9 - gap, 0.75 - gap, 0.92 - gap))
    assert (change.low <= 0 <= change.high) == (change.p >= 0.05)


def test_without_an_interval_nothing_is_told():
    assert by_intervals((0.9, None, None), (0.8, 0.7, 0.9)) == (None, None, None)
    assert by_intervals((np.inf, np.inf, np.inf), (1.0, 0.9, 1.1)) == (None, None, None)


def test_holm_never_lowers_a_p_and_keeps_their_order():
    p = np.random.default_rng(1).uniform(size=20).tolist()
    told = holm(p)
    assert all(one <= two <= 1.0 for one, two in zip(p, told))
    assert np.all(np.diff(np.array(told)[np.argsort(p)]) >= 0)
    assert holm([0.01]) == [0.01] and holm([]) == []


def test_outcomes_come_back():
    counts = np.arange(36)
    assert unpack(pack(counts)).tolist() == counts.tolist()
    assert pack(np.array([True, False])) == "10"
    assert pack([36]) is None and pack([-1]) is None
    assert digest_of([1, 2], [3]) != digest_of([1], [2, 3]) != digest_of([1, 3], [2])
