"""The page of an audit of verification: complete, safe with any names, whole where parts of the evidence failed."""

from __future__ import annotations

import copy
import re

import numpy as np
import pytest

from certimetric.auditing import audit_verification
from certimetric.report import junit_xml, render_audit, render_audit_fragment, summary_table

HOSTILE = "<script>alert(1)</script>"
SECTIONS = ("verdict", "threat", "det", "certified", "distances", "checks", "comparison", "pairs", "reproduction")


@pytest.fixture(scope="module")
def documents():
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(8), 12)
    centres = rng.normal(size=(8, 4)) * 2.0
    X = centres[y] + rng.normal(size=(96, 4))
    asked = {"learners": ["euclidean", "gmml"], "repeats": 2, "fail_under": "auc=0.99"}
    names = [f"{HOSTILE} {i}" for i in range(4)]
    labels = np.array([f"{HOSTILE}{code}" for code in y])
    return {
        "pictures": audit_verification(X, y, image_shape=(2, 2), **asked).document,
        "hostile": audit_verification(
            X, labels, feature_names=names, groups=[HOSTILE, "other"] * 48, name=HOSTILE, **asked
        ).document,
    }


@pytest.mark.parametrize("kind", ["pictures", "hostile"])
def test_every_part_is_on_the_page(documents, kind):
    document = documents[kind]
    html = render_audit(document)
    for section in SECTIONS:
        assert f'<section id="{section}"' in html and f'<a href="#{section}">' in html
    assert ('<section id="groups"' in html) == (kind == "hostile")
    assert ("data:image/png" in html) == (kind == "pictures")
    assert HOSTILE not in html and "alert(1)&lt;" in html if kind == "hostile" else True
    for name in ("det", "det-attacked", "certified-tar", "certified-far", "bracket-tar", "bracket-far", "distances-1"):
        assert f'id="figure-{name}"' in html
    assert not re.search(r"\bnan\b|>None<", re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL))
    assert len(set(re.findall(r'\bid="([^"]+)"', html))) == len(re.findall(r'\bid="([^"]+)"', html))
    assert document["verdict"]["sentence"].split(";")[0][:30] in render_audit_fragment(document)
    assert 'classname="certimetric.checks.CV201"' in junit_xml(document)


def test_the_bracket_of_one_picture_has_its_three_lines(documents):
    """The picture of clean, attacked and certified errors says what each line is, and tells its numbers."""
    html = render_audit(documents["pictures"])
    figure = html.split('id="figure-det-attacked"')[1].split("</figure>")[0]
    for name in ("clean", "attacked: found", "certified: proven"):
        assert f"<span>{name}</span>" in figure
    learners = documents["pictures"]["learners"]
    recommended = documents["pictures"]["verdict"]["recommended"]
    told = next(each for each in learners if each["spec"] == recommended)["under_attack"]
    assert figure.count("<tr>") == len(told["clean"]["far"]) + 1


def test_a_learner_that_failed_and_an_attack_that_did(documents):
    document = copy.deepcopy(documents["hostile"])
    first, second = document["learners"]
    for key in ("summary", "det", "histogram", "under_attack", "brackets"):
        first[key] = None
    first |= {"groups": [], "worst": [], "splits": [{"split": 0, "failed": "ValueError: no"}]}
    second |= {"under_attack": None, "brackets": None, "worst": []}
    document["verdict"]["recommended"] = None
    html = render_audit(document)
    assert 'id="figure-det"' in html and 'id="figure-det-attacked"' not in html and '<section id="pairs"' not in html
    header, rows = summary_table(document)
    assert rows[0][0] == "Euclidean (failed)" and set(rows[0][1:]) == {"–"} and len(header) == len(rows[1])
    second |= dict.fromkeys(("summary", "det", "histogram"))
    assert "No figures to draw." in render_audit(document)
