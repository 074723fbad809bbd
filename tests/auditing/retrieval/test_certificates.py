"""Certificates in audits of embedding models: what is told of each, and the check that holds them against attacks."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")

from torch import nn  # noqa: E402

from certimetric.auditing import AuditResult, audit_retrieval  # noqa: E402
from certimetric.auditing.retrieval.cells import Cells  # noqa: E402
from certimetric.auditing.retrieval.certificates import held_against, smoothed_against  # noqa: E402
from certimetric.auditing.retrieval.request import RetrievalRequest, Subject  # noqa: E402
from certimetric.auditing.retrieval.run import RetrievalEvidence  # noqa: E402
from certimetric.base.wording import PIXELS  # noqa: E402
from certimetric.deep import (  # noqa: E402
    ImageSet,
    Index,
    LipschitzCertifier,
    SmoothingCertifier,
    certify_retrieval,
    embedding_model,
)
from certimetric.deep.certify import Certified  # noqa: E402
from certimetric.report import render_audit, summary_table  # noqa: E402
from certimetric.runs.store import Store  # noqa: E402


def models():
    torch.manual_seed(0)
    return {
        "lipschitz": embedding_model("lipschitz-cnn", 8, size=8, width=4, depth=1, kernel=3),
        "linear": nn.Sequential(nn.Flatten(), nn.Linear(64, 8)),
        "grouped": embedding_model("small-cnn", 8, width=8).eval(),
    }


def quick(data, chosen=("lipschitz", "grouped"), **options):
    named = {name: model for name, model in models().items() if name in chosen}
    given = {"norm": "l2", "eps": [0.1, 0.3], "report_eps": 0.1, "n_checked": 0, "attacks": ["pgd"], **options}
    return audit_retrieval(named, data, **given)


@pytest.fixture(scope="module")
def result(data):
    return quick(data, ["lipschitz", "linear", "grouped"], certify="lipschitz", fail_under="linear.certified@0.1=0.2")


def entry(audit, name):
    return next(learner for learner in audit.document["learners"] if learner["spec"] == name)


def test_figures_are_those_of_the_certificate(result, data):
    for name in ("lipschitz", "linear"):
        found = certify_retrieval(models()[name], data)
        told = entry(result, name)["certificate"]
        assert told["method"] == "lipschitz" and told["confidence"] is None
        assert told["constant"] == pytest.approx(found.constant)
        assert [each["mean"] for each in told["at"]] == pytest.approx(found.certified_recall([0.1, 0.3]).tolist())
        assert told["recall"]["mean"] == pytest.approx(found.certified_recall(0.0))
        assert np.diff(told["curve"]["recall"]).max() <= 0 and told["curve"]["eps"][-1] == 0.3
    pixels = entry(result, PIXELS)["certificate"]
    assert pixels["method"] == "pixels" and pixels["at"][0]["mean"] == found.pixels.certified_recall(0.1)


def test_groups_are_out_of_certificates(data):
    groups = torch.arange(60) % 3
    queries = ImageSet(data.images[:25], data.labels[:25], groups=groups[:25])
    gallery = ImageSet(data.images[25:], data.labels[25:], groups=groups[25:])
    audit = quick(queries, ["linear"], gallery=gallery, certify="lipschitz")
    told = entry(audit, "linear")["certificate"]
    found = certify_retrieval(models()["linear"], queries, gallery)
    assert [each["mean"] for each in told["at"]] == pytest.approx(found.certified_recall([0.1, 0.3]).tolist())
    blind = [ImageSet(some.images, some.labels) for some in (queries, gallery)]
    assert (
        told["curve"]["recall"]
        != entry(quick(blind[0], ["linear"], gallery=blind[1], certify="lipschitz"), "linear")["certificate"]["curve"][
            "recall"
        ]
    )
    assert {c["learner"]: c["severity"] for c in audit.document["checks"] if c["code"] == "CR112"}["linear"] == "passed"


def test_certified_lies_below_attacked(result):
    for name in ("lipschitz", "linear", PIXELS):
        learner = entry(result, name)
        for told, attacked in zip(learner["certificate"]["at"], learner["attacked"]):
            assert told["mean"] <= attacked["worst"]["recall_at_1"]["mean"]


def test_checks_and_thresholds(result):
    told = {c["learner"]: c for c in result.document["checks"] if c["code"] == "CR112"}
    assert {name: c["severity"] for name, c in told.items()} == {
        "lipschitz": "passed",
        "linear": "passed",
        PIXELS: "passed",
        "grouped": "not applicable",
    }
    assert "GroupNorm" in told["grouped"]["message"]
    (threshold,) = result.document["thresholds"]
    assert threshold["observed"] == entry(result, "linear")["certificate"]["at"][0]["mean"]


def test_a_certificate_above_an_attack_is_an_issue(data):
    request = RetrievalRequest(models(), data, norm="l2", eps=[0.1, 0.3], attacks=["pgd"], certify="auto")
    n = len(request.queries)
    certificate = {"method": "lipschitz", "radii": [0.2] * n}
    broken = {"recall_at_1": np.r_[0.0, 0.0, np.ones(n - 2)]}
    held = {"recall_at_1": np.ones(n)}
    told = held_against(request, certificate, [[broken, broken], [held, held]])
    assert told.status == "issue" and "2 queries within their certified radius" in told.message
    assert held_against(request, certificate, [[held, held], [broken, broken]]).status == "passed"  # beyond the radius


@pytest.mark.slow
def test_auto_proves_where_it_can_and_asks_chance_elsewhere(data, tmp_path, monkeypatch):
    monkeypatch.setattr(
        SmoothingCertifier, "for_audit", lambda sigma, seed: SmoothingCertifier("vote", sigma, 40, 5, seed=seed)
    )
    one = quick(data, certify="auto", out=tmp_path, n_queries=15)
    methods = {learner["spec"]: learner["certificate"]["method"] for learner in one.document["learners"]}
    assert methods == {"lipschitz": "lipschitz", "grouped": "smoothing", PIXELS: "pixels"}
    told = entry(one, "grouped")["certificate"]
    assert told["settings"]["sigma"] == 0.1 and told["confidence"] == 0.999 and 0 <= told["abstained"] <= 1
    again = quick(data, certify="auto", out=tmp_path, n_queries=15)
    cells = again.document["reproduction"]["cells"]
    assert cells["computed"] == 0 and cells["reused"] == one.document["reproduction"]["cells"]["computed"]
    assert [learner["certificate"] for learner in again.document["learners"]] == [
        learner["certificate"] for learner in one.document["learners"]
    ]
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "randomised smoothing" in page and "99.9 % each" in page
    check = next(c for c in one.document["checks"] if c["code"] == "CR112" and c["learner"] == "grouped")
    assert check["severity"] == "skipped" and "set aside" in check["message"]


def test_smoothing_that_can_certify_nothing_is_told_before_the_work(data):
    run = {"config": {"defense": {"kind": "noise", "sigma": 0.01}}, "history": [], "seconds": 0.0, "finished": True}
    noisy = Subject("noisy", models()["linear"], run=run)
    asked = {
        "models": {"noisy": noisy, "other": models()["lipschitz"]},
        "queries": data,
        "norm": "l2",
        "eps": [0.1],
        "attacks": ["fgsm"],
        "n_checked": 0,
        "n_queries": 10,
    }
    (told,) = RetrievalEvidence(RetrievalRequest(certify="smoothing", **asked)).remarks()
    assert told.startswith("smoothing of 'noisy' with sigma = 0.01 certifies no radius beyond 0.0246, and so nothing")
    assert not RetrievalEvidence(RetrievalRequest(certify="lipschitz", **asked)).remarks()
    with pytest.warns(UserWarning, match="smoothing of 'noisy'") as caught:
        audit = audit_retrieval(certify="smoothing", **asked)
    (warning,) = (each for each in caught if "certifies no radius" in str(each.message))
    assert warning.filename == __file__  # it is told of the call
    assert entry(audit, "noisy")["certificate"]["at"][0]["mean"] == 0.0


def test_a_smoothed_model_is_shown_what_attacks_found(data):
    """A certificate that is right, and one that was made of nothing."""
    named = {"linear": models()["linear"]}
    request = RetrievalRequest(named, data, norm="l2", eps=[0.05], attacks=["pgd"], certify="smoothing", n_checked=20)
    index = Index(named["linear"], request.gallery)
    certifier = SmoothingCertifier(sigma=0.1, n_samples=300, n_selection=20)
    made = certify_retrieval(named["linear"], request.queries, request.gallery, method=certifier)
    told = {"method": "smoothing", "settings": made.settings, "confidence": made.confidence}
    told["radii"] = made.correct_radii.tolist()
    check = smoothed_against(request, told, index)
    assert check.status == "passed" and "smoothed model gives up" in check.message
    far = RetrievalRequest(named, data, norm="l2", eps=[3.0], attacks=["pgd"], certify="smoothing", n_checked=20)
    wrong = {**told, "radii": [5.0] * len(request.queries)}
    check = smoothed_against(far, wrong, index)
    assert check.status == "issue" and "error in certimetric" in check.message


def test_intervals_are_for_linf(data):
    audit = quick(data, ["linear"], norm="linf", eps=[0.005, 0.01], report_eps=0.005, certify="auto")
    assert entry(audit, "linear")["certificate"]["method"] == "interval"
    assert entry(audit, "linear")["certificate"]["at"][0]["mean"] > 0
    with pytest.raises(ValueError, match="certificates by lipschitz are for the norm l2"):
        quick(data, norm="linf", certify="lipschitz")
    with pytest.raises(ValueError, match="certify must be one of"):
        quick(data, certify="magic")
    with pytest.raises(ValueError, match="fail_under"):
        quick(data, fail_under="certified@0.1=0.5")  # nothing is certified


@pytest.mark.slow
def test_page_shows_certificates_and_old_documents_still_do_without(result, data):
    page = render_audit(result.document)
    assert 'id="certificates"' in page and page.count('id="figure-certified-') == 3
    assert "proven" in page
    header, rows = summary_table(result.document)
    assert any("certified" in name for name in header) and len(rows) == 4
    old = copy.deepcopy(result.document)
    for learner in old["learners"]:
        del learner["certificate"]
    del old["protocol"]["certify"]
    old["checks"] = [c for c in old["checks"] if c["code"] != "CR112"]
    assert 'id="certificates"' not in render_audit(old)
    assert not any("certified" in name for name in summary_table(old)[0])
    without = quick(data, ["linear"], n_queries=10)
    assert entry(without, "linear")["certificate"] is None
    assert AuditResult(json.loads(json.dumps(without.document))).document == without.document


def test_a_broken_certificate_fails_the_audit(data, monkeypatch):
    """Radii that are five times too large are found by the attacks, and no threshold is needed for FAIL."""
    certificate = Cells.certificate

    def inflated(*arguments):
        told = certificate(*arguments)
        return {**told, "radii": [5 * float(radius) for radius in told["radii"]]}

    monkeypatch.setattr(Cells, "certificate", inflated)
    audit = quick(data, ["linear"], certify="lipschitz", eps=[0.3, 1.0], report_eps=0.3)
    assert audit.status == "FAIL" and not audit.passed
    assert "a certificate was broken, which is an error of this library" in audit.document["verdict"]["sentence"]


class Infinite(LipschitzCertifier):
    """Nothing changes the first result of any query but the last two."""

    def certify(self, model, queries, gallery, batch_size=256):
        n = len(queries)
        radii = np.where(np.arange(n) < n - 2, np.inf, 0.1)
        return Certified(queries.labels.numpy(), radii, np.zeros(n, dtype=bool), 1.0)


def test_infinite_radii_stay_infinite(data, tmp_path, monkeypatch):
    request = RetrievalRequest(models(), data, norm="l2", eps=[0.2], certify="lipschitz")
    with Store(tmp_path / "of one", "an audit") as store:
        first = Cells(request, store).certificate(request.subjects[0], Infinite())
        cells = Cells(request, store)
        again = cells.certificate(request.subjects[0], Infinite())
    assert cells.reused == 1 and {**again, "radii": None} == {**first, "radii": None}
    assert again["radii"].tolist() == first["radii"].tolist() == [float("inf")] * 58 + [0.1, 0.1]
    monkeypatch.setattr("certimetric.deep.certify.lipschitz.LipschitzCertifier", Infinite)
    audit = quick(data, ["linear"], certify="lipschitz", eps=[0.2, 0.3], report_eps=0.2, out=tmp_path)
    told = entry(audit, "linear")["certificate"]
    assert told["median_radius"] == "inf" and told["at"][0]["mean"] == told["curve"]["recall"][-1] == 58 / 60
    page = render_audit(AuditResult.load(tmp_path).document)
    assert '<td class="num">∞</td>' in page


def test_inner_products_are_attacked_and_certified(data):
    """Figures are those of the search by inner product, and what is certified no attack breaks."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 6))
    asked = {
        "norm": "l2",
        "eps": [0.1],
        "attacks": ["pgd"],
        "n_checked": 0,
        "n_queries": 20,
        "threats": ["poisoning=2"],
    }
    document = audit_retrieval({"model": model}, data, metric="dot", certify="lipschitz", **asked).document
    learner = document["learners"][0]
    points = np.asarray(model(data.tensor()).detach().double())
    products = points @ points.T
    np.fill_diagonal(products, -np.inf)
    labels = np.asarray(data.labels)
    right = labels[products.argmax(axis=1)] == labels
    rows = np.sort(torch.randperm(len(data), generator=torch.Generator().manual_seed(0))[:20].numpy())
    assert learner["clean"]["recall_at_1"]["mean"] == pytest.approx(right[rows].mean())
    assert learner["dim"] == 6 and learner["threats"][0]["vote"] is None
    certified = learner["certificate"]["at"][0]["mean"]
    assert 0 < certified <= learner["attacked"][0]["worst"]["recall_at_1"]["mean"]
    assert not [each for each in document["checks"] if each["code"] == "CR112" and each["severity"] == "issue"]
    with pytest.raises(ValueError, match="certify must be 'auto' or 'lipschitz' in l2 for inner products, got"):
        audit_retrieval({"model": model}, data, metric="dot", certify="smoothing", **asked)
