"""The adversarial margin: the size of the smallest change that flips a triplet, and the point where it does."""

import numpy as np
import pytest
from scipy.optimize import linprog

from certimetric import LMNN, MahalanobisMetric, PerturbationLoss
from certimetric.constraints import nearest_triplets
from certimetric.geometry import resolve_norm

D = 3


def case(norm):
    rng = np.random.default_rng(11)
    X = rng.standard_normal((30, D))
    metric = MahalanobisMetric.from_components(rng.standard_normal((D, D)))
    triplets = np.array([rng.permutation(30)[:3] for _ in range(60)])
    A = rng.standard_normal((D, D))
    return X, metric, triplets, (A @ A.T + np.eye(D) if norm == "ellipsoid" else norm)


@pytest.mark.parametrize("name", ["l2", "linf", "l1", "ellipsoid"])
def test_margin_and_point(name):
    X, metric, triplets, norm = case(name)
    loss, ball = PerturbationLoss(norm=norm), resolve_norm(norm)
    margins = loss.adversarial_margin(metric, X, triplets)
    points = loss.closest_adversarial_point(metric, X, triplets)
    i, j, l = triplets.T
    flipped = metric.distance(X[i], X[l]) <= metric.distance(X[i], X[j])
    assert flipped.any()
    assert (~flipped).any()
    assert (margins[flipped] == 0).all()
    np.testing.assert_array_equal(points[flipped], X[i][flipped])
    # At the point both distances are equal, and its size is the margin.
    keep = ~flipped
    np.testing.assert_allclose(metric.distance(points, X[l])[keep], metric.distance(points, X[j])[keep], rtol=1e-9)
    np.testing.assert_allclose(ball.norm(points - X[i])[keep], margins[keep], rtol=1e-9)
    # No random perturbation of less than the margin flips the triplet (Hölder).
    delta = ball.sample(np.random.default_rng(0), 200, D)
    for t in np.flatnonzero(keep):
        z = X[i[t]] + delta * margins[t] * (1 - 1e-9)
        assert (metric.distance(z, X[l[t]]) > metric.distance(z, X[j[t]])).all()


@pytest.mark.parametrize("name", ["linf", "l1"])
def test_margin_is_the_optimum_of_a_linear_program(name):
    X, metric, triplets, _ = case(name)
    margins = PerturbationLoss(norm=name).adversarial_margin(metric, X, triplets)
    for (i, j, l), margin in zip(triplets[:15], margins):
        gap = metric.distance(X[i], X[l]) ** 2 - metric.distance(X[i], X[j]) ** 2
        v = metric.matrix @ (X[l] - X[j])
        if gap <= 0:
            continue
        if name == "l1":  # δ = p − q with p, q ≥ 0
            best = linprog(np.ones(2 * D), [np.concatenate([-2 * v, 2 * v])], [-gap]).fun
        else:  # |δ_t| ≤ s
            rows = np.block([[np.eye(D), -np.ones((D, 1))], [-np.eye(D), -np.ones((D, 1))]])
            rows = np.vstack([np.append(-2 * v, 0), rows])
            bounds = [(None, None)] * D + [(0, None)]
            best = linprog(np.append(np.zeros(D), 1), rows, np.append(-gap, np.zeros(2 * D)), bounds=bounds).fun
        assert margin == pytest.approx(best, rel=1e-6)


def test_tau_of_the_data(wine):
    X, y = wine
    codes = np.unique(y, return_inverse=True)[1]
    triplets = nearest_triplets(X, codes, 3, 10)
    euclidean = MahalanobisMetric.from_components(np.eye(X.shape[1]))
    margins = PerturbationLoss().adversarial_margin(euclidean, X, triplets)
    assert PerturbationLoss().bind(X, triplets).tau == pytest.approx(np.quantile(margins, 0.75) ** 2)
    # In squared units of the data.
    assert PerturbationLoss().bind(3 * X, triplets).tau == pytest.approx(9 * np.quantile(margins, 0.75) ** 2)


def test_tau_of_a_metric_that_has_wider_margins(wine):
    X, y = wine
    noisy = np.hstack([X, np.random.default_rng(0).standard_normal((len(X), 20))])
    triplets, loss = nearest_triplets(noisy, y, 3, 10), PerturbationLoss()
    euclidean, without_noise, half, nothing = np.eye(33), np.eye(13, 33), -0.5 * np.eye(33), np.zeros((1, 33))
    plain, wider = (
        np.quantile(loss.adversarial_margin(MahalanobisMetric.from_components(L), noisy, triplets), 0.75)
        for L in (euclidean, without_noise)
    )
    assert wider > 1.1 * plain
    assert loss.bind(noisy, triplets, start=without_noise).tau == pytest.approx(wider**2)
    for start in (euclidean, half, nothing):
        assert loss.bind(noisy, triplets, start=start).tau == pytest.approx(plain**2)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (PerturbationLoss(weight=-1), "weight"),
        (PerturbationLoss(weight=np.nan), "weight"),
        (PerturbationLoss(tau=0), "tau"),
        (PerturbationLoss(tau="large"), "tau"),
        (PerturbationLoss(norm="l7"), "l7"),
        (PerturbationLoss(relative="yes"), "relative of PerturbationLoss must be True or False, got 'yes'"),
    ],
)
def test_bad_settings_are_named(wine, loss, message):
    with pytest.raises(ValueError, match=message):
        LMNN(perturbation=loss).fit(*wine)


def test_bad_triplets_are_named(wine):
    metric = MahalanobisMetric.from_components(np.eye(13))
    with pytest.raises(ValueError, match=r"shape \(m, 3\)"):
        PerturbationLoss().adversarial_margin(metric, wine[0], [[0, 1]])
    with pytest.raises(ValueError, match="13 features, got 2"):
        PerturbationLoss().adversarial_margin(metric, wine[0][:, :2], [[0, 1, 2]])
