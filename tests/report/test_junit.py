"""JUnit XML: one case a threshold and a check, with the outcome that a build server understands."""

import xml.etree.ElementTree as ElementTree

from certimetric.report import junit_xml


def test_counts_and_outcomes(document):
    root = ElementTree.fromstring(junit_xml(document))
    cases = list(root.iter("testcase"))
    assert len(cases) == len(document["checks"]) + len(document["thresholds"])
    failures = sum(check["severity"] == "issue" for check in document["checks"])
    failures += sum(not threshold["passed"] for threshold in document["thresholds"])
    skipped = sum(check["severity"] in ("skipped", "not applicable") for check in document["checks"])
    assert len(list(root.iter("failure"))) == failures
    assert len(list(root.iter("skipped"))) == skipped
