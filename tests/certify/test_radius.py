"""Certified radii: the formula, its laws, and its soundness."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certimetric import CertifiedKNeighborsClassifier, MahalanobisMetric, certified_radius
from certimetric.geometry import resolve_norm

NORMS = ("l2", "linf", "l1", "ellipsoid")


def make_norm(name, d, rng):
    if name != "ellipsoid":
        return name
    A = rng.standard_normal((d, d))
    return A @ A.T + 0.5 * np.eye(d)


def dense_radius(metric, X_train, y_train, X, k, norm):
    """r = s-th smallest over l of the a-th largest over j of e(l, j), without any shortcut."""
    norm, L, M = resolve_norm(norm), metric.components, metric.matrix
    s, a = -(-k // 2), k // 2 + 1
    radii = []
    for x in X:
        squared = (((x - X_train) @ L.T) ** 2).sum(axis=1)
        nearest = y_train[np.argsort(squared, kind="stable")[:k]]
        c = np.bincount(nearest, minlength=y_train.max() + 1).argmax()
        own, others = np.flatnonzero(y_train == c), np.flatnonzero(y_train != c)
        if len(own) < a:
            radii.append(0.0)
        elif len(others) < s:
            radii.append(np.inf)
        else:
            dual = norm.dual_norm((X_train[others][:, None] - X_train[own][None]) @ M)
            gap = np.maximum(squared[others][:, None] - squared[own][None], 0)
            e = np.divide(gap, 2 * dual, out=np.zeros_like(gap), where=dual > 0)
            radii.append(np.sort(np.sort(e, axis=1)[:, ::-1][:, a - 1])[s - 1])
    return np.array(radii)


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("name", NORMS)
def test_equals_the_dense_formula_and_never_exceeds_it(name, k):
    rng = np.random.default_rng(k)
    for trial in range(6):
        n, d = int(rng.integers(8, 60)), int(rng.integers(1, 6))
        X_train = rng.standard_normal((n, d)) + 10 * trial
        y_train = np.unique(rng.integers(0, trial + 1, n), return_inverse=True)[1]
        X = rng.standard_normal((25, d)) + 10 * trial
        metric = MahalanobisMetric.from_components(rng.standard_normal((int(rng.integers(1, d + 1)), d)))
        norm = make_norm(name, d, rng)
        radii = certified_radius(metric, X_train, y_train, X, n_neighbors=k, norm=norm)
        expected = dense_radius(metric, X_train, y_train, X, k, norm)
        np.testing.assert_array_equal(np.isinf(radii), np.isinf(expected))
        finite = np.isfinite(expected)
        assert (radii[finite] <= expected[finite]).all()
        np.testing.assert_allclose(radii[finite], expected[finite], rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("k", [pytest.param(1, marks=pytest.mark.slow), 3])
@pytest.mark.parametrize("name", NORMS)
def test_equals_the_dense_formula_where_far_instances_of_the_class_decide(name, k):
    """Clusters of either class, a class of fewer instances than are looked at first, and labels at random."""
    rng = np.random.default_rng(7)
    for n_own in (4, 12, 120):
        centers = rng.standard_normal((12, 4)) * 4
        cluster = rng.integers(0, 12, 400)
        X_train = centers[cluster] + 0.7 * rng.standard_normal((400, 4))
        for y_train in (cluster % 2, np.arange(400) >= n_own, rng.integers(0, 2, 400)):
            y_train = y_train.astype(int)
            X = X_train[:40] + 0.5 * rng.standard_normal((40, 4))
            metric = MahalanobisMetric.from_components(rng.standard_normal((4, 4)))
            norm = make_norm(name, 4, rng)
            radii = certified_radius(metric, X_train, y_train, X, n_neighbors=k, norm=norm)
            expected = dense_radius(metric, X_train, y_train, X, k, norm)
            assert (radii <= expected).all()
            np.testing.assert_allclose(radii, expected, rtol=1e-7, atol=1e-10)


def small_case(seed, n=40, d=3, classes=3):
    rng = np.random.default_rng(seed)
    X_train, y_train = rng.standard_normal((n, d)), rng.integers(0, classes, n)
    return rng, X_train, y_train, rng.standard_normal((20, d)), rng.standard_normal((d, d))


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("name", NORMS)
def test_laws(name, k, smallest_blocks):
    rng, X_train, y_train, X, L = small_case(4)
    norm = make_norm(name, 3, rng)

    def radius(L=L, X_train=X_train, y_train=y_train, X=X, **options):
        metric = MahalanobisMetric.from_components(L)
        return certified_radius(metric, X_train, y_train, X, n_neighbors=k, norm=norm, **options)

    r = radius()
    close = {"rtol": 1e-7, "atol": 1e-10}
    np.testing.assert_allclose(radius(L=7.3 * L), r, **close)  # c·M
    order = rng.permutation(len(X_train))
    np.testing.assert_allclose(radius(X_train=X_train[order], y_train=y_train[order]), r, **close)  # permutation
    shift = rng.standard_normal(3) * 5
    np.testing.assert_allclose(radius(X_train=X_train + shift, X=X + shift), r, **close)  # translation
    np.testing.assert_allclose(radius(X_train=4 * X_train, X=4 * X), 4 * r, **close)  # X → aX
    with smallest_blocks():
        np.testing.assert_array_equal(radius(), r)
    np.testing.assert_array_equal(radius(n_jobs=3), r)
    if name == "l2":
        Q = np.linalg.qr(rng.standard_normal((3, 3)))[0]
        np.testing.assert_allclose(radius(L=L @ Q.T, X_train=X_train @ Q.T, X=X @ Q.T), r, **close)  # joint rotation


@pytest.mark.parametrize("name", NORMS)
def test_more_opponents_never_help_and_more_of_the_class_never_hurt(name):
    # 1-NN, while the prediction stays: min over more opponents is smaller, max over more of the class is larger.
    rng, X_train, y_train, X, L = small_case(9, classes=2)
    norm, metric = make_norm(name, 3, rng), MahalanobisMetric.from_components(L)
    label = CertifiedKNeighborsClassifier(1, metric=metric).fit(X_train, y_train).predict(X)
    r = certified_radius(metric, X_train, y_train, X, norm=norm)
    for extra in rng.standard_normal((10, 3)) * 1.5:
        for c in (0, 1):
            grown = np.vstack([X_train, extra]), np.append(y_train, c)
            same = CertifiedKNeighborsClassifier(1, metric=metric).fit(*grown).predict(X) == label
            after = certified_radius(metric, *grown, X, norm=norm)
            assert (after[same & (label != c)] <= r[same & (label != c)] * (1 + 1e-9)).all()
            assert (after[same & (label == c)] >= r[same & (label == c)] * (1 - 1e-9)).all()


def test_radius_is_at_most_the_distance_to_any_opponent():
    _, X_train, y_train, X, L = small_case(2)
    metric = MahalanobisMetric.from_components(L)
    knn = CertifiedKNeighborsClassifier(1, metric=metric).fit(X_train, y_train)
    labels, radii = knn.predict_with_radius(X)
    for x, label, r in zip(X, labels, radii):
        assert r <= np.linalg.norm(x - X_train[y_train != label], axis=1).min()


def test_degenerate_metrics_and_small_classes():
    X_train, y_train = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 3.0]]), np.array([0, 0, 1])
    zero = MahalanobisMetric.from_components([[0.0, 0.0]])
    assert (certified_radius(zero, X_train, y_train, X_train) == 0).all()  # M = 0: everything is a tie
    blind = MahalanobisMetric.from_components([[0.0, 1.0]])  # sees the second feature only
    np.testing.assert_allclose(certified_radius(blind, X_train, y_train, [[50.0, 1.0]]), [0.5], rtol=1e-9)
    euclid = MahalanobisMetric.from_components(np.eye(2))
    assert np.isinf(certified_radius(euclid, X_train, [7, 7, 7], X_train)).all()  # no opponent at all
    assert np.isinf(certified_radius(euclid, X_train, y_train, X_train[:1], n_neighbors=3)).all()  # one cannot outvote
    assert certified_radius(euclid, X_train, [0, 1, 2], X_train[:1], n_neighbors=3).tolist() == [0.0]  # |J| < a


def test_conflicting_duplicates_have_radius_zero():
    X = np.array([[1.0, 2.0], [1.0, 2.0], [5.0, 5.0]])
    euclid = MahalanobisMetric.from_components(np.eye(2))
    assert (certified_radius(euclid, X, [0, 1, 0], X)[:2] == 0).all()


def test_leave_one_out(iris):
    X, y = iris
    metric = MahalanobisMetric.from_components(np.eye(4))
    radii = certified_radius(metric, X, y, n_neighbors=3)
    for i in (0, 57, 120):
        rest = np.arange(len(X)) != i
        alone = certified_radius(metric, X[rest], y[rest], X[i : i + 1], n_neighbors=3)
        np.testing.assert_allclose(radii[i], alone[0], rtol=1e-9)
    # Without leaving one out, the nearest neighbour of a training instance is itself.
    assert certified_radius(metric, X, y, X).mean() > certified_radius(metric, X, y).mean()


def smoothed_vote_step(knn, x, label, norm, rng):
    """A direction that makes the predicted class farther and others nearer, softly weighted by distance."""
    L = knn.metric_.components
    difference = x - knn.X_
    squared = ((difference @ L.T) ** 2).sum(axis=1)
    weights = np.exp(-(squared - squared.min()) / (np.median(squared) + 1e-12))
    sign = np.where(knn.y_ == label, 1.0, -1.0)
    gradient = (weights * sign) @ difference @ L.T @ L
    return norm.dual_vector(gradient)


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    k=st.integers(1, 6),
    name=st.sampled_from(NORMS),
    grid=st.booleans(),
    scale=st.sampled_from([1e-4, 1.0, 1e4]),
)
def test_nothing_inside_the_radius_flips_a_prediction(binding_opponents, seed, k, name, grid, scale):
    rng = np.random.default_rng(seed)
    n, d, classes = int(rng.integers(6, 40)), int(rng.integers(1, 5)), int(rng.integers(2, 5))
    X_train = rng.integers(0, 3, (n, d)).astype(float) if grid else rng.standard_normal((n, d))
    X_train = X_train * scale + (100 * scale if seed % 2 else 0)
    y_train = rng.integers(0, classes, n)
    X = X_train[rng.integers(0, n, 5)] + scale * rng.standard_normal((5, d)) * rng.choice([0, 0.5], (5, 1))
    metric = MahalanobisMetric.from_components(rng.standard_normal((int(rng.integers(1, d + 1)), d)))
    norm = resolve_norm(make_norm(name, d, rng))
    knn = CertifiedKNeighborsClassifier(k, metric=metric, norm=norm).fit(X_train, y_train)
    labels, radii = knn.predict_with_radius(X)
    np.testing.assert_array_equal(labels, knn.predict(X))
    for x, label, r, opponent in zip(X, labels, radii, binding_opponents(knn, norm, X)):
        size = 1e3 * scale if np.isinf(r) else r
        if size == 0:
            continue
        # Random directions, the dual vectors towards the binding opponent, and gradient steps on a smoothed vote.
        directions = [norm.sample(rng, 60, d)]
        if opponent >= 0:
            own = X_train[y_train == label]
            directions.append(norm.dual_vector((X_train[opponent] - own) @ metric.matrix))
        moved = x
        for _ in range(5):
            moved = x + norm.project(moved + 0.5 * size * smoothed_vote_step(knn, moved, label, norm, rng) - x, size)
            directions.append(norm.dual_vector(np.zeros((0, d))))
            if norm.norm(moved - x) > 0:
                directions.append((moved - x)[None] / norm.norm(moved - x))
        steps = np.vstack(directions)
        points = np.vstack([x + size * t * steps for t in (1 - 1e-12, 0.9, 0.3)])
        assert (knn.predict(points) == label).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_neighbors": 0}, "between 1 and n_samples=3"),
        ({"n_neighbors": 4}, "n_samples=3 training instances, got 4"),
        ({"norm": "l9"}, "got 'l9'"),
        ({"X": np.full((1, 2), np.nan)}, "NaN"),
        ({"X": np.full((1, 2), np.inf)}, "infinity"),
        ({"X": np.ones((1, 3))}, "2 features, got 3"),
        ({"y_train": [0, 1]}, "each of the 3 instances, got 2"),
        ({"metric": MahalanobisMetric.from_components(np.eye(5))}, "5 features, got 2"),
    ],
)
def test_bad_input_is_named(arguments, message):
    good = {
        "metric": MahalanobisMetric.from_components(np.eye(2)),
        "X_train": np.arange(6.0).reshape(3, 2),
        "y_train": [0, 1, 0],
        "X": np.ones((1, 2)),
    }
    with pytest.raises(ValueError, match=message):
        certified_radius(**{**good, **arguments})
    with pytest.raises(TypeError, match="MahalanobisMetric or a fitted learner"):
        certified_radius("euclidean", good["X_train"], good["y_train"])
