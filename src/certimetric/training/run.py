"""A training run in a folder: begun, interrupted, resumed, finished, and read again as a model."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from certimetric.base.threads import threads_for_pictures
from certimetric.datasets.images.sets import Images
from certimetric.training import sections
from certimetric.training.config import TrainingConfig
from certimetric.training.evaluation import Evaluation
from certimetric.training.folder import MODEL_FILE, begin_run, load_run, save_model, write_run
from certimetric.training.parts import make_component, make_defense, make_loader, make_model, make_trainer

if TYPE_CHECKING:
    from certimetric.deep import RobustTrainer

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
    run = begin_run(config, folder, resume)
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
        epochs = len(run["history"])
        if evaluation.is_due(epochs, config.training.epochs) and epochs not in (e["epoch"] for e in run["evaluations"]):
            watch.judge(trainer)  # the run was interrupted in its last evaluation
        save_model(trainer.trained, folder / MODEL_FILE)
        run["finished"] = True
        write_run(run, folder)
    return run


def _load_sides(config: TrainingConfig, sides: Sequence[str], root: Any, tell: Tell | None) -> dict[str, Images]:
    where = {} if root is None else {"root": root}
    loaded = {side: sections.data()(config.data, split=side, **where) for side in sides}
    for remark in dict.fromkeys(remark for side in loaded.values() for remark in side.remarks):
        if tell is not None:
            tell(remark)
    return loaded


class _Watch:
    """What happens after every epoch: the run is written, evaluated where it is wanted, and told of."""

    def __init__(
        self,
        epochs: int,
        evaluation: Evaluation,
        run: dict[str, Any],
        folder: Path,
        sides: dict[str, Images],
        tell: Tell | None,
    ):
        self.epochs, self.evaluation, self.run, self.folder = epochs, evaluation, run, folder
        self.sides, self.tell, self.clock = sides, tell, time.perf_counter()

    def __call__(self, trainer: RobustTrainer, epoch: int, loss: float) -> None:
        if not trainer.is_main:
            return
        now = time.perf_counter()
        self.run["seconds"] += now - self.clock
        self.run["history"] = list(trainer.history)
        line = f"epoch {epoch} of {self.epochs}: loss {loss:.4f}, {now - self.clock:.1f} s"
        write_run(self.run, self.folder)  # before the evaluation, which may take long: the checkpoint is there already
        if self.evaluation.is_due(epoch, self.epochs):
            found = self.judge(trainer)
            write_run(self.run, self.folder)
            line += f"; R@1 {found['recall_at_1']:.3f}, {found['attacked']:.3f} at ε = {self.evaluation.eps:g}"
        if self.tell is not None:
            self.tell(line)
        self.clock = time.perf_counter()

    def judge(self, trainer: RobustTrainer) -> dict[str, float]:
        """Evaluate the last epoch."""
        epoch, before = len(self.run["history"]), self.run["evaluations"]
        found = self.evaluation(trainer.trained, self.sides["test"])
        self.run["evaluations"] = [done for done in before if done["epoch"] < epoch] + [{"epoch": epoch, **found}]
        return found
