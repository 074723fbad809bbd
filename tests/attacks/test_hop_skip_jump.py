"""HopSkipJump uses predictions only, works for any classifier, and comes near the true boundary where that is known."""

from itertools import pairwise

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from certimetric.attacks import HopSkipJump
from certimetric.geometry import resolve_norm
from certimetric.geometry.threat_models import ThreatModel

NORMS = ("l2", "linf", "l1", "ellipsoid")


def make_norm(name, d):
    if name != "ellipsoid":
        return name
    A = np.random.default_rng(0).standard_normal((d, d))
    return A @ A.T / d + np.eye(d)


class PredictOnly:
    """A classifier that shows nothing but predictions, and counts them."""

    def __init__(self, predictor):
        self._predictor, self.n_predictions, self.n_calls = predictor, 0, 0

    def predict(self, X):
        self.n_predictions += len(X)
        self.n_calls += 1
        return self._predictor.predict(X)


@pytest.mark.parametrize(
    "classifier",
    [
        RandomForestClassifier(5, random_state=0),
        make_pipeline(StandardScaler(), SVC()),
        KNeighborsClassifier(5, weights="distance"),
    ],
    ids=lambda classifier: type(classifier).__name__,
)
@pytest.mark.parametrize(
    "norm", ["l2", *(pytest.param(norm, marks=pytest.mark.slow) for norm in ("linf", "l1", "ellipsoid"))]
)
def test_any_classifier(iris, classifier, norm):
    X, y = iris
    classifier.fit(X[::2], y[::2])
    X = X[1::15]
    threat = make_norm(norm, X.shape[1])
    result = HopSkipJump(n_iterations=5, restarts=2)(PredictOnly(classifier), X, threat=threat)
    assert result.success.all()
    labels = classifier.predict(X)
    np.testing.assert_array_equal(classifier.predict(result.adversarial), result.labels)
    assert (result.labels != labels).all()
    # Walking along the boundary is worth it: nearer than the nearest instance with another prediction.
    sizes = resolve_norm(threat).norm(X[:, None] - X)
    sizes[labels[:, None] == labels] = np.inf
    assert (result.distances < sizes.min(axis=1)).all()
    assert np.median(result.distances / sizes.min(axis=1)) < 0.6


@pytest.mark.parametrize("immutable", [pytest.param((), marks=pytest.mark.slow), (0, 3)])
@pytest.mark.parametrize(
    "norm", ["l2", "linf", *(pytest.param(norm, marks=pytest.mark.slow) for norm in ("l1", "ellipsoid"))]
)
def test_distance_to_a_hyperplane(wine, norm, immutable):
    # For a linear classifier the smallest change has the size |wᵀx + b| / ‖w‖_* (dual norm).
    X, y = wine
    d = X.shape[1]
    linear = LogisticRegression().fit(X, y == 1)
    norm = make_norm(norm, d)
    if norm is not None and np.ndim(norm) == 2 and immutable:
        norm = np.diag(np.arange(1.0, d + 1))  # diagonal: so that the dual norm over the other features is simple
    mutable = np.setdiff1d(np.arange(d), immutable)
    w = np.where(np.isin(np.arange(d), mutable), linear.coef_[0], 0.0)
    X = X[::20]
    exact = np.abs(linear.decision_function(X)) / resolve_norm(norm).dual_norm(w)
    result = HopSkipJump(12, n_queries=100)(linear, X, threat=ThreatModel(norm, immutable=immutable))
    assert (result.distances >= exact * (1 - 1e-9)).all()
    assert np.median(result.distances / exact) < 1.03
    assert (result.distances < 1.15 * exact).all()


@pytest.mark.slow
@pytest.mark.parametrize("norm", NORMS)
def test_more_iterations_never_give_a_larger_distance(wine, norm):
    X, y = wine
    tree = DecisionTreeClassifier(random_state=0).fit(X[::2], y[::2])
    norm = make_norm(norm, X.shape[1])
    X = X[1::20]

    def attacked(n, threat):
        return HopSkipJump(n, restarts=2)(tree, X, threat=threat)

    distances = [attacked(n, norm).distances for n in (0, 1, 2, 5, 9)]
    for fewer, more in pairwise(distances):
        assert (more <= fewer).all()
    assert distances[-1].sum() < 0.9 * distances[0].sum()
    # With a budget the search ends once it is kept, so that there success is what more iterations never lose.
    threat = ThreatModel(norm, eps=float(np.median(distances[-1])))
    success = [attacked(n, threat).success for n in (0, 2, 9)]
    assert (success[0] <= success[1]).all()
    assert (success[1] <= success[2]).all()
    np.testing.assert_array_equal(success[2], distances[-1] <= threat.eps)


@pytest.mark.slow
def test_more_restarts_never_give_a_larger_distance(wine):
    X, y = wine
    knn = KNeighborsClassifier(1).fit(X[::2], y[::2])
    distances = [HopSkipJump(3, restarts=r)(knn, X[1::20]).distances for r in (1, 2, 4)]
    assert (distances[1] <= distances[0]).all()
    assert (distances[2] <= distances[1]).all()
    assert distances[2].sum() < distances[0].sum()


def test_one_instance_and_no_starts():
    # Nothing to start from but random points: here the other label begins far away.
    class Far:
        def predict(self, X):
            return X[:, 0] > 50.0

    result = HopSkipJump()(Far(), [[1.0, 2.0]])
    assert result.distances == pytest.approx([49.0], rel=1e-3)


def test_given_starts_are_used(rng):
    # A small island in many dimensions: random points do not hit it.
    island = np.full(20, 3.0)

    class Island:
        def predict(self, X):
            return np.abs(X - island).max(axis=1) < 0.1

    X = rng.standard_normal((3, 20))
    assert not HopSkipJump(2, restarts=1)(Island(), X).success.any()
    result = HopSkipJump(2, restarts=1, starts=island[None])(Island(), X)
    assert result.success.all()
    assert (result.distances < np.linalg.norm(island - X, axis=1)).all()


@pytest.mark.slow
def test_within_the_budget_it_stops_asking(iris):
    X, y = iris
    knn = KNeighborsClassifier(3).fit(X[::2], y[::2])
    asked = []
    for eps in (None, 1e-6, 100.0):
        counting = PredictOnly(knn)
        HopSkipJump(4, restarts=2)(counting, X[1::20], threat=ThreatModel(eps=eps))
        asked.append(counting.n_predictions)
    # A budget that nobody keeps changes nothing; with one that the first point keeps there is no step.
    assert asked[0] == asked[1]
    assert asked[2] < asked[0] / 10


def test_calls_do_not_grow_with_instances(iris):
    X, y = iris
    knn = KNeighborsClassifier(3).fit(X[::2], y[::2])
    few, many = PredictOnly(knn), PredictOnly(knn)
    HopSkipJump(3, restarts=1)(few, X[1::50])
    HopSkipJump(3, restarts=1)(many, X[1::2])
    assert many.n_calls <= few.n_calls + 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_iterations": -1}, "'n_iterations' parameter of HopSkipJump must be an int"),
        ({"n_queries": 1}, "'n_queries' parameter of HopSkipJump must be an int"),
        ({"restarts": 0}, "'restarts' parameter of HopSkipJump must be an int"),
        ({"random_state": None}, "'random_state' parameter of HopSkipJump must be an int"),
        ({"starts": 3}, "'starts' parameter of HopSkipJump must be an array-like or None"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        HopSkipJump(**settings)


def test_starts_of_another_width(iris):
    X, y = iris
    knn = KNeighborsClassifier(3).fit(X, y)
    with pytest.raises(ValueError, match="starts must have 4 features like X, got 2"):
        HopSkipJump(starts=X[:, :2])(knn, X[:2])


@pytest.mark.slow
def test_chunks_make_no_difference(wine, monkeypatch):
    X, y = wine
    knn = KNeighborsClassifier(3).fit(X[::2], y[::2])
    attack, X = HopSkipJump(2, restarts=2), X[1::20]
    whole = attack(knn, X)
    monkeypatch.setattr("certimetric.attacks.hop_skip_jump.DEFAULT_MEMORY", 60_000)
    np.testing.assert_allclose(attack(knn, X).distances, whole.distances, rtol=1e-6)
