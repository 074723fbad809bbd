"""ITML: the minimum, where the published sweeps end too, and a metric that stays positive definite."""

import tracemalloc
import warnings

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.preprocessing import StandardScaler

from certimetric import ITML
from certimetric.constraints.pairs import pairs_of_classes

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def labelled_pairs(rng, n=60, d=3):
    pairs = rng.standard_normal((n, 2, d))
    return pairs, rng.choice([-1, 1], n)


def published_sweeps(pairs, y, prior, upper, lower, gamma, sweeps):
    """Algorithm 1 of the paper, step by step, with the projection for any gamma."""
    A = prior.copy()
    multiplier, slack = np.zeros(len(y)), np.where(y == 1, upper, lower).astype(float)
    for _ in range(sweeps):
        for t, ((a, b), delta) in enumerate(zip(pairs, y)):
            v = a - b
            p = v @ A @ v
            if p == 0:
                continue
            alpha = min(multiplier[t], delta * gamma / (gamma + 1) * (1 / p - 1 / slack[t]))
            beta = delta * alpha / (1 - delta * alpha * p)
            slack[t] = gamma * slack[t] / (gamma + delta * alpha * slack[t])
            multiplier[t] -= alpha
            A = A + beta * np.outer(A @ v, v @ A)
    return A


@pytest.mark.parametrize("gamma", [0.1, 1.0, 20.0])
def test_ends_where_the_published_sweeps_end(rng, gamma):
    pairs, y = labelled_pairs(rng, n=8)
    pairs[5, 1] = pairs[5, 0]  # says nothing, and must not divide by zero
    B = rng.standard_normal((3, 3))
    for prior in (np.eye(3), B @ B.T + np.eye(3)):
        itml = ITML(gamma, bounds=(0.5, 4.0), prior=prior, tol=1e-9).fit_pairs(pairs, y)
        assert itml.converged_
        expected = published_sweeps(pairs, y, prior, 0.5, 4.0, gamma, 1000)
        np.testing.assert_allclose(itml.get_mahalanobis_matrix(), expected, rtol=1e-3, atol=1e-4)


def test_converges_to_the_minimum_of_the_divergence(rng):
    # The convex problem that the projections solve, given to a generic optimiser over M = LᵀL and log ξ. The slack
    # of each pair is eliminated: where the bound is kept ξ = ξ₀, elsewhere the constraint is active and ξ = d².
    pairs, y = labelled_pairs(rng, n=12, d=2)
    v, gamma, bound = pairs[:, 0] - pairs[:, 1], 2.0, np.where(y == 1, 0.5, 4.0)

    def objective(flat):
        M = flat.reshape(2, 2).T @ flat.reshape(2, 2)
        squared = np.einsum("ni,ij,nj->n", v, M, v)
        kept = np.where(y == 1, squared <= bound, squared >= bound)
        ratio = np.where(kept, 1.0, squared / bound)
        return np.trace(M) - np.linalg.slogdet(M)[1] - 2 + gamma * (ratio - np.log(ratio) - 1).sum()

    best = minimize(objective, np.eye(2).ravel(), method="BFGS", options={"gtol": 1e-9})
    itml = ITML(gamma, bounds=(0.5, 4.0), tol=1e-10).fit_pairs(pairs, y)
    assert itml.converged_
    assert objective(itml.components_.ravel()) == pytest.approx(best.fun, rel=1e-7)
    L = best.x.reshape(2, 2)
    np.testing.assert_allclose(itml.get_mahalanobis_matrix(), L.T @ L, rtol=1e-4, atol=1e-5)


def test_bounds_are_percentiles_of_squared_distances_under_the_prior(iris):
    X, y = iris
    i, j = np.triu_indices(len(X), 1)
    for prior, M in (("identity", np.eye(4)), ("covariance", np.linalg.inv(np.cov(X.T)))):
        squared = np.einsum("ni,ij,nj->n", X[i] - X[j], M, X[i] - X[j])
        itml = ITML(prior=prior, max_iter=1, random_state=0).fit(X, y)
        np.testing.assert_allclose(itml.bounds_, np.percentile(squared, [5, 95]), rtol=0.1)
    assert ITML(bounds=(1, 9), max_iter=1).fit(X, y).bounds_ == (1.0, 9.0)


def test_moves_pairs_towards_their_bounds(wine):
    X, y = wine
    itml = ITML(random_state=0).fit(X, y)
    i, j = np.triu_indices(len(X), 1)
    same = y[i] == y[j]

    def separation(Z):
        squared = np.square(Z[i] - Z[j]).sum(axis=1)
        return squared[~same].mean() / squared[same].mean()

    assert separation(itml.transform(X)) > 1.5 * separation(X)


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_stays_positive_definite_where_constraints_conflict(rng, scale):
    # The same directions are wanted both short and long, at a high price: M is stretched far, never beyond definite.
    first = rng.standard_normal((40, 4)) * scale
    direction = np.array([1.0, 1e-6, 0, 0]) * scale
    pairs = np.stack([first, first + direction * rng.standard_normal((40, 1))], axis=1)
    y = np.tile([-1, 1], 20)
    itml = ITML(1e6, bounds=(1e-3 * scale**2, 1e3 * scale**2), max_iter=300).fit_pairs(pairs, y)
    assert np.isfinite(itml.components_).all()
    assert np.linalg.matrix_rank(itml.components_, tol=1e-200) == 4


def test_equal_instances_leave_the_prior():
    pairs = np.ones((3, 2, 2))
    prior = np.array([[2.0, 0.5], [0.5, 1.0]])
    itml = ITML(prior=prior).fit_pairs(pairs, [1, -1, 1])
    np.testing.assert_allclose(itml.get_mahalanobis_matrix(), prior)


def test_joint_rotation_gives_the_rotated_metric(rng):
    pairs, y = labelled_pairs(rng, d=4)
    Q = np.linalg.qr(rng.standard_normal((4, 4)))[0]
    a, b = (ITML(bounds=(0.5, 4), tol=1e-6).fit_pairs(some, y) for some in (pairs, pairs @ Q))
    np.testing.assert_allclose(Q @ b.get_mahalanobis_matrix() @ Q.T, a.get_mahalanobis_matrix(), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"bounds": (1.0, 0.0)}, "two positive numbers"),
        ({"bounds": (1.0, 2.0, 3.0)}, "two positive numbers"),
        ({"prior": np.eye(3)}, r"shape \(4, 4\), got \(3, 3\)"),
        ({"prior": -np.eye(4)}, "positive definite"),
        ({"prior": "wishart"}, "prior"),
        ({"gamma": 0}, "gamma"),
    ],
)
def test_bad_settings_are_named(iris, setting, message):
    with pytest.raises(ValueError, match=message):
        ITML(**setting).fit(*iris)


def test_bad_pair_labels_are_named(rng):
    pairs, _ = labelled_pairs(rng)
    with pytest.raises(ValueError, match="got 0"):
        ITML().fit_pairs(pairs, np.zeros(60, dtype=int))


def test_verbose_prints_the_objective_and_what_bounds_it(iris, capsys):
    ITML(max_iter=20, tol=1e-12, verbose=True, random_state=0).fit(*iris)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert all("objective" in line and "at least" in line for line in lines)


@pytest.mark.parametrize("tol", [0.2, 0.02, 1e-4])
def test_stops_within_tol_of_the_minimum(rng, capsys, tol):
    # What stands below the objective no minimum undercuts: it never falls, and the objective where the fit stopped is
    # at most 1 + tol times that of a fit which went on for long.
    pairs, y = labelled_pairs(rng, n=60, d=16)
    printed = []
    for some in (tol, 1e-12):
        itml = ITML(2.0, bounds=(0.5, 4.0), tol=some, verbose=True).fit_pairs(pairs, y)
        lines = capsys.readouterr().out.splitlines()
        printed.append([[float(line.split()[-4].rstrip(",")), float(line.split()[-1])] for line in lines])
    v, M = pairs[:, 0] - pairs[:, 1], itml.get_mahalanobis_matrix()
    ratio = np.einsum("ni,ij,nj->n", v, M, v) / np.where(y == 1, 0.5, 4.0)
    broken = ratio[y * ratio > y]
    objective = np.trace(M) - np.linalg.slogdet(M)[1] - 16 + 2.0 * (broken - np.log(broken) - 1).sum()
    (short, long) = map(np.array, printed)
    np.testing.assert_allclose(long[-1], objective, rtol=1e-4)
    assert (np.diff(long[:, 1]) >= 0).all()
    assert (long[:, 0] >= objective * (1 - 1e-5)).all()
    assert (long[:, 1] <= objective * (1 + 1e-5)).all()
    assert short[-1, 0] <= (1 + tol) * objective * (1 + 1e-5)
    assert len(short) < len(long)


@pytest.mark.parametrize("standardise", [False, True])
@pytest.mark.parametrize("load", [load_iris, load_wine, load_breast_cancer, load_digits])
def test_real_data_converge_by_default(load, standardise):
    X, y = load(return_X_y=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        itml = ITML(random_state=0).fit(StandardScaler().fit_transform(X) if standardise else X, y)
    assert itml.converged_


@pytest.mark.parametrize("d", [5, 64])
def test_many_classes_take_no_more_steps(rng, d):
    # 500 classes that no metric tells apart, whose 30,000 pairs conflict.
    itml = ITML(random_state=0, max_iter=60).fit(rng.standard_normal((4000, d)), np.arange(4000) % 500)
    assert itml.converged_


@pytest.mark.parametrize("bounds", [(1e-9, 1e-6), (1e6, 1e9), (1e6, 1e-6), (1e-6, 1e6)])
def test_bounds_of_another_size_than_the_distances_are_reached(iris, bounds):
    # At ratios of 1e-9 to 1e9 between distances and bounds the objective starts many orders above its minimum.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if bounds[0] > bounds[1]:
            warnings.filterwarnings("ignore", "ITML did not move")
        assert ITML(bounds=bounds, random_state=0).fit(*iris).converged_


def test_ends_below_the_sweeps_that_a_price_makes_slow():
    # A hundred sweeps of the paper leave a third more than the minimum here; what bounds it says so.
    X, y = load_digits(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    rng = np.random.RandomState(0)
    i, j = (rng.randint(len(X), size=400) for _ in "ij")
    kinds = np.where(y[i] == y[j], 1, -1)
    itml = ITML(bounds=(20.0, 200.0), tol=1e-4, preprocessor=X).fit(np.stack([i, j], axis=1), kinds)
    assert itml.converged_

    def objective(M):
        ratio = np.einsum("ni,ij,nj->n", X[i] - X[j], M, X[i] - X[j]) / np.where(kinds == 1, 20.0, 200.0)
        broken = ratio[(kinds * ratio > kinds) & (ratio > 0)]
        return np.trace(M) - np.linalg.slogdet(M)[1] - len(M) + (broken - np.log(broken) - 1).sum()

    swept = published_sweeps(X[np.stack([i, j], axis=1)], kinds, np.eye(X.shape[1]), 20.0, 200.0, 1.0, 10)
    assert objective(itml.get_mahalanobis_matrix()) == pytest.approx(itml.objective_)
    assert itml.objective_ < objective(swept)


def test_the_number_of_pairs_is_bounded_whatever_the_number_of_classes(rng, monkeypatch):
    # 20 c² draws of each kind as in the paper, up to 15,000: 500 classes would draw five million.
    drawn = []
    monkeypatch.setattr(
        "certimetric.learners.itml.pairs_of_classes",
        lambda y, n, rng, weights: drawn.append(n) or pairs_of_classes(y, min(n, 50), rng, weights),
    )
    for classes, draws in ((2, 80), (10, 2000), (27, 14_580), (28, 15_000), (500, 15_000)):
        y = np.arange(2 * classes) % classes
        ITML(max_iter=1, random_state=0).fit(rng.standard_normal((len(y), 2)), y)
        assert drawn.pop() == draws
    ITML(n_constraints=70_000, max_iter=1).fit(rng.standard_normal((4, 2)), [0, 0, 1, 1])
    assert drawn == [70_000]


def test_memory_does_not_hold_the_differences_of_pairs(rng):
    X, y = rng.standard_normal((1000, 100)), np.arange(1000) % 250
    itml = ITML(max_iter=1, n_constraints=30_000, random_state=0)
    itml.fit(X[:8], y[:8] % 2)  # compiled
    tracemalloc.start()
    itml.fit(X, y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16e6  # differences of 31,500 pairs would take 25 MB alone
