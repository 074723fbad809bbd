"""Which learner is recommended, and how splits are summed up."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from certimetric.auditing.tables.request import Request
from certimetric.auditing.tables.summary import choose_eps, interval
from certimetric.auditing.tables.verdict import recommend, say
from certimetric.auditing.verdict import conclude

X = np.random.default_rng(0).normal(size=(20, 2))
BASELINE = {"class": "0", "error": 0.25, "balanced_accuracy": 0.5}
REQUEST = Request(X, [0, 1] * 10, learners={"a": "euclidean", "b": "gmml"})


def learner(spec, errors, certified):
    splits = [{"split": i, "n_test": 100, "error": error} for i, error in enumerate(errors)]
    summary = {
        "error": interval(errors, share=True),
        "balanced_accuracy": interval([1 - error for error in errors], share=True),
        "certified_accuracy": [interval([certified] * len(errors))],
    }
    return {"spec": spec, "label": spec.upper(), "splits": splits, "summary": summary}


def test_the_best_certificate_among_the_accurate():
    accurate = learner("a", [0.010, 0.011, 0.012], 0.5)
    as_accurate = learner("b", [0.009, 0.012, 0.016], 0.7)
    inaccurate = learner("c", [0.20, 0.21, 0.22], 0.9)
    assert recommend([accurate, as_accurate, inaccurate], 0) == 1
    assert recommend([inaccurate, accurate], 0) == 1


def test_one_split_has_the_interval_of_a_share():
    best, near, far = learner("a", [0.05], 0.5), learner("b", [0.08], 0.6), learner("c", [0.3], 0.9)
    assert recommend([best, near, far], 0) == 1


def test_balanced_figures_decide_where_they_shall():
    blind, able = learner("a", [0.01, 0.011], 0.9), learner("b", [0.011, 0.012], 0.5)
    for each, accuracy, certified in ((blind, [0.5, 0.51], 0.5), (able, [0.9, 0.91], 0.7)):
        each["summary"]["balanced_accuracy"] = interval(accuracy, share=True)
        each["summary"]["balanced_certified"] = [interval([certified] * 2)]
    assert recommend([blind, able], 0) == 0
    assert recommend([blind, able], 0, balanced=True) == 1


def test_nobody_is_recommended_where_nothing_was_fitted():
    failed = {"spec": "a", "label": "A", "splits": [{"split": 0, "failed": "E"}], "summary": None}
    assert recommend([failed], 0) is None
    assert recommend([failed, learner("b", [0.5], 0.1)], 0) == 1
    verdict = conclude(say(REQUEST, [failed], None, 0, 0.5, BASELINE), [], [], None)
    assert verdict["status"] == "FAIL"
    assert verdict["sentence"] == "No learner could be fitted, so there is nothing to recommend."


@pytest.mark.parametrize(
    ("checks", "thresholds", "status"),
    [
        # Nothing passes without a declared standard: the audit reports what it found.
        ([("CM004", "tip"), ("CM001", "passed")], [], "REPORT"),
        ([("CM004", "issue")], [], "WARN"),
        ([("CM001", "issue")], [], "FAIL"),
        ([("CM002", "issue")], [], "FAIL"),
        ([("CM001", "skipped")], [], "REPORT"),
        ([("CM001", "skipped")], [True], "PASS"),
        ([("CM013", "issue")], [True], "WARN"),
        ([], [True, True], "PASS"),
        ([], [True, False], "FAIL"),
        ([("CM004", "issue")], [True], "WARN"),
    ],
)
def test_status(checks, thresholds, status):
    told = [{"code": code, "severity": severity} for code, severity in checks]
    judged = [{"expression": "a.accuracy>=0.9", "passed": passed} for passed in thresholds]
    learners = [learner("euclidean", [0.3, 0.3], 0.4), learner("b", [0.1, 0.12], 0.6)]
    verdict = conclude(say(REQUEST, learners, 1, 0, 0.5, BASELINE), told, judged, "b")
    assert verdict["status"] == status
    assert "against 30.0 % and 40.0 % for EUCLIDEAN" in verdict["sentence"]
    assert "always answering '0', the most frequent class, is wrong on 25.0 %" in verdict["sentence"]
    assert "balanced accuracy is 50.0 % where that of B is 89.0 %" in verdict["sentence"]
    assert ("no threshold was declared" in verdict["sentence"]) == (status == "REPORT")
    assert verdict["recommended"] == "b"


def test_interval_is_that_of_student():
    values = [0.30, 0.42, 0.35, 0.38]
    low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    found = interval(values)
    assert (found["low"], found["high"]) == pytest.approx((low, high))


def test_intervals_stay_where_values_can_be():
    assert interval([0.0, 0.1], share=True)["low"] == 0.0
    assert interval([0.9, 1.0], share=True)["high"] == 1.0
    assert interval([0.9, 1.0])["high"] > 1.0
    assert interval([1.0, np.inf]) == {"mean": "inf", "std": None, "low": None, "high": None}


@pytest.mark.parametrize(
    ("medians", "quoted"),
    [([0.99], 0.5), ([1.0], 1.0), ([2.4, 0.3, 2.6], 2.0), ([0.07], 0.05), ([5.5], 5.0)],
)
def test_the_quoted_radius_is_round_and_below_the_median(medians, quoted):
    radii = [[np.full(10, median)] for median in medians]
    eps, found = choose_eps(REQUEST, radii)
    assert found == pytest.approx(quoted)
    assert found in eps
    assert eps[0] == 0.0
    assert eps[-1] >= max(medians)


@pytest.mark.parametrize("radii", [[], [[np.full(5, -1.0)]], [[np.full(5, np.inf)]]])
def test_a_curve_without_finite_radii(radii):
    eps, found = choose_eps(REQUEST, radii)
    assert eps[0] == 0.0
    assert 0 < found <= eps[-1]


def test_given_radii_are_kept():
    request = Request(X, [0, 1] * 10, learners=["euclidean"], eps=[3, 1, 2, 1])
    assert choose_eps(request, []) == ([1.0, 2.0, 3.0], 2.0)
