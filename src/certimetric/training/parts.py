"""What a configuration names, made: model, loss, miner, defense, trainer, batches."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from certimetric.datasets.images.sets import Images
from certimetric.training.config import (
    LOSSES,
    TrainingConfig,
    component_class,
    component_parameters,
)

if TYPE_CHECKING:
    import torch
    from torch import nn

    from certimetric.deep import RobustTrainer
    from certimetric.deep.defenses import Defense

CHECKPOINTS, LOGS = "checkpoint", "logs"  # folders of a run


def make_model(config: TrainingConfig, in_channels: int, *, pretrained: bool = True) -> nn.Module:
    """The model that a configuration names, with the weights that it begins with unless ``pretrained`` is False."""
    from certimetric.deep import embedding_model

    options = dict(config.model.options)
    if not pretrained:
        options.pop("weights", None)
    return embedding_model(config.model.name, config.model.dim, in_channels=in_channels, **options)


def model_values(config: TrainingConfig) -> list[str]:
    """What is wrong about the values of a built-in model's options: it is made, without memory for its weights."""
    import torch

    from certimetric.deep.models.network import embedding_model, option_defaults

    found = []
    for key, default in option_defaults(config.model.name).items():
        value = config.model.options.get(key, default)
        number = isinstance(default, (int, float)) and not isinstance(default, bool)
        if isinstance(default, bool) and not isinstance(value, bool):
            found.append(f"{key} in [model] must be true or false, got {value!r}")
        elif isinstance(default, int) and number and (isinstance(value, bool) or not isinstance(value, int)):
            found.append(f"{key} in [model] must be a whole number, got {value!r}")
        elif isinstance(default, str) and not isinstance(value, str):
            found.append(f"{key} in [model] must be text, got {value!r}")
    if found or config.model.name not in ("small-cnn", "lipschitz-cnn"):
        return found
    try:
        with torch.device("meta"):
            embedding_model(config.model.name, 1, **dict(config.model.options))
    except (ValueError, RuntimeError) as error:
        found.append(f"[model]: {error}")
    return found


def make_ball(norm: str, eps: float) -> Any:
    from certimetric.deep import L2Ball, LinfBall

    return LinfBall(eps) if norm == "linf" else L2Ball(eps)


def make_component(config: TrainingConfig, section: str, n_classes: int) -> Any:
    """The loss or the miner, told of model and data what it asks for."""
    component = getattr(config, section)
    made = component_class(section, component.name)
    defaults = LOSSES[component.name][1] if component.name in LOSSES else {}
    told = {"embedding_size": config.model.dim, "num_classes": n_classes}
    names = component_parameters(made)
    told = {key: value for key, value in told.items() if key in names}
    try:
        return made(**{**defaults, **told, **component.options})
    except (TypeError, ValueError, AssertionError) as error:
        raise ValueError(f"[{section}] {component.name!r} cannot be made: {error}") from None


def make_trainer(
    config: TrainingConfig,
    model: nn.Module,
    loss: Any,
    folder: Path | None = None,
    callback: Any = None,
    defense: Defense | None = None,
) -> RobustTrainer:
    """The trainer that a configuration describes, but for a defense that is given.

    Without a folder it keeps no checkpoints and logs nothing.
    """
    from certimetric.deep import RobustTrainer
    from certimetric.deep.train.augmentation import augmentation

    t = config.training
    return RobustTrainer(
        model,
        loss,
        miner=None if config.miner is None else make_component(config, "miner", 0),
        defense=config.defense.make() if defense is None else defense,
        optimizer=lambda parameters: _optimizer(config, parameters),
        scheduler=(lambda optimizer: _cosine(optimizer, t.epochs)) if t.schedule == "cosine" else None,
        max_epochs=t.epochs,
        ema=t.ema,
        accelerator=t.accelerator,
        devices=t.devices,
        strategy=t.strategy,
        precision=t.precision,
        augment=augmentation(t.augment),
        loggers=() if folder is None else _loggers(config, folder),
        checkpoint_dir=None if folder is None else folder / CHECKPOINTS,
        callbacks=() if callback is None else (callback,),
        seed=t.seed,
    )


def _optimizer(config: TrainingConfig, parameters: Any) -> torch.optim.Optimizer:
    import torch

    t = config.training
    if t.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=t.learning_rate, weight_decay=t.weight_decay, momentum=0.9)
    kind = torch.optim.Adam if t.optimizer == "adam" else torch.optim.AdamW
    return kind(parameters, lr=t.learning_rate, weight_decay=t.weight_decay)


def _cosine(optimizer: torch.optim.Optimizer, epochs: int) -> Any:
    import torch

    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)


def _loggers(config: TrainingConfig, folder: Path) -> list[Any]:
    from lightning.fabric.loggers import CSVLogger, TensorBoardLogger

    made: list[Any] = []
    for name in config.training.loggers:
        try:
            made.append((CSVLogger if name == "csv" else TensorBoardLogger)(str(folder / LOGS), name=name))
        except ModuleNotFoundError:
            raise ImportError(f'the logger {name!r} needs tensorboardX: pip install "certimetric[logging]"') from None
    return made


def make_loader(config: TrainingConfig, data: Images) -> torch.utils.data.DataLoader[Any]:
    """Whole batches, drawn by class: the sampler gives the rows of a batch, the data set all of them at once."""
    import torch

    from certimetric.deep import ClassBalancedBatches

    t = config.training
    sampler = ClassBalancedBatches(torch.from_numpy(data.labels), t.batch_size, t.per_class)
    return torch.utils.data.DataLoader(_Batches(data), batch_size=None, sampler=sampler, num_workers=t.workers)  # type: ignore[arg-type]


class _Batches:
    """Rows of an image set as tensors."""

    def __init__(self, data: Images):
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, rows: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        import torch

        return torch.from_numpy(self.data.images[rows]), torch.from_numpy(self.data.labels[rows])
