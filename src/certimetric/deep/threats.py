"""What an attacker of an image may do: balls in l∞ and l2, within the bounds of the input."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, TypeVar

import torch
from torch import Tensor

_Kind = TypeVar("_Kind", bound="Ball")


@dataclass(frozen=True)
class Ball(ABC):
    """Perturbations of every sample of size at most ``eps``, with inputs kept within ``bounds``.

    All methods take batches, (b, …), and treat samples independently.

    Parameters
    ----------
    eps : float
        Radius, in units of the input.
    bounds : (float, float) or None, default=(0, 1)
        Smallest and largest value of the input; None for none.
    """

    eps: float
    bounds: tuple[float, float] | None = (0.0, 1.0)
    name: ClassVar[str]

    def __post_init__(self) -> None:
        if isinstance(self.eps, str) or not self.eps >= 0 or self.eps == float("inf"):
            raise ValueError(f"eps of {type(self).__name__} must be a size of at least 0, got {self.eps!r}")
        if self.bounds is not None and not self.bounds[0] < self.bounds[1]:
            raise ValueError(f"bounds of {type(self).__name__} must be (lowest, highest) or None, got {self.bounds!r}")

    def with_eps(self: _Kind, eps: float) -> _Kind:
        """The same kind of ball with another radius."""
        return replace(self, eps=eps)

    def random_start(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """A point drawn uniformly from the ball around each sample, moved into the bounds."""
        return self.clip(x + self._uniform(x, generator).to(x.dtype))

    def clip(self, x: Tensor) -> Tensor:
        """The nearest inputs within the bounds."""
        return x if self.bounds is None else x.clamp(*self.bounds)

    @abstractmethod
    def size(self, perturbed: Tensor, x: Tensor) -> Tensor:
        """Size of each perturbation, (b,)."""

    @abstractmethod
    def project(self, perturbed: Tensor, x: Tensor) -> Tensor:
        """Into the ball around x and the bounds."""

    @abstractmethod
    def step(self, perturbed: Tensor, gradient: Tensor, size: float | Tensor) -> Tensor:
        """A step of that size, one number or one for each sample, along the steepest ascent; none at gradient 0."""

    @abstractmethod
    def _uniform(self, x: Tensor, generator: torch.Generator) -> Tensor: ...


class LinfBall(Ball):
    """Every pixel changes by at most ``eps``.

    Examples
    --------
    >>> ball = LinfBall(0.1)
    >>> ball.project(torch.tensor([[0.5, 1.4]]), torch.tensor([[0.3, 0.95]]))
    tensor([[0.4000, 1.0000]])
    """

    name = "linf"

    def size(self, perturbed: Tensor, x: Tensor) -> Tensor:
        return (perturbed - x).flatten(1).abs().amax(dim=1)

    def project(self, perturbed: Tensor, x: Tensor) -> Tensor:
        return self.clip(torch.minimum(torch.maximum(perturbed, x - self.eps), x + self.eps))

    def step(self, perturbed: Tensor, gradient: Tensor, size: float | Tensor) -> Tensor:
        return perturbed + per_sample(size, gradient) * gradient.sign()

    def _uniform(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return (2 * torch.rand(x.shape, generator=generator, device=x.device) - 1) * self.eps


class L2Ball(Ball):
    """The Euclidean norm of the change of a whole image is at most ``eps``."""

    name = "l2"

    def size(self, perturbed: Tensor, x: Tensor) -> Tensor:
        return (perturbed - x).flatten(1).float().norm(dim=1)

    def project(self, perturbed: Tensor, x: Tensor) -> Tensor:
        # Clipping into the bounds, which hold x, brings every entry nearer to x: the result stays in the ball.
        delta = perturbed - x
        size = self.size(perturbed, x)
        factor = torch.where(size > self.eps, self.eps / size.clamp_min(1e-30), torch.ones_like(size))
        return self.clip(x + delta * per_sample(factor, delta))

    def step(self, perturbed: Tensor, gradient: Tensor, size: float | Tensor) -> Tensor:
        norm = gradient.flatten(1).float().norm(dim=1)
        inverse = torch.where(norm > 0, 1 / norm.clamp_min(1e-30), torch.zeros_like(norm))
        return perturbed + per_sample(size, gradient) * gradient * per_sample(inverse, gradient)

    def _uniform(self, x: Tensor, generator: torch.Generator) -> Tensor:
        direction = torch.randn(x.shape, generator=generator, device=x.device)
        norm = direction.flatten(1).norm(dim=1).clamp_min(1e-30)
        radius = torch.rand(len(x), generator=generator, device=x.device) ** (1.0 / max(x[0].numel(), 1))
        return direction * per_sample(self.eps * radius / norm, direction)


def per_sample(values: float | Tensor, like: Tensor) -> float | Tensor:
    """One number for each sample, (b,), in a shape that multiplies (b, …)."""
    if not isinstance(values, Tensor) or values.ndim == 0:
        return values
    return aligned(values.to(like.dtype), like)


def aligned(values: Tensor, like: Tensor) -> Tensor:
    """(b,) in the shape (b, 1, …, 1) of a batch."""
    return values.view(-1, *[1] * (like.ndim - 1))
