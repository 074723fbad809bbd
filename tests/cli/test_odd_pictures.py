"""Folders of odd pictures from the command line: trained on, audited, and what is wrong with them named or counted."""

import json

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")
pytest.importorskip("lightning", reason="the extra 'deep' has lightning")

CONFIG = """
[data]
name = "folder"
root = "odd"
size = 8

[model]
dim = 4
width = 8
depth = 1

[training]
epochs = 1
batch_size = 8
accelerator = "cpu"
"""
AUDIT = ("--queries", "4", "--check-queries", "0", "--attack", "fgsm", "--eps", "0.1")
undrawn = pytest.mark.usefixtures("undrawn")


@pytest.fixture
def odd(tmp_path, rng):
    """Four classes with pictures of nine kinds, and what cameras and desktops leave beside them."""
    kinds = ("RGB", "L", "RGBA", "LA", "P", "CMYK", "1", "I;16")
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in "abcd":
        folder = tmp_path / "odd" / name
        (folder / "deeper").mkdir(parents=True)
        for i, kind in enumerate(kinds):
            values = rng.integers(0, 256, (10 + i, 12, 4), dtype=np.uint8)
            if kind == "I;16":
                picture = Image.fromarray(values[..., 0].astype(np.uint16) * 256)
            else:
                picture = Image.fromarray(values).convert("RGB" if kind == "CMYK" else kind).convert(kind)
            picture.save(folder / f"{i}.{'jpg' if kind == 'CMYK' else 'png'}")
        Image.fromarray(values[..., :3]).save(folder / "deeper" / "turned.jpg", exif=exif)
        (folder / ".DS_Store").write_bytes(b"")
    (tmp_path / "odd" / "a" / "movie.mp4").write_bytes(b"")
    (tmp_path / "odd.toml").write_text(CONFIG)
    return tmp_path / "odd"


@undrawn
def test_odd_pictures_are_trained_on_and_audited(run, odd, tmp_path):
    outcome = run("train", "odd.toml", "--out", "run")
    assert (outcome.code, outcome.err) == (0, "")
    out, deeper = outcome.out.splitlines()[:2]
    assert out == "1 file in 'odd' left out: 'a/movie.mp4'"
    assert deeper.startswith("4 pictures in 'odd' in folders inside those of classes, taken for the outer class: ")
    told = json.loads((tmp_path / "run" / "run.json").read_text())["data"]
    assert (told["n_images"], told["n_classes"], told["remarks"]) == (18, 2, [out, deeper])
    # The command that is told next runs as it stands.
    command = outcome.out.splitlines()[-1].removeprefix("Next: certimetric ").split()
    assert command == ["audit-model", "--model", "run", "--images", "folder", "--data-root", "odd", "--size", "8"]
    audited = run(*command, *AUDIT)
    assert audited.code in (0, 1)
    assert audited.err.splitlines() == [f"certimetric: {out}", f"certimetric: {deeper}"]
    (results,) = (tmp_path / "certimetric-audit").glob("*/results.json")
    source = json.loads(results.read_text())["data"]["source"]
    assert source == f"folder in odd, test side; {out}; {deeper}"


@pytest.mark.parametrize("where", ["a/0.png", "d/5.jpg"])
@undrawn
def test_one_corrupt_picture_is_named_or_skipped(run, odd, tmp_path, where):
    trained = where.startswith("a")
    assert run("train", "odd.toml", "--out", "run").code == 0
    content = (odd / where).read_bytes()
    (odd / where).write_bytes(content[: len(content) // 2])

    def audit(*more):
        return run("audit-model", "--model", "run", "--images", "odd", "--size", 8, *AUDIT, *more)

    refused = run("train", "odd.toml", "--out", "again") if trained else audit()
    assert refused.code == 2 and "Traceback" not in refused.err
    last = refused.err.splitlines()[-1]
    assert last.startswith("certimetric: error: ") and f"the image 'odd/{where}' cannot be read: " in last
    if trained:
        (tmp_path / "odd.toml").write_text(CONFIG.replace("[model]", "skip_corrupt = true\n[model]"))
        outcome = run("train", "odd.toml", "--out", "sound")
        assert outcome.code == 0
        assert any(
            line.startswith("1 of 18 pictures of 'odd' skipped, which cannot") for line in outcome.out.splitlines()
        )
        assert json.loads((tmp_path / "sound" / "run.json").read_text())["data"]["n_images"] == 17
        assert outcome.out.splitlines()[-1].endswith(" --skip-corrupt")
    else:
        outcome = audit("--skip-corrupt")
        assert outcome.code in (0, 1)
        assert f"1 of 18 pictures of 'odd' skipped, which cannot be decoded: the image 'odd/{where}'" in outcome.err
        (results,) = (tmp_path / "certimetric-audit").glob("*/results.json")
        assert "1 of 18 pictures of 'odd' skipped" in json.loads(results.read_text())["data"]["source"]


def test_a_corrupt_picture_in_a_process_of_the_loader_is_one_line(run, odd, tmp_path):
    (odd / "a" / "0.png").write_bytes(b"no picture")
    (tmp_path / "odd.toml").write_text(CONFIG + "workers = 1\n")
    refused = run("train", "odd.toml", "--out", "run")
    assert refused.code == 2
    assert refused.err.splitlines()[-1].startswith("certimetric: error: the image 'odd/a/0.png' cannot be read: ")


@pytest.mark.slow
@undrawn
def test_one_variable_leads_train_audit_and_bench_to_the_same_data(run, odd, tmp_path, monkeypatch, rng):
    from certimetric import datasets
    from certimetric.bench.image_sets import NamedImages
    from certimetric.datasets.data_root import data_root
    from certimetric.datasets.images.sets import IMAGE_SETS

    # A folder of data sets with a table, and with a set in the layout of VisualPhish.
    root = tmp_path / "data"
    (root / "tabular").mkdir(parents=True)
    rows = [f"{a:.3f},{b:.3f},{label}" for label in (0, 1) for a, b in rng.normal(2 * label, 1, (12, 2))]
    (root / "tabular" / "mine.csv").write_text("\n".join(["a,b,class", *rows]))
    for part in ("trusted_list", "phishing"):
        for name in "abcd":
            for i in range(2):
                path = root / "images" / "visualphish" / part / name / f"{part}{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
    config = CONFIG.replace('"folder"\nroot = "odd"', '"visualphish"').replace("batch_size = 8", "batch_size = 4")
    (tmp_path / "odd.toml").write_text(config)
    monkeypatch.delenv("CERTIMETRIC_DATA", raising=False)
    refused = run("train", "odd.toml", "--out", "run")
    assert refused.code == 2 and "visualphish needs root" in refused.err
    unknown = run("audit", "mine", "--repeats", 1)
    assert unknown.code == 2 and "unknown data set 'mine'" in unknown.err
    monkeypatch.setenv("CERTIMETRIC_DATA", str(root))
    trained = run("train", "odd.toml", "--out", "run")
    assert trained.code == 0
    audited = run(*trained.out.splitlines()[-1].removeprefix("Next: certimetric ").split(), *AUDIT)
    assert audited.code in (0, 1), audited.err
    found = datasets.load("mine")
    assert (found.name, found.n_samples, found.source) == ("mine", 24, str(root / "tabular" / "mine.csv"))
    named = NamedImages("visualphish", IMAGE_SETS["visualphish"].folders, None, (2, 2), 8)
    assert named.find(data_root(), network=False).source == str(root / "images" / "visualphish")
