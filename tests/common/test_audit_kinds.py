"""What a kind of audit costs: one class of evidence and one view; and what holds of every kind and every check."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest

from certimetric.auditing import CHECKS, KINDS, AuditResult
from certimetric.auditing.checks import STATUSES, Fine, Outcome, check, checks_of, run_checks
from certimetric.auditing.run import Evidence, Gathered, run
from certimetric.auditing.thresholds import parse_threshold
from certimetric.report import junit_xml
from certimetric.report.comparison import make_column
from certimetric.report.view import PLACES, View
from certimetric.report.views import VIEWS

DOCS = Path(__file__).parents[2] / "docs"
SCHEMA = "toy.audit/1"


class Scales(Evidence):
    """Kitchen scales, by how far they are off."""

    scope, schema = "toy", SCHEMA

    def __init__(self, errors, fail_under=()):
        thresholds = [parse_threshold(text, list(errors), figures={"exact": False}) for text in fail_under]
        super().__init__(SimpleNamespace(errors=errors, thresholds=thresholds))

    def options(self):
        return {"errors": self.request.errors}

    def command(self):
        return f"weigh({self.request.errors})"

    def gather(self, store, counting):
        learners = [
            {"spec": name, "label": name.title(), "exact": 1 - error} for name, error in self.request.errors.items()
        ]
        computed = {"computed": len(learners), "reused": 0, "failed": 0}
        return Gathered({"name": "flour"}, {}, learners, self.request.errors, computed)

    def recommend(self, found):
        return min(range(len(found.learners)), key=lambda i: self.request.errors[found.learners[i]["spec"]])

    def observe(self, found, threshold, position):
        return found.learners[position]["exact"]

    def say(self, found, recommended):
        return [f"{found.learners[recommended]['label']} is the most exact"]


class ScalesView(View):
    """Kitchen scales on a page."""

    schema, noun, corner = SCHEMA, "scale", "Scale"

    @cached_property
    def columns(self):
        return [make_column([{"mean": each["exact"]} for each in self.learners], "exact", "Exact", "", "%", "higher")]


@pytest.fixture
def toy(monkeypatch):
    """A toy kind of audit with a check, in the lists as a folder of its own would be."""
    monkeypatch.setattr("certimetric.auditing.checks.CHECKS", CHECKS[:])
    monkeypatch.setattr("certimetric.report.views.VIEWS", [*VIEWS, ScalesView])

    @check("TY001", "Nothing is off by half", "toy", each=lambda errors: errors.items())
    def off_by_half(errors, error):
        """What is off by half is no scale."""
        return Outcome("issue", f"It is off by {error:.0%}.") if error >= 0.5 else Fine()

    return Scales


def test_a_kind_of_audit_is_evidence_and_a_view(toy, tmp_path):
    result = run(
        toy({"spring": 0.1, "beam": 0.02}, ["exact=0.9", "spring.exact=0.95"]), out=tmp_path, title="My scales"
    )
    verdict = result.document["verdict"]
    assert (result.status, verdict["recommended"]) == ("FAIL", "beam")
    assert verdict["sentence"] == "Beam is the most exact; 1 threshold of 2 missed: spring.exact>=0.95."
    assert [entry["passed"] for entry in result.document["thresholds"]] == [True, False]
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page == AuditResult.load(tmp_path).to_html(title="My scales")
    for section in ("verdict", "checks", "comparison", "reproduction"):
        assert f'<section id="{section}"' in page and f'<a href="#{section}">' in page
    assert "TY001" in page and "weigh(" in page
    suite = ElementTree.fromstring(junit_xml(result.document)).find("testsuite")
    assert (suite.get("tests"), suite.get("failures")) == ("3", "1")
    assert result.table() == (["Scale", "Exact [%]"], [["Spring", "90.0"], ["Beam", "98.0 *"]])
    assert result.to_frame().to_dict("list") == {"scale": ["spring", "beam"], "exact": [0.9, 0.98]}
    with pytest.raises(ValueError, match="holds the report of another audit"):
        run(toy({"spring": 0.2}), out=tmp_path)


def test_nothing_passes_without_a_standard_whatever_the_kind(toy):
    assert run(toy({"spring": 0.1})).status == "REPORT"
    assert run(toy({"spring": 0.1}, ["exact=0.5"])).status == "PASS"
    assert run(toy({"spring": 0.7})).status == "WARN"


def test_a_check_is_a_function(toy):
    """One function: every audit of its scope tells it, those of other scopes do not."""

    @check("TY002", "Scales are few", "toy", severity="failure")
    def few(errors):
        """More than two scales confuse the cook."""
        return Outcome("passed" if len(errors) < 3 else "issue", f"{len(errors)} scales.")

    told = [(entry["code"], entry["severity"], entry["learner"]) for entry in run_checks("toy", {"a": 0.1, "b": 0.9})]
    assert told == [("TY001", "issue", "b"), ("TY001", "passed", None), ("TY002", "passed", None)]
    assert run(Scales({"a": 0.1, "b": 0.2, "c": 0.3})).status == "FAIL"
    assert not {"TY001", "TY002"} & {each.code for kind in KINDS for each in checks_of(kind.scope)}
    with pytest.raises(ValueError, match="there is a check TY002 of the scope 'toy' already"):
        check("TY002", "Again", "toy")(few.run)


def test_no_check_passes_silently(toy):
    assert [(entry["severity"], entry["learner"]) for entry in run_checks("toy", {})] == [("not applicable", None)]

    @check("TY003", "Loud", "toy", severity="tip")
    def loud(errors):
        """A tip that cries issue is a mistake of whoever wrote it."""
        return Outcome("issue", "!")

    with pytest.raises(ValueError, match="check TY003 of severity 'tip' says 'issue'"):
        run_checks("toy", {})


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.scope)
def test_every_kind_has_a_view_and_checks(kind):
    (view,) = [view for view in VIEWS if view.schema == kind.schema]
    assert all(block.place in PLACES for block in view.blocks)
    codes = [each.code for each in checks_of(kind.scope)]
    assert codes == sorted(set(codes)) != []


def test_every_check_is_in_the_documentation():
    text = "".join(page.read_text(encoding="utf-8") for page in sorted(DOCS.glob("*audit*.md")))
    assert [each.code for each in CHECKS if each.code not in text] == []
    assert len(STATUSES) == len(set(STATUSES)) == 5
