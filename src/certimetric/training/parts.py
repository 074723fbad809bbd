"""What a configuration names, made: model, loss, miner, defense, trainer, batches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from certimetric.datasets.images.sets import Images
from certimetric.training import sections
from certimetric.training.config import TrainingConfig

if TYPE_CHECKING:
    from torch import nn
    from torch.utils.data import DataLoader

    from certimetric.deep import RobustTrainer
    from certimetric.deep.defenses import Defense

CHECKPOINTS, LOGS = "checkpoint", "logs"  # folders of a run


def make_model(config: TrainingConfig, in_channels: int, *, pretrained: bool = True) -> nn.Module:
    """The model that a configuration names, with the weights that it begins with unless ``pretrained`` is False."""
    from certimetric.deep import embedding_model

    options = {key: value for key, value in config.model.items() if pretrained or key != "weights"}
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
