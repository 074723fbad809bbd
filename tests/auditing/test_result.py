"""Results: frames, files, and the report rendered again from the file alone."""

from __future__ import annotations

import json

import pytest

from certimetric import AuditResult


def test_frame_has_a_row_for_each_learner_and_split(iris_audit):
    frame = iris_audit.to_frame()
    assert len(frame) == 9
    quoted = iris_audit.document["protocol"]["report_eps"]
    assert {"error", "noise_error@0.25", f"certified@{quoted:g}", "median_radius", "fit_seconds"} <= set(frame.columns)
    means = frame.groupby("learner", sort=False)["error"].mean()
    assert means.tolist() == pytest.approx(iris_audit.summary()["error"].tolist())


def test_saved_results_render_the_same_report(iris_audit, tmp_path):
    results, report = iris_audit.save(tmp_path / "new")
    loaded = AuditResult.load(results)
    assert loaded.document == iris_audit.document
    assert loaded.to_html() == report.read_text(encoding="utf-8") == iris_audit.to_html()
    assert AuditResult.load(tmp_path / "new").to_json() == iris_audit.to_json()
    assert iris_audit.to_dict() == iris_audit.document
    assert iris_audit.to_dict() is not iris_audit.document


def test_report_shows_the_figures(iris_audit):
    html = iris_audit.to_html(title="A title of mine")
    assert "A title of mine" in html
    error = iris_audit.document["learners"][0]["summary"]["error"]["mean"]
    assert f"{100 * error:.1f}" in html
    for learner in iris_audit.document["learners"]:
        assert learner["label"] in html
    for check in iris_audit.document["checks"]:
        assert check["code"] in html


def test_notebook_and_terminal(iris_audit):
    assert "iris" in iris_audit._repr_html_()
    assert repr(iris_audit).startswith("AuditResult of iris: FAIL")


@pytest.mark.parametrize(
    ("content", "culprit"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[1]", "list"),
        (json.dumps({"schema": "certimetric.bench/1"}), "certimetric.bench/1"),
        (json.dumps({"schema": "certimetric.audit/1"}), "results.json"),
    ],
)
def test_foreign_files(content, culprit, tmp_path):
    file = tmp_path / "results.json"
    file.write_text(content)
    with pytest.raises(ValueError) as caught:
        AuditResult.load(file)
    assert culprit in str(caught.value)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"results\.json"):
        AuditResult.load(tmp_path)
