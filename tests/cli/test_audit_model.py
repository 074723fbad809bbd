"""``certimetric audit-model`` and ``audit-embeddings``: runs, factories, files, and everything that is wrong."""

from __future__ import annotations

import json
import sys
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")

from certimetric.training import TrainingConfig, train  # noqa: E402

QUICK = ["--images", "digits", "--attack", "fgsm", "--queries", "20", "--check-queries", "0", "--eps", "8/255"]
undrawn = pytest.mark.usefixtures("undrawn")

MINE = """
import torch
from torch import nn


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8))


def wide():
    return nn.Sequential(nn.Flatten(), nn.Linear(256, 8))


def needs_an_argument(dim):
    return small()


def lost():
    raise KeyError("weights.pt")


def function():
    return lambda images: images.flatten(1)


def text():
    return "a model"


number = 3
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run of one epoch."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    config = TrainingConfig.from_mapping(
        {
            "data": {"name": "digits"},
            "model": {"name": "small-cnn", "dim": 8, "width": 8},
            "training": {"epochs": 1, "batch_size": 300, "per_class": 30, "accelerator": "cpu"},
        }
    )
    train(config, folder)
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch, trained):
    """A folder with a module of the user's, embeddings, and the run as ``tiny``."""
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "broken.py").write_text("def small(:\n")
    (tmp_path / "tiny").symlink_to(trained)
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 4
    points = rng.normal(size=(40, 3)) + 3 * labels[:, None]
    np.savez(tmp_path / "vectors.npz", embeddings=points, labels=labels)
    np.savez(tmp_path / "others.npz", embeddings=points @ rng.normal(size=(3, 2)), labels=labels)
    np.savez(tmp_path / "fewer.npz", embeddings=points[:30], labels=labels[:30])
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))  # a command adds the current folder
    return tmp_path


def document(folder):
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


@pytest.mark.slow
def test_a_run_and_a_factory(run, here):
    done = run("audit-model", "--model", "tiny", "-m", "own=mine:small", *QUICK, "--title", "Two of mine")
    assert done.code == 0, done.err
    assert done.err == ""
    folder = here / "certimetric-audit" / "digits"
    told = document(folder)
    assert [learner["spec"] for learner in told["learners"]] == ["tiny", "own", "raw pixels"]
    assert told["protocol"]["eps"] == [8 / 255]
    assert (told["data"]["n_queries"], told["data"]["n_gallery"]) == (20, 896)
    assert told["reproduction"]["command"].startswith(
        "certimetric audit-model --model tiny -m own=mine:small --images digits"
    )
    assert told["learners"][0]["training"]["epochs"] == 1
    assert told["learners"][1]["training"] is None
    leakage = {entry["learner"]: entry["severity"] for entry in told["checks"] if entry["code"] == "CR107"}
    assert leakage == {"tiny": "passed", "own": "not applicable"}
    assert "<h1>Two of mine</h1>" in (folder / "report.html").read_text(encoding="utf-8")
    assert "ε = 8/255" in done.out
    assert told["verdict"]["sentence"] in " ".join(done.out.split())

    again = run("audit-model", "--model", "tiny", "-m", "own=mine:small", *QUICK)
    assert "0 cells computed, 6 reused" in again.out
    assert document(folder)["learners"] == told["learners"]

    read = run("report", folder, "-o", "again.html", "--title", "Two of mine")
    assert read.code == 0
    assert "<h1>Two of mine</h1>" in (here / "again.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", ["pictures", "embeddings"])
@undrawn
def test_another_audit_gets_a_folder_of_its_own(run, here, kind):
    asked, eps = {
        "pictures": (
            ["audit-model", "-m", "own=mine:small", "--images", "digits", "--attack", "fgsm", "--check-queries", "0"],
            "8/255",
        ),
        "embeddings": (["audit-embeddings", "vectors.npz"], "0.3"),
    }[kind]
    asked = [*asked, "--queries", "20"]
    first, name = run(*asked), {"pictures": "digits", "embeddings": "vectors"}[kind]
    assert first.code == 0, first.err
    whole = here / "certimetric-audit"
    before = (whole / name / "report.html").read_bytes()
    for _ in range(2):
        other = run(*asked, "--eps", eps)
        assert f"{name}-2/report.html" in other.out.replace("\\", "/")
    assert (whole / name / "report.html").read_bytes() == before
    assert not (whole / f"{name}-3").exists()
    refused = run(*asked, "--seed", "1", "--out", whole / name)
    assert refused.code == 2
    assert refused.err.count("\n") == 1
    assert "holds the report of another audit" in refused.err
    assert (whole / name / "report.html").read_bytes() == before
    again = run(*asked, "--out", whole / name)
    assert again.code == 0 and "0 cells computed" in again.out


@undrawn
def test_a_factory_may_give_a_function(run, here):
    done = run("audit-model", "-m", "mine:function", *QUICK)
    assert done.code == 0, done.err
    model, pixels = document(here / "certimetric-audit" / "digits")["learners"]
    assert (model["clean"], model["attacked"]) == (pixels["clean"], pixels["attacked"])


@undrawn
def test_smoothing_that_can_certify_nothing_is_told(run, here):
    here.joinpath("noisy").mkdir()
    for file in (here / "tiny").iterdir():
        if file.is_file():
            (here / "noisy" / file.name).write_bytes(file.read_bytes())
    told = json.loads((here / "noisy" / "run.json").read_text())
    told["config"]["defense"] = {"kind": "noise", "sigma": 0.001}
    (here / "noisy" / "run.json").write_text(json.dumps(told))
    images = ["--images", "digits", "--attack", "fgsm", "--queries", "5", "--check-queries", "0", "--norm", "l2"]
    done = run("audit-model", "-m", "noisy", *images, "--eps", "0.1", "--certify", "smoothing")
    assert done.code == 0
    assert (
        done.err.count("\n") == 1 and "smoothing of 'noisy' with sigma = 0.001 certifies no radius beyond" in done.err
    )


@undrawn
def test_ids_and_groups_of_a_file_of_pictures_count(run, here):
    """Every picture twice, once a little darker: by its id, or in its group, a query does not find itself."""
    rng = np.random.default_rng(0)
    one = rng.random((20, 1, 8, 8))
    arrays = {"images": np.concatenate([one, 0.9 * one]), "labels": np.tile(np.arange(20) % 4, 2)}
    arrays["zero_shot_test"] = arrays["labels"] >= 2
    twins = np.tile(np.arange(20), 2)
    for name, known in (
        ("plain", {}),
        ("ids", {"ids": twins}),
        ("groups", {"groups": np.char.add("c", twins.astype(str))}),
    ):
        np.savez(here / f"{name}.npz", **arrays, **known)
        images = ["--images", f"{name}.npz", "--attack", "fgsm", "--check-queries", "0", "--eps", "8/255"]
        done = run("audit-model", "-m", "own=mine:small", *images)
        assert done.code == 0, done.err
        told = document(here / "certimetric-audit" / name)
        assert told["data"]["n_groups"] == (10 if name == "groups" else None)
        recall = told["learners"][-1]["clean"]["recall_at_1"]["mean"]
        assert (recall == 1.0) == (name == "plain")


@pytest.mark.slow
def test_empirical_robustness_score(run, here):
    done = run("audit-model", "-m", "own=mine:small", *QUICK, "--ers")
    assert done.code == 0, done.err
    assert done.err == ""
    assert "22 cells computed, 0 reused" in done.out
    assert "ERS" in done.out
    folder = here / "certimetric-audit" / "digits"
    for learner in document(folder)["learners"]:
        score = learner["robustness_score"]
        assert len(score["components"]) == 10
        assert score["score"]["low"] <= score["score"]["mean"] <= score["score"]["high"]
        assert score["n_queries"] == 20
    assert 'id="ers"' in (folder / "report.html").read_text(encoding="utf-8")
    assert "0 cells computed, 22 reused" in run("audit-model", "-m", "own=mine:small", *QUICK, "--ers").out
    for wrong in (["audit", "iris", "--ers"], ["audit-embeddings", "vectors.npz", "--ers"]):
        refused = run(*wrong)
        assert refused.code == 2
        assert (
            refused.err
            == f"certimetric: error: certimetric {wrong[0]} has no option --ers: see certimetric audit-model\n"
        )


@undrawn
def test_a_missed_threshold_is_exit_code_1(run, here):
    asked = ["--fail-under", "attacked@8/255=0.01", "--fail-under", "own.recall=1"]
    done = run("audit-model", "-m", "own=mine:small", *QUICK, *asked, "--junit", "audit.xml", "--out", "out")
    assert done.code == 1
    assert done.err == ""
    assert "own.attacked@0.0313725>=0.01 holds" in done.out
    assert "own.recall>=1 does not hold" in done.out
    assert document(here / "out")["verdict"]["status"] == "FAIL"
    suite = ElementTree.parse(here / "audit.xml").getroot().find("testsuite")
    failed = [case.get("name") for case in suite.iter("testcase") if case.find("failure") is not None]
    assert failed == ["own.recall>=1", "Raw pixels [own]"]  # a random projection is no better than the pixels


@undrawn
def test_changed_code_of_a_factory_is_audited_anew(run, here, monkeypatch):
    first = run("audit-model", "-m", "own=mine:small", *QUICK)
    assert "4 cells computed, 0 reused" in first.out
    (here / "mine.py").write_text(MINE.replace("nn.Linear(64, 8)", "nn.Linear(64, 8), nn.Tanh()"))
    monkeypatch.delitem(sys.modules, "mine")
    (here / "certimetric-audit" / "digits" / "results.json").unlink()  # its report may be written over
    assert "2 cells computed, 2 reused" in run("audit-model", "-m", "own=mine:small", *QUICK).out


@undrawn
def test_a_folder_of_pictures_goes_by_its_name(run, here):
    from PIL import Image

    rng = np.random.default_rng(0)
    for i in range(4):
        (here / "photos" / f"class <{i}>").mkdir(parents=True)
        for j in range(3):
            values = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)
            Image.fromarray(values).save(here / "photos" / f"class <{i}>" / f"{j}.png")
    (here / "mine.py").write_text(MINE.replace("64", "192"))
    done = run("audit-model", "-m", "mine:small", "--images", "photos/", "--size", "8", *QUICK[2:])
    assert done.code == 0, done.err
    told = document(here / "certimetric-audit" / "photos")
    assert told["data"]["name"] == "photos"
    assert told["data"]["image_shape"] == [3, 8, 8]
    assert [row["class"] for row in told["learners"][0]["per_class"]] == ["class <2>", "class <3>"]


def test_groups_by_path(run, here):
    """Two cameras saw every object; the pictures of one are alike."""
    from PIL import Image

    rng = np.random.default_rng(0)
    cameras = rng.integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    for i in range(4):
        (here / "photos" / f"class {i}").mkdir(parents=True)
        for j in range(4):
            values = cameras[j % 2] // 16 * 15 + rng.integers(0, 16, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(values.astype(np.uint8)).save(here / "photos" / f"class {i}" / f"{j}_c{j % 2}.png")
    (here / "mine.py").write_text(MINE.replace("64", "192"))
    asked = ["audit-model", "-m", "mine:small", "--images", "photos", "--size", "8", *QUICK[2:]]
    shares = []
    for options in ([], ["--groups", r"_c(\d)"]):
        done = run(*asked, *options, "--out", f"out{len(options)}")
        assert done.code == 0, done.err
        shares.append(document(here / f"out{len(options)}"))
    assert [told["data"]["n_groups"] for told in shares] == [None, 2]
    clean = [told["learners"][-1]["clean"]["recall_at_2"]["mean"] for told in shares]
    assert clean[0] != clean[1]
    assert "2: no query finds its own" in (here / "out2" / "report.html").read_text(encoding="utf-8")


@undrawn
def test_the_training_side_need_not_be_here(run, here):
    """A run tells what it was trained on; where that is gone, the check says so and the audit goes on."""
    labels = np.arange(16) % 4
    images = np.random.default_rng(0).random((16, 8, 8))
    np.savez(here / "set.npz", images=images, labels=labels, zero_shot_test=labels > 1)
    config = {
        "data": {"name": "set.npz"},
        "model": {"name": "small-cnn", "dim": 4, "width": 8},
        "training": {"epochs": 1, "batch_size": 8, "per_class": 4, "accelerator": "cpu"},
    }
    train(TrainingConfig.from_mapping(config), here / "net", root=here)
    np.savez(here / "set.npz", images=images[labels > 1], labels=labels[labels > 1], zero_shot_test=np.ones(8, bool))
    done = run("audit-model", "-m", "net", *QUICK[2:], "--images", "set.npz")
    assert done.code == 0, done.err
    told = document(here / "certimetric-audit" / "set")
    assert [entry["severity"] for entry in told["checks"] if entry["code"] == "CR107"] == ["not applicable"]


def test_embeddings(run, here):
    done = run("audit-embeddings", "vectors.npz", "b=others.npz", "--fail-under", "attacked@0.5=0.1")
    assert done.code == 0, done.err
    told = document(here / "certimetric-audit" / "vectors")
    assert [learner["spec"] for learner in told["learners"]] == ["vectors", "b"]
    assert told["protocol"]["units"] == "neighbour distance"
    assert 0.5 in told["protocol"]["eps"]
    assert run("report", here / "certimetric-audit" / "vectors").code == 0
    assert run("audit-embeddings", "vectors.npz", "--eps", "100", "--fail-under", "attacked@100=0.01").code == 1


def test_embeddings_of_other_files(run, here):
    held = np.load(here / "vectors.npz")
    np.save(here / "points.npy", held["embeddings"])
    days = [f"2026-01-{1 + i % 28:02}" for i in range(len(held["labels"]))]
    pd.DataFrame({"kind": held["labels"], "day": days}).to_csv(here / "known.csv", index=False)
    known = ["--labels", "known.csv", "--column", "labels=kind", "--column", "times=day"]
    done = run("audit-embeddings", "points.npy", *known, "--queries-from", "2026-01-15", "--metric", "cosine")
    assert done.code == 0, done.err
    told = document(here / "certimetric-audit" / "points")
    assert told["data"]["n_queries"] == sum(day >= "2026-01-15" for day in days)
    assert told["protocol"]["metric"] == "cosine"
    done = run("audit-embeddings", "m=points.npy", *known, "--query-file", "points.npy", "--query-labels", "known.csv")
    assert done.code == 0, done.err
    assert document(here / "certimetric-audit" / "points-2")["learners"][0]["spec"] == "m"


WRONG = {
    "no model": (["audit-model", "--images", "digits"], "--model"),
    "no images": (["audit-model", "--model", "tiny"], "--images"),
    "an option of tables": (["audit-model", "--model", "tiny", "--images", "digits", "--learner", "lmnn"], "--learner"),
    "a table": (["audit-model", "iris", "--model", "tiny", "--images", "digits"], "iris"),
    "neighbours": (["audit-model", "--model", "tiny", "--images", "digits", "--neighbors", "5"], "--neighbors"),
    "an option of images": (["audit", "iris", "--attack", "pgd"], "no option --attack: see certimetric audit-model"),
    "checks of images": (["audit", "iris", "--check-queries", "5"], "--check-queries"),
    "a missing folder": (["audit-model", "--model", "tinny", "--images", "digits"], "'tinny'"),
    "a folder without a run": (["audit-model", "--model", "empty", "--images", "digits"], "run.json"),
    "an unknown module": (["audit-model", "--model", "nowhere:factory", "--images", "digits"], "'nowhere:factory'"),
    "an unknown factory": (["audit-model", "--model", "mine:tiny", "--images", "digits"], "'mine:tiny'"),
    "a module with a slip": (["audit-model", "--model", "broken:small", "--images", "digits"], "'broken:small'"),
    "a factory with arguments": (["audit-model", "--model", "mine:needs_an_argument", "--images", "digits"], "'dim'"),
    "a factory that fails": (["audit-model", "--model", "mine:lost", "--images", "digits"], "KeyError: 'weights.pt'"),
    "a factory of text": (["audit-model", "--model", "mine:text", "--images", "digits"], "got str"),
    "no factory": (["audit-model", "--model", "mine:number", "--images", "digits"], "'mine:number'"),
    "another size": (["audit-model", "--model", "mine:wide", "--images", "digits"], "cannot embed images of 1 × 8 × 8"),
    "a size": (["audit-model", "--model", "tiny", "--images", "digits", "--size", "0"], "size"),
    "an attack": (["audit-model", "--model", "tiny", "--images", "digits", "--attack", "magic"], "'magic'"),
    "images": (["audit-model", "--model", "tiny", "--images", "digit"], "did you mean 'digits'"),
    "a set without its root": (["audit-model", "--model", "tiny", "--images", "cub"], "root"),
    "a missing file of images": (["audit-model", "--model", "tiny", "--images", "missing.npz"], "missing.npz"),
    "a name twice": (["audit-model", "--model", "tiny", "--model", "./tiny", "--images", "digits"], "'tiny'"),
    "the name of the baseline": (["audit-model", "--model", "raw pixels=tiny", "--images", "digits"], "'raw pixels'"),
    "no name": (["audit-model", "--model", "=tiny", "--images", "digits"], "'=tiny'"),
    "mixed": (["audit-model", "--model", "tiny", "--model", "vectors.npz", "--images", "digits"], "'vectors.npz'"),
    "embeddings with images": (["audit-embeddings", "vectors.npz", "--images", "digits"], "--images"),
    "embeddings with an attack": (["audit-embeddings", "vectors.npz", "--attack", "pgd"], "--attack"),
    "embeddings with a size": (["audit-embeddings", "vectors.npz", "--size", "8"], "--size"),
    "embeddings with groups": (["audit-embeddings", "vectors.npz", "--groups", "x"], "--groups"),
    "groups of no files": (
        ["audit-model", "--model", "tiny", "--images", "digits", "--groups", "_c"],
        "--groups is for pictures in",
    ),
    "groups that are no expression": (
        ["audit-model", "--model", "tiny", "--images", "digits", "--groups", "(("],
        "'(('",
    ),
    "groups of a table": (["audit", "iris", "--groups", "x"], "no option --groups: see certimetric audit-model"),
    "embeddings in another norm": (["audit-embeddings", "vectors.npz", "--norm", "linf"], "--norm"),
    "another index": (["audit-embeddings", "vectors.npz", "--index", "foo"], "--index must be faiss:FACTORY"),
    "another comparison": (["audit-embeddings", "vectors.npz", "--metric", "l3"], "--metric must be one of"),
    "a column alone": (["audit-embeddings", "vectors.npz", "--column", "sku"], "--column must be NAME=COLUMN"),
    "queries of some models": (
        ["audit-embeddings", "vectors.npz", "b=others.npz", "--query-file", "vectors.npz"],
        "--query-file must be given for each of 2 models",
    ),
    "a database without its table": (["audit-embeddings", "lancedb:folder"], "told with its table"),
    "missing embeddings": (["audit-embeddings", "missing.npz"], "missing.npz"),
    "embeddings that are none": (["audit-embeddings", "text.npz"], "text.npz"),
    "embeddings of other pictures": (["audit-embeddings", "vectors.npz", "fewer.npz"], "same pictures"),
    "a figure that embeddings lack": (
        ["audit-embeddings", "vectors.npz", "--fail-under", "attacked_map@1=0.5"],
        "attacked_map",
    ),
    "a norm": (["audit-model", "--model", "tiny", "--images", "digits", "--norm", "l3"], "l3"),
    "eps": (["audit-model", "--model", "tiny", "--images", "digits", "--eps", "8/0"], "'8/0'"),
    "eps in steps": (["audit-model", "--model", "tiny", "--images", "digits", "--eps", "8"], "at most 1"),
    "queries": (
        ["audit-model", "--model", "tiny", "--images", "digits", "--queries", "0"],
        "--queries must be a whole",
    ),
    "a threshold of tables": (
        ["audit-model", "--model", "tiny", "--images", "digits", "--fail-under", "accuracy=0.9"],
        "accuracy",
    ),
    "a threshold elsewhere": (
        ["audit-model", "--model", "tiny", "--images", "digits", "--eps", "0.1", "--fail-under", "attacked@0.2=0.9"],
        "0.2",
    ),
    "a threshold of nobody": (
        ["audit-model", "--model", "tiny", "--images", "digits", "--fail-under", "x.recall=0.9"],
        "'x'",
    ),
    "junit": (["audit-model", "--model", "tiny", "--images", "digits", "--junit", "missing/audit.xml"], "--junit"),
    "out in a file": (["audit-model", "--model", "tiny", "--images", "digits", "--out", "mine.py"], "mine.py"),
    "embeddings as a model": (
        ["audit-model", "--model", "vectors.npz", "--images", "digits"],
        "certimetric audit-embeddings vectors.npz",
    ),
    "quoted eps": (["audit-embeddings", "vectors.npz", "--eps", "0.1", "--report-eps", "x"], "--report-eps"),
    "certificates without a way": (["audit-model", "--model", "tiny", "--images", "digits", "--certify"], "--certify"),
    # As it was written before these commands were: each names the command of today.
    "models under audit": (["audit", "--model", "tiny", "--images", "digits", "--ers"], "certimetric audit-model"),
    "images under audit": (["audit", "--images", "digits", "-m", "tiny"], "certimetric audit-model"),
    "embeddings under audit": (["audit", "--model", "vectors.npz"], "certimetric audit-embeddings"),
    "another option first": (["audit", "--ers", "--model", "tiny", "--images", "digits"], "certimetric audit-model"),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_input_is_one_line_and_exit_code_2(run, here, what):
    arguments, culprit = WRONG[what]
    (here / "empty").mkdir()
    (here / "text.npz").write_text("embeddings,labels\n")
    done = run(*arguments)
    assert done.code == 2, done.out
    assert done.out == ""
    assert done.err.startswith("certimetric: error: ")
    assert done.err.count("\n") == 1
    assert culprit in done.err
    assert not list(here.rglob("results.json"))
    assert not (here / "certimetric-audit").exists()


@undrawn
def test_names_of_folders_may_hold_an_equals_sign(run, here):
    (here / "lr=0.1").symlink_to(here / "tiny")
    done = run("audit-model", "-m", "lr=0.1", *QUICK)
    assert done.code == 0, done.err
    assert document(here / "certimetric-audit" / "digits")["learners"][0]["spec"] == "lr=0.1"


@undrawn
def test_an_interrupt_tells_how_to_go_on(run, here, monkeypatch):
    from certimetric.auditing.retrieval.cells import Cells

    score, calls = Cells.score, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return score(*arguments)

    monkeypatch.setattr(Cells, "score", interrupted)
    stopped = run("audit-model", "-m", "tiny", *QUICK)
    assert stopped.code == 130
    assert "run the same command to go on" in stopped.err
    monkeypatch.setattr(Cells, "score", score)
    assert "3 cells computed, 1 reused" in run("audit-model", "-m", "tiny", *QUICK).out


@undrawn
def test_certificates_of_a_run_and_a_factory(run, here):
    asked = ["--images", "digits", "--attack", "fgsm", "--queries", "20", "--check-queries", "0", "--eps", "0.1"]
    done = run(
        "audit-model",
        "-m",
        "own=mine:small",
        *asked,
        "--norm",
        "l2",
        "--certify",
        "auto",
        "--fail-under",
        "certified@0.1=0.01",
    )
    assert done.code == 0, done.err
    assert "R@1 certified" in done.out
    told = document(here / "certimetric-audit" / "digits")
    assert [learner["certificate"]["method"] for learner in told["learners"]] == ["lipschitz", "pixels"]
    assert told["protocol"]["certify"] == "auto"
    done = run("audit-model", "-m", "own=mine:small", *asked, "--certify", "interval", "--out", "boxes")
    assert done.code == 0, done.err
    assert document(here / "boxes")["learners"][0]["certificate"]["method"] == "interval"


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["audit-model", "-m", "own=mine:small", *QUICK, "--certify", "lipschitz"], "for the norm l2"),
        (["audit-model", "-m", "own=mine:small", *QUICK, "--certify", "magic"], "--certify must be one of"),
        (["audit-model", "-m", "own=mine:small", *QUICK, "--fail-under", "certified@8/255=1"], "--fail-under must be"),
        (["audit-embeddings", "vectors.npz", "--certify", "auto"], "no option --certify: see certimetric audit-model"),
        (["audit", "iris", "--certify", "auto"], "no option --certify: see certimetric audit-model"),
    ],
)
def test_certificates_that_cannot_be_are_one_line(run, here, arguments, message):
    done = run(*arguments)
    assert done.code == 2
    assert len(done.err.splitlines()) == 1 and message in done.err


@undrawn
def test_the_same_picture_under_another_id_stands_in_the_headline(run, here):
    """Copies of every picture, one level of 8 bits away."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(1, 255, (12, 8, 8), dtype=np.uint8), np.arange(12) % 2
    copies = (images + rng.choice([-1, 1], images.shape)).astype(np.uint8)
    np.savez(here / "set.npz", images=np.concatenate([images, copies]), labels=np.tile(labels, 2),
             zero_shot_test=np.ones(24, dtype=bool))  # fmt: skip
    done = run("audit-model", "-m", "mine:small", *QUICK[2:], "--images", "set.npz")
    assert done.code == 0, done.err
    assert "CR109 Equal pictures: 20 of 20 queries have the same picture, to within 1/255, under another id" in done.out
    verdict = document(here / "certimetric-audit" / "set")["verdict"]
    assert verdict["status"] == "WARN" and "(equal pictures" in verdict["sentence"]


@undrawn
def test_ids_in_a_file_of_embeddings(run, here):
    rng = np.random.default_rng(0)
    labels, ids = np.arange(40) % 4, np.array([f"photos/{i}.png" for i in range(40)])
    points = rng.normal(size=(40, 3)) + labels[:, None]
    given = {"embeddings": points, "labels": labels, "query_embeddings": points[:10], "query_labels": labels[:10]}
    np.savez(here / "blind.npz", **given)
    np.savez(here / "told.npz", **given, ids=ids, query_ids=ids[:10])
    figures = []
    for name, status in (("blind", "WARN"), ("told", "REPORT")):
        done = run("audit-embeddings", f"{name}.npz")
        assert done.code == 0, done.err
        assert ("10 queries equal an item of the gallery, and no ids say so" in done.out) == (name == "blind")
        told = document(here / "certimetric-audit" / name)
        assert told["verdict"]["status"] == status
        figures.append([told["learners"][0][key] for key in ("clean", "attacked", "neighbour_distance")])
    assert figures[0] == figures[1]
