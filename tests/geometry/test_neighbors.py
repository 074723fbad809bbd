"""Exact neighbours against brute force."""

import numpy as np
import pytest

from certimetric.geometry.kernels import squared_distance
from certimetric.geometry.neighbors import nearest_neighbors


def brute_force(Q, P, k, exclude=None):
    squared = ((Q[:, None] - P[None]) ** 2).sum(axis=-1)
    if exclude is not None:
        rows = np.flatnonzero(exclude >= 0)
        squared[rows, exclude[rows]] = np.inf
    order = np.argsort(squared, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(squared, order, 1)


@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_agrees_with_brute_force(rng, offset):
    P, Q = rng.standard_normal((80, 6)) + offset, rng.standard_normal((30, 6)) + offset
    indices, squared = nearest_neighbors(Q, P, 7)
    expected, values = brute_force(Q, P, 7)
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_allclose(squared, values, rtol=1e-9)


def test_ties_go_to_the_smaller_index(rng):
    # An integer grid has many exact ties, and many duplicates.
    P, Q = rng.integers(0, 3, (60, 2)).astype(float), rng.integers(0, 3, (40, 2)).astype(float)
    indices, squared = nearest_neighbors(Q, P, 9)
    expected, values = brute_force(Q, P, 9)
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_array_equal(squared, values)


@pytest.mark.parametrize("r", [1, 2, 7])
def test_queries_far_beyond_the_points(rng, r):
    # All distances agree in most of their digits: what the expanded squares may discard is next to nothing.
    P = rng.standard_normal((60, r)) + rng.choice([0.0, 1e3, 1e9], (1, r))
    Q = rng.standard_normal((80, r)) * 10.0 ** rng.uniform(0, 17, (80, 1))
    indices, squared = nearest_neighbors(Q, P, 5)
    # Direct differences of all pairs, by the routine of the search itself.
    every = np.array([[squared_distance(q, p) for p in P] for q in Q])
    expected = np.argsort(every, axis=1, kind="stable")[:, :5]
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_array_equal(squared, np.take_along_axis(every, expected, 1))


def test_near_duplicates_far_from_the_origin(rng):
    # The expanded square cancels completely here; direct differences do not.
    base = rng.standard_normal((20, 3)) * 1e4
    P = np.concatenate([base + 1e-7 * rng.standard_normal(base.shape) for _ in range(4)])
    indices, _ = nearest_neighbors(base, P, 4)
    assert (np.sort(indices % 20, axis=1) == np.arange(20)[:, None]).all()
    expected, _ = brute_force(base, P, 4)
    np.testing.assert_array_equal(indices, expected)


def test_chunks_and_threads_change_nothing(rng):
    P = rng.standard_normal((120, 4))
    own = np.arange(120)
    reference = nearest_neighbors(P, P, 5, exclude=own)
    np.testing.assert_array_equal(reference[0], brute_force(P, P, 5, own)[0])
    for options in ({"memory": 1}, {"memory": 5000}, {"n_jobs": 3}):
        for a, b in zip(reference, nearest_neighbors(P, P, 5, exclude=own, **options)):
            np.testing.assert_array_equal(a, b)
