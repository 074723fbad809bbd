"""Kinds of features as the data show them, and fragile instances whose changes keep to them."""

from __future__ import annotations

import numpy as np
import pytest

from certimetric import CertifiedKNeighborsClassifier, MahalanobisMetric, audit
from certimetric.auditing.tables.feature_kinds import describe_features, find_kinds
from certimetric.auditing.tables.request import Request
from certimetric.geometry import resolve_norm

NAMES = ("weight", "age", "smokes", "colour=red", "colour=green", "colour is missing", "same")


def table(n=90, seed=0):
    """A number, a whole number, two values, a category with gaps, and a constant."""
    rng = np.random.default_rng(seed)
    colour = np.eye(3)[rng.permutation(np.arange(n) % 3)]
    age = rng.integers(18, 60, n)
    X = np.column_stack([rng.normal(70, 9, n), age, rng.integers(0, 2, n), colour, np.full(n, 3.5)])
    return X, (age + 9 * X[:, 2] + 6 * colour[:, 0] > 43).astype(int)


def test_kinds_are_what_the_data_show():
    X, _ = table()
    kinds = find_kinds(X, NAMES)
    assert kinds.names == ("number", "whole number", "0 or 1", *["one of a group"] * 3, "constant")
    assert [group.tolist() for group in kinds.groups] == [[3, 4, 5]]
    # 0/1 columns of one stem that are not 1 in turns are no group; names of pandas.get_dummies are known too.
    apart = X.copy()
    apart[0, 3:6] = 1.0
    assert find_kinds(apart, NAMES).names[3] == "0 or 1"
    assert len(find_kinds(X, ["a", "b", "c", "hair_red", "hair_green", "hair_", "d"]).groups) == 1
    # Values that were filled in are no evidence.
    halves, imputed = X.copy(), np.zeros(X.shape, dtype=bool)
    halves[5, 1], imputed[5, 1] = 38.5, True
    assert find_kinds(halves, NAMES, imputed).names[1] == "whole number"
    assert find_kinds(halves, NAMES).names[1] == "number"


def test_what_could_occur():
    X, _ = table()
    norm = resolve_norm("l2")
    threat = find_kinds(X, NAMES).threat(norm).bind(7)
    moved = threat.repair(
        X[:2], np.array([[70.25, 33.4, 0.6, 0.2, 0.5, 0.3, 9.0], [1.0, 999.0, -3.0, 0.9, 0.5, 0.3, 3.0]])
    )
    np.testing.assert_array_equal(moved[0], [70.25, 33, 1, 0, 1, 0, 3.5])
    np.testing.assert_array_equal(moved[1], [1.0, X[:, 1].max(), 0, 1, 0, 0, 3.5])
    assert find_kinds(X[:, [0, 6]], ["a", "b"]).threat(norm) is None
    # A group that may change in part only cannot change.
    partly = norm.restrict(np.array([True, True, True, False, True, True, True]))
    assert find_kinds(X, NAMES).threat(partly).bind(7).mutable.tolist() == [True, True, True, *[False] * 4]


@pytest.mark.parametrize("norm", ["l2", pytest.param("restricted", marks=pytest.mark.slow)])
def test_fragile_instances_keep_to_the_kinds_of_features(tmp_path, norm):
    X, y = table()
    mutable = np.array([True, True, False, True, True, True, True])
    given = resolve_norm("l2").restrict(mutable) if norm == "restricted" else norm
    result = audit(X, y, feature_names=NAMES, learners=["euclidean"], repeats=1, norm=given, out=tmp_path)
    threat = find_kinds(X, NAMES).threat(resolve_norm("l2")).bind(7)
    (learner,) = result.document["learners"]
    metric = MahalanobisMetric.load(tmp_path / result.document["reproduction"]["metric_files"][0]["file"])
    part = Request(X, y, learners=["euclidean"], repeats=1).part(0)
    knn = CertifiedKNeighborsClassifier(3, metric=metric).fit(X[part.train], y[part.train])
    assert [entry["kinds_kept"] for entry in learner["fragile"]] == [True] * 6
    for entry in learner["fragile"]:
        before, after = X[entry["index"]].copy(), X[entry["index"]].copy()
        for change in entry["changes"]:
            assert change["before"] == before[NAMES.index(change["name"])]
            after[NAMES.index(change["name"])] = change["after"]
        np.testing.assert_array_equal(threat.repair(before[None], after[None].copy())[0], after)
        assert str(knn.predict([after])[0]) == entry["adversarial_prediction"] != entry["predicted"]
        size = np.linalg.norm((after - before) / part.scale)
        assert entry["change_size"] == pytest.approx(size)
        assert entry["radius"] <= entry["attack_distance"] <= entry["change_size"] * (1 + 1e-9)
        if norm == "restricted":
            assert "smokes" not in [change["name"] for change in entry["changes"]]
    html = result.to_html()
    assert "that could occur: whole numbers stay whole" in html
    assert "What one standard deviation is" in html


def test_one_standard_deviation_of_each_feature():
    X, y = table()
    request = Request(X, y, learners=["euclidean"], feature_names=NAMES)
    part = request.part(0)
    told, train = describe_features(request, part), part.train
    assert [entry["name"] for entry in told] == list(NAMES)
    assert [entry["std"] for entry in told[:6]] == pytest.approx(X[train, :6].std(axis=0).tolist())
    assert told[6] == {"name": "same", "kind": "constant", "std": None, "low": 3.5, "high": 3.5}
    assert told[1]["kind"] == "whole number"
    assert (told[1]["low"], told[1]["high"]) == (X[:, 1].min(), X[:, 1].max())
