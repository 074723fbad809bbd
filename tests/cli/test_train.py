"""``certimetric train``: from a file to a run that the audit reads; what is wrong comes as one line and exit code 2."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")
pytest.importorskip("lightning", reason="the extra 'deep' has lightning")

DIGITS = Path(__file__).parents[2] / "configs" / "digits-natural.toml"
SMALL = """
[data]
name = "digits"

[model]
dim = 8
width = 8

[training]
epochs = 2
accelerator = "cpu"
"""


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


def told(folder):
    return json.loads((folder / "run.json").read_text(encoding="utf-8"))


def assert_refused(outcome, culprit):
    assert outcome.code == 2
    assert outcome.err.startswith("certimetric: error: ")
    assert outcome.err.count("\n") == 1
    assert culprit in outcome.err
    assert "Traceback" not in outcome.err


def test_a_configuration_becomes_a_run(run, tmp_path):
    outcome = run("train", DIGITS, "--epochs", "1")
    assert (outcome.code, outcome.err) == (0, "")
    folder = Path("runs/digits-natural")
    lines = outcome.out.splitlines()
    assert lines[0].startswith("epoch 1 of 1: loss ")
    assert lines[-2:] == [f"Run:  {folder}", f"Next: certimetric audit-model --model {folder} --images digits"]
    found = told(tmp_path / folder)
    assert found["finished"]
    assert len(found["history"]) == 1
    assert found["config"]["training"]["epochs"] == 1
    assert (tmp_path / folder / "model.safetensors").exists()


def test_a_run_goes_on(run, small, tmp_path):
    assert run("train", small, "--out", "first", "--epochs", "1").code == 0
    before = told(tmp_path / "first")
    refused = run("train", small, "--out", "first")
    assert_refused(refused, "'first' holds a run already: add --resume, or choose another --out")
    assert told(tmp_path / "first") == before
    outcome = run("train", small, "--out", "first", "--resume")
    assert outcome.code == 0
    assert outcome.out.startswith("epoch 2 of 2: loss ")
    assert outcome.out.splitlines()[1].startswith("2 epochs in ")
    assert run("train", small, "--out", "whole").code == 0
    assert told(tmp_path / "first")["history"] == told(tmp_path / "whole")["history"]
    # Resuming a run that is done, or none at all, is no mistake.
    assert run("train", small, "--out", "first", "--resume").code == 0
    assert run("train", small, "--out", "new", "--resume", "--epochs", "1").code == 0


def test_another_configuration_is_not_resumed(run, small):
    assert run("train", small, "--out", "run", "--epochs", "1").code == 0
    small.write_text(SMALL.replace("dim = 8", "dim = 16"))
    refused = run("train", small, "--out", "run", "--resume")
    assert_refused(refused, "was begun with another configuration: dim in [model] was 8 and is 16")


def test_an_interrupt_says_how_to_go_on(run, small, tmp_path, monkeypatch):
    import typer

    def interrupt(line):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        echo = typer.echo
        patch.setattr(typer, "echo", lambda line, err=False: echo(line, err=True) if err else interrupt(line))
        outcome = run("train", small, "--out", "run")
    assert outcome.code == 130
    assert outcome.err == "certimetric: interrupted; finished epochs are in run, go on with --resume\n"
    assert len(told(tmp_path / "run")["history"]) == 1
    assert run("train", small, "--out", "run", "--resume").code == 0


def test_images_from_another_folder(run, small, tmp_path):
    small.write_text(SMALL.replace('name = "digits"', 'name = "folder"\nroot = "nowhere"\nsize = 16'))
    from PIL import Image

    for label in "abcd":
        for i in range(3):
            (tmp_path / "pictures" / label).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (16, 16), (ord(label), 50 * i, 0)).save(tmp_path / "pictures" / label / f"{i}.png")
    outcome = run("train", small, "--out", "run", "--data-root", "pictures", "--epochs", "1")
    assert outcome.code == 0
    command = "certimetric audit-model --model run --images folder --data-root pictures --size 16"
    assert outcome.out.endswith(f"Next: {command}\n")
    assert_refused(run("train", small, "--out", "other"), "nowhere")


def test_own_models_of_the_current_folder(run, small, tmp_path, monkeypatch):
    (tmp_path / "my_networks.py").write_text(
        "from torch import nn\ndef net(dim, depth=1):\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, dim))\n"
    )
    monkeypatch.setattr(sys, "path", list(sys.path))
    small.write_text(SMALL.replace("[model]", '[model]\nname = "my_networks:net"').replace("width", "depth"))
    assert run("train", small, "--out", "run", "--epochs", "1").code == 0
    small.write_text(SMALL.replace("[model]", '[model]\nname = "my_networks:net"').replace("width", "depht"))
    assert_refused(run("train", small, "--out", "other"), "(did you mean 'depth'?)")


BAD = {
    "not TOML": ("[data\n", "is not a TOML file"),
    "no data": ("", "[data] needs the key 'name'"),
    "wrong key": (SMALL.replace("epochs", "epoch"), "(did you mean 'epochs'?)"),
    "wrong type": (SMALL.replace("epochs = 2", 'epochs = "two"'), "epochs in [training] must be a whole number"),
    "unknown data": (SMALL.replace('"digits"', '"digts"'), "(did you mean 'digits'?)"),
    "unknown accelerator": (SMALL.replace('"cpu"', '"gpuu"'), "gpuu"),
    "unknown precision": (SMALL + 'precision = "64-ish"\n', "64-ish"),
    "unknown strategy": (SMALL + 'strategy = "dpp"\n', "dpp"),
    "text as a margin": (SMALL + '[loss]\nname = "triplet"\nmargin = "wide"\n', "margin"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_configurations(run, small, tmp_path, what):
    content, culprit = BAD[what]
    small.write_text(content)
    outcome = run("train", small, "--out", "run")
    assert_refused(outcome, culprit)
    assert outcome.out == ""
    assert not (tmp_path / "run" / "run.json").exists()


def test_several_faults_have_a_line_each(run, small, tmp_path):
    small.write_text(SMALL.replace('"digits"', '"digts"') + 'colour = 1\nema = 3\nprecision = "64-ish"\n[modle]\n')
    outcome = run("train", small, "--out", "run")
    first, *others = outcome.err.splitlines()
    assert (outcome.code, outcome.out) == (2, "")
    assert first == f"certimetric: error: {str(small)!r} is wrong in 5 places:"
    assert [line.split()[0] for line in others] == ["there", "[training]", "precision", "ema", "name"]
    assert "(did you mean 'digits'?)" in others[-1]


@pytest.mark.parametrize(
    ("arguments", "culprit"),
    [
        (["missing.toml"], "there is no configuration file 'missing.toml'"),
        (["."], "there is no configuration file '.'"),
        ([], "CONFIG"),
        (["small.toml", "--epochs", "0"], "--epochs is wrong: epochs in [training] must be at least 1, got 0"),
        (["small.toml", "--epochs", "few"], "--epochs"),
        (["small.toml", "--epoch", "3"], "--epoch"),
        (["small.toml", "--out", "small.toml"], "small.toml"),
        (["small.toml", "--out", "small.toml/run"], "small.toml"),
    ],
)
def test_bad_arguments(run, small, arguments, culprit):
    assert_refused(run("train", *arguments), culprit)
    assert small.read_text() == SMALL


def test_a_damaged_run_is_named(run, small, tmp_path):
    assert run("train", small, "--out", "run", "--epochs", "1").code == 0
    (tmp_path / "run" / "run.json").write_text("{")
    assert_refused(run("train", small, "--out", "run", "--resume"), "run.json")


@pytest.mark.slow
def test_two_processes_train_what_one_does(run, small, tmp_path):
    small.write_text(SMALL + 'devices = 2\n[defense]\nkind = "tuple"\neps = 0.1\nsteps = 2\n')
    certimetric = [sys.executable, "-c", "import sys; from certimetric.cli import main; sys.exit(main())"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--no-python", "--nproc-per-node", "2"]
    for options in (["--epochs", "1"], ["--resume"]):
        command = [*torchrun, *certimetric, "train", str(small), "--out", "two", *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("Run:  two") == 1  # the first process speaks for all
    small.write_text(small.read_text().replace("devices = 2\n", ""))
    assert run("train", small, "--out", "one").code == 0
    assert told(tmp_path / "two")["history"] == pytest.approx(told(tmp_path / "one")["history"], rel=1e-4)
