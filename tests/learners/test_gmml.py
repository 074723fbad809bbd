"""GMML near a prior: what it minimises, where a large share of the prior leads, and the same from sums of any parts."""

import numpy as np
import pytest

from certimetric import GMML
from certimetric.constraints import PairScatter


def correlated(n=40, d=4, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)) @ (rng.standard_normal((d, d)) + 2 * np.eye(d)), np.arange(n) % 3


def of_mean_one(M):
    return M * len(M) / np.trace(M)


A = np.array([[2.0, 0.5, 0, 0], [0.5, 1, 0, 0], [0, 0, 3, -1], [0, 0, -1, 4]])


@pytest.mark.parametrize("prior", ["identity", "covariance", "array"])
def test_it_minimises_the_traces_with_the_prior_in_both(prior):
    # tr(M (S + s M₀⁻¹)) + tr(M⁻¹ (D + u M₀)), with s and u in units of the mean eigenvalues.
    X, y = correlated()
    scatter, reg = PairScatter.from_labels(X, y), 0.3
    M0 = {"identity": np.eye(4), "covariance": np.linalg.inv(np.cov(X.T)), "array": A}[prior]
    S = scatter.similar + reg * np.trace(scatter.similar) / 4 * of_mean_one(np.linalg.inv(M0))
    D = scatter.dissimilar + reg * np.trace(scatter.dissimilar) / 4 * of_mean_one(M0)
    M = GMML(reg=reg, prior=A if prior == "array" else prior).fit(X, y).get_mahalanobis_matrix()
    gradient = S - np.linalg.inv(M) @ D @ np.linalg.inv(M)  # of a function that is convex along geodesics
    assert np.abs(gradient).max() < 2e-5 * np.abs(S).max()


@pytest.mark.parametrize("prior", ["covariance", "array"])
def test_a_large_share_leads_to_a_multiple_of_the_prior(prior):
    X, y = correlated()
    M0 = A if prior == "array" else np.linalg.inv(np.cov(X.T))
    far, near = (
        np.abs(of_mean_one(learner.fit(X, y).get_mahalanobis_matrix()) - of_mean_one(M0)).max()
        for learner in (GMML(prior=A if prior == "array" else prior, reg=reg) for reg in (0.01, 1e6))
    )
    assert near < 1e-4 < far


def test_neither_the_size_of_the_prior_nor_the_unit_of_the_data_matter():
    X, y = correlated()
    M = GMML(prior=A).fit(X, y).get_mahalanobis_matrix()
    np.testing.assert_allclose(GMML(prior=1e6 * A).fit(X, y).get_mahalanobis_matrix(), M, rtol=1e-9)
    np.testing.assert_allclose(GMML(prior=A).fit(1e3 * X, y).get_mahalanobis_matrix(), M, rtol=1e-9)
    plain = GMML().fit(X, y).get_mahalanobis_matrix()
    np.testing.assert_allclose(GMML(prior=5 * np.eye(4)).fit(X, y).get_mahalanobis_matrix(), plain, rtol=1e-9)


@pytest.mark.parametrize("prior", ["covariance", "array"])
def test_parts_and_sums_give_the_metric_of_the_whole(prior):
    X, y = correlated()
    gmml = GMML(prior=A if prior == "array" else prior)
    whole = gmml.fit(X, y).get_mahalanobis_matrix()
    chunks = gmml.fit_chunks([(X[:13], y[:13]), (X[13:], y[13:])]).get_mahalanobis_matrix()
    np.testing.assert_allclose(chunks, whole, rtol=1e-8, atol=1e-10)
    scatter = PairScatter.from_labels(X, y)
    np.testing.assert_allclose(gmml.fit_scatter(scatter).get_mahalanobis_matrix(), whole, rtol=1e-8, atol=1e-10)


def test_few_pairs_are_helped_by_what_all_instances_tell():
    # Classes differ along a direction of little variance. Of twenty pairs it is hardly seen; the covariance, as the
    # prior of pairs and their ends, makes the variances equal first.
    rng = np.random.default_rng(0)
    X = rng.standard_normal((400, 6)) * np.array([20, 20, 20, 20, 20, 1.0])
    y = (X[:, 5] > 0).astype(int)
    ends = rng.integers(0, 400, (20, 2))
    kinds = np.where(y[ends[:, 0]] == y[ends[:, 1]], 1, -1)
    test = rng.integers(0, 400, (2000, 2))
    labels = np.where(y[test[:, 0]] == y[test[:, 1]], 1, -1)
    scores = {
        name: GMML(prior=prior, reg=1.0, preprocessor=X).fit(ends, kinds).score(test, labels)
        for name, prior in (("identity", "identity"), ("given", np.linalg.inv(np.cov(X.T))))
    }
    assert scores["given"] > scores["identity"]


def test_a_matrix_is_not_reduced_and_must_fit():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((10, 30)), np.arange(10) % 2
    assert GMML(prior="covariance").fit(X, y).components_.shape[0] < 10
    assert GMML(prior=np.eye(30)).fit(X, y).components_.shape == (30, 30)
    for wrong, told in (
        (np.eye(3), r"prior must have shape \(30, 30\), got \(3, 3\)"),
        (np.diag([0.0] + [1.0] * 29), "prior must be positive definite"),
    ):
        with pytest.raises(ValueError, match=told) as error:
            GMML(prior=wrong).fit(X, y)
        assert "\n" not in str(error.value)
