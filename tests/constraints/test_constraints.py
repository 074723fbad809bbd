"""Target neighbours, triplets and scatters of pairs."""

from itertools import combinations

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from certimetric.constraints import PairScatter, nearest_of_other_classes, nearest_triplets, target_neighbors
from certimetric.constraints.tuples import numbered


def test_target_neighbors_against_scikit_learn(rng):
    X, y = rng.standard_normal((60, 4)), rng.integers(0, 3, 60)
    targets = target_neighbors(X, y, 3)
    others = nearest_of_other_classes(X, y, 5)
    for c in range(3):
        own, rest = np.flatnonzero(y == c), np.flatnonzero(y != c)
        found = NearestNeighbors(n_neighbors=4).fit(X[own]).kneighbors(X[own], return_distance=False)[:, 1:]
        np.testing.assert_array_equal(targets[own], own[found])
        found = NearestNeighbors(n_neighbors=5).fit(X[rest]).kneighbors(X[own], return_distance=False)
        np.testing.assert_array_equal(others[own], rest[found])


def test_small_classes_have_fewer_targets(rng):
    X, y = rng.standard_normal((10, 2)), np.array([0] * 7 + [1] * 2 + [2])
    targets = target_neighbors(X, y, 3)
    np.testing.assert_array_equal((targets >= 0).sum(axis=1), [3] * 7 + [1] * 2 + [0])
    triplets = nearest_triplets(X, y, 3, 2)
    assert len(triplets) == (7 * 3 + 2 * 1) * 2
    i, j, l = triplets.T
    assert (y[i] == y[j]).all()
    assert (y[i] != y[l]).all()
    assert (i != j).all()


def test_duplicates_are_neighbors_but_not_of_themselves():
    X, y = np.ones((6, 2)), np.array([0, 0, 0, 1, 1, 1])
    targets = target_neighbors(X, y, 2)
    assert (targets != np.arange(6)[:, None]).all()
    assert (y[targets] == y[:, None]).all()


def explicit_pairs(X, y):
    i, j = np.array(list(combinations(range(len(X)), 2))).T
    return np.stack([X[i], X[j]], axis=1), np.where(y[i] == y[j], 1, -1)


def test_scatter_of_labels_is_that_of_all_pairs(rng):
    # Σ_{i<j} (x_i − x_j)(x_i − x_j)ᵀ = n Σ (x_i − m)(x_i − m)ᵀ
    X, y = rng.standard_normal((25, 3)) + 50, rng.integers(0, 4, 25)
    fast, slow = PairScatter.from_labels(X, y), PairScatter.from_pairs(*explicit_pairs(X, y))
    assert (fast.n_similar, fast.n_dissimilar) == (slow.n_similar, slow.n_dissimilar)
    np.testing.assert_allclose(fast.similar, slow.similar, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(fast.dissimilar, slow.dissimilar, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("parts", [1, 2, 7])
def test_merged_parts_are_the_whole(rng, parts):
    pairs, y = rng.standard_normal((200, 2, 4)), rng.choice([-1, 1], 200)
    whole = PairScatter.from_pairs(pairs, y)
    pieces = [PairScatter.from_pairs(pairs[i::parts], y[i::parts]) for i in range(parts)]
    merged = sum(pieces[1:], start=pieces[0])
    backwards = sum(pieces[-2::-1], start=pieces[-1])
    for other in (merged, backwards):
        assert (other.n_similar, other.n_dissimilar) == (whole.n_similar, whole.n_dissimilar)
        np.testing.assert_allclose(other.similar_sum, whole.similar_sum, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(other.dissimilar_sum, whole.dissimilar_sum, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "indicators",
    [
        np.array([[0, 2], [1, 0]]),  # all rows up to the last
        np.array([[5, 2], [9, 5]]),
        np.array([[10**6, 2], [9, 5]]),  # so few that they are sorted
        np.array([[-1, 2], [9, -1]]),
        np.array([["b", "a"], ["c", "b"]]),
        np.array([[3, 1]], dtype=np.uint8),
    ],
)
def test_numbered_indicators_are_those_given(indicators):
    distinct, index = numbered(indicators)
    np.testing.assert_array_equal(distinct, np.unique(indicators))
    np.testing.assert_array_equal(distinct[index], indicators)
    assert distinct.dtype == indicators.dtype
    assert index.dtype == np.int64
