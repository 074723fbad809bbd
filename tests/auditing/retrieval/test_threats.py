"""Threats in audits of models: every one of the list is tried, told in the document, and judged where it is asked."""

import re

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")

from torch import nn  # noqa: E402

from certimetric.auditing import audit_retrieval  # noqa: E402
from certimetric.auditing.request import parameters  # noqa: E402
from certimetric.auditing.retrieval.threats import THREATS  # noqa: E402
from certimetric.deep import Index, OcclusionAttack, SquareAttack, evaluate_corruptions  # noqa: E402
from certimetric.deep.attacks import CORRUPTIONS  # noqa: E402
from certimetric.report import render_audit  # noqa: E402


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8))


def quick(made, data, **options):
    return audit_retrieval({"model": made}, data, **{"eps": [0.05], "n_checked": 0, "attacks": ["fgsm"], **options})


KINDS = ("contrast", "rotation")


@pytest.fixture(scope="module")
def result(data):
    """An audit under a few threats, with two kinds of corruptions."""
    asked = {"threats": ["corruptions", "occlusion", "l1"], "smallest": True, "fail_under": ["occlusion=0.99"]}
    with pytest.MonkeyPatch.context() as patch:
        for name in {*CORRUPTIONS} - {*KINDS}:
            patch.delitem(CORRUPTIONS, name)
        return quick(model(), data, n_queries=10, **asked)


def test_every_threat_is_documented():
    told = {each.name: each for each in parameters(audit_retrieval.request)}
    assert re.findall(r'"([\w-]+)"', told["threats"].kind) == list(THREATS)


@pytest.mark.slow
def test_every_threat_can_be_tried(data):
    document = quick(model(), data, n_queries=4, threats=[*THREATS]).document
    assert [each["name"] for each in document["protocol"]["threats"]] == [*THREATS]
    for learner in document["learners"]:
        assert [each["threat"] for each in learner["threats"]] == [*THREATS]
        assert all(each["attacked"]["mean"] <= each["clean"]["mean"] for each in learner["threats"][1:])


def test_figures_are_those_of_attacks_and_corruptions(result, data):
    learner = result.document["learners"][0]
    told = {each["threat"]: each for each in learner["threats"]}
    rows = torch.randperm(60, generator=torch.Generator().manual_seed(0))[:10].sort().values
    hits = Index(model(), data).score(data.select(rows), OcclusionAttack(0.1))["recall_at_1"]
    assert told["occlusion"]["attacked"]["mean"] == pytest.approx(float(hits.mean()))
    found = evaluate_corruptions(model(), data.select(rows), data, corruptions=KINDS)
    assert told["corruptions"]["mean_error"] == pytest.approx(found.mean_error)
    assert told["corruptions"]["errors"] == pytest.approx(found.errors)
    pixels = result.document["learners"][-1]["threats"][0]
    assert set(pixels["errors"].values()) <= {None, 1.0}


def test_thresholds_table_and_page(result):
    (judged,) = result.document["thresholds"]
    assert judged["expression"] == "model.occlusion>=0.99" and not judged["passed"]
    assert result.status == "FAIL"
    text = re.sub(r"<[^>]+>", " ", render_audit(result.document))
    for word in (
        "a plain square over 10 % of the picture",
        "missed: at least 99.0 %",
        "anyone: a hand, a logo, a watermark",
    ):
        assert word in text, word
    assert "mean corruption error" in text and "R@1 by the smallest change of each query" in text
    frame = result.to_frame().set_index(["model", "attack"])
    assert frame.loc[("model", "occlusion"), "recall_at_1"] == judged["observed"]


def test_the_smallest_change_counts_in_the_worst_case(result):
    for learner in result.document["learners"]:
        curve, worst = learner["smallest"]["curve"], learner["attacked"][0]["worst"]["recall_at_1"]["mean"]
        assert curve["recall"] == sorted(curve["recall"], reverse=True)
        assert curve["recall"][0] == pytest.approx(learner["clean"]["recall_at_1"]["mean"])
        assert worst <= curve["recall"][-1] + 1e-9


def test_a_model_without_gradients_says_what_could_not_be_tried(data, monkeypatch):
    monkeypatch.setattr(SquareAttack, "in_audits", {"queries": 5})
    weights = model()[1].weight.detach().numpy()
    asked = {"attacks": ["square"], "threats": ["occlusion", "l1", "patch"], "smallest": True, "n_queries": 4}
    document = quick(lambda images: np.asarray(images).reshape(-1, 64) @ weights.T, data, **asked).document
    learner = document["learners"][0]
    occlusion, *others = learner["threats"]
    assert occlusion["attacked"] is not None
    assert all(each["attacked"] is None and "without gradients" in each["reason"] for each in others)
    assert learner["smallest"]["curve"] is None


@pytest.mark.parametrize("norm", ["l1", "l0"])
def test_sums_and_numbers_of_pixels_as_norms(data, norm):
    result = quick(model(), data, norm=norm, eps=None, n_queries=6)
    learner = result.document["learners"][0]
    attacked = [each["worst"]["recall_at_1"]["mean"] for each in learner["attacked"]]
    assert len(attacked) == 5 and attacked == sorted(attacked, reverse=True)
    assert attacked[-1] < learner["clean"]["recall_at_1"]["mean"]
    assert {"l1": "ε = 4 (l1, in pixels", "l0": "ε = 4 (l0, a number of pixels)"}[norm] in result.document["verdict"][
        "sentence"
    ]
    assert "ℓ" in render_audit(result.document)


def test_sizes_of_threats(data):
    """The size that is asked for is what is done, and told; without one it is the usual one."""
    asked = ["occlusion=0.25", "corruptions=2", "poisoning=3"]
    with pytest.MonkeyPatch.context() as patch:
        for name in {*CORRUPTIONS} - {"contrast"}:
            patch.delitem(CORRUPTIONS, name)
        document = quick(model(), data, n_queries=10, threats=asked, fail_under="poisoning=0").document
    learner = document["learners"][0]
    told = {each["threat"]: each for each in learner["threats"]}
    rows = torch.randperm(60, generator=torch.Generator().manual_seed(0))[:10].sort().values
    hits = Index(model(), data).score(data.select(rows), OcclusionAttack(0.25))["recall_at_1"]
    assert told["occlusion"]["attacked"]["mean"] == pytest.approx(float(hits.mean()))
    found = evaluate_corruptions(model(), data.select(rows), data, corruptions=["contrast"])
    (share,) = (row["recall_at_1"] for row in found.rows if (row["subject"], row["severity"]) == ("model", 2))
    assert told["corruptions"]["recall"]["contrast"] == pytest.approx([share])
    assert len(told["poisoning"]["curve"]) == 4 and document["thresholds"][0]["passed"]
    what = {each["name"]: each["what"] for each in document["protocol"]["threats"]}
    assert "25 %" in what["occlusion"] and "of severity 2" in what["corruptions"] and "3 items" in what["poisoning"]
    assert {"patch", "jpeg"} <= {each["name"] for each in document["protocol"]["untried"]}
    assert "R@1, the mean over severity 2" in render_audit(document)


def test_bad_requests(data):
    for options, message in (
        (
            {"threats": ["patch=2"]},
            "patch=SIZE is a share of the picture, a number above 0 and at most 1, got",
        ),
        (
            {"threats": ["poisoning=1.5"]},
            "poisoning=SIZE is a number of items, a whole number above 0 and at most 1000, got '1.5'",
        ),
        ({"threats": ["poisoning=1000000000"]}, "at most 1000, got '1000000000'"),
        ({"threats": ["patch", "patch=0.2"]}, "threats must be different, got 'patch' more than once"),
        (
            {"threats": ["corruptions=x"]},
            "corruptions=SIZE is a severity, a whole number above 0 and at most 5",
        ),
        ({"threats": ["fire"]}, "threats must be of corruptions, .*, got 'fire'"),
        ({"norm": "l0", "eps": [0.5]}, "eps of l0 must be at least 1"),
        ({"norm": "l0", "eps": [2], "attacks": ["fab"]}, "FAB needs a ball in a norm"),
        ({"norm": "l1", "eps": [2], "certify": "auto"}, "norm linf or l2, and this audit is in l1"),
        ({"fail_under": "patch=0.5"}, "needs the threat 'patch'"),
        ({"fail_under": "pitch=0.5"}, "fail_under must be"),
    ):
        with pytest.raises(ValueError, match=message):
            quick(model(), data, **options)
