"""``certimetric compare``: files, exit codes, and what is wrong."""

import copy
import json

import numpy as np
import pytest
from sklearn.datasets import load_iris

from certimetric import AuditResult, audit


@pytest.fixture(scope="module")
def released():
    X, y = load_iris(return_X_y=True)
    return audit(X[::2], y[::2], learners=["euclidean"], repeats=1, eps=[0.3], noise=[])


@pytest.fixture
def here(released, tmp_path):
    """The audit of a release; the same again; one that is wrong on 20 rows more; and one of other data."""
    worse = copy.deepcopy(released.document)
    (learner,) = worse["learners"]
    wrong = np.array([int(each) for each in learner["outcomes"]["error"]])
    wrong[np.flatnonzero(wrong == 0)[:20]] = 1
    learner["outcomes"]["error"] = "".join(map(str, wrong))
    learner["summary"]["error"]["mean"] = float(wrong.mean())
    other = copy.deepcopy(released.document)
    other["data"]["sha256"] = "another"
    for name, document in {"a": released.document, "same": released.document, "worse": worse, "other": other}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(AuditResult(document).to_json())
    return tmp_path


def test_a_regression_fails_where_it_shall(run, here):
    done = run("compare", "a", "worse", "--junit", "c.xml", "--sarif", "c.sarif")
    assert (done.code, done.err) == (0, "")
    assert "REGRESSION: 1 figure became worse: Error of euclidean" in done.out
    assert (here / "certimetric-compare" / "compare.html").exists()
    assert json.loads((here / "certimetric-compare" / "compare.json").read_text())["verdict"]["status"] == "REGRESSION"
    assert "<failure" in (here / "c.xml").read_text()
    (ran,) = json.loads((here / "c.sarif").read_text())["runs"]
    assert [result["level"] for result in ran["results"]].count("error") == 1
    assert run("compare", "a", "worse", "--fail-on-regression").code == 1
    assert run("compare", "a", "worse", "--fail-on-regression", "--tolerance", "0.95").code == 0
    assert run("compare", "a", "same", "--fail-on-regression").code == 0
    assert run("compare", "worse", "a", "--fail-on-regression").code == 0


@pytest.mark.parametrize(
    ("arguments", "culprit"),
    [
        (["a", "other", "--fail-on-regression"], "no figure of these audits compares"),
        (["a", "missing"], "missing"),
        (["a", "same", "--tolerance", "much"], "--tolerance"),
        (["a", "same", "--tolerance", "2"], "--tolerance must be a share from 0 to 1, got '2'"),
        (["a", "same", "--sarif", "a/results.json/x"], "--sarif"),
        (["a", "same", "--out", "a/results.json"], "a/results.json"),
        (["a", "same", "--sarif", "same/results.json"], "would be overwritten"),
        (["a", "same", "--junit", "both", "--sarif", "both"], "--junit and --sarif must be two files"),
        (["a"], "AFTER"),
    ],
)
def test_what_is_wrong_is_told_in_a_line(run, here, arguments, culprit):
    done = run("compare", *arguments)
    assert done.code == 2 and culprit in done.err and len(done.err.splitlines()) == 1


DAMAGES = {
    "a section": lambda document: {**document, "reproduction": "none"},
    "a check": lambda document: document["checks"][0].pop("code") and document,
}


@pytest.mark.parametrize("what", [*DAMAGES, "nested"])
def test_damaged_results_are_told_in_a_line(run, here, what):
    file = here / "worse" / "results.json"
    document = json.loads(file.read_text())
    file.write_text("[" * 100_000 if what == "nested" else json.dumps(DAMAGES[what](document)))
    for command in (["report", "worse"], ["compare", "a", "worse"], ["compare", "worse", "a", "--junit", "j.xml"]):
        done = run(*command)
        assert done.code == 2 and "worse" in done.err and len(done.err.splitlines()) == 1
    assert not (here / "report.html").exists()


def test_a_report_is_not_written_over_the_results(run, here):
    before = (here / "a" / "results.json").read_text()
    for told in ("a", "a/results.json"):
        done = run("report", told, "-o", "a/results.json")
        assert done.code == 2 and "would be overwritten" in done.err
    assert (here / "a" / "results.json").read_text() == before
