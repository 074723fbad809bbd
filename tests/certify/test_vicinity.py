"""What is found near a query is predicted and certified as over the whole training set, to the last digit."""

import pickle

import numpy as np
import pytest

from certimetric import CertifiedKNeighborsClassifier, MahalanobisMetric
from certimetric.certify import reference as reference_module
from certimetric.certify import vicinity as vicinity_module
from certimetric.certify.radius import bound_radii, prepare_reference
from certimetric.geometry import cells as cells_module
from certimetric.geometry import resolve_norm


def points(kind, rng, n=300, d=4):
    if kind == "clusters":
        return 4 * rng.standard_normal((12, d))[rng.integers(0, 12, n)] + 0.3 * rng.standard_normal((n, d))
    if kind == "ties":
        return rng.integers(0, 3, (n, d)).astype(float)
    if kind == "duplicates":
        return np.repeat(rng.standard_normal((n // 2, d)), 2, axis=0)
    return rng.uniform(-1, 1, (n, d))


def labels(kind, X, rng):
    if kind == "half":
        return (X[:, 0] > 0).astype(int)
    return rng.integers(0, 3, len(X)) if kind == "random" else (np.arange(len(X)) % 97 == 0).astype(int)


@pytest.fixture
def small_cells(monkeypatch):
    """Cells of 16 rows, for any number of rows and queries; and a switch that turns them off."""
    monkeypatch.setattr(cells_module, "_LARGEST", 16)
    monkeypatch.setattr(reference_module, "_MANY_QUERIES", 1)
    monkeypatch.setattr(vicinity_module, "_LARGEST_SHARE", 1.0)

    def switch(on):
        monkeypatch.setattr(reference_module, "_MANY_ROWS", 1 if on else 10**9)

    return switch


@pytest.mark.parametrize(
    ("kind", "k"),
    [("uniform", 1), ("clusters", 3), ("ties", 2), ("duplicates", 5), ("ties", 1)],
)
def test_the_same_as_over_all_rows(small_cells, kind, k):
    rng = np.random.default_rng(k)
    proven = []
    for trial, classes in enumerate(("random", "half", "rare")):
        X = points(kind, rng)
        y = labels(classes, X, rng)
        metric = MahalanobisMetric.from_components(rng.standard_normal((4 - trial % 2, 4)) * [1, 1, 1, 5.0])
        queries = np.concatenate([points(kind, rng, 24), X[:24], 1e3 * rng.standard_normal((2, 4))])
        exclude = np.concatenate([np.full(24, -1), np.arange(24), np.full(2, -1)])
        A = rng.standard_normal((4, 4))
        reference = prepare_reference(metric, X, y)
        for norm in map(resolve_norm, [("l2", "l1"), ("linf", A @ A.T + np.eye(4)), ("l1", "linf")][trial]):
            small_cells(False)
            codes, radii = bound_radii(reference, queries, k, norm, exclude=exclude)
            embedded, errors = reference.embed(queries)
            neighbors = reference.neighbors(embedded, k, exclude=exclude)
            small_cells(True)
            found = bound_radii(reference, queries, k, norm, exclude=exclude)
            np.testing.assert_array_equal(found[0], codes)
            np.testing.assert_array_equal(found[1], radii)
            for ours, theirs in zip(reference.neighbors(embedded, k, exclude=exclude), neighbors):
                np.testing.assert_array_equal(ours, theirs)
            normed = reference.normed(reference.in_range(norm)[0])
            vicinity = reference.vicinity(embedded, k)
            proven.append(vicinity.certify(normed, embedded, errors, k, exclude, 2**20, 1)[0] >= 0)
    assert np.mean(proven) > 0.3  # the rest was searched for in all rows


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_squared_norms_in_single_precision_are_rounded_up(small_cells, scale):
    rng = np.random.default_rng(0)
    X = scale * (points("clusters", rng) + 5.0)
    small_cells(True)
    reference = prepare_reference(MahalanobisMetric.from_components(np.eye(4)), X, X[:, 0] > 5.0 * scale)
    norm, _ = reference.in_range(resolve_norm("l2"))
    cells, normed = reference.vicinity(reference.points, 1).cells, reference.normed(norm)
    near = rng.integers(0, len(X), 20)
    dual = normed.data[3]
    for cell, rows in enumerate(cells.rows):
        from_near, off = normed.from_instances(near, cell)
        true = np.linalg.norm(dual[near][:, None] - dual[rows], axis=2)
        told = np.sqrt(np.maximum(normed.squared_norms(from_near, cell), 0.0).astype(float)) + off[:, None]
        assert (told >= true).all() and (told <= true + 1e-2 * np.abs(dual).max()).all()


def test_threads_memory_and_pickling_change_nothing(small_cells):
    rng = np.random.default_rng(0)
    X, queries = points("clusters", rng, 600), points("clusters", rng, 40)
    y = labels("half", X, rng)
    small_cells(True)
    knn = CertifiedKNeighborsClassifier(3).fit(X, y)
    expected = knn.predict_with_radius(queries)
    np.testing.assert_array_equal(knn.predict(queries), expected[0])
    again = pickle.loads(pickle.dumps(knn))
    for options in ({"n_jobs": 2}, {"memory_mb": 1}):
        for ours, theirs in zip(again.set_params(**options).predict_with_radius(queries), expected):
            np.testing.assert_array_equal(ours, theirs)


def test_one_class_and_coordinates_beyond_single_precision(small_cells):
    X = np.random.default_rng(0).standard_normal((200, 2))
    small_cells(True)
    knn = CertifiedKNeighborsClassifier(1).fit(X, np.zeros(200))
    assert np.isinf(knn.predict_with_radius(X[:5])[1]).all()
    # A query so far away that its square has no place in single precision.
    found = []
    for on in (True, False):
        small_cells(on)
        knn = CertifiedKNeighborsClassifier(1).fit(X, X[:, 0] > 0)
        found.append(knn.predict_with_radius([[1e20, 0.0], [-4e15, 0.0], [0.5, 0.1]]))
    np.testing.assert_array_equal(found[0], found[1])
