"""The sections of the configuration of a training run, each with its keys and defaults, but for ``[defense]``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class DataSection:
    """``[data]``: an image set, or the folder or .npz file of one, size of pictures, and what of damaged ones."""

    name: str
    root: str | None = None
    size: int | None = None
    skip_corrupt: bool = False


@dataclass(frozen=True)
class ModelSection:
    """``[model]``: name of the model, length of the embeddings, and options of the model itself."""

    name: str = "small-cnn"
    dim: int = 128
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Component:
    """``[loss]`` or ``[miner]``: a class of pytorch-metric-learning, and its parameters."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainingSection:
    """``[training]``: batches, optimiser, schedule, and where it runs."""

    epochs: int = 20
    batch_size: int = 112
    per_class: int = 2
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: float = 1e-3
    weight_decay: float = 4e-4
    schedule: Literal["constant", "cosine"] = "constant"
    ema: float | None = None
    augment: tuple[str, ...] = ()
    seed: int = 0
    workers: int = 0
    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps", "tpu"] = "auto"
    devices: int = 1
    strategy: Literal["auto", "ddp"] = "auto"
    precision: Literal["32-true", "bf16-mixed", "bf16-true", "64-true"] | None = None
    loggers: tuple[Literal["csv", "tensorboard"], ...] = ()


@dataclass(frozen=True)
class EvaluationSection:
    """``[evaluation]``: R@1 on the test side after every ``every`` epochs and at the end, clean and under PGD."""

    every: int = 0
    queries: int = 500
    norm: Literal["linf", "l2"] = "linf"
    eps: float | None = None
    steps: int = 20
