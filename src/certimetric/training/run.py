"""A training run in a folder: made as configured, begun, interrupted, resumed, finished, and read again as a model."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from certimetric.base.files import write_atomically
from certimetric.base.threads import threads_for_pictures
from certimetric.datasets.images.sets import Images
from certimetric.runs.environment import environment
from certimetric.training import sections
from certimetric.training.config import RUN_FILE, TrainingConfig
from certimetric.training.sections import Evaluation

if TYPE_CHECKING:
    from torch import nn
    from torch.utils.data import DataLoader

    from certimetric.deep import RobustTrainer
    from certimetric.deep.defenses import Defense

SCHEMA = "certimetric.run/1"
MODEL_FILE = "model.safetensors"
CHECKPOINTS, LOGS = "checkpoint", "logs"  # folders of a run
_KEYS = {"config", "data", "finished", "history", "evaluations", "seconds"}
# What may change between the beginning of a run and its continuation. Workers fetch ahead, so that with another number
# of them random numbers come in another order; everything else here leaves finished epochs what they would have been.
_BEGINS_WITH = ("weights", "checkpoint")  # options of models that say with what weights training begins
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
    from certimetric.deep.models.calling import seeded

    folder = Path(folder)
    run = _begin(config, folder, resume)
    evaluation: Evaluation = sections.evaluation()(config.evaluation)
    sides = _load_sides(config, evaluation.sides, root, tell)
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
    defense = make_defense(config, [load_run(source)[0] for source in config.defense.get("sources", ())])
    watch = _Watch(config.training.epochs, evaluation, run, folder, sides, tell)
    trainer = make_trainer(config, model, loss, defense, folder, watch)
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
        run["model_sha256"] = _save_model(trainer.trained, folder / MODEL_FILE)
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
    from safetensors.torch import load

    from certimetric.deep.train.checkpoints import digest_of, load_checkpoint

    folder = Path(folder)
    run = read_run(folder)
    config = TrainingConfig.from_mapping(run["config"], f"the configuration in {str(folder / RUN_FILE)!r}")
    if run["finished"] and (folder / MODEL_FILE).exists():
        try:
            content = (folder / MODEL_FILE).read_bytes()
            if run.get("model_sha256", digest := digest_of(content)) != digest:  # runs of before 1.0 have no hash
                raise ValueError("it is not the file that the run wrote")
            tensors = load(content)
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
    """What ``run.json`` of a folder says; a FileNotFoundError without one, a ValueError if it is damaged."""
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
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else error
        raise ValueError(f"{str(file)!r} is not the file of a run: {reason}") from None
    return dict(run)


def _load_sides(config: TrainingConfig, sides: Sequence[str], root: Any, tell: Tell | None) -> dict[str, Images]:
    where = {} if root is None else {"root": root}
    loaded = {side: sections.data()(config.data, split=side, **where) for side in sides}
    for remark in dict.fromkeys(remark for side in loaded.values() for remark in side.remarks):
        if tell is not None:
            tell(remark)
    return loaded


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
    return {
        "schema": SCHEMA,
        "config": told,
        **environment(),
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


@dataclass
class _Watch:
    """What happens after every epoch: the run is written, evaluated where it is wanted, and told of."""

    epochs: int
    evaluation: Evaluation
    run: dict[str, Any]
    folder: Path
    sides: dict[str, Images]
    tell: Tell | None
    clock: float = field(default_factory=time.perf_counter)

    def __call__(self, trainer: RobustTrainer, epoch: int, loss: float) -> None:
        if not trainer.is_main:
            return
        now = time.perf_counter()
        self.run["seconds"] += now - self.clock
        self.run["history"] = list(trainer.history)
        line = f"epoch {epoch} of {self.epochs}: loss {loss:.4f}, {now - self.clock:.1f} s"
        _write(self.run, self.folder)  # before the evaluation, which may take long: the checkpoint is there already
        if self.evaluation.is_due(epoch, self.epochs):
            found = self.judge(trainer)
            _write(self.run, self.folder)
            line += f"; R@1 {found['recall_at_1']:.3f}, {found['attacked']:.3f} at ε = {self.evaluation.eps:g}"
        if self.tell is not None:
            self.tell(line)
        self.clock = time.perf_counter()

    def resumed(self, trainer: RobustTrainer, epoch: int) -> None:
        """Make up for an evaluation that was interrupted, before training changes the model."""
        self.run["history"] = list(trainer.history)  # a checkpoint is there before the run is written
        done = [found["epoch"] for found in self.run["evaluations"]]
        if trainer.is_main and self.evaluation.is_due(epoch, self.epochs) and epoch not in done:
            self.judge(trainer)
            _write(self.run, self.folder)
        self.clock = time.perf_counter()

    def judge(self, trainer: RobustTrainer) -> dict[str, float]:
        """Evaluate the last epoch."""
        epoch, before = len(self.run["history"]), self.run["evaluations"]
        found = self.evaluation(trainer.trained, self.sides["test"])
        self.run["evaluations"] = [done for done in before if done["epoch"] < epoch] + [{"epoch": epoch, **found}]
        return found


def _save_model(model: nn.Module, path: Path) -> str:
    """Write the weights; the hash of the file."""
    from certimetric.deep.train.checkpoints import write_tensors

    return write_tensors(path, model.state_dict())


def _write(run: dict[str, Any], folder: Path) -> None:
    write_atomically(folder / RUN_FILE, json.dumps(run, indent=1, ensure_ascii=False))


def make_model(config: TrainingConfig, in_channels: int, *, pretrained: bool = True) -> nn.Module:
    """The model that a configuration names, with the weights that it begins with unless ``pretrained`` is False."""
    from certimetric.deep import embedding_model

    options = {key: value for key, value in config.model.items() if pretrained or key not in _BEGINS_WITH}
    return embedding_model(**options, in_channels=in_channels)


def make_component(config: TrainingConfig, section: str, n_classes: int) -> Any:
    """The loss or the miner, told of model and data what it asks for."""
    return sections.make_component(section, getattr(config, section), config.model.dim, n_classes)


def make_defense(config: TrainingConfig, sources: Sequence[nn.Module] = ()) -> Defense:
    """The defense; an ensemble attacks with these models, those of its runs."""
    others = {"sources": sources} if "sources" in config.defense else {}
    made: Defense = sections.defense(config.defense.kind)(config.defense, **others)
    return made


def make_trainer(
    config: TrainingConfig,
    model: nn.Module,
    loss: Any,
    defense: Defense,
    folder: Path | None = None,
    callback: Any = None,
) -> RobustTrainer:
    """The trainer that a configuration describes. Without a folder it keeps no checkpoints and logs nothing."""
    said, parts = config.training, sections.training()
    trainer: RobustTrainer = parts["trainer"](
        said,
        model=model,
        loss=loss,
        miner=None if config.miner is None else make_component(config, "miner", 0),
        defense=defense,
        optimizer=parts["optimizer"](said),
        scheduler=parts["scheduler"](said),
        augment=parts["augment"](said),
        loggers=parts["loggers"](said, folder=None if folder is None else folder / LOGS),
        checkpoint_dir=None if folder is None else folder / CHECKPOINTS,
        callbacks=() if callback is None else (callback,),
    )
    return trainer


def make_loader(config: TrainingConfig, data: Images) -> DataLoader[Any]:
    """Whole batches, drawn by class."""
    loader: DataLoader[Any] = sections.training()["loader"](config.training, images=data.images, labels=data.labels)
    return loader
