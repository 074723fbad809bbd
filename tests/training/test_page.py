"""The page on training says what the configuration has: every key, its default, and examples that are valid."""

import dataclasses
import re
import sys
import types
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")
pytest.importorskip("pytorch_metric_learning", reason="the extra 'deep' has pytorch-metric-learning")

from certimetric.deep.models.network import model_options
from certimetric.training import config as configuration
from certimetric.training.config import TrainingConfig
from certimetric.training.defenses import DEFENSES

PAGE = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
SECTIONS = {
    "data": configuration.DataSection,
    "model": configuration.ModelSection,
    "training": configuration.TrainingSection,
    "evaluation": configuration.EvaluationSection,
}


def rows(text):
    """Keys of the tables of a text, with what stands beside them."""
    found = {}
    for keys, beside in re.findall(r"^\| (`[^|]*`) \| ([^|]*) \|", text, flags=re.M):
        found |= dict.fromkeys(re.findall(r"`(\w+)`", keys), beside)
    return found


def part(name):
    """What the page says of a section, up to the next one."""
    return re.split(r"^\*\*`\[|^## ", PAGE.split(f"**`[{name}]`**", 1)[1], flags=re.M)[0]


def written(field):
    if field.default is dataclasses.MISSING:
        return "needed"
    if field.default is None:
        return "none"
    if isinstance(field.default, bool):
        return f"`{str(field.default).lower()}`"  # as TOML writes it
    if isinstance(field.default, str):
        return f'`"{field.default}"`'
    return "`[]`" if field.default == () else repr(field.default)


def test_every_section_has_its_place():
    assert {field.name for field in dataclasses.fields(TrainingConfig)} == {*SECTIONS, "loss", "miner", "defense"}
    for field in dataclasses.fields(TrainingConfig):
        assert f"**`[{field.name}]`**" in PAGE


@pytest.mark.parametrize("section", SECTIONS)
def test_keys_and_defaults(section):
    keys = {field.name: written(field) for field in dataclasses.fields(SECTIONS[section]) if field.name != "options"}
    told = rows(part(section))
    assert {key: told.get(key) for key in keys} == keys
    networks = ("small-cnn", "resnet50", "lipschitz-cnn") if section == "model" else ()
    options = {option for network in networks for option in model_options(network)}
    assert set(told) == {*keys, *options}


@pytest.mark.parametrize("kind", DEFENSES)
def test_keys_of_defenses(kind):
    text = part("defense")
    tables = {"none": text.split("| key of")[0]}
    for table in text.split("| key of `kind = ")[1:]:
        tables[table.split('"')[1]] = table
    assert tables.keys() == DEFENSES.keys()
    keys = {field.name: written(field) for field in dataclasses.fields(DEFENSES[kind]) if field.name != "kind"}
    told = rows(tables[kind])
    if kind == "none":
        assert told.pop("kind") == '`"none"`'
        assert all(f'"{other}"' in tables["none"] for other in DEFENSES)
    if kind == "batch":  # they are told once
        keys = dict.fromkeys(keys, "as above")
    assert told == keys


def test_values_that_can_be_chosen_are_told():
    for cls in (*SECTIONS.values(), *DEFENSES.values()):
        for name, hint in cls.__annotations__.items():
            for value in re.findall(r"'(\w+)'", str(hint)) + re.findall(r'"(\w+)"', str(hint)):
                assert f'"{value}"' in PAGE, (name, value)


@pytest.mark.parametrize("block", re.findall(r"```toml\n(.*?)```", PAGE, flags=re.S))
def test_examples_are_valid(block, monkeypatch):
    module = types.ModuleType("my_models")
    exec(re.search(r"# my_models.py\n(.*?)```", PAGE, flags=re.S)[1], vars(module))
    monkeypatch.setitem(sys.modules, "my_models", module)
    TrainingConfig.from_mapping(configuration.tomllib.loads(block))


def test_the_example_in_python_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (block,) = [b for b in re.findall(r"```python\n(.*?)```", PAGE, flags=re.S) if "RobustTrainer(" in b]
    exec(block, {})
    assert (tmp_path / "runs" / "own" / "checkpoint.json").exists()
