"""Laws of all attacks: what they report is true, allowed, and never inside a certificate."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from certimetric import CertifiedKNeighborsClassifier, MahalanobisMetric, in_original_units
from certimetric.attacks import BestOf, HopSkipJump, RegionAttack, SmoothedVoteAttack
from certimetric.geometry import resolve_norm
from certimetric.geometry.threat_models import ThreatModel


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("n", [1, pytest.param(8, marks=pytest.mark.slow)])
def test_data_of_any_unit_are_attacked_alike(iris, attack, norm, n):
    # Another unit of all features, as a power of two, changes no digit: neither do distances in that unit.
    X, y = iris
    rows = np.arange(1, 150, 150 // n)[:n] if n > 1 else [101]
    found = {}
    for factor in (1.0, 2.0**-20, 2.0**-40, 2.0**30):
        knn = CertifiedKNeighborsClassifier(1, norm=norm).fit(factor * X[::2], y[::2])
        result = attack(knn, factor * X[rows], threat=ThreatModel(norm, eps=2.0 * factor))
        found[factor] = result.distances / factor
        inside = result.distances[result.success]
        assert (resolve_norm(norm).norm(result.adversarial - factor * X[rows]) <= 2.0 * factor).all()
        assert (knn.predict(result.adversarial)[result.success] != knn.predict(factor * X[rows])[result.success]).all()
        assert len(inside)
    for factor, distances in found.items():
        np.testing.assert_allclose(distances, found[1.0], rtol=1e-6, err_msg=str(factor))


@pytest.fixture(scope="module")
def customers():
    """A table with columns that are whole, bounded, one of three, or not to be changed, and a rule to learn."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "age": rng.integers(18, 80, 160).astype(float),
            "visits": rng.integers(0, 12, 160).astype(float),
            "income": rng.uniform(0.0, 10.0, 160),
            "debt": rng.uniform(0.0, 10.0, 160),
        }
    )
    colours = np.eye(3)[rng.integers(0, 3, 160)]
    table[["red", "green", "blue"]] = colours
    score = table["income"] - table["debt"] + 0.5 * (table["visits"] - 6) + 2 * table["red"] + 0.02 * table["age"]
    y = np.where(score > score.median(), "yes", "no")
    low = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    high = [120.0, 12.0, 10.0, 10.0, 1.0, 1.0, 1.0]
    threat = {
        "bounds": (low, high),
        "immutable": ["age"],
        "integer": ["visits"],
        "one_hot": [["red", "green", "blue"]],
    }
    return table, y, threat


def test_limits_are_kept(customers, attack, norm, make_norm):
    table, y, limits = customers
    norm = make_norm(norm, table.shape[1])
    pipeline = make_pipeline(StandardScaler(), CertifiedKNeighborsClassifier(3)).fit(table[:120], y[:120])
    rest = table[120:126]
    result = attack(pipeline, rest, threat=ThreatModel(norm, **limits))
    assert result.success.mean() > 0.9
    labels = pipeline.predict(rest)
    found = pd.DataFrame(result.adversarial, columns=table.columns, index=rest.index)
    np.testing.assert_array_equal(pipeline.predict(found) != labels, result.success)
    np.testing.assert_array_equal(found["age"], rest["age"])
    np.testing.assert_array_equal(found["visits"], found["visits"].round())
    assert (found >= limits["bounds"][0]).all(axis=None)
    assert (found <= limits["bounds"][1]).all(axis=None)
    colours = found[["red", "green", "blue"]].to_numpy()
    np.testing.assert_array_equal(np.sort(colours, axis=1), np.tile([0.0, 0.0, 1.0], (len(rest), 1)))
    # Instances without success stay as they are, at infinity.
    np.testing.assert_array_equal(found[~result.success], rest[~result.success])
    assert np.isinf(result.distances[~result.success]).all()
    # Less freedom never helps: the certificate without any limit holds, in original units.
    radii = in_original_units(pipeline, norm).predict_with_radius(rest)[1]
    assert (radii <= result.distances).all()


def test_all_features_of_separate_values(attack, norm, make_norm):
    # Changes below 1/2 are rounded away: an attack must reach beyond them, and cannot be better than a search of all.
    rng = np.random.default_rng(0)
    X = rng.integers(0, 5, (60, 3)).astype(float)
    y = (X.sum(axis=1) > 6).astype(int)
    knn = CertifiedKNeighborsClassifier(1).fit(X[:40], y[:40])
    norm = make_norm(norm, 3)
    threat = ThreatModel(norm, bounds=(0, 4), integer=[0, 1, 2])
    result = attack(knn, X[40:], threat=threat)
    grid = np.stack(np.meshgrid(*[np.arange(5.0)] * 3), axis=-1).reshape(-1, 3)
    sizes = resolve_norm(norm).norm(grid - X[40:, None])
    sizes[knn.predict(grid) == knn.predict(X[40:])[:, None]] = np.inf
    assert result.success.all()
    assert (result.distances >= sizes.min(axis=1) * (1 - 1e-12)).all()
    assert (result.distances <= 2.5 * sizes.min(axis=1)).mean() > 0.8


def test_budget_is_kept_and_a_larger_one_never_loses(wine, attack, norm, make_norm):
    X, y = wine
    norm = make_norm(norm, X.shape[1])
    knn = CertifiedKNeighborsClassifier(3).fit(X[::2], y[::2])
    X = X[1::30]
    unlimited = attack(knn, X, threat=norm).distances
    budgets = [0.0, np.median(unlimited), 2 * unlimited.max()]
    results = [attack(knn, X, threat=ThreatModel(norm, eps=eps)) for eps in budgets]
    for eps, result in zip(budgets, results):
        assert (result.distances[result.success] <= eps).all()
        assert np.isinf(result.distances[~result.success]).all()
        np.testing.assert_array_equal(result.adversarial[~result.success], X[~result.success])
    for smaller, larger in pairwise(results):
        assert (smaller.success <= larger.success).all()
    assert not results[0].success.any()
    assert results[-1].success.all()
    assert 0.4 <= results[1].success.mean() <= 0.6


def test_wrong_predictions_count_as_attacked_at_distance_zero(iris, attack):
    X, y = iris
    knn = CertifiedKNeighborsClassifier(3).fit(X[::3], y[::3])
    X = X[1::10]
    predicted = knn.predict(X)
    truth = predicted.copy()
    truth[::2] = (truth[::2] + 1) % 3
    for eps in (None, 0.0):
        result = attack(knn, X, truth, ThreatModel(eps=eps))
        assert result.success[::2].all()
        assert (result.distances[::2] == 0).all()
        np.testing.assert_array_equal(result.adversarial[::2], X[::2])
        np.testing.assert_array_equal(result.labels[::2], predicted[::2])
        assert (result.distances[1::2] > 0).all()


def test_same_seed_same_result(wine, attack):
    X, y = wine
    knn = CertifiedKNeighborsClassifier(3).fit(X[::2], y[::2])
    first, second = (attack(knn, X[1::40], threat="l2") for _ in range(2))
    np.testing.assert_array_equal(first.adversarial, second.adversarial)
    np.testing.assert_array_equal(first.distances, second.distances)


@pytest.mark.parametrize(
    "knn",
    [
        CertifiedKNeighborsClassifier(2).fit([[0.0, 0.0], [1.0, 0.0]], ["a", "a"]),
        # M = 0: all distances are ties, whatever the point.
        CertifiedKNeighborsClassifier(1, metric=MahalanobisMetric.from_components([[0.0, 0.0]])).fit(
            [[0.0, 0.0], [1.0, 0.0]], ["a", "b"]
        ),
    ],
    ids=["one class", "metric 0"],
)
def test_no_success_where_nothing_can_change(attack, knn):
    X = [[0.5, 0.5], [0.0, 0.0]]
    result = attack(knn, X)
    assert not result.success.any()
    assert np.isinf(result.distances).all()
    np.testing.assert_array_equal(result.adversarial, X)
    assert result.labels.tolist() == ["a", "a"]


def test_data_frames_and_arrays_give_the_same(wine, attack):
    X, y = wine
    table = pd.DataFrame(X, columns=[f"feature {i}" for i in range(X.shape[1])])
    of_arrays = attack(CertifiedKNeighborsClassifier(3).fit(X[::2], y[::2]), X[1::20])
    of_frames = attack(CertifiedKNeighborsClassifier(3).fit(table[::2], y[::2]), table[1::20])
    np.testing.assert_array_equal(of_arrays.adversarial, of_frames.adversarial)
    np.testing.assert_array_equal(of_arrays.distances, of_frames.distances)


def hard_cases():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((40, 3)), rng.integers(0, 3, 40)
    yield "conflicting duplicates", np.r_[X, X], np.r_[y, (y + 1) % 3], X
    yield "queries are training instances", X, y, X
    yield "a class with one instance", X, np.r_[3, y[1:]], X[:10]
    yield "one feature", X[:, :1], y, X[:10, :1] + 0.01
    yield "a constant feature", np.c_[X, np.ones(40)], y, np.c_[X[:10], np.ones(10)]
    yield "more features than instances", rng.standard_normal((8, 20)), np.arange(8) % 2, rng.standard_normal((5, 20))
    grid = np.stack(np.meshgrid(*[np.arange(4.0)] * 3), axis=-1).reshape(-1, 3)
    yield "equal distances", grid, rng.integers(0, 2, 64), grid[:12] + 0.5
    yield "large offset", X * 1e6 + 1e9, y, X[:10] * 1e6 + 1e9
    yield "tiny scale", X * 1e-8, y, X[:10] * 1e-8 + 1e-9
    yield "float32", X.astype(np.float32), y, X[:10].astype(np.float32) + np.float32(0.01)


CASES = {name: case for name, *case in hard_cases()}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("k", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_hard_input(attack, case, k):
    X_train, y_train, X = CASES[case]
    knn = CertifiedKNeighborsClassifier(k).fit(X_train, y_train)
    labels, radii = knn.predict_with_radius(X)
    result = attack(knn, X)
    assert np.isfinite(result.adversarial).all()
    np.testing.assert_array_equal(knn.predict(result.adversarial) != labels, result.success)
    assert (radii <= result.distances).all()
    assert result.success.mean() > 0.9


def test_repr_makes_the_attack_again(attack):
    kinds = {kind.__name__: kind for kind in (RegionAttack, HopSkipJump, SmoothedVoteAttack, BestOf)}
    again = eval(repr(attack), kinds)
    assert type(again) is type(attack)
    assert {name: repr(value) for name, value in vars(again).items()} == {
        name: repr(value) for name, value in vars(attack).items()
    }
