"""Comparisons of documents: nothing changes to itself, what does not compare says why, and what fell fails."""

import copy
import json
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from certimetric.report import junit_xml, sarif_json
from certimetric.report.changes.compare import compare_documents
from certimetric.report.changes.outcomes import pack
from certimetric.report.changes.page import comparison_table, render_comparison


def with_rows(document, hits, key="recall_at_1", n=200):
    """Outcomes of ``n`` queries for the first model, of which so many count, and its figure."""
    document["data"]["tested"] = {"sha256": "rows", "rows": n, "tests": n}
    learner = document["learners"][0]
    learner["outcomes"] = {key: pack(np.arange(n) < hits)}
    learner["clean"][key] = {"mean": hits / n, "low": hits / n - 0.07, "high": hits / n + 0.07}
    return document


@pytest.fixture
def pair(make_document):
    document = make_document("two models")
    return with_rows(document, 180), copy.deepcopy(document)


def outcome(document, key, learner="model-1"):
    return next(each for each in document["figures"] if (each["learner"], each["key"]) == (learner, key))


def test_nothing_changes_from_an_audit_to_itself(document):
    told = compare_documents(document, copy.deepcopy(document))
    assert {each["outcome"] for each in told["figures"]} <= {"same", "not judged", "not comparable"}
    assert {each["outcome"] for each in told["rules"]} <= {"still"}
    assert told["verdict"]["status"] == "NO REGRESSION" or not told["verdict"]["judged"]
    page = render_comparison(told)
    assert "<script>alert" not in page.replace("\\u003c", "<").partition('id="audit-document"')[0]


@pytest.mark.parametrize(("hits", "tolerance", "expected"), [
    (150, 0.01, "regression"),
    (150, 0.2, "tolerated"),
    (178, 0.0, "no evidence"),
    (195, 0.0, "improved"),
])  # fmt: skip
def test_the_same_rows_compare_in_pairs(pair, hits, tolerance, expected):
    before, after = pair
    figure = outcome(compare_documents(before, with_rows(after, hits), tolerance=tolerance), "recall_at_1")
    assert figure["outcome"] == expected
    assert figure["rows"] == {"tested": 200, "gained": max(hits - 180, 0), "lost": max(180 - hits, 0)}
    assert figure["change"]["low"] <= figure["change"]["mean"] == pytest.approx((hits - 180) / 200)


def test_pairs_see_what_intervals_hide(pair):
    """All of 10 rows that differ fall: chance does that once in 512, but the intervals of both overlap widely."""
    before, after = pair
    with_rows(after, 170)
    assert outcome(compare_documents(before, after, tolerance=0), "recall_at_1")["outcome"] == "regression"
    after["data"]["tested"] = {"sha256": "others", "rows": 200, "tests": 200}
    figure = outcome(compare_documents(before, after, tolerance=0), "recall_at_1")
    assert (figure["how"], figure["outcome"]) == ("two intervals", "no evidence")


def test_what_does_not_compare_says_why(pair):
    before, after = pair
    after["protocol"]["norm"] = "l2"
    told = compare_documents(before, after)
    assert outcome(told, "recall_at_1_attacked")["reason"].startswith("with other norm: linf in the first, l2")
    assert outcome(told, "recall_at_1")["outcome"] == "same"
    assert any(remark.startswith("Not comparable, with other norm") for remark in told["remarks"])
    after = copy.deepcopy(before)
    after["protocol"]["report_eps"] = after["protocol"]["eps"][0]
    assert "at ε = " in outcome(compare_documents(before, after), "recall_at_1_attacked")["reason"]
    after["data"]["sha256"] = "other"
    told = compare_documents(before, after)
    assert told["verdict"] == {
        "status": "NOT COMPARABLE",
        "judged": 0,
        "sentence": "No figure of these audits compares.",
    }
    assert {each["outcome"] for each in told["figures"]} == {"not comparable"}


def test_two_kinds_of_audits_do_not_compare(make_document):
    with pytest.raises(ValueError, match="the audits are of different kinds"):
        compare_documents(make_document("digits"), make_document("two models"))


def test_the_only_model_of_another_name_is_the_same_one(pair):
    before, after = pair
    after["learners"][0]["spec"] = "model-1-b"
    told = compare_documents(before, with_rows(after, 100))
    assert outcome(told, "recall_at_1", "model-1-b")["outcome"] == "regression"
    assert "model-1-b is compared with model-1 of the first audit: each is the only one of its name." in told["remarks"]
    for learner in before["learners"]:
        learner["spec"] = f"old {learner['spec']}"
    with pytest.raises(ValueError, match="no model in common"):
        compare_documents(before, after)


def test_a_threshold_and_a_check_that_fall_are_a_regression(pair):
    before, after = pair
    for document, held in ((before, True), (after, False)):
        document["thresholds"] = [{"expression": "model-1.recall>=0.9", "observed": 0.9, "passed": held}]
        document["checks"] = [
            {"code": "CR108", "title": "Collapsed", "severity": "passed" if held else "issue", "learner": "model-1",
             "message": "It is."}
        ]  # fmt: skip
    told = compare_documents(before, after)
    assert [(each["code"], each["outcome"]) for each in told["rules"]] == [
        (None, "regression"),
        ("CR108", "regression"),
    ]
    assert told["verdict"]["status"] == "REGRESSION"
    assert [each["outcome"] for each in compare_documents(after, before)["rules"]] == ["mended", "mended"]
    before["checks"], before["thresholds"] = [], []
    assert {each["outcome"] for each in compare_documents(before, after)["rules"]} == {"unknown"}


def test_findings_are_what_became_worse(pair):
    before, after = pair
    told = compare_documents(before, with_rows(after, 100), command="certimetric compare a b")
    worse = [each for each in told["figures"] if each["outcome"] == "regression"]
    assert worse
    assert len(list(ElementTree.fromstring(junit_xml(told)).iter("failure"))) == len(worse)
    (run,) = json.loads(sarif_json(told))["runs"]
    assert sum(result["level"] == "error" for result in run["results"]) == len(worse)
    header, rows = comparison_table(told)
    assert len(rows) == len(told["figures"]) and {len(row) for row in rows} == {len(header)}
    assert f"{len(worse)} figure" in told["verdict"]["sentence"] and "REGRESSION" in render_comparison(told)
