"""What a radius promises in floating point: no flip of the computed prediction at any size up to the radius itself.

Radii are held against exact rational arithmetic too: none exceeds what is true for real numbers.
"""

from fractions import Fraction

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler

from certimetric import (
    CertifiedKNeighborsClassifier,
    MahalanobisMetric,
    certified_radius,
    in_original_units,
    minimal_perturbation,
)
from certimetric.certify.kernels import certified_size, distance_beyond, gap_over_dual, rounding_of_distances
from certimetric.certify.radius import bound_radii
from certimetric.certify.reference import ReferenceSet
from certimetric.geometry.diagonal import DiagonalMetric
from certimetric.geometry.norms import L2, Linf, resolve_norm


def random_metric(rng, d):
    """Of condition numbers up to 1e14 for M, low rank, or one small row."""
    L = rng.standard_normal((int(rng.integers(1, d + 1)) if rng.random() < 0.3 else d, d))
    kind = rng.choice(["plain", "ill", "diagonal", "small row"])
    if kind == "ill":
        U, s, Vt = np.linalg.svd(L, full_matrices=False)
        L = (U * 10.0 ** rng.uniform(-7, 0, len(s))) @ Vt
    elif kind == "diagonal":
        L = np.diag(10.0 ** rng.uniform(-7, 0, d))
    elif kind == "small row":
        L[-1] *= 10.0 ** rng.uniform(-9, 0)
    return L


def random_norm(rng, d):
    name = rng.choice(["l2", "linf", "l1", "ellipsoid"])
    A = rng.standard_normal((d, d))
    norm = resolve_norm(A @ A.T + 0.01 * np.eye(d) if name == "ellipsoid" else str(name))
    if rng.random() < 0.3:
        norm = norm.in_units(10.0 ** rng.uniform(-3, 3, d))
    mutable = rng.random(d) < 0.6
    return norm.restrict(mutable) if mutable.any() and rng.random() < 0.4 else norm


def random_problem(rng):
    """Ties, duplicates, constant features, far-off data and queries, queries on boundaries, single precision."""
    n, d, m = int(rng.integers(6, 40)), int(rng.integers(1, 7)), 8
    X = rng.integers(0, 3, (n, d)).astype(float) if rng.random() < 0.3 else rng.standard_normal((n, d))
    constant = rng.random(d) < 0.2
    X[:, constant] = X[:1, constant]
    if rng.random() < 0.2:
        X[n // 2 :] = X[: n - n // 2]
    scale = 10.0 ** rng.uniform(-8, 8)
    X = scale * X + scale * rng.choice([0, 1, 1e3, 1e6, 1e12])
    i, j = rng.integers(0, n, (2, m))
    share = rng.choice([0.0, 0.3, 0.5, 1.0], (m, 1))
    Q = share * X[i] + (1 - share) * X[j]
    Q += scale * rng.standard_normal((m, d)) * 10.0 ** rng.choice([-300, -15, -8, -3, 0, 6, 12], (m, 1))
    if rng.random() < 0.2:
        X, Q = X.astype(np.float32), Q.astype(np.float32)
    return X, rng.integers(0, int(rng.integers(2, 4)), n), Q


def steps_of_size_one(knn, norm, x, predicted, opponent, rng):
    """The dual vectors of the pairs that bind, alone and with the rest of the ball used to make rounding worst."""
    reference, d = knn.reference_, len(x)
    own = np.flatnonzero(reference.y == predicted)
    distances = ((reference.points[own] - reference.embed(x[None])[0]) ** 2).sum(axis=1)
    own = own[np.argsort(distances)[:4]]
    opponent = opponent if opponent >= 0 else rng.integers(len(reference.y))
    v = (reference.points[opponent] - reference.points[own]) @ reference.metric.components
    towards = norm.dual_vector(v)
    steps = [towards, norm.sample(rng, 6, d)]
    for share in (1e-6, 1e-3, 0.1):
        steps.append(towards + np.sqrt(2 * share) * norm.sample(rng, len(towards), d))
    if norm.dual_order == 1:  # corners of a cube: features that the pair does not see, moved as far as they can
        corner = norm.dual_vector(rng.standard_normal(v.shape))
        steps.append(np.where(np.abs(v) <= 1e-6 * np.abs(v).max(axis=1, keepdims=True), corner, towards))
    return np.vstack(steps)


@pytest.mark.parametrize("seed", range(60))
def test_no_flip_up_to_the_radius_itself(seed, binding_opponents):
    rng = np.random.default_rng(seed)
    attacked = 0
    for _ in range(3):
        X, y, Q = random_problem(rng)
        d, k = X.shape[1], int(rng.integers(1, 7))
        norm = random_norm(rng, d)
        metric = MahalanobisMetric.from_components(random_metric(rng, d))
        knn = CertifiedKNeighborsClassifier(min(k, len(X)), metric=metric, norm=norm).fit(X, y)
        labels, radii = knn.predict_with_radius(Q)
        predicted, again = bound_radii(knn.reference_, Q.astype(float), knn.n_neighbors, norm)
        np.testing.assert_array_equal(again, radii)
        opponents = binding_opponents(knn, norm, Q.astype(float))
        for i in np.flatnonzero(radii > 0):
            x = Q[i].astype(float)
            steps = steps_of_size_one(knn, norm, x, predicted[i], opponents[i], rng)
            for size in (radii[i], 0.5 * radii[i]) if np.isfinite(radii[i]) else (1e3 * np.ptp(X), 1e20 * np.ptp(X)):
                points = x + norm.project(steps * size, size)
                assert (knn.predict(points) == labels[i]).all()
                attacked += len(points)
    assert attacked


def exact_radius(L, X, y, x, predicted, k, name, units):
    """r² of the formula in rational numbers, for l2; r for l1 and l∞; infinity and 0 as in the formula."""

    def fractions(array):
        return [[Fraction(v) for v in row] for row in np.asarray(array, float).tolist()]

    (x,), X, L, units = fractions(x[None]), fractions(X), fractions(L), [Fraction(u) for u in units.tolist()]
    image = [[sum(a * (p - q) for a, p, q in zip(row, x, z)) for row in L] for z in X]  # L (x − x_j)
    squares = [sum(v * v for v in row) for row in image]
    s, a = -(-k // 2), k // 2 + 1
    own, others = np.flatnonzero(y == predicted), np.flatnonzero(y != predicted)
    if len(own) < a:
        return 0
    if len(others) < s:
        return np.inf
    outer = []
    for l in others:
        inner = []
        for j in own:
            w = [p - q for p, q in zip(image[j], image[l])]  # L (x_l − x_j)
            v = [u * sum(row[t] * c for row, c in zip(L, w)) for t, u in enumerate(units)]
            dual = {"l2": sum(c * c for c in v), "linf": sum(map(abs, v)), "l1": max(map(abs, v))}[name]
            gap = squares[l] - squares[j]
            if dual == 0 or gap <= 0:
                inner.append(np.inf if gap > 0 else 0)
            else:
                inner.append(gap**2 / (4 * dual) if name == "l2" else gap / (2 * dual))
        outer.append(sorted(inner, reverse=True)[a - 1])
    return sorted(outer)[s - 1]


@pytest.mark.parametrize("seed", range(30))
def test_never_above_the_formula_in_rational_numbers(seed):
    rng = np.random.default_rng(seed)
    X, y, Q = random_problem(rng)
    X, y, Q = X[:12], y[:12], Q[:3].astype(float)
    d, k, name = X.shape[1], int(rng.integers(1, 5)), str(rng.choice(["l2", "linf", "l1"]))
    mutable = rng.random(d) < 0.7
    mutable[0] |= not mutable.any()
    units = 10.0 ** rng.uniform(-3, 3, d)
    metric = MahalanobisMetric.from_components(random_metric(rng, d))
    norm = resolve_norm(name).in_units(units).restrict(mutable)
    knn = CertifiedKNeighborsClassifier(k, metric=metric, norm=norm).fit(X, y)
    labels, radii = knn.predict_with_radius(Q)
    for x, label, r in zip(Q, labels, radii):
        exact = exact_radius(metric.components, X, y, x, label, k, name, units * mutable)
        if np.isfinite(r):
            assert (Fraction(r) ** 2 if name == "l2" else Fraction(r)) <= exact
        else:
            assert exact == np.inf


def test_a_constant_feature_alone_may_move_almost_anywhere():
    # In real numbers nothing ever flips. The common term of all squares takes their digits in the end: about 1e8 on.
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 2))
    X[:, 0] = 0.3
    y = (X[:, 1] > 0).astype(int)
    Q = X[:20] + np.array([0, 0.01])
    knn = CertifiedKNeighborsClassifier(1, norm=L2().restrict([True, False])).fit(X, y)
    labels, radii = knn.predict_with_radius(Q)
    assert (radii[labels == (Q[:, 1] > 0)] > 1e4).all()
    for share in (1.0, 0.5, 1e-3):
        for sign in (-1, 1):
            np.testing.assert_array_equal(knn.predict(Q + np.outer(sign * share * radii, [1, 0])), labels)
    # A feature that no distance sees is moved without limit.
    for blind in (MahalanobisMetric.from_components([[0.0, 1.0]]), DiagonalMetric([0.0, 1.0])):
        knn = CertifiedKNeighborsClassifier(1, metric=blind, norm=L2().restrict([True, False])).fit(X, y)
        labels, radii = knn.predict_with_radius(Q)
        assert np.isinf(radii).all()
        np.testing.assert_array_equal(knn.predict(Q + np.array([1e150, 0.0])), labels)


def test_features_that_the_gap_does_not_see_cost_digits():
    # cond(M) = 1e12, and all features move together: their common term is 1e12 times the gap.
    d, rng = 8, np.random.default_rng(0)
    L = np.diag([1.0] * (d - 1) + [1e-6])
    X, Q = np.zeros((40, d)), np.zeros((50, d))
    X[:, -1], Q[:, -1] = rng.uniform(-1, 1, 40), rng.uniform(-1, 1, 50)
    y = (X[:, -1] > 0).astype(int)
    knn = CertifiedKNeighborsClassifier(1, metric=MahalanobisMetric.from_components(L), norm="linf").fit(X, y)
    labels, radii = knn.predict_with_radius(Q)
    assert (radii > 0).mean() > 0.9
    for _ in range(20):
        changes = np.where(rng.random((50, d)) < 0.5, -1.0, 1.0) * rng.uniform(0.3, 1, (50, d)).round(1)
        changes[:, -1] = -np.sign(Q[:, -1])
        np.testing.assert_array_equal(knn.predict(Q + changes * radii[:, None]), labels)


@pytest.mark.parametrize("norm", ["l2", "linf", "l1"])
@pytest.mark.parametrize("exponent", [-1000, -530, -300, -60, 60, 300, 490])
def test_units_of_the_data_change_nothing(norm, exponent):
    # A power of two is exact, so that radii are the very same: with 1e-160, whose squares underflow, as with 1e147.
    rng = np.random.default_rng(1)
    X, y, Q, L = rng.standard_normal((30, 3)), rng.integers(0, 3, 30), rng.standard_normal((20, 3)), np.eye(3) + 0.1
    unit = 2.0**exponent
    metric = MahalanobisMetric.from_components(L)
    radii = certified_radius(metric, X, y, Q, n_neighbors=2, norm=norm)
    np.testing.assert_array_equal(
        certified_radius(metric, X * unit, y, Q * unit, n_neighbors=2, norm=norm), radii * unit
    )
    if abs(exponent) < 900:
        small = MahalanobisMetric.from_components(L * unit)
        np.testing.assert_array_equal(certified_radius(small, X, y, Q, n_neighbors=2, norm=norm), radii)
        distances = CertifiedKNeighborsClassifier(metric=small).fit(X, y).kneighbors(Q)[0]
        plain = CertifiedKNeighborsClassifier(metric=metric).fit(X, y).kneighbors(Q)[0]
        np.testing.assert_array_equal(distances, plain * unit)


def test_distances_that_overflow_are_refused():
    with pytest.raises(ValueError, match="distances of the training instances overflow"):
        ReferenceSet(
            MahalanobisMetric.from_components([[1.0]]), np.array([[-1.7e308], [1.7e308], [1.7e308]]), np.arange(3)
        )
    with pytest.raises(ValueError, match="distances of the training instances underflow"):
        tiny = MahalanobisMetric.from_components([[1.0]])
        CertifiedKNeighborsClassifier(1, metric=tiny).fit([[0.0], [1e-310]], [0, 1])


def test_queries_far_beyond_the_data(rng):
    # Where the distances differ by less than their rounding nothing is certified, and nothing overflows.
    X, y = rng.standard_normal((30, 3)), rng.integers(0, 2, 30)
    Q = np.sign(rng.standard_normal((40, 3))) * 10.0 ** rng.uniform(0, 149, (40, 1))
    for norm in ("l2", "linf"):
        for k in (1, 2):
            knn = CertifiedKNeighborsClassifier(k, norm=norm).fit(X, y)
            radii = knn.predict_with_radius(Q)[1]
            far = np.abs(Q).max(axis=1) > 1e18
            assert (radii[far] == 0).all() and (radii[~far] > 0).any()


@pytest.mark.parametrize("seed", range(20))
def test_the_certified_size_is_the_root_rounded_down(seed):
    rng = np.random.default_rng(seed)
    for _ in range(50):
        gap, slope, c0, c1, c2 = 10.0 ** rng.uniform(-30, 3, 5) * rng.choice([0, 1, 1, 1], 5)
        size = certified_size(gap, slope, c0, c1, c2)
        if gap <= c0:
            assert size == 0
            continue
        if slope == c1 == c2 == 0:
            assert size == np.inf
            continue
        gap, slope, c0, c1, c2, exact = map(Fraction, (gap, slope, c0, c1, c2, size))
        beyond = exact * (1 + Fraction(1, 10**9))
        assert gap - c0 - (slope + c1) * exact - c2 * exact**2 >= 0
        assert gap - c0 - (slope + c1) * beyond - c2 * beyond**2 < gap / 10**9
    assert certified_size(np.inf, 1.0, np.inf, 1.0, 1.0) == certified_size(np.nan, 1.0, 0.0, 0.0, 0.0) == 0


def test_what_is_discarded_by_distance_would_not_have_counted(rng):
    # Every instance from distance_beyond on has a gap_over_dual of at least that size, for whatever is within reach.
    for _ in range(300):
        r = int(rng.integers(1, 6))
        kappa, growth, error = 10.0 ** rng.uniform([-2, -18, -18], [2, -13, -10])
        train_error = 10.0 ** rng.uniform(-18, -10)
        rounding = (error, kappa, growth, rounding_of_distances(r))
        size, reach = 10.0 ** rng.uniform(-6, 3, 2)
        beyond = distance_beyond(size, reach, train_error, 1e-15, rounding)
        x, j = np.zeros(r), rng.standard_normal(r)
        for factor in (1.0, 1 + 1e-9, 1.5):
            l = -j / np.linalg.norm(j) * beyond * factor  # opposite directions: the longest difference
            own = j / np.linalg.norm(j) * reach
            distance = np.linalg.norm(l - x)
            low, far = (
                distance * (1 - rounding[3]) - error - train_error,
                distance * (1 + rounding[3]) + error + train_error,
            )
            dual = np.ascontiguousarray(kappa * np.vstack([l, own]))
            found = gap_over_dual(low, far, reach, 0, 1, dual, np.full(2, 1e-15), 2.0, rounding)
            assert found >= size


@pytest.mark.parametrize("exponent", [1, 6, 10, 13])
def test_bounds_of_an_ill_conditioned_ellipsoid_enclose_the_exact_radius(exponent):
    # Of two instances, the smallest change is a / (2 ‖v‖_{A⁻¹}), here in rational numbers.
    rng = np.random.default_rng(exponent)
    for _ in range(5):
        U = np.linalg.qr(rng.standard_normal((4, 4)))[0]
        A = (U * 10.0 ** np.linspace(-exponent, 0, 4)) @ U.T
        A, X, x = (A + A.T) / 2, rng.standard_normal((2, 4)), rng.standard_normal((1, 4))
        euclid = MahalanobisMetric.from_components(np.eye(4))
        found = minimal_perturbation(euclid, X, [0, 1], x, norm=A)
        radius = certified_radius(euclid, X, [0, 1], x, norm=A)[0]
        rows = [[Fraction(v) for v in row] for row in [*X.tolist(), *x.tolist()]]
        gap = sum((a - q) ** 2 - (b - q) ** 2 for a, b, q in zip(*rows))
        v = [a - b for a, b in zip(*rows[:2])]
        exact = gap**2 / (4 * quadratic_form_of_inverse(A, v))
        assert Fraction(radius) ** 2 <= exact and Fraction(found.lower[0]) ** 2 <= exact
        assert exact <= Fraction(found.radii[0]) ** 2 * (1 + Fraction(1, 10**12))
        assert found.proven[0] == (exponent < 9)


def quadratic_form_of_inverse(A, v):
    """``vᵀA⁻¹v`` in rational numbers, by elimination."""
    rows = [[*map(Fraction, row), b] for row, b in zip(A.tolist(), v)]
    total = Fraction(0)
    for i, pivot in enumerate(rows):
        total += pivot[-1] ** 2 / pivot[i]
        for row in rows[i + 1 :]:
            factor = row[i] / pivot[i]
            row[:] = [a - factor * b for a, b in zip(row, pivot)]
    return total


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e6, 1e9, 1e12])
@pytest.mark.parametrize(
    "scalers",
    [
        [MinMaxScaler()],
        [StandardScaler()],
        [MaxAbsScaler()],
        [StandardScaler(with_mean=False), MinMaxScaler((3, 7))],
        [RobustScaler(), "passthrough", StandardScaler(with_std=False)],
    ],
    ids=["min-max", "standard", "max-abs", "two", "three"],
)
def test_in_original_units_labels_are_the_pipelines_however_far_off(offset, scalers, rng):
    X = rng.uniform(0, 1, (60, 4)) * [1.0, 2.0, 3.0, 0.1] + offset
    y = rng.integers(0, 3, 60)
    metric = MahalanobisMetric.from_components(rng.standard_normal((4, 4)))
    pipeline = make_pipeline(*scalers, CertifiedKNeighborsClassifier(3, metric=metric)).fit(X, y)
    original = in_original_units(pipeline)
    i, j = rng.integers(0, 60, (2, 400))
    Q = np.vstack([X, (X[i] + X[j]) / 2, X[i] + 0.1 * rng.standard_normal((400, 4))])
    labels, radii = original.predict_with_radius(Q)
    np.testing.assert_array_equal(labels, pipeline.predict(Q))
    np.testing.assert_array_equal(original.predict_proba(Q), pipeline.predict_proba(Q))
    steps = L2().sample(rng, len(Q), 4) * radii[:, None]
    for changes in (L2().project(steps, np.inf), 0.5 * steps):
        np.testing.assert_array_equal(original.predict(Q + (1 - 1e-15) * changes), labels)
        np.testing.assert_array_equal(pipeline.predict(Q + (1 - 1e-15) * changes), labels)
    if offset < 1e9:
        assert (radii > 0).mean() > 0.5


def test_single_precision_and_integers_are_their_values(rng):
    X, y = rng.integers(0, 20, (40, 3)), rng.integers(0, 2, 40)
    Q = rng.standard_normal((30, 3)).astype(np.float32) * 10
    expected = (
        CertifiedKNeighborsClassifier(2, norm=Linf()).fit(X.astype(float), y).predict_with_radius(Q.astype(float))
    )
    for dtype in (np.float32, np.int8, np.int64):
        found = CertifiedKNeighborsClassifier(2, norm=Linf()).fit(X.astype(dtype), y).predict_with_radius(Q)
        for a, b in zip(found, expected):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_radii_depend_neither_on_blocks_nor_on_threads(norm, rng, smallest_blocks):
    X, y, Q = rng.standard_normal((200, 7)), rng.integers(0, 3, 200), rng.standard_normal((41, 7))
    for metric in (MahalanobisMetric.from_components(rng.standard_normal((5, 7))), DiagonalMetric(rng.random(7))):
        knn = CertifiedKNeighborsClassifier(3, metric=metric, norm=norm).fit(X, y)
        radii = knn.predict_with_radius(Q)[1]
        alone = np.concatenate([knn.predict_with_radius(Q[i : i + 1])[1] for i in range(len(Q))])
        np.testing.assert_array_equal(alone, radii)
        with smallest_blocks():
            again = certified_radius(metric, X, y, Q, n_neighbors=3, norm=norm, n_jobs=2)
        np.testing.assert_array_equal(again, radii)


def test_sizes_near_the_largest_number():
    # One unit of the metric is a change of about 1e318, which no number holds: a radius that is one, or none at all.
    X, y = np.array([[1e140, 1.0], [-1e140, -2.0], [3e139, 0.5], [2e139, -0.5]]), [0, 1, 0, 1]
    metric = MahalanobisMetric.from_components(np.diag([1.0, 1e-178]))
    norm = resolve_norm("l2").restrict([False, True])
    knn = CertifiedKNeighborsClassifier(1, metric=metric, norm=norm).fit(X, y)
    _, radii = knn.predict_with_radius(X)
    assert (radii > 1e300).all() and np.isfinite(radii).all()
    changed = X + np.array([0.0, 1e149])
    np.testing.assert_array_equal(knn.predict(changed), y)
    found = knn.minimal_perturbation(X)
    assert (found.lower <= found.radii).all() and (found.lower > 1e300).all()
    Z, norm = X[:, [1, 1]], resolve_norm("linf").in_units([1e-320, 1e-320])
    radii = CertifiedKNeighborsClassifier(1, norm=norm).fit(Z, y).predict_with_radius(Z)[1]
    assert (radii > 1e300).all() and np.isfinite(radii).all()
