"""Queries on a decision boundary, or next to it: the radius is 0 or a true positive value, and never infinity."""

from fractions import Fraction

import numpy as np
import pytest

from certimetric import CertifiedKNeighborsClassifier, MahalanobisMetric, datasets, minimal_perturbation
from certimetric.certify.exact.dual_program import DualProgram
from certimetric.certify.exact.least_norm import least_norm_in_rounds
from certimetric.certify.exact.minimal import smallest_changes
from certimetric.certify.exact.nearest_flip import along_segments
from certimetric.certify.radius import PredictedQueries
from certimetric.certify.reference import ReferenceSet
from certimetric.geometry import resolve_norm

NORMS = ("l2", "linf", "l1")


def standardised(name):
    data = datasets.load(name)
    return (data.X - data.X.mean(axis=0)) / np.maximum(data.X.std(axis=0), 1e-12), data.y


def midpoints(X, y):
    """Half way from every instance to the nearest one of another class."""
    squared = ((X**2).sum(axis=1)[:, None] + (X**2).sum(axis=1)) - 2 * X @ X.T
    squared[y[:, None] == y] = np.inf
    return (X + X[squared.argmin(axis=1)]) / 2


def on_boundary(X, y, x):
    """Whether two classes have instances at the smallest distance, which is told without rounding."""
    near = np.argsort(((X - x) ** 2).sum(axis=1))[:4]
    at = [Fraction(float(value)) for value in x]
    squared = {}
    for j in near:
        distance = sum((Fraction(float(value)) - a) ** 2 for value, a in zip(X[j], at))
        squared[y[j]] = min(squared.get(y[j], distance), distance)
    first, *rest = sorted(squared.values())
    return bool(rest) and rest[0] - first <= Fraction(1e-13) * first


CASES = [
    *(("l2", name, step) for name, step in (("iris", 1), ("wine", 1), ("breast_cancer", 2), ("digits", 8))),
    *((norm, name, 4) for norm in ("linf", "l1") for name in ("iris", "wine")),
]


@pytest.mark.parametrize(("norm", "name", "step"), CASES)
def test_midpoints_of_nearest_pairs_of_two_classes(norm, name, step):
    X, y = standardised(name)
    queries = midpoints(X, y)[::step]
    knn = CertifiedKNeighborsClassifier(1, norm=norm).fit(X, y)
    radii, witnesses = found = knn.minimal_perturbation(queries)
    assert np.isfinite(radii).all()
    assert (found.lower <= radii).all()
    assert found.proven.all()
    assert found.verified.all()
    sizes = resolve_norm(norm).norm(witnesses - queries)
    assert (sizes <= radii * (1 + 1.001e-6) + found.tolerance).all()
    assert (found.tolerance <= 1e-9).all()
    some = np.arange(0, len(queries), max(1, len(queries) // 40))
    np.testing.assert_array_equal(radii[some] == 0, [on_boundary(X, y, query) for query in queries[some]])
    assert (radii == 0).any()
    assert (radii > 1e-3).any()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", ["iris", "wine"])
def test_positive_radii_of_midpoints_are_exact(norm, name, smallest_step):
    X, y = standardised(name)
    queries = midpoints(X, y)
    knn = CertifiedKNeighborsClassifier(1, norm=norm).fit(X, y)
    queries = queries[knn.predict_with_radius(queries)[1] > 0][:4]
    radii, labels = knn.minimal_perturbation(queries).radii, knn.predict(queries)
    for x, label, radius in zip(queries, labels, radii):
        squared = ((X - x) ** 2).sum(axis=1)
        own, others = np.flatnonzero(y == label), np.flatnonzero(y != label)
        best = np.inf
        for l in others[np.argsort(squared[others])[:25]]:
            best = min(best, smallest_step(2 * (X[l] - X[own]), squared[l] - squared[own], norm))
        assert radius == pytest.approx(best, rel=1e-6)


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("norm", NORMS)
def test_next_to_the_boundary(norm, k):
    # In one dimension the radius is the distance to the middle; the smaller, the more of its digits rounding takes.
    metric = MahalanobisMetric.from_matrix([[1.0]])
    X, y = [[1.0], [-1.0], [1.25], [-1.25]], [1, 0, 1, 0]
    for distance in (1e-3, 1e-7, 1e-10, 1e-13, 1e-15, 1e-18, 0.0):
        radii, witnesses = found = minimal_perturbation(metric, X, y, [[distance]], norm, n_neighbors=k)
        assert radii[0] == pytest.approx(distance, rel=1e-6, abs=1e-14)
        assert found.lower[0] <= min(radii[0], distance)
        assert found.proven[0] == (found.lower[0] >= radii[0] * (1 - 1e-6))
        assert found.proven[0] or 0 < radii[0] < 1e-7
        assert found.verified[0]
        assert abs(witnesses[0, 0] - distance) <= radii[0] * (1 + 1.001e-6) + found.tolerance[0]
        assert found.tolerance[0] < 1e-13


def test_a_query_in_the_middle_of_two():
    # Once infinity, with a proof: a program without the rows that do not bind was solved to another tolerance.
    found = minimal_perturbation(MahalanobisMetric.from_matrix([[1.0]]), [[1.0], [-2.0], [-1.0]], [1, 1, 0], [[0.0]])
    assert found.radii[0] == 0
    assert found.lower[0] == 0
    assert found.proven[0]
    assert found.verified[0]
    assert abs(found.witnesses[0, 0]) < 1e-13


def test_an_infinite_radius_is_proven_by_an_infinite_bound_alone():
    # The only feature that may change is constant in training: no change moves one distance against another, which in
    # floating point holds up to a size that is large, not infinite.
    rng = np.random.default_rng(0)
    X = rng.standard_normal((30, 2))
    X[:, 0] = 0.3
    y = (X[:, 1] > 0).astype(int)
    queries = X[:10] + np.array([0.0, 0.01])
    norm = resolve_norm("l2").restrict([True, False])
    for k in (1, 3):
        knn = CertifiedKNeighborsClassifier(k, norm=norm).fit(X, y)
        found = knn.minimal_perturbation(queries)
        assert np.isinf(found.radii).all()
        np.testing.assert_array_equal(found.proven, np.isinf(found.lower))
        assert (found.lower > 1e3).all()
        moved = queries + np.outer(np.minimum(found.lower, 1e300) * 0.999, [1.0, 0.0])
        np.testing.assert_array_equal(knn.predict(moved), knn.predict(queries))


@pytest.mark.parametrize("order", [1, np.inf])
def test_linear_programs_are_solved_in_their_own_scale(order):
    # Rows far from binding do not make the unit of what is near: the solver's tolerances are absolute.
    rng = np.random.default_rng(0)
    N = rng.standard_normal((6, 3))
    N /= np.linalg.norm(N, order, axis=1)[:, None]
    h = np.array([3e-9, 1e-9, -0.5, -2.0, -0.3, -1.0])
    tolerance = np.full(6, 1e-16)
    eta, rows, u = least_norm_in_rounds(N, h, order, np.inf, tolerance)
    size = np.linalg.norm(eta, 1 if order == np.inf else np.inf)
    bound = h[rows] @ u / np.linalg.norm(N[rows].T @ u, order)
    assert (N @ eta >= h - 1e-17).all()
    assert size == pytest.approx(bound, rel=1e-7)


@pytest.mark.parametrize("norm", NORMS)
def test_straight_ways_towards_opponents_bound_the_radius_from_above(norm, rng):
    # What is left where a solver fails: at the end of the step the opponent ties with the nearest of the class.
    for _ in range(5):
        X, y, x = rng.standard_normal((15, 3)), np.arange(15) % 3, rng.standard_normal((1, 3))
        reference = ReferenceSet(MahalanobisMetric.from_components(rng.standard_normal((2, 3))), X, y)
        program = DualProgram(reference, resolve_norm(norm))
        points, errors = reference.embed(x)
        predicted = int(reference.predict(points, 1)[0])
        size, step, opponent = along_segments(program, points[0], errors[0], predicted, -1)
        radius = smallest_changes(PredictedQueries.of(reference, x, 1), resolve_norm(norm)).radii[0]
        assert radius * (1 - 1e-9) <= size <= 100 * radius
        assert resolve_norm(norm).norm(step @ program.lift) == pytest.approx(size)
        before, after = (x + (1 + push) * step @ program.lift for push in (-1e-9, 1e-9))
        assert reference.predict(reference.embed(after)[0], 1)[0] == y[opponent]
        assert reference.predict(reference.embed(before)[0], 1)[0] != y[opponent]


def test_radius_is_no_smaller_than_the_certificate():
    # Instances of two classes 1e-12 apart: the linear program's step is shorter than what is proven, by 2e-11 of it.
    L = [
        [-1.39235952950095, -0.666806919049759],
        [-4.6696600651508, -2.21800790585841],
        [0.4780339416, 0.22425652140969],
    ]
    X = np.array([[-0.45040114132, -0.80466257297], [0.00451097061, -0.94514099350], [-0.33471055767, 0.41286124855]])
    apart = np.array([[4.6e-13, 1.1e-12], [2.5e-12, -2.3e-13], [8.7e-13, 1.2e-12]])
    X = np.vstack([X, X + apart])
    y = [0, 0, 3, 1, 1, 3]
    queries = [[-0.2060538267330368, -0.1021889900200863], [-0.3347105576788494, 0.4128612485581999]]
    metric = MahalanobisMetric.from_components(L)
    certified = CertifiedKNeighborsClassifier(1, metric=metric, norm="l1").fit(X, y).predict_with_radius(queries)[1]
    found = minimal_perturbation(metric, X, y, queries, "l1")
    assert (certified <= found.radii).all() and (found.lower <= found.radii).all()
    assert (certified > 0).all() and found.proven.all()
