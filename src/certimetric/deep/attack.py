"""The shape of all attacks on embeddings, and how the best point of each sample is kept."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import TypeVar

import torch
from torch import Tensor, nn

from certimetric.deep.freeze import frozen
from certimetric.deep.objectives import Objective
from certimetric.deep.randomness import seeded
from certimetric.deep.threats import Ball, aligned

_Kind = TypeVar("_Kind", bound="Attack")


class Attack(ABC):
    """An attack is configured by its constructor and called with a model, inputs and an objective.

    Parameters
    ----------
    ball : Ball
        What it may change.
    seed : int, default=0
        Same seed, same perturbations.
    """

    _keeps_best = True

    def __init__(self, ball: Ball, *, seed: int = 0):
        self.ball, self.seed = ball, seed

    def __call__(self, model: nn.Module, x: Tensor, objective: Objective) -> Tensor:
        """Perturb inputs so that the objective of their embeddings becomes large.

        The model is in evaluation mode inside, takes no gradients, and is left as it was.

        Parameters
        ----------
        model : Module
            Images (b, …) to embeddings (b, k).
        x : tensor of shape (b, …)
            Within the bounds of the ball.
        objective : Objective
            Of these samples.

        Returns
        -------
        perturbed : tensor of the shape, type and memory format of x
            For each sample the best point of all that were tried, x itself among them.

        Raises
        ------
        ValueError
            If an input lies outside of the bounds.
        """
        if (
            self.ball.bounds is not None
            and len(x)
            and bool(((x < self.ball.bounds[0]) | (x > self.ball.bounds[1])).any())
        ):
            low, high = self.ball.bounds
            raise ValueError(
                f"inputs of an attack must lie within its bounds, {low:g} to {high:g}, got {x.min():g} to {x.max():g}"
            )
        # What a model draws itself, to be hard to attack, is drawn from this seed too, and from nobody's else.
        with frozen(model), seeded(self.seed):
            best = (Best if self._keeps_best else Last)(model, x.detach(), objective)
            if len(x) and self.ball.eps > 0:
                generator = torch.Generator(device=x.device).manual_seed(self.seed)
                self._attack(model, x.detach(), objective, best, generator)
        return best.x

    @abstractmethod
    def _attack(
        self, model: nn.Module, x: Tensor, objective: Objective, best: Best, generator: torch.Generator
    ) -> None:
        """Offer points to ``best``."""

    def with_eps(self: _Kind, eps: float) -> _Kind:
        """The same attack with another radius; settings that were derived from the radius follow it."""
        other = copy.copy(self)
        other.ball = self.ball.with_eps(eps)
        return other

    def for_training(self: _Kind) -> _Kind:
        """This attack as training uses it, once.

        Its random numbers are others every time, drawn from torch's, so that no batch starts at the same points as the
        last. Where that saves forward passes, the point at which the attack ends counts.
        """
        other = copy.copy(self)
        other.seed = int(torch.randint(2**31, ()))
        return other

    def __repr__(self) -> str:
        settings = ", ".join(f"{key}={value!r}" for key, value in vars(self).items() if not key.startswith("_"))
        return f"{type(self).__name__}({settings})"


class Best:
    """The best point of each sample so far, by the value of the objective."""

    @torch.no_grad()
    def __init__(self, model: nn.Module, x: Tensor, objective: Objective):
        self.model, self.objective = model, objective
        self.x = x.clone(memory_format=torch.preserve_format)
        self.value = objective(model(x)).clone()

    @torch.no_grad()
    def offer(self, x: Tensor, value: Tensor) -> None:
        """Keep what is better."""
        better = value > self.value
        self.x = torch.where(aligned(better, x), x, self.x)
        self.value = torch.where(better, value, self.value)

    @torch.no_grad()
    def end(self, x: Tensor) -> None:
        """Offer a point whose value is not known yet: one forward pass."""
        self.offer(x, self.objective(self.model(x)))


class Last(Best):
    """The point at which an attack ends, however good it is: no forward pass is needed to tell."""

    def __init__(self, model: nn.Module, x: Tensor, objective: Objective):
        self.x = x.clone(memory_format=torch.preserve_format)

    def offer(self, x: Tensor, value: Tensor) -> None:
        """A point on the way does not count."""

    def end(self, x: Tensor) -> None:
        self.x = x


def value_and_gradient(model: nn.Module, x: Tensor, objective: Objective) -> tuple[Tensor, Tensor]:
    """Values (b,) and the gradient of each sample's value in its input: 0 where the model lets none through."""
    x = x.detach().requires_grad_(True)
    with torch.enable_grad():
        value = objective(model(x))
        gradient = torch.autograd.grad(value.sum(), x, allow_unused=True)[0] if value.requires_grad else None
    gradient = torch.zeros_like(x) if gradient is None else gradient
    return value.detach(), torch.nan_to_num(gradient.detach())
