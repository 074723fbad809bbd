"""Ranks and tests against scipy, published examples and figures by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from certimetric.bench.statistics import critical_difference, friedman, groups, mean_ranks, wilcoxon, win_tie_loss

# AUC of C4.5 with and without a parameter and cut-off on 14 data sets: table 6 of Demšar (2006). It ranks .975 before
# .975 in the last row but one, by digits that are not printed.
DEMSAR = np.array(
    [
        [0.763, 0.768, 0.771, 0.798], [0.599, 0.591, 0.590, 0.569], [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657], [0.882, 0.888, 0.886, 0.898], [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685], [0.583, 0.583, 0.563, 0.625], [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000], [0.940, 0.962, 0.965, 0.962], [0.619, 0.666, 0.614, 0.669],
        [0.972, 0.981, 0.9751, 0.975], [0.957, 0.978, 0.946, 0.970],
    ]
)  # fmt: skip


def test_published_example():
    """Mean ranks 3.143, 2.000, 2.893, 1.964 and χ² = 9.28 (before the correction for ties) as printed there."""
    ranks = mean_ranks(DEMSAR, lower_is_better=False)
    assert ranks == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=5e-4)
    n, k = DEMSAR.shape
    uncorrected = 12 * n / (k * (k + 1)) * ((ranks**2).sum() - k * (k + 1) ** 2 / 4)
    assert uncorrected == pytest.approx(9.28, abs=0.01)
    statistic, p = friedman(-DEMSAR)
    assert statistic >= uncorrected  # ties make the statistic larger
    assert (statistic, p) == pytest.approx(tuple(stats.friedmanchisquare(*DEMSAR.T)))
    # The paper prints 1.25 for α = 0.05.
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=0.005)


# q of table 5(a) of Demšar (2006), α = 0.05.
@pytest.mark.parametrize("k, q", [(2, 1.960), (3, 2.343), (5, 2.728), (9, 3.102), (10, 3.164)])
def test_critical_values_are_those_of_the_table(k, q):
    assert critical_difference(k, 7) == pytest.approx(q * np.sqrt(k * (k + 1) / 42), rel=1e-3)


def test_ties_share_their_ranks():
    assert mean_ranks([[1.0, 1.0, 3.0]]).tolist() == [1.5, 1.5, 3.0]
    assert mean_ranks([[1.0, 1.0, 3.0]], lower_is_better=False).tolist() == [2.5, 2.5, 1.0]
    assert mean_ranks([[np.inf, 1.0, 3.0]]).tolist() == [3.0, 1.0, 2.0]


def test_wilcoxon_is_scipy_s_and_knows_equality(rng):
    a, b = rng.normal(size=12), rng.normal(0.5, size=12)
    assert wilcoxon(a, b) == pytest.approx(stats.wilcoxon(a, b).pvalue)
    assert wilcoxon(a, b) == pytest.approx(wilcoxon(b, a))
    assert wilcoxon(a, a + 1e-12) == 1.0
    # Eight wins of eight: 2 · 2⁻⁸ by hand.
    assert wilcoxon(np.zeros(8), np.arange(1.0, 9.0)) == pytest.approx(2 / 2**8)


def by_enumeration(difference):
    """Pratt's test from its definition, over all signs."""
    ranks = stats.rankdata(np.abs(difference))[difference != 0]
    signs = np.array(list(itertools.product([0, 1], repeat=len(ranks))))
    sums, observed = signs @ ranks, ranks[difference[difference != 0] > 0].sum()
    return min(1.0, 2 * min((sums <= observed).mean(), (sums >= observed).mean()))


@pytest.mark.parametrize("seed", range(8))
def test_wilcoxon_is_pratt_s(seed):
    """Differences with zeros and ties, in quarters so that sums of ranks are exact."""
    difference = np.random.default_rng(seed).integers(-4, 6, size=11) / 4
    p = wilcoxon(difference, np.zeros(11))
    assert p == pytest.approx(by_enumeration(difference), rel=1e-12)
    # scipy enumerates too where samples are this small, and approximates beyond.
    method = stats.PermutationMethod(n_resamples=2**11)
    assert p == pytest.approx(stats.wilcoxon(difference, zero_method="pratt", method=method).pvalue, rel=1e-9)


def test_wilcoxon_of_many_is_near_scipy_s_approximation(rng):
    difference = np.round(rng.normal(0.15, size=60), 1)
    assert (difference == 0).any()
    expected = stats.wilcoxon(difference, zero_method="pratt", method="approx", correction=False).pvalue
    assert wilcoxon(difference, np.zeros(60)) == pytest.approx(expected, abs=5e-3)


def test_wilcoxon_by_hand():
    # |d| = 0, 0.1, 0.2, 0.3: ranks 2, 3, 4 beside the zero; the 2 is negative. Sums of at most 2 are 0 and 2: 2 · 2/8.
    assert wilcoxon([0.5, 0.4, 0.7, 0.8], [0.5, 0.5, 0.5, 0.5]) == 0.5
    # Six of six: 2 · 2⁻⁶, however many zeros are beside.
    assert wilcoxon([1, 2, 3, 4, 5, 6, 0, 0, 0], np.zeros(9)) == 2 / 64
    # 0.2 − 0.1 and 0.4 − 0.3 are the same size, whatever their last digits: 3 of 8 sums of 1.5, 1.5, 3 reach 4.5.
    assert wilcoxon([0.1, 0.4, 1.0], [0.2, 0.3, 0.0]) == 0.75
    assert wilcoxon([np.inf, 1.0, 2.0], [np.inf, 0.0, 0.0]) == 0.5
    assert np.isnan(wilcoxon([np.nan, 1.0], [0.0, 0.0]))


def test_what_cannot_be_told():
    assert np.isnan(friedman([[1.0, 2.0, 3.0]])[1])
    assert np.isnan(friedman([[1.0, 2.0], [2.0, 1.0]])[1])


def test_win_tie_loss_turns_around():
    a, b = [1.0, 2.0, 3.0, 4.0], [2.0, 2.0 + 1e-12, 1.0, 1.0]
    assert win_tie_loss(a, b) == (1, 1, 2)
    assert win_tie_loss(b, a) == (2, 1, 1)
    assert win_tie_loss(a, b, lower_is_better=False) == (2, 1, 1)


def test_groups_are_maximal_and_hold_no_larger_difference():
    ranks = [1.0, 1.9, 2.5, 4.0, 4.2]
    assert groups(ranks, 1.0) == [[0, 1], [1, 2], [3, 4]]
    assert groups(ranks, 0.1) == []
    assert groups(ranks, 9.0) == [[0, 1, 2, 3, 4]]
