"""SDML: the conditions of the graphical lasso's minimum, its shift, priors, and hard pairs."""

import tracemalloc
import warnings

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.datasets import load_digits, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from certimetric import SDML
from certimetric.constraints import random_pairs


def labelled_pairs(rng, n=100, d=4):
    pairs = rng.standard_normal((n, 2, d)) @ (np.eye(d) + 0.3 * rng.standard_normal((d, d)))
    y = np.where(np.arange(n) % 2, 1, -1)
    pairs[y == 1, 1, :2] = pairs[y == 1, 0, :2] + 0.3 * (pairs[y == 1, 1, :2] - pairs[y == 1, 0, :2])
    return pairs, y


def matrix_of(sdml, pairs, y, prior):
    """P, as it is defined."""
    v = pairs[:, 0] - pairs[:, 1]
    return (1 + sdml.shift_) * np.linalg.inv(prior) + sdml.balance_ * (v.T * y) @ v / len(y)


@pytest.mark.parametrize("balance", [None, 0.05, 2.0])
@pytest.mark.parametrize("prior", ["identity", "array"])
@pytest.mark.filterwarnings("ignore:SDML shifted")
def test_metric_meets_the_conditions_of_the_minimum(rng, prior, balance):
    # 0 is a subgradient: P − M⁻¹ is 0 on the diagonal, and ∓sparsity where an entry of M is ±, within it where it is 0.
    pairs, y = labelled_pairs(rng)
    B = rng.standard_normal((4, 4))
    M0 = np.eye(4) if prior == "identity" else B @ B.T + np.eye(4)
    sdml = SDML(balance, sparsity=0.05, prior=prior if prior == "identity" else M0, tol=1e-10).fit(pairs, y)
    M, off = sdml.get_mahalanobis_matrix(), ~np.eye(4, dtype=bool)
    residual = np.linalg.inv(M) - matrix_of(sdml, pairs, y, M0)
    np.testing.assert_allclose(np.diagonal(residual), 0, atol=1e-3)
    assert (np.abs(residual[off]) <= 0.05 + 1e-3).all()
    active = off & (np.abs(M) > 1e-6)
    np.testing.assert_allclose(residual[active], 0.05 * np.sign(M[active]), atol=1e-3)


def test_no_generic_optimiser_finds_less(rng):
    pairs, y = labelled_pairs(rng, d=3)
    sdml = SDML(sparsity=0.03, tol=1e-10).fit(pairs, y)
    P = matrix_of(sdml, pairs, y, np.eye(3))

    def objective(M):
        return np.vdot(M, P) - np.linalg.slogdet(M)[1] + 0.03 * (np.abs(M).sum() - np.trace(M))

    assert sdml.objective_ == pytest.approx(objective(sdml.get_mahalanobis_matrix()), rel=1e-9)
    found = minimize(
        lambda flat: objective(flat.reshape(3, 3).T @ flat.reshape(3, 3)),
        np.eye(3).ravel(),
        method="Nelder-Mead",
        options={"maxiter": 20_000, "maxfev": 20_000, "xatol": 1e-10, "fatol": 1e-12},
    )
    assert sdml.objective_ <= found.fun + 1e-6


def test_without_sparsity_it_is_the_inverse_and_with_much_it_is_diagonal(rng):
    pairs, y = labelled_pairs(rng)
    plain = SDML(sparsity=0).fit(pairs, y)
    np.testing.assert_allclose(plain.get_mahalanobis_matrix(), np.linalg.inv(matrix_of(plain, pairs, y, np.eye(4))))
    sparse = SDML(sparsity=10).fit(pairs, y)
    P = matrix_of(sparse, pairs, y, np.eye(4))
    np.testing.assert_allclose(sparse.get_mahalanobis_matrix(), np.diag(1 / np.diagonal(P)), atol=1e-10)


def test_an_indefinite_matrix_is_shifted_by_the_stated_amount(rng):
    pairs, y = labelled_pairs(rng)
    with pytest.warns(ConvergenceWarning, match="shifted its matrix by .* a balance of .* needs no shift") as told:
        shifted = SDML(balance=50.0, sparsity=0.0).fit(pairs, y)
    assert shifted.converged_
    assert np.linalg.eigvalsh(matrix_of(SDMLLike(50.0), pairs, y, np.eye(4)))[0] < 0
    P = matrix_of(shifted, pairs, y, np.eye(4))
    assert np.linalg.eigvalsh(P)[0] == pytest.approx(0.1 * (1 + shifted.shift_), rel=1e-6)
    least = 50.0 / (1 + shifted.shift_)
    assert f"a balance of {least:.4g} needs no shift" in str(told[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same = SDML(balance=least * (1 - 1e-9), sparsity=0.0).fit(pairs, y)
    assert same.shift_ == 0
    # But for its scale the metric is that of the smaller balance.
    ratio = same.get_mahalanobis_matrix() / shifted.get_mahalanobis_matrix()
    np.testing.assert_allclose(ratio, 1 + shifted.shift_, rtol=1e-4)


class SDMLLike:
    """A balance without a shift."""

    def __init__(self, balance):
        self.balance_, self.shift_ = balance, 0.0


@pytest.mark.parametrize("load", [load_digits, load_wine])
@pytest.mark.parametrize("prior", ["identity", "covariance"])
def test_real_data_give_a_metric_for_neighbours(load, prior):
    # Among digits' features are constant ones.
    X, y = load(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    sdml = SDML(prior=prior, random_state=0).fit(X[::2], y[::2])
    assert sdml.converged_
    assert sdml.shift_ == 0
    assert KNeighborsClassifier(3).fit(sdml.transform(X[::2]), y[::2]).score(sdml.transform(X[1::2]), y[1::2]) > 0.9


def test_sparser_metrics_have_more_zeros(wine):
    X, y = wine
    kept = []
    for sparsity in (0.0, 0.02, 0.1, 0.5):
        M = SDML(sparsity=sparsity, random_state=0).fit(X, y).get_mahalanobis_matrix()
        kept.append((np.abs(M) > 1e-9 * np.abs(M).max()).sum())
    assert kept == sorted(kept, reverse=True)
    assert kept[0] == 169
    assert kept[-1] < 100


@pytest.mark.parametrize("label", [1, -1])
def test_pairs_of_one_kind_and_a_single_pair_give_a_metric(rng, label):
    pairs, _ = labelled_pairs(rng)
    for some in (pairs, pairs[:1]):
        sdml = SDML().fit(some, np.full(len(some), label))
        squared = np.square(sdml.pair_distance(some)).mean() / np.square(np.diff(some, axis=1)).sum(axis=-1).mean()
        assert np.isfinite(squared)
        assert (squared < 1) == (label == 1)
        assert not hasattr(sdml, "threshold_")


def test_equal_instances_leave_the_prior():
    prior = np.array([[2.0, 0.5], [0.5, 1.0]])
    with pytest.warns(ConvergenceWarning, match="learned nothing"):
        sdml = SDML(prior=prior, sparsity=0).fit(np.ones((3, 2, 2)), [1, -1, 1])
    np.testing.assert_allclose(sdml.get_mahalanobis_matrix(), prior)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("prior", ["identity", "covariance", "random"])
def test_collinear_and_constant_features_at_any_scale(iris, prior, scale):
    X, y = iris
    X = np.c_[X, X[:, 0] + X[:, 1], np.ones(150)] * scale
    sdml = SDML(prior=prior, random_state=0).fit(X, y)
    assert sdml.converged_
    if prior == "random":  # the constant feature is tied to the others as the prior has it
        assert np.isfinite(sdml.components_).all()
        return
    assert KNeighborsClassifier(3).fit(sdml.transform(X[::2]), y[::2]).score(sdml.transform(X[1::2]), y[1::2]) > 0.9


def test_more_features_than_instances_and_one_feature(rng):
    X, y = rng.standard_normal((12, 30)), np.arange(12) % 2
    assert SDML(random_state=0).fit(X, y).components_.shape == (11, 30)
    assert SDML(random_state=0).fit(X[:, :1], y).components_.shape == (1, 1)


def test_bad_settings_are_named(iris):
    for setting, message in (
        ({"prior": np.eye(3)}, r"shape \(4, 4\), got \(3, 3\)"),
        ({"prior": -np.eye(4)}, "positive definite"),
        ({"balance": -1.0}, "balance"),
        ({"sparsity": -1.0}, "sparsity"),
        ({"tol": 0}, "tol"),
    ):
        with pytest.raises(ValueError, match=message):
            SDML(**setting).fit(*iris)


def test_verbose_prints_the_gap(iris, capsys):
    sdml = SDML(random_state=0, verbose=True).fit(*iris)
    assert capsys.readouterr().out.count("dual gap") == sdml.n_iter_


@pytest.mark.slow
def test_memory_does_not_hold_the_differences_of_pairs(rng):
    X, y = rng.standard_normal((2000, 200)), np.arange(2000) % 2
    pairs, labels = random_pairs(y, 200_000, np.random.RandomState(0))
    sdml = SDML(sparsity=1.0, preprocessor=X)
    tracemalloc.start()
    sdml.fit(pairs, labels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.5 * 8 * 200 * len(pairs)
