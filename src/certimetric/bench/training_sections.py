"""The sections of the configuration of a training run, each with its keys and defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class DataSection:
    """``[data]``: an image set, or the folder or .npz file of one, and the size of its pictures."""

    name: str
    root: str | None = None
    size: int | None = None


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
class NoneSection:
    """``[defense]`` with ``kind = "none"``: natural training."""

    kind: Literal["none"] = "none"


@dataclass(frozen=True)
class AttackedSection:
    """What the defenses with an attack have in common."""

    norm: Literal["linf", "l2"] = "linf"
    eps: float = 0.01
    steps: int = 5
    step_size: float | None = None
    restarts: int = 1


@dataclass(frozen=True)
class TupleSection(AttackedSection):
    """``[defense]`` with ``kind = "tuple"``: one role of each tuple is perturbed."""

    kind: Literal["tuple"] = "tuple"
    role: Literal["positive", "negative", "anchor"] = "positive"
    attack_rate: float = 1.0
    per_anchor: int = 1


@dataclass(frozen=True)
class BatchSection(AttackedSection):
    """``[defense]`` with ``kind = "batch"``: the whole batch is perturbed jointly."""

    kind: Literal["batch"] = "batch"


@dataclass(frozen=True)
class PerturbationSection:
    """``[defense]`` with ``kind = "perturbation"``: the perturbation loss on first-order margins."""

    kind: Literal["perturbation"] = "perturbation"
    radius: float = 0.03
    weight: float = 1.0
    norm: Literal["linf", "l2"] = "linf"
    per_anchor: int = 1


@dataclass(frozen=True)
class NoiseSection:
    """``[defense]`` with ``kind = "noise"``: Gaussian noise, for a model that is to be smoothed."""

    kind: Literal["noise"] = "noise"
    sigma: float = 0.25


DefenseSection = NoneSection | TupleSection | BatchSection | PerturbationSection | NoiseSection
DEFENSES = {
    "none": NoneSection,
    "tuple": TupleSection,
    "batch": BatchSection,
    "perturbation": PerturbationSection,
    "noise": NoiseSection,
}


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
    accelerator: str = "auto"
    devices: int = 1
    strategy: str = "auto"
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
