"""Splits by groups, by time, or as given: what is promised of each holds for every seed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from certimetric.runs.splits import split_indices
from certimetric.runs.splitting import Splitting, group_codes, time_values

CODES = np.arange(60) % 3


@pytest.mark.parametrize("seed", range(5))
def test_no_group_is_on_both_sides(seed):
    groups = np.random.default_rng(seed).integers(0, 9, 60)
    splitting = Splitting(CODES, 0.3, seed, groups=groups)
    tested = []
    for split in range(4):
        train, test = splitting.indices(split)
        assert not set(groups[train]) & set(groups[test])
        np.testing.assert_array_equal(np.sort(np.concatenate([train, test])), np.arange(60))
        tested.append(tuple(test))
    assert abs(np.mean([len(test) for test in tested]) - 18) <= np.bincount(groups).max()
    assert len(set(tested)) > 1
    assert tested[0] == tuple(splitting.indices(0)[1])


def test_groups_leave_every_class_to_learn_from_where_they_can():
    codes = np.repeat([0, 1, 2], 20)
    groups = np.repeat(np.arange(6), 10)  # two groups of each class
    for split in range(10):
        train, _ = Splitting(codes, 1 / 3, 0, groups=groups).indices(split)
        assert set(codes[train]) == {0, 1, 2}


@pytest.mark.parametrize("share", [0.1, 0.3, 0.9])
def test_the_latest_rows_are_tested_and_no_time_is_in_both_parts(share):
    times = np.random.default_rng(0).integers(0, 12, 60).astype(float)
    train, test = Splitting(CODES, share, 0, times=times).indices(0)
    assert times[train].max() < times[test].min()
    sizes = [int((times > time).sum()) for time in np.unique(times)[:-1]]
    assert len(test) == min(sizes, key=lambda size: abs(size - share * 60))


def test_given_rows_and_rows_at_random():
    given = np.zeros(60, dtype=bool)
    given[[3, 7]] = True
    assert Splitting(CODES, 0.3, 0, given=given).indices(0)[1].tolist() == [3, 7]
    for one, other in zip(Splitting(CODES, 0.3, 5).indices(2), split_indices(CODES, 0.3, 5, 2)):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"groups": np.zeros(60, dtype=int)}, "at least two groups"),
        ({"times": np.ones(60)}, "at least two different times"),
        ({"given": np.ones(60, dtype=bool)}, "got 60 test rows of 60"),
    ],
)
def test_a_part_is_never_empty(said, told):
    with pytest.raises(ValueError, match=told):
        Splitting(CODES, 0.3, 0, **said)


def test_times_and_groups_as_they_come():
    np.testing.assert_array_equal(time_values(["1970-01-02", "1970-01-01"], 2), [1, 0])
    np.testing.assert_array_equal(time_values(pd.Series([3, 1], dtype=object), 2), [3, 1])
    np.testing.assert_array_equal(time_values(pd.to_datetime(["1970-01-02", "1970-01-03"]), 2), [1, 2])
    assert group_codes(["b", None, "b"], 3).tolist() == [0, 1, 0]
    for times, told in ((["soon", "1970-01-01"], "must be numbers, or dates"), ([1.0, None], "none in row 1")):
        with pytest.raises(ValueError, match=told):
            time_values(times, 2)
