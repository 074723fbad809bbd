"""Verification of pairs: the draw is balanced, the curve and its area are those of the definition."""

from __future__ import annotations

import numpy as np
import pytest

from certimetric.bench.verification import RATES, balanced_pairs, roc


@pytest.fixture
def judged(rng):
    """Distances with ties, and labels that they tell apart somewhat."""
    labels = np.repeat([1, -1], [70, 50])
    return np.round(rng.normal(size=120) + (labels == -1), 1), labels


def test_area_is_the_chance_that_a_pair_of_one_class_is_closer(judged):
    """AUC = P(d⁺ < d⁻) + P(d⁺ = d⁻)/2, over all couples of pairs (Mann and Whitney)."""
    distances, labels = judged
    same, other = distances[labels == 1][:, None], distances[labels == -1][None, :]
    assert roc(distances, labels)[0] == pytest.approx((same < other).mean() + (same == other).mean() / 2)


def test_curve_is_the_best_threshold_at_each_rate(judged):
    distances, labels = judged
    expected = []
    for rate in RATES:
        reached = [0.0]
        for threshold in np.unique(distances):
            taken = distances <= threshold
            if taken[labels == -1].mean() <= rate + 1e-12:
                reached.append(taken[labels == 1].mean())
        expected.append(max(reached))
    assert roc(distances, labels)[1] == pytest.approx(expected)


@pytest.mark.parametrize("change", [lambda d: 3.0 * d, lambda d: d**3])
def test_only_the_order_of_distances_counts(judged, change):
    distances, labels = judged
    assert roc(change(distances), labels) == roc(distances, labels)


def test_turned_distances_turn_the_area(judged):
    distances, labels = judged
    assert roc(-distances, labels)[0] == pytest.approx(1.0 - roc(distances, labels)[0])


@pytest.mark.parametrize("sizes", [(40, 30, 20), (90, 3), (2, 60)])
def test_pairs_are_distinct_balanced_and_labelled_rightly(sizes):
    y = np.repeat(np.arange(len(sizes)), sizes)
    pairs, labels = balanced_pairs(y, 200, 5)
    assert (labels == 1).sum() == (labels == -1).sum() <= 200
    assert len({tuple(pair) for pair in pairs.tolist()}) == len(pairs)
    assert (pairs[:, 0] != pairs[:, 1]).all()
    assert np.array_equal(y[pairs[:, 0]] == y[pairs[:, 1]], labels == 1)
    again = balanced_pairs(y, 200, 5)
    assert np.array_equal(pairs, again[0]) and np.array_equal(labels, again[1])


@pytest.mark.parametrize("y", [[0, 0, 0], [0, 1, 2]])
def test_one_kind_of_pairs_is_too_little(y):
    with pytest.raises(ValueError, match="needs pairs of one class and of two"):
        balanced_pairs(np.array(y), 10, 0)
