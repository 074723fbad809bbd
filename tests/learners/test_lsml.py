"""LSML: the minimum of its convex objective, weights, hard quadruplets, and the perturbation loss from them."""

import tracemalloc

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier

from certimetric import LSML, PerturbationLoss
from certimetric.constraints import random_quadruplets, triplets_of_quadruplets
from certimetric.constraints.pairs import quadruplets_of_classes
from certimetric.objectives import LogDetDivergence, MetricObjective, MetricState, QuadrupletHinge, logdet_gap


def sample(rng, m=60, n=25, d=3):
    """Points and quadruplets that compare their first features."""
    X = rng.standard_normal((n, d)) * np.linspace(1, 2, d)
    quadruplets = rng.integers(0, n, (m, 4))
    a, b, c, e = quadruplets.T
    wrong = np.abs(X[a, 0] - X[b, 0]) > np.abs(X[c, 0] - X[e, 0])
    quadruplets[wrong] = quadruplets[wrong][:, [2, 3, 0, 1]]
    return X, quadruplets


def value_of(M, X, quadruplets, prior, shares):
    """The objective as it is defined."""
    a, b, c, e = (X[quadruplets[:, k]] for k in range(4))
    near, far = (np.sqrt(np.einsum("ni,ij,nj->n", v, M, v)) for v in (a - b, c - e))
    ratio = M @ np.linalg.inv(prior)
    divergence = np.trace(ratio) - np.linalg.slogdet(ratio)[1] - len(M)
    return shares @ np.maximum(near - far, 0) ** 2 + divergence


@pytest.mark.parametrize("prior", ["identity", "covariance", "random", "array"])
@pytest.mark.parametrize("weighted", [False, True])
def test_no_generic_optimiser_finds_less(rng, prior, weighted):
    X, quadruplets = sample(rng)
    X *= 3
    X /= X.std()
    X *= 2  # residuals of some size, in units that are kept
    weights = rng.uniform(0, 1, 60) if weighted else None
    shares = np.full(60, 1 / 60) if weights is None else weights / weights.sum()
    B = rng.standard_normal((3, 3))
    given = B @ B.T + np.eye(3) if prior == "array" else prior
    lsml = LSML(given, preprocessor=X, tol=1e-12, max_iter=1000, random_state=0).fit(quadruplets, weights=weights)
    used = X[np.unique(quadruplets)]
    fixed = LSML(given, preprocessor=X, max_iter=1, random_state=0)
    M0 = {"identity": np.eye(3), "covariance": np.linalg.inv(np.cov(used.T)), "array": given}.get(prior)
    if prior == "random":  # that of the seed, which quadruplets in order leave as it is
        with pytest.warns(ConvergenceWarning, match="did not move"):
            M0 = fixed.fit(quadruplets[:, [0, 0, 2, 3]]).get_mahalanobis_matrix()

    def objective(flat):
        L = flat.reshape(3, 3)
        return value_of(L.T @ L, X, quadruplets, M0, shares)

    assert lsml.objective_ == pytest.approx(objective(lsml.components_.ravel()), rel=1e-4)
    root = np.linalg.cholesky(M0).T
    best = minimize(objective, root.ravel(), method="BFGS", options={"gtol": 1e-9})
    assert objective(lsml.components_.ravel()) <= best.fun * (1 + 1e-6) + 1e-9
    L = best.x.reshape(3, 3)
    np.testing.assert_allclose(lsml.get_mahalanobis_matrix(), L.T @ L, rtol=2e-3, atol=2e-3 * np.abs(L.T @ L).max())


@pytest.mark.parametrize("tol", [0.1, 1e-3, 1e-6])
def test_stops_as_near_to_the_minimum_as_tol_says(wine, tol):
    X, y = wine
    usual, exact = (LSML(tol=some, max_iter=1000, random_state=0).fit(X, y) for some in (tol, 1e-12))
    assert usual.converged_
    assert usual.n_iter_ < exact.n_iter_
    assert exact.objective_ <= usual.objective_ <= exact.objective_ * (1 + tol)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_objective_told_is_that_of_the_metric_given_wherever_it_stops(rng):
    X, quadruplets = sample(rng)
    X /= X.std()
    X *= 2  # a unit that is kept
    steps = set()
    for max_iter in range(1, 13):
        lsml = LSML(preprocessor=X, tol=0, max_iter=max_iter).fit(quadruplets)
        exact = value_of(lsml.get_mahalanobis_matrix(), X, quadruplets, np.eye(3), np.full(60, 1 / 60))
        assert lsml.objective_ == pytest.approx(exact, rel=1e-9)
        steps.add(lsml.n_iter_)
    assert steps >= set(range(1, 12))  # ten too, where those of a report end


def test_rows_of_no_quadruplet_change_nothing(rng):
    # Labels draw few quadruplets of many rows: the objective, and how near it is to its minimum, are those over all.
    X, y = rng.standard_normal((900, 3)), np.arange(900) % 2
    drawn = LSML(random_state=0, n_constraints=40).fit(X, y)
    quadruplets = quadruplets_of_classes(y, 40, np.random.RandomState(0))
    assert len(np.unique(quadruplets)) <= 160
    hinge = QuadrupletHinge(quadruplets)  # over all rows
    objective = MetricObjective(X, [hinge, LogDetDivergence(np.eye(3))])
    value, gradient = objective.in_components(drawn.components_)
    assert drawn.objective_ == pytest.approx(value, rel=1e-9)
    assert value - logdet_gap(drawn.components_, gradient) >= value / (1 + 1e-3) * (1 - 1e-9)


def test_gradient_is_that_of_finite_differences(rng):
    X, quadruplets = sample(rng, d=4)
    B = rng.standard_normal((4, 4)) + 2 * np.eye(4)
    terms = [QuadrupletHinge(quadruplets, rng.uniform(0, 1, 60)), LogDetDivergence(B)]
    objective, L = MetricObjective(X, terms), rng.standard_normal((4, 4)) + np.eye(4)
    _, gradient = objective.in_components(L)
    for index in np.ndindex(L.shape):
        step = np.zeros_like(L)
        step[index] = 1e-6
        slope = (objective.in_components(L + step)[0] - objective.in_components(L - step)[0]) / 2e-6
        assert gradient[index] == pytest.approx(slope, rel=1e-4, abs=1e-6)
    assert terms[1].evaluate(MetricState(X, B)).value == pytest.approx(0, abs=1e-10)
    assert terms[1].evaluate(MetricState(X, np.diag([1.0, 1, 1, 0]))).value > 1000


def test_weights_are_shares_and_a_weight_of_two_is_the_quadruplet_twice(rng):
    X, quadruplets = sample(rng)
    lsml = LSML(preprocessor=X, tol=1e-12)
    weights = np.where(np.arange(60) < 20, 2.0, 1.0)
    weighted = lsml.fit(quadruplets, weights=weights).get_mahalanobis_matrix()
    twice = lsml.fit(np.r_[quadruplets[:20], quadruplets]).get_mahalanobis_matrix()
    np.testing.assert_allclose(weighted, twice, rtol=1e-4, atol=1e-5)
    none = lsml.fit(quadruplets, weights=1e-3 * (np.arange(60) < 20)).get_mahalanobis_matrix()
    np.testing.assert_allclose(none, lsml.fit(quadruplets[:20]).get_mahalanobis_matrix(), rtol=1e-4, atol=1e-5)
    for wrong, message in (
        (np.ones(59), "one number for each of the 60 quadruplets"),
        (np.zeros(60), "not all 0"),
        (-np.ones(60), "0 or more"),
        (np.full(60, np.nan), "finite"),
    ):
        with pytest.raises(ValueError, match=message):
            lsml.fit(quadruplets, weights=wrong)


def test_learns_the_order_it_is_told(rng):
    X, quadruplets = sample(rng, m=400, n=80)
    X *= 1.5
    before = LSML(preprocessor=X, max_iter=1)
    with pytest.warns(ConvergenceWarning, match="max_iter=1"):
        before.fit(quadruplets[:200])
    after = LSML(preprocessor=X).fit(quadruplets[:200])
    assert after.score(quadruplets[200:]) > before.score(quadruplets[200:])
    assert after.predict(quadruplets[200:]).mean() == pytest.approx(2 * after.score(quadruplets[200:]) - 1)
    search = GridSearchCV(LSML(preprocessor=X), {"prior": ["identity", "covariance"]}, cv=3, error_score="raise")
    assert search.fit(quadruplets).best_score_ > 0.6


def test_labels_give_a_metric_for_neighbours(wine):
    X, y = wine
    lsml = LSML(random_state=0).fit(X[::2], y[::2])
    assert lsml.converged_
    assert KNeighborsClassifier(3).fit(lsml.transform(X[::2]), y[::2]).score(lsml.transform(X[1::2]), y[1::2]) > 0.9
    with pytest.raises(ValueError, match="weights are those of given quadruplets"):
        LSML().fit(X, y, weights=np.ones(len(X)))
    with pytest.raises(ValueError, match="all labels differ"):
        LSML().fit(X[:5], np.arange(5))


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("prior", ["identity", "covariance"])
def test_collinear_and_constant_features_at_any_scale(iris, prior, scale):
    X, y = iris
    X = np.c_[X, X[:, 0] + X[:, 1], np.ones(150)] * scale
    lsml = LSML(prior, random_state=0).fit(X, y)
    assert lsml.converged_
    assert KNeighborsClassifier(3).fit(lsml.transform(X[::2]), y[::2]).score(lsml.transform(X[1::2]), y[1::2]) > 0.9


def test_one_quadruplet_equal_instances_and_an_order_that_holds():
    quadruplet = np.array([[[0.0, 0], [3, 0], [0, 0], [0, 1]]])
    lsml = LSML().fit(quadruplet)
    near, far = (lsml.pair_distance(quadruplet[:, pair])[0] for pair in ([0, 1], [2, 3]))
    assert near < 3 * far
    with pytest.warns(ConvergenceWarning, match="did not move from its prior, which has all quadruplets in order"):
        kept = LSML(prior=np.diag([2.0, 1.0])).fit(quadruplet[:, [2, 3, 0, 1]])
    np.testing.assert_allclose(kept.get_mahalanobis_matrix(), np.diag([2.0, 1.0]))
    assert kept.converged_
    contradiction = np.array([[[0.0, 0], [1, 0], [5, 5], [5, 5]]])  # a distance of 0 that should be the larger one
    M = LSML(tol=1e-8).fit(contradiction).get_mahalanobis_matrix()
    # The minimum of s² + s² − log s², s being the length of the first pair: 1/2 for M.
    np.testing.assert_allclose(M, np.diag([0.5, 1.0]), atol=1e-4)


def test_joint_rotation_gives_the_rotated_metric(rng):
    X, quadruplets = sample(rng)
    Q = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    a, b = (LSML(tol=1e-10, preprocessor=some).fit(quadruplets) for some in (X, X @ Q))
    np.testing.assert_allclose(Q @ b.get_mahalanobis_matrix() @ Q.T, a.get_mahalanobis_matrix(), rtol=1e-4, atol=1e-5)


def test_perturbation_loss_needs_pairs_that_share_an_instance(rng, iris):
    X, y = iris
    quadruplets = random_quadruplets(y, 3000, np.random.RandomState(0))
    shared = np.r_[quadruplets[:300], np.c_[quadruplets[:300, :2], quadruplets[:300, 0], quadruplets[:300, 3]]]
    loss = PerturbationLoss(weight=3.0)
    plain, robust = (LSML(perturbation=some, preprocessor=X).fit(shared) for some in (None, loss))
    triplets = triplets_of_quadruplets(shared)
    margins = [loss.adversarial_margin(learner, X, triplets).mean() for learner in (plain, robust)]
    assert margins[1] > margins[0]
    apart = np.arange(80).reshape(20, 4)
    with pytest.raises(ValueError, match="in no quadruplet the pairs share an instance"):
        LSML(perturbation=loss, preprocessor=X).fit(apart)


def test_triplets_of_quadruplets_by_hand():
    quadruplets = np.array([[0, 1, 0, 2], [3, 4, 5, 4], [6, 7, 7, 8], [1, 2, 3, 4], [0, 1, 1, 0], [5, 5, 5, 6]])
    assert triplets_of_quadruplets(quadruplets).tolist() == [[0, 1, 2], [4, 3, 5], [7, 6, 8]]


def test_random_quadruplets_are_of_the_right_classes_bounded_and_seeded(rng):
    y = rng.integers(0, 4, 60)
    drawn = random_quadruplets(y, 5000, np.random.RandomState(3))
    a, b, c, e = drawn.T
    assert (y[a] == y[b]).all()
    assert (a != b).all()
    assert (y[c] != y[e]).all()
    assert len(drawn) == len(np.unique(drawn, axis=0)) <= 5000
    np.testing.assert_array_equal(drawn, random_quadruplets(y, 5000, np.random.RandomState(3)))
    assert set(a) == set(range(60))
    with pytest.warns(UserWarning, match="0 quadruplets"):
        assert random_quadruplets(np.arange(5), 10, np.random.RandomState(0)).shape == (0, 4)


def test_the_number_of_quadruplets_is_bounded(rng, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        "certimetric.learners.lsml.quadruplets_of_classes",
        lambda y, n, rng, weights: drawn.append(n) or quadruplets_of_classes(y, min(n, 99), rng, weights),
    )
    for classes, draws in ((2, 80), (10, 2000), (500, 15_000)):
        y = np.arange(2 * classes) % classes
        LSML(random_state=0).fit(rng.standard_normal((len(y), 2)), y)
        assert drawn.pop() == draws


def test_memory_does_not_hold_the_differences_of_quadruplets(rng):
    X, y = rng.standard_normal((2000, 200)), np.arange(2000) % 2
    quadruplets = random_quadruplets(y, 150_000, np.random.RandomState(0))
    lsml = LSML(tol=1, preprocessor=X)
    tracemalloc.start()
    lsml.fit(quadruplets)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.5 * 2 * 8 * 200 * len(quadruplets)
