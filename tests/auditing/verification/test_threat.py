"""The audit of verification under a threat model: attacks keep to it, certificates know what cannot change."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from certimetric.auditing import audit_verification
from certimetric.auditing.verification import evidence

THREATS = {
    "continuous": "l2:immutable=age+u,bounds=-30..30",
    "discrete": "l2:immutable=age,integer=children,bounds=-30..30",
}


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(12), 10)
    centres = rng.normal(size=(12, 4)) * [2.0, 3.0, 2.0, 2.0]
    X = centres[y] + rng.normal(size=(120, 4))
    X[:, 1] = np.round(X[:, 1])
    frame = pd.DataFrame(X, columns=["age", "children", "u", "v"])
    asked = {"learners": ["euclidean"], "repeats": 1, "far": 0.1, "eps": [0.1, 0.4, 0.8], "pairs": 300}
    return {"X": frame, "y": y, **asked}


@pytest.fixture(scope="module")
def free(table):
    return audit_verification(**table).document


@pytest.fixture(scope="module", params=["discrete", pytest.param("continuous", marks=pytest.mark.slow)])
def limited(request, table):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evidence, "N_THRESHOLDS_SEARCH", 1)  # a second for each, of eighty pairs of a kind
        patch.setattr(evidence, "N_ATTACKED_PROGRAM", 4)
        return request.param, audit_verification(**table, threat=THREATS[request.param])


def certified(document):
    points = document["learners"][0]["summary"]["certified"]
    return np.array([[point[key]["mean"] for point in points] for key in ("tar", "far")])


def test_certificates_are_larger_and_attacks_never_inside(free, limited):
    document = limited[1].document
    (tar, far), (free_tar, free_far) = certified(document), certified(free)
    assert (tar >= free_tar).all() and (far <= free_far).all() and (tar > free_tar).any()
    found = {entry["code"]: entry["severity"] for entry in document["checks"]}
    assert (found["CV201"], found["CV202"]) == ("passed", "passed")
    for told in (document["learners"][0]["under_attack"], document["learners"][0]["brackets"]):
        attacked, proven = (np.array([told[of][key] for key in ("tar", "far")]) for of in ("attacked", "certified"))
        assert (proven[0] <= attacked[0] + 1e-12).all() and (proven[1] >= attacked[1] - 1e-12).all()


def test_changed_probes_keep_to_the_limits(limited):
    kind, result = limited
    cards = result.document["learners"][0]["worst"]
    moved = [
        {each["name"]: (each["probe"], each["changed"]) for each in card["features"]}
        for card in cards
        if card["attack_distance"] is not None
    ]
    assert len(moved) > 4
    for change in moved:
        for name in ("age", "u") if kind == "continuous" else ("age",):
            assert change[name][0] == change[name][1]
        values = np.array([after for _, after in change.values()])
        assert (np.abs(values) <= 30 * (1 + 1e-9)).all()
        if kind == "discrete":
            assert change["children"][1] == pytest.approx(round(change["children"][1]), abs=1e-9)
    assert "age" in result.document["verdict"]["sentence"] and "cannot change" in result.to_html()


def test_immutable_features_alone_leave_attacks_exact(table):
    """Without bounds the smallest change in l2 is exact, and meets the certificate of the restricted norm."""
    told = audit_verification(**table, threat="l2:immutable=age").document["learners"][0]["brackets"]
    assert told["attacked"]["tar"] == pytest.approx(told["certified"]["tar"], abs=1e-12)
    assert told["attacked"]["far"] == pytest.approx(told["certified"]["far"], abs=1e-12)
