"""The smallest vector of a polyhedron: against another solver, and by its own proof."""

import numpy as np
import pytest

from certimetric.certify.exact.least_norm import least_norm, least_norm_in_rounds

ORDERS = {"l2": 2, "linf": 1, "l1": np.inf}
PRIMAL = {"l2": 2, "linf": np.inf, "l1": 1}


def programs(rng, n):
    for trial in range(n):
        m, p = int(rng.integers(1, 30)), int(rng.integers(1, 9))
        A, b = rng.standard_normal((m, p)), rng.standard_normal(m) - rng.random()
        if trial % 3 == 0:  # equal rows, and rows that depend on each other
            A = np.round(np.repeat(A, 2, axis=0)[:m], trial % 2)
        yield A, b


@pytest.mark.parametrize("norm", ORDERS)
def test_smallest_and_proven(norm, rng, smallest_step):
    # Weak duality: λᵀb ≤ λᵀAη ≤ ‖Aᵀλ‖_* ‖η‖ for λ ≥ 0; equality proves that no shorter vector is feasible.
    for A, b in programs(rng, 400 if norm == "l2" else 60):
        eta, multipliers = least_norm(A, b, ORDERS[norm])
        expected = np.inf if (b[~A.any(axis=1)] > 0).any() else smallest_step(A, b, norm)
        assert (multipliers >= 0).all()
        if eta is None:
            assert np.isinf(expected)
            pull = np.linalg.norm(A.T @ multipliers, ORDERS[norm])
            assert multipliers @ b > 0
            assert pull <= 1e-5 * (multipliers @ b)  # Farkas: nothing within 10⁵ is feasible
            continue
        size = np.linalg.norm(eta, PRIMAL[norm])
        assert (A @ eta >= b - 1e-9 * (1 + np.abs(b).max())).all()
        assert size == pytest.approx(expected, rel=1e-7, abs=1e-9)
        if multipliers.any():
            bound = multipliers @ b / np.linalg.norm(A.T @ multipliers, ORDERS[norm])
            assert bound == pytest.approx(size, rel=1e-8)
            assert bound <= size * (1 + 1e-9)


@pytest.mark.parametrize("norm", ["linf", "l1"])
def test_rounds_of_rows_give_the_same(norm, rng):
    for A, b in programs(rng, 20):
        sizes = np.linalg.norm(A, ORDERS[norm], axis=1)
        N, h = A[sizes > 0] / sizes[sizes > 0, None], b[sizes > 0] / sizes[sizes > 0]
        whole, _ = least_norm(N, h, ORDERS[norm])
        rounds, rows, multipliers = least_norm_in_rounds(N, h, ORDERS[norm], np.inf)
        assert (whole is None) == (rounds is None)
        if whole is not None:
            size = np.linalg.norm(whole, PRIMAL[norm])
            assert np.linalg.norm(rounds, PRIMAL[norm]) == pytest.approx(size, rel=1e-7, abs=1e-9)
            assert least_norm_in_rounds(N, h, ORDERS[norm], size * 0.999)[0] is None or size == 0
        assert len(rows) == len(multipliers)


def test_nothing_to_satisfy():
    eta, multipliers = least_norm(np.array([[1.0, 0.0]]), np.array([-1.0]), 2)
    assert (eta == 0).all()
    assert (multipliers == 0).all()
    assert least_norm(np.zeros((1, 2)), np.array([1.0]), 2)[0] is None
