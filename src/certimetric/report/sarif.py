"""SARIF 2.1.0: thresholds and reliability checks as results, for the tools in which findings of security are kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from certimetric.report.document import Finding
from certimetric.report.findings import findings_of

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/os/schemas/sarif-schema-2.1.0.json"
# Kind and level by outcome; the level of whatever did not fail is "none". What was skipped is open: nobody looked.
_OUTCOMES = {
    "issue": ("fail", "warning"),
    "tip": ("fail", "note"),
    "passed": ("pass", "none"),
    "not applicable": ("notApplicable", "none"),
    "skipped": ("open", "none"),
}
_RULES = {
    "threshold": ("Declared threshold", "A figure must reach the value that was declared for it."),
    "figure": ("Regression of a figure", "A figure must not be worse than before by more than the tolerance."),
}


def sarif_json(document: Mapping[str, Any], *, artifact: str = "results.json") -> str:
    """The audit as SARIF 2.1.0: a result for each threshold and each check, a rule for each code.

    A missed threshold, a figure that has become worse and an issue that fails an audit are errors, other issues are
    warnings, tips are notes; what passed, was skipped or does not apply is there under its kind. A result keeps its
    fingerprint from run to run.

    Parameters
    ----------
    document : dict
        Document of an audit of any kind, or of a comparison.
    artifact : str
        Address of the file that results are about.

    Returns
    -------
    json : str

    Raises
    ------
    ValueError
        The document has another schema or lacks a section.

    References
    ----------
    OASIS (2020), *Static Analysis Results Interchange Format (SARIF) version 2.1.0* [oasis2020sarif].

    Examples
    --------
    >>> empty = dict.fromkeys(("data", "protocol", "learners", "checks", "thresholds", "verdict", "reproduction"), {})
    >>> judged = {"expression": "lmnn.accuracy>=0.9", "observed": 0.8, "passed": False}
    >>> audit = {"schema": "certimetric.audit/1", **empty, "data": {"name": "wine"}, "thresholds": [judged]}
    >>> (result,) = json.loads(sarif_json(audit))["runs"][0]["results"]
    >>> result["ruleId"], result["level"], result["message"]["text"]
    ('threshold', 'error', 'lmnn.accuracy>=0.9 does not hold: observed 0.8')
    """
    found = findings_of(document)
    titles = {each.rule: each.title for each in found.cases}
    codes = list(titles)
    told = []
    for code in codes:
        title, text = _RULES.get(code, (titles[code], (found.about.get(code) or {}).get("text", "")))
        about = {"id": code, "name": title, "shortDescription": {"text": title}}
        told.append(about | ({"fullDescription": {"text": text}, "help": {"text": text}} if text else {}))
    driver = {"name": "certimetric", **({"version": found.version} if found.version else {}), "rules": told}
    run = {
        "tool": {"driver": driver},
        "automationDetails": {"description": {"text": found.name}},
        "invocations": [
            {
                "executionSuccessful": True,
                **({"commandLine": found.command} if found.command else {}),
                **({"startTimeUtc": found.started.replace("+00:00", "Z")} if found.started else {}),
            }
        ],
        "results": [_result(each, codes.index(each.rule), found.about, artifact) for each in found.cases],
    }
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, ensure_ascii=False, indent=1)


def _result(found: Finding, index: int, about: Mapping[str, Any], artifact: str) -> dict[str, Any]:
    kind, level = _OUTCOMES[found.outcome]
    fails = found.place != "checks" or (about.get(found.rule) or {}).get("gravest") == "failure"
    place: dict[str, Any] = {"physicalLocation": {"artifactLocation": {"uri": artifact}}}
    if found.learner:
        place["logicalLocations"] = [{"name": found.learner, "kind": "object"}]
    identity = "\n".join([found.place, found.rule, found.title, found.learner or ""])
    return {
        "ruleId": found.rule,
        "ruleIndex": index,
        "kind": kind,
        "level": "error" if found.outcome == "issue" and fails else level,
        "message": {"text": found.message or found.title},
        "locations": [place],
        "partialFingerprints": {"certimetric/v1": hashlib.sha256(identity.encode()).hexdigest()[:32]},
    }
