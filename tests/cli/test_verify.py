"""``certimetric verify`` on real files."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from certimetric import AuditResult, datasets
from certimetric.auditing import audit_verification

QUICK = ["--learner", "euclidean", "--learner", "gmml", "--repeats", "1", "--pairs", "500"]


@pytest.fixture
def table(tmp_path):
    """Every eighth digit in a file, with a column of text that is no feature."""
    frame = datasets.load("digits").to_frame()[::8]
    frame.insert(3, "site", np.where(np.arange(len(frame)) % 3, "east", "west"))
    frame.to_csv(tmp_path / "digits.csv", index=False)
    return tmp_path / "digits.csv"


def test_a_file_from_end_to_end(run, tmp_path, table):
    outcome = run("verify", table, "--group", "site", "--far", "0.05", "--eps", "0.5", "--junit", "v.xml", *QUICK)
    assert (outcome.code, outcome.err) == (0, "")
    folder = tmp_path / "certimetric-audit" / "digits-verification"
    document = AuditResult.load(folder).document
    assert document["data"]["groups"] == ["east", "west"] and "site" not in document["data"]["feature_names"]
    assert document["protocol"]["report_eps"] == 0.5
    assert document["verdict"]["sentence"].split(";")[0] in outcome.out.replace("\n", " ")
    assert document["reproduction"]["command"].startswith("certimetric verify ")
    assert (folder / "report.html").exists()
    cases = ElementTree.parse(tmp_path / "v.xml").getroot().iter("testcase")
    assert len(list(cases)) == len(document["checks"])
    data, groups = datasets.load_grouped(table, "site")
    same = audit_verification(
        data.X,
        data.y,
        feature_names=data.feature_names,
        groups=groups,
        learners=["euclidean", "gmml"],
        repeats=1,
        pairs=500,
        far=0.05,
        eps=[0.5],
    )
    for mine, theirs in zip(document["learners"], same.document["learners"]):
        for key in ("tar", "far", "auc", "certified"):
            assert mine["summary"][key] == theirs["summary"][key]
        assert mine["groups"] == theirs["groups"]


def test_a_file_of_pairs_by_ids(run, tmp_path, table):
    """The column of ids is no feature, and the pairs of the file are those that are tested."""
    frame = pd.read_csv(table)
    frame.insert(0, "file", [f"d{row:03d}" for row in range(len(frame))])
    frame.to_csv(table, index=False)
    own = frame.iloc[::3]
    pairs = [*zip(own["file"], own["file"][1:]), *zip(own["file"], own["file"][10:])]
    pd.DataFrame(pairs, columns=["probe", "enrolled"]).to_parquet(tmp_path / "pairs.parquet")
    asked = ["--group", "site", "--id", "file", "--pairs", "pairs.parquet", "--repeats", "1"]
    outcome = run("verify", table, *asked, *QUICK[:2])
    assert (outcome.code, outcome.err) == (0, "")
    document = AuditResult.load(tmp_path / "certimetric-audit" / "digits-verification").document
    assert document["protocol"]["given"] and document["data"]["n_features"] == 64
    assert sum(document["data"]["pairs"][1][kind] for kind in ("genuine", "impostor")) == len(pairs)


@pytest.mark.parametrize(
    ("asked", "code"),
    [("tar@far=0.1:0.2", 0), ("tar@far=0.1:0.999", 1), pytest.param("auc=0.6", 0, marks=pytest.mark.slow)],
)
def test_a_threshold_is_the_exit_code(run, tmp_path, asked, code):
    outcome = run("verify", "wine", "--fail-under", asked, "-o", tmp_path.parent / "judged-verification", *QUICK)
    assert outcome.code == code
    assert ("FAIL" in outcome.out) == (code == 1)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["iris", "--far", "0"], "--far must be a rate of false accepts above 0 and at most 1, got 0.0"),
        (["iris", "--far", "some"], "--far must be a number, got 'some'"),
        (
            ["iris", "--pairs", "few"],
            "--pairs must be a whole number of at least 1, all, or a CSV or Parquet file, got 'few'",
        ),
        (["iris", "--group", "site"], "groups are a column of a file, and 'iris' is none"),
        (["digits.csv", "--group", "sit"], "the column 'sit' of groups is not there (did you mean 'site'?)"),
        (["digits.csv", "--group", "target"], "the column 'target' of groups holds the labels"),
        (["iris", "--threat", "l2:immutable=petal"], "immutable names the unknown feature 'petal'; known are sepal"),
        (["iris", "--threat", "l2:eps=1"], "threat takes no eps, got 1: the sizes of changes are those of eps"),
        (["iris", "--threat", "linf", "--norm", "l1"], "norm and threat name different norms"),
        (["iris", "--threat", "l2:bounds=0..1"], "which the threat model's bounds, integer or one_hot features do not"),
        (["iris", "--fail-under", "tar=0.9"], "--fail-under must be FIGURE=VALUE"),
    ],
)
def test_bad_input_gets_one_sentence(run, table, words, sentence):
    outcome = run("verify", *words)
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert sentence in outcome.err


def test_a_model_from_end_to_end(run, tmp_path, monkeypatch):
    pytest.importorskip("torch")
    (tmp_path / "own.py").write_text("import torch\n\ndef net():\n    return torch.nn.Flatten()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    digits = datasets.load("digits")
    np.savez(tmp_path / "few.npz", images=digits.X[:160].reshape(-1, 8, 8) / 16, labels=digits.y[:160])
    words = ["verify-model", "-m", "net=own:net", "--images", "few.npz", "--far", "0.05", "--eps", "0.1"]
    words += ["--attack", "fgsm", "--attacked", "5"]
    outcome = run(*words, "--fail-under", "tar@far=0.05:0.999")
    assert outcome.code == 1, outcome.err
    document = AuditResult.load(tmp_path / "certimetric-audit" / "few-verification").document
    assert [learner["spec"] for learner in document["learners"]] == ["net", "raw pixels"]
    first, second = (learner["summary"]["tar"] for learner in document["learners"])
    assert first == second  # the pixels are what the model gives
    again = run(*words, "--fail-under", "auc=0.5")
    assert again.code == 0 and "0 cells computed, 2 reused" in again.out
    assert "--rates-by is for pictures in files" in run(*words, "--rates-by", "x").err
    wrong = run(*words, "--surrogate", "nowhere")
    assert wrong.code == 2
    assert "--surrogate 'nowhere' is neither the folder of a run nor timm:NAME" in wrong.err


@pytest.mark.slow
def test_smoothing_on_a_folder_of_pictures(run, tmp_path, monkeypatch):
    """From pictures in files to decisions under noise, with groups, for as many draws as were asked for."""
    pytest.importorskip("torch")
    from PIL import Image

    rng = np.random.default_rng(0)
    for page in range(8):
        base = rng.integers(0, 255, (8, 8, 3))
        for i in range(3):
            kind = tmp_path / "pages" / f"page{page}"
            kind.mkdir(parents=True, exist_ok=True)
            shown = np.clip(base + rng.integers(-40, 40, base.shape), 0, 255)
            Image.fromarray(shown.astype(np.uint8)).save(kind / f"{'new' if i else 'old'}-{i}.png")
    (tmp_path / "own.py").write_text("import torch\n\ndef net():\n    return torch.nn.Flatten()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    words = ["verify-model", "-m", "net=own:net", "--images", "pages", "--size", "8", "--far", "0.2", "--norm", "l2"]
    words += ["--eps", "0.25,0.5", "--attack", "fgsm", "--attacked", "6", "--certify", "smoothing"]
    outcome = run(*words, "--draws", "40", "--rates-by", "new|old", "--surrogate", "own:net")
    assert (outcome.code, outcome.err) == (0, "")
    assert "Verification on pages" in outcome.out
    document = AuditResult.load(tmp_path / "certimetric-audit" / "pages-verification").document
    settings = document["learners"][0]["certificate"]["settings"]
    assert (settings["n_samples"], settings["n_selection"], settings["sigma"]) == (40, 4, 0.5)
    told = {check["code"]: check["severity"] for check in document["checks"]}
    assert told["CV201"] in ("passed", "skipped") and told["CV204"] == "passed" and told["CV209"] != "not applicable"
    assert document["protocol"]["surrogate"] == "own:net"
    assert "--draws must be a whole number of at least 10, got 9" in run(*words, "--draws", "9").err
    assert "--attacked must be a whole number of at least 1, got 0" in run(*words, "--attacked", "0").err
    (tmp_path / "file").write_text("")
    assert "out must be a folder, but 'file' is a file" in run(*words, "-o", "file").err
