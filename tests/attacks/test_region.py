"""The attack bounds robustness from above: what it reports flips the prediction, and never inside a certificate."""

from itertools import product

import numpy as np
import pytest
from scipy.optimize import minimize

from certimetric import LMNN, CertifiedKNeighborsClassifier, MahalanobisMetric
from certimetric.attacks import RegionAttack
from certimetric.datasets import load
from certimetric.geometry import resolve_norm

NORMS = ("l2", "linf", "l1", "ellipsoid")


def make_norm(name, d, seed=0):
    if name != "ellipsoid":
        return name
    A = np.random.default_rng(seed).standard_normal((d, d))
    return A @ A.T + np.eye(d)


@pytest.fixture(scope="module")
def wine():
    data = load("wine")
    X = (data.X - data.X.mean(axis=0)) / data.X.std(axis=0)
    return X[::2], data.y[::2], X[1::2], data.y[1::2]


@pytest.fixture(scope="module")
def learned(wine):
    return LMNN().fit(*wine[:2]).metric_


# All pairs are slow: each norm and each number of neighbours once is enough for every day.
SANDWICHED = [
    pytest.param(norm, k, marks=[] if i % 4 == 0 else [pytest.mark.slow])
    for i, (norm, k) in enumerate(product(NORMS, (1, 2, 3)))
]


@pytest.mark.parametrize(("norm", "k"), SANDWICHED)
def test_certificate_attack_sandwich(wine, learned, norm, k):
    # Soundness: certified radius ≤ distance of any point at which the prediction differs.
    X_train, y_train, X, _ = wine
    norm = make_norm(norm, X.shape[1])
    knn = CertifiedKNeighborsClassifier(k, metric=learned, norm=norm).fit(X_train, y_train)
    X = X[:10]
    labels, radii = knn.predict_with_radius(X)
    result = RegionAttack()(knn, X, threat=norm)
    assert result.success.all()
    assert (knn.predict(result.adversarial) != labels).all()
    np.testing.assert_allclose(result.distances, resolve_norm(norm).norm(result.adversarial - X), rtol=1e-12)
    assert (radii <= result.distances).all()
    # The attack is worth reporting: for the typical instance the bracket is narrow.
    assert np.median(radii / result.distances) > (0.9 if k == 1 else 0.6)


def test_is_exact_for_one_neighbor_on_small_data():
    # Minimal perturbation of 1-NN: min over opponents l of the projection onto {d(·, l) ≤ d(·, j) for all own j}.
    rng = np.random.default_rng(3)
    X_train, y_train = rng.standard_normal((14, 2)), np.arange(14) % 2
    metric = MahalanobisMetric.from_components(rng.standard_normal((2, 2)) + np.eye(2))
    X = rng.standard_normal((12, 2))
    knn = CertifiedKNeighborsClassifier(1, metric=metric).fit(X_train, y_train)
    result = RegionAttack(n_opponents=14)(knn, X)
    M, predicted = metric.matrix, knn.predict(X)
    for x, c, distance in zip(X, predicted, result.distances):
        best = np.inf
        own = X_train[y_train == c]
        for opponent in X_train[y_train != c]:
            A = 2 * (opponent - own) @ M
            b = metric.distance(x, opponent) ** 2 - metric.distance(x, own) ** 2
            solution = minimize(
                lambda delta: delta @ delta,
                (opponent - x),
                jac=lambda delta: 2 * delta,
                constraints={"type": "ineq", "fun": lambda delta, A=A, b=b: A @ delta - b, "jac": lambda _, A=A: A},
                method="SLSQP",
                options={"ftol": 1e-14, "maxiter": 500},
            )
            if solution.success:
                best = min(best, np.linalg.norm(solution.x))
        assert distance == pytest.approx(best, rel=1e-5)


def test_wrong_predictions_count_as_attacked_at_distance_zero(wine):
    X_train, y_train, X, _ = wine
    knn = CertifiedKNeighborsClassifier(1).fit(X_train, y_train)
    labels = knn.predict(X[:4])
    other = np.where(labels == knn.classes_[0], knn.classes_[1], knn.classes_[0])
    result = RegionAttack()(knn, X[:4], other)
    assert result.success.all()
    assert (result.distances == 0).all()
    np.testing.assert_array_equal(result.adversarial, X[:4])


def test_no_success_where_nothing_can_flip():
    # One class only: whatever the point, the prediction is that class.
    knn = CertifiedKNeighborsClassifier(1).fit([[0.0], [1.0]], ["a", "a"])
    result = RegionAttack()(knn, [[0.5]])
    assert not result.success.any()
    assert np.isinf(result.distances).all()
    # M = 0: all distances are ties, the prediction is constant.
    zero = MahalanobisMetric.from_components([[0.0, 0.0]])
    knn = CertifiedKNeighborsClassifier(1, metric=zero).fit([[0.0, 0.0], [1.0, 0.0]], [0, 1])
    assert not RegionAttack()(knn, [[0.5, 0.0]]).success.any()


def test_low_rank_metric_and_more_opponents_never_weaker(wine):
    X_train, y_train, X, _ = wine
    knn = CertifiedKNeighborsClassifier(3, metric=LMNN(n_components=2)).fit(X_train, y_train)
    few, many = RegionAttack(1)(knn, X[:10]), RegionAttack(12)(knn, X[:10])
    assert many.success.all()
    assert (many.distances <= few.distances * (1 + 1e-6)).all()
