"""The page on training says what the configuration has: every key, its default, and examples that are valid."""

import re
import sys
import types
from dataclasses import fields
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")
pytest.importorskip("pytorch_metric_learning", reason="the extra 'deep' has pytorch-metric-learning")

from certimetric.deep.defenses import DEFENSES
from certimetric.deep.models.network import MODELS
from certimetric.deep.train import AUGMENTATIONS, OPTIMIZERS, SCHEDULES
from certimetric.training import config as configuration
from certimetric.training import sections
from certimetric.training.config import TrainingConfig
from certimetric.training.keys import NEEDED, Key, Part

PAGE = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
SECTIONS = {
    "data": sections.data().keys,
    "model": {**sections.model().keys, "name": Key(str, configuration.MODEL)},
    "training": {key: entry for part in sections.training().values() for key, entry in part.keys.items()},
    "evaluation": sections.evaluation().keys,
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


def written(default):
    if default is NEEDED:
        return "needed"
    if default is None:
        return "none"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"  # as TOML writes it
    if isinstance(default, str):
        return f'`"{default}"`'
    return "`[]`" if default == () else repr(default)


def test_every_section_has_its_place():
    assert {field.name for field in fields(TrainingConfig)} == {*SECTIONS, "loss", "miner", "defense"}
    for field in fields(TrainingConfig):
        assert f"**`[{field.name}]`**" in PAGE


@pytest.mark.parametrize("section", SECTIONS)
def test_keys_and_defaults(section):
    keys = {name: written(key.default) for name, key in SECTIONS[section].items()}
    told = rows(part(section))
    assert {key: told.get(key) for key in keys} == keys
    networks = (*MODELS, "timm:any") if section == "model" else ()
    options = {option for network in networks for option in sections.model_keys(network)}
    assert set(told) == {*keys, *options}


@pytest.mark.parametrize("network", MODELS)
def test_options_of_models_and_their_defaults(network):
    found = re.findall(r"^\| `(\w+)` \| `?([^|`]*)`? \| of `\"?([\w-]+)\"?`", part("model"), flags=re.M)
    told = {option: default for option, default, of in found if of == network}
    assert told == {name: written(key.default).strip("`") for name, key in sections.model_keys(network).items()}


@pytest.mark.parametrize("kind", DEFENSES)
def test_keys_of_defenses(kind):
    text = part("defense")
    tables = {"none": text.split("| key of")[0]}
    for table in text.split("| key of `kind = ")[1:]:
        tables[table.split('"')[1]] = table
    assert tables.keys() == DEFENSES.keys()
    keys = {name: written(key.default) for name, key in sections.defense(kind).keys.items()}
    told = rows(tables[kind])
    if kind == "none":
        assert told.pop("kind") == '`"none"`'
        assert all(f'"{other}"' in tables["none"] for other in DEFENSES)
    if kind != "tuple":  # what makes a ball or an attack is told once, there
        made = [entry.keys for entry in sections.defense(kind).parameters().values() if isinstance(entry, Part)]
        keys |= {key: "as above" for told_once in made for key in told_once if key != "sources"}
    assert told == keys


def test_values_that_can_be_chosen_are_told():
    for keys in (*SECTIONS.values(), *(sections.defense(kind).keys for kind in DEFENSES)):
        for name, key in keys.items():
            for value in re.findall(r"'([\w-]+)'", "".join(re.findall(r"Literal\[.*?\]", str(key.hint)))):
                assert f'"{value}"' in PAGE, (name, value)
    for value in (*MODELS, *DEFENSES, *AUGMENTATIONS, *OPTIMIZERS, *SCHEDULES, *sections.LOSSES, sections.CERTIFIED):
        assert f'"{value}"' in PAGE, value


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
