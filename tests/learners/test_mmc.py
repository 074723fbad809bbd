"""MMC: the global minimum of its ratio, proven; hard pairs; the perturbation loss from labels and from pairs."""

import tracemalloc
import warnings

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.datasets import load_digits, load_iris, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier

from certimetric import MMC, MahalanobisMetric, PerturbationLoss
from certimetric.constraints import random_pairs, triplets_of_pairs
from certimetric.constraints.pairs import pairs_of_classes
from certimetric.objectives import DiagonalObjective, MetricObjective, SeparationRatio, TransformedObjective


def labelled_pairs(rng, n=80, d=4):
    pairs = rng.standard_normal((n, 2, d)) * np.linspace(0.5, 2, d)
    y = np.where(np.arange(n) % 2, 1, -1)
    pairs[y == 1, 1] = pairs[y == 1, 0] + 0.3 * (pairs[y == 1, 1] - pairs[y == 1, 0])
    return pairs, y


def ratio_of(M, pairs, y, evenness=0.0):
    """The objective as it is defined, without a ridge."""
    v = pairs[:, 0] - pairs[:, 1]
    squared = np.einsum("ni,ij,nj->n", v, M, v)
    S = v[y == 1].T @ v[y == 1] / (y == 1).sum()
    eigenvalues = np.linalg.eigvals(M @ S).real
    unevenness = eigenvalues.mean() / np.exp(np.log(np.maximum(eigenvalues, 1e-300)).mean()) if evenness else 1.0
    return squared[y == 1].mean() / np.sqrt(squared[y == -1]).mean() ** 2 * unevenness**evenness


@pytest.mark.parametrize("evenness", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("rows", [2, 4])
def test_gradient_is_that_of_finite_differences(rng, evenness, rows):
    X = rng.standard_normal((20, 4))
    B = rng.standard_normal((4, 4))
    term = SeparationRatio(B @ B.T + np.eye(4), rng.integers(0, 20, (30, 2)), evenness)
    objective, L = MetricObjective(X, [term]), rng.standard_normal((rows, 4))
    _, gradient = objective.in_components(L)
    for index in np.ndindex(L.shape):
        step = np.zeros_like(L)
        step[index] = 1e-6
        slope = (objective.in_components(L + step)[0] - objective.in_components(L - step)[0]) / 2e-6
        assert gradient[index] == pytest.approx(slope, rel=1e-5, abs=1e-7)
    scaled = objective.in_components(1e3 * L)[0]
    assert scaled == pytest.approx(objective.in_components(L)[0], rel=1e-10)


@pytest.mark.parametrize("evenness", [0.0, 0.5, 1.0])
def test_no_generic_optimiser_finds_less(rng, evenness):
    pairs, y = labelled_pairs(rng, d=3)
    mmc = MMC(evenness=evenness, reg=0, tol=1e-10, max_iter=1000).fit(pairs, y)
    assert mmc.objective_ == pytest.approx(ratio_of(mmc.get_mahalanobis_matrix(), pairs, y, evenness), rel=1e-6)

    def objective(flat):
        L = flat.reshape(3, 3)
        return np.log(ratio_of(L.T @ L, pairs, y, evenness))

    starts = [np.eye(3), *rng.standard_normal((4, 3, 3))]
    best = min(minimize(objective, start.ravel(), method="BFGS").fun for start in starts)
    assert np.log(mmc.objective_) <= best + 1e-6


def test_the_published_problem_is_solved_to_its_proven_maximum(rng):
    # g, the sum of d over dissimilar pairs, has the slope G = ½ Σ ΔΔᵀ/d. By the inequality of Cauchy and Schwarz no M
    # with tr(M S) = 1 has more than √(2 g λ) with the largest eigenvalue λ of S^{-½} G S^{-½}, whatever M gave g and G.
    pairs, y = labelled_pairs(rng, n=300, d=6)
    mmc = MMC(evenness=0, reg=0, tol=1e-10, max_iter=2000).fit(pairs, y)
    M, v = mmc.get_mahalanobis_matrix(), pairs[:, 0] - pairs[:, 1]
    S = v[y == 1].T @ v[y == 1] / (y == 1).sum()
    assert np.vdot(M, S) == pytest.approx(1, rel=1e-8)
    distances = np.sqrt(np.einsum("ni,ij,nj->n", v, M, v))[y == -1]
    G = (v[y == -1].T / distances) @ v[y == -1] / 2
    W = np.linalg.inv(np.linalg.cholesky(S))
    bound = np.sqrt(2 * distances.sum() * np.linalg.eigvalsh(W @ G @ W.T)[-1])
    assert bound * (1 - 1e-5) <= distances.sum() <= bound * (1 + 1e-9)


@pytest.mark.parametrize("evenness", [0.0, 1.0])
def test_diagonal_is_the_best_of_the_diagonal_metrics(rng, evenness):
    pairs, y = labelled_pairs(rng, d=3)
    mmc = MMC(diagonal=True, evenness=evenness, reg=0, tol=1e-10, max_iter=1000).fit(pairs, y)
    M = mmc.get_mahalanobis_matrix()
    np.testing.assert_array_equal(M, np.diag(np.diagonal(M)))
    v = pairs[:, 0] - pairs[:, 1]
    s = np.square(v[y == 1]).mean(axis=0)

    def objective(logs):
        w = np.exp(logs)
        mean = np.sqrt(np.square(v[y == -1]) @ w).mean()
        unevenness = np.log(s @ w / 3) - (np.log(s) + logs).mean()
        return np.log(s @ w / mean**2) + evenness * unevenness

    best = min(
        minimize(objective, start, method="Nelder-Mead", options={"maxiter": 4000}).fun for start in -2 * np.eye(3)
    )
    assert np.log(mmc.objective_) <= best + 1e-5
    assert mmc.objective_ >= MMC(evenness=evenness, reg=0).fit(pairs, y).objective_


@pytest.mark.parametrize("evenness", [0.0, 1.0])
def test_any_linear_map_of_the_data_maps_the_metric(rng, evenness):
    # The objective sees M and the data only through d, without a ridge.
    pairs, y = labelled_pairs(rng)
    A = rng.standard_normal((4, 4)) + 2 * np.eye(4)
    a = MMC(evenness=evenness, reg=0, tol=1e-9, max_iter=1000).fit(pairs, y)
    b = MMC(evenness=evenness, reg=0, tol=1e-9, max_iter=1000).fit(pairs @ A.T, y)
    np.testing.assert_allclose(b.pair_distance(pairs @ A.T), a.pair_distance(pairs), rtol=2e-3, atol=2e-3)


def test_digits_are_told_apart_by_the_default_metric():
    X, y = load_digits(return_X_y=True)
    X = X[:, X.std(axis=0) > 0]
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    A, B, ya, yb = train_test_split(X, y, test_size=1 / 3, stratify=y, random_state=0)
    mmc = MMC(random_state=0).fit(A, ya)
    assert KNeighborsClassifier(3).fit(mmc.transform(A), ya).score(mmc.transform(B), yb) > 0.95
    # The minimum of the published problem keeps few directions of those that similar pairs vary in.
    pairs, labels = random_pairs(ya, 2000, np.random.RandomState(0))
    v = A[pairs[labels == 1, 0]] - A[pairs[labels == 1, 1]]
    root = np.linalg.cholesky(v.T @ v / len(v) + 1e-6 * np.eye(61))
    published = MMC(evenness=0, reg=0, random_state=0).fit(A, ya)
    singular = np.linalg.svd(published.components_ @ root, compute_uv=False)
    assert (singular > 1e-2 * singular[0]).sum() <= 6


def test_one_pair_of_each_kind_and_pairs_of_one_kind():
    pairs = np.array([[[0.0, 0.0], [1.0, 0.0]], [[0.0, 0.0], [1.0, 3.0]]])
    mmc = MMC().fit(pairs, [1, -1])
    distances = mmc.pair_distance(pairs)
    assert np.isfinite(mmc.components_).all()
    assert distances[1] > 3 * distances[0]
    for label, told in ((1, "1 and 0"), (-1, "0 and 1")):
        with pytest.raises(ValueError, match=f"one similar and one dissimilar pair, got {told}"):
            MMC().fit(pairs[:1], [label])


@pytest.mark.parametrize("diagonal", [False, True])
def test_equal_instances_are_told_and_harmless(rng, diagonal):
    pairs, y = labelled_pairs(rng)
    same = pairs.copy()
    same[y == -1, 1] = same[y == -1, 0]
    with pytest.warns(ConvergenceWarning, match="learned nothing: its dissimilar pairs are of equal instances"):
        assert np.isfinite(MMC(diagonal).fit(same, y).components_).all()
    some = pairs.copy()
    some[:10, 1] = some[:10, 0]
    assert MMC(diagonal).fit(some, y).converged_
    similar = pairs.copy()
    similar[y == 1, 1] = similar[y == 1, 0]
    assert np.isfinite(MMC(diagonal).fit(similar, y).components_).all()


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("diagonal", [False, True])
def test_collinear_and_constant_features_at_any_scale(iris, diagonal, scale):
    X, y = iris
    X = np.c_[X, X[:, 0] + X[:, 1], np.ones(150)] * scale
    mmc = MMC(diagonal, random_state=0).fit(X, y)
    assert mmc.converged_
    assert KNeighborsClassifier(3).fit(mmc.transform(X[::2]), y[::2]).score(mmc.transform(X[1::2]), y[1::2]) > 0.9


def test_more_components_than_the_instances_span_and_few(rng):
    X, y = rng.standard_normal((12, 30)), np.arange(12) % 2
    assert MMC(random_state=0).fit(X, y).components_.shape == (11, 30)
    assert MMC(n_components=20, random_state=0).fit(X, y).components_.shape == (20, 30)
    assert MMC(n_components=2, random_state=0).fit(X, y).components_.shape == (2, 30)


def test_bad_settings_are_named(iris):
    X, y = iris
    with pytest.raises(ValueError, match="n_components must be None for a diagonal metric, got 2"):
        MMC(True, n_components=2).fit(X, y)
    for init in (np.ones((2, 4)), np.zeros((4, 4))):
        with pytest.raises(ValueError, match="linearly independent"):
            MMC(init=init).fit(X, y)
    with pytest.raises(ValueError, match="evenness"):
        MMC(evenness=-1).fit(X, y)


def test_perturbation_loss_needs_triplets_and_takes_them_from_shared_instances(iris, rng):
    X, y = iris
    pairs, labels = random_pairs(y, 300, np.random.RandomState(0))
    loss = PerturbationLoss()
    plain, robust = (MMC(perturbation=some, preprocessor=X).fit(pairs, labels) for some in (None, loss))
    triplets = triplets_of_pairs(X, pairs, labels, 3, 10)
    margins = [loss.adversarial_margin(learner, X, triplets).mean() for learner in (plain, robust)]
    assert margins[1] > margins[0]
    # Indices and copied points are the same pairs.
    copied = MMC(perturbation=loss).fit(X[pairs], labels)
    np.testing.assert_allclose(copied.pair_distance(X[pairs]), robust.pair_distance(pairs), rtol=1e-2)
    apart, signs = labelled_pairs(rng)
    with pytest.raises(ValueError, match="no instance is in a similar and in a dissimilar pair"):
        MMC(perturbation=loss).fit(apart, signs)


def test_triplets_of_pairs_are_the_nearest_partners(rng):
    X = rng.standard_normal((30, 3))
    pairs, y = rng.integers(0, 30, (200, 2)), rng.choice([-1, 1], 200)
    found = {tuple(row) for row in triplets_of_pairs(X, pairs, y, 2, 3).tolist()}
    expected = set()
    for i in range(30):
        near = []
        for label, k in ((1, 2), (-1, 3)):
            partners = {int(b if a == i else a) for a, b in pairs[y == label] if a != b and i in (a, b)}
            near.append(sorted(partners, key=lambda j: np.linalg.norm(X[i] - X[j]))[:k])
        expected |= {(i, j, l) for j in near[0] for l in near[1]}
    assert found == expected


def test_the_number_of_pairs_is_bounded(rng, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        "certimetric.learners.mmc.pairs_of_classes",
        lambda y, n, rng, weights: drawn.append(n) or pairs_of_classes(y, min(n, 99), rng, weights),
    )
    for classes, draws in ((2, 80), (10, 2000), (500, 15_000)):
        y = np.arange(2 * classes) % classes
        MMC(tol=1, random_state=0).fit(rng.standard_normal((len(y), 2)), y)
        assert drawn.pop() == draws


@pytest.mark.slow
def test_memory_does_not_hold_the_differences_of_pairs(rng):
    X, y = rng.standard_normal((2000, 200)), np.arange(2000) % 2
    pairs, labels = random_pairs(y, 200_000, np.random.RandomState(0))
    mmc = MMC(tol=1, preprocessor=X)
    tracemalloc.start()
    mmc.fit(pairs, labels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.5 * 8 * 200 * len(pairs)


@pytest.mark.parametrize("load", [load_iris, load_wine])
@pytest.mark.parametrize("setting", [{}, {"evenness": 0}, {"evenness": 1, "reg": 0.01}, {"diagonal": True}], ids=str)
def test_splits_of_real_data_converge(load, setting):
    X, y = load(return_X_y=True)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for seed in range(8):
            rows, _ = train_test_split(np.arange(len(y)), test_size=1 / 3, stratify=y, random_state=seed)
            assert MMC(random_state=0, **setting).fit(X[rows], y[rows]).converged_


@pytest.mark.parametrize("diagonal", [False, True])
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_gradient_with_the_perturbation_loss_in_whitened_coordinates(rng, diagonal, norm):
    X = rng.standard_normal((20, 3))
    B = rng.standard_normal((3, 3))
    S = B @ B.T + np.eye(3)
    triplets = np.stack([np.arange(18), np.arange(1, 19), np.arange(2, 20)], axis=1)
    terms = [SeparationRatio(S, triplets[:, [0, 2]], 1.0), PerturbationLoss(tau=0.5, norm=norm).bind(X, triplets)]
    if diagonal:
        objective, K = DiagonalObjective(X, terms, np.diag(np.diagonal(S) ** -0.5)), rng.uniform(0.5, 2, (1, 3))
    else:
        objective, K = TransformedObjective(X, terms, B), rng.standard_normal((3, 3))
    _, gradient = objective.in_components(K)
    assert gradient.shape == K.shape
    for index in np.ndindex(K.shape):
        step = np.zeros_like(K)
        step[index] = 1e-6
        slope = (objective.in_components(K + step)[0] - objective.in_components(K - step)[0]) / 2e-6
        assert gradient[index] == pytest.approx(slope, rel=1e-4, abs=1e-6)


def test_a_metric_that_learned_nothing_can_be_saved(tmp_path):
    pairs = np.array([[[0.0, 0.0], [1.0, 0.0]], [[2.0, 3.0], [2.0, 3.0]]])
    with pytest.warns(ConvergenceWarning, match="learned nothing"):
        metric = MMC().fit(pairs, [1, -1]).metric_
    metric.save(tmp_path / "metric")
    assert MahalanobisMetric.load(tmp_path / "metric") == metric
