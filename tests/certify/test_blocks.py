"""Radii over a training set in blocks: those of the same rows in memory, whatever the blocks."""

import numpy as np
import pytest

from certimetric import CertifiedKNeighborsClassifier, MahalanobisMetric
from certimetric.certify import blocks, certified_radii_over_blocks

da = pytest.importorskip("dask.array")
NAMES = np.array(["ash", "birch", "elm"])


def case(n=240):
    """Rows on a grid, so that sums are exact in any order; with duplicates in several classes, and queries on rows."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, n)
    X = np.round((rng.standard_normal((n, 4)) + 1.2 * y[:, None]) * 64) / 64
    X[20:30] = X[5]
    return X, y, np.concatenate([X[:20], 2 * rng.standard_normal((20, 4)) + 1])


@pytest.mark.parametrize("chunks", [240, (1, 0, 160, 79), 37])
@pytest.mark.parametrize(("norm", "k"), [("l2", 1), ("linf", 3), (np.diag([1.0, 2.0, 3.0, 4.0]), 6)])
def test_radii_are_those_of_the_rows_in_memory(chunks, norm, k):
    X, y, queries = case()
    metric = MahalanobisMetric.from_components(np.diag([0.5, 1.0, 2.0, 0.1]))
    labels, radii = (
        CertifiedKNeighborsClassifier(k, metric=metric, norm=norm).fit(X, NAMES[y]).predict_with_radius(queries)
    )
    lazy, names = da.from_array(X, chunks=(chunks, 2)), da.from_array(NAMES[y], chunks=50)
    found = certified_radii_over_blocks(metric, lazy, names, queries, n_neighbors=k, norm=norm)
    np.testing.assert_array_equal(found[0], labels)
    np.testing.assert_allclose(found[1], radii, rtol=1e-13)
    if isinstance(norm, str):  # products with a diagonal are those of each row
        np.testing.assert_array_equal(found[1], radii)
    assert (radii > 0).any() and len(np.unique(labels)) > 1


@pytest.mark.parametrize("first", [1, 16])
def test_every_opponent_that_decides_is_found(first, monkeypatch):
    """Far classes, of which distances rule nobody out, from few opponents and with few queries at a time."""
    monkeypatch.setattr(blocks, "_FIRST", first)
    monkeypatch.setattr(blocks, "_QUERIES", 7)
    X, y, queries = case()
    X = X + 40.0 * np.eye(3, 4)[y]
    queries = queries + 40.0 * np.eye(3, 4)[np.arange(40) % 3]
    metric = MahalanobisMetric.from_components([[1.0, 0.5, 0.0, 0.0], [0.0, 1.0, -1.0, 2.0]])
    for k in (1, 3):
        knn = CertifiedKNeighborsClassifier(k, metric=metric).fit(X, y)
        labels, radii = certified_radii_over_blocks(metric, da.from_array(X, chunks=(50, 4)), y, queries, n_neighbors=k)
        np.testing.assert_array_equal(labels, knn.predict(queries))
        np.testing.assert_allclose(radii, knn.predict_with_radius(queries)[1], rtol=1e-12)


def test_a_block_alone_says_little():
    """Classes apart by blocks: against either block nothing is certified, over both it is."""
    X, y, queries = case()
    order = np.argsort(y, kind="stable")
    lazy = da.from_array(X[order], chunks=(tuple(np.bincount(y).tolist()), 4))
    _, radii = certified_radii_over_blocks(euclidean(), lazy, y[order], queries)
    np.testing.assert_array_equal(
        radii,
        CertifiedKNeighborsClassifier(1, metric=euclidean()).fit(X[order], y[order]).predict_with_radius(queries)[1],
    )
    assert (radii > 0).mean() > 0.4


def euclidean():
    return MahalanobisMetric.from_components(np.eye(4))


def test_few_of_a_class_and_one_class():
    X, _, queries = case()
    lone, one = np.where(np.arange(240) == 5, 1, 0), np.zeros(240, dtype=int)
    lazy = da.from_array(X, chunks=(100, 4))
    for labels, k in ((lone, 1), (lone, 3), (one, 1)):
        wanted = CertifiedKNeighborsClassifier(k, metric=euclidean()).fit(X, labels).predict_with_radius(queries)
        found = certified_radii_over_blocks(euclidean(), lazy, labels, queries, n_neighbors=k)
        np.testing.assert_array_equal(found[0], wanted[0])
        np.testing.assert_array_equal(found[1], wanted[1])


def test_bad_input_is_refused():
    X, y, queries = case()
    lazy, metric = da.from_array(X, chunks=(100, 4)), euclidean()
    with pytest.raises(TypeError, match="X_train must be a Dask array, got ndarray: certified_radius takes arrays"):
        certified_radii_over_blocks(metric, X, y, queries)
    with pytest.raises(TypeError, match="X must be an array of queries, got a Dask array"):
        certified_radii_over_blocks(metric, lazy, y, lazy)
    with pytest.raises(ValueError, match="4 features, got 3"):
        certified_radii_over_blocks(metric, lazy, y, queries[:, :3])
    with pytest.raises(ValueError, match="n_samples=240 training instances, got 241"):
        certified_radii_over_blocks(metric, lazy, y, queries, n_neighbors=241)
    with pytest.raises(ValueError, match="y must hold one label for each of the 240 rows of X, got 9"):
        certified_radii_over_blocks(metric, lazy, y[:9], queries)
    X[150, 1] = np.inf
    with pytest.raises(ValueError, match="rows 100 to 199: Input X_train contains infinity"):
        certified_radii_over_blocks(metric, da.from_array(X, chunks=(100, 4)), y, queries)


@pytest.mark.slow  # starts processes
def test_a_worker_may_die(cluster, fatal_rows):
    X, y, queries = case()
    labels, radii = (
        CertifiedKNeighborsClassifier(3, metric=euclidean(), norm="linf").fit(X, y).predict_with_radius(queries)
    )
    lazy, died = fatal_rows(X, 40)
    found = certified_radii_over_blocks(euclidean(), lazy, y, queries, n_neighbors=3, norm="linf")
    assert died()
    np.testing.assert_array_equal(found[0], labels)
    np.testing.assert_array_equal(found[1], radii)
