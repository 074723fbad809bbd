"""What stands in the place of a Module: functions, models in another precision, one output of several."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from certimetric.base.wording import shortened

Output = str | int | Callable[[Any], Any]


class NoGradients(TypeError):
    """Gradients were asked for of a function that has none."""

    def __init__(self) -> None:
        super().__init__(
            "the model is no torch code from its input to its embeddings, so that it has no gradients: give a Module "
            "or a differentiable function, or use SquareAttack or NESAttack, which need none"
        )


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
        return _as_tensor(found, asked)


def _as_tensor(found: Any, asked: bool) -> Any:
    """What a function gave, arrays as tensors; an error where gradients are asked for that it does not have."""
    if not isinstance(found, Tensor) and hasattr(found, "__array__"):
        found = torch.as_tensor(found)
    if asked and isinstance(found, Tensor) and not found.requires_grad:
        raise NoGradients
    return found


class Cast(nn.Module):
    """A model whose parameters are in another precision than its inputs."""

    def __init__(self, model: nn.Module, dtype: torch.dtype):
        super().__init__()
        self.model, self.dtype, self.training = model, dtype, model.training

    def forward(self, images: Tensor) -> Any:
        return self.model(images.to(self.dtype))


class OutputOf(nn.Module):
    """A model of which one output is the embedding; see :func:`with_output`."""

    def __init__(self, model: nn.Module, output: Output):
        super().__init__()
        self.model, self.output, self.training = model, output, model.training

    def forward(self, images: Tensor) -> Any:
        found = chosen_output(self.model(images), self.output)
        asked = isinstance(self.model, Called) and torch.is_grad_enabled() and images.requires_grad
        return _as_tensor(found, asked)

    def extra_repr(self) -> str:
        return f"output={self.output!r}"


def with_output(model: nn.Module | Callable[[Tensor], Any], output: Output) -> nn.Module:
    """A model that gives several things, as one that embeds.

    Parameters
    ----------
    model : Module or callable
        It gives a dict, a tuple or list, or an object with its outputs as attributes, as models of Hugging Face do.
    output : str, int or callable
        The embedding among them: by its key or attribute, by its place, or as a function of all of it. What follows
        its two axes (b, k) may be axes of length 1, as pooled maps of features have them.

    Raises
    ------
    ValueError
        In calls of the result, if there is no such output: it tells which there are.

    Examples
    --------
    >>> two = lambda images: {"features": images.flatten(1), "logits": images.mean(dim=(2, 3))}
    >>> with_output(two, "features")(torch.ones(2, 1, 4, 4)).shape
    torch.Size([2, 16])
    """
    if isinstance(output, bool) or not (isinstance(output, (str, int)) or callable(output)):
        raise TypeError(f"output must be a name, a place or a function, got {output!r}")
    return OutputOf(model if isinstance(model, nn.Module) else Called(model), output)


def chosen_output(found: Any, output: Output) -> Any:
    """One of the outputs, without axes of length 1 behind the first two."""
    if callable(output):
        part = output(found)
    elif isinstance(output, str):
        part = found.get(output) if isinstance(found, Mapping) else getattr(found, output, None)
    else:
        many = isinstance(found, (tuple, list)) or not isinstance(found, (Tensor, Mapping))
        part = found[output] if many and -len(found) <= output < len(found) else None
    if part is None and not callable(output):
        raise ValueError(f"the model gives no output {output!r}: it gives {told_outputs(found)}")
    if isinstance(part, Tensor) and part.ndim > 2 and part.shape[2:].numel() == 1:
        return part.flatten(1)
    return part


def told_outputs(found: Any) -> str:
    """What a model gives, in words: names or places, and shapes.

    Examples
    --------
    >>> told_outputs({"features": torch.ones(2, 16), "loss": None}), told_outputs((torch.ones(2, 3), 0))
    ("dict of 'features' (2, 16)", 'tuple of 0 (2, 3), 1 int')
    """
    if isinstance(found, Mapping):
        parts = [(repr(name), value) for name, value in found.items()]
    elif isinstance(found, (tuple, list)):
        parts = [(str(place), value) for place, value in enumerate(found)]
    else:
        parts = [(repr(name), value) for name, value in getattr(found, "__dict__", {}).items()]
    said = [
        f"{name} {tuple(value.shape) if hasattr(value, 'shape') else type(value).__name__}"
        for name, value in parts
        if value is not None
    ]
    return type(found).__name__ + (f" of {shortened(said)}" if said and not isinstance(found, Tensor) else "")
