"""Closed forms: relevant components whiten chunklets, local discriminants solve their eigenproblem."""

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_iris
from sklearn.neighbors import KNeighborsClassifier

from certimetric import LFDA, RCA
from certimetric.learners.lfda import local_scatter


def sample(seed=0, n=60, d=5, classes=3):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    return rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + 3.0 * np.eye(d)[y], y


def within(X, chunks):
    return np.concatenate([X[chunks == c] - X[chunks == c].mean(axis=0) for c in np.unique(chunks[chunks >= 0])])


def test_whitened_chunklets_have_the_unit_covariance():
    X, y = sample()
    chunks = np.where(np.arange(60) < 40, y, -1)
    centred = within(X, chunks)
    rca = RCA(reg=0).fit(X, chunks)
    np.testing.assert_allclose(rca.get_mahalanobis_matrix(), np.linalg.inv(centred.T @ centred / 40), rtol=1e-6)
    assert rca.n_chunklets_ == 3
    reduced = RCA(n_components=2, reg=0).fit(X, chunks)
    Z = centred @ reduced.components_.T
    np.testing.assert_allclose(Z.T @ Z / 40, np.eye(2), atol=1e-8)


def test_reduction_keeps_the_directions_of_largest_variance_against_that_inside_of_chunklets():
    X, y = sample()
    rca = RCA(n_components=1, reg=0).fit(X, y)
    total, inner = np.cov(X.T, bias=True), within(X, y).T @ within(X, y) / 60

    def ratio(v):
        return (v @ total @ v) / (v @ inner @ v)

    best = ratio(rca.components_[0])
    rng = np.random.default_rng(1)
    assert all(ratio(v) <= best * (1 + 1e-12) for v in rng.normal(size=(500, 5)))


@pytest.mark.parametrize("made", [RCA, LFDA])
def test_constant_columns_and_more_features_than_instances_give_a_metric(made):
    X, y = load_digits(return_X_y=True)
    metric = made().fit(X[:1000], y[:1000])
    assert np.isfinite(metric.components_).all()
    knn = KNeighborsClassifier(3).fit(metric.transform(X[:1000]), y[:1000])
    assert knn.score(metric.transform(X[1000:]), y[1000:]) > 0.9
    wide = np.random.default_rng(0).normal(size=(20, 300))
    assert np.isfinite(made().fit(wide, np.arange(20) % 2).components_).all()


def test_instances_without_chunklet_and_single_ones_say_nothing():
    X, y = sample()
    chunks = np.where(np.arange(60) < 30, y, -1)
    alone = chunks.copy()
    alone[31] = 99
    np.testing.assert_array_equal(RCA().fit(X, chunks).components_, RCA().fit(X, alone).components_)
    with pytest.raises(ValueError, match="at least one chunklet of two or more instances"):
        RCA().fit(X, np.arange(60))
    named = np.array(["a", "b", "c"])[y]
    np.testing.assert_array_equal(RCA().fit(X, named).components_, RCA().fit(X, y).components_)


@pytest.mark.parametrize("made", [RCA, LFDA])
def test_too_many_components_are_refused(made):
    with pytest.raises(ValueError, match="n_components must be at most the number of features, 4"):
        made(n_components=5).fit(*load_iris(return_X_y=True))


def test_local_scatter_is_the_weighted_sum_over_pairs(monkeypatch):
    X, _ = sample(n=17)
    k = 4
    squared = np.square(X[:, None] - X).sum(axis=-1)
    scale = np.sqrt(np.sort(squared, axis=1)[:, k])
    affinity = np.exp(-squared / np.outer(scale, scale))
    difference = X[:, None] - X
    expected = np.einsum("ij,ija,ijb->ab", affinity, difference, difference) / 2
    np.testing.assert_allclose(local_scatter(X, k), expected, rtol=1e-8)
    monkeypatch.setattr("certimetric.learners.lfda._MEMORY", 2000)
    np.testing.assert_allclose(local_scatter(X, k), expected, rtol=1e-8)


def test_discriminants_are_eigenvectors_of_the_scatters_of_pairs():
    X, y = sample()
    n, k = len(X), 4
    W, B = np.zeros((n, n)), np.full((n, n), 1.0 / n)
    for c in range(3):
        rows = np.flatnonzero(y == c)
        squared = np.square(X[rows][:, None] - X[rows]).sum(axis=-1)
        scale = np.sqrt(np.sort(squared, axis=1)[:, k])
        affinity = np.exp(-squared / np.outer(scale, scale))
        W[np.ix_(rows, rows)] = affinity / len(rows)
        B[np.ix_(rows, rows)] = affinity * (1.0 / n - 1.0 / len(rows))
    difference = X[:, None] - X
    Sw, Sb = (np.einsum("ij,ija,ijb->ab", weights, difference, difference) / 2 for weights in (W, B))
    plain = LFDA(n_components=3, n_neighbors=k, embedding="plain", reg=0).fit(X, y).components_
    values = np.diag(plain @ Sb @ plain.T)
    np.testing.assert_allclose(plain @ Sw @ plain.T, np.eye(3), atol=1e-6)
    np.testing.assert_allclose(Sb @ plain.T, Sw @ plain.T * values, atol=1e-5 * np.abs(Sb).max())
    assert (np.diff(values) <= 0).all()
    orthonormal = LFDA(n_components=3, n_neighbors=k, embedding="orthonormal", reg=0).fit(X, y).components_
    np.testing.assert_allclose(orthonormal @ orthonormal.T, np.eye(3), atol=1e-10)
    np.testing.assert_allclose(orthonormal.T @ orthonormal @ plain.T, plain.T, atol=1e-6 * np.abs(plain).max())


def test_threads_change_nothing_in_lfda():
    X, y = sample(n=4000, d=4, classes=2)  # classes of several blocks of affinities
    np.testing.assert_array_equal(*(LFDA(n_jobs=n_jobs).fit(X, y).components_ for n_jobs in (None, 3)))


@pytest.mark.parametrize("n_neighbors", [1, 4])
def test_scales_of_neighbours_that_lie_close_together_far_from_the_mean(n_neighbors):
    """There the expanded square of a distance is rounding: direct differences must tell it, and 0 of duplicates."""
    rng = np.random.default_rng(0)
    X = np.concatenate([1e5 + 1e-4 * rng.standard_normal((9, 3)), -1e5 + rng.standard_normal((12, 3))])
    X = np.concatenate([X, X[-2:], X[-2:], X[-2:], X[-2:]])
    differences = X[:, None] - X
    squared = (differences**2).sum(axis=-1)
    scale = np.sqrt(np.sort(squared + np.diag(np.full(len(X), np.inf)), axis=1)[:, n_neighbors - 1])
    product = np.outer(scale, scale)
    assert (product == 0).any()
    affinity = np.where(product > 0, np.exp(-squared / np.where(product > 0, product, 1.0)), 0.0)
    # Affinities of instances 1e-4 apart are lost to rounding 1e5 away from the mean; those of the others are not.
    wanted = 0.5 * np.einsum("ij,ijk,ijl->kl", affinity, differences, differences)
    np.testing.assert_allclose(local_scatter(X, n_neighbors), wanted, rtol=1e-3, atol=1e-4)
