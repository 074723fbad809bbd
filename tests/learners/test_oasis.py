"""Online bilinear similarity: every step is the minimiser, parts are one pass, S ranks better than before."""

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV

from certimetric import OASIS, CertifiedKNeighborsClassifier
from certimetric.constraints import random_triplets

X, y = load_iris(return_X_y=True)
X = X - X.mean(axis=0)
TRIPLETS = random_triplets(y, 2000, np.random.RandomState(0))


def similarities(W, A, B):
    return np.einsum("ti,ij,tj->t", A, W, B)


def margins(W, T):
    return similarities(W, T[:, 0], T[:, 1]) - similarities(W, T[:, 0], T[:, 2])


@pytest.mark.parametrize("C", [1e-3, 0.1, 1e3])
def test_a_step_is_the_minimiser_that_a_generic_optimiser_finds(C, rng):
    W0 = rng.standard_normal((3, 3))
    for _ in range(5):
        T = rng.standard_normal((1, 3, 3))
        W = OASIS(C, init=W0).partial_fit(T).bilinear_matrix_ if margins(W0, T) < 1 else W0

        # min ½‖W − W0‖² + C ξ under ξ ≥ 0 and ξ ≥ 1 − margin, smooth in W and ξ
        found = minimize(
            lambda v: 0.5 * np.square(v[:9] - W0.ravel()).sum() + C * v[9],
            np.r_[W0.ravel(), max(1 - margins(W0, T)[0], 0)],
            jac=lambda v: np.r_[v[:9] - W0.ravel(), C],
            constraints=[
                {"type": "ineq", "fun": lambda v: v[9]},
                {"type": "ineq", "fun": lambda v, T=T: v[9] - 1 + margins(v[:9].reshape(3, 3), T)[0]},
            ],
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        )
        np.testing.assert_allclose(W, found.x[:9].reshape(3, 3), atol=1e-5)


def by_definition(T, C, W):
    """The pass as it is published, a matrix for each triplet."""
    for a, b, c in T:
        V = np.outer(a, b - c)
        loss = max(0.0, 1.0 - a @ W @ b + a @ W @ c)
        W = W + (min(C, loss / np.square(V).sum()) * V if loss > 0 else 0)
    return W


def test_a_pass_is_the_published_one_and_parts_are_one_pass():
    T = X[TRIPLETS]
    expected = by_definition(T, 0.1, np.eye(4))
    oasis = OASIS().fit(T)
    np.testing.assert_allclose(oasis.bilinear_matrix_, expected, rtol=1e-9, atol=1e-12)
    parts = OASIS(preprocessor=X)
    for some in np.split(TRIPLETS, [100, 101, 800]):
        parts.partial_fit(some)
    np.testing.assert_allclose(parts.bilinear_matrix_, expected, rtol=1e-9, atol=1e-12)
    assert parts.n_iter_ == oasis.n_iter_ == 2000
    assert 0 < parts.n_updates_ == oasis.n_updates_ < 2000
    oasis.fit(T[:10])  # fit forgets
    assert oasis.n_iter_ == 10


def test_it_ranks_iris_better_than_the_identity():
    later = X[TRIPLETS[1000:]]
    identity = float((margins(np.eye(4), later) > 0).mean())
    for oasis in (OASIS(preprocessor=X).fit(TRIPLETS[:1000]), OASIS(random_state=0).fit(X, y)):
        assert (margins(oasis.bilinear_matrix_, later) > 0).mean() > identity
    uncentred = load_iris().data
    oasis = OASIS().fit(uncentred[TRIPLETS[:1000]])
    assert oasis.score(uncentred[TRIPLETS[1000:]]) > 0.8 > 0.6 > (margins(np.eye(4), uncentred[TRIPLETS]) > 0).mean()


def test_answers_are_by_the_similarity_and_the_metric_is_the_nearest_one():
    T = X[TRIPLETS[:500]]
    oasis = OASIS(1.0).fit(T)
    W = oasis.get_bilinear_matrix()
    np.testing.assert_allclose(oasis.decision_function(T), margins(W, T), atol=1e-10)
    np.testing.assert_array_equal(oasis.predict(T), np.where(margins(W, T) > 0, 1, -1))
    assert oasis.score(T) == (margins(W, T) > 0).mean()
    np.testing.assert_allclose(oasis.pair_score(T[:, [1, 2]]), similarities(W, T[:, 1], T[:, 2]), atol=1e-10)
    values, vectors = np.linalg.eigh((W + W.T) / 2)
    assert values.min() < 0  # or the test shows nothing
    M = (vectors * np.maximum(values, 0)) @ vectors.T
    np.testing.assert_allclose(oasis.get_mahalanobis_matrix(), M, atol=1e-10)
    knn = CertifiedKNeighborsClassifier(3, metric=oasis).fit(X[::2], y[::2])
    assert knn.certified_accuracy(X[1::2], y[1::2], 0.0) > 0.9


def test_both_rank_alike_where_self_similarities_are_equal(rng):
    A = rng.standard_normal((4, 4))
    W = A @ A.T
    points = rng.standard_normal((30, 4))
    points /= np.sqrt(np.einsum("ni,ij,nj->n", points, W, points))[:, None]
    T = points[rng.integers(0, 30, (200, 3))]
    oasis = OASIS(1e-12, init=W).fit(T)  # such a step moves nothing
    distances = [oasis.pair_distance(T[:, [0, k]]) for k in (1, 2)]
    gap = oasis.decision_function(T)
    clear = np.abs(gap) > 1e-6
    np.testing.assert_array_equal(distances[0][clear] < distances[1][clear], gap[clear] > 0)


def test_triplets_of_labels_are_seeded_and_bounded():
    a, b, c = (OASIS(random_state=seed, n_constraints=300).fit(X, y).bilinear_matrix_ for seed in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()
    assert OASIS(random_state=0).fit(X, y).n_iter_ == 30 * 150
    with pytest.warns(UserWarning, match="0 triplets"):
        drawn = random_triplets(np.zeros(3, dtype=int), 5, np.random.RandomState(0))
    assert drawn.shape == (0, 3)
    i, j, l = random_triplets(y, 500, np.random.RandomState(3)).T
    assert (y[i] == y[j]).all() and (i != j).all() and (y[i] != y[l]).all()
    counts = np.unique(np.stack([i, j, l]), return_counts=True)[0]
    assert len(counts) == 150  # all take part
    labelled = OASIS(random_state=0, n_constraints=100).partial_fit(X[:100], y[:100]).partial_fit(X[50:], y[50:])
    assert labelled.n_iter_ == 200
    assert labelled.classes_.tolist() == [0, 1, 2]


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1e3, 1e6])
def test_the_similarity_does_not_depend_on_the_unit(scale):
    T = X[TRIPLETS]
    one, other = OASIS().fit(T), OASIS().fit(scale * T)
    np.testing.assert_allclose(other.bilinear_matrix_ * scale**2, one.bilinear_matrix_, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(other.decision_function(scale * T), one.decision_function(T), rtol=1e-6, atol=1e-9)
    given = OASIS(init=one.bilinear_matrix_ / scale**2, C=1e-12).fit(scale * T)
    np.testing.assert_allclose(given.bilinear_matrix_ * scale**2, one.bilinear_matrix_, rtol=1e-6, atol=1e-6)


def test_more_features_than_points_are_learned_from_in_their_span(rng):
    wide = rng.standard_normal((20, 50)) + 1.0
    index = rng.integers(0, 20, (300, 3))
    index = index[(index[:, 0] != index[:, 1]) & (index[:, 1] != index[:, 2])]
    oasis = OASIS(preprocessor=wide).fit(index)
    expected = by_definition(wide[index], 0.1, np.eye(50))
    np.testing.assert_allclose(oasis.bilinear_matrix_, expected, atol=1e-9)
    assert oasis.components_.shape == (20, 50)
    unseen = rng.standard_normal((40, 3, 50))
    np.testing.assert_allclose(oasis.decision_function(unseen), margins(expected, unseen), atol=1e-8)
    oasis.partial_fit(unseen)
    expected = by_definition(unseen, 0.1, expected)
    np.testing.assert_allclose(oasis.bilinear_matrix_, expected, atol=1e-8)
    assert oasis.components_.shape == (50, 50)


@pytest.mark.parametrize("case", ["constant", "collinear", "duplicates", "one triplet", "large offset", "zeros"])
def test_hard_triplets_give_a_metric(case):
    T = X[TRIPLETS[:200]]
    if case == "constant":
        T = np.concatenate([T, np.ones((200, 3, 1))], axis=2)
    elif case == "collinear":
        T = np.concatenate([T, T[..., :2]], axis=2)
    elif case == "duplicates":
        T = np.repeat(T[margins(np.eye(4), T) < 1][:1], 100, axis=0)
    elif case == "one triplet":
        T = T[margins(np.eye(4), T) < 1][:1]
    elif case == "large offset":
        T = T + 1e8
    else:
        T[:100] = 0.0
    oasis = OASIS().fit(T)
    assert np.isfinite(oasis.components_).all()
    assert np.isfinite(oasis.bilinear_matrix_).all()
    assert np.isfinite(oasis.decision_function(T)).all()
    assert oasis.converged_


def test_what_cannot_be_learned_is_told():
    with pytest.warns(ConvergenceWarning, match="OASIS did not move: no triplet breaks its margin"):
        assert OASIS().fit(np.ones((5, 3, 2))).converged_ is False
    with pytest.warns(ConvergenceWarning, match="OASIS did not move"):
        OASIS().fit([[[3.0], [3.0], [-3.0]]])
    with pytest.warns(ConvergenceWarning, match="OASIS ended at the metric 0"):
        OASIS(init=-np.eye(4), C=1e-6).fit(X[TRIPLETS[:5]])
    with pytest.raises(ValueError, match="two instances of one of them"):
        OASIS().fit(X[:3], [0, 1, 2])
    with pytest.raises(ValueError, match="only 1 class"):
        OASIS().fit(X, np.zeros(150))
    oasis = OASIS().fit(X[TRIPLETS[:50]])
    with pytest.raises(ValueError, match="fitted on 4 features, but the tuples have 3"):
        oasis.partial_fit(X[TRIPLETS[:5]][..., :3])
    with pytest.raises(ValueError, match="two classes"):
        oasis.partial_fit(X, np.zeros(150))
    with pytest.raises(NotFittedError):
        OASIS().pair_score(X[TRIPLETS[:5, :2]])
    with pytest.raises(NotFittedError):
        OASIS().get_bilinear_matrix()


def test_aggressiveness_is_chosen_on_triplets():
    search = GridSearchCV(OASIS(preprocessor=X), {"C": [1e-9, 0.1]}, cv=3, error_score="raise").fit(TRIPLETS)
    assert search.best_params_ == {"C": 0.1}
