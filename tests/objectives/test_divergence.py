"""What bounds the minimum of a convex objective with a log det divergence, and the convexity that it rests on."""

import numpy as np
import pytest
from scipy.optimize import minimize

from certimetric.objectives import LogDetDivergence, MetricObjective, PairBounds, QuadrupletHinge, logdet_gap


def pairs_of(rng, n=30, d=3):
    """Points and labelled pairs, some of points that are nearly or exactly equal."""
    X = rng.standard_normal((n, d))
    X[1] = X[0] + 1e-6  # rounding changes their squared distance by 1e-10 of itself, and a price by as much
    X[2], X[3] = 0.0, 1e-150  # whose squared distance does not count
    X[5] = X[4]
    pairs = np.r_[[[0, 1], [0, 1], [2, 3], [4, 5]], rng.integers(0, n, (40, 2))]
    return X, pairs, np.r_[1, -1, -1, -1, rng.choice([-1, 1], 40)]


def terms_of(rng, gamma):
    X, pairs, y = pairs_of(rng)
    quadruplets = np.c_[pairs, pairs[::-1]]
    hinge = QuadrupletHinge(quadruplets, rng.uniform(0, 1, len(pairs)))
    return X, [PairBounds(pairs, y, np.where(y == 1, 0.5, 4.0), gamma), hinge]


def test_prices_are_convex_in_the_matrix(rng):
    # A tangent of each, taken anywhere, lies below it everywhere.
    X, terms = terms_of(rng, 1.0)
    for term in terms:
        price = MetricObjective(X, [term])
        for scales in 10 ** rng.uniform(-3, 3, (40, 2, 3)):
            K, other = (rng.standard_normal((3, 3)) * scale for scale in scales)
            value, slope = price.in_matrix(K)
            tangent = value + np.vdot(slope, other.T @ other - K.T @ K)
            assert tangent <= price.in_matrix(other)[0] + 1e-9 * (abs(value) + abs(np.vdot(slope, K.T @ K)))


@pytest.mark.parametrize(("kind", "gamma"), [(0, 1e-3), (0, 1.0), (0, 1e3), (1, 1.0)])
def test_no_other_solver_finds_less_than_the_bound(rng, kind, gamma):
    # Nelder and Mead know no gradient and no convexity; what they find from near the minimum bounds it from above.
    X, terms = terms_of(rng, gamma)
    prior = rng.standard_normal((3, 3)) + 2 * np.eye(3)
    objective = MetricObjective(X, [LogDetDivergence(prior), terms[kind]])

    def value_and_gradient(flat):
        value, gradient = objective.in_components(flat.reshape(3, 3))
        return value, gradient.ravel()

    best = minimize(value_and_gradient, prior.ravel(), jac=True, method="BFGS").x
    options = {"maxiter": 400, "xatol": 1e-10, "fatol": 1e-12}
    found = minimize(lambda flat: value_and_gradient(flat)[0], best, method="Nelder-Mead", options=options)
    gaps = []
    for size in (0.0, 1e-4, 1e-2, 0.1, 1.0):
        K = best.reshape(3, 3) + size * rng.standard_normal((3, 3))
        value, gradient = objective.in_components(K)
        gaps.append(logdet_gap(K, gradient))
        assert value - gaps[-1] <= found.fun + 1e-9 * (1 + abs(value))
    assert gaps[0] <= 1e-3 * (1 + found.fun)
    assert gaps[0] < min(gaps[2:])


def test_gap_does_not_depend_on_coordinates(rng):
    # Of K T with a regular T it is that of K, in coordinates where the prior is the identity.
    X, pairs, y = pairs_of(rng)
    T, K = (rng.standard_normal((3, 3)) + 2 * np.eye(3) for _ in "TK")
    slack = PairBounds(pairs, y, 2.0)
    here = MetricObjective(X, [LogDetDivergence(T), slack]).in_components(K @ T)[1]
    there = MetricObjective(X @ T.T, [LogDetDivergence(np.eye(3)), slack]).in_components(K)[1]
    assert logdet_gap(K @ T, here) == pytest.approx(logdet_gap(K, there), rel=1e-9)
    assert logdet_gap(K, -10.0 * np.linalg.inv(K).T) == np.inf  # a tangent that falls without bound
