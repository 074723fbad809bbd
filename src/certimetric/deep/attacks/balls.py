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

    All methods take batches, (b, …), and treat samples independently. Sizes are those of the numbers as they are, in
    double precision: what :meth:`project` gives in single precision is rounded towards the centre, so that its
    ``size`` is at most ``eps``, without a tolerance.

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
        return self.project(x + self._uniform(x, generator).to(x.dtype), x)

    def clip(self, x: Tensor) -> Tensor:
        """The nearest inputs within the bounds."""
        return x if self.bounds is None else x.clamp(*self.bounds)

    @abstractmethod
    def size(self, perturbed: Tensor, x: Tensor) -> Tensor:
        """Size of each perturbation, (b,), in double precision."""

    @abstractmethod
    def project(self, perturbed: Tensor, x: Tensor) -> Tensor:
        """Into the ball around x and the bounds, in the type of x."""

    @abstractmethod
    def step(self, perturbed: Tensor, gradient: Tensor, size: float | Tensor) -> Tensor:
        """A step of that size, one number or one for each sample, along the steepest ascent; none at gradient 0."""

    @abstractmethod
    def shrinking(self, delta: Tensor, size: Tensor) -> Tensor:
        """Half the slope of what is minimised to make changes smaller than ``size`` (b,), the shape of ``delta``,
        without units: of the order of 1 at the radius of the ball."""

    @abstractmethod
    def ascent(self, gradient: Tensor) -> Tensor:
        """A direction of ascent without units that such a slope can be weighed against, in double precision."""

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
        return (perturbed.double() - x.double()).flatten(1).abs().amax(dim=1)

    def project(self, perturbed: Tensor, x: Tensor) -> Tensor:
        centre = x.double()
        delta = (perturbed.double() - centre).clamp_(-self.eps, self.eps)
        moved = self.clip((centre + delta).to(x.dtype))
        return torch.where((moved.double() - centre).abs_() > self.eps, torch.nextafter(moved, x), moved)

    def step(self, perturbed: Tensor, gradient: Tensor, size: float | Tensor) -> Tensor:
        return perturbed + per_sample(size, perturbed) * gradient.sign().to(perturbed.dtype)

    def shrinking(self, delta: Tensor, size: Tensor) -> Tensor:
        # Only what reaches beyond nine tenths of the size is in the way of a smaller one.
        return delta.sign() * (delta.abs() > per_sample(0.9 * size, delta))

    def ascent(self, gradient: Tensor) -> Tensor:
        gradient = gradient.double()
        mean = gradient.flatten(1).abs().mean(dim=1)
        return gradient / per_sample(torch.where(mean > 0, mean, torch.ones_like(mean)), gradient)

    def _uniform(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return (2 * torch.rand(x.shape, generator=generator, device=x.device) - 1) * self.eps


class L2Ball(Ball):
    """The Euclidean norm of the change of a whole image is at most ``eps``."""

    name = "l2"

    def size(self, perturbed: Tensor, x: Tensor) -> Tensor:
        return _length(perturbed.double() - x.double())

    def project(self, perturbed: Tensor, x: Tensor) -> Tensor:
        # Clipping into the bounds, which hold x, brings every entry nearer to x, and so does rounding: the result stays
        # in the ball. A sum of squares in whatever order errs by less than what is left free.
        centre = x.double()
        delta = perturbed.double() - centre
        size = _length(delta)
        limit = self.eps * (1 - (delta[0].numel() + 8) * torch.finfo(torch.double).eps) if len(x) else 0.0
        outside = size > limit
        delta *= per_sample(torch.where(outside, limit / torch.where(outside, size, torch.ones_like(size)), 1.0), delta)
        moved = self.clip((centre + delta).to(x.dtype))
        farther = (moved.double() - centre).abs_() > delta.abs_()
        return torch.where(farther & aligned(outside, x), torch.nextafter(moved, x), moved)

    def step(self, perturbed: Tensor, gradient: Tensor, size: float | Tensor) -> Tensor:
        wide = gradient.double()
        return perturbed + (wide * per_sample(_inverse(_length(wide)) * size, wide)).to(perturbed.dtype)

    def shrinking(self, delta: Tensor, size: Tensor) -> Tensor:
        return delta / self.eps

    def ascent(self, gradient: Tensor) -> Tensor:
        gradient = gradient.double()
        return gradient * per_sample(_inverse(_length(gradient)), gradient)

    def _uniform(self, x: Tensor, generator: torch.Generator) -> Tensor:
        direction = torch.randn(x.shape, generator=generator, device=x.device)
        radius = torch.rand(len(x), generator=generator, device=x.device) ** (1.0 / max(x[0].numel(), 1))
        return direction * per_sample(self.eps * radius * _inverse(_length(direction.double())), direction)


def _length(delta: Tensor) -> Tensor:
    return torch.linalg.vector_norm(delta.flatten(1), dim=1)


def _inverse(length: Tensor) -> Tensor:
    """1 / length, and 0 for a length of 0."""
    return torch.where(length > 0, 1 / length, torch.zeros_like(length))


def per_sample(values: float | Tensor, like: Tensor) -> float | Tensor:
    """One number for each sample, (b,), in a shape that multiplies (b, …)."""
    if not isinstance(values, Tensor) or values.ndim == 0:
        return values
    return aligned(values.to(like.dtype), like)


def aligned(values: Tensor, like: Tensor) -> Tensor:
    """(b,) in the shape (b, 1, …, 1) of a batch."""
    return values.view(-1, *[1] * (like.ndim - 1))
