"""Any callable as a model: what embeds images need not be a Module, unless its gradients are asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

_GRADIENTS = (
    "the model is no torch code from its input to its embeddings, so that it has no gradients: give a Module or a "
    "differentiable function, or use SquareAttack or NESAttack, which need none"
)


class NoGradients(TypeError):
    """Gradients were asked for of a function that has none."""

    def __init__(self) -> None:
        super().__init__(_GRADIENTS)


def as_module(model: Any) -> nn.Module:
    """The model itself, or a Module around a callable, or around a model in another precision than pictures have.

    Parameters
    ----------
    model : Module or callable
        Images (b, …) to embeddings (b, k): a tensor, or an array where no gradient is asked for. Of a method of a
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
        if parameter is None or parameter.dtype == torch.float32 or isinstance(model, _Cast):
            return model
        return _Cast(model, parameter.dtype)
    if not callable(model):
        raise TypeError(f"model must be a Module or a callable that embeds images, got {type(model).__name__}")
    return Called(model)


class Called(nn.Module):
    """A function in the place of a Module: what it gives is known, its layers are not."""

    def __init__(self, function: Callable[[Tensor], Any]):
        super().__init__()
        self.function = function
        owner = getattr(function, "__self__", None)
        self.training = isinstance(owner, nn.Module) and owner.training
        if isinstance(owner, nn.Module):
            self.owner = owner

    def forward(self, images: Tensor) -> Any:
        asked = torch.is_grad_enabled() and images.requires_grad
        try:
            found = self.function(images)
        except RuntimeError as error:
            if asked and "requires grad" in str(error):  # what torch says of .numpy()
                raise NoGradients from error
            raise
        if not isinstance(found, Tensor) and hasattr(found, "__array__"):
            found = torch.as_tensor(found)
        if asked and isinstance(found, Tensor) and not found.requires_grad:
            raise NoGradients
        return found


class _Cast(nn.Module):
    def __init__(self, model: nn.Module, dtype: torch.dtype):
        super().__init__()
        self.model, self.dtype = model, dtype

    def forward(self, images: Tensor) -> Any:
        return self.model(images.to(self.dtype))
