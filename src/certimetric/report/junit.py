"""JUnit XML: thresholds and reliability checks as test cases, for the test panes of CI services."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

from certimetric.report.document import number
from certimetric.report.formatting import plain
from certimetric.report.views import view_of

_SKIPPED = ("skipped", "not applicable")


def junit_xml(document: Mapping[str, Any]) -> str:
    """The audit as JUnit XML: one test case for each threshold and for each check.

    A missed threshold and a check with an *issue* are failures, a check that was *skipped* or is *not applicable* is
    skipped; *passed* and *tip* pass, a tip keeping its message as output.

    Parameters
    ----------
    document : dict
        Audit document.

    Returns
    -------
    xml : str

    Raises
    ------
    ValueError
        The document has another schema or lacks a section.

    Examples
    --------
    >>> empty = dict.fromkeys(("data", "protocol", "learners", "checks", "thresholds", "verdict", "reproduction"), {})
    >>> print(junit_xml({"schema": "certimetric.audit/1", **empty, "data": {"name": "wine"}}))
    <?xml version="1.0" encoding="UTF-8"?>
    <testsuites tests="0" failures="0" skipped="0">
      <testsuite name="certimetric audit of wine" tests="0" failures="0" skipped="0" errors="0" />
    </testsuites>
    """
    document = view_of(document).document
    cases = [_threshold(entry) for entry in document["thresholds"]] + [_check(entry) for entry in document["checks"]]
    counts = {
        "tests": str(len(cases)),
        "failures": str(sum(case.find("failure") is not None for case in cases)),
        "skipped": str(sum(case.find("skipped") is not None for case in cases)),
    }
    suites = ElementTree.Element("testsuites", counts)
    named = {"name": f"certimetric audit of {document['data']['name']}", **counts, "errors": "0"}
    suite = ElementTree.SubElement(suites, "testsuite", named)
    if started := document["reproduction"].get("started"):
        suite.set("timestamp", str(started))
    if (seconds := number(document["reproduction"].get("wall_seconds"))) is not None:
        suite.set("time", f"{seconds:.3f}")
    suite.extend(cases)
    ElementTree.indent(suites)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(suites, encoding="unicode")}\n'


def _threshold(entry: Mapping[str, Any]) -> ElementTree.Element:
    case = ElementTree.Element("testcase", classname="certimetric.thresholds", name=entry["expression"])
    if entry["passed"] is not True:
        observed = plain(number(entry["observed"]), 4)
        message = f"{entry['expression']} does not hold: observed {observed}"
        ElementTree.SubElement(case, "failure", type="threshold", message=message).text = message
    return case


def _check(entry: Mapping[str, Any]) -> ElementTree.Element:
    learner = f" [{entry['learner']}]" if entry.get("learner") else ""
    case = ElementTree.Element(
        "testcase", classname=f"certimetric.checks.{entry['code']}", name=f"{entry['title']}{learner}"
    )
    severity, message = entry["severity"], entry["message"]
    if severity == "issue":
        ElementTree.SubElement(case, "failure", type=entry["code"], message=message).text = message
    elif severity in _SKIPPED:
        ElementTree.SubElement(case, "skipped", message=f"{severity}: {message}")
    elif severity == "tip":
        ElementTree.SubElement(case, "system-out").text = message
    return case
