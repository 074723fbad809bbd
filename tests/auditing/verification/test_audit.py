"""The audit of verification: its splits, its figures against the library's own, its thresholds and its checks."""

from __future__ import annotations

import json

import numpy as np
import pytest

from certimetric import MahalanobisMetric, PairVerifier, audit, datasets
from certimetric.auditing import AuditResult, audit_verification
from certimetric.auditing.checks import run_checks
from certimetric.auditing.verification import checks
from certimetric.auditing.verification.request import VerificationRequest
from certimetric.auditing.verification.summary import Decided, Rates
from certimetric.certify import verification_curve

QUICK = {"learners": ["euclidean", "gmml"], "repeats": 2, "pairs": 3000}


@pytest.fixture(scope="module")
def digits():
    whole = datasets.load("digits")
    return {
        "X": whole.X[::3],
        "y": whole.y[::3],
        "image_shape": whole.image_shape,
        "groups": np.where(np.arange(len(whole.y[::3])) % 2, "odd", "even"),
        "name": "digits",
    }


@pytest.fixture(scope="module")
def result(digits, tmp_path_factory):
    out = tmp_path_factory.mktemp("audit")
    asked = ["auc=0.6", "gmml.tar@far=0.1:0.99", "rejected@0.1=0.8"]
    return audit_verification(**digits, **QUICK, far=0.02, fail_under=asked, out=out), out


def test_figures_are_those_of_a_verifier(digits, result):
    """What the document tells of a split is what a verifier of the saved metric and threshold does to its pairs."""
    told, out = result
    request = VerificationRequest(**digits, **QUICK, far=0.02)
    entries = told.document["reproduction"]["metric_files"]
    for learner in told.document["learners"]:
        for split in learner["splits"]:
            part = request.part(split["split"])
            file = next(
                each["file"]
                for each in entries
                if (each["learner"], each["split"]) == (learner["spec"], split["split"])
            )
            metric = MahalanobisMetric.load(out / file)
            saved = metric.training["verification"]
            verifier = PairVerifier(metric, saved["threshold"]).fit()
            on = {
                name: verifier.pair_distance((part.original[rows[:, 0]], part.original[rows[:, 1]]))
                for name, rows in (("calibration", part.calibration_pairs), ("test", part.pairs))
            }
            curve = verification_curve(on["calibration"], part.calibration_genuine)
            assert curve.threshold_at(0.02) == pytest.approx(split["threshold"], rel=1e-9)
            assert saved["threshold"] == split["threshold"]
            tested = verification_curve(on["test"], part.genuine)
            assert tested.auc == pytest.approx(split["auc"], abs=1e-9)
            at = tested.at(split["threshold"] * (1 + 1e-12))
            assert (split["far"], split["tar"]) == pytest.approx(at, abs=1e-3)


def test_subjects_of_the_parts_are_apart(digits, result):
    request = VerificationRequest(**digits, **QUICK)
    for split in range(2):
        part = request.part(split)
        subjects = [set(request.codes[rows].tolist()) for rows in (part.train, part.calibration, part.test)]
        assert sum(map(len, subjects)) == len(set.union(*subjects)) == 10
        assert set(part.pairs.ravel().tolist()) <= set(part.test.tolist())
    assert ("CV203", "passed") in severities(result[0])


def severities(result):
    return [(entry["code"], entry["severity"]) for entry in result.document["checks"]]


def test_certified_rates_bracket_the_clean_ones_and_are_monotone(result):
    for learner in result[0].document["learners"]:
        points = learner["summary"]["certified"]
        tar, far = ([point[key]["mean"] for point in points] for key in ("tar", "far"))
        assert tar == sorted(tar, reverse=True) and far == sorted(far)
        assert tar[0] == learner["summary"]["tar"]["mean"] and far[0] == learner["summary"]["far"]["mean"]
        for told in (learner["under_attack"], learner["brackets"]):
            sound = np.array([told["attacked"][key] for key in ("tar", "far")])
            proven = np.array([told["certified"][key] for key in ("tar", "far")])
            assert (proven[0] <= sound[0] + 1e-12).all() and (proven[1] >= sound[1] - 1e-12).all()
        # Under l2 both are exact, and the smallest changes meet the certificates.
        assert learner["under_attack"]["attacked"]["tar"] == pytest.approx(learner["under_attack"]["certified"]["tar"])


def test_thresholds_and_status(result):
    told = {entry["expression"]: entry["passed"] for entry in result[0].document["thresholds"]}
    assert list(told.values()) == [True, False, True]
    assert "gmml.tar@0.1>=0.99" in told
    assert result[0].status == "FAIL"
    frame = result[0].to_frame()
    assert set(frame["target"]) == {0.1, 0.02, 0.01, 0.001, 0.0001}
    assert not frame.loc[frame["target"] == 0.0001, "claimable"].any()
    assert set(result[0].per_class()["group"]) == {"even", "odd"}


@pytest.mark.slow
def test_what_is_finished_is_used_again_and_the_page_is_the_same(digits, result, tmp_path):
    first, out = result
    again = audit_verification(**digits, **QUICK, far=0.02, out=out)
    assert again.document["reproduction"]["cells"] == {"computed": 0, "reused": 4, "failed": 0}
    assert again.document["learners"] == first.document["learners"]
    assert AuditResult.load(out).to_html() == (out / "report.html").read_text(encoding="utf-8")
    json.dumps(again.document, allow_nan=False)
    with pytest.raises(ValueError, match="holds the report of another audit"):
        audit_verification(**digits, **QUICK, far=0.05, out=out)


def test_few_classes_share_their_subjects_and_it_is_said():
    X, y = datasets.load("iris").X, datasets.load("iris").y
    told = audit_verification(X, y, learners=["euclidean"], repeats=1)
    found = dict(severities(told))
    assert (found["CV203"], found["CV204"]) == ("tip", "issue")  # iris has equal flowers
    assert not told.document["protocol"]["apart"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"far": 0.0}, "far must be a rate of false accepts above 0"),
        ({"far": np.nan}, "far must be a rate of false accepts above 0"),
        ({"y": np.zeros(12)}, "y must have at least two classes"),
        ({"y": np.arange(12)}, "verification needs 3 parts with pairs of both kinds"),
        ({"pairs": "some"}, "pairs must be a whole number of at least 1"),
        ({"test_size": 0.7}, "test_size must leave something to learn from"),
        ({"fail_under": "tar@far=0:0.5"}, "far must be a rate of false accepts above 0"),
        ({"fail_under": "tar@far=0.1"}, "with the FIGURE auc, tar@FAR, certified@EPS or rejected@EPS"),
        ({"groups": ["a"] * 12}, "groups must hold at least two groups"),
        ({"groups": ["a", "b"]}, "groups must hold one for each of the 12 rows"),
    ],
)
def test_what_is_wrong_is_said_before_the_work(change, sentence):
    rng = np.random.default_rng(0)
    given = {"X": rng.normal(size=(12, 2)), "y": np.arange(12) % 2, "learners": "euclidean"}
    with pytest.raises(ValueError, match=sentence):
        audit_verification(**{**given, **change})


def observed(rng, *, far=0.1, distances=None, groups=None, findings=None):
    """What checks see of one split of sixteen subjects, with distances of our own."""
    y = np.repeat(np.arange(16), 6)
    X = np.round(rng.normal(size=(96, 3)), 6)
    request = VerificationRequest(X, y, learners="euclidean", repeats=1, far=far, groups=groups)
    part = request.part(0)
    far_apart = np.where(part.genuine, 1.0, 3.0) + rng.random(len(part.genuine))
    cell = {
        "split": 0,
        "n_train": len(part.train),
        "threshold": 2.0,
        "fit_seconds": 0.0,
        "n_iter": None,
        "calibration": np.where(part.calibration_genuine, 1.0, 3.0) + rng.random(len(part.calibration_genuine)),
        "distances": far_apart if distances is None else distances(part, far_apart),
        "radii": np.ones(len(part.genuine)),
    }
    decided = [Decided(part, cell)]
    from functools import partial

    from certimetric.auditing.verification.summary import groups as of_groups
    from certimetric.auditing.verification.summary import summarise

    estimate = partial(Rates(request.codes, [part], 0).estimate, [0])
    learner = {
        "spec": "euclidean",
        "splits": [{"split": 0}],
        "summary": summarise(request, estimate, decided, [0.0]),
        "groups": of_groups(request, estimate, decided),
    }
    fine = {"attack": {"attacked": 4, "inside": []}, "random": {"perturbations": 80, "flipped": []}}
    return checks.Observed(
        request, [learner], [decided], [fine if findings is None else findings], Rates(request.codes, [part], 0)
    )


def said(evidence):
    return {entry["code"]: (entry["severity"], entry["message"]) for entry in run_checks("verification", evidence)}


def test_checks_pass_where_nothing_is_wrong(rng):
    assert {code for code, (severity, _) in said(observed(rng)).items() if severity == "issue"} == set()


def test_checks_find_what_is_wrong(rng):
    broken = {"attack": {"attacked": 4, "inside": [{"pair": [3, 5], "radius": 0.5, "distance": 0.4}]}}
    broken["random"] = {"perturbations": 80, "flipped": [[3, 5]]}
    found = said(observed(rng, findings=broken))
    assert [found[code][0] for code in ("CV201", "CV202")] == ["issue", "issue"]
    assert "rows 3 and 5: at 0.4, radius 0.5" in found["CV201"][1]
    assert said(observed(rng, far=1e-4))["CV205"][0] == "issue"
    easier = said(observed(rng, distances=lambda part, far: np.where(part.genuine, far, far - 1.5)))
    assert easier["CV206"][0] == "issue"
    collapsed = said(observed(rng, distances=lambda part, far: np.full(len(far), 1.0)))
    assert "collapsed" in collapsed["CV207"][1]
    blind = said(observed(rng, distances=lambda part, far: np.random.default_rng(0).random(len(far))))
    assert "area under its curve" in blind["CV207"][1]
    assert said(observed(rng, distances=lambda part, far: far + 9.0))["CV208"][0] == "issue"


def test_a_group_that_is_let_in_more_often_is_found(rng):
    groups = np.arange(96) % 4 == 0

    def nearer(part, far):
        return np.where(groups[part.pairs[:, 0]] & ~part.genuine, 1.0, far)

    severity, message = said(observed(rng, distances=nearer, groups=groups))["CV209"]
    assert severity == "issue" and "false accepts of 'True' 100 %" in message


def test_the_audit_of_tables_is_what_it_was():
    """The two kinds share what they ask of a table; positional arguments and messages of the older stay."""
    X, y = datasets.load("iris").X, datasets.load("iris").y
    with pytest.raises(ValueError, match="n_neighbors must be at most the number of training instances"):
        audit(X, y, n_neighbors=500)


def test_intervals_resample_subjects():
    """Of pairs within few subjects that are all alike inside, an interval is far wider than that of so many pairs."""
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(24), 10)
    request = VerificationRequest(rng.normal(size=(240, 2)), y, learners="euclidean", repeats=1)
    part = request.part(0)
    rates = Rates(request.codes, [part], 0)
    lucky = np.isin(request.codes[part.pairs[:, 0]], np.unique(request.codes[part.test])[:4])
    found = rates.estimate([0], [lucky], [part.genuine])
    assert found["mean"] == pytest.approx(4 / 7)
    assert found["high"] - found["low"] > 0.5  # 315 independent pairs would give 0.11
    whole = rates.estimate([0], [part.genuine], [part.genuine])
    assert (whole["low"], whole["mean"], whole["high"]) == (1.0, 1.0, 1.0)
