"""SARIF 2.1.0: what the standard asks of a file, by hand, and levels that are those of the audit."""

import json
import re
from collections import Counter

import pytest

from certimetric.report import sarif_json

KINDS = {"notApplicable", "pass", "fail", "review", "open", "informational"}
LEVELS = {"none", "note", "warning", "error"}


def test_it_has_what_the_standard_asks(document):
    """Sections 3.13 to 3.27: required properties, kinds and levels, and a rule for each result."""
    told = json.loads(sarif_json(document))
    assert told["version"] == "2.1.0" and told["$schema"].endswith("sarif-schema-2.1.0.json")
    (run,) = told["runs"]
    driver = run["tool"]["driver"]
    assert driver["name"] == "certimetric"
    rules = [rule["id"] for rule in driver["rules"]]
    assert len(set(rules)) == len(rules)
    for rule in driver["rules"]:
        assert rule["shortDescription"]["text"]
    for invocation in run["invocations"]:
        assert invocation["executionSuccessful"] is True
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", invocation.get("startTimeUtc", "2026-01-01T00:00:00Z"))
    for result in run["results"]:
        assert result["message"]["text"]
        assert rules[result["ruleIndex"]] == result["ruleId"]
        assert result["kind"] in KINDS and result["level"] in LEVELS
        assert (result["kind"] == "fail") == (result["level"] != "none")  # 3.27.10
        (place,) = result["locations"]
        assert re.fullmatch(r"[\w./%-]+", place["physicalLocation"]["artifactLocation"]["uri"])
    keys = Counter(tuple(sorted(result["partialFingerprints"].items())) for result in run["results"])
    named = Counter((each["code"], each["title"], each["learner"]) for each in document["checks"])
    assert max(keys.values(), default=1) == max(named.values(), default=1)


@pytest.mark.parametrize(("gravest", "level"), [("failure", "error"), ("issue", "warning")])
def test_levels_are_those_of_the_audit(make_document, gravest, level):
    document = make_document("two models")
    document["about_checks"] = {"CR104": {"gravest": gravest, "text": "Attacks are blind."}}
    document["thresholds"] = [{"expression": "model-1.recall>=0.9", "observed": 0.5, "passed": False}]
    (run,) = json.loads(sarif_json(document))["runs"]
    found = {result["ruleId"]: result for result in run["results"]}
    assert found["CR104"]["level"] == level and found["threshold"]["level"] == "error"
    assert found["CR107"]["kind"] == "notApplicable"
    (rule,) = [rule for rule in run["tool"]["driver"]["rules"] if rule["id"] == "CR104"]
    assert rule["help"]["text"] == "Attacks are blind."
