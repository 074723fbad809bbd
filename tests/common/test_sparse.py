"""Sparse rows: what is told of them is what is told of the same rows dense, or they are refused in one sentence."""

import tracemalloc

import numpy as np
import pytest
from scipy.sparse import csc_matrix, csr_array, csr_matrix, issparse
from sklearn.base import clone

from certimetric import (
    AML,
    GMML,
    LMNN,
    OASIS,
    RCA,
    CertifiedKNeighborsClassifier,
    CertifiedKNeighborsRegressor,
    Euclidean,
    MahalanobisMetric,
    OpenSetKNeighborsClassifier,
)
from certimetric.geometry.diagonal import DiagonalMetric
from certimetric.learners.specs import learner_variants

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # few steps are meant
LEARNERS = learner_variants(max_iter=4, random_state=0)
TAKING = {AML, Euclidean, GMML, OASIS}
each_learner = pytest.mark.parametrize("learner", LEARNERS, ids=repr)


@pytest.fixture
def counts(rng):
    """Rows most of whose entries are 0, with labels; the last feature is never 0."""
    y = np.arange(60) % 3
    X = rng.poisson(0.3 + 0.7 * (np.arange(8) % 3 == y[:, None])).astype(float)
    X[:, -1] += 1.0
    return X, y


@each_learner
def test_what_is_mapped_may_be_sparse(learner, counts):
    X, y = counts
    learner = clone(learner).fit(X, y)
    dense = learner.transform(X)
    for made in (csr_array, csr_matrix, csc_matrix):
        Z = learner.transform(made(X))
        np.testing.assert_allclose(Z.toarray() if issparse(Z) else Z, dense, rtol=1e-12, atol=1e-12)
    single = learner.transform(csr_array(X.astype(np.float32)))
    assert single.dtype == np.float32
    np.testing.assert_allclose(learner.metric_.transform(csr_matrix(X)), dense, rtol=1e-12, atol=1e-12)
    with pytest.raises(ValueError, match="8 features"):
        learner.transform(csr_array(X[:, :3]))


@each_learner
@pytest.mark.parametrize("n", [60, 7], ids=["many", "fewer than features"])
def test_what_is_learned_from_may_be_sparse_or_it_is_said(learner, counts, n, rng):
    X, y, weights = counts[0][:n], counts[1][:n], rng.random(n)
    learner = clone(learner)
    assert learner.__sklearn_tags__().input_tags.sparse == (type(learner) in TAKING)
    if type(learner) not in TAKING:
        with pytest.raises(TypeError) as error:
            learner.fit(csr_array(X), y)
        assert str(error.value) == f"X is sparse; {type(learner).__name__} needs dense rows: use X.toarray()"
        return
    for given in [{}] if type(learner) is Euclidean else [{}, {"sample_weight": weights}]:
        dense, sparse = (clone(learner).fit(rows, y, **given).get_mahalanobis_matrix() for rows in (X, csr_matrix(X)))
        np.testing.assert_allclose(sparse, dense, rtol=1e-7, atol=1e-9 * np.abs(dense).max())


def test_the_online_learner_goes_on_with_sparse_rows(counts):
    X, y = counts
    dense, sparse = (
        OASIS(random_state=0).partial_fit(make(X), y).partial_fit(make(X[:5]), y[:5]).bilinear_matrix_
        for make in (np.array, csr_array)
    )
    np.testing.assert_allclose(sparse, dense, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("learner", [GMML(preprocessor=np.eye(3)), LMNN(preprocessor=np.eye(3))], ids=repr)
def test_sparse_rows_are_no_indicators(learner, counts):
    X, y = counts
    if type(learner) in TAKING:
        assert learner.fit(csr_array(X), y).n_features_in_ == 8
        return
    with pytest.raises(TypeError, match="X is sparse; LMNN needs dense rows"):
        learner.fit(csr_array(X), y)


@pytest.mark.parametrize("metric", [None, RCA()], ids=repr)
def test_neighbours_and_certificates_of_sparse_queries_are_those_of_dense_ones(metric, rng):
    y, wide = np.arange(40) % 3, 4000  # a block of 1 MiB has 32 of 40 queries
    X = rng.poisson(0.05 + 0.4 * (np.arange(wide) % 3 == y[:, None])).astype(float)
    A, B, a, b = X[:20], X[20:], y[:20], y[20:]
    B = np.concatenate([B, B + (rng.random(B.shape) < 0.01)])
    knn = CertifiedKNeighborsClassifier(3, metric=metric, memory_mb=1).fit(A, a)
    for method in ("predict_with_radius", "kneighbors", "predict", "predict_proba"):
        for ours, dense in zip(getattr(knn, method)(csr_array(B)), getattr(knn, method)(B)):
            np.testing.assert_array_equal(ours, dense)
    b = np.concatenate([b, b])
    np.testing.assert_array_equal(
        knn.certified_accuracy(csr_matrix(B), b, [0.0, 0.3]), knn.certified_accuracy(B, b, [0.0, 0.3])
    )
    with pytest.raises(TypeError, match="dense data is required"):
        knn.minimal_perturbation(csr_array(B))
    with pytest.raises(TypeError, match="dense data is required"):
        knn.fit(csr_array(A), a)
    with pytest.raises(ValueError, match="3 features"):
        knn.predict(csr_array(B[:, :3]))
    with pytest.raises(ValueError, match="0 sample"):
        knn.predict(csr_array((0, wide)))


def test_other_predictors_take_sparse_queries(counts):
    X, y = counts
    regressor = CertifiedKNeighborsRegressor().fit(X[:30], y[:30].astype(float))
    np.testing.assert_array_equal(regressor.predict(csr_array(X[30:])), regressor.predict(X[30:]))
    gallery = OpenSetKNeighborsClassifier(1).fit(X[:30], y[:30])
    for ours, dense in zip(gallery.predict_with_radius(csr_array(X[30:])), gallery.predict_with_radius(X[30:])):
        np.testing.assert_array_equal(ours, dense)


@pytest.mark.parametrize("metric", [DiagonalMetric(np.arange(1.0, 9.0)), MahalanobisMetric(np.tri(3, 8))], ids=repr)
def test_distances_of_sparse_rows(metric, counts):
    X, Z = counts[0][:30], counts[0][30:]
    np.testing.assert_allclose(metric.distance(csr_array(X), csr_matrix(Z)), metric.distance(X, Z), rtol=1e-12)
    np.testing.assert_allclose(metric.pairwise(csr_array(X), csr_array(Z)), metric.pairwise(X, Z), rtol=1e-12)
    for wrong, message in (
        (Z, "x and z must be sparse both of them and of one shape"),
        (csr_array(Z[:2]), r"of one shape, got \(30, 8\) and \(2, 8\)"),
        (csr_array(Z[:, :5]), "made for 8 features, got 5"),
        (csr_array(np.where(Z > 0, np.nan, 0.0)), "z must be finite"),
        (csr_array(1e200 * Z), r"z holds the value .* powers of values beyond 1e\+150"),
    ):
        with pytest.raises(ValueError, match=message):
            metric.distance(csr_array(X), wrong)


def test_no_dense_copy_is_made(rng):
    n, d = 1500, 500
    X = csr_array(np.where(rng.random((n, d)) < 0.01, rng.standard_normal((n, d)), 0.0))
    y = np.arange(n) % 2
    knn = CertifiedKNeighborsClassifier(1, metric=MahalanobisMetric(np.eye(2, d)), memory_mb=1).fit(
        X[:20].toarray(), y[:20]
    )
    few = MahalanobisMetric(np.eye(2, d))
    for use in (
        lambda: knn.predict_with_radius(X),
        lambda: few.transform(X),
        lambda: few.distance(X, X[::-1]),
        lambda: GMML().fit(X[:, :100], y),
    ):
        use()
        tracemalloc.start()
        use()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 0.6 * 8 * n * d
