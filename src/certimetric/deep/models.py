"""Embedding models: a small network for small pictures, and any factory of the user's."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import Tensor, nn


class EmbeddingNetwork(nn.Module):
    """A network whose input is normalised inside and whose output lies on the unit sphere.

    Normalisation belongs inside, so that perturbations are measured in pixels from 0 to 1.

    Parameters
    ----------
    body : Module
        Normalised images to features (b, k).
    mean, std : float
        Of the pixels.
    normalise : bool, default=True
        Scale embeddings to length 1.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, body: nn.Module, mean: float = 0.5, std: float = 0.5, normalise: bool = True):
        super().__init__()
        self.body, self.normalise = body, normalise
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))

    def forward(self, images: Tensor) -> Tensor:
        embeddings = self.body((images - self.mean) / self.std)
        return nn.functional.normalize(embeddings, dim=1) if self.normalise else embeddings


def embedding_model(name: str, dim: int = 128, *, in_channels: int = 1, **options: Any) -> nn.Module:
    """Make an embedding model by name.

    Parameters
    ----------
    name : str
        "small-cnn", for pictures of 8 to 64 pixels, or ``package.module:factory`` of your own, which is called with
        ``dim`` and the options.
    dim : int, default=128
        Length of the embeddings.
    in_channels : int, default=1
        Of the images, for the small network.

    Raises
    ------
    ValueError
        If the name is unknown, or there is no such factory.

    Examples
    --------
    >>> embedding_model("small-cnn", dim=16)(torch.rand(2, 1, 28, 28)).shape
    torch.Size([2, 16])
    """
    if name == "small-cnn":
        return EmbeddingNetwork(_small_cnn(dim, in_channels), **options)
    module, colon, factory = name.partition(":")
    if not colon:
        raise ValueError(f"model must be 'small-cnn' or 'package.module:factory', got {name!r}")
    try:
        make = getattr(importlib.import_module(module), factory)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"there is no model factory {name!r}: {error}") from None
    made = make(dim=dim, **options)
    if not isinstance(made, nn.Module):
        raise ValueError(f"the model factory {name!r} must give a torch.nn.Module, got {type(made).__name__}")
    return made


def _small_cnn(dim: int, in_channels: int) -> nn.Module:
    """Three convolutions, the last two with stride 2, averaged to 2 × 2: group normalisation needs no batch."""

    def block(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
        convolution = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        return [convolution, nn.GroupNorm(8, outputs), nn.ReLU()]

    return nn.Sequential(
        *block(in_channels, 32, 1),
        *block(32, 64, 2),
        *block(64, 128, 2),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(512, dim),
    )
