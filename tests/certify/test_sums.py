"""Certificates of votes by distance and of means: nothing within them moves a prediction further than they say."""

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsRegressor

from certimetric import CertifiedKNeighborsClassifier, CertifiedKNeighborsRegressor, MahalanobisMetric
from certimetric.attacks import RegionAttack
from certimetric.geometry.norms import resolve_norm

NORMS = ["l2", "linf", "l1"]


def problem(seed):
    """A metric, points on a grid (ties, duplicates of any label) or not, and queries, some of them training points."""
    rng = np.random.default_rng(seed)
    d, n = int(rng.integers(1, 5)), int(rng.integers(12, 60))
    X = rng.standard_normal((n, d)) * 2.0
    X = np.round(X) if seed % 2 else X
    y = (X[:, 0] + rng.standard_normal(n) > 0).astype(int) + (rng.random(n) < 0.2)
    metric = MahalanobisMetric.from_components(rng.standard_normal((max(1, d - seed % 3), d)))
    return rng, metric, X, y, np.vstack([rng.standard_normal((12, d)) * 2.0, np.round(X[:4]), X[:4]])


def points_within(rng, X, Q, sizes, norm, count):
    """Points at most so far from the queries, most of them at that distance and towards training points: (c, m, d)."""
    norm = resolve_norm(norm)
    towards = X[rng.integers(len(X), size=(count, len(Q)))] - Q
    mixed = towards + X[rng.integers(len(X), size=(count, len(Q)))] - Q
    steps = np.concatenate([towards, mixed, rng.standard_normal((count, *Q.shape)), np.sign(mixed)])
    lengths = norm.norm(steps)
    shares = np.where(rng.random(lengths.shape) < 0.7, 1.0 - 1e-9, rng.random(lengths.shape))
    shares = shares * np.minimum(sizes, 1e3) / np.where(lengths > 0, lengths, 1.0)
    return Q + shares[..., None] * steps


@pytest.mark.parametrize("norm", NORMS)
def test_no_change_within_the_radius_turns_a_vote_by_distance(norm):
    flips, n_points, certified = 0, 0, 0
    for seed in range(12):
        rng, metric, X, y, Q = problem(seed)
        k = int(rng.integers(2, 6))
        knn = CertifiedKNeighborsClassifier(k, weights="distance", metric=metric, norm=norm).fit(X, y)
        labels, radii = knn.predict_with_radius(Q)
        np.testing.assert_array_equal(labels, knn.predict(Q))
        moved = points_within(rng, X, Q, radii, norm, 25)
        again = knn.predict(moved.reshape(-1, Q.shape[1])).reshape(moved.shape[:2])
        assert (again == labels).all(), (seed, np.argwhere(again != labels)[:3])
        beyond = points_within(rng, X, Q, 3.0 * radii, norm, 25)
        flips += (knn.predict(beyond.reshape(-1, Q.shape[1])).reshape(beyond.shape[:2]) != labels).sum()
        n_points, certified = n_points + again.size, certified + (radii > 0).sum()
    assert n_points > 20_000 and certified > 100  # there was something to attack,
    assert flips > 200  # and points three times as far do turn votes


def test_where_two_labels_share_a_place_nothing_is_certified():
    X = [[0.0], [0.0], [1.0], [2.0], [5.0]]
    knn = CertifiedKNeighborsClassifier(3, weights="distance").fit(X, ["a", "b", "a", "a", "b"])
    assert knn.predict_with_radius([[0.0]])[1][0] == 0.0
    assert (knn.predict_proba([[0.0]]) == 0.5).all()
    label, radius = knn.predict_with_radius([[1.0]])  # of infinite weight; the tie with the b at 0 is at 1/3 or so
    assert label[0] == "a" and 0.2 < radius[0] < 0.5
    alone = CertifiedKNeighborsClassifier(2, weights="distance").fit(X[2:4], ["a", "a"])
    assert alone.predict_with_radius([[1.5]])[1][0] == np.inf


def test_accuracy_blocks_and_attacks_agree_with_the_radii(iris):
    X, y = iris
    knn = CertifiedKNeighborsClassifier(3, weights="distance").fit(X[::2], y[::2])
    labels, radii = knn.predict_with_radius(X[1::2])
    for eps in (0.0, 0.2):
        share = ((labels == y[1::2]) & (radii >= eps)).mean()
        assert knn.certified_accuracy(X[1::2], y[1::2], eps) == share
    one_by_one = np.array([knn.predict_with_radius(row[None])[1][0] for row in X[1:40:2]])
    np.testing.assert_array_equal(one_by_one, radii[:20])
    attacked = RegionAttack()(knn, X[1:30:2]).distances
    assert (radii[:15] <= attacked).all() and np.median(radii[:15]) > 0.7 * np.median(attacked)
    uniform = CertifiedKNeighborsClassifier(3).fit(X[::2], y[::2]).predict_with_radius(X[1::2])[1]
    assert np.median(radii) > 0.6 * np.median(uniform)  # a bound that says something


@pytest.mark.parametrize("norm", NORMS)
def test_no_change_leaves_the_interval_nor_the_tolerance(norm):
    moves, certified = 0, 0
    for seed in range(12):
        rng, metric, X, y, Q = problem(seed)
        targets = y + rng.integers(0, 3, len(y)) * 0.1
        k, eps, tolerance = int(rng.integers(1, 6)), float(rng.uniform(0.01, 0.6)), float(rng.uniform(0.0, 0.5))
        knn = CertifiedKNeighborsRegressor(k, metric=metric, norm=norm).fit(X, targets)
        predicted, (low, high) = knn.predict(Q), knn.predict_interval(Q, eps)
        assert (low <= predicted).all() and (predicted <= high).all()
        moved = points_within(rng, X, Q, np.full(len(Q), eps), norm, 25)
        again = knn.predict(moved.reshape(-1, Q.shape[1])).reshape(moved.shape[:2])
        assert (low <= again).all() and (again <= high).all()
        moves += (again != predicted).sum()
        radii = knn.certified_radius(Q, tolerance)
        moved = points_within(rng, X, Q, radii, norm, 25)
        again = knn.predict(moved.reshape(-1, Q.shape[1])).reshape(moved.shape[:2])
        assert (np.abs(again - predicted) <= tolerance).all()
        for radius, row in list(zip(radii, Q))[:5]:
            if 0.0 < radius < np.inf:
                low, high = knn.predict_interval(row[None], radius)
                value = knn.predict(row[None])
                assert high[0] - value[0] <= tolerance and value[0] - low[0] <= tolerance
        certified += (radii > 0).sum()
    assert moves > 500 and certified > 80


def test_means_are_those_of_scikit_learn(rng):
    X, y, Q = rng.standard_normal((60, 3)), rng.standard_normal(60), rng.standard_normal((20, 3))
    for k in (1, 4):
        theirs = KNeighborsRegressor(k).fit(X, y).predict(Q)
        np.testing.assert_allclose(CertifiedKNeighborsRegressor(k).fit(X, y).predict(Q), theirs, rtol=1e-12)


def test_on_a_line_the_bounds_are_what_a_scan_finds(rng):
    # On a line x_j stays nearer than x_l up to the midpoint: for one neighbour nothing is lost.
    X, y, Q = rng.uniform(-3, 3, (25, 1)), rng.standard_normal(25), rng.uniform(-3, 3, (10, 1))
    knn = CertifiedKNeighborsRegressor(1).fit(X, y)
    low, high = knn.predict_interval(Q, 0.7)
    scanned = knn.predict((Q + np.linspace(-0.7, 0.7, 4001)).reshape(-1, 1)).reshape(10, -1)
    np.testing.assert_array_equal(low, scanned.min(axis=1))
    np.testing.assert_array_equal(high, scanned.max(axis=1))


def test_intervals_grow_and_end_at_what_any_k_could_give(rng):
    X, y, Q = rng.standard_normal((30, 2)), rng.standard_normal(30), rng.standard_normal((6, 2))
    knn = CertifiedKNeighborsRegressor(3).fit(X, y)
    bounds = np.array([knn.predict_interval(Q, eps) for eps in (0.0, 0.1, 0.4, 2.0, 1e9)])
    np.testing.assert_array_equal(bounds[0, 0], knn.predict(Q))
    np.testing.assert_array_equal(bounds[0, 1], knn.predict(Q))
    assert (np.diff(bounds[:, 0], axis=0) <= 0).all() and (np.diff(bounds[:, 1], axis=0) >= 0).all()
    ordered = np.sort(y)
    np.testing.assert_allclose(bounds[-1], [[ordered[:3].mean()] * 6, [ordered[-3:].mean()] * 6], rtol=1e-12)
    radii = np.array([knn.certified_radius(Q, tolerance) for tolerance in (0.0, 0.3, 1.0, 10.0)])
    assert (np.diff(radii, axis=0) >= 0).all() and (radii[-1] == np.inf).all() and (radii[0] > 0).all()


def test_a_mean_that_rounds_beyond_every_number_ends_a_radius():
    # Every number is within 0.1 of the mean 0, and (0.1 + 0.1 + 0.1) / 3 is above 0.1 as it is computed.
    X = np.array([[0.0], [1.0], [2.0], [10.0], [11.0], [12.0]])
    knn = CertifiedKNeighborsRegressor(3).fit(X, [-0.1, 0.0, 0.1, 0.1, 0.1, 0.1])
    before, after = knn.predict([[1.0], [11.0]])
    assert before == 0.0 and after - before > 0.1
    assert 4.9 < knn.certified_radius([[1.0]], 0.1)[0] < 10.0


def test_a_feature_that_no_distance_sees_may_change_as_it_likes():
    metric = MahalanobisMetric.from_components([[1.0, 0.0]])
    norm = resolve_norm("l2").restrict(np.array([False, True]))
    knn = CertifiedKNeighborsRegressor(1, metric=metric, norm=norm).fit([[0.0, 0.0], [1.0, 0.0]], [0.0, 1.0])
    assert knn.certified_radius([[0.2, 0.0]], 0.1)[0] > 1e3
    votes = CertifiedKNeighborsClassifier(2, weights="distance", metric=metric, norm=norm)
    votes.fit([[0.0, 0.0], [1.0, 0.0]], ["a", "b"])
    assert votes.predict_with_radius([[0.2, 0.0]])[1][0] > 1e3


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf, "much"])
def test_sizes_that_are_none_are_refused(bad):
    knn = CertifiedKNeighborsRegressor(1).fit([[0.0], [1.0]], [0.0, 1.0])
    with pytest.raises(ValueError, match="eps must be a size of at least 0, got"):
        knn.predict_interval([[0.0]], bad)
    with pytest.raises(ValueError, match="tolerance must be a difference of at least 0, got"):
        knn.certified_radius([[0.0]], bad)
