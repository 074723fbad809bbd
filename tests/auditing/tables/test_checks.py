"""Each reliability check fires where it should, and says so where it has nothing to look at."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest

from certimetric import audit
from certimetric.auditing.checks import checks_of, run_checks
from certimetric.auditing.tables.checks import Observed
from certimetric.auditing.tables.request import Request
from certimetric.auditing.tables.run import find
from certimetric.runs.store import Store

pytestmark = pytest.mark.usefixtures("light_attacks")


def told(result, code):
    return [(c["severity"], c["message"]) for c in result.document["checks"] if c["code"] == code]


def toy(n=60, d=3, seed=0):
    rng = np.random.default_rng(seed)
    y = np.repeat([0, 1], n // 2)
    return rng.normal(size=(n, d)) + 2 * y[:, None], y


def quick(X, y, **options):
    return audit(X, y, **{"learners": ["euclidean"], "repeats": 3, **options})


def test_every_check_reports(iris_audit):
    assert [c.code for c in checks_of("table")] == sorted({c["code"] for c in iris_audit.document["checks"]})


def test_nothing_to_complain_about():
    X, y = toy()
    result = quick(X, y, learners=["euclidean", "lmnn"])
    assert {c["severity"] for c in result.document["checks"]} <= {"passed", "tip"}
    assert result.status == "REPORT"
    assert quick(X, y, fail_under="accuracy=0.5").status == "PASS"


def test_duplicates_across_parts():
    X, y = toy()
    result = quick(np.concatenate([X, X[:10]]), np.concatenate([y, y[:10]]))
    ((severity, message),) = told(result, "CM004")
    assert severity == "issue"
    assert "10 rows of 70" in message
    assert result.status == "WARN"
    assert told(result, "CM005")[0][0] == "passed"


def test_zero_and_minus_zero_are_equal_rows():
    X = np.array([[0.0, 1.0], [-0.0, 1.0], [2.0, 3.0], [3.0, 2.0]])
    assert told(quick(X, [0, 0, 1, 1], n_neighbors=1), "CM004")[0][0] == "issue"


def test_few_duplicates_are_a_tip():
    X, y = toy(n=120)
    assert told(quick(np.concatenate([X, X[:1]]), np.append(y, y[0])), "CM004")[0][0] == "tip"


def test_conflicting_duplicates_have_radius_zero():
    X, y = toy()
    result = quick(np.concatenate([X, X[:10]]), np.concatenate([y, 1 - y[:10]]), n_neighbors=1)
    ((severity, message),) = told(result, "CM005")
    assert severity == "issue"
    assert "20 rows of 70" in message


def test_constant_features():
    X, y = toy()
    X[:, 1] = 3.0
    assert [s for s, _ in told(quick(X, y), "CM006")] == ["tip"]
    rare = toy()[0]
    rare[:, 1] = 0.0
    rare[0, 1] = 9.0  # varies where the first row is in the training part
    messages = [m for _, m in told(quick(rare, y, repeats=6), "CM006")]
    assert len(messages) == 1
    assert "some split" in messages[0]


def test_small_classes():
    X, y = toy()
    y = y.copy()
    y[:3], y[3] = 7, 8
    severities = [s for s, _ in told(quick(X, y), "CM007")]
    assert severities == ["issue", "tip"]


def test_stopped_at_max_iter(iris):
    result = audit(iris.X, iris.y, learners=["lmnn:max_iter=2", "euclidean"], repeats=2)
    ((severity, message),) = told(result, "CM008")
    assert severity == "tip"
    assert "max_iter=2 in 2 of 2 splits" in message


def test_few_repeats():
    X, y = toy()
    assert told(quick(X, y, repeats=1), "CM011")[0][0] == "tip"
    assert told(quick(X, y), "CM011")[0][0] == "passed"


def test_better_than_euclidean_needs_both():
    X, y = toy()
    assert told(quick(X, y), "CM010")[0][0] == "not applicable"
    # The same metric twice: the copy is no better.
    twice = quick(X, y, learners={"euclidean": "euclidean", "copy": "euclidean"})
    assert told(twice, "CM010")[0][0] == "tip"


def rare_class(n=300, positives=6, seed=0):
    """A rare class that nothing tells apart."""
    rng = np.random.default_rng(seed)
    y = np.zeros(n, dtype=int)
    y[rng.permutation(n)[:positives]] = 1
    return rng.normal(size=(n, 2)), y


def test_a_class_that_is_never_found_is_an_issue():
    X, y = rare_class()
    result = quick(X, y, n_neighbors=5, fail_under="accuracy=0.95")
    assert result.document["thresholds"][0]["passed"]  # 98 % are told right, which is no achievement
    ((severity, message),) = told(result, "CM013")
    assert severity == "issue"
    assert "'1'" in message
    assert "none of 6 test instances" in message  # two in each of three splits
    assert result.status == "WARN"
    X, y = toy()
    assert [s for s, _ in told(quick(X, y), "CM013")] == ["passed"]


def test_labels_that_are_no_classes():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 2))
    prices = np.concatenate([np.arange(50), np.arange(50), rng.integers(0, 50, 20)])
    assert told(quick(X, prices, repeats=1), "CM014")[0][0] == "issue"  # fewer than 5 instances a value
    ages = np.arange(120) % 24
    assert told(quick(X, ages, repeats=1), "CM014")[0][0] == "tip"
    assert told(quick(X, [f"class {age}" for age in ages], repeats=1), "CM014")[0][0] == "passed"
    names = [f"customer {max(i, 10)}" for i in range(120)]
    many = np.arange(2400) % 2
    assert told(quick(many[:, None] + np.arange(2400)[:, None] / 7, many, repeats=1), "CM014") == [
        ("passed", "2 classes, with 1,200 instances each on average.")
    ]
    ((severity, message),) = told(quick(X, names, repeats=1), "CM014")
    assert severity == "issue"
    assert "identifier" in message


@pytest.mark.parametrize(
    ("column", "severity"),
    [
        (np.arange(60), "issue"),  # a row number
        (np.random.default_rng(0).permutation(60) + 1000, "issue"),  # shuffled
        (np.cumsum(np.arange(60)), "issue"),  # a key that rises
        (np.random.default_rng(0).permutation(10**6)[:60], "tip"),  # a key, or a measurement
        (np.arange(60) // 2, "passed"),
        (np.random.default_rng(0).normal(size=60), "passed"),
    ],
)
def test_an_identifier_among_the_features(column, severity):
    X, y = toy()
    result = quick(np.column_stack([X, column]), y, repeats=1, feature_names=["a", "b", "c", "number"])
    ((found, message),) = told(result, "CM015")
    assert found == severity
    assert ("'number'" in message) == (severity != "passed")


@pytest.fixture(scope="module")
def evidence(iris):
    """What the checks look at, for a run on iris, to be spoiled."""
    request = Request(iris.X, iris.y, learners=["euclidean", "gmml"], repeats=1)
    found = find(request, Store(None, "an audit"))
    result = audit(iris.X, iris.y, learners=["euclidean", "gmml"], repeats=1)
    return request, result.document["learners"], found.evidence


BROKEN = {"index": 3, "radius": 0.5, "distance": 0.4, "bound": "exact radius"}


@pytest.mark.parametrize(
    ("code", "spoil", "severity"),
    [
        (
            "CM001",
            lambda e: e["attack"].update(inside=[BROKEN]),
            "issue",
        ),
        (
            "CM001",
            lambda e: e["attack"].update(inside=[BROKEN | {"radius": "inf"}]),
            "issue",
        ),
        ("CM002", lambda e: e["random"].update(flipped=[3]), "issue"),
        ("CM003", lambda e: e["attack"].update(without_flip=2), "tip"),
        ("CM001", lambda e: e.update(failed="MemoryError: 3 GB"), "skipped"),
    ],
)
def test_a_broken_certificate_is_never_passed(evidence, code, spoil, severity):
    request, learners, findings = evidence
    findings = copy.deepcopy(findings)
    spoil(findings[1])
    checks = run_checks("table", Observed(request, learners, findings, [[], []], 0))
    own = [(c["severity"], c["learner"]) for c in checks if c["code"] == code]
    assert own == [(severity, "gmml"), ("passed", None)]  # the other learner passed
    assert all("1 learner" in c["message"] for c in checks if c["code"] == code and c["severity"] == "passed")
    if severity == "issue":
        (message,) = [c["message"] for c in checks if c["code"] == code and c["severity"] == "issue"]
        assert "error of certimetric" in message


def test_a_broken_certificate_fails_the_audit(iris, monkeypatch):
    from certimetric.auditing.tables import evidence

    honest = evidence.attack

    def too_near(*arguments):
        result = honest(*arguments)
        return replace(result, distances=result.distances * 0.01)

    monkeypatch.setattr(evidence, "attack", too_near)
    result = audit(iris.X, iris.y, learners=["euclidean"], repeats=1)
    assert result.status == "FAIL"
    assert told(result, "CM001")[0][0] == "issue"
    assert "error of this library" in result.document["verdict"]["sentence"]


@pytest.mark.parametrize("wrong", ["too large", "infinite"])
def test_a_wrong_exact_radius_fails_the_audit(iris, monkeypatch, wrong):
    """Certificate and lower bound are right, but what is called exact and proven lies above an attack."""
    from certimetric.auditing.tables import evidence

    honest = evidence.exact

    def too_far(*arguments):
        found = honest(*arguments)
        radii = np.full(len(found.radii), np.inf) if wrong == "infinite" else 1.001 * found.radii
        return replace(found, radii=radii, proven=np.ones(len(radii), dtype=bool))

    def run():
        return audit(iris.X, iris.y, learners=["euclidean"], repeats=1, n_neighbors=1, test_size=0.1)

    assert told(run(), "CM001")[0][0] == "passed"
    monkeypatch.setattr(evidence, "exact", too_far)
    result = run()
    assert result.status == "FAIL"
    ((severity, message),) = told(result, "CM001")
    assert severity == "issue"
    assert ("exact radius inf" if wrong == "infinite" else "exact radius") in message
    assert "<html" in result.to_html()
