"""Terms of chances of neighbours against the whole table of them, however few pairs are looked at."""

import numpy as np
import pytest

from certimetric.objectives import KernelRegression, MetricObjective, MetricState, StochasticNeighbors
from certimetric.objectives import neighborhood as module

N, D = 300, 6


def blobs():
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((4, D)) * 2
    y = rng.integers(0, 4, N)
    return centres[y] + rng.standard_normal((N, D)), y


def with_duplicates():
    X, y = blobs()
    return np.concatenate([X, X[:60]]), np.concatenate([y, (y[:60] + 1) % 4])


def with_an_outlier():
    X, y = blobs()
    X[0] = 1e5  # its squared distances cannot be told apart in single precision
    return X, y


SAMPLES = {"blobs": blobs, "duplicates": with_duplicates, "outlier": with_an_outlier}
SCALES = [1e-3, 0.5, 1.0, 3.0, 10.0, 100.0]


def by_definition(L, X, y, term):
    """Value and gradient in L from the table of all direct differences, and what rounding each d² makes of it."""
    gaps = X[:, None] - X[None]
    squared = ((gaps @ L.T) ** 2).sum(axis=-1)
    np.fill_diagonal(squared, np.inf)
    p = np.exp(squared.min(axis=1, keepdims=True) - squared)
    p /= p.sum(axis=1, keepdims=True)
    if term is StochasticNeighbors:
        same = y[:, None] == y[None]
        own = (p * same).sum(axis=1, keepdims=True)
        weights = p * (same - own)  # of d²_ij in one minus the mean
        losses = 1 - own
    else:
        found = p @ y
        weights = 2 * (found - y)[:, None] * p * (found[:, None] - y[None])
        losses = (found - y) ** 2
    gradient = 2 * L @ np.einsum("ij,ija,ijb->ab", weights, gaps, gaps) / len(X)
    np.fill_diagonal(squared, 0.0)
    off = 1e-15 * np.abs(weights) * squared  # by rounding of d², of which a chance is off by as much of itself
    rounding = 2 * np.abs(L) @ np.einsum("ij,ija,ijb->ab", off, np.abs(gaps), np.abs(gaps)) / len(X)
    return losses.mean(), gradient, rounding.max()


TERMS = {StochasticNeighbors: lambda X, y: y, KernelRegression: lambda X, y: np.tanh(X[:, 0]) + y}
each_term = pytest.mark.parametrize("term", TERMS)


@pytest.mark.parametrize("share", [0.0, module._DENSE, 1.0], ids=["blocks", "as it comes", "lists"])
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("sample", SAMPLES)
@each_term
def test_against_the_definition(term, sample, scale, share, monkeypatch):
    monkeypatch.setattr(module, "_DENSE", share)
    monkeypatch.setattr(module, "BLOCK_BYTES", 20 * 8 * N)  # several blocks in every part,
    monkeypatch.setattr(module, "_STEP", 4)  # each large enough to ask a few rows first
    X, y = SAMPLES[sample]()
    y = TERMS[term](X, y)
    L = scale * (np.eye(D) + 0.1 * np.random.default_rng(1).standard_normal((D, D)))
    value, gradient = MetricObjective(X, [term(y)]).in_components(L)
    expected, expected_gradient, rounding_of_pairs = by_definition(L, X, y, term)
    # Squares are expanded in whole blocks: they are off by rounding errors of the largest.
    rounding = 1e-15 * (np.linalg.norm(X @ L.T, axis=1).max() ** 2 if share < 1 else 1.0)
    assert value == pytest.approx(expected, abs=1e-12 + rounding)
    size = np.abs(expected_gradient).max() + 1e-9 * (scale if sample == "blobs" else 1e10 * scale)
    atol = (1e-10 + rounding) * size + rounding_of_pairs
    np.testing.assert_allclose(gradient, expected_gradient, rtol=0, atol=atol)


def test_pairs_left_out_weigh_less_than_a_rounding_error():
    X, y = blobs()
    sums = module._Sums(3 * X, X, y.astype(float), np.ones(len(y)), True)
    starts, others = sums._pairs_that_count(slice(0, N))
    assert starts[-1] < 0.2 * N * N  # or the test shows nothing
    squared = ((3 * X[:, None] - 3 * X[None]) ** 2).sum(axis=-1)
    np.fill_diagonal(squared, np.inf)
    chances = np.exp(squared.min(axis=1, keepdims=True) - squared)
    for i in range(N):
        chances[i, others[starts[i] : starts[i + 1]]] = 0.0
    assert (chances.sum(axis=1) <= 2.0**-53).all()


@pytest.mark.parametrize("scale", [0.3, 3.0])
@each_term
def test_threads_change_nothing(term, scale):
    X, y = blobs()
    state = MetricState(X, scale * np.eye(D))
    results = [term(y, n_jobs=n_jobs).evaluate(state) for n_jobs in (1, 2, 3)]
    for result in results[1:]:
        assert result.value == results[0].value
        np.testing.assert_array_equal(result.products, results[0].products)


@each_term
def test_gradients_by_finite_differences(term, rng):
    X, y = blobs()
    X, y = X[:80], TERMS[term](X, y)[:80]
    L, step = 0.6 * np.eye(D) + 0.1 * rng.standard_normal((D, D)), rng.standard_normal((D, D))
    objective = MetricObjective(X, [term(y)])
    slope = np.vdot(objective.in_components(L)[1], step)
    h = 1e-5
    up, down = (objective.in_components(L + sign * h * step)[0] for sign in (1, -1))
    assert slope == pytest.approx((up - down) / (2 * h), rel=1e-5)
