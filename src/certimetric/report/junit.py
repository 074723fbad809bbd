"""JUnit XML: thresholds and reliability checks as test cases, for the test panes of CI services."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

from certimetric.report.document import Finding
from certimetric.report.findings import findings_of

_SKIPPED = ("skipped", "not applicable")


def junit_xml(document: Mapping[str, Any]) -> str:
    """The audit as JUnit XML: one test case for each threshold and for each check.

    A missed threshold and a check with an *issue* are failures, a check that was *skipped* or is *not applicable* is
    skipped; *passed* and *tip* pass, a tip keeping its message as output. Of a comparison of two audits the cases are
    its figures, thresholds and checks, and what has become worse is a failure.

    Parameters
    ----------
    document : dict
        Document of an audit, or of a comparison.

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
    found = findings_of(document)
    cases = [*map(_case, found.cases)]
    counts = {
        "tests": str(len(cases)),
        "failures": str(sum(case.find("failure") is not None for case in cases)),
        "skipped": str(sum(case.find("skipped") is not None for case in cases)),
    }
    suites = ElementTree.Element("testsuites", counts)
    suite = ElementTree.SubElement(suites, "testsuite", {"name": found.name, **counts, "errors": "0"})
    if found.started:
        suite.set("timestamp", found.started)
    if found.seconds is not None:
        suite.set("time", f"{found.seconds:.3f}")
    suite.extend(cases)
    ElementTree.indent(suites)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(suites, encoding="unicode")}\n'


def _case(found: Finding) -> ElementTree.Element:
    learner = f" [{found.learner}]" if found.learner else ""
    place = f"certimetric.{found.place}{f'.{found.rule}' if found.place == 'checks' else ''}"
    case = ElementTree.Element("testcase", classname=place, name=f"{found.title}{learner}")
    if found.outcome == "issue":
        ElementTree.SubElement(case, "failure", type=found.rule, message=found.message).text = found.message
    elif found.outcome in _SKIPPED:
        ElementTree.SubElement(case, "skipped", message=f"{found.outcome}: {found.message}")
    elif found.outcome == "tip":
        ElementTree.SubElement(case, "system-out").text = found.message
    return case
