"""The audit of embedding models: its figures, what is kept on disk, and every odd model and image set."""

from __future__ import annotations

import sqlite3
import warnings
from contextlib import closing

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")

from PIL import Image  # noqa: E402
from scipy.stats import binomtest  # noqa: E402
from sklearn.neighbors import KNeighborsClassifier  # noqa: E402
from torch import nn  # noqa: E402

from certimetric.auditing import audit_retrieval  # noqa: E402
from certimetric.auditing.retrieval.cells import Cells, model_hash  # noqa: E402
from certimetric.auditing.retrieval.request import Subject, checked_radii  # noqa: E402
from certimetric.base.results import estimate  # noqa: E402
from certimetric.datasets.images.files import ImageFiles  # noqa: E402
from certimetric.deep import APGD, FGSM, PGD, ImageSet, LinfBall, embedding_model, evaluate_retrieval  # noqa: E402

pytestmark = pytest.mark.usefixtures("undrawn")
FIGURES = ("recall_at_1", "recall_at_2", "recall_at_4", "recall_at_8", "map_at_r", "map")


def network(seed=0, channels=1):
    torch.manual_seed(seed)
    return embedding_model("small-cnn", 8, in_channels=channels, width=8).eval()


class Given(nn.Module):
    """A model that does what it is told, with some weights."""

    def __init__(self, forward):
        super().__init__()
        torch.manual_seed(0)
        self.given, self.linear = forward, nn.Linear(64, 4)

    def forward(self, images):
        return self.given(self, images)


def project(self, images):
    return self.linear(images.flatten(1))


def quick(models, queries, gallery=None, **options):
    models = models if isinstance(models, dict) else {"model": models}
    return audit_retrieval(models, queries, gallery, **{"eps": [0.05], "n_checked": 0, "attacks": ["fgsm"], **options})


@pytest.fixture(scope="module")
def result(data):
    """Two models under two attacks of two sizes."""
    return audit_retrieval(
        {"first": network(0), "second": network(1)},
        data,
        eps=[0.02, 0.1],
        report_eps=0.02,
        n_checked=0,
        fail_under=["recall=0.5", "second.attacked@0.1=0.99"],
    )


def test_figures_are_those_of_the_evaluation(result, data):
    attacks = [kind(LinfBall(0.02), steps=steps) for kind, steps in ((PGD, 20), (APGD, 50))]
    for learner, model in zip(result.document["learners"], (network(0), network(1))):
        frame = evaluate_retrieval(model, data, attacks=attacks, with_pixels=False).to_frame().set_index("attack")
        entry = learner["attacked"][0]
        for name, told in (("clean", learner["clean"]), ("PGD", entry["attacks"]["pgd"]), ("worst case", None)):
            told = entry["worst"] if told is None else told
            assert told["recall_at_1"]["mean"] == pytest.approx(frame.loc[name, "recall_at_1"], abs=1e-9)
        assert learner["clean"]["map_at_r"]["mean"] == pytest.approx(frame.loc["clean", "map_at_r"], abs=1e-7)
        assert learner["clean"]["nmi"] == pytest.approx(frame.loc["clean", "nmi"])


def test_nothing_rises_under_attack(result):
    for learner in result.document["learners"]:
        for figure in FIGURES:
            small, large = (entry["worst"][figure]["mean"] for entry in learner["attacked"])
            assert large <= small <= learner["clean"][figure]["mean"]
            for entry in learner["attacked"]:
                assert all(entry["worst"][figure]["mean"] <= told[figure]["mean"] for told in entry["attacks"].values())


def test_a_share_has_the_interval_of_wilson():
    for hits, n in ((0, 7), (3, 7), (7, 7), (40, 100)):
        told = estimate(np.repeat([1.0, 0.0], [hits, n - hits]))
        wilson = binomtest(hits, n).proportion_ci(method="wilson")
        assert (told["mean"], told["low"], told["high"]) == pytest.approx((hits / n, *wilson), abs=1e-7)


def test_one_query_tells_nothing_of_a_mean():
    assert estimate(np.array([0.4])) == {"mean": 0.4, "low": 0.0, "high": 1.0}


def test_thresholds_and_verdict(result):
    document = result.document
    specs = [learner["spec"] for learner in document["learners"]]
    assert specs == ["first", "second", "raw pixels"]
    recall, attacked = document["thresholds"]
    second = document["learners"][1]["attacked"][1]["worst"]["recall_at_1"]["mean"]
    assert (attacked["expression"], attacked["observed"]) == ("second.attacked@0.1>=0.99", second)
    assert recall["passed"]
    assert not attacked["passed"]
    assert result.status == "FAIL"
    assert not result.passed
    shares = {
        learner["spec"]: (
            learner["attacked"][0]["worst"]["recall_at_1"]["mean"],
            learner["clean"]["recall_at_1"]["mean"],
        )
        for learner in document["learners"]
    }
    best = max(("first", "second"), key=shares.__getitem__)
    sentence = document["verdict"]["sentence"]
    assert sentence.startswith(f"{best} is recommended")
    assert f"{100 * shares['raw pixels'][0]:.1f} % for raw pixels" in sentence
    assert "1 threshold of 2 missed: second.attacked@0.1" in sentence


def test_same_seed_same_document(data):
    one, two = (quick(network(), data, seed=3, n_queries=20).to_dict() for _ in range(2))
    for document in (one, two):
        document["reproduction"].pop("started"), document["reproduction"].pop("wall_seconds")
    assert one == two
    assert one["data"]["n_queries"] == 20
    assert one["data"]["n_gallery"] == 60


def test_frame_has_every_figure(result):
    frame = result.to_frame()
    assert len(frame) == 3 * (1 + 2 * 3)
    told = frame.set_index(["model", "attack", "eps"]).loc[("first", "pgd", 0.1), "map"]
    assert told == result.document["learners"][0]["attacked"][1]["attacks"]["pgd"]["map"]["mean"]


# Image sets ----------------------------------------------------------------------------------------------------------


def recall_of_pixels(result):
    return result.document["learners"][-1]["clean"]["recall_at_1"]["mean"]


def test_a_gallery_of_other_pictures(data, digits):
    """Both sets count their pictures from 0; no query loses an item of the gallery for that."""
    gallery = digits(4, slice(100, 150))
    result = quick(network(), data, gallery)
    nearest = KNeighborsClassifier(1).fit(gallery.images.flatten(1), gallery.labels)
    assert recall_of_pixels(result) == pytest.approx(nearest.score(data.images.flatten(1), data.labels))
    assert result.document["data"]["n_gallery"] == 50


def test_queries_of_the_gallery_are_not_their_own_results(data):
    queries = data.select(torch.arange(10, 30))
    leave_one_out = recall_of_pixels(quick(network(), queries, data))
    found = [
        KNeighborsClassifier(1)
        .fit(data.images[rows].flatten(1), data.labels[rows])
        .score(data.images[[i]].flatten(1), data.labels[[i]])
        for i in range(10, 30)
        for rows in [[j for j in range(len(data)) if j != i]]
    ]
    assert leave_one_out == pytest.approx(np.mean(found))


def test_ids_and_groups_are_the_word_of_the_user(data):
    """The same figures as of the evaluation: for copies with the ids of their originals, and for groups."""
    ids, groups = torch.arange(60) + 500, torch.arange(60) % 5
    cases = (
        (ImageSet(0.9 * data.images, data.labels, ids), ImageSet(data.images, data.labels, ids)),
        (ImageSet(data.images, data.labels, groups=groups), None),
        (ImageSet(data.images[7:30], data.labels[7:30]), data),  # found by their pixels
    )
    for queries, gallery in cases:
        told = quick(Given(project), queries, gallery, n_queries=100).document["learners"]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            attacks = [FGSM(LinfBall(0.05))]
            frame = evaluate_retrieval(Given(project), queries, gallery, attacks=attacks).to_frame()
        for learner, subject in zip(told, ("model", "raw pixels")):
            clean, attacked = frame[frame["subject"] == subject].to_dict("records")
            for name in ("recall_at_1", "map_at_r"):
                assert learner["clean"][name]["mean"] == pytest.approx(clean[name], abs=1e-7)
                assert learner["attacked"][0]["attacks"]["fgsm"][name]["mean"] == pytest.approx(
                    attacked[name], abs=1e-7
                )


def test_cells_know_the_groups(data, tmp_path):
    quick(Given(project), data, out=tmp_path)
    (tmp_path / "results.json").unlink()  # its report may be written over
    grouped = ImageSet(data.images, data.labels, groups=torch.arange(60) % 5)
    assert cells(quick(Given(project), grouped, out=tmp_path)) == (4, 0)


def test_ids_that_mean_two_pictures_are_refused(data):
    queries = ImageSet(data.images[:4], data.labels[:4], torch.tensor([0, 1, 7, 3]))
    with pytest.raises(ValueError, match="query 2 and gallery item 7"):
        quick(network(), queries, data)
    queries = ImageSet(data.images[:4], (data.labels[:4] + 1) % 4)
    with pytest.raises(ValueError, match="query 0 and gallery item 0"):
        quick(network(), queries, data)


def test_a_class_without_queries_and_a_class_of_one(data):
    queries = data.select((data.labels != 2).nonzero()[:, 0])
    alone = ImageSet(torch.rand(1, 1, 8, 8), torch.tensor([9]), torch.tensor([99]))
    queries = ImageSet(*(torch.cat(p) for p in zip(*((s.images, s.labels, s.ids) for s in (queries, alone)))))
    result = quick(network(), queries, data)
    rows = result.document["learners"][0]["per_class"]
    assert [row["class"] for row in rows] == ["0", "1", "3"]
    assert result.document["data"]["n_without_positive"] == 1
    assert sum(row["count"] for row in rows) == result.document["data"]["n_queries"]


def test_labels_that_do_not_begin_at_0_keep_their_names(data):
    shifted = ImageSet(data.images, data.labels + 1)
    told = quick(network(), shifted).document["learners"][0]
    assert [row["class"] for row in told["per_class"]] == ["1", "2", "3", "4"]
    assert told["map"]["classes"] == ["1", "2", "3", "4"]


@pytest.mark.parametrize("channels", [2, 3, 4])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_channels_and_norms(channels, norm):
    torch.manual_seed(0)
    images = ImageSet(torch.rand(12, channels, 8, 8), torch.arange(12) % 3)
    document = quick(network(0, channels), images, norm=norm, eps=[0.5]).document
    assert document["protocol"]["eps"] == [0.5]
    assert document["data"]["image_shape"] == [channels, 8, 8]
    for learner in document["learners"]:
        for card in learner["examples"]:
            assert card["magnified"] is None or card["magnified"] > 0


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_radii_by_default_suit_the_picture(data, norm):
    told = quick(Given(project), data, norm=norm, eps=None, n_queries=5).document["protocol"]
    assert len(told["eps"]) == 5
    assert told["report_eps"] in told["eps"]


@pytest.mark.slow
def test_large_pictures_do_not_need_a_covariance_of_pixels():
    """Raw pixels of 160 × 160 in colour have 76,800 dimensions: their covariance would take 47 GB."""
    torch.manual_seed(0)
    images = ImageSet(torch.rand(8, 3, 160, 160), torch.arange(8) % 2)
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten())
    pixels = quick(pool, images).document["learners"][-1]
    assert pixels["dim"] == 76800
    assert 0 < pixels["map"]["explained"] < 1
    assert len({tuple(point) for point in pixels["map"]["points"]}) == 8


def test_pictures_in_files(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(8):
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
    files = ImageFiles(sorted(tmp_path.glob("*.png")), 16)
    labels = torch.arange(8) % 2
    lazy, held = (quick(network(0, 3), ImageSet(images, labels)).document for images in (files, files[:]))
    assert lazy["learners"] == held["learners"]
    assert lazy["data"] == held["data"]


# What is kept on disk ------------------------------------------------------------------------------------------------


def cells(result):
    told = result.document["reproduction"]["cells"]
    return told["computed"], told["reused"]


def test_an_interrupted_audit_goes_on(data, tmp_path, monkeypatch):
    whole = quick(network(), data)
    assert cells(whole) == (4, 0)
    score, calls = Cells.score, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return score(*arguments)

    monkeypatch.setattr(Cells, "score", interrupted)
    with pytest.raises(KeyboardInterrupt):
        quick(network(), data, out=tmp_path)
    assert not (tmp_path / "results.json").exists()
    monkeypatch.undo()
    resumed = quick(network(), data, out=tmp_path)
    assert cells(resumed) == (2, 2)
    assert resumed.document["learners"] == whole.document["learners"]
    assert cells(quick(network(), data, out=tmp_path)) == (0, 4)


@pytest.mark.parametrize("damage", ["arrays = substr(arrays, 1, 50)", "arrays = x''", "result = 'null'", "cell = '{}'"])
def test_a_damaged_cell_is_computed_again(data, tmp_path, damage):
    before = quick(network(), data, out=tmp_path, n_queries=10)
    with closing(sqlite3.connect(tmp_path / "results.sqlite")) as database, database:
        database.execute(f"UPDATE cells SET {damage} WHERE rowid = 2")
    again = quick(network(), data, out=tmp_path, n_queries=10)
    assert cells(again) == (1, 3)
    assert again.document["learners"] == before.document["learners"]


def test_a_folder_begun_by_an_earlier_version(data, tmp_path):
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells" / "ab12.json").write_text("{}")
    with pytest.warns(UserWarning, match="is not used but computed anew"):
        assert cells(quick(network(), data, out=tmp_path, n_queries=10)) == (4, 0)
    assert (tmp_path / "cells" / "ab12.json").read_text() == "{}"


def changed_weights():
    model = network()
    with torch.no_grad():
        next(model.parameters()).add_(0.01)
    return model


def without_normalisation():
    model = network()
    model.normalise = False  # is neither a weight nor in the text of the model
    return model


@pytest.mark.parametrize("change", [changed_weights, without_normalisation])
def test_another_model_of_the_same_name_reuses_nothing(data, tmp_path, change):
    quick(network(), data, out=tmp_path)
    (tmp_path / "results.json").unlink()  # its report may be written over
    assert cells(quick(change(), data, out=tmp_path)) == (2, 2)  # what is kept is of raw pixels


def test_another_forward_pass_reuses_nothing(data, tmp_path):
    quick(Given(project), data, out=tmp_path)
    (tmp_path / "results.json").unlink()  # its report may be written over
    assert cells(quick(Given(lambda self, x: project(self, x.sqrt())), data, out=tmp_path)) == (2, 2)


def test_other_data_and_settings_reuse_nothing(data, tmp_path):
    quick(network(), data, out=tmp_path)
    darker = ImageSet(data.images * 0.9, data.labels)
    for queries, options, found in ((darker, {}, (4, 0)), (data, {"eps": [0.06]}, (2, 2)), (data, {"seed": 1}, (2, 2))):
        (tmp_path / "results.json").unlink()  # its report may be written over
        assert cells(quick(network(), queries, out=tmp_path, **options)) == found


def test_the_report_of_another_audit_is_not_written_over(data, tmp_path):
    quick(Given(project), data, out=tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    grouped = ImageSet(data.images, data.labels, groups=torch.arange(60) % 5)
    for change, told in (
        ({"norm": "l2"}, "with norm linf, not l2"),
        ({"eps": [0.05, 0.1], "report_eps": 0.05}, "with other eps"),
        ({"attacks": ["pgd"]}, "with other attacks"),
        ({"n_queries": 10}, "with other data"),  # those that are drawn
        ({"n_checked": 5}, "with n_checked 0, not 5"),
        ({"seed": 1}, "with seed 0, not 1"),
        ({"ers": True}, "with ers False, not True"),
        ({"certify": "interval"}, "with certify none, not interval"),
        ({"class_names": list("abcd")}, "with other class_names"),
        ({"queries": grouped}, "with other data"),
        ({"models": changed_weights()}, "with other models"),
        ({"models": Given(lambda self, x: project(self, x.sqrt()))}, "with other models"),  # of the same weights
    ):
        with pytest.raises(ValueError, match="holds the report of another audit") as caught:
            quick(**{"models": Given(project), "queries": data, "out": tmp_path, **change})
        assert told in str(caught.value)
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    # What does not change figures makes no other audit.
    judged = quick(Given(project), data, out=tmp_path, fail_under="recall=0")
    assert cells(judged) == (0, 4) and len(judged.document["thresholds"]) == 1


def test_digest_of_models_of_any_type():
    def made(value, dtype=torch.bfloat16):
        model = nn.Linear(2, 2)
        with torch.no_grad():
            model.weight.zero_(), model.bias.zero_()
        model.register_buffer("odd", torch.full((3,), value).to(dtype))
        model.register_buffer("flag", torch.tensor(True))
        model.register_buffer("none", torch.empty(0))
        return model_hash(Subject("model", model))

    assert made(1.0) == made(1.0)
    assert len({made(1.0), made(2.0), made(1.0, torch.float16), made(1.0, torch.complex64)}) == 4


# Models and settings that do not work --------------------------------------------------------------------------------


def fails(self, images):
    raise AssertionError


MODELS = {
    "an error without a message": (fails, "AssertionError"),
    "an error of another kind": (lambda self, x: {}["key"], "'key'"),
    "pictures of another size": (lambda self, x: self.linear(x.flatten(1)[:, :60]), "60"),
    "several outputs": (lambda self, x: (project(self, x), x), "tuple"),
    "maps of features": (lambda self, x: x, "shape"),
    "NaN": (lambda self, x: project(self, x) * torch.nan, "not finite"),
}


@pytest.mark.parametrize("what", MODELS)
def test_models_that_fail_are_named_before_any_work(data, tmp_path, what):
    forward, culprit = MODELS[what]
    with pytest.raises(ValueError, match="model 'broken' cannot embed images of 1 × 8 × 8") as error:
        quick({"fine": network(), "broken": Given(forward)}, data, out=tmp_path / "out")
    assert culprit in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_model_that_fails_late_is_named(data):
    with pytest.raises(ValueError, match=r"model 'late' on the gallery: .* not finite"):
        quick({"late": Given(lambda self, x: project(self, x) / (len(x) < 20))}, data)


@pytest.mark.parametrize("guard", [torch.no_grad, torch.inference_mode])
def test_models_without_gradients_are_audited(data, guard):
    """Attacks by gradients are blind to them: a check says so, and nothing breaks off."""
    result = quick(Given(guard()(project)), data, attacks=["pgd"])
    (check,) = [entry for entry in result.document["checks"] if entry["code"] == "CR104"]
    assert check["severity"] == "issue"


SETTINGS = {
    "no model": ({"models": {}}, "at least one model"),
    "not a model": ({"models": {"text": "resnet"}}, "'text' must be a Module or a callable"),
    "name of the baseline": ({"models": {"raw pixels": network()}}, "may be called 'raw pixels'"),
    "norm": ({"norm": "l3"}, "norm .* 'l3'"),
    "attack": ({"attacks": ["pgd", "magic"]}, "'magic'"),
    "no attack": ({"attacks": []}, "attacks"),
    "no radius": ({"eps": []}, "eps"),
    "radius 0": ({"eps": [0.0, 0.1]}, "eps"),
    "radius NaN": ({"eps": [float("nan")]}, "eps"),
    "radius in steps of 255": ({"eps": [8]}, "at most 1"),
    "quoted radius": ({"report_eps": 0.3}, "report_eps"),
    "queries": ({"n_queries": 0}, "n_queries"),
    "checked": ({"n_checked": -1}, "n_checked"),
    "threshold": ({"fail_under": "speed=1"}, "fail_under"),
    "threshold of another model": ({"fail_under": "modle.recall=0.5"}, "did you mean 'model'"),
    "threshold at another size": ({"fail_under": "attacked@0.2=0.5"}, "0.05"),
}


@pytest.mark.parametrize("what", SETTINGS)
def test_bad_settings(data, tmp_path, what):
    options, message = SETTINGS[what]
    options = dict(options)
    with pytest.raises((TypeError, ValueError), match=message):
        quick(options.pop("models", network()), data, out=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_galleries_that_cannot_be_searched(data):
    with pytest.raises(ValueError, match="two classes"):
        quick(network(), data.select((data.labels == 1).nonzero()[:, 0]))
    with pytest.raises(ValueError, match="no query has another picture"):
        quick(network(), ImageSet(torch.rand(3, 1, 8, 8), torch.arange(3)))


def test_an_attack_named_twice_counts_once(data):
    told = quick(network(), data, attacks=["fgsm", "fgsm"], n_queries=5).document
    assert told["protocol"]["attacks"] == ["FGSM"]
    assert list(told["learners"][0]["attacked"][0]["attacks"]) == ["fgsm"]


def test_one_radius_may_be_a_number(data):
    assert checked_radii(0.1, None) == ((0.1,), 0.1)
    assert checked_radii([0.3, 0.1, 0.2, 0.1], None) == ((0.1, 0.2, 0.3), 0.2)


@pytest.mark.slow
def test_many_models(data):
    models = {f"model {i}": network(i) for i in range(12)}
    document = quick(models, data, n_queries=30).document
    shares = {entry["spec"]: entry["attacked"][0]["worst"]["recall_at_1"]["mean"] for entry in document["learners"]}
    told = document["verdict"]["sentence"].partition(", against ")[2].partition(";")[0]
    recommended = document["verdict"]["sentence"].partition(" is recommended")[0]
    best = sorted((shares[name] for name in models if name != recommended), reverse=True)[:2]
    assert told.startswith(f"{100 * best[0]:.1f} % for model ")
    assert f", {100 * best[1]:.1f} % for model " in told
    assert told.rstrip(".").endswith(f" and {100 * shares['raw pixels']:.1f} % for raw pixels")
