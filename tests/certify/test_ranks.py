"""What can be among the k nearest after a change: against slow formulas, and against all sets of k."""

import itertools

import numpy as np

from certimetric import MahalanobisMetric
from certimetric.certify.ranks import least_set, ranked_candidates
from certimetric.certify.reference import ReferenceSet
from certimetric.geometry.norms import resolve_norm


def test_no_set_of_k_has_a_smaller_sum(rng):
    # The greedy set of a matroid: every value in order is at most that of any other set, so that sums are too.
    k = 3
    for _ in range(30):
        counts, values = rng.integers(0, k + 1, 8), rng.integers(-4, 5, 8).astype(float)
        counts[:k] = np.arange(k)  # so that there is a set
        forced = np.zeros(8, dtype=bool)
        forced[0] = counts[0] < k and rng.random() < 0.5
        sets = []
        for chosen in itertools.combinations(range(8), k):
            fits = all((counts[list(chosen)] >= t).sum() <= k - t for t in range(k + 1))
            if fits and set(np.flatnonzero(forced)) <= set(chosen):
                sets.append(np.sort(values[list(chosen)]))
        found = np.sort(values[least_set(values, counts, forced, k)])
        assert (found <= np.array(sets)).all() and any((found == each).all() for each in sets)


def test_ranks_are_those_of_the_formula(rng):
    X, L, k, size = rng.standard_normal((40, 3)), rng.standard_normal((2, 3)), 3, 0.4
    reference = ReferenceSet(MahalanobisMetric.from_components(L), X, np.arange(40) % 2)
    norm, _ = reference.in_range(resolve_norm("linf"))
    data = reference.kernel_data(norm)
    x = rng.standard_normal((1, 3))
    point, error = reference.embed(x)
    near, _ = reference.neighbors(point, k)
    row = ((point - reference.points) ** 2).sum(axis=1)
    query, largest = (row, point[0], error[0], 1.0), (data[2].max(), data[1].max(), data[4].max())
    candidates, above, above_of_class, stays, low, high = ranked_candidates(query, near[0], size, 1, data, largest)

    squared = ((x - X) @ L.T @ L * (x - X)).sum(axis=1)
    gaps = squared[:, None] - squared
    dual = norm.dual_norm((X[:, None] - X) @ L.T @ L)
    e = np.where(gaps > 0, gaps / (2 * np.where(dual > 0, dual, 1.0)), 0.0)
    expected = np.flatnonzero((e >= size).sum(axis=1) < k)
    np.testing.assert_array_equal(np.sort(candidates), expected)
    assert (low <= high).all()
    among = e[np.ix_(candidates, candidates)]
    np.testing.assert_allclose(above, -np.sort(-among, axis=1)[:, :k], rtol=1e-9)
    own = np.where(candidates % 2 == 1, among, 0.0)
    np.testing.assert_allclose(above_of_class, -np.sort(-own, axis=1)[:, :k], rtol=1e-9)
    for place, j in enumerate(candidates):
        others = np.delete(among[:, place], place)
        assert stays[place] == (-1.0 if j not in near[0] else np.partition(others, k - 1)[k - 1]) or np.isclose(
            stays[place], np.partition(others, k - 1)[k - 1], rtol=1e-9
        )
