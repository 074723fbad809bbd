"""The table of threats: of every kind of audit, first after the verdict, and figures that bracket the truth."""

import re

import pytest

from certimetric.report import render_audit
from certimetric.report.document import bounds
from certimetric.report.views import view_of


def test_it_is_the_first_after_the_verdict(document):
    sections = re.findall(r'<section id="([\w-]+)"', render_audit(document))
    assert sections[:2] == ["verdict", "threats"]


def test_what_was_found_and_what_is_certified_bracket_the_truth(document):
    for threat in view_of(document).threats():
        assert len(threat.effects) == len(document["learners"])
        for effect in threat.effects:
            clean, attacked, certified = (
                None if each is None else bounds(each)[0] for each in (effect.clean, effect.attacked, effect.certified)
            )
            lower_is_better = "lower is better" in threat.figure
            for better, worse in ((clean, attacked), (attacked, certified)):
                if better is not None and worse is not None and "noise" not in threat.what:
                    assert (worse >= better - 1e-9) if lower_is_better else (worse <= better + 1e-9), threat.what


@pytest.mark.parametrize("name", ["two models", "digits"])
def test_thresholds_stand_beside_their_threat_and_what_was_not_tested_is_told(make_document, name):
    document = make_document(name)
    view = view_of(document)
    (standard, *_) = view.threats()[0].standards
    spec = document["learners"][0]["spec"]
    document["thresholds"] = [{"expression": f"{spec}.{standard}>=0.6", "observed": 0.5, "passed": False}]
    document["protocol"]["untried"] = [{"name": "jpeg", "what": "survives JPEG", "who": "anyone"}]
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", render_audit(document)))
    assert "missed: at least 60.0 %" in text
    assert "Not tested" in text and all(f"{each}." in text for each in view_of(document).untried())
    assert ("Survives JPEG (--threat jpeg)." in text) == (name == "two models")
