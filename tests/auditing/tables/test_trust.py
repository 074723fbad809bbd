"""Which predictions to trust: scores of an audit against the same made by hand, and what its report says."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from certimetric import AuditResult, CertifiedKNeighborsClassifier, make_learner
from certimetric.auditing.tables.trust import LABELS, _sentence
from certimetric.certify import prediction_scores, risk_coverage_curve
from certimetric.certify.selective import compare_scores
from certimetric.runs.splits import split_indices


def test_scores_are_those_of_the_recommended_classifier(iris, iris_audit):
    """AURC of radius, votes and distance ratio: means over splits of what the classifier gives, by hand."""
    told = iris_audit.document["trust"]
    recommended = iris_audit.document["verdict"]["recommended"]
    assert told["learner"] == recommended
    _, codes = np.unique(iris.y, return_inverse=True)
    number = [each["spec"] for each in iris_audit.document["learners"]].index(recommended)
    areas = {name: [] for name in ("radius", "vote_share", "distance_ratio")}
    for split in range(3):
        train, test = split_indices(codes, 0.3, 0, split)
        scaler = StandardScaler().fit(iris.X[train])
        learner = make_learner(recommended).fit(scaler.transform(iris.X[train]), codes[train])
        knn = CertifiedKNeighborsClassifier(3, metric=learner).fit(scaler.transform(iris.X[train]), codes[train])
        found = prediction_scores(knn, scaler.transform(iris.X[test]))
        for name, own in areas.items():
            own.append(risk_coverage_curve(found.label != codes[test], getattr(found, name)).aurc)
    frame = iris_audit.trust().set_index("score")
    assert frame.index.tolist() == list(LABELS)
    for name, own in areas.items():
        assert frame.loc[name, "aurc"] == pytest.approx(np.mean(own), abs=1e-6)
    error = iris_audit.document["learners"][number]["summary"]["error"]["mean"]
    assert frame.loc["chance", "aurc"] == pytest.approx(error) == pytest.approx(told["error"])
    assert (frame["aurc_low"] <= frame["aurc"]).all() and (frame["aurc"] <= frame["aurc_high"]).all()
    for risk in told["curve"]["risk"].values():
        assert risk[-1] == pytest.approx(error)


def test_conformal_sets_of_the_audit(iris_audit):
    sets = iris_audit.document["trust"]["conformal"]
    assert 0.8 <= sets["coverage"] <= 1.0  # 72 instances, promised 0.9
    assert 0.0 <= sets["single"] <= 1.0 and 0.0 < sets["size"] <= 3.0


def test_the_report_has_the_section(iris_audit):
    page = iris_audit.to_html()
    assert '<section id="trust"' in page and 'id="fig-trust' in page
    assert iris_audit.document["trust"]["sentence"] in page.replace("&#39;", "'")
    document = iris_audit.to_dict()
    document.pop("trust")
    assert '<section id="trust"' not in AuditResult(document).to_html()  # of a version that did not measure it
    with pytest.raises(ValueError, match="does not tell which predictions to trust"):
        AuditResult(document).trust()


def test_the_sentence_says_who_is_better():
    rng = np.random.default_rng(0)
    sure = rng.random(900)
    wrong = rng.random(900) > 0.4 + 0.6 * sure
    values = {name: rng.random(900) for name in LABELS} | {"chance": np.zeros(900)}
    risk = {"radius": np.linspace(0.1, 0.2, 20)}
    told = _sentence("LMNN", compare_scores(wrong, values | {"radius": sure}, n_resamples=100), risk)
    assert "better than share of votes, distance ratio, calibrated probability and size of the conformal set" in told
    told = _sentence(
        "LMNN", compare_scores(wrong, values | {"radius": sure, "probability": wrong < 0.5}, n_resamples=100), risk
    )
    assert "worse than calibrated probability;" in told
    assert "is no better than no score" in _sentence("LMNN", compare_scores(wrong, values, n_resamples=100), risk)
    assert "no score can tell wrong ones" in _sentence(
        "LMNN", compare_scores(np.zeros(900), values, n_resamples=9), risk
    )
