"""The audit of verification by embedding models: figures against the library's own, attacks, certificates, checks."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")

from certimetric.auditing import audit_model_verification  # noqa: E402
from certimetric.auditing.checks import checks_of, run_checks  # noqa: E402
from certimetric.auditing.model_verification.checks import SCOPE, Observed  # noqa: E402
from certimetric.auditing.model_verification.request import ModelVerificationRequest  # noqa: E402
from certimetric.auditing.model_verification.run import ModelVerificationEvidence  # noqa: E402
from certimetric.auditing.retrieval.request import Subject  # noqa: E402
from certimetric.deep import ImageSet, SmoothingCertifier  # noqa: E402
from certimetric.deep.retrieval.same_pictures import digests  # noqa: E402
from certimetric.deep.verification import certify_verification, evaluate_verification  # noqa: E402
from certimetric.report import render_audit  # noqa: E402
from certimetric.runs.store import claimed  # noqa: E402

ASKED = {"far": 0.1, "norm": "l2", "eps": [0.25, 0.5], "report_eps": 0.5, "n_attacked": 30, "certify": "lipschitz"}


@pytest.fixture(scope="module")
def half():
    """Every second pixel: a model whose Lipschitz constant is known, beside all of them."""
    kept = torch.nn.Linear(64, 32, bias=False)
    kept.weight.data = torch.eye(64)[::2].contiguous()
    return torch.nn.Sequential(torch.nn.Flatten(), kept).eval()


@pytest.fixture(scope="module")
def result(half, digits):
    return audit_model_verification({"half": half}, digits(8, slice(160)), fail_under="half.auc=0.5", **ASKED)


def test_rates_are_those_of_subjects_apart(half, digits, result):
    images = digits(8, slice(160))
    rows = {each["part"]: each for each in result.document["data"]["parts"]}
    assert rows["calibration"]["subjects"] + rows["test"]["subjects"] == 8
    learner = result.document["learners"][0]
    calibration, test, apart = ModelVerificationRequest({"half": half}, images, **ASKED).parts
    assert apart and not set(images.labels[calibration].tolist()) & set(images.labels[test].tolist())
    sides = [images.select(torch.from_numpy(some)) for some in (calibration, test)]
    options = {"far": [0.1], "with_pixels": False, "n_resamples": 0}
    tuned = evaluate_verification(half, sides[0], **options)
    (point, _) = evaluate_verification(half, sides[1], calibration=tuned, **options).rows
    assert learner["splits"][0]["threshold"] == point["threshold"]
    assert learner["summary"]["tar"]["mean"] == pytest.approx(point["tar"], abs=1e-12)
    assert learner["summary"]["far"]["mean"] == pytest.approx(point["far"], abs=1e-12)


def test_attacks_stay_outside_of_what_is_certified(result):
    for learner in result.document["learners"]:
        assert "failed" not in learner["certificate"] and learner["certificate"]["broken"] == 0
        told = learner["brackets"]
        for key, sign in (("tar", 1), ("far", -1)):
            sound, proven = (sign * np.array(told[kind][key]) for kind in ("attacked", "certified"))
            assert (proven <= sound + 1e-12).all()
            assert (np.diff(sound) <= 0).all()
        # The model is linear: what the gradient finds is nearly all there is.
        assert told["attacked"]["tar"][-1] - told["certified"]["tar"][-1] < 0.5
    assert ("CV201", "passed") in [(entry["code"], entry["severity"]) for entry in result.document["checks"]]
    assert result.document["thresholds"][0]["passed"]


def test_the_gallery_shows_decisions_that_attacks_turn(half, digits, result):
    learner = result.document["learners"][0]
    images = digits(8, slice(160))
    test = images.select(torch.from_numpy(ModelVerificationRequest({"half": half}, images, **ASKED).parts[1]))
    places = half(test.images).double().detach()
    assert {card["kind"] for card in learner["gallery"]} == {"genuine", "impostor"}
    for card in learner["gallery"]:
        away = 1 if card["kind"] == "genuine" else -1
        probe, enrolled = card["pair"]
        assert card["distance"] == pytest.approx(float((places[probe] - places[enrolled]).norm()), rel=1e-5)
        assert away * card["distance"] <= away * card["threshold"]  # decided rightly
        # Pixels as they are: a change of l2 moves the distance by ε and no more, by less where black and white end it.
        assert 0.1 < away * (card["attacked_distance"] - card["distance"]) <= 0.5 + 1e-5
        assert card["broken"] == (away * card["attacked_distance"] > away * card["threshold"])
    html = render_audit(result.document)
    assert html.count(">attacked probe<") == sum(len(each["gallery"]) for each in result.document["learners"])


@pytest.mark.slow
def test_smoothed_decisions_are_certified_of_any_model(digits):
    class Unknown(torch.nn.Module):  # no layer that a Lipschitz bound is known for
        def forward(self, x):
            return x.flatten(1)[:, ::2]

    asked = {**ASKED, "n_attacked": 10, "report_eps": 0.25, "certify": "smoothing", "draws": 100}
    images = digits(8, slice(160))
    found = audit_model_verification({"any": Unknown()}, images, **asked)
    learner, pixels = found.document["learners"]
    test = images.select(torch.from_numpy(ModelVerificationRequest({"any": Unknown()}, images, **asked).parts[1]))
    made = certify_verification(
        Unknown(),
        test,
        threshold=learner["splits"][0]["threshold"],
        method=SmoothingCertifier(sigma=0.25, n_samples=100, n_selection=10),
        n_pairs=10,
    )
    rates = made.certified_rates([0, 0.25, 0.5])
    for key in ("tar", "far"):
        assert [point[key]["mean"] for point in learner["summary"]["certified"]] == getattr(rates, key).tolist()
    assert pixels["certificate"]["method"] == "lipschitz" and "certified" in pixels["brackets"]
    # The smoothed decision is not the one that was attacked: they are in no bracket. It was attacked for itself.
    assert "certified" not in learner["brackets"] and "certified" not in learner["under_attack"]
    told = {(each["code"], each["learner"]): each["severity"] for each in found.document["checks"]}
    assert told["CV201", "any"] == "passed"
    trial = learner["certificate"]["trial"]
    assert trial["checked"] > 0 and trial["turned"] <= trial["allowed"] < trial["checked"] / 2
    assert "under Gaussian noise of deviation 0.25, each with a confidence of 99.9 %" in render_audit(found.document)


@pytest.mark.slow
def test_attacks_are_those_on_a_surrogate(half, digits, result):
    class Others(torch.nn.Module):  # sees no pixel that the model sees
        def forward(self, x):
            return x.flatten(1)[:, 1::2]

    images, asked = digits(8, slice(160)), {**ASKED, "certify": None}
    own = audit_model_verification({"half": half}, images, surrogate=half, **asked).document
    blind = audit_model_verification({"half": half}, images, surrogate=Others(), **asked).document
    known, same, other = (told["learners"][0] for told in (result.document, own, blind))
    # Who computes attacks on the very model knows it.
    assert same["brackets"]["attacked"] == known["brackets"]["attacked"] and same["gallery"] == known["gallery"]
    # Who knows only pixels that it does not look at changes hardly a decision, and is told to have been there.
    for key, sign in (("tar", 1), ("far", -1)):
        mine, theirs = (sign * np.array(told["brackets"]["attacked"][key]) for told in (known, other))
        assert theirs[-1] - mine[-1] > 0.2 and theirs[0] - theirs[-1] < 0.1
    assert blind["protocol"]["surrogate"] == "Others" and "<b>Others</b>: attacks are computed on it" in render_audit(
        blind
    )


def test_rates_by_group_are_those_of_its_probes(half, digits):
    images, asked = digits(8, slice(160)), {**ASKED, "certify": None, "attacks": ["fgsm"], "n_attacked": 5}
    groups = np.where(np.arange(len(images)) % 3 == 0, "left", "right")
    found = audit_model_verification({"half": half}, images, groups=groups, **asked)
    learner = found.document["learners"][0]
    rows = ModelVerificationRequest({"half": half}, images, **asked).parts[1]
    places, labels, of = half(images.images)[rows].double().detach(), images.labels[rows].numpy(), groups[rows]
    near = (places[:, None] - places).norm(dim=2).numpy() <= learner["splits"][0]["threshold"]
    same, other = labels[:, None] == labels, ~np.eye(len(rows), dtype=bool)
    assert {row["group"] for row in learner["groups"]} == {"left", "right"}
    for row in learner["groups"]:
        own = of == row["group"]
        kinds = {"tar": same & other, "far": ~same, "far_within": ~same & own}
        for key, pairs in kinds.items():
            chosen = pairs & own[:, None]
            assert row[f"n_{key}"] == chosen.sum()
            assert row[key]["mean"] == pytest.approx(near[chosen].mean(), abs=1e-12)
            assert row[key]["low"] <= row[key]["mean"] <= row[key]["high"]
    assert found.per_class()["group"].tolist()[:2] == [row["group"] for row in learner["groups"]]
    assert "Groups, the least accepted first" in render_audit(found.document)


def test_the_page_tells_models(result):
    html = render_audit(result.document)
    for name in ("det-attacked", "certified-tar", "bracket-far"):
        assert f'id="figure-{name}"' in html
    assert "data:image/png" in html and "1 model beside raw pixels" in html
    header, _ = result.table()
    assert header[0] == "Model" and "FAR attacked at ε = 0.5 [%]" in header and "Fit [s]" not in header


def test_checks_find_a_broken_certificate_and_a_model_that_knows_nothing(result):
    twice = ImageSet(torch.ones(4, 1, 2, 2), torch.tensor([0, 0, 1, 1]))
    seen = Subject("seen", torch.nn.Flatten(), trained_on=frozenset(digests(twice)))
    parts = (np.array([0, 2]), np.array([1, 3]), False)
    request = type("Request", (), {"far": 1e-6, "parts": parts, "images": twice, "subjects": (seen,)})
    learner = result.document["learners"][0]
    learner = {**learner, "certificate": {"broken": 1, "pairs": 60}}
    learner["groups"] = [{"group": "left", "far": {"mean": 0.5, "low": 0.45}, "tar": {"mean": 0.0, "low": None}}]
    learner["summary"] = {
        "auc": {"mean": 0.5},
        "tar": {"mean": 0.0},
        "far": {"mean": 0.2, "low": 0.1, "high": 0.3},
    }
    told = {entry["code"]: entry for entry in run_checks(SCOPE, Observed(request, [learner]))}
    found = {code: entry["severity"] for code, entry in told.items()}
    assert found.pop("CV203") == "tip"
    assert set(found.values()) == {"issue"}
    assert found.keys() == {"CV201", "CV204", "CV205", "CV206", "CV207", "CV208", "CV209"}
    assert "2 of them the threshold was calibrated on, 2 of them 'seen' was trained on" in told["CV204"]["message"]
    assert "false accepts of 'left' 50 % against 20 % of all" in told["CV209"]["message"]


def test_smoothed_decisions_that_turn_are_an_error_where_chance_does_not_account_for_them(result):
    def told(**trial):
        certificate = {"method": "smoothing", "trial": {"eps": 0.5, "checked": 20, "allowed": 1, **trial}}
        observed = Observed(None, [{**result.document["learners"][0], "certificate": certificate}])
        return next(certificate_above_attack_of(observed))

    def certificate_above_attack_of(observed):
        (check,) = (each for each in checks_of(SCOPE) if each.code == "CV201")
        return ((entry["severity"], entry["message"]) for entry in check.carry_out(observed))

    assert told(turned=1, broken=False)[0] == "passed"
    severity, message = told(turned=2, broken=True)
    assert severity == "issue" and "2 are turned once the probes are attacked: this is an error" in message
    assert told(checked=0, turned=0, broken=False)[0] == "skipped"


def test_progress_counts_every_part_once(half, digits):
    asked = {**ASKED, "n_attacked": 5, "certify": "smoothing", "draws": 50, "report_eps": 0.25, "attacks": ["fgsm"]}
    evidence = ModelVerificationEvidence(ModelVerificationRequest({"half": half}, digits(8, slice(80)), **asked))
    counts = []
    with claimed(None, "an audit") as store:
        for _ in range(2):  # the second time all is in the store
            counts.append(0)

            def counting(failed):
                counts[-1] += 1

            evidence.gather(store, counting)
    # Of each subject two attacks and the rest, and the tenths of the draws of the one that is smoothed.
    assert counts == [2 * 3 + 10] * 2
    # Ten draws that agree certify .003 σ: at the quoted ε nothing, which is said before the work.
    assert evidence.remarks() == []
    few = ModelVerificationRequest({"half": half}, digits(8, slice(80)), **{**asked, "draws": 10})
    (told,) = ModelVerificationEvidence(few).remarks()
    assert told.startswith("smoothing of 'half' with sigma = 0.25 certifies no radius beyond")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"norm": "linf"}, "certificates by lipschitz are for the norm l2"),
        ({"far": 0}, "far must be a rate of false accepts above 0"),
        ({"metric": "cosin"}, "metric must be one of 'euclidean', 'cosine', got 'cosin' .did you mean"),
        ({"attacks": ["pdg"]}, "attacks must be one of"),
        ({"fail_under": "attacked@3=0.1"}, "fail_under needs the ε 3, but those of the audit are 0.25, 0.5"),
    ],
)
def test_what_is_wrong_is_said_before_the_work(half, digits, change, sentence):
    with pytest.raises(ValueError, match=sentence):
        audit_model_verification({"half": half}, digits(8, slice(80)), **{**ASKED, **change})


def test_one_subject_has_no_impostors(half):
    images = ImageSet(torch.rand(6, 1, 8, 8), torch.zeros(6, dtype=torch.int64))
    with pytest.raises(ValueError, match="verification needs 2 parts with pairs of both kinds"):
        audit_model_verification({"half": half}, images, **ASKED)
