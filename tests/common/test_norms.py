"""Laws of every named norm, for NumPy arrays and for torch tensors alike: a new one in the list is in these tests."""

import numpy as np
import pytest

from certimetric import CertifiedKNeighborsClassifier, MahalanobisMetric
from certimetric.attacks import RegionAttack, ThreatModel
from certimetric.geometry.norms import NORMS

D = 6


def as_array(values):
    return values


def as_tensor(values):
    torch = pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")
    return torch.tensor(values)


@pytest.fixture(params=[as_array, as_tensor], ids=["numpy", "torch"])
def kind(request):
    request.param(np.zeros(1))
    return request.param


@pytest.fixture(params=NORMS)
def norm(request):
    return NORMS[request.param]


def lp(norm, v):
    """By the definition, for one vector."""
    return {"l1": np.abs(v).sum(), "l2": np.sqrt(v @ v), "linf": np.abs(v).max()}[norm.name]


def test_both_kinds_of_arrays_give_the_same(norm, kind, rng):
    v = rng.standard_normal((40, D))
    v[0] = 0.0
    for method in (norm.norm, norm.dual_norm, norm.dual_vector, norm.ascent, lambda v: norm.project(v, 0.7)):
        found = method(kind(v))
        assert type(found) is type(kind(v))
        np.testing.assert_allclose(np.asarray(found), method(v), rtol=1e-13, atol=1e-300)
    for bounds in (None, (-0.5, 0.5)):
        point = rng.uniform(-0.5, 0.5, v.shape)
        for method in (norm.project_within, norm.steepest):
            np.testing.assert_allclose(
                np.asarray(method(kind(v), 0.7, kind(point), bounds)), method(v, 0.7, point, bounds), rtol=1e-12
            )


def test_it_is_a_norm(norm, kind, rng):
    a, b = rng.standard_normal((2, 30, D))
    size = np.asarray(norm.norm(kind(a)))
    np.testing.assert_allclose(size, [lp(norm, row) for row in a], rtol=1e-14)
    # Homogeneous, and subadditive.
    np.testing.assert_allclose(np.asarray(norm.norm(kind(-3e5 * a))), 3e5 * size, rtol=1e-14)
    assert (np.asarray(norm.norm(kind(a + b))) <= (size + np.asarray(norm.norm(kind(b)))) * (1 + 1e-14)).all()


def test_the_dual_pairing_is_attained_and_by_nothing_exceeded(norm, kind, rng):
    v = rng.standard_normal((30, D))
    s, dual = np.asarray(norm.dual_vector(kind(v))), np.asarray(norm.dual_norm(kind(v)))
    np.testing.assert_allclose(norm.norm(s), 1.0, rtol=1e-14)
    np.testing.assert_allclose((s * v).sum(axis=1), dual, rtol=1e-13)
    assert (norm.sample(rng, 500, D) @ v.T <= dual * (1 + 1e-13)).all()
    assert not np.asarray(norm.dual_vector(kind(np.zeros((1, D))))).any()


def test_projections_are_inside_idempotent_and_nearest(norm, kind, rng):
    # The nearest point p of a convex set to u has (u − p)ᵀ(z − p) ≤ 0 for every z in the set.
    u = rng.standard_normal((30, D)) * 10.0 ** rng.uniform(-2, 2, (30, 1))
    p = np.asarray(norm.project(kind(u), 0.7))
    assert (np.asarray(norm.norm(p)) <= 0.7).all()
    np.testing.assert_allclose(np.asarray(norm.project(kind(p), 0.7)), p, rtol=1e-12)
    z = 0.7 * norm.sample(rng, 500, D) * rng.random((500, 1))
    for given, found in zip(u, p):
        assert ((z - found) @ (given - found) <= 1e-12 * np.abs(given).max()).all()


def test_samples_are_on_the_edge_and_draws_inside(norm, rng):
    np.testing.assert_allclose(norm.norm(norm.sample(rng, 64, D)), 1.0, rtol=1e-14)
    # Of points drawn uniformly the share r^d has a size of at most r.
    size = norm.norm(norm.uniform(rng, 20_000, 3))
    assert (size <= 1 + 1e-12).all()
    for r in (0.3, 0.6, 0.9):
        assert (size <= r).mean() == pytest.approx(r**3, abs=0.015)


def nearest_by_bisection(norm, u, eps, low, high):
    """The nearest change in ball and box: by clipping, or by bisection for what all entries give alike (l1)."""
    if norm.name == "linf":
        return np.clip(u, np.maximum(low, -eps), np.minimum(high, eps))
    zero, most = 0.0, np.abs(u).max()
    for _ in range(200):
        level = (zero + most) / 2
        moved = np.clip(np.sign(u) * np.maximum(np.abs(u) - level, 0), low, high)
        zero, most = (level, most) if np.abs(moved).sum() > eps else (zero, level)
    return np.clip(np.sign(u) * np.maximum(np.abs(u) - most, 0), low, high)


def test_projections_of_points_in_a_box(norm, kind, rng):
    # Clipped into the box they stay in the ball; for l∞ and l1 they are the nearest points of both.
    for eps in (1e-3, 0.3, 1.0, 5.0):
        point = rng.random((60, D))
        point[rng.random(point.shape) < 0.3] = 0.0
        u = rng.standard_normal((60, D)) * 10.0 ** rng.uniform(-2, 1, (60, 1))
        found = np.asarray(norm.project_within(kind(u), eps, kind(point), (0.0, 1.0)))
        inside = np.clip(found, -point, 1.0 - point)
        assert (norm.norm(inside) <= eps).all()
        if norm.name != "l2":
            expected = [nearest_by_bisection(norm, *row) for row in zip(u, [eps] * 60, -point, 1.0 - point)]
            np.testing.assert_allclose(inside, expected, atol=1e-12)
            # Nothing in both is nearer: (u − p)ᵀ(z − p) ≤ 0.
            z = np.clip(norm.project(norm.sample(rng, 300, D) * eps, eps), -point[:, None], 1.0 - point[:, None])
            assert (((z - inside[:, None]) * (u - inside)[:, None]).sum(axis=2) <= 1e-12 * np.abs(u).max()).all()


def test_the_steepest_step_gains_most_and_is_not_lost_at_a_bound(norm, kind, rng):
    point = rng.random((40, D))
    point[rng.random(point.shape) < 0.5] = 1.0
    v = rng.standard_normal((40, D))
    free = np.asarray(norm.steepest(kind(v), 0.3, kind(point), None))
    np.testing.assert_allclose((free * v).sum(axis=1), 0.3 * norm.dual_norm(v), rtol=1e-12)
    clipped = np.clip(point + np.asarray(norm.steepest(kind(v), 0.3, kind(point), (0.0, 1.0))), 0, 1) - point
    assert (norm.norm(clipped) <= 0.3 * (1 + 1e-12)).all()
    gain = (clipped * v).sum(axis=1)
    assert (gain[((v < 0) | (point < 1)).any(axis=1)] > 0).all()
    if norm.name != "l2":
        others = np.clip(point + 0.3 * norm.sample(rng, 2000, D)[:, None], 0, 1) - point
        assert ((others * v).sum(axis=2) <= gain + 1e-12).all()


def test_it_works_in_metrics_and_threat_models(norm, rng):
    X, y, queries = rng.standard_normal((40, D)), np.arange(40) % 2, rng.standard_normal((20, D))
    metric = MahalanobisMetric.from_components(rng.standard_normal((D, D)))
    knn = CertifiedKNeighborsClassifier(1, metric=metric, norm=norm.name).fit(X, y)
    labels, radii = knn.predict_with_radius(queries)
    for _ in range(20):
        moved = queries + radii[:, None] * (1 - 1e-9) * norm.sample(rng, len(queries), D)
        assert (knn.predict(moved) == labels).all()
    bound = ThreatModel.from_string(f"{norm.name}:eps=0.5,immutable=0").bind(D)
    assert bound.norm == norm
    np.testing.assert_array_equal(bound.size(X), norm.norm(X))
    found = RegionAttack()(knn, queries, threat=ThreatModel(norm.name, immutable=[0]))
    assert (found.distances >= radii).all()
