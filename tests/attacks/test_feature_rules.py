"""Rules by name become a threat model."""

from __future__ import annotations

import numpy as np
import pytest

from certimetric.attacks import ThreatModel
from certimetric.attacks.feature_rules import FeatureRules

NAMES = ["age", "income, net", "job=clerk", "job=smith"]
COLUMNS = {"age": ("age",), "income, net": ("income, net",), "job": ("job=clerk", "job=smith")}
RULES = """
one_hot = [["job=clerk", "job=smith"]]
[age]
bounds = [18, inf]
integer = true
["income, net"]
bounds = ["", 9000]
[job]
immutable = true
"""


def test_rules_are_added_to_what_is_said_already():
    threat = FeatureRules.from_toml(RULES).threat(ThreatModel("linf", eps=2.0, bounds=(0, 100_000)), NAMES, COLUMNS)
    bound = threat.bind(4)
    assert bound.eps == 2.0
    np.testing.assert_array_equal(bound.low, [18, 0, 0, 0])
    np.testing.assert_array_equal(bound.high, [np.inf, 9000, 100_000, 100_000])
    assert bound.mutable.tolist() == [True, True, False, False]
    assert bound.integer.tolist() == [True, False, False, False]
    assert [group.tolist() for group in bound.one_hot] == [[2, 3]]


def test_a_column_may_stand_for_its_features_in_a_threat_too():
    threat = FeatureRules().threat(ThreatModel(immutable=["job", 0]), NAMES, COLUMNS)
    assert threat.bind(4).mutable.tolist() == [False, True, False, False]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[age", "this is no TOML"),
        ("age = 3", r"feature 'age' must have a table of its own, \[age\]"),
        ("[age]\nbound = [1, 2]", r"'age' has 'bound' \(did you mean 'bounds'"),
        ("[age]\nbounds = [2, 1]", "bounds of feature 'age' must be"),
        ("[age]\nbounds = 3", "bounds of feature 'age' must be"),
        ("[age]\ncost = -1", "cost of feature 'age' must be a positive number"),
        ('[age]\ndirection = "up"', "direction of feature 'age' must be"),
        ('[age]\nimmutable = "yes"', "immutable of feature 'age' must be true or false"),
        ('one_hot = "job"', "one_hot must be a list of lists"),
        ("[ages]\nimmutable = true", r"'ages', which is not there \(did you mean 'age'"),
        ("[job]\nbounds = [0, 1]", "bounds is for numbers, and 'job' is a category"),
    ],
)
def test_what_makes_no_sense_is_told_in_one_sentence(text, told, tmp_path):
    (tmp_path / "rules.toml").write_text(text)
    with pytest.raises(ValueError, match=told) as caught:
        FeatureRules.read(tmp_path / "rules.toml").threat(ThreatModel(), NAMES, COLUMNS)
    assert "\n" not in str(caught.value)
