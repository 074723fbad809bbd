"""Objectives of fewer pairs than rows, which are not mapped for them."""

import numpy as np
import pytest

from certimetric.objectives import MetricObjective, PairBounds, QuadrupletHinge, TermValue
from certimetric.objectives.gradient import MetricState


class Mapped:
    """A term that adds nothing, and asks for all rows in the space of the metric."""

    def evaluate(self, state):
        none = np.zeros(0, dtype=np.int64)
        return TermValue(0.0 * state.Z[0, 0], none, none, np.zeros(0))


@pytest.mark.parametrize("n_pairs", [0, 1, 400])
def test_few_pairs_tell_what_mapped_rows_tell(rng, n_pairs):
    X, L = rng.standard_normal((900, 40)) + 10, rng.standard_normal((7, 40))  # 400 differences are three blocks
    pairs, y = rng.integers(900, size=(n_pairs, 2)), rng.choice([-1, 1], n_pairs)
    bounds = PairBounds(pairs, y, np.where(y == 1, 400.0, 700.0))
    hinge = QuadrupletHinge(np.concatenate([pairs, pairs[::-1]], axis=1)[: n_pairs // 2])
    for terms in ([bounds], [hinge], [bounds, hinge]):
        few = MetricObjective(X, terms)
        # Whether rows are mapped from the start, or from the last term on, which leaves both kinds of sums.
        for mapped in (MetricObjective(X, [Mapped(), *terms]), MetricObjective(X, [*terms, Mapped(), *terms])):
            times = (len(mapped.terms) - 1) // len(terms)
            for value_and_gradient in ("in_components", "in_matrix"):
                value, gradient = getattr(few, value_and_gradient)(L)
                expected, slope = getattr(mapped, value_and_gradient)(L)
                assert value * times == pytest.approx(expected, rel=1e-12)
                np.testing.assert_allclose(gradient * times, slope, rtol=1e-10, atol=1e-10 * np.abs(slope).max())


def test_only_as_many_pairs_as_rows_have_rows_mapped(rng):
    X, i, j = rng.standard_normal((20, 3)), rng.integers(20, size=20), rng.integers(20, size=20)
    state = MetricState(X, np.eye(3))
    few = state.squared_distances(i[1:], j[1:])
    assert not state.is_mapped
    np.testing.assert_allclose(state.squared_distances(i, j)[1:], few, rtol=1e-13)
    assert state.is_mapped
