"""Exact minimal perturbation of 1-NN: against brute force, by its laws, on hard input."""

import json
import tracemalloc

import numpy as np
import pytest

from certimetric import (
    LMNN,
    CertifiedKNeighborsClassifier,
    MahalanobisMetric,
    certified_radius,
    datasets,
    minimal_perturbation,
)
from certimetric.certify.exact.dual_program import DualProgram
from certimetric.certify.reference import ReferenceSet
from certimetric.geometry import resolve_norm
from certimetric.geometry.diagonal import DiagonalMetric

NORMS = ("l2", "linf", "l1")


def problems(seed, n_problems, n=20):
    rng = np.random.default_rng(seed)
    for _ in range(n_problems):
        d = int(rng.integers(1, 6))
        metric = MahalanobisMetric.from_components(rng.standard_normal((int(rng.integers(1, d + 1)), d)))
        X_train = rng.standard_normal((n, d)) + 3.0
        y_train = rng.integers(0, 3, n)
        y_train[:2] = 0, 1
        yield metric, X_train, y_train, rng.standard_normal((8, d)) + 3.0


def brute_force(metric, X_train, y_train, X, norm, solve, mutable=None):
    """Smallest step into the cell of every single opponent, without any bound."""
    M, sizes = metric.matrix, []
    for x in X:
        squared = metric.distance(x, X_train) ** 2
        own = y_train == y_train[squared.argmin()]
        best = np.inf
        for l in np.flatnonzero(~own):
            A = 2 * (X_train[l] - X_train[own]) @ M
            A = A if mutable is None else A[:, mutable]
            best = min(best, solve(A, squared[l] - squared[own], norm))
        sizes.append(best)
    return np.array(sizes)


@pytest.mark.parametrize("norm", NORMS)
def test_equals_brute_force_over_all_opponents(norm, smallest_step):
    for metric, X_train, y_train, X in problems(0, 12 if norm == "l2" else 4):
        found = minimal_perturbation(metric, X_train, y_train, X, norm)
        expected = brute_force(metric, X_train, y_train, X, norm, smallest_step)
        np.testing.assert_allclose(found.radii, expected, rtol=1e-6, atol=1e-9)
        assert found.proven.all()
        assert found.verified.all()


def test_ellipsoid_is_l2_after_a_change_of_coordinates():
    for metric, X_train, y_train, X in problems(1, 5):
        C = np.tril(np.random.default_rng(0).standard_normal((X.shape[1],) * 2)) + 2 * np.eye(X.shape[1])
        # δ = C⁻ᵀε has ‖δ‖_A = ‖ε‖₂ for A = CCᵀ.
        turned = MahalanobisMetric.from_components(metric.components @ np.linalg.inv(C).T)
        np.testing.assert_allclose(
            minimal_perturbation(metric, X_train, y_train, X, C @ C.T).radii,
            minimal_perturbation(turned, X_train @ C, y_train, X @ C).radii,
            rtol=1e-9,
        )


@pytest.mark.parametrize("norm", NORMS)
def test_features_that_cannot_be_changed(norm, smallest_step):
    rng = np.random.default_rng(4)
    X_train, y_train = rng.standard_normal((15, 4)), np.arange(15) % 3
    metric = MahalanobisMetric.from_components(rng.standard_normal((4, 4)))
    X, mutable = rng.standard_normal((6, 4)), np.array([True, False, True, False])
    found = minimal_perturbation(metric, X_train, y_train, X, resolve_norm(norm).restrict(mutable))
    expected = brute_force(metric, X_train, y_train, X, norm, smallest_step, mutable)
    np.testing.assert_allclose(found.radii, expected, rtol=1e-6, atol=1e-9)
    reached = np.isfinite(found.radii)
    np.testing.assert_array_equal(found.witnesses[:, ~mutable], X[:, ~mutable])
    assert found.verified[reached].all()
    free = minimal_perturbation(metric, X_train, y_train, X, norm).radii
    assert (found.radii >= free * (1 - 1e-9)).all()


@pytest.mark.parametrize("norm", NORMS)
def test_witness_flips_and_nothing_inside_does(norm, rng):
    measure = resolve_norm(norm)
    for metric, X_train, y_train, X in problems(2, 6, n=40):
        knn = CertifiedKNeighborsClassifier(1, metric=metric, norm=norm).fit(X_train, y_train)
        radii, witnesses = found = knn.minimal_perturbation(X)
        labels, certified = knn.predict_with_radius(X)
        assert (knn.predict(witnesses) != labels).all()
        assert (measure.norm(witnesses - X) <= radii * (1 + 1e-5) + 1e-12).all()
        # The bracket: certified ≤ proven lower bound of the exact radius ≤ radius.
        assert (certified <= radii * (1 + 1e-12)).all()
        assert (found.lower <= radii).all()
        assert (found.lower >= radii * (1 - 1e-6)).all()
        for _ in range(40):
            inside = X + 0.999999 * found.lower[:, None] * measure.sample(rng, len(X), X.shape[1])
            assert (knn.predict(inside) == labels).all()
        almost = X + 0.99999 * (witnesses - X) * (found.lower / measure.norm(witnesses - X))[:, None]
        assert (knn.predict(almost) == labels).all()


def test_order_of_the_norms():
    # ‖δ‖_∞ ≤ ‖δ‖₂ ≤ ‖δ‖₁, so the same holds for the smallest change.
    for problem in problems(3, 8):
        linf, l2, l1 = (minimal_perturbation(*problem, norm).radii for norm in ("linf", "l2", "l1"))
        assert (linf <= l2 * (1 + 1e-9)).all()
        assert (l2 <= l1 * (1 + 1e-9)).all()


@pytest.mark.parametrize("norm", NORMS)
def test_invariances(norm, rng, smallest_blocks):
    for metric, X_train, y_train, X in problems(5, 3):
        radii = minimal_perturbation(metric, X_train, y_train, X, norm).radii
        order = rng.permutation(len(X_train))
        features = rng.permutation(X.shape[1])
        larger = MahalanobisMetric.from_components(7.0 * metric.components)
        permuted = MahalanobisMetric.from_components(metric.components[:, features])
        with smallest_blocks():
            in_blocks = minimal_perturbation(metric, X_train, y_train, X, norm, n_jobs=2)
        for other in (
            minimal_perturbation(larger, X_train, y_train, X, norm),
            minimal_perturbation(metric, X_train[order], y_train[order], X, norm),
            minimal_perturbation(metric, X_train - 100.0, y_train, X - 100.0, norm),
            minimal_perturbation(permuted, X_train[:, features], y_train, X[:, features], norm),
            in_blocks,
        ):
            np.testing.assert_allclose(other.radii, radii, rtol=1e-7)
        scaled = minimal_perturbation(metric, 3.0 * X_train, y_train, 3.0 * X, norm).radii
        np.testing.assert_allclose(scaled, 3.0 * radii, rtol=1e-7)


def test_rotation_leaves_l2_radii(rng):
    for metric, X_train, y_train, X in problems(6, 5):
        Q, _ = np.linalg.qr(rng.standard_normal((X.shape[1],) * 2))
        turned = MahalanobisMetric.from_components(metric.components @ Q)
        np.testing.assert_allclose(
            minimal_perturbation(turned, X_train @ Q, y_train, X @ Q).radii,
            minimal_perturbation(metric, X_train, y_train, X).radii,
            rtol=1e-8,
        )


def test_more_instances():
    # Where predictions stay: another opponent never raises the radius, another instance of the class never lowers it.
    for metric, X_train, y_train, X in problems(7, 10):
        found = minimal_perturbation(metric, X_train[1:], y_train[1:], X).radii
        more = minimal_perturbation(metric, X_train, y_train, X).radii
        knn = CertifiedKNeighborsClassifier(1, metric=metric).fit(X_train, y_train)
        fewer = CertifiedKNeighborsClassifier(1, metric=metric).fit(X_train[1:], y_train[1:])
        same = knn.predict(X) == fewer.predict(X)
        own = same & (knn.predict(X) == y_train[0])
        assert (more[own] >= found[own] * (1 - 1e-9)).all()
        assert (more[same & ~own] <= found[same & ~own] * (1 + 1e-9)).all()


def test_leave_one_out_leaves_out_the_instance(wine):
    X, y = wine
    metric = MahalanobisMetric.from_components(np.eye(X.shape[1]))
    radii = minimal_perturbation(metric, X, y).radii
    for row in (0, 50, 177):
        rest = np.arange(len(X)) != row
        alone = minimal_perturbation(metric, X[rest], y[rest], X[row : row + 1]).radii
        assert radii[row] == pytest.approx(alone[0], rel=1e-9)


@pytest.mark.parametrize("name", ["wine", "breast_cancer", "digits", "iris"])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # few steps are meant
def test_certificate_below_exact_on_real_data(name, norm):
    data = datasets.load(name)
    X = (data.X - data.X.mean(axis=0)) / np.maximum(data.X.std(axis=0), 1e-12)
    train, test = np.arange(len(X)) % 3 > 0, np.flatnonzero(np.arange(len(X)) % 3 == 0)
    test = test[:: max(1, len(test) // (60 if norm == "l2" else 12))]
    knn = CertifiedKNeighborsClassifier(1, metric=LMNN(max_iter=20), norm=norm).fit(X[train], data.y[train])
    _, certified = knn.predict_with_radius(X[test])
    found = knn.minimal_perturbation(X[test])
    assert (certified <= found.radii * (1 + 1e-12)).all()
    assert found.proven.all()
    assert np.median(certified / found.radii) > 0.9


# Hard but valid input.


def line(points, labels, queries, **options):
    metric = MahalanobisMetric.from_matrix([[1.0]])
    return minimal_perturbation(metric, np.array(points)[:, None], labels, np.array(queries)[:, None], **options)


@pytest.mark.parametrize("norm", NORMS)
def test_one_dimension_by_hand(norm):
    found = line([0.0, 4.0, 10.0], ["a", "b", "a"], [1.0, 3.0, 9.0, -5.0], norm=norm)
    np.testing.assert_allclose(found.radii, [1.0, 1.0, 2.0, 7.0], rtol=1e-9)
    np.testing.assert_allclose(found.witnesses[:, 0], [2.0, 2.0, 7.0, 2.0], atol=1e-4)


def test_duplicates_with_different_labels_are_a_tie():
    found = line([0.0, 0.0, 5.0], ["a", "b", "a"], [0.0, 1.0])
    assert (found.radii == 0).all()
    assert (found.lower == 0).all()
    # Near the two, no push decides the tie: the classifier does, by their order.
    assert not found.verified.any()
    np.testing.assert_array_equal(found.witnesses[:, 0], [0.0, 1.0])


def test_near_duplicates_with_different_labels():
    # Instances 1e-9 apart: expanded distances would cancel.
    X_train = np.array([[1.0, 1.0], [1.0, 1.0 + 1e-9], [-2.0, 0.0], [0.0, -2.0]])
    y_train = np.array([0, 1, 0, 1])
    metric = MahalanobisMetric.from_components(np.eye(2))
    X = np.array([[0.9, 0.7], [0.5, 1.5]])
    found = minimal_perturbation(metric, X_train, y_train, X)
    # The bisector of the pair is the line of height 1 + 0.5e-9.
    np.testing.assert_allclose(found.radii, np.abs(X[:, 1] - 1 - 0.5e-9), rtol=1e-6)
    assert (certified_radius(metric, X_train, y_train, X) <= found.radii).all()
    assert (found.lower <= found.radii).all()


def test_query_at_a_training_instance():
    found = line([0.0, 4.0], ["a", "b"], [0.0, 4.0])
    np.testing.assert_allclose(found.radii, [2.0, 2.0])


def test_a_class_with_one_member_and_a_single_class():
    found = line([0.0, 1.0, 2.0, 9.0], ["a", "a", "a", "b"], [8.0])
    assert found.radii[0] == pytest.approx(2.5)
    alone = line([0.0, 1.0], ["a", "a"], [0.5])
    assert np.isinf(alone.radii).all()
    assert np.isinf(alone.lower).all()
    assert alone.proven.all()
    assert not alone.verified.any()
    np.testing.assert_array_equal(alone.witnesses, [[0.5]])


@pytest.mark.parametrize("norm", NORMS)
def test_metric_that_sees_nothing(norm):
    zero = MahalanobisMetric.from_components(np.zeros((1, 2)))
    found = minimal_perturbation(zero, [[0.0, 0.0], [1.0, 1.0]], [0, 1], [[0.3, 0.4]], norm)
    assert found.radii[0] == 0  # all instances tie
    assert not found.verified[0]


@pytest.mark.parametrize("norm", NORMS)
def test_thousands_of_equal_distances(norm):
    # A grid, the query in the middle of a cell: many ties among neighbours and among constraints.
    axis = np.arange(40.0)
    X_train = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    y_train = (X_train[:, 0] > 19.5).astype(int)
    metric = MahalanobisMetric.from_components(np.eye(2))
    found = minimal_perturbation(metric, X_train, y_train, [[10.5, 10.5], [19.0, 5.0]], norm)
    np.testing.assert_allclose(found.radii, [9.0, 0.5], rtol=1e-9)


def test_float32_and_low_rank(wine):
    X, y = wine
    X = X.astype(np.float32)
    learner = LMNN(n_components=2).fit(X[::2], y[::2])
    found = minimal_perturbation(learner, X[::2], y[::2], X[1::2])
    assert found.radii.dtype == np.float64
    assert found.proven.all()
    assert found.verified.all()
    same = minimal_perturbation(learner, X[::2].astype(float), y[::2], X[1::2].astype(float))
    np.testing.assert_array_equal(found.radii, same.radii)


def test_result_as_frame_and_json():
    found = line([0.0, 4.0], ["a", "b"], [1.0])
    assert found.to_frame().columns.tolist() == ["radius", "lower", "proven", "verified"]
    document = json.loads(found.to_json())
    assert document["radii"] == [pytest.approx(1.0)]
    assert document["proven"] == [True]
    assert json.loads(line([0.0, 1.0], ["a", "a"], [0.5]).to_json())["radii"] == [None]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_neighbors": 3}, "n_neighbors must be between 1 and n_samples=2"),
        ({"norm": "l3"}, "norm must be one of"),
        ({"time_limit": 0}, "time_limit must be a positive number"),
        ({"norm": "l1", "threat": "l1:bounds=0..9"}, "give one of them, got both"),
        ({"threat": "l1:bounds=2..9"}, "instance 0 has the value 1 in feature 0"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        line([0.0, 4.0], ["a", "b"], [1.0], **arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("norm", [*NORMS, "restricted"])
def test_programs_of_wide_data_need_no_square_matrix(norm):
    rng = np.random.default_rng(0)
    d = 1000
    norm = resolve_norm("linf").in_units(rng.uniform(1, 2, d)) if norm == "restricted" else resolve_norm(norm)
    norm = norm.restrict(np.arange(d) % 2 == 0)
    X, weights = rng.standard_normal((12, d)), rng.uniform(1, 2, d)
    reference = ReferenceSet(DiagonalMetric(weights), X, np.arange(12) % 2)
    tracemalloc.start()
    program = DualProgram(reference, norm)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * X.nbytes  # a matrix of all features is 80 times as large
    # The same maps as those of the metric that holds its components.
    eta = rng.standard_normal(program.dual.shape[1])
    whole = ReferenceSet(MahalanobisMetric.from_components(np.diag(weights)), X, np.arange(12) % 2)
    change = eta @ program.lift
    np.testing.assert_allclose(program.map @ eta, whole.metric.transform(change), rtol=1e-12)
    assert norm.norm(change) == pytest.approx(np.linalg.norm(eta, {1: np.inf, 2: 2, np.inf: 1}[norm.dual_order]))
    moves = (program.map @ eta)[None]
    np.testing.assert_allclose(program.steps_of(moves)[0], eta, rtol=1e-12)
