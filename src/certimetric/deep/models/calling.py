"""How models are called: any callable in the place of a Module, frozen, seeded, in batches, every mistake named."""

# ruff: noqa: NPY002  (the global generator of NumPy is what seeding is about)

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from certimetric.deep.models.functions import Called, Cast, told_outputs
from certimetric.deep.models.functions import NoGradients as NoGradients
from certimetric.deep.models.images import PICTURES, Kind, LazyImages
from certimetric.deep.models.sources import is_source, load_model
from certimetric.deep.ranking.distances import slices, wide


def as_module(model: Any) -> nn.Module:
    """The model itself, or a Module around a callable, or around a model in another precision than pictures have.

    Parameters
    ----------
    model : Module, callable or str
        Images (b, …) to embeddings (b, k): a tensor, or an array where no gradient is asked for. Text is a source of
        :func:`load_model`. Of a method of a
        Module, such as ``network.encode_image``, the Module is known: it is put into evaluation mode, and its device
        is where images go. What else a function holds is as it is, and images come on the CPU. A Module whose
        parameters are not in single precision is given images in theirs.

    Raises
    ------
    TypeError
        If it cannot be called. In calls of the result, if gradients are asked for of a function that has none.

    Examples
    --------
    >>> as_module(lambda images: images.numpy().mean(axis=(2, 3)))(torch.ones(2, 3, 4, 4)).shape
    torch.Size([2, 3])
    """
    if isinstance(model, nn.Module):
        parameter = next((each for each in model.parameters() if each.is_floating_point()), None)
        if parameter is None or parameter.dtype == torch.float32 or isinstance(model, Cast):
            return model
        return Cast(model, parameter.dtype)
    if isinstance(model, str) and is_source(model):
        return as_module(load_model(model))
    if not callable(model):
        raise TypeError(f"model must be a Module or a callable that embeds images, got {type(model).__name__}")
    return Called(model)


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
    norms = [] if evaluate else [each for each in training if isinstance(each, nn.modules.batchnorm._NormBase)]
    momentum = {module: module.momentum for module in norms}
    counters = [module.num_batches_tracked for module in norms if module.num_batches_tracked is not None]
    counts = [counter.clone() for counter in counters]
    try:
        for root in modules if evaluate else ():
            root.eval()
        for module in norms:
            module.momentum = 0.0  # statistics of the batch normalise it, and leave the running ones as they are
        for parameter in gradients:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter, wanted in gradients.items():
            parameter.requires_grad_(wanted)
        for module, kept in momentum.items():
            module.momentum = kept
        for counter, count in zip(counters, counts):
            counter.copy_(count)
        for module, mode in training.items():
            module.training = mode


@torch.no_grad()
def embed(
    model: nn.Module | Callable[[Tensor], Any],
    images: Tensor | LazyImages,
    batch_size: int = 256,
    kind: Kind = PICTURES,
) -> Tensor:
    """Embeddings of images, (n, c, h, w) to (n, k), with the model in evaluation mode, where its parameters are.

    Parameters
    ----------
    model : Module or callable
    images : tensor of shape (n, c, h, w), or lazy images
        From 0 to 1 of any floating type, or 8-bit levels. Lazy images are decoded batch by batch.
    batch_size : int, default=256
    kind : Kind, optional
        What is embedded, where it is no pictures: ``samples.kind``.

    Raises
    ------
    TypeError
        If the model gives something else than a tensor.
    ValueError
        If there are no images, if images lie outside of 0 to 1, or if embeddings are not of shape (b, k) and finite.

    Examples
    --------
    >>> images = torch.linspace(0, 1, 8).view(2, 1, 2, 2)
    >>> embed(nn.Flatten(), images).shape
    torch.Size([2, 4])
    """
    model, images = as_module(model), kind.converted(images)
    kind.check(images)
    if not len(images):
        raise ValueError(f"{kind.name} must hold at least one {kind.name[:-1]}, got none")
    device, parts = device_of(model), []
    with frozen(model):
        for rows in slices(len(images), batch_size):
            batch = kind.decoded(images, rows).to(device)
            parts.append(wide(check_embeddings(model(batch), len(batch))).to(device))
    return torch.cat(parts)


def has_gradients(model: nn.Module, images: Tensor) -> bool:
    """Whether gradients can be asked for at all: no function, and no program of another library, has them."""
    try:
        with frozen(model), torch.enable_grad():
            model(images.to(device_of(model)).requires_grad_(True))
    except NoGradients:
        return False
    return True


def check_embeddings(embeddings: Tensor, b: int) -> Tensor:
    """Give embeddings if they are a finite tensor of shape (b, k); raise an error that says what came instead."""
    if not isinstance(embeddings, Tensor):
        hint = "; with_output(model, …), or MODEL?output=… in a command, says which is the embedding"
        told = told_outputs(embeddings)
        raise TypeError(f"the model must give one tensor of embeddings, got {told}{hint if ' of ' in told else ''}")
    if embeddings.ndim != 2 or len(embeddings) != b:
        raise ValueError(f"the model must give embeddings of shape ({b}, k), got {tuple(embeddings.shape)}")
    if not bool(torch.isfinite(embeddings).all()):
        raise ValueError("the model gives embeddings that are not finite")
    return embeddings


def device_of(model: nn.Module) -> torch.device:
    """Where the parameters and buffers of a model are; the CPU for a model without any."""
    tensor = next(chain(model.parameters(), model.buffers()), None)
    return torch.device("cpu") if tensor is None else tensor.device


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch, NumPy and Python inside; outside they go on as if nothing had been drawn, also after an error.

    Models, losses and augmentations draw from the global generators, as dropout does: what they give is then the same
    every time, and no other code sees that they were asked. It decorates functions, too.

    Examples
    --------
    >>> before = torch.get_rng_state()
    >>> with seeded(3):
    ...     one = torch.rand(2)
    >>> with seeded(3):
    ...     other = torch.rand(2)
    >>> torch.equal(one, other), torch.equal(before, torch.get_rng_state())
    (True, True)
    """
    python, numpy = random.getstate(), np.random.get_state()
    # A GPU that is not used yet has no state to lose, and asking for it would take memory there.
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    try:
        with torch.random.fork_rng(devices):
            seed_all(seed)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def seed_all(seed: int) -> None:
    """Seed the global generators of torch, NumPy and Python; for the inside of :func:`seeded`."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)
