"""A model as an attacker sees it: fixed, and afterwards just as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def frozen(*modules: nn.Module, evaluate: bool = True) -> Iterator[None]:
    """No parameter takes gradients inside, and running statistics stay; everything is restored, also after an error.

    Parameters
    ----------
    *modules : Module
        A model, and a loss with parameters of its own, say.
    evaluate : bool, default=True
        Switch to evaluation mode. Without it modules keep their mode, but normalisation layers still do not collect
        statistics.
    """
    training = {module: module.training for root in modules for module in root.modules()}
    gradients = {parameter: parameter.requires_grad for root in modules for parameter in root.parameters()}
    tracking = {
        module: module.track_running_stats
        for module in training
        if isinstance(module, nn.modules.batchnorm._NormBase) and not evaluate
    }
    momentum = {module: module.momentum for module in tracking}
    counters = [module.num_batches_tracked for module in tracking if module.num_batches_tracked is not None]
    counts = [counter.clone() for counter in counters]
    try:
        for root in modules:
            if evaluate:
                root.eval()
        for module in tracking:
            module.momentum = 0.0  # statistics of the batch normalise it, and leave the running ones as they are
        for parameter in gradients:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter, wanted in gradients.items():
            parameter.requires_grad_(wanted)
        for module in tracking:
            module.momentum = momentum[module]
        for counter, count in zip(counters, counts):
            counter.copy_(count)
        for module, mode in training.items():
            module.training = mode
