"""The empirical robustness score on the page: radar chart and table, with any names, and documents without it."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from certimetric.report import render_audit, summary_table
from certimetric.report.formatting import fixed
from certimetric.report.retrieval.robustness_score import radar_figure, score_view
from certimetric.report.series import assign

NAMES = ["CA+", "CA−", "QA+", "QA−", "TMA", "ES:D", "ES:R", "LTM", "GTM", "GTT"]


@pytest.mark.parametrize("name", ["scored", "hostile score"])
def test_page_with_a_score(make_document, name):
    document = make_document(name)
    html = render_audit(document)
    section = html.split('<section id="ers">')[1].split("</section>")[0]
    assert "<script" not in section
    assert "77/255, 32 steps of 3/255" in section
    assert section.count("<tr>") == 1 + 12 + 1 + 10  # the table with its head, and that of the figure
    for learner in document["learners"]:
        for row in learner["robustness_score"]["components"]:
            assert f"{fixed(row['scaled'], 1)} [{fixed(row['low'], 1)}, {fixed(row['high'], 1)}]" in section


@pytest.mark.parametrize("name", ["two models", "embeddings"])
def test_documents_without_it_are_as_they_were(make_document, name):
    document = make_document(name)
    assert score_view(document) is None
    assert 'id="ers"' not in render_audit(document)
    assert not any("ERS" in name for name in summary_table(document)[0])


def test_radar_reaches_as_far_as_the_score(make_document):
    document = make_document("scored")
    shown = list(zip(assign(document["learners"]), (learner["robustness_score"] for learner in document["learners"])))
    figure = radar_figure(shown)
    root = ElementTree.fromstring(figure.svg)
    assert figure.header == ("Component", *(look.label for look, _ in shown))
    assert [row[0] for row in figure.rows] == NAMES
    for look, score in shown:
        group = next(g for g in root.iter("g") if g.get("class") == f"s{look.number}" and len(list(g.iter("use"))) > 9)
        places = [(float(use.get("x")), float(use.get("y"))) for use in group.iter("use")]
        assert len(places) == 11  # closed
        assert places[0] == places[-1]
        # A component of 0 is in the middle; that of CA+ is straight above it.
        zero = [place for place, row in zip(places, score["components"]) if row["scaled"] == 0]
        for x, y in zero:
            assert x == pytest.approx(places[0][0], abs=0.01)
            assert y >= places[0][1] - 0.01


def test_the_best_of_each_row_is_marked(make_document):
    view = score_view(make_document("scored"))["ers"]
    for row in view["rows"]:
        values = [float(cell["scaled"].split()[0]) for cell in row["cells"]]
        best = [value == max(values) and len(set(values)) > 1 for value in values]
        assert [cell["best"] for cell in row["cells"]] == best
    assert [row["name"] for row in view["rows"]][:2] == ["ERS", "R@1, clean"]
    assert all(re.fullmatch(r"\[.*, .*\]", cell["interval"]) for row in view["rows"] for cell in row["cells"])
