"""Minimal perturbation of k-NN, k > 1: against the enumeration of all sets of neighbours, and as an honest bracket."""

from itertools import combinations

import numpy as np
import pytest

from certimetric import LMNN, CertifiedKNeighborsClassifier, MahalanobisMetric, minimal_perturbation
from certimetric.geometry import resolve_norm


def enumerate_neighbourhoods(metric, X_train, y_train, X, k, norm, solve):
    """Smallest step into the cell of every set of k neighbours that votes for another class."""
    M, sizes = metric.matrix, []
    for x in X:
        squared = metric.distance(x, X_train) ** 2
        predicted = np.bincount(y_train[np.argsort(squared, kind="stable")[:k]]).argmax()
        best = np.inf
        for inside in map(list, combinations(range(len(X_train)), k)):
            if np.bincount(y_train[inside], minlength=3).argmax() == predicted:
                continue
            outside = np.setdiff1d(np.arange(len(X_train)), inside)
            A = np.concatenate([2 * (X_train[l] - X_train[outside]) @ M for l in inside])
            b = np.concatenate([squared[l] - squared[outside] for l in inside])
            best = min(best, solve(A, b, norm))
        sizes.append(best)
    return np.array(sizes)


@pytest.mark.parametrize(("norm", "k"), [("l2", 2), ("l2", 3), ("l2", 4), ("l2", 5), ("linf", 3), ("l1", 2)])
def test_equals_enumeration(norm, k, smallest_step):
    rng = np.random.default_rng(k)
    for _ in range(6 if norm == "l2" else 2):
        d, n = int(rng.integers(1, 4)), k + 5
        metric = MahalanobisMetric.from_components(rng.standard_normal((int(rng.integers(1, d + 1)), d)))
        X_train, X = rng.standard_normal((n, d)), rng.standard_normal((3, d))
        y_train = np.arange(n) % 3
        found = minimal_perturbation(metric, X_train, y_train, X, norm, n_neighbors=k, time_limit=60)
        expected = enumerate_neighbourhoods(metric, X_train, y_train, X, k, norm, smallest_step)
        np.testing.assert_allclose(found.radii, expected, rtol=1e-6, atol=1e-8)
        assert found.proven.all()


@pytest.mark.parametrize("k", [2, 3, pytest.param(5, marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # few steps are meant
def test_bracket_on_real_data(wine, k):
    X, y = wine
    knn = CertifiedKNeighborsClassifier(k, metric=LMNN(max_iter=20)).fit(X[::2], y[::2])
    X = X[1::12]
    labels, certified = knn.predict_with_radius(X)
    found = knn.minimal_perturbation(X, time_limit=0.5)
    assert (certified <= found.lower * (1 + 1e-12)).all()
    assert (found.lower <= found.radii).all()
    assert found.verified.all()
    assert (knn.predict(found.witnesses) != labels).all()
    np.testing.assert_allclose(resolve_norm("l2").norm(found.witnesses - X), found.radii, rtol=1e-5)
    assert found.proven.mean() > 0.5


def test_time_runs_out_honestly(wine):
    X, y = wine
    knn = CertifiedKNeighborsClassifier(7).fit(X[::2], y[::2])
    hurried = knn.minimal_perturbation(X[1::30], time_limit=1e-6)
    assert not hurried.proven.all()
    assert (hurried.lower[~hurried.proven] < hurried.radii[~hurried.proven]).all()
    # More time narrows the bracket from both sides.
    patient = knn.minimal_perturbation(X[1::30], time_limit=0.5)
    assert (patient.radii <= hurried.radii * (1 + 1e-9)).all()
    assert (patient.lower >= hurried.lower * (1 - 1e-9)).all()


def test_nothing_outvotes_a_class_alone():
    metric = MahalanobisMetric.from_matrix([[1.0]])
    found = minimal_perturbation(metric, [[0.0], [1.0], [2.0], [9.0]], [0, 0, 0, 1], [[0.5]], n_neighbors=3)
    assert np.isinf(found.radii).all()
    assert found.proven.all()


def test_ties_among_the_neighbours():
    # Four corners, two of each class, the query in the middle: any step decides, so that the radius is 0.
    metric = MahalanobisMetric.from_components(np.eye(2))
    X_train = [[0.0, 0.0], [0.0, 2.0], [2.0, 0.0], [2.0, 2.0]]
    found = minimal_perturbation(metric, X_train, [0, 0, 1, 1], [[1.0, 1.0]], n_neighbors=3)
    assert found.radii[0] == pytest.approx(0.0, abs=1e-9)
