"""Thresholds as text."""

from __future__ import annotations

import pytest

from certimetric.auditing.tables.request import FIGURES
from certimetric.auditing.thresholds import Threshold, parse_threshold

CLASSES = ["spam", "not spam", "a=b.c"]
SPECS = ["euclidean", "lmnn+pl", "lmnn+pl:tau=0.5", "gmml:reg=1e-3"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("accuracy=0.9", Threshold(None, "accuracy", None, 0.9)),
        ("certified@0.5=0.6", Threshold(None, "certified", 0.5, 0.6)),
        ("lmnn+pl.certified@1e-1>=.6", Threshold("lmnn+pl", "certified", 0.1, 0.6)),
        ("lmnn+pl:tau=0.5.accuracy=1", Threshold("lmnn+pl:tau=0.5", "accuracy", None, 1.0)),
        ("gmml:reg=1e-3.noise@0.25=0.5", Threshold("gmml:reg=1e-3", "noise", 0.25, 0.5)),
        ("euclidean.median_radius=1.5", Threshold("euclidean", "median_radius", None, 1.5)),
        ("balanced_accuracy=0.8", Threshold(None, "balanced_accuracy", None, 0.8)),
        ("recall@spam=0.5", Threshold(None, "recall", None, 0.5, "spam")),
        ("lmnn+pl:tau=0.5.recall@not spam >= .5", Threshold("lmnn+pl:tau=0.5", "recall", None, 0.5, "not spam")),
        ("recall@a=b.c=0.25", Threshold(None, "recall", None, 0.25, "a=b.c")),
    ],
)
def test_understood(text, expected):
    assert parse_threshold(text, SPECS, [0.25, 1.0], figures=FIGURES, classes=CLASSES) == expected


def test_expressions_name_figure_and_class():
    for text in ("euclidean.recall@not spam>=0.5", "euclidean.noise@0.25>=0.5", "euclidean.balanced_accuracy>=0.5"):
        assert parse_threshold(text, SPECS, [0.25], figures=FIGURES, classes=CLASSES).expression("euclidean") == text


@pytest.mark.parametrize(
    ("text", "culprit"),
    [
        ("acuracy=0.9", "acuracy"),
        ("accuracy", "FIGURE=VALUE"),
        ("accuracy=high", "high"),
        ("accuracy=nan", "nan"),
        ("accuracy=95", "between 0 and 1"),
        ("lmn+pl.accuracy=0.9", "did you mean 'lmnn+pl'"),
        ("noise@0.3=0.9", "0.3"),
        ("certified@=0.9", "certified@"),
        ("certified@1.2.3=0.9", "1.2.3"),
        ("accuracy=-1", "-1"),
        ("balanced_accuracy=1.5", "between 0 and 1, got 1.5"),
        ("recall@spam=50", "between 0 and 1, got 50"),
        ("recall@spma=0.5", "'spma' (did you mean 'spam'?)"),
        ("recall=0.5", "recall@CLASS"),
        ("recall@=0.5", "recall@CLASS"),
        ("lmn.recall@spam=0.5", "'lmn'"),
    ],
)
def test_refused(text, culprit):
    with pytest.raises(ValueError) as caught:
        parse_threshold(text, SPECS, [0.25, 1.0], figures=FIGURES, classes=CLASSES)
    assert culprit in str(caught.value)
