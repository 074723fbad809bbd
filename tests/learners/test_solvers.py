"""The shared solvers: when a descent has converged."""

import numpy as np

from certimetric.learners.solvers import minimize_components
from certimetric.objectives import MetricObjective


class Rounded(MetricObjective):
    """A paraboloid whose value is taken a little too high, and higher every time."""

    def __init__(self):
        super().__init__(np.zeros((1, 2)), [])
        self.calls = 0

    def in_components(self, L):
        self.calls += 1
        return 1.0 + np.square(L - 3).sum() + 1e-15 * self.calls, 2 * (L - 3)


def test_a_descent_that_is_begun_anew_at_its_minimum_has_converged_whatever_rounding_says():
    solution = minimize_components(Rounded(), np.zeros((2, 2)), max_iter=100, tol=1e-9)
    np.testing.assert_allclose(solution.components, 3, rtol=1e-6)
    assert solution.converged
    assert not solution.reason
    assert (np.diff(solution.path) <= 0).all()


class Counted(MetricObjective):
    """A paraboloid that keeps where it was looked at."""

    def __init__(self):
        super().__init__(np.zeros((1, 2)), [])
        self.places = []

    def in_components(self, L):
        self.places.append(L.copy())
        return np.square(L - 3).sum(), 2 * (L - 3)


def test_an_objective_is_taken_once_where_a_descent_begins():
    objective, start = Counted(), np.zeros((2, 2))
    solution = minimize_components(objective, start, max_iter=100, tol=1e-9)
    np.testing.assert_allclose(solution.components, 3, rtol=1e-6)
    assert sum(np.array_equal(place, start) for place in objective.places) == 1
