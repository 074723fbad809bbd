"""Thresholds as text."""

from __future__ import annotations

import pytest

from certimetric.auditing.thresholds import Threshold, parse_threshold

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
    ],
)
def test_understood(text, expected):
    assert parse_threshold(text, SPECS, [0.25, 1.0]) == expected


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
    ],
)
def test_refused(text, culprit):
    with pytest.raises(ValueError) as caught:
        parse_threshold(text, SPECS, [0.25, 1.0])
    assert culprit in str(caught.value)
