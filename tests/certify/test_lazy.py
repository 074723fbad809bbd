"""Queries in Dask arrays: the certificates and neighbours of arrays, worked out block by block when asked for."""

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from certimetric import GMML, CertifiedKNeighborsClassifier, certified_radius

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")

BLOCKS = [((100,), (4,)), ((1, 99), (4,)), ((30, 30, 40), (1, 3)), ((1,) * 100, (2, 2)), ((0, 60, 0, 40), (4,))]
NAMES = np.array(["ash", "birch", "elm"])


@pytest.fixture(scope="module")
def case():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 300)
    X = rng.standard_normal((300, 4)) + 0.8 * y[:, None]
    return X[:200], NAMES[y[:200]], X[200:], NAMES[y[200:]]


@pytest.mark.parametrize("blocks", BLOCKS, ids=["one", "uneven", "columns", "rows", "empty"])
@pytest.mark.parametrize(
    "norm", ["l2", "linf", "l1", np.diag([1.0, 2.0, 3.0, 4.0])], ids=["l2", "linf", "l1", "matrix"]
)
@pytest.mark.parametrize("k", [1, *(pytest.param(k, marks=pytest.mark.slow) for k in (2, 3))])
def test_values_are_those_of_arrays(case, blocks, norm, k):
    X_train, y_train, X, _ = case
    lazy = da.from_array(X, chunks=blocks)
    knn = CertifiedKNeighborsClassifier(k, metric=GMML(), norm=norm).fit(X_train, y_train)
    labels, radii = knn.predict_with_radius(lazy)
    expected_labels, expected = knn.predict_with_radius(X)
    for array in (labels, radii):
        assert isinstance(array, da.Array)
        assert array.chunks == (blocks[0],)
    assert labels.dtype == expected_labels.dtype
    labels, radii = dask.compute(labels, radii)
    np.testing.assert_array_equal(labels, expected_labels)
    np.testing.assert_array_equal(radii, expected)  # to the last digit, whatever the blocks
    np.testing.assert_array_equal(knn.predict(lazy).compute(), expected_labels)
    np.testing.assert_array_equal(knn.predict_proba(lazy).compute(), knn.predict_proba(X))
    for found, wanted in zip(dask.compute(*knn.kneighbors(lazy, 7)), knn.kneighbors(X, 7)):
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(found, wanted)
    direct = certified_radius(knn.metric_, X_train, y_train, lazy, n_neighbors=k, norm=norm)
    assert isinstance(direct, da.Array)
    np.testing.assert_array_equal(direct.compute(), expected)


def test_kneighbors_against_scikit_learn(case):
    X_train, y_train, X, _ = case
    knn = CertifiedKNeighborsClassifier(3, metric=GMML()).fit(X_train, y_train)
    theirs = NearestNeighbors(n_neighbors=5).fit(knn.metric_.transform(X_train))
    for k, found in ((3, knn.kneighbors(X)), (5, knn.kneighbors(X, 5))):
        distances, indices = theirs.kneighbors(knn.metric_.transform(X), n_neighbors=k)
        np.testing.assert_allclose(found[0], distances, rtol=1e-9)
        np.testing.assert_array_equal(found[1], indices)
    with pytest.raises(ValueError, match="n_samples=200 training instances, got 201"):
        knn.kneighbors(X, 201)


def test_kneighbors_with_ties_and_the_training_set():
    knn = CertifiedKNeighborsClassifier(1).fit([[0.0], [2.0], [0.0], [2.0]], ["a", "b", "a", "b"])
    distances, indices = knn.kneighbors([[1.0]], 4)
    np.testing.assert_array_equal(distances, [[1.0, 1.0, 1.0, 1.0]])
    np.testing.assert_array_equal(indices, [[0, 1, 2, 3]])


def test_nothing_is_computed_before_it_is_asked_for(case):
    X_train, y_train, X, _ = case
    computed = []

    def watched(block):
        computed.append(len(block))
        return block

    lazy = da.from_array(X, chunks=(25, 4)).map_blocks(watched, meta=np.empty((0, 4)))
    knn = CertifiedKNeighborsClassifier(metric=GMML()).fit(X_train, y_train)
    labels, radii = knn.predict_with_radius(lazy)
    knn.kneighbors(lazy), knn.predict(lazy), certified_radius(knn.metric_, X_train, y_train, lazy)
    assert computed == []
    dask.compute(labels, radii)
    assert computed == [25] * 4  # one search for both
    radii[:30].compute()
    assert computed == [25] * 6  # the blocks that were asked for


def test_blocks_of_unknown_length(case):
    X_train, y_train, X, _ = case
    lazy = da.from_array(X, chunks=(10, 4))
    some, expected = lazy[lazy[:, 0] > 1.5], X[X[:, 0] > 1.5]  # some blocks have no rows left
    knn = CertifiedKNeighborsClassifier(metric=GMML()).fit(X_train, y_train)
    labels, radii = dask.compute(*knn.predict_with_radius(some))
    np.testing.assert_array_equal(labels, knn.predict(expected))
    np.testing.assert_array_equal(knn.predict(some).compute(), labels)
    np.testing.assert_array_equal(radii, knn.predict_with_radius(expected)[1])


def test_accuracies_of_queries_in_blocks(case):
    X_train, y_train, X, y = case
    lazy = da.from_array(X, chunks=(33, 4))
    knn = CertifiedKNeighborsClassifier(metric=GMML()).fit(X_train, y_train)
    eps = [0.0, 0.1, 0.5]
    np.testing.assert_array_equal(knn.certified_accuracy(lazy, y, eps), knn.certified_accuracy(X, y, eps))
    np.testing.assert_array_equal(knn.correctness_radius(lazy, y), knn.correctness_radius(X, y))
    assert knn.score(lazy, y) == knn.score(X, y)


@pytest.mark.slow  # starts processes
def test_on_a_cluster(case, cluster):
    X_train, y_train, X, _ = case
    lazy = da.from_array(X, chunks=(30, 2))
    knn = CertifiedKNeighborsClassifier(metric=GMML(), norm="linf").fit(X_train, y_train)
    labels, radii = dask.compute(*knn.predict_with_radius(lazy))
    expected_labels, expected = knn.predict_with_radius(X)
    np.testing.assert_array_equal(labels, expected_labels)
    np.testing.assert_array_equal(radii, expected)
    np.testing.assert_array_equal(knn.kneighbors(lazy)[1].compute(), knn.kneighbors(X)[1])


def test_bad_queries_are_named(case):
    X_train, y_train, X, _ = case
    knn = CertifiedKNeighborsClassifier(metric=GMML()).fit(X_train, y_train)
    lazy = da.from_array(X, chunks=(30, 4))
    with pytest.raises(ValueError, match="X has 3 features, but CertifiedKNeighborsClassifier is expecting 4 features"):
        knn.predict(lazy[:, :3])
    with pytest.raises(ValueError, match="4 features, got 3"):
        certified_radius(knn.metric_, X_train, y_train, lazy[:, :3])
    with pytest.raises(ValueError, match=r"X must have shape \(n, d\), got a Dask array of 1 dimension"):
        knn.predict_with_radius(lazy[:, 0])
    with pytest.raises(ValueError, match=r"unknown number of features: call X.compute_chunk_sizes\(\) first"):
        knn.kneighbors(lazy[:, lazy[0] > 0])
    with pytest.raises(ValueError, match="n_samples=200 training instances, got 500"):
        certified_radius(knn.metric_, X_train, y_train, lazy, n_neighbors=500)
    with pytest.raises(TypeError, match="X must be an array, got a Dask Delayed"):
        knn.predict(dask.delayed(X))
    holed = X.copy()
    holed[50, 2] = np.nan
    labels = knn.predict(da.from_array(holed, chunks=(30, 4)))
    with pytest.raises(ValueError, match="Input X contains NaN"):
        labels.compute()
    np.testing.assert_array_equal(labels[:30].compute(), knn.predict(X[:30]))  # blocks without are untouched
