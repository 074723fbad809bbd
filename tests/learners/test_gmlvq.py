"""Prototypes with a metric: the objective by its definition, and what the certificate of them is worth."""

import numpy as np
import pytest
from scipy.optimize import approx_fprime

from certimetric import GMLVQ, CertifiedKNeighborsClassifier, MahalanobisMetric
from certimetric.geometry import resolve_norm
from certimetric.objectives.margin import KINDS
from certimetric.objectives.prototypes import PrototypeMargins

D, LABELS = 3, np.array([0, 0, 1, 1, 2])
NORMS = ["l2", "linf", "l1", "ellipsoid"]


def norm_of(name, rng):
    A = rng.standard_normal((D, D))
    return resolve_norm(A @ A.T + np.eye(D) if name == "ellipsoid" else name)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NORMS)
def test_gradients_in_metric_and_prototypes(name, kind, rng):
    X, y, norm = rng.standard_normal((20, D)), rng.integers(0, 3, 20), norm_of(name, rng)
    weights = rng.random(20)
    for k in (D, 2):

        def value(flat):
            return objective.in_components(flat.reshape(point.shape))[0]  # noqa: B023

        objective = PrototypeMargins(X, y, LABELS, kind, 0.7, norm, weights)
        point = objective.stacked(rng.standard_normal((k, D)), rng.standard_normal((len(LABELS), D)))
        _, gradient = objective.in_components(point)
        numeric = approx_fprime(point.ravel(), value, 1e-7)
        np.testing.assert_allclose(gradient.ravel(), numeric, atol=1e-5 * max(1.0, np.abs(numeric).max()))
        chunks = PrototypeMargins(X, y, LABELS, kind, 0.7, norm, weights, memory=1).in_components(point)
        np.testing.assert_allclose(chunks[1], gradient, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", NORMS)
def test_the_loss_is_of_certified_radii(name, rng):
    # Soft minimum and maximum are at most 0.1 log(number) below; with one prototype of each class there is no maximum.
    X, W, norm = rng.standard_normal((40, D)), 3 * rng.standard_normal((4, D)), norm_of(name, rng)
    labels, L = np.arange(4), rng.standard_normal((D, D))
    squared = ((X @ L.T)[:, None] - W @ L.T) ** 2
    y = squared.sum(axis=2).argmin(axis=1)
    metric = MahalanobisMetric.from_components(L)
    radii = CertifiedKNeighborsClassifier(1, metric=metric, norm=norm).fit(W, labels).correctness_radius(X, y)
    objective = PrototypeMargins(X, y, labels, "linear", 0.01, norm)
    loss, _ = objective.in_components(objective.stacked(L, W))
    bound = -0.01 * loss  # the certificate is rounded down
    assert bound - 1e-9 <= radii.mean() <= bound + 0.01 * 0.1 * np.log(3)


def test_prototypes_are_few_and_certify_more_than_all_rows(wine):
    X, y = wine
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    A, a, B, b = X[::2], y[::2], X[1::2], y[1::2]
    gmlvq = GMLVQ(1, random_state=0).fit(A, a)
    assert gmlvq.prototypes_.shape == (3, 13)
    assert gmlvq.prototype_labels_.tolist() == gmlvq.classes_.tolist()
    assert gmlvq.objective_ < 0.95 * gmlvq.objective_path_[0]
    assert (np.diff(gmlvq.objective_path_) <= 0).all()
    of_prototypes = CertifiedKNeighborsClassifier(1, metric=gmlvq).fit(gmlvq.prototypes_, gmlvq.prototype_labels_)
    of_rows = CertifiedKNeighborsClassifier(1).fit(A, a)
    eps = np.median(of_rows.predict_with_radius(B)[1])
    assert of_prototypes.certified_accuracy(B, b, 0.0) > 0.9
    assert of_prototypes.certified_accuracy(B, b, eps) > of_rows.certified_accuracy(B, b, eps) + 0.1


def test_prototypes_are_in_units_of_the_data(wine):
    X, y = wine
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    plain = GMLVQ(2, random_state=0).fit(X, y)
    moved = GMLVQ(2, random_state=0).fit(8.0 * X + 100.0, y)
    np.testing.assert_allclose(moved.prototypes_, 8.0 * plain.prototypes_ + 100.0, rtol=1e-6)
    assert moved.scale_ == pytest.approx(8.0 * plain.scale_)
    assert GMLVQ(scale=3.0).fit(X, y).scale_ == pytest.approx(3.0)


def test_a_class_has_no_more_prototypes_than_instances(rng):
    X, y = np.r_[rng.standard_normal((30, 2)), [[5.0, 5.0]]], np.array([*["a"] * 15, *["b"] * 15, "c"])
    gmlvq = GMLVQ(4, random_state=0).fit(X, y)
    assert gmlvq.prototype_labels_.tolist() == ["a"] * 4 + ["b"] * 4 + ["c"]


def test_prototypes_of_wide_data_lie_among_them(rng):
    y = np.arange(20) % 2
    X = rng.standard_normal((20, 50)) + 3.0 * y[:, None]
    gmlvq = GMLVQ(1, random_state=0).fit(X, y)
    knn = CertifiedKNeighborsClassifier(1, metric=gmlvq).fit(gmlvq.prototypes_, gmlvq.prototype_labels_)
    assert knn.score(X, y) == 1.0
    difference = gmlvq.prototypes_ - X.mean(axis=0)
    span = np.linalg.svd(X - X.mean(axis=0), full_matrices=False)[2]
    np.testing.assert_allclose(difference @ span.T @ span, difference, atol=1e-8)
