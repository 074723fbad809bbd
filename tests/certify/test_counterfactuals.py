"""Counterfactuals: against the enumeration of all cells and all values of whole features, and by what they promise."""

import json
from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from certimetric import CertifiedKNeighborsClassifier, MahalanobisMetric, counterfactuals, minimal_perturbation
from certimetric.attacks import RegionAttack, ThreatModel
from certimetric.geometry import resolve_norm

NORMS = ("l2", "linf", "l1")
LONG = {"time_limit": 1e9, "node_limit": 20_000}  # the same answer on every machine
JOINED = {"l2": np.hypot, "linf": max, "l1": lambda a, b: a + b}


def enumerated(knn, x, threat, solve, wanted=None):
    """Smallest legal change that reaches the class: every set of k neighbours, every value of whole features."""
    M, X, y, k = knn.metric_.matrix, knn.X_, knn.reference_.y, knn.n_neighbors
    bound = threat.bind(len(x))
    low, high = (limit[0] for limit in bound.limits(x[None]))
    squared = ((x - X) @ M * (x - X)).sum(axis=1)
    predicted = np.bincount(y[np.argsort(squared, kind="stable")[:k]]).argmax()
    free, whole = np.flatnonzero(bound.mutable & ~bound.whole), np.flatnonzero(bound.whole)
    values = [
        (0.0, 1.0) if any(j in group for group in bound.one_hot) else np.arange(np.ceil(low[j]), high[j] + 1e-9)
        for j in whole
    ]
    best = np.inf
    for inside in map(list, combinations(range(len(X)), k)):
        winner = np.bincount(y[inside], minlength=3).argmax()
        if winner == predicted if wanted is None else winner != wanted:
            continue
        outside = np.setdiff1d(np.arange(len(X)), inside)
        A = np.concatenate([2 * (X[l] - X[outside]) @ M for l in inside])
        b = np.concatenate([squared[l] - squared[outside] for l in inside])
        for chosen in product(*values):
            point = x.copy()
            point[whole] = chosen
            if any(point[group].sum() != 1 for group in bound.one_hot):
                continue
            change = point - x
            rest = b - A @ change
            eye = np.eye(len(free))
            rows = np.vstack([A[:, free], eye, -eye])
            limits = np.concatenate([rest, (low - x)[free], (x - high)[free]])
            known = np.isfinite(limits)
            empty = np.abs(rows).max(axis=1, initial=0.0) == 0
            if (limits[known & empty] > 1e-12).any():
                continue
            size = solve(rows[known], limits[known], threat.norm) if len(free) else 0.0
            best = min(best, JOINED[threat.norm](size, float(resolve_norm(threat.norm).norm(change))))
    return best


def problem(seed, k, n=9, d=4):
    """Features 0 and 1 are numbers, 2 is whole, 3 and (of five) 4 are numbers or a group."""
    rng = np.random.default_rng(seed)
    X, y = rng.standard_normal((n, d)) * 1.5, np.arange(n) % 3
    metric = MahalanobisMetric.from_components(rng.standard_normal((int(rng.integers(2, d + 1)), d)))
    queries = rng.standard_normal((2, d))
    queries[:, 2] = np.round(queries[:, 2])
    if d == 5:
        queries[:, 3:] = (1.0, 0.0)
    return CertifiedKNeighborsClassifier(k, metric=metric).fit(X, y), queries


CASES = {
    "bounds and directions": {"bounds": (-2.5, 2.5), "direction": {0: "increase", 1: "decrease"}},
    "whole": {"bounds": (-3.0, 3.0), "integer": [2], "immutable": [1]},
    "a group": {"one_hot": [[3, 4]], "integer": [2], "bounds": (-3.0, 3.0), "direction": {0: "decrease"}},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("norm", "k"), [("l2", 1), ("linf", 1), ("l1", 1), ("l2", 2), ("l2", 3)])
def test_equals_enumeration(norm, k, case, smallest_step):
    threat = ThreatModel(norm, **CASES[case])
    knn, queries = problem(k, k, 9 if k == 1 else 7, 5 if case == "a group" else 4)
    queries = queries if norm == "l2" else queries[:1]  # the slow way is the second one, by linear programs
    for wanted in (None, 1) if norm == "l2" else (1,):
        found = counterfactuals(knn, queries, wanted=wanted, constraints=threat, **LONG)
        expected = [enumerated(knn, x, threat, smallest_step, wanted) for x in queries]
        expected = np.where(found.predicted == wanted, 0.0, expected)
        np.testing.assert_allclose(found.distances, expected, rtol=3e-6, atol=1e-8)
        assert found.proven.all()
        check(found, knn, threat, wanted)


def check(found, knn, threat, wanted=None):
    """What every result promises."""
    bound = threat.bind(found.X.shape[1], None)
    before = found.X[found.rows]
    np.testing.assert_array_equal(bound.repair(before, found.points.copy()), found.points)

    def predict(points):
        named = pd.DataFrame(points, columns=found.names) if hasattr(knn, "feature_names_in_") else points
        return knn.predict(named)

    labels = predict(found.points)
    np.testing.assert_array_equal(labels, found.labels)
    right = labels != found.predicted[found.rows] if wanted is None else labels == wanted
    assert right[found.found].all()
    assert (found.lower <= found.distances).all()
    np.testing.assert_allclose(bound.size(found.points - before)[found.found], found.distances[found.found])
    # What is smaller than the bound, and can be made, does not lead there.
    rng = np.random.default_rng(0)
    for entry, x in enumerate(before):
        size = min(found.lower[entry], 10.0)
        tried = x + size * rng.random((200, 1)) * bound.norm.sample(rng, 200, len(x))
        tried = bound.repair(np.tile(x, (200, 1)), tried)
        tried = tried[bound.size(tried - x) < size * (1 - 1e-9)]
        tried = tried[(tried[:, list(found.kept[entry])] == x[list(found.kept[entry])]).all(axis=1)]
        labels = predict(tried) if len(tried) else np.array([])
        stayed = labels == found.predicted[found.rows[entry]] if wanted is None else labels != wanted
        assert stayed.all()
    for entry, kept in enumerate(found.kept):
        assert (found.points[entry, list(kept)] == before[entry, list(kept)]).all()


def test_without_limits_it_is_the_exact_radius(wine):
    X, y = wine
    knn = CertifiedKNeighborsClassifier(1).fit(X[::2], y[::2] > 0)
    X = X[1::9]
    radii = knn.minimal_perturbation(X).radii
    free = counterfactuals(knn, X)
    np.testing.assert_allclose(free.distances, radii, rtol=2e-6)
    # Of two classes the other one is the wanted one, and bounds that nothing reaches are none: by another search.
    for row in range(3):
        asked = {"wanted": not free.predicted[row], "constraints": ThreatModel(bounds=(-1e3, 1e3)), **LONG}
        found = counterfactuals(knn, X[[row]], **asked)
        assert found.proven.all()
        np.testing.assert_allclose(found.distances, radii[row], rtol=2e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_minimal_perturbation_keeps_to_a_threat_model(norm, smallest_step):
    knn, queries = problem(5, 1)
    threat = ThreatModel(norm, bounds=(-2.0, 2.0), immutable=[3])
    queries = queries.clip(-2.0, 2.0)
    found = knn.minimal_perturbation(queries, threat=threat, **LONG)
    expected = [enumerated(knn, x, threat, smallest_step) for x in queries]
    np.testing.assert_allclose(found.radii, expected, rtol=1e-6, atol=1e-9)
    assert found.proven.all()
    assert (np.abs(found.witnesses) <= 2.0).all()
    np.testing.assert_array_equal(found.witnesses[:, 3], queries[:, 3])
    free = minimal_perturbation(knn.metric_, knn.X_, knn.y_, queries, norm)
    assert (found.radii >= free.radii * (1 - 1e-9)).all()
    # An attack under the same threat model finds nothing nearer.
    attacked = RegionAttack()(knn, queries, None, threat).distances
    assert (attacked >= found.lower).all()
    # Of larger changes than the budget nothing is said.
    eps = float(found.radii.min()) / 2
    within = knn.minimal_perturbation(queries, threat=ThreatModel(norm, eps, (-2.0, 2.0), [3]), **LONG)
    assert np.isinf(within.radii).all()
    assert ((within.lower >= eps * (1 - 1e-6)) & (within.lower <= found.radii)).all()


def test_an_attack_knows_directions_and_costs():
    knn, queries = problem(8, 1)
    threat = ThreatModel("l2", direction={0: "increase", 3: "decrease"}, cost={1: 10.0})
    exact = knn.minimal_perturbation(queries, threat=threat, **LONG)
    attacked = RegionAttack()(knn, queries, None, threat)
    np.testing.assert_allclose(attacked.distances, exact.radii, rtol=1e-5)
    change = attacked.adversarial - queries
    assert (change[:, 0] >= 0).all()
    assert (change[:, 3] <= 0).all()
    np.testing.assert_allclose(attacked.distances, np.linalg.norm(change * [1, 10, 1, 1], axis=1))


@pytest.fixture
def loans():
    """A classifier of a table with an age, a number of credit lines, a rate and a kind of job."""
    rng = np.random.default_rng(0)
    job = rng.integers(0, 3, 80)
    X = pd.DataFrame({"age": rng.integers(20, 70, 80) * 1.0, "lines": rng.integers(0, 9, 80) * 1.0})
    X["rate"] = rng.normal(4.0, 1.0, 80)
    for code, name in enumerate(("none", "part", "full")):
        X[f"job={name}"] = (job == code) * 1.0
    y = np.where(X["lines"] + 2 * job - X["rate"] + 0.05 * X["age"] > 4, "yes", "no")
    scale = np.array([15.0, 3.0, 1.0, 1.0, 1.0, 1.0])
    knn = CertifiedKNeighborsClassifier(1, metric=MahalanobisMetric.from_components(np.diag(1 / scale))).fit(X, y)
    return knn, X


CAN = {
    "integer": ["age", "lines"],
    "one_hot": [["job=none", "job=part", "job=full"]],
    "direction": {"age": "increase"},
    "bounds": (0.0, [100.0, 12.0, 20.0, 1.0, 1.0, 1.0]),
    "cost": {"age": 0.2, "job=none": 0.5, "job=part": 0.5, "job=full": 0.5},
}


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_several_that_differ_in_what_they_leave_alone(loans, norm):
    knn, X = loans
    rows = X[knn.predict(X) == "no"][: 3 if norm == "l2" else 1] + 0.0
    rows["rate"] += 0.1
    threat = ThreatModel(norm, **CAN)
    found = counterfactuals(knn, rows, wanted="yes", constraints=threat, n=3, **LONG)
    by_position = ThreatModel(
        norm,
        integer=[0, 1],
        one_hot=[[3, 4, 5]],
        direction={0: "increase"},
        bounds=CAN["bounds"],
        cost={0: 0.2, 3: 0.5, 4: 0.5, 5: 0.5},
    )
    check(found, knn, by_position, "yes")
    assert found.found.any()
    frame = found.to_frame()
    for _, each in frame.groupby("query"):
        assert each["rank"].tolist() == list(range(1, len(each) + 1))
        assert each["distance"].is_monotonic_increasing
        assert each["kept"].is_unique
    told = json.loads(found.to_json())
    assert [entry["change"] for entry in told] == frame["change"].tolist()
    for entry, row in zip(told, found.rows):
        for change in entry["changes"]:
            if change["feature"] != "job":
                assert change["before"] == rows.iloc[row][change["feature"]]
                assert change["after"] == entry["point"][change["feature"]]


def test_there_are_no_more_than_features_to_leave_alone():
    knn = CertifiedKNeighborsClassifier(1).fit([[0.0, 0.0], [4.0, 3.0]], ["a", "b"])
    assert len(counterfactuals(knn, [[1.0, 1.0]], n=10**15)) == 2


def test_changes_in_words(loans):
    knn, X = loans
    x = X[:1]
    found = counterfactuals(knn, x)
    values = x.to_numpy().copy()
    values[0, :3] += (1.0, 3.0, 1e-7)
    old = int(values[0, 3:].argmax())
    values[0, 3:] = np.roll(values[0, 3:], 1)
    other = {"points": values, "sizes": np.abs(values - x.to_numpy()), "groups": [np.arange(3, 6)]}
    told = replace(found, **other)
    jobs = ["none", "part", "full"]
    age, lines = int(x["age"].iloc[0]), int(x["lines"].iloc[0])
    assert told.in_words(0) == (
        f"lines {lines} → {lines + 3}, job {jobs[old]} → {jobs[(old + 1) % 3]}, age {age} → {age + 1}"
    )


@pytest.mark.parametrize("norm", NORMS)
def test_what_cannot_be_reached_is_said(norm):
    # Only along the second feature, and there not far enough; or in the wrong direction.
    knn = CertifiedKNeighborsClassifier(1).fit([[0.0, 0.0], [1.0, 4.0]], ["a", "b"])
    for options in ({"bounds": (0.0, 2.0)}, {"direction": {1: "decrease"}, "bounds": (-50.0, None)}):
        found = counterfactuals(knn, [[0.0, 0.5]], constraints=ThreatModel(norm, immutable=[0], **options), n=2)
        assert len(found) == 1
        assert not found.found.any()
        assert np.isinf(found.distances).all()
        assert np.isinf(found.lower).all()
        assert found.proven.all()
        np.testing.assert_array_equal(found.points, [[0.0, 0.5]])
        assert found.in_words(0) == "no change that can be made"
    already = counterfactuals(knn, [[0.0, 0.5]], wanted="a", n=2)
    assert already.distances.tolist() == [0.0]
    assert already.proven.all()


def test_ties_of_whole_features_are_looked_around():
    # The only whole number on the boundary ties; the prediction goes to the first of equally near instances.
    knn = CertifiedKNeighborsClassifier(1).fit([[0.0], [4.0]], ["a", "b"])
    found = counterfactuals(knn, [[0.0], [4.0]], constraints=ThreatModel("l2", integer=[0], bounds=(-9, 9)))
    assert found.points[:, 0].tolist() == [3.0, 2.0]
    assert found.proven.all()


@pytest.mark.parametrize("norm", ["l2", "linf", "l1"])
def test_from_a_tie_whole_features_are_searched_beyond_the_query(norm):
    # The query is on the boundary: the smallest step into the other region is none, and the next whole number decides.
    knn = CertifiedKNeighborsClassifier(1).fit([[0.0, 0.0], [4.0, 0.0]], ["a", "b"])
    threat = ThreatModel(norm, integer=[0, 1], bounds=(0, 3), direction={0: "increase"})
    found = counterfactuals(knn, [[2.0, 0.0]], constraints=threat, **LONG)
    assert found.points.tolist() == [[3.0, 0.0]]
    assert found.lower[0] <= found.distances[0] == 1.0
    assert found.proven.all()


def test_behind_a_scaler_it_is_told_in_original_units(loans):
    knn, X = loans
    pipeline = make_pipeline(StandardScaler(), CertifiedKNeighborsClassifier(1)).fit(X, knn.y_)
    threat = ThreatModel("l1", integer=["age", "lines"], direction={"age": "increase"}, bounds=(0.0, None))
    found = counterfactuals(pipeline, X[:2], constraints=threat, **LONG)
    assert found.found.all()
    changed = pd.DataFrame(found.points, columns=X.columns)
    assert (pipeline.predict(changed) == found.labels).all()
    assert (found.points[:, :2] % 1 == 0).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"wanted": "c"}, "wanted must be one of the classes 'a', 'b', got 'c'"),
        ({"n": 0}, "n must be a whole number of at least 1, got 0"),
        ({"constraints": "l3"}, "norm must be one of"),
        ({"constraints": ThreatModel(bounds=(0, 1))}, "instance 0 has the value 2 in feature 0"),
        ({"time_limit": 0}, "time_limit must be a positive number"),
    ],
)
def test_bad_input_is_named(arguments, message):
    knn = CertifiedKNeighborsClassifier(1).fit([[0.0], [4.0]], ["a", "b"])
    with pytest.raises(ValueError, match=message) as error:
        counterfactuals(knn, [[2.0]], **arguments)
    assert "\n" not in str(error.value)
