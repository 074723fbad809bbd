"""How far embeddings can move when an image moves: Lipschitz constants of networks, computed from their weights.

A constant is never assumed from how a layer was made. Weights are taken as the network uses them, in double precision;
every layer gives the largest factor by which it stretches a difference (l2 to l2), rounded up, and a bound on what its
own rounding adds.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from certimetric.base.rounding import UNIT_ROUNDOFF
from certimetric.deep.certify.operator_norms import convolution_norm, rounding, spectral_norm
from certimetric.deep.models.calling import Called, device_of, frozen
from certimetric.deep.models.comparing import OnSphere
from certimetric.deep.models.network import EmbeddingNetwork
from certimetric.deep.models.orthogonal import (
    ContractionKernel,
    GroupSort,
    NormPool2d,
    OrthogonalKernel,
    OrthogonalMatrix,
    ResidualConv2d,
    UnitBall,
)


@dataclass(frozen=True)
class LayerBound:
    """What a layer does to a difference, and what rounding in double precision adds to its output."""

    constant: float  # upper bound on ‖layer(x) − layer(z)‖ / ‖x − z‖
    relative: float = 0.0  # the computed output of x is within relative · ‖x‖ + absolute of the true one
    absolute: float = 0.0


class Standardise(nn.Module):
    """Pixels less their mean, divided by their deviation: what an :class:`EmbeddingNetwork` does first."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor):
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


@torch.no_grad()
def plain_layers(model: nn.Module) -> list[nn.Module]:
    """The layers of a network in the order in which they are applied, with their own weights in double precision.

    Parametrised weights are worked out once, as the network itself does in evaluation mode, and then widened. A
    constant computed from weights holds only for the code it was computed for: a ValueError tells where something else
    may have a part in what the model gives, such as hooks, of a layer or of all modules, a ``forward`` of its own,
    unknown parametrisations, or parameters, buffers or layers where a layer of its kind has none.
    """
    if not isinstance(model, nn.Module) or isinstance(model, Called):
        given = type(model.function if isinstance(model, Called) else model).__name__
        raise ValueError(f"layers can be read of a torch.nn.Module only, got {given}; smoothing certifies any callable")
    with frozen(model):
        return [_plain(layer).double().eval().requires_grad_(False) for layer in layers_in_order(model)]


def layers_in_order(module: nn.Module) -> list[nn.Module]:
    """The layers themselves, in the order in which they are applied; errors as of :func:`plain_layers`."""
    _check_code(module)
    if type(module) is EmbeddingNetwork:
        last = [OnSphere()] if module.normalise else []
        return [Standardise(module.mean, module.std), *layers_in_order(module.body), *last]
    if type(module) is nn.Sequential:
        return [layer for part in module for layer in layers_in_order(part)]
    return [module]


# What layers have of their own: parameters, buffers, and the names of layers in them.
_PARTS: dict[type[nn.Module], set[str]] = {
    EmbeddingNetwork: {"mean", "std", "body"},
    nn.Linear: {"weight", "bias"},
    nn.Conv2d: {"weight", "bias"},
    ResidualConv2d: {"weight", "bias"},
    nn.BatchNorm1d: {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"},
    nn.BatchNorm2d: {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"},
    Standardise: {"mean", "std"},
}
_PARAMETRISATIONS = (OrthogonalMatrix, OrthogonalKernel, ContractionKernel)  # and those of torch


def _check_code(module: nn.Module) -> None:
    """Raise an error if the module may do something else than its kind does."""
    parametrised = parametrize.is_parametrized(module)
    kind: type[nn.Module] = type(module).__base__ if parametrised else type(module)  # type: ignore[assignment]
    reason = _foreign(module, kind)
    if reason is None and parametrised:
        known = kind in (nn.Linear, nn.Conv2d, ResidualConv2d) and set(module.parametrizations) <= {"weight"}  # type: ignore[arg-type]
        steps = [step for chain in module.parametrizations.values() for step in chain]  # type: ignore[operator]
        if not known or not all(
            type(step) in _PARAMETRISATIONS or type(step).__module__ == torch.nn.utils.parametrizations.__name__
            for step in steps
        ):
            reason = "parametrisations that are not known"
        else:
            reason = next((found for step in steps if (found := _foreign(step, type(step)))), None)
    if reason is None and (kind in _PARTS or kind in _RULES):
        held = [*module._parameters, *module._buffers, *([] if parametrised else module._modules)]
        if odd := sorted(set(held) - _PARTS.get(kind, set())):
            reason = f"a part {odd[0]!r} that no {kind.__name__} has"
    if reason is None and kind is nn.Sequential and (odd := [*module._parameters, *module._buffers]):
        reason = f"a part {odd[0]!r} that no Sequential has"
    if reason is not None:
        name = "a network" if kind in (EmbeddingNetwork, nn.Sequential) else "a layer"
        raise ValueError(f"{name} with {reason} cannot be certified: {kind.__name__}")


def _foreign(module: nn.Module, kind: type[nn.Module]) -> str | None:
    """What of a module runs other code than that of its class, in words."""
    everywhere = torch.nn.modules.module
    if everywhere._global_forward_hooks or everywhere._global_forward_pre_hooks:
        return "hooks on all modules"
    if module._forward_hooks or module._forward_pre_hooks:
        return "hooks"
    compiled = vars(module).get("_compiled_call_impl") is not None
    shadowed = any(callable(getattr(kind, name, None)) for name in vars(module))
    if compiled or shadowed or getattr(kind.forward, "__module__", None) != kind.__module__:
        return "a forward of its own"
    return None


def _plain(layer: nn.Module) -> nn.Module:
    """A copy whose weights are plain ones."""
    if not parametrize.is_parametrized(layer):
        return copy.deepcopy(layer)
    device, bias = device_of(layer), layer.bias is not None
    if isinstance(layer, nn.Linear):
        made: nn.Module = nn.Linear(layer.in_features, layer.out_features, bias, device)
    elif isinstance(layer, ResidualConv2d):
        made = ResidualConv2d(layer.in_channels, layer.out_channels, layer.kernel_size[0]).to(device)
        for name in ("stride", "padding", "dilation", "groups", "padding_mode"):  # the rule judges them
            setattr(made, name, getattr(layer, name))
    elif isinstance(layer, nn.Conv2d):
        channels, shape = (layer.in_channels, layer.out_channels), (layer.kernel_size, layer.stride, layer.padding)
        made = nn.Conv2d(*channels, *shape, layer.dilation, layer.groups, bias, layer.padding_mode, device)  # type: ignore[arg-type]
    else:
        raise ValueError(f"parametrised weights of the layer {type(layer).__name__} cannot be certified")
    made.load_state_dict({name: getattr(layer, name) for name in ("weight", *(["bias"] if bias else []))})
    return made


def lipschitz_constant(model: nn.Module, image_shape: Sequence[int]) -> float:
    """Upper bound on how far the embedding moves for every unit, in l2, that the image moves.

    Parameters
    ----------
    model : Module
        A sequence of linear layers, convolutions, pooling, ReLU, GroupSort, batch normalisation and the like, as
        ``embedding_model("lipschitz-cnn")`` gives it.
    image_shape : (int, int, int)
        Channels, height and width: the border counts in the norm of a convolution.

    Returns
    -------
    constant : float
        The product over the layers, each computed from the weights and rounded up.

    Raises
    ------
    ValueError
        If a layer is of a kind for which no bound is known: scaling to the sphere, say, which stretches without bound
        near 0.

    References
    ----------
    Szegedy et al., arXiv 1312.6199 [szegedy2013intriguing], section 4.3, for the product of layers.

    Examples
    --------
    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False))
    >>> _ = model[1].weight.data.copy_(torch.tensor([[3.0, 0, 0, 0], [0, 1.0, 0, 0]]))
    >>> 0 <= lipschitz_constant(model, (1, 2, 2)) - 3 < 1e-8
    True
    """
    return total_constant(layer_bounds(plain_layers(model), image_shape))


def total_constant(bounds: Sequence[LayerBound]) -> float:
    """Product of the constants, rounded up."""
    product = 1.0
    for bound in bounds:
        product = math.nextafter(product * bound.constant, math.inf)
    return product


@torch.no_grad()
def layer_bounds(layers: Sequence[nn.Module], image_shape: Sequence[int]) -> list[LayerBound]:
    """The bound of every layer, for images of one shape."""
    x = torch.zeros(1, *image_shape, dtype=torch.double)
    bounds = []
    for layer in layers:
        if type(layer) not in _RULES:
            known = ", ".join(sorted(kind.__name__ for kind in _RULES))
            raise ValueError(f"there is no Lipschitz bound for the layer {type(layer).__name__}; known are {known}")
        shape = tuple(x.shape[1:])
        x = layer(x.to(device_of(layer)))
        bounds.append(_RULES[type(layer)](layer, shape, tuple(x.shape[1:])))
    return bounds


@torch.no_grad()
def run_with_error(layers: Sequence[nn.Module], bounds: Sequence[LayerBound], x: Tensor) -> tuple[Tensor, Tensor]:
    """The output of layers for a batch (b, c, h, w) in double precision, and for each sample a bound on its distance
    from the true one, (b,)."""
    error = torch.zeros(len(x), dtype=torch.double, device=x.device)
    for layer, bound in zip(layers, bounds):
        own = bound.relative * x.flatten(1).norm(dim=1) + bound.absolute
        x, error = layer(x), bound.constant * error + own
    return x, error * (1 + 1e-9)


# What each kind of layer stretches a difference by. Shapes are those of one sample, before and after the layer.
Shape = tuple[int, ...]
Rule = Callable[[Any, Shape, Shape], LayerBound]
# What keeps distances or shrinks them, value by value or by moving values, without rounding.
CONTRACTIONS = (nn.ReLU, nn.Flatten, nn.Identity, nn.Dropout, nn.Dropout2d, nn.PixelUnshuffle, GroupSort)


def _array(tensor: Tensor) -> Any:
    return tensor.detach().cpu().double().numpy()


def _linear(layer: nn.Linear, before: Shape, after: Shape) -> LayerBound:
    weight = _array(layer.weight)
    gamma = rounding(weight.shape[1] + 1)
    bias = 0.0 if layer.bias is None else float(layer.bias.norm()) * math.sqrt(math.prod(after[:-1]))
    return LayerBound(spectral_norm(weight), gamma * float(np.linalg.norm(weight)), gamma * bias)


def _convolution(layer: nn.Conv2d, before: Shape, after: Shape) -> LayerBound:
    if layer.padding_mode != "zeros" or isinstance(layer.padding, str) or layer.groups != 1 or layer.dilation != (1, 1):
        raise ValueError("a convolution can be certified with zeros around it, no groups, no dilation, padding told")
    kernel = _array(layer.weight)
    size, stride, padding = before[1:], layer.stride, layer.padding
    constant = convolution_norm(kernel, (size[0], size[1]), (stride[0], stride[1]), (padding[0], padding[1]))
    gamma = rounding(kernel[0].size + 1)
    # ‖|K| ∗ |x|‖ is at most the sum over the places of the kernel of the norms of their matrices, times ‖x‖.
    spread = float(np.linalg.norm(kernel, axis=(0, 1)).sum())
    bias = 0.0 if layer.bias is None else float(layer.bias.norm()) * math.sqrt(math.prod(after[1:]))
    return LayerBound(constant, gamma * spread, gamma * bias)


def _residual(layer: ResidualConv2d, before: Shape, after: Shape) -> LayerBound:
    """Two values of relu differ by a share S between 0 and 1 of what their arguments do, so that the layer does to a
    difference what ``I − 2 WᵀSW`` does: its eigenvalues lie between 1 − 2‖W‖² and 1."""
    size = _array(layer.weight).shape[2:]
    odd = not isinstance(layer.padding, str) and size == tuple(2 * p + 1 for p in layer.padding)
    if layer.stride != (1, 1) or not odd:
        raise ValueError("a residual convolution can be certified with stride 1, and zeros of half its odd size around")
    inner = _convolution(layer, before, after)
    constant = max(1.0, _up(_up(2.0 * inner.constant**2 * (1 + 4 * UNIT_ROUNDOFF)) - 1.0))
    # The transposed convolution rounds as the first one does, each of its entries a sum of c_out · k² terms.
    gamma = rounding(layer.weight[:, 0].numel() + 1)
    kernel = _array(layer.weight)
    spread = float(np.linalg.norm(kernel, axis=(0, 1)).sum())
    bias = 0.0 if layer.bias is None else float(layer.bias.norm()) * math.sqrt(math.prod(before[1:]))
    # ‖relu(Wx + b)‖ as computed is at most ``reach · ‖x‖ + offset``.
    reach, offset = inner.constant + inner.relative, bias + inner.absolute
    added = gamma * spread + UNIT_ROUNDOFF * 2 * (inner.constant + gamma * spread)
    relative = 2 * (inner.constant * inner.relative + added * reach) + 2 * UNIT_ROUNDOFF
    absolute = 2 * (inner.constant * inner.absolute + added * offset)
    return LayerBound(constant, relative * (1 + 1e-9), absolute * (1 + 1e-9))


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _overlap(layer: nn.MaxPool2d | nn.AvgPool2d) -> tuple[int, int]:
    """In how many windows a pixel lies at most, and how many pixels a window has."""
    extent, stride = _pair(layer.kernel_size), _pair(layer.stride)
    return math.prod(-(-k // s) for k, s in zip(extent, stride)), math.prod(extent)


def _max_pool(layer: nn.MaxPool2d, before: Shape, after: Shape) -> LayerBound:
    if _pair(layer.dilation) != (1, 1):
        raise ValueError("max pooling with dilation cannot be certified")
    return LayerBound(_up(math.sqrt(_overlap(layer)[0])))


def _average_pool(layer: nn.AvgPool2d, before: Shape, after: Shape) -> LayerBound:
    if layer.ceil_mode or _pair(layer.padding) != (0, 0) or layer.divisor_override is not None:
        raise ValueError("average pooling can be certified without padding, ceil_mode and a divisor of its own")
    return _average(*_overlap(layer))


def _adaptive_pool(layer: nn.AdaptiveAvgPool2d, before: Shape, after: Shape) -> LayerBound:
    if any(n < m for n, m in zip(before[1:], after[1:])):
        raise ValueError("adaptive pooling that enlarges pictures cannot be certified")
    # Windows overlap by less than themselves where the sizes do not divide.
    overlap = math.prod(1 if n % m == 0 else 2 for n, m in zip(before[1:], after[1:]))
    return _average(overlap, math.prod(n // m for n, m in zip(before[1:], after[1:])))


def _average(overlap: int, smallest: int) -> LayerBound:
    constant = _up(math.sqrt(overlap / smallest))
    return LayerBound(constant, rounding(4 * smallest) * constant)


def _batch_norm(layer: nn.BatchNorm1d | nn.BatchNorm2d, before: Shape, after: Shape) -> LayerBound:
    if layer.running_mean is None or layer.running_var is None:
        raise ValueError("batch normalisation without running statistics cannot be certified")
    scale = 1.0 / np.sqrt(_array(layer.running_var) + layer.eps)
    shift = np.abs(_array(layer.running_mean)) * scale
    if layer.affine:
        scale, shift = scale * np.abs(_array(layer.weight)), shift * np.abs(_array(layer.weight))
        shift = shift + np.abs(_array(layer.bias))
    constant = float(scale.max()) * (1 + 8 * UNIT_ROUNDOFF)
    spread = float(np.linalg.norm(shift)) * math.sqrt(math.prod(before[1:]))
    return LayerBound(constant, 16 * UNIT_ROUNDOFF * constant, 16 * UNIT_ROUNDOFF * spread)


def _standardise(layer: Standardise, before: Shape, after: Shape) -> LayerBound:
    constant = _up(1.0 / float(layer.std.abs().min()))
    spread = float((layer.mean / layer.std).abs().max()) * math.sqrt(math.prod(before))
    return LayerBound(constant, 4 * UNIT_ROUNDOFF * constant, 4 * UNIT_ROUNDOFF * spread)


def _up(value: float) -> float:
    return math.nextafter(value, math.inf)


_RULES: dict[type[nn.Module], Rule] = {
    nn.Linear: _linear,
    nn.Conv2d: _convolution,
    ResidualConv2d: _residual,
    nn.MaxPool2d: _max_pool,
    nn.AvgPool2d: _average_pool,
    nn.AdaptiveAvgPool2d: _adaptive_pool,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.LeakyReLU: lambda layer, *shapes: LayerBound(
        max(1.0, abs(layer.negative_slope)), UNIT_ROUNDOFF * abs(layer.negative_slope)
    ),
    NormPool2d: lambda layer, before, after: LayerBound(
        1.0, gamma := rounding(layer.size**2 + 4), gamma * layer.offset * math.sqrt(math.prod(after))
    ),
    Standardise: _standardise,
    UnitBall: lambda layer, before, after: LayerBound(_up(layer.scale), layer.scale * rounding(before[0])),
    **dict.fromkeys(CONTRACTIONS, lambda layer, *shapes: LayerBound(1.0)),
}
