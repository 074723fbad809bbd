"""The page is a pure function of the document, complete, self-contained, and safe with any names."""

import copy
import functools
import json
import re
from html.parser import HTMLParser

import pytest

from certimetric.report import render_audit, render_audit_fragment, summary_table
from certimetric.report.tables.figures import radii_figure

SECTIONS = ("verdict", "threat", "comparison", "classes", "anatomy", "fragile", "checks", "reproduction")


class Page(HTMLParser):
    """Text, identifiers, and everything that a browser would load or run."""

    def __init__(self, html):
        super().__init__()
        self.ids, self.loads, self.handlers, self.text, self.scripts = [], [], [], [], []
        self._in = []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "link", "img", "br", "input", "hr", "col"):
            self._in.append(tag)
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            if name in ("src", "href", "srcset", "data", "action", "xlink:href"):
                self.loads.append(value)
            if name.startswith("on"):
                self.handlers.append((tag, name))
        if tag == "script":
            self.scripts.append(dict(attributes))

    def handle_endtag(self, tag):
        if self._in and self._in[-1] == tag:
            self._in.pop()

    def handle_data(self, data):
        if not self._in or self._in[-1] not in ("script", "style"):
            self.text.append(data)


@functools.cache
def rendered_from(text):
    return render_audit(json.loads(text))


def rendered(document):
    """The page of the document, saved and read again: made once, whatever the number of tests that look at it."""
    return rendered_from(json.dumps(document))


@pytest.mark.parametrize(
    "name", ["digits", *(pytest.param(name, marks=pytest.mark.slow) for name in ("failing", "wine"))]
)
def test_same_document_same_bytes_also_if_it_was_saved(make_document, name):
    document = make_document(name)
    before = copy.deepcopy(document)
    assert render_audit(document) == rendered(document)
    assert document == before  # and the document is left as it was


def test_page_loads_nothing(document):
    html = rendered(document)
    for load in Page(html).loads:
        assert load.startswith(("#", "data:image/png;base64,")) or load == "data:,", load
    assert "@import" not in html
    assert not re.search(r"url\((?!#)", html)


def test_identifiers_are_unique_and_links_lead_somewhere(document):
    page = Page(rendered(document))
    assert len(page.ids) == len(set(page.ids))
    for link in page.loads:
        if link.startswith("#"):
            assert link[1:] in page.ids, link


def test_every_learner_and_section_is_there(document):
    page = Page(rendered(document))
    text = " ".join(" ".join(page.text).split())
    for learner in document["learners"]:
        assert " ".join(learner["label"].split()) in text or "<" in learner["label"]
    for section in SECTIONS:
        assert any(section in identifier for identifier in page.ids), section
    assert document["verdict"]["status"] in text


def test_document_is_embedded_and_can_be_read_back(make_document):
    document = make_document("hostile")
    html = rendered(document)
    embedded = re.findall(r'<script[^>]*type="application/json"[^>]*>(.*?)</script>', html, flags=re.S)
    assert len(embedded) == 1
    assert json.loads(embedded[0])["schema"] == document["schema"]
    assert json.loads(embedded[0])["protocol"] == document["protocol"]


def test_hostile_names_stay_text(make_document):
    page = Page(rendered(make_document("hostile")))
    clean = Page(rendered(make_document("digits")))
    assert page.handlers == clean.handlers == []
    assert len(page.scripts) == len(clean.scripts)
    assert "alert(1)" in " ".join(page.text)  # shown, not run


def test_figures_show_their_data_and_follow_the_theme(make_document):
    html = rendered(make_document("digits"))
    svgs = re.findall(r"<svg.*?</svg>", html, flags=re.S)
    figures = [svg for svg in svgs if 'role="img"' in svg]
    assert len(figures) >= 4
    for svg in figures:
        assert "<title" in svg
        assert "viewBox" in svg
        assert "currentColor" in svg or "var(--" in svg
    assert html.count("<details") >= len(figures)
    assert "prefers-color-scheme:dark" in html.replace(": ", ":")
    assert "@media print" in html


def test_the_median_radius_is_the_same_in_table_and_figures(make_document):
    """The mean over splits of the medians, also where it is not the median over all splits together."""
    document = make_document("digits")
    for i, learner in enumerate(document["learners"]):
        learner["summary"]["median_radius"]["mean"] = 0.123 + i
    header, rows = summary_table(document)
    column = next(i for i, name in enumerate(header) if name.startswith("Median radius"))
    figure = radii_figure(document)
    told = figure.header.index("median")
    for i, row in enumerate(figure.rows):
        assert float(row[told]) == pytest.approx(0.123 + i, abs=0.005)
        assert float(rows[i][column].split()[0]) == pytest.approx(0.123 + i, abs=0.005)
        assert f"median {row[told]}" in figure.svg


def test_best_in_column_is_marked(make_document):
    document = make_document("digits")
    header, rows = summary_table(document)
    assert all(len(row) == len(header) for row in rows)
    assert len(rows) == len(document["learners"]) + 1  # the last is what always answering one class gives
    assert not any(cell.endswith("*") for cell in rows[-1])
    errors = [learner["summary"]["error"]["mean"] for learner in document["learners"]]
    best = errors.index(min(errors))
    column = next(i for i, name in enumerate(header) if name.startswith("Error ["))
    assert rows[best][column].endswith("*")
    assert sum(row[column].endswith("*") for row in rows) == errors.count(min(errors))


def test_fragment_is_short_and_safe(document):
    fragment = render_audit_fragment(document)
    assert len(fragment) < len(rendered(document)) / 3
    page = Page(fragment)
    assert page.loads == []
    assert page.handlers == []


@pytest.mark.parametrize("other", [{}, {"schema": "something/1"}, {"schema": "certimetric.audit/1"}])
def test_foreign_documents_are_refused(other):
    for render in (render_audit, render_audit_fragment, summary_table):
        with pytest.raises(ValueError, match="document") as error:
            render(other)
        assert "\n" not in str(error.value)


def test_brackets_of_each_learner(make_document):
    document = make_document("digits")
    html = rendered(document)
    page = Page(html)
    for i, learner in enumerate(document["learners"], 1):
        assert (f"figure-robustness-{i}" in page.ids) == (learner.get("robustness") is not None)
        assert f"{learner['label']}: bracketed accuracy" in "".join(page.text)
    assert "97.0 % of the exact smallest change" in "".join(page.text)
    assert "exact nearest change" in html  # a fragile instance whose exact change is known
    # A document from before these figures were measured is still rendered, without them.
    document.pop("baseline")
    for learner in document["learners"]:
        learner.pop("robustness", None)
        learner.pop("confusions")
        learner["summary"].pop("balanced_accuracy")
        for row in learner["per_class"]:
            row.pop("precision")
        for entry in learner["fragile"]:
            entry.pop("exact_radius", None)
    old = render_audit(document)
    assert "brackets" not in Page(old).ids
