"""Cells with pictures: found, trained, attacked; the same figures from the same content, and no test side in them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")
pytest.importorskip(
    "pytorch_metric_learning", reason="pytorch-metric-learning is not installed: the extra 'deep' has it"
)

from certimetric.base.wording import PIXELS  # noqa: E402
from certimetric.bench import image_cells, image_sets  # noqa: E402
from certimetric.bench.datasets import Found, find_datasets  # noqa: E402
from certimetric.bench.image_cells import attack, measure, settings, trained  # noqa: E402
from certimetric.bench.image_sets import DIGITS, OMNIGLOT, NamedImages, digest, load_sides  # noqa: E402
from certimetric.bench.suites import deep  # noqa: E402
from certimetric.runs.key import Cell, Record  # noqa: E402
from certimetric.training import TrainingConfig  # noqa: E402

CONFIGS = Path(__file__).parents[2] / "configs"
CONFIG = {
    "data": {"name": "digits"},
    "model": {"dim": 8, "width": 8, "depth": 2},
    "defense": {"kind": "tuple", "role": "anchor", "eps": 0.1, "steps": 1},
    "training": {"epochs": 1, "batch_size": 100, "per_class": 10},
}
ATTACKS = [attack("PGD", "PGD", "linf", 0.1, steps=2), attack("none", "PGD", "linf", 0.0, steps=2)]


def make_cell(learner="triplet", config=CONFIG, split=0, **changed):
    found = DIGITS.find(None, network=False)
    parameters = settings(learner, config, ATTACKS, 40)
    cell = Cell("toy", "digits", found.digest, found.source, learner, split, 0, "1", parameters)
    return dataclasses.replace(cell, **changed)


def without_time(result):
    return {key: value for key, value in result.items() if not key.endswith("seconds")}


def test_a_cell_is_a_function_of_its_content():
    first, again, other = (measure(make_cell(split=split), DIGITS) for split in (0, 0, 1))
    assert without_time(first) == without_time(again) != without_time(other)
    clean, attacked = first["recall_at_1"]["clean"], first["recall_at_1"]["PGD"]
    assert 0 <= attacked < clean <= 1
    assert first["recall_at_1"]["none"] == clean
    assert (first["n_queries"], first["n_gallery"], len(first["loss"])) == (40, 896, 1)
    assert first["train_seconds"] == first["epoch_seconds"] > 0


def test_models_have_seen_the_training_side_alone(monkeypatch):
    cell = make_cell()
    model, _ = trained(cell, DIGITS)
    train, test = load_sides(DIGITS, "")
    changed = train, dataclasses.replace(test, images=1 - test.images)
    monkeypatch.setattr(image_cells, "load_sides", lambda named, source: changed)
    cell = dataclasses.replace(cell, digest=digest(changed, ""))
    same, _ = trained(cell, DIGITS)
    for one, two in zip(model.state_dict().values(), same.state_dict().values()):
        assert (one == two).all()
    # Queries are new to the model, but for none of them the gallery holds its own picture as an answer.
    queries, gallery = image_cells.asked(cell, DIGITS)
    assert len(set(queries.ids.tolist())) == 40 and set(queries.ids.tolist()) <= set(gallery.ids.tolist())


def test_raw_pixels_are_a_learner_without_training():
    result = measure(make_cell(PIXELS, None), DIGITS)
    assert result["train_seconds"] == 0 and result["loss"] == []
    assert result["recall_at_1"]["clean"] > 0.9
    assert image_cells.raw_pixels(28)(torch.zeros(2, 1, 28, 28)).shape == (2, 784)
    assert image_cells.raw_pixels(224)(torch.zeros(2, 3, 224, 224)).shape == (2, 3072)


def test_content_that_has_changed_since_the_plan_is_refused():
    with pytest.raises(ValueError, match="other pictures than the plan was made for"):
        measure(make_cell(digest="0"), DIGITS)


def test_what_is_missing_is_told_and_what_is_wrong_is_refused(tmp_path, monkeypatch):
    fewer = dataclasses.replace(DIGITS, images=(901, 895))
    with pytest.raises(ValueError, match="its pictures for training and testing are 901 and 896, expected 901 and 895"):
        find_datasets([fewer], None)
    found, missing = find_datasets([DIGITS, OMNIGLOT], tmp_path)
    assert [entry.named for entry in found] == [DIGITS]
    assert missing == {"omniglot": "there is no folder images/omniglot or omniglot in the data root"}
    (tmp_path / "omniglot").mkdir()
    assert "images_background_small1.zip" in find_datasets([OMNIGLOT], tmp_path)[1]["omniglot"]

    monkeypatch.setattr(image_sets, "find_spec", lambda name: None if name in ("timm", "torchvision") else name)
    pictures(tmp_path / "shop")
    shop = NamedImages("folder", ("shop",), (8, 8), (2, 2), 8, ("timm", "torchvision"))
    assert "its model needs timm or torchvision" in find_datasets([shop], tmp_path)[1]["folder"]
    monkeypatch.setattr(image_sets, "find_spec", lambda name: None if name == "torch" else name)
    assert "needs torch" in find_datasets([DIGITS], None)[1]["digits"]


def pictures(root):
    """Four classes of four pictures."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for i in range(16):
        (root / f"class{i // 4}").mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"class{i // 4}" / f"{i}.png")


def test_folders_of_pictures_are_trained_on_and_known_wherever_they_lie(tmp_path):
    found = []
    for place in ("one", "two"):
        pictures(tmp_path / place)
        found.append(NamedImages("folder", (place,), (8, 8), (2, 2), 8).find(tmp_path, network=False))
    assert found[0].source != found[1].source and found[0].digest == found[1].digest
    config = {**CONFIG, "data": {"name": "folder", "size": 8}, "training": {"epochs": 1, "batch_size": 8}}
    cell = make_cell(config=config, source=found[0].source, digest=found[0].digest)
    assert measure(cell, found[0].named)["n_gallery"] == 8
    (tmp_path / "one" / "class3" / "15.png").unlink()
    with pytest.raises(ValueError, match="its pictures for training and testing are 8 and 7"):
        load_sides.cache_clear()
        measure(cell, found[0].named)


@pytest.mark.parametrize("name", ["cub", "cars196", "sop"])
def test_settings_of_the_papers_sets_are_those_of_the_configurations(name):
    named = next(entry for entry in deep.SUITE.datasets if entry.name == name)
    config = deep.RECIPES["triplet, positive"].config(named, deep.SETTINGS[name])
    assert TrainingConfig.from_mapping(config) == TrainingConfig.from_file(CONFIGS / f"{name}-resnet50.toml")
    cells = deep.SUITE.cells([Found(named, "", "0")], seed=0, splits=1)
    assert [cell.learner for cell in cells] == list(deep.TRAINING)


def test_studies_name_learners_and_learners_differ():
    assert {learner for _, learners, _ in deep.STUDIES.values() for learner in learners} == set(deep.SUITE.learners)
    configs = [deep.RECIPES[name].config(DIGITS, deep.SETTINGS["digits"]) for name in deep.RECIPES]
    assert all(one != two for i, one in enumerate(configs) for two in configs[:i])
    assert deep.RECIPES["triplet, positive, 2 ε"].config(DIGITS, deep.SETTINGS["digits"])["defense"]["eps"] == 0.2


def records():
    """Made up: robust training halves what attacks take."""
    suite = deep.SUITE
    cells = suite.cells([Found(DIGITS, "", "0"), Found(OMNIGLOT, "", "1")], seed=0, splits=2)
    for i, cell in enumerate(cells):
        left = {name: 1.0 - 0.1 * j / (1 + ("," in cell.learner)) for j, name in enumerate(deep.NAMES)}
        result = {"recall_at_1": left, "map_at_r": left, "epoch_seconds": 1.0 + i, "train_seconds": 1.0, "loss": []}
        yield Record(cell, "done", result, "", 1.0)


def test_report_has_a_table_for_each_study_and_a_curve_for_each_set():
    from certimetric.report.bench.page import bench_svgs

    told = deep.SUITE.tell(list(records()))
    assert {*deep.STUDIES, "training-map", "cost"} == {table.name for table in told["tables"]}
    table = told["tables"][0]
    assert [row[1] for row in table.rows] == 2 * list(deep.TRAINING)
    assert table.rows[0][2:5] == ["100.0 ± 0.0", "90.0 ± 0.0", "80.0 ± 0.0"]
    best = {table.rows[i][1] for i, j in table.best}
    assert best == {"contrastive, positive", "triplet, positive"}
    assert "is 80.0 % after natural training and 90.0 % after robust training, 1.1 times as much" in told["summary"][0]
    assert {figure["name"] for figure in told["figures"]} == {"digits-recall", "omniglot-recall"}
    assert all(svg.startswith("<?xml") for svg in bench_svgs(told).values())
    failed = [dataclasses.replace(record, status="failed", result=None, error="no luck") for record in records()]
    assert [table.name for table in deep.SUITE.tell(failed)["tables"]] == ["failures"]
    assert deep.SUITE.tell([])["tables"] == []
