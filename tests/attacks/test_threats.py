"""Threat models: one message for what makes no sense, and repaired points are what the attacker may make."""

import numpy as np
import pytest

from certimetric import CertifiedKNeighborsClassifier
from certimetric.attacks import RegionAttack, SmoothedVoteAttack
from certimetric.geometry import resolve_norm
from certimetric.geometry.threat_models import ThreatModel, resolve_threat

NAMES = ["age", "size", "red", "green", "blue"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"norm": "l3"}, "norm must be one of 'l2', 'linf', 'l1'"),
        ({"norm": np.eye(3)}, "ellipsoid norm was given for 3 features, but the data have 5"),
        ({"eps": -0.1}, "eps of a threat model must be a size of at least 0 or None, got -0.1"),
        ({"eps": np.nan}, "eps of a threat model must be a size"),
        ({"eps": np.inf}, "eps of a threat model must be a size"),
        ({"eps": "0.1"}, "eps of a threat model must be a size of at least 0 or None, got '0.1'"),
        ({"bounds": 3}, r"bounds must be a pair \(lowest, highest\), got 3"),
        ({"bounds": (0, 1, 2)}, "bounds must be a pair"),
        ({"bounds": ("low", 1)}, "a bound must hold numbers, got 'low'"),
        ({"bounds": (0, [1, 2])}, r"a number or one for each of the 5 features, got shape \(2,\)"),
        ({"bounds": (np.nan, 1)}, "bounds must not be NaN"),
        ({"bounds": (0, [1, 1, -1, 1, 1])}, "the lower bound 0 of feature 2 is above the upper one, -1"),
        ({"bounds": (0.2, 0.8), "integer": [1]}, "bounds of the integer feature 1 leave no whole number"),
        ({"bounds": (0.0, 0.5), "one_hot": [[2, 3]]}, "bounds of one_hot features must let them be 0 and 1"),
        ({"immutable": "age"}, "immutable must be a sequence of features, got 'age'"),
        ({"immutable": ["weight"]}, "immutable names the unknown feature 'weight'; known are age, size"),
        ({"immutable": [5]}, "immutable names feature 5, but the data have 5 features"),
        ({"immutable": [-1]}, "immutable names feature -1, but the data have 5 features"),
        ({"immutable": [True]}, "immutable names the unknown feature True"),
        ({"immutable": range(5)}, "at least one feature that can be changed"),
        ({"integer": [1.5]}, "integer names the unknown feature 1.5"),
        ({"one_hot": 2}, "one_hot must be a sequence of groups of features, got 2"),
        ({"one_hot": [2, 3]}, "one_hot must be a sequence of features, got 2"),
        ({"one_hot": [[2]]}, "at least two features"),
        ({"one_hot": [[2, 3], [3, 4]]}, "in one one_hot group only"),
        ({"one_hot": [[2, 3]], "immutable": [2]}, "all immutable or none of them"),
        ({"direction": ["age"]}, r"direction must be a mapping of features, got \['age'\]"),
        ({"direction": {"weight": "increase"}}, "direction names the unknown feature 'weight'"),
        ({"direction": {"age": "up"}}, "direction must be 'increase' or 'decrease', got 'up' for 'age'"),
        ({"direction": {"red": "increase"}, "one_hot": [[2, 3]]}, "direction names 'red', which is in a one_hot group"),
        ({"direction": {"age": "increase", 0: "decrease"}}, "direction names a feature twice"),
        ({"cost": {"age": 0.0}}, "cost must be positive numbers, got 0.0 for 'age'"),
        ({"cost": {"age": np.inf}}, "cost must be positive numbers, got inf for 'age'"),
        ({"cost": 2.0}, "cost must be a mapping of features, got 2.0"),
    ],
)
def test_nonsense_has_one_message(settings, message):
    with pytest.raises(ValueError, match=message) as error:
        ThreatModel(**settings).bind(5, NAMES)
    assert "\n" not in str(error.value)


def test_directions_and_costs():
    threat = ThreatModel(
        "l1", bounds=(0, 9), integer=["size"], direction={"age": "increase", "size": "decrease"}, cost={"age": 2.0}
    ).bind(5, NAMES)
    told = ThreatModel.from_string("l1:bounds=0..9,integer=size,increase=age,decrease=size,cost=age:2").bind(5, NAMES)
    X = np.array([[3.5, 4.0, 0.0, 0.0, 0.0], [8.0, 1.0, 1.0, 1.0, 1.0]])
    aims = np.array([[1.0, 6.2, 1.0, -1.0, 0.0], [9.5, 0.4, 1.0, 1.0, 12.0]])
    for bound in (threat, told):
        assert bound.boxed
        # What may not grow stays where it is, what may goes as far as its bound.
        expected = [[3.5, 4.0, 1.0, 0.0, 0.0], [9.0, 0.0, 1.0, 1.0, 9.0]]
        np.testing.assert_array_equal(bound.repair(X, aims), expected)
        bound.check_instances(X)
        assert bound.size(np.array([1.0, 1.0, 0.0, 0.0, 0.0])) == 3.0
    np.testing.assert_array_equal(threat.limits(X)[0][:, :2], [[3.5, 0.0], [8.0, 0.0]])
    np.testing.assert_array_equal(threat.limits(X)[1][:, :2], [[9.0, 4.0], [9.0, 1.0]])


def test_features_by_name_and_by_position_are_the_same():
    by_name = ThreatModel(immutable=["age"], integer=["size"], one_hot=[["red", "green", "blue"]]).bind(5, NAMES)
    for other in (
        ThreatModel(immutable=[0], integer=[np.int64(1)], one_hot=[[2, 3, 4]]).bind(5),
        ThreatModel.from_string("l2:immutable=0,integer=1,one_hot=2+3+4").bind(5, NAMES),
        ThreatModel.from_string(" l2 : immutable=age, integer=size, one_hot=red+green+blue").bind(5, NAMES),
    ):
        np.testing.assert_array_equal(other.mutable, by_name.mutable)
        np.testing.assert_array_equal(other.integer, by_name.integer)
        np.testing.assert_array_equal(other.one_hot, by_name.one_hot)
    assert by_name.mutable.tolist() == [False, True, True, True, True]
    assert by_name.discrete
    assert not by_name.boxed


def test_from_string_reads_every_option():
    threat = ThreatModel.from_string("linf:eps=0.5,bounds=-1..,immutable=age+0,integer=size,one_hot=red+green/blue+x")
    assert (threat.norm, threat.eps, threat.bounds) == ("linf", 0.5, (-1.0, np.inf))
    assert (threat.immutable, threat.integer) == (["age", "0"], ["size"])
    assert threat.one_hot == [["red", "green"], ["blue", "x"]]
    assert ThreatModel.from_string("l1").eps is None
    assert ThreatModel.from_string("l1:bounds=..2").bounds == (-np.inf, 2.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("l3", "norm must be one of"),
        ("l2:epsilon=1", "has no option 'epsilon'; its options are eps, bounds, immutable, integer, one_hot"),
        ("l2:eps", "option 'eps' of threat model 'l2:eps' needs a value"),
        ("l2:eps=much", "option 'eps' of threat model 'l2:eps=much' cannot be read from 'much'"),
        ("l2:bounds=0-1", "option 'bounds' of threat model 'l2:bounds=0-1' cannot be read from '0-1'"),
        ("l2:eps=1,eps=2", "tells 'eps' twice"),
        ("l1:increase=age,decrease=debt+age", "tells 'age' twice"),
        ("l1:cost=age:1+age:2", "option 'cost' of threat model 'l1:cost=age:1.age:2' cannot be read"),
    ],
)
def test_from_string_says_what_it_cannot_read(text, message):
    with pytest.raises(ValueError, match=message):
        ThreatModel.from_string(text)


def test_resolve_takes_a_model_a_string_a_norm_and_a_matrix():
    model = ThreatModel("l1", eps=1.0)
    assert resolve_threat(model) is model
    assert resolve_threat("linf:eps=0.1").eps == 0.1
    assert resolve_threat(resolve_norm("l1")).norm.name == "l1"
    assert resolve_threat(np.eye(3)).bind(3).norm.name == "ellipsoid"
    with pytest.raises(ValueError, match="norm must be"):
        resolve_threat(None)


def test_repair_gives_the_nearest_allowed_point(rng):
    threat = ThreatModel(bounds=(-1.5, 3.2), immutable=[0], integer=[1], one_hot=[[2, 3, 4]]).bind(5)
    X = np.c_[rng.uniform(-1.5, 3.2, 200), rng.integers(-1, 4, 200), np.eye(3)[rng.integers(0, 3, 200)]]
    wished = X + 3 * rng.standard_normal(X.shape)
    repaired = threat.repair(X, wished)
    np.testing.assert_array_equal(repaired[:, 0], X[:, 0])
    # Whole numbers within −1.5 … 3.2 are −1 … 3: the nearest one of each wish.
    whole = np.arange(-1, 4)
    np.testing.assert_array_equal(repaired[:, 1], whole[np.abs(wished[:, 1, None] - whole).argmin(axis=1)])
    # Of the corners the largest entry names the nearest one: ‖w − e_i‖² = ‖w‖² − 2w_i + 1 (after the bounds).
    clipped = np.clip(wished[:, 2:], -1.5, 3.2)
    np.testing.assert_array_equal(repaired[:, 2:], np.eye(3)[clipped.argmax(axis=1)])
    threat.check_instances(repaired)
    np.testing.assert_array_equal(threat.repair(X, repaired), repaired)  # once is enough


def test_repair_leaves_its_arguments_alone(rng):
    threat = ThreatModel(bounds=(0, 1), integer=[0]).bind(2)
    X, wished = rng.random((3, 2)), rng.standard_normal((3, 2))
    before = wished.copy()
    threat.repair(X, wished)
    np.testing.assert_array_equal(wished, before)


@pytest.mark.parametrize(
    ("settings", "row"),
    [
        ({"bounds": (0, 1)}, [0.5, 1.5, 0, 1, 0]),
        ({"integer": [1]}, [0.5, 0.5, 0, 1, 0]),
        ({"one_hot": [[2, 3, 4]]}, [0.5, 0.5, 0, 1, 1]),
        ({"one_hot": [[2, 3, 4]]}, [0.5, 0.5, 0, 0, 0]),
    ],
)
def test_instances_outside_of_the_threat_model_are_refused(settings, row):
    legal = [0.5, 1.0, 0, 1, 0]
    threat = ThreatModel(**settings).bind(5)
    threat.check_instances(np.array([legal]))
    with pytest.raises(ValueError, match="instance 1 has the value"):
        threat.check_instances(np.array([legal, row]))
    # An immutable feature stays what it is, allowed or not.
    ThreatModel(**settings, immutable=[1, 2, 3, 4]).bind(5).check_instances(np.array([row]))


def test_infinite_bounds_and_none_bound_nothing():
    for bounds in (None, (None, None), (-np.inf, np.inf), (None, [np.inf, np.inf])):
        threat = ThreatModel(bounds=bounds).bind(2)
        assert not threat.boxed
        assert not threat.discrete
        far = np.array([[1e9, -1e9]])
        np.testing.assert_array_equal(threat.repair(np.zeros((1, 2)), far), far)
    one_sided = ThreatModel(bounds=([0.0, -np.inf], None)).bind(2)
    assert one_sided.boxed
    np.testing.assert_array_equal(one_sided.repair(np.zeros((1, 2)), np.array([[-1.0, -1.0]])), [[0.0, -1.0]])


def test_size_is_that_of_the_norm():
    delta = np.array([[3.0, -4.0]])
    sizes = {name: ThreatModel(name).bind(2).size(delta).item() for name in ("l2", "linf", "l1")}
    assert sizes == {"l2": 5.0, "linf": 4.0, "l1": 7.0}
    assert ThreatModel(np.diag([4.0, 1.0])).bind(2).size(delta).item() == pytest.approx(np.sqrt(52))


@pytest.mark.parametrize("attack", [RegionAttack(), SmoothedVoteAttack()])
@pytest.mark.parametrize("in_units", [False, True])
def test_a_restricted_norm_is_a_threat_with_immutable_features(rng, attack, in_units):
    X, y = rng.normal(size=(60, 3)), np.arange(60) % 3
    knn = CertifiedKNeighborsClassifier(3).fit(X[:40], y[:40])
    scale = np.array([1.0, 2.0, 0.5])
    norm = resolve_norm("l2").in_units(scale) if in_units else resolve_norm("l2")
    restricted = resolve_norm("l2").restrict([True, False, True])
    restricted = restricted.in_units(scale) if in_units else restricted
    found = attack(knn, X[40:], threat=restricted)
    told = attack(knn, X[40:], threat=ThreatModel(norm, immutable=[1]))
    assert found.success.any()
    np.testing.assert_array_equal(found.adversarial[:, 1], X[40:, 1])
    np.testing.assert_array_equal(found.adversarial, told.adversarial)
    np.testing.assert_array_equal(found.distances, told.distances)


def test_a_name_that_two_features_have_is_refused():
    with pytest.raises(ValueError, match="'age', but the data have more than one"):
        ThreatModel(immutable=["age"]).bind(3, ["age", "size", "age"])
    assert ThreatModel(immutable=["size"]).bind(3, ["age", "size", "age"]).mutable.tolist() == [True, False, True]
