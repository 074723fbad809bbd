"""Optimisers and schedules of the learning rate, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import nn

from certimetric.base.arguments import chosen, require

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": partial(torch.optim.SGD, momentum=0.9),
}
SCHEDULES: dict[str, Callable[..., Any] | None] = {
    "constant": None,
    "cosine": torch.optim.lr_scheduler.CosineAnnealingLR,  # down to 0 in the last epoch
}


def optimizer_of(
    optimizer: str = "adam", learning_rate: float = 1e-3, weight_decay: float = 4e-4
) -> Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]:
    """What makes an optimiser for parameters, as `RobustTrainer` takes it.

    Raises
    ------
    ValueError
        If the name is unknown, or a number does not fit.

    Examples
    --------
    >>> optimizer_of("sgd", 0.1)(nn.Linear(2, 2).parameters()).param_groups[0]["momentum"]
    0.9
    """
    chosen("optimizer", optimizer, OPTIMIZERS)
    require(learning_rate > 0, "learning_rate", "must be positive", learning_rate)
    require(weight_decay >= 0, "weight_decay", "must not be negative", weight_decay)
    return partial(OPTIMIZERS[optimizer], lr=learning_rate, weight_decay=weight_decay)


def scheduler_of(schedule: str = "constant", max_epochs: int = 20) -> Callable[[torch.optim.Optimizer], Any] | None:
    """What makes a schedule for an optimiser, as `RobustTrainer` takes it; None for a constant learning rate."""
    chosen("schedule", schedule, SCHEDULES)
    made = SCHEDULES[schedule]
    return None if made is None else partial(made, T_max=max_epochs)
