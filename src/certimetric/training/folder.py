"""The folder of a run: what is in it, whether it can go on, and its model."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from certimetric.base.files import write_atomically
from certimetric.base.version import __version__
from certimetric.training.config import RUN_FILE, TrainingConfig
from certimetric.training.parts import CHECKPOINTS, make_model

if TYPE_CHECKING:
    from torch import nn

SCHEMA = "certimetric.run/1"
MODEL_FILE = "model.safetensors"
_KEYS = {"config", "data", "finished", "history", "evaluations", "seconds"}
# What may change between the beginning of a run and its continuation. Workers fetch ahead, so that with another number
# of them random numbers come in another order; everything else here leaves finished epochs what they would have been.
_MAY_CHANGE = {("training", "epochs"), ("training", "workers"), ("training", "loggers"), ("data", "root")}


def load_run(folder: str | os.PathLike[str]) -> tuple[nn.Module, dict[str, Any]]:
    """The model of a run, in evaluation mode, and what ``run.json`` says.

    A run that is not finished gives the model of its last checkpoint. Nothing in the files is run.

    Raises
    ------
    FileNotFoundError
        If the folder holds no run, or one without a finished epoch.
    ValueError
        If a file is damaged.
    """
    from safetensors.torch import load_file

    from certimetric.deep import load_checkpoint

    folder = Path(folder)
    run = read_run(folder)
    config = TrainingConfig.from_mapping(run["config"], f"the configuration in {str(folder / RUN_FILE)!r}")
    if run["finished"] and (folder / MODEL_FILE).exists():
        try:
            tensors = load_file(folder / MODEL_FILE)
        except Exception as error:
            raise ValueError(f"{str(folder / MODEL_FILE)!r} cannot be read: {error}") from None
    else:
        found = load_checkpoint(folder / CHECKPOINTS)
        if found is None:
            raise FileNotFoundError(f"the run in {str(folder)!r} has no finished epoch yet")
        prefix = "ema." if config.training.ema is not None else "model."
        tensors = {key.removeprefix(prefix): value for key, value in found[1].items() if key.startswith(prefix)}
    model = make_model(config, run["data"]["image_shape"][0], pretrained=False)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"the weights in {str(folder)!r} are not of the model it names: {reason}") from None
    return model.eval(), run


def read_run(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """What ``run.json`` of a folder says.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        If it is damaged.
    """
    file = Path(folder) / RUN_FILE
    if not file.exists():
        raise FileNotFoundError(f"there is no training run in {str(folder)!r}: it has no {RUN_FILE}")
    try:
        run = json.loads(file.read_text(encoding="utf-8"))
        if run["schema"] != SCHEMA:
            raise ValueError(f"schema {run['schema']!r}")
        if missing := sorted(_KEYS - run.keys()):
            raise ValueError(f"it has no {missing[0]!r}")
        if not isinstance(run["config"], dict) or not int(run["data"]["image_shape"][0]):
            raise ValueError("its configuration or its data are damaged")
    except (ValueError, KeyError, TypeError, IndexError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else error
        raise ValueError(f"{str(file)!r} is not the file of a run: {reason}") from None
    return dict(run)


def begin_run(config: TrainingConfig, folder: Path, resume: bool) -> dict[str, Any]:
    """What is known of the run so far; an error where the folder holds one that is not to be continued."""
    import torch

    told = config.to_mapping()
    if (folder / RUN_FILE).exists():
        if not resume:
            raise FileExistsError(f"{str(folder)!r} holds a run already: resume it, or choose another folder")
        run = read_run(folder)
        before = TrainingConfig.from_mapping(run["config"], f"the configuration in {str(folder / RUN_FILE)!r}")
        if changed := _changes(before.to_mapping(), told):
            raise ValueError(f"the run in {str(folder)!r} was begun with another configuration: {changed[0]}")
        return run | {"config": told, "finished": False}
    folder.mkdir(parents=True, exist_ok=True)
    return {
        "schema": SCHEMA,
        "config": told,
        "versions": {"certimetric": __version__, "torch": str(torch.__version__)},
        "finished": False,
        "history": [],
        "evaluations": [],
        "seconds": 0.0,
    }


def _changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Keys whose values differ, but for those that may."""
    # A cosine schedule is as long as the run: with more epochs the first ones would have been others.
    cosine = now["training"]["schedule"] == "cosine"
    may_change = _MAY_CHANGE - {("training", "epochs")} if cosine else _MAY_CHANGE
    found = []
    for section in sorted(before.keys() | now.keys()):
        if section == "evaluation":
            continue
        old, new = before.get(section, {}), now.get(section, {})
        for key in sorted(old.keys() | new.keys()):
            if old.get(key) != new.get(key) and (section, key) not in may_change:
                found.append(f"{key} in [{section}] was {old.get(key)!r} and is {new.get(key)!r}")
    return found


def save_model(model: nn.Module, path: Path) -> None:
    from safetensors.torch import save_file

    temporary = path.with_name(f".{path.name}.part")
    # Copies, since the format has no place for tensors that share their memory.
    save_file({key: value.detach().cpu().clone().contiguous() for key, value in model.state_dict().items()}, temporary)
    os.replace(temporary, path)


def write_run(run: dict[str, Any], folder: Path) -> None:
    write_atomically(folder / RUN_FILE, json.dumps(run, indent=1, ensure_ascii=False))
