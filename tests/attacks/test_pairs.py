"""Dodging and impersonation: upper bounds that keep to the threat model, and meet the exact radius if there is one."""

import numpy as np
import pytest
from scipy.optimize import minimize

from certimetric import MahalanobisMetric, PairVerifier
from certimetric.attacks import PairAttack, ThreatModel
from certimetric.attacks.pairs import nearest_of_plane
from certimetric.certify import pair_radii
from certimetric.geometry.norms import resolve_norm


def drawn(seed, d=4, m=16, rank=None):
    rng = np.random.default_rng(seed)
    metric = MahalanobisMetric.from_components(rng.standard_normal((rank or d, d)))
    pairs = rng.uniform(0, 1, (m, 2, d))
    t = float(np.median(metric.distance(pairs[:, 0], pairs[:, 1])))
    return PairVerifier(metric, threshold=t).fit(), pairs


def norm_of(name, d=4):
    if name == "ellipsoid":
        A = np.random.default_rng(0).standard_normal((d, d))
        return resolve_norm(A @ A.T + np.eye(d))
    return resolve_norm(name)


@pytest.mark.parametrize("rank", [4, 2])
@pytest.mark.parametrize("norm", ["l2", "linf", "l1", "ellipsoid"])
def test_attacks_meet_or_exceed_the_certificate(norm, rank):
    for seed in range(2):
        verifier, pairs = drawn(seed, rank=rank)
        result = PairAttack()(verifier, pairs, threat=norm_of(norm))
        radii = pair_radii(verifier.metric_, pairs, verifier.threshold_, norm=norm_of(norm))
        assert result.success.all() and (result.distances >= radii).all()
        assert (verifier.predict((result.adversarial, pairs[:, 1])) == result.labels).all()
        assert (result.labels != verifier.predict(pairs)).all()
        if norm in ("l2", "ellipsoid"):
            np.testing.assert_allclose(result.distances, radii, rtol=1e-6)


@pytest.mark.parametrize("norm", ["l2", "linf", "l1"])
def test_dodging_and_impersonation(norm):
    verifier, pairs = drawn(3)
    accepted = verifier.predict(pairs) == 1
    y = np.where(np.arange(len(pairs)) % 3 == 0, -1, 1)
    result = PairAttack()(verifier, pairs, y, ThreatModel(norm, eps=0.1))
    wrong = accepted != (y == 1)
    assert (result.distances[wrong] == 0).all() and result.success[wrong].all()
    assert (result.distances[result.success] <= 0.1).all() and not result.success.all()
    assert (result.labels[result.success] == -y[result.success]).all()


THREATS = {
    "bounds": {"bounds": (0.0, 1.0)},
    "immutable": {"immutable": [1]},
    "bounds, immutable": {"bounds": ([0.0, 0.0, -1.0, 0.0], 1.0), "immutable": [0]},
    "integer": {"bounds": (-5.0, 5.0), "integer": [0, 2]},
    "one-hot": {"bounds": ([-2.0, 0.0, 0.0, 0.0], [3.0, 1.0, 1.0, 1.0]), "one_hot": [[1, 2, 3]]},
}


def legal_pairs(pairs, threat):
    bound = threat.bind(4)
    return np.stack([bound.repair(pairs[:, 0], pairs[:, 0].copy()), pairs[:, 1]], axis=1), bound


@pytest.mark.parametrize("name", THREATS)
@pytest.mark.parametrize("norm", ["l2", "linf", pytest.param("l1", marks=pytest.mark.slow)])
def test_keeps_to_the_threat_model(name, norm):
    verifier, pairs = drawn(4, m=8)
    threat = ThreatModel(norm, **THREATS[name])
    pairs, bound = legal_pairs(pairs, threat)
    result = PairAttack(steps=10, restarts=1)(verifier, pairs, threat=threat)
    legal = bound.repair(pairs[:, 0], result.adversarial.copy())
    np.testing.assert_allclose(result.adversarial, legal, atol=1e-12)
    np.testing.assert_allclose(
        result.distances[result.success],
        resolve_norm(norm).norm(result.adversarial - pairs[:, 0])[result.success],
        rtol=1e-12,
    )
    assert result.success.mean() > 0.5
    radii = pair_radii(verifier.metric_, pairs, verifier.threshold_, norm=norm)
    assert (result.distances >= radii).all()


@pytest.mark.slow
def test_bounds_are_used_well():
    # Impersonation in a box is a convex program; dodging is not: a general optimiser from many starts is hard to beat.
    threat = ThreatModel("l2", bounds=(0.0, 1.0))
    verifier, pairs = drawn(5, m=12)
    result = PairAttack()(verifier, pairs, threat=threat)
    M, t = verifier.metric_.matrix, verifier.threshold_
    accepted = verifier.predict(pairs) == 1
    rng = np.random.default_rng(0)
    for pair, distance, within in zip(pairs, result.distances, accepted):
        best = _in_box(pair, M, t, 1.0 if within else -1.0, rng)
        assert distance <= best * (1 + (1e-2 if within else 1e-3)) + 1e-9


def _in_box(pair, M, t, sign, rng):
    def beyond(x):
        return sign * ((x - pair[1]) @ M @ (x - pair[1]) / t**2 - 1)

    best = np.inf
    for _ in range(8):
        found = minimize(
            lambda x: (x - pair[0]) @ (x - pair[0]), rng.uniform(0, 1, 4), bounds=[(0, 1)] * 4, method="SLSQP",
            constraints=[{"type": "ineq", "fun": beyond}], options={"ftol": 1e-14, "maxiter": 300},
        )  # fmt: skip
        if beyond(found.x) >= -1e-9:
            best = min(best, float(np.sqrt(max(found.fun, 0))))
    return best


@pytest.mark.parametrize("norm", ["l2", *(pytest.param(norm, marks=pytest.mark.slow) for norm in ("linf", "l1"))])
def test_whole_features_are_used_well(norm):
    # Every grid point of a small box, by hand.
    verifier, pairs = drawn(6, d=3, m=6)
    pairs = np.round(pairs * 6) - 3
    distances = verifier.metric_.distance(pairs[:, 0], pairs[:, 1])
    verifier = PairVerifier(verifier.metric_, threshold=float(np.median(distances)) * 0.9).fit()
    threat = ThreatModel(norm, bounds=(-4.0, 4.0), integer=[0, 1, 2])
    result = PairAttack()(verifier, pairs, threat=threat)
    grid = np.stack(np.meshgrid(*[np.arange(-4.0, 5.0)] * 3), axis=-1).reshape(-1, 3)
    accepted, ratios = verifier.predict(pairs) == 1, []
    for pair, distance, within in zip(pairs, result.distances, accepted):
        flips = (verifier.predict((grid, np.tile(pair[1], (len(grid), 1)))) == 1) != within
        best = resolve_norm(norm).norm(grid[flips] - pair[0]).min(initial=np.inf)
        assert distance >= best
        ratios.append(distance / best if np.isfinite(best) else float(not np.isfinite(distance)))
    assert np.mean(ratios) < 1.25


@pytest.mark.parametrize("norm", ["l2", "linf", "l1"])
def test_nearest_of_a_plane_in_a_box(norm):
    rng = np.random.default_rng(0)
    X, planes = rng.uniform(0, 1, (20, 3)), rng.standard_normal((20, 3))
    bound = ThreatModel(norm, bounds=(0.0, 1.0)).bind(3)
    most = np.where(planes > 0, planes * (1 - X), -planes * X).sum(axis=1)
    found = nearest_of_plane(bound, X, planes, 0.7 * most)
    assert (X + found >= -1e-12).all() and (X + found <= 1 + 1e-12).all()
    np.testing.assert_allclose((planes * found).sum(axis=1), 0.7 * most, rtol=1e-9)
    sizes = bound.size(found)
    for _ in range(300):  # no other point of plane and box is nearer
        other = np.clip(rng.uniform(0, 1, X.shape), 0, 1) - X
        good = (planes * other).sum(axis=1) >= 0.7 * most
        assert (bound.size(other)[good] >= sizes[good] * (1 - 1e-9)).all()


def test_bad_input_is_told_in_a_sentence():
    verifier, pairs = drawn(0)
    with pytest.raises(TypeError, match="verifier must be a PairVerifier, got MahalanobisMetric"):
        PairAttack()(verifier.metric_, pairs)
    with pytest.raises(ValueError, match="instance 0 has the value"):
        PairAttack()(verifier, pairs + 3, threat=ThreatModel("l2", bounds=(0.0, 1.0)))
    with pytest.raises(ValueError, match="made for 4 features, but the pairs have 3"):
        PairAttack()(verifier, pairs[..., :3])
    with pytest.raises(ValueError, match="steps of PairAttack must be at least 0"):
        PairAttack(steps=-1)
