"""A training run in a folder: begun, interrupted, resumed, finished, and read again as a model."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from certimetric.base.files import write_atomically
from certimetric.base.threads import threads_for_pictures
from certimetric.base.version import __version__
from certimetric.datasets.images.sets import Images, load_images
from certimetric.training.config import TrainingConfig
from certimetric.training.parts import (
    CHECKPOINTS,
    make_ball,
    make_component,
    make_loader,
    make_model,
    make_trainer,
)

if TYPE_CHECKING:
    from torch import nn

    from certimetric.deep import RobustTrainer

SCHEMA = "certimetric.run/1"
RUN_FILE, MODEL_FILE = "run.json", "model.safetensors"
_KEYS = {"config", "data", "finished", "history", "evaluations", "seconds"}
# What may change between the beginning of a run and its continuation. Workers fetch ahead, so that with another number
# of them random numbers come in another order; everything else here leaves finished epochs what they would have been.
_MAY_CHANGE = {("training", "epochs"), ("training", "workers"), ("training", "loggers"), ("data", "root")}

Tell = Callable[[str], Any]


def train(
    config: TrainingConfig,
    folder: str | os.PathLike[str],
    *,
    resume: bool = False,
    root: str | os.PathLike[str] | None = None,
    tell: Tell | None = None,
) -> dict[str, Any]:
    """Train as configured, and keep the run in a folder.

    Parameters
    ----------
    config : TrainingConfig
    folder : path
        Gets ``run.json``, ``model.safetensors`` and a checkpoint after every epoch.
    resume : bool, default=False
        Go on with the run in the folder, if there is one.
    root : path, optional
        Folder of the image set, in place of that of the configuration.
    tell : callable, optional
        Is told a line after every epoch.

    Returns
    -------
    run : dict
        What ``run.json`` says: configuration, data, loss of every epoch, evaluations, seconds, versions.

    Raises
    ------
    FileExistsError
        If the folder holds a run already and ``resume`` is False.
    ValueError
        If the run in the folder was begun with another configuration, or the data do not fit.
    """
    from certimetric.deep.models.randomness import seeded

    folder = Path(folder)
    run = _begin(config, folder, resume)
    sides = _load_sides(config, root, tell)
    data = sides["train"]
    with seeded(config.training.seed):
        model = make_model(config, data.images.shape[1])
        loss = make_component(config, "loss", len(data.class_names))
    run["data"] = {
        "name": data.name,
        "n_images": len(data),
        "n_classes": len(data.class_names),
        "image_shape": list(data.images.shape[1:]),
    }
    if data.remarks:
        run["data"]["remarks"] = list(data.remarks)
    run["n_parameters"] = sum(parameter.numel() for parameter in model.parameters())
    trainer = make_trainer(config, model, loss, folder, _watch(config, run, folder, sides, tell))
    try:
        # A checkpoint that no run.json goes with may be of another configuration.
        with threads_for_pictures(data.images.shape[1:]):
            trainer.fit(make_loader(config, data), resume=bool(run["history"]))
    except (OSError, ValueError) as error:
        # A process of the loader hands on the whole of its traceback, of which the last line says what was wrong.
        mark = f"{type(error).__name__}: "
        if "DataLoader worker" not in str(error) or mark not in str(error):
            raise
        raise type(error)(str(error).rpartition(mark)[2].strip()) from None
    finally:
        for logger in trainer.loggers:
            logger.finalize("finished")
    if trainer.is_main:
        run["history"] = list(trainer.history)
        if all(done["epoch"] < len(run["history"]) for done in run["evaluations"]):
            _judge(config, trainer, run, sides)  # the run was interrupted in its last evaluation
        kept = trainer.model if trainer.ema_model is None else trainer.ema_model
        _save_model(kept, folder / MODEL_FILE)
        run["finished"] = True
        _write(run, folder)
    return run


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

    from certimetric.deep.train.checkpoints import load_checkpoint

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


def _sides(config: TrainingConfig) -> tuple[str, ...]:
    return ("train", "test") if config.evaluation.eps is not None else ("train",)


def _load_sides(config: TrainingConfig, root: str | os.PathLike[str] | None, tell: Tell | None) -> dict[str, Images]:
    d = config.data
    sides = {side: load_images(d.name, side, root or d.root, d.size, d.skip_corrupt) for side in _sides(config)}
    for remark in dict.fromkeys(remark for side in sides.values() for remark in side.remarks):
        if tell is not None:
            tell(remark)
    return sides


def _begin(config: TrainingConfig, folder: Path, resume: bool) -> dict[str, Any]:
    """What is known of the run so far; an error where the folder holds one that is not to be continued."""
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
    versions = {"certimetric": __version__, "torch": _torch_version()}
    return {
        "schema": SCHEMA,
        "config": told,
        "versions": versions,
        "finished": False,
        "history": [],
        "evaluations": [],
        "seconds": 0.0,
    }


def _torch_version() -> str:
    import torch

    return str(torch.__version__)


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


def _watch(
    config: TrainingConfig, run: dict[str, Any], folder: Path, sides: dict[str, Images], tell: Tell | None
) -> Callable[[RobustTrainer, int, float], None]:
    """What happens after every epoch: the run is written, evaluated where it is wanted, and told of."""
    clock = [time.perf_counter()]

    def watch(trainer: RobustTrainer, epoch: int, loss: float) -> None:
        if not trainer.is_main:
            return
        now = time.perf_counter()
        run["seconds"] += now - clock[0]
        run["history"] = list(trainer.history)
        line = f"epoch {epoch} of {config.training.epochs}: loss {loss:.4f}, {now - clock[0]:.1f} s"
        _write(run, folder)  # before the evaluation, which may take long: the checkpoint is there already
        if found := _judge(config, trainer, run, sides):
            _write(run, folder)
            line += f"; R@1 {found['recall_at_1']:.3f}, {found['attacked']:.3f} at ε = {config.evaluation.eps:g}"
        if tell is not None:
            tell(line)
        clock[0] = time.perf_counter()

    return watch


def _judge(
    config: TrainingConfig, trainer: RobustTrainer, run: dict[str, Any], sides: dict[str, Images]
) -> dict[str, float]:
    """Evaluate after the epochs in which it is wanted; nothing after the others."""
    epoch, every = len(run["history"]), config.evaluation.every
    if "test" not in sides or not (epoch >= config.training.epochs or (every and epoch % every == 0)):
        return {}
    found = _evaluate(config, trainer, sides["test"])
    run["evaluations"] = [done for done in run["evaluations"] if done["epoch"] < epoch] + [{"epoch": epoch, **found}]
    return found


def _evaluate(config: TrainingConfig, trainer: RobustTrainer, data: Images) -> dict[str, float]:
    import torch

    from certimetric.deep import PGD, ImageSet, evaluate_retrieval

    e = config.evaluation
    assert e.eps is not None
    gallery = ImageSet(data.images, torch.from_numpy(data.labels))
    rows = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))[: e.queries].sort().values
    queries = gallery.select(rows)
    model = trainer.model if trainer.ema_model is None else trainer.ema_model
    attack = PGD(make_ball(e.norm, e.eps), e.steps)
    found = evaluate_retrieval(model, queries, gallery, attacks=[attack], with_pixels=False, with_nmi=False)
    clean, attacked = found.rows
    return {"recall_at_1": clean["recall_at_1"], "attacked": attacked["recall_at_1"]}


def _save_model(model: nn.Module, path: Path) -> None:
    from safetensors.torch import save_file

    temporary = path.with_name(f".{path.name}.part")
    # Copies, since the format has no place for tensors that share their memory.
    save_file({key: value.detach().cpu().clone().contiguous() for key, value in model.state_dict().items()}, temporary)
    os.replace(temporary, path)


def _write(run: dict[str, Any], folder: Path) -> None:
    write_atomically(folder / RUN_FILE, json.dumps(run, indent=1, ensure_ascii=False))
