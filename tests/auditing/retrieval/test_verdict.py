"""The verdict on embedding models: nothing passes without a standard, and what is in doubt stands in the headline."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")

from certimetric.auditing.retrieval.ranking import say
from certimetric.auditing.retrieval.run import RetrievalEvidence  # noqa: F401 (with its checks)
from certimetric.auditing.verdict import conclude

PROTOCOL = {"norm": "linf", "units": "pixels", "eps": [0.1], "report_eps": 0.1}


def learner(spec, clean, attacked):
    def about(value):
        return {"recall_at_1": {"mean": value, "low": value - 0.05, "high": value + 0.05}}

    return {"spec": spec, "label": spec, "clean": about(clean), "attacked": [{"eps": 0.1, "worst": about(attacked)}]}


LEARNERS = [learner("model", 0.9, 0.6), learner("raw pixels", 0.8, 0.5)]


@pytest.mark.parametrize(
    ("checks", "thresholds", "status", "words"),
    [
        ([], [], "REPORT", "no threshold was declared, so nothing is passed"),
        ([("CR110", "tip"), ("CR101", "skipped"), ("CR107", "not applicable")], [], "REPORT", "no threshold"),
        ([], [True], "PASS", "the threshold holds"),
        ([("CR109", "issue")], [], "WARN", "1 reliability check found an issue (cr109)"),
        ([("CR108", "issue")], [True, True], "WARN", "all 2 thresholds hold; 1 reliability check"),
        ([], [True, False], "FAIL", "1 threshold of 2 missed"),
        ([("CR112", "issue")], [], "FAIL", "a certificate was broken, which is an error of this library"),
        ([("CR112", "issue"), ("CR111", "issue")], [True], "FAIL", "certificate was broken"),
    ],
)
def test_status(checks, thresholds, status, words):
    told = [{"code": code, "title": code, "severity": severity} for code, severity in checks]
    judged = [{"expression": "model.recall>=0.9", "passed": passed} for passed in thresholds]
    verdict = conclude(say(PROTOCOL, LEARNERS, 0), told, judged, "model", with_titles=True)
    assert verdict["status"] == status
    assert words in verdict["sentence"]
    assert ("nothing is passed" in verdict["sentence"]) == (status == "REPORT")
