"""The gradient attack flips k-NN predictions near the certificate, in every norm, alone and behind a scaler."""

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.exceptions import NotFittedError
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, PowerTransformer, StandardScaler

from certimetric import LMNN, CertifiedKNeighborsClassifier, MahalanobisMetric, in_original_units
from certimetric.attacks import SmoothedVoteAttack
from certimetric.attacks.predictors import nearest_neighbor_classifier
from certimetric.attacks.smoothed_vote import _SmoothedVote
from certimetric.datasets import load
from certimetric.geometry.threat_models import ThreatModel


@pytest.fixture(scope="module")
def digits():
    data = load("digits")
    shuffled = np.random.default_rng(0).permutation(len(data.X))
    train, test = shuffled[:600], shuffled[1257:1282]
    scaler = StandardScaler().fit(data.X[train])
    return scaler.transform(data.X[train]), data.y[train], scaler.transform(data.X[test]), data.y[test]


@pytest.mark.parametrize("k", [1, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("norm", ["l2", *(pytest.param(norm, marks=pytest.mark.slow) for norm in ("linf", "l1"))])
def test_flips_digits_near_the_certificate(digits, norm, k):
    X_train, y_train, X, _ = digits
    knn = CertifiedKNeighborsClassifier(k, norm=norm).fit(X_train, y_train)
    labels, radii = knn.predict_with_radius(X)
    result = SmoothedVoteAttack()(knn, X, threat=norm)
    assert result.success.all()
    assert (knn.predict(result.adversarial) != labels).all()
    assert (radii <= result.distances).all()
    # For k = 1 certificates are within a few per cent of the truth, for k = 3 they are looser.
    assert np.median(result.distances / radii) < (1.1 if k == 1 else 1.25)


def test_comes_near_the_exact_minimum_for_one_neighbor():
    # min over opponents l of min ‖δ‖ with x + δ nearer to l than to every instance of the predicted class.
    rng = np.random.default_rng(3)
    X_train, y_train = rng.standard_normal((14, 2)), np.arange(14) % 2
    metric = MahalanobisMetric.from_components(rng.standard_normal((2, 2)) + np.eye(2))
    X = rng.standard_normal((12, 2))
    knn = CertifiedKNeighborsClassifier(1, metric=metric).fit(X_train, y_train)
    result = SmoothedVoteAttack(restarts=7)(knn, X)  # from all opponents
    exact = []
    for x, c in zip(X, knn.predict(X)):
        own, best = X_train[y_train == c], np.inf
        for opponent in X_train[y_train != c]:
            A = 2 * (opponent - own) @ metric.matrix
            b = metric.distance(x, opponent) ** 2 - metric.distance(x, own) ** 2
            solution = minimize(
                lambda delta: delta @ delta,
                opponent - x,
                jac=lambda delta: 2 * delta,
                constraints={"type": "ineq", "fun": lambda delta, A=A, b=b: A @ delta - b, "jac": lambda _, A=A: A},
                method="SLSQP",
                options={"ftol": 1e-14, "maxiter": 500},
            )
            if solution.success:
                best = min(best, np.linalg.norm(solution.x))
        exact.append(best)
    assert (result.distances >= np.array(exact) * (1 - 1e-6)).all()
    assert (result.distances < 1.01 * np.array(exact)).all()


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_at_low_temperature_the_gap_is_that_of_the_deciding_instances(wine, k):
    # gap → d²(x, q-th nearest of the predicted class) − d²(x, g-th nearest of the target), and so its gradient.
    X, y = wine
    metric = MahalanobisMetric.from_components(np.random.default_rng(0).standard_normal((5, X.shape[1])))
    knn = CertifiedKNeighborsClassifier(k, metric=metric).fit(X[::2], y[::2])
    queries = X[1::30]
    codes = np.searchsorted(knn.classes_, knn.predict(queries))
    vote = _SmoothedVote.towards(knn, queries, codes, 0)

    def gap(x, row):
        squared = metric.distance(x, X[::2]) ** 2
        own, target = np.sort(squared[vote.own[row]]), np.sort(squared[vote.target[row]])
        return own[vote.own_rank[row] - 1] - target[vote.target_rank[row] - 1]

    unit = 4.0**knn.reference_.exponent  # of the coordinates, which are kept near 1
    values, gradients = (unit * array for array in vote.gap(queries, 1e-9))
    for row, x in enumerate(queries):
        assert values[row] == pytest.approx(gap(x, row), rel=1e-8)
        step = 1e-6 * np.eye(len(x))
        numeric = [(gap(x + e, row) - gap(x - e, row)) / 2e-6 for e in step]
        np.testing.assert_allclose(gradients[row], numeric, rtol=1e-5, atol=1e-6 * np.abs(numeric).max())


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
def test_the_sign_of_the_gap_is_the_vote_of_two_classes(iris, k):
    # With two classes the prediction changes exactly where the g-th opponent comes before the q-th of the own class.
    X, y = iris[0], iris[1] == 1
    knn = CertifiedKNeighborsClassifier(k).fit(X[::3], y[::3])
    for label in (False, True):
        vote = _SmoothedVote.towards(knn, X[1::3], np.full(50, int(label)), 0)
        gap, _ = vote.gap(X[1::3], 1e-9)
        clear = np.abs(gap) > 1e-9
        assert clear.sum() > 40
        np.testing.assert_array_equal((gap > 0)[clear], (knn.predict(X[1::3]) != label)[clear])


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # few steps are meant
@pytest.mark.slow
def test_behind_a_scaler_sizes_are_in_original_units(wine):
    X, y = wine
    X = X * np.geomspace(0.1, 1000.0, X.shape[1]) + 5.0
    pipeline = make_pipeline(StandardScaler(), CertifiedKNeighborsClassifier(3, metric=LMNN(max_iter=20))).fit(
        X[::2], y[::2]
    )
    X = X[1::8]
    original = in_original_units(pipeline)
    result = SmoothedVoteAttack()(pipeline, X)
    assert result.success.all()
    labels, radii = original.predict_with_radius(X)
    assert (pipeline.predict(result.adversarial) != labels).all()
    np.testing.assert_allclose(result.distances, np.linalg.norm(result.adversarial - X, axis=1))
    assert (radii <= result.distances).all()
    np.testing.assert_allclose(result.distances, SmoothedVoteAttack()(original, X).distances, rtol=1e-6)


def test_immutable_features_at_their_bounds_do_not_stop_the_others(wine):
    # l1 steps move one feature: once it is at its bound, another one must take over.
    X, y = wine
    knn = CertifiedKNeighborsClassifier(1, norm="l1").fit(X[::2], y[::2])
    X = X[1::10]
    low, high = np.minimum(X.min(axis=0), -0.3) - 0.1, X.max(axis=0) + 0.1
    free = SmoothedVoteAttack()(knn, X, threat="l1")
    boxed = SmoothedVoteAttack()(knn, X, threat=ThreatModel("l1", bounds=(low, high)))
    assert boxed.success.all()
    assert (boxed.adversarial >= low).all()
    assert (boxed.adversarial <= high).all()
    assert np.median(boxed.distances / free.distances) < 1.5


def test_more_restarts_never_give_a_larger_distance(wine):
    X, y = wine
    knn = CertifiedKNeighborsClassifier(3).fit(X[::2], y[::2])
    distances = [SmoothedVoteAttack(30, r)(knn, X[1::8]).distances for r in (1, 2, 5)]
    assert (distances[1] <= distances[0]).all()
    assert (distances[2] <= distances[1]).all()
    assert distances[2].sum() < distances[0].sum()


@pytest.mark.slow
def test_chunks_make_no_difference(wine, monkeypatch):
    X, y = wine
    knn = CertifiedKNeighborsClassifier(3).fit(X[::2], y[::2])
    X = X[1::12]
    whole = SmoothedVoteAttack(30)(knn, X)
    monkeypatch.setattr("certimetric.attacks.smoothed_vote.DEFAULT_MEMORY", 3 * 8 * 10 * 89)
    np.testing.assert_allclose(SmoothedVoteAttack(30)(knn, X).distances, whole.distances, rtol=1e-6)


def test_other_predictors_are_refused_with_an_alternative(iris):
    X, y = iris
    for predictor in (
        KNeighborsClassifier().fit(X, y),
        make_pipeline(StandardScaler(), KNeighborsClassifier()).fit(X, y),
    ):
        with pytest.raises(TypeError, match=r"got KNeighborsClassifier; HopSkipJump attacks any classifier"):
            SmoothedVoteAttack()(predictor, X[:2])
    for scaler in (PowerTransformer(), MinMaxScaler(clip=True)):
        pipeline = make_pipeline(scaler, CertifiedKNeighborsClassifier()).fit(X, y)
        with pytest.raises(ValueError, match="HopSkipJump attacks any classifier"):
            SmoothedVoteAttack()(pipeline, X[:2])
    with pytest.raises(NotFittedError):
        nearest_neighbor_classifier(CertifiedKNeighborsClassifier())


def test_the_classifier_itself_is_given_where_there_is_no_scaler(iris):
    knn = CertifiedKNeighborsClassifier(1).fit(*iris)
    assert nearest_neighbor_classifier(knn) is knn


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "'steps' parameter of SmoothedVoteAttack must be an int"),
        ({"restarts": 1.5}, "'restarts' parameter of SmoothedVoteAttack must be an int"),
        ({"temperatures": 1.0}, "'temperatures' parameter of SmoothedVoteAttack must be"),
        ({"temperatures": (0.1, 1.0)}, r"temperatures must be a pair first ≥ last > 0, got \(0.1, 1.0\)"),
        ({"temperatures": (1.0, 0.0)}, "temperatures must be a pair"),
        ({"temperatures": (1.0,)}, "temperatures must be a pair"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        SmoothedVoteAttack(**settings)
