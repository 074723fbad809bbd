"""Embedding models: a small network for small pictures, ResNet-50 where it is installed, any factory of the user's."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from certimetric.deep.models.calling import check_embeddings, seeded
from certimetric.deep.models.exported import Exported
from certimetric.deep.models.orthogonal import (
    GroupSort,
    NormPool2d,
    UnitBall,
    orthogonal_convolution,
    orthogonal_linear,
    residual_convolution,
)
from certimetric.deep.models.preprocessing import Preprocessing, per_channel
from certimetric.deep.models.sources import find_factory, is_source, load_model, load_weights
from certimetric.deep.ranking.distances import unit

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class EmbeddingNetwork(nn.Module):
    """A network whose input is normalised inside and whose output lies on the unit sphere.

    Normalisation belongs inside, so that perturbations are measured in pixels from 0 to 1.

    Parameters
    ----------
    body : Module
        Normalised images to features (b, k).
    mean, std : float or sequence of float
        Of the pixels, one for all channels or one for each.
    normalise : bool, default=True
        Scale embeddings to length 1.
    freeze_batch_norm : bool, default=False
        Batch normalisation keeps the statistics that it came with, in training too.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        body: nn.Module,
        mean: float | Sequence[float] = 0.5,
        std: float | Sequence[float] = 0.5,
        normalise: bool = True,
        freeze_batch_norm: bool = False,
    ):
        super().__init__()
        self.body, self.normalise, self.freeze_batch_norm = body, normalise, freeze_batch_norm
        self.register_buffer("mean", per_channel(mean))
        self.register_buffer("std", per_channel(std))

    def train(self, mode: bool = True) -> EmbeddingNetwork:
        """Training or evaluation mode; frozen normalisation stays in evaluation mode."""
        super().train(mode)
        if self.freeze_batch_norm:
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        embeddings = self.body((images - self.mean) / self.std)
        return unit(embeddings) if self.normalise else embeddings


def embedding_model(
    name: str,
    dim: int = 128,
    *,
    in_channels: int = 1,
    seed: int | None = None,
    checkpoint: str | None = None,
    **options: Any,
) -> nn.Module:
    """Make an embedding model by name.

    Parameters
    ----------
    name : str
        "small-cnn", for pictures of 8 to 64 pixels; "lipschitz-cnn", of which no layer stretches a difference, so that
        its retrieval can be certified; "resnet50", for pictures of 224 pixels in colour, by timm or
        torchvision, whichever is installed, with frozen batch normalisation; or ``package.module:factory`` of your own,
        which is called with ``dim`` and the options; or a source of :func:`load_model`, such as "timm:NAME" or
        "hf:FOLDER", on which a linear map of length ``dim`` is put.
    dim : int, default=128
        Length of the embeddings.
    in_channels : int, default=1
        Of the images, for the small network.
    seed : int, optional
        Of the random weights; the global random numbers are then left as they are. By default weights are drawn from
        those of torch, as those of any module.
    checkpoint : str, optional
        File of weights to begin with: of the whole model, as ``model.safetensors`` of a run, or of a source's body.
    **options
        Of the network. "small-cnn": ``width`` (32), channels of the first layer; ``depth`` (3), number of layers;
        ``stem`` (1), stride of the first, 2 for pictures of 64 pixels; ``downsample``, "stride" or "max";
        ``norm``, "group", "batch" or "none"; ``centre`` (False), embeddings about their mean before they are scaled;
        ``mean`` and ``std`` (0.5) of the pixels.
        "lipschitz-cnn": ``size`` (28), height and width of the pictures; ``width`` (16), channels of the first layer,
        which every further one doubles; ``depth`` (2), number of convolutions; ``kernel`` (5), size of the first;
        ``scale`` (None), by which embeddings are multiplied before they are brought into the unit ball, None to leave
        them as they are; ``blocks`` (0), residual layers after each of the convolutions; ``pool`` (2) and ``offset``
        (0), size of the blocks that are pooled by norms, and their constant; ``sort`` (True), whether channels are
        sorted before: one convolution without, and an offset, is certified better, by slopes.
        "resnet50": ``weights``, None for random ones, "imagenet" for those that timm or torchvision then download, or
        a safetensors file. A source: ``output``, and ``freeze_batch_norm`` (True).

    Raises
    ------
    ValueError
        If the name is unknown, there is no such factory, or an option does not fit.
    ImportError
        If "resnet50" is wanted and neither timm nor torchvision is installed.

    Examples
    --------
    >>> embedding_model("small-cnn", dim=16)(torch.rand(2, 1, 28, 28)).shape
    torch.Size([2, 16])
    """
    if seed is not None:
        with seeded(seed):
            return embedding_model(name, dim, in_channels=in_channels, checkpoint=checkpoint, **options)
    if is_source(name, factories=False):
        options["checkpoint"] = checkpoint
    elif checkpoint is not None:
        made = embedding_model(name, dim, in_channels=in_channels, **options)
        load_weights(made, checkpoint)
        return made
    factory = model_factory(name)
    try:
        if name in MODELS or is_source(name, factories=False):
            return factory(dim, in_channels, **options)
        inspect.signature(factory).bind(dim=dim, **options)
    except TypeError as error:
        raise ValueError(f"options of the model {name!r} do not fit: {error}") from None
    made = factory(dim=dim, **options)
    if not isinstance(made, nn.Module):
        raise ValueError(f"the model factory {name!r} must give a torch.nn.Module, got {type(made).__name__}")
    return made


def model_factory(name: str) -> Callable[..., Any]:
    """What makes the models of a name; all but factories of the user's are called with ``dim`` and ``in_channels``."""
    if name in MODELS:
        return MODELS[name]
    if is_source(name, factories=False):
        return partial(_on_a_body, name)
    if ":" not in name:
        known = ", ".join([*map(repr, MODELS), "'timm:NAME' and the like"])
        raise ValueError(f"model must be {known} or 'package.module:factory', got {name!r}")
    return find_factory(name)


def _on_a_body(
    source: str,
    dim: int,
    in_channels: int,
    checkpoint: str | None = None,
    output: str | None = None,
    freeze_batch_norm: bool = True,
) -> EmbeddingNetwork:
    """A linear map on what a source gives, with its own preprocessing before."""
    told = [f"{key}={value}" for key, value in (("checkpoint", checkpoint), ("output", output)) if value is not None]
    body = load_model("?".join([source, *(["&".join(told)] if told else [])]))
    with torch.no_grad():
        found = check_embeddings(body(torch.zeros(1, in_channels, *_size_of(body))), 1)
    layers = nn.Sequential(body, nn.Linear(found.shape[1], dim))
    return EmbeddingNetwork(layers, mean=0.0, std=1.0, freeze_batch_norm=freeze_batch_norm)


def _size_of(body: nn.Module) -> tuple[int, ...]:
    """Height and width of pictures that a body takes; 224 where it does not say."""
    for each in body.modules():
        if isinstance(each, Preprocessing) and (size := each.crop or each.resize) is not None:
            return size if isinstance(size, tuple) else (size, size)
        if isinstance(each, Exported):
            return tuple(size or 224 for size in each.shape[1:])
    return 224, 224


def _small_cnn(
    dim: int,
    in_channels: int,
    width: int = 32,
    depth: int = 3,
    stem: int = 1,
    downsample: str = "stride",
    norm: str = "group",
    centre: bool = False,
    mean: float | Sequence[float] = 0.5,
    std: float | Sequence[float] = 0.5,
) -> EmbeddingNetwork:
    """Convolutions that double the channels and halve the picture, averaged to 2 × 2."""
    if width < 8 or width % 8:
        raise ValueError(f"width of 'small-cnn' must be a multiple of 8, got {width}")
    if depth < 1 or stem not in (1, 2):
        raise ValueError(f"depth and stem of 'small-cnn' must be at least 1, and 1 or 2, got {depth} and {stem}")
    for name, value, known in (("downsample", downsample, ("stride", "max")), ("norm", norm, tuple(_NORMALISATIONS))):
        if value not in known:
            raise ValueError(f"{name} of 'small-cnn' must be {' or '.join(map(repr, known))}, got {value!r}")
    layers: list[nn.Module] = []
    channels = in_channels
    for i in range(depth):
        outputs = width * 2**i
        stride = stem if i == 0 else 2 if downsample == "stride" else 1
        layers.append(nn.Conv2d(channels, outputs, 3, stride=stride, padding=1, bias=norm == "none"))
        layers.append(_NORMALISATIONS[norm](outputs))
        if downsample == "max" and i < depth - 1:
            layers.append(nn.MaxPool2d(2))  # before the ReLU, which then has a quarter to do: the same function
        layers.append(nn.ReLU())
        channels = outputs
    layers += [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * channels, dim)]
    if centre:
        # Without a centre all embeddings begin close together, and a metric loss may leave them there.
        layers.append(nn.BatchNorm1d(dim, affine=False))
    # In this order of memory convolutions are quicker, on CPU and GPU.
    network = EmbeddingNetwork(nn.Sequential(*layers), mean, std)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def _lipschitz_cnn(
    dim: int,
    in_channels: int,
    size: int = 28,
    width: int = 16,
    depth: int = 2,
    kernel: int = 5,
    scale: float | None = None,
    blocks: int = 0,
    pool: int = 2,
    offset: float = 0.0,
    sort: bool = True,
) -> EmbeddingNetwork:
    """Orthogonal convolutions and sorting, pooled by norms to a smaller picture each time, and an orthogonal map; each
    pooling is followed by residual layers."""
    if width < 2 or width % 2:
        raise ValueError(f"width of 'lipschitz-cnn' must be even, got {width}")
    if blocks < 0:
        raise ValueError(f"blocks of 'lipschitz-cnn' must be at least 0, got {blocks}")
    if pool < 1:
        raise ValueError(f"pool of 'lipschitz-cnn' must be at least 1, got {pool}")
    if depth < 1 or kernel < 1 or kernel % 2 == 0 or size < 1:
        raise ValueError(
            f"depth and size of 'lipschitz-cnn' must be at least 1, kernel odd, got {depth}, {size} and {kernel}"
        )
    layers: list[nn.Module] = []
    channels = in_channels
    for i in range(depth):
        outputs = width * 2**i
        layers.append(orthogonal_convolution(channels, outputs, kernel if i == 0 else 3))
        layers += [*([GroupSort()] if sort else []), NormPool2d(pool, offset)]
        layers += [residual_convolution(outputs, 2 * outputs) for _ in range(blocks)]
        channels, size = outputs, -(-size // pool)
    layers += [nn.Flatten(), orthogonal_linear(channels * size**2, dim)]
    if scale is not None:
        layers.append(UnitBall(scale))
    return EmbeddingNetwork(nn.Sequential(*layers), mean=0.0, std=1.0, normalise=False)


# Group normalisation needs no batch; batch normalisation learns more of few large pictures.
_NORMALISATIONS: dict[str, Callable[[int], nn.Module]] = {
    "group": lambda channels: nn.GroupNorm(8, channels),
    "batch": nn.BatchNorm2d,
    "none": lambda channels: nn.Identity(),
}


def _resnet50(dim: int, in_channels: int, weights: str | None = None) -> EmbeddingNetwork:
    """ResNet-50 with its classifier replaced, batch normalisation frozen, and the normalisation of ImageNet inside."""
    if in_channels != 3:
        raise ValueError(f"resnet50 takes images in colour, with 3 channels, got {in_channels}")
    body = _resnet50_body(weights == "imagenet")
    body.fc = nn.Linear(body.fc.in_features, dim)
    if weights is not None and weights != "imagenet":
        load_weights(body, weights, ("fc",))
    return EmbeddingNetwork(body, _IMAGENET_MEAN, _IMAGENET_STD, freeze_batch_norm=True)


def _resnet50_body(pretrained: bool) -> Any:
    with suppress(ImportError):
        import timm

        return timm.create_model("resnet50", pretrained=pretrained)
    try:
        from torchvision.models import resnet50
    except ImportError:
        raise ImportError("resnet50 needs timm or torchvision: install one of them") from None
    return resnet50(weights="IMAGENET1K_V2" if pretrained else None)


MODELS: dict[str, Callable[..., EmbeddingNetwork]] = {
    "small-cnn": _small_cnn,
    "lipschitz-cnn": _lipschitz_cnn,
    "resnet50": _resnet50,
}


def model_options(name: str) -> list[str] | None:
    """Names of the options that a model takes beside its length; None where it takes any, a ValueError for no model."""
    made = model_factory(name)
    parameters = inspect.signature(made).parameters.values()
    if any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return [parameter.name for parameter in parameters if parameter.name not in ("dim", "in_channels")]
