"""Splits: stratified, disjoint, standardised on the training part alone, with noise that levels share."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certimetric.runs.splits import held_out_counts, make_split, split_indices, unit_noise


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(1, 30), min_size=2, max_size=6),
    test_size=st.floats(0.01, 0.99),
    seed=st.integers(0, 5),
    split=st.integers(0, 5),
)
def test_parts_cover_the_data_class_by_class(counts, test_size, seed, split):
    codes = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    train, test = split_indices(codes, test_size, seed, split)
    assert sorted([*train, *test]) == list(range(len(codes)))
    for code, count in enumerate(counts):
        held_out = (codes[test] == code).sum()
        if count == 1:
            assert held_out == 0  # an instance that has no classmate is for training
        else:
            assert 1 <= held_out <= count - 1
            assert abs(held_out - test_size * count) <= 1


def test_splits_differ_and_repeat():
    codes = np.repeat([0, 1], 40)
    first, again, other = (split_indices(codes, 0.3, 0, split)[1] for split in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    # Seeds and splits are separate: split 1 of seed 0 is not split 0 of seed 1.
    assert not np.array_equal(other, split_indices(codes, 0.3, 1, 0)[1])


def test_only_the_training_part_enters_the_scale():
    rng = np.random.default_rng(0)
    X, codes = rng.normal(5, 3, (60, 2)), np.repeat([0, 1], 30)
    X = np.column_stack([X, np.full(60, 7.0)])
    part = make_split(X, *split_indices(codes, 0.3, 0, 0))
    np.testing.assert_allclose(part.X_train[:, :2].std(axis=0), 1.0)
    np.testing.assert_allclose(part.X_train.mean(axis=0), 0.0, atol=1e-12)
    assert part.scale[2] == 1.0
    moved = X.copy()
    moved[part.test] += 100.0
    np.testing.assert_array_equal(make_split(moved, *split_indices(codes, 0.3, 0, 0)).X_train, part.X_train)


def test_noise_has_its_own_stream():
    noise = unit_noise((2000, 3), seed=0, split=1)
    np.testing.assert_array_equal(noise, unit_noise((2000, 3), seed=0, split=1))
    assert not np.array_equal(noise, unit_noise((2000, 3), seed=0, split=2))
    assert noise.std() == pytest.approx(1.0, abs=0.05)


def test_counts_leave_an_instance_on_either_side():
    np.testing.assert_array_equal(held_out_counts(np.array([2, 2]), 0.99), [1, 1])
    np.testing.assert_array_equal(held_out_counts(np.array([2, 2]), 0.01), [1, 1])


def test_gaps_are_filled_from_the_training_part():
    """What the test part holds, or what the whole file was filled with, does not reach any part."""
    rng = np.random.default_rng(0)
    X, codes = rng.normal(size=(30, 2)), np.arange(30) % 2
    imputed = np.zeros((30, 2), dtype=bool)
    train, test = split_indices(codes, 0.3, 0, 0)
    imputed[[train[0], train[5], test[0]], 1] = True
    part = make_split(X, *split_indices(codes, 0.3, 0, 0), imputed)
    known = np.setdiff1d(train, [train[0], train[5]])
    median = np.median(X[known, 1])
    np.testing.assert_array_equal(part.original, np.where(imputed, median, X))
    np.testing.assert_allclose(part.X_train[[0, 5], 1] * part.scale[1] + part.mean[1], median)
    np.testing.assert_allclose(part.X_test[0, 1] * part.scale[1] + part.mean[1], median)
    other = X.copy()
    other[imputed] = 99.0  # the median of the whole file, say
    other[test[1:], 1] += 1000.0
    moved = make_split(other, *split_indices(codes, 0.3, 0, 0), imputed)
    np.testing.assert_array_equal(moved.X_train, part.X_train)
    np.testing.assert_array_equal(moved.X_test[0], part.X_test[0])
