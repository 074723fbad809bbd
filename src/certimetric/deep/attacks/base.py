"""The shape of all attacks on embeddings, and how the best point of each sample is kept."""

from __future__ import annotations

import copy
import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from certimetric.deep.attacks.balls import Region, aligned
from certimetric.deep.goals.base import Goal
from certimetric.deep.models.bounds import ends
from certimetric.deep.models.calling import as_module, frozen, seeded

_Kind = TypeVar("_Kind", bound="Attack")
_DRAWN_BACK = 8  # steps of bisection


class Attack(ABC):
    """An attack is configured by its constructor and called with a model, inputs and a goal.

    A subclass offers points to what keeps the best of each sample. Where it goes step by step it has the attribute
    ``steps``, and ``step_size`` where the length of a step can be given: None for 2.5 · eps / steps.

    Parameters
    ----------
    ball : Ball, or another :class:`Region`
        What it may change.
    seed : int, default=0
        Same seed, same perturbations.

    Examples
    --------
    >>> from certimetric.deep import EmbeddingShift, LinfBall, PGD
    >>> x, model = torch.full((2, 1, 4, 4), 0.5), torch.nn.Flatten()
    >>> attacked = PGD(LinfBall(0.1), steps=5)(model, x, EmbeddingShift(model(x)))
    >>> round((attacked - x).abs().max().item(), 4)
    0.1
    """

    _keeps_best = True
    uses_gradients: ClassVar[bool] = True
    smallest: ClassVar[bool] = False  # looks for the smallest change that reaches the goal, not for the largest value
    in_audits: ClassVar[Mapping[str, Any]] = {}  # settings there that are not the defaults
    of_norms: ClassVar[bool] = False  # needs a ball in a norm, as l0 is none
    ball: Any
    steps: int
    step_size: float | None = None

    def __init__(self, ball: Region, *, seed: int = 0):
        if self.of_norms and ball.name == "l0":
            raise ValueError(f"{type(self).__name__} needs a ball in a norm, which l0 is not, got {ball!r}")
        self.ball, self.seed = ball, seed

    def __call__(self, model: nn.Module | Callable[[Tensor], Any], x: Tensor, goal: Goal) -> Tensor:
        """Perturb inputs so that the goal is reached, or its value becomes large.

        The model is in evaluation mode inside, takes no gradients, and is left as it was.

        Parameters
        ----------
        model : Module or callable
            Images (b, …) to embeddings (b, k). Attacks by gradients need torch code, others any callable.
        x : tensor of shape (b, …)
            Within the bounds of the ball.
        goal : Goal
            Of these samples.

        Returns
        -------
        perturbed : tensor of the shape, type and memory format of x
            For each sample the best point of all that were tried, x itself among them: points at which the goal is
            reached (``goal.broken``) before others, of these the one of the largest value. In exact arithmetic on
            these numbers it lies in the ball: no rounding leads out of it.

        Raises
        ------
        TypeError
            If the model cannot be called, or is no torch code and its gradients are asked for.
        ValueError
            If an input lies outside of the bounds.
        """
        low, high = ends(self.ball.bounds, x)
        if len(x) and bool(((x < low) | (x > high)).any()):
            told = "those of each channel" if isinstance(low, Tensor) else f"{low:g} to {high:g}"
            raise ValueError(f"inputs of an attack must lie within its bounds, {told}, got {x.min():g} to {x.max():g}")
        model = as_module(model)
        # What a model draws itself, to be hard to attack, is drawn from this seed too, and from nobody's else.
        with frozen(model), seeded(self.seed):
            best = self._kept(model, x.detach(), goal)
            if len(x) and self._may_change:
                generator = torch.Generator(device=x.device).manual_seed(self.seed)
                self._attack(x.detach(), best, generator)
        return best.x

    @property
    def _may_change(self) -> bool:
        """Whether there is anything that it may change."""
        return bool(self.ball.eps > 0)

    def _kept(self, model: nn.Module, x: Tensor, goal: Goal) -> Best:
        """What keeps the best of each sample."""
        return (Best if self._keeps_best else Last)(model, x, goal)

    @abstractmethod
    def _attack(self, x: Tensor, best: Best, generator: torch.Generator) -> None:
        """Offer points to ``best``, which knows model and goal too."""

    @property
    def _length(self) -> float:
        """Of a step."""
        return 2.5 * self.ball.eps / self.steps if self.step_size is None else self.step_size

    def _step(self, point: Tensor, gradient: Tensor, x: Tensor, size: float | Tensor | None = None) -> Tensor:
        """One step along a gradient, by default of the length of all steps, and back into the ball around x."""
        return self.ball.ascend(point, gradient, self._length if size is None else size, x)

    def with_eps(self: _Kind, eps: float) -> _Kind:
        """The same attack with another radius; lengths of steps keep their share of it, given as numbers or not."""
        other = copy.copy(self)
        other.ball = dataclasses.replace(self.ball, eps=eps)
        if self.step_size is not None and self.ball.eps > 0:
            other.step_size = self.step_size * (eps / self.ball.eps)
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


def at_least_one(**counts: int) -> None:
    """Raise a ValueError unless all of two counts are positive."""
    if min(counts.values()) < 1:
        given = " and ".join(map(str, counts.values()))
        raise ValueError(f"{' and '.join(counts)} must be at least 1, got {given}")


def images_only(attack: Attack, x: Tensor) -> None:
    """Raise a ValueError unless inputs are images."""
    if x.ndim != 4:
        name, shape = type(attack).__name__, tuple(x.shape)
        raise ValueError(f"{name} changes parts of images (b, c, h, w), got inputs of shape {shape}")


class Best:
    """The best point of each sample so far: one at which the goal is reached before others, then by the value."""

    @torch.no_grad()
    def __init__(self, model: nn.Module, x: Tensor, goal: Goal):
        self.model, self.goal = model, goal
        self.x = x.clone(memory_format=torch.preserve_format)
        value, self.broken = self.judge(x)
        self.value = value.clone()

    def of(self, x: Tensor, goal: Goal) -> Best:
        """The same of other samples."""
        return type(self)(self.model, x, goal)

    @torch.no_grad()
    def judge(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Values (b,) of points, and whether the goal is reached at them."""
        return self.goal.judge(self.model(x))

    def gradient(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Values, their gradients, and whether the goal is reached; the points are not offered."""
        return with_gradient(self.model, x, self.goal.judge)

    @torch.no_grad()
    def offer(self, x: Tensor, value: Tensor, broken: Tensor) -> None:
        """Keep what is better."""
        self._keep(x, value, broken, (broken & ~self.broken) | ((broken == self.broken) & (value > self.value)))

    @torch.no_grad()
    def end(self, x: Tensor) -> None:
        """Offer a point whose value is not known yet: one forward pass."""
        self.offer(x, *self.judge(x))

    def look(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Value and gradient at a point, as of :func:`value_and_gradient`; the point is offered."""
        value, gradient, broken = self.gradient(x)
        self.offer(x, value, broken)
        return value, gradient

    @torch.no_grad()
    def settle(self, x: Tensor, chosen: Tensor) -> None:
        """Keep points, where ``chosen`` (b,), for another reason than their value."""
        self._keep(x, *self.judge(x), chosen)

    @torch.no_grad()
    def drawn_back(
        self, x: Tensor, points: Tensor, reached: Callable[[Tensor, Tensor], Tensor] | None = None
    ) -> Tensor:
        """Points bisected towards x, as far as they keep the goal, or what is ``reached`` of its value and word."""
        low, high = torch.zeros_like(self.value, dtype=torch.double), torch.ones_like(self.value, dtype=torch.double)
        found = points
        for _ in range(_DRAWN_BACK):
            middle = (low + high) / 2
            tried = x + (points - x) * aligned(middle.to(x.dtype), x)
            value, broken = self.judge(tried)
            hit = broken if reached is None else reached(value, broken)
            found = torch.where(aligned(hit, x), tried, found)
            low, high = torch.where(hit, low, middle), torch.where(hit, middle, high)
        return found

    def _keep(self, x: Tensor, value: Tensor, broken: Tensor, chosen: Tensor) -> None:
        self.x = torch.where(aligned(chosen, x), x, self.x)
        self.value, self.broken = torch.where(chosen, value, self.value), torch.where(chosen, broken, self.broken)


class Last(Best):
    """The point at which an attack ends, however good it is: no forward pass is needed to tell."""

    def __init__(self, model: nn.Module, x: Tensor, goal: Goal):
        self.model, self.goal = model, goal
        self.x = x.clone(memory_format=torch.preserve_format)

    def offer(self, x: Tensor, value: Tensor, broken: Tensor) -> None:
        """A point on the way does not count."""

    def end(self, x: Tensor) -> None:
        self.x = x

    def look(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return value_and_gradient(self.model, x, self.goal)


def value_and_gradient(model: nn.Module, x: Tensor, goal: Goal) -> tuple[Tensor, Tensor]:
    """Values (b,) and the gradient of each sample's value in its input: 0 where the model lets none through."""
    return with_gradient(model, x, lambda embeddings: (goal(embeddings), None))[:2]


def with_gradient(
    model: nn.Module, x: Tensor, judge: Callable[[Tensor], Any], finite: bool = True
) -> tuple[Tensor, Tensor, Any]:
    """The same of a judgement of embeddings, as :meth:`Goal.judge` gives it, and what it tells beside values."""
    x = x.detach().requires_grad_(True)
    with torch.enable_grad():
        value, told = judge(model(x))
        gradient = torch.autograd.grad(value.sum(), x, allow_unused=True)[0] if value.requires_grad else None
    gradient = torch.zeros_like(x) if gradient is None else gradient.detach()
    return value.detach(), torch.nan_to_num(gradient) if finite else gradient, told
