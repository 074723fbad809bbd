"""The smallest change that is enough, by projections onto the boundary of a goal that is taken to be linear."""

from __future__ import annotations

import torch
from torch import Tensor

from certimetric.deep.attacks.balls import Ball, aligned
from certimetric.deep.attacks.base import Attack, Best, at_least_one

_BEYOND, _BACK, _MOST_BIASED = 1.05, 0.9, 0.1  # η, β and the largest α of the paper
_DOUBLINGS, _HALVINGS = 6, 12


class FAB(Attack):
    """The fast adaptive boundary attack: step to where the linearised value is 0, close to the input.

    Every step is a mean of the projections of the point and of the input onto the hyperplane where the value, as its
    gradient tells it, is 0, a little beyond; from points that have reached the goal (``broken``) it goes on a tenth
    nearer to the input. No length of step has to be chosen, and the radius matters only for what counts: the nearest
    point that reached the goal is the result where it lies in the ball; elsewhere the best point in the ball is.

    Parameters
    ----------
    ball : Ball
        Radius within which a result counts, and the norm in which changes are small.
    steps : int, default=40
    restarts : int, default=1
        The first is from the input, others from random points as near as the smallest change so far.
    seed : int, default=0

    References
    ----------
    Croce & Hein, *Minimally distorted adversarial examples with a fast adaptive boundary attack*, arXiv 1907.02044
    [croce2020minimally]. Within bounds the length of a projection is bisected along the steepest ascent.

    Examples
    --------
    >>> from certimetric.deep import L2Ball, TargetEmbedding
    >>> x, goal = torch.full((1, 2), 0.5), TargetEmbedding(torch.tensor([[1.0, 0.5]]), reach=0.3)
    >>> ball = L2Ball(0.4)
    >>> round(float(ball.size(FAB(ball)(torch.nn.Identity(), x, goal), x)), 3)  # from a distance of 0.5 to 0.3
    0.2
    """

    smallest = of_norms = True

    def __init__(self, ball: Ball, steps: int = 40, restarts: int = 1, *, seed: int = 0):
        super().__init__(ball, seed=seed)
        at_least_one(steps=steps, restarts=restarts)
        self.steps, self.restarts = steps, restarts

    def _attack(self, x: Tensor, best: Best, generator: torch.Generator) -> None:
        ball: Ball = self.ball
        smallest, nearest = torch.where(best.broken, 0.0, torch.inf).double(), x
        for restart in range(self.restarts):
            reach = aligned((smallest.clamp_max(ball.eps) / (2 * ball.eps)).to(x.dtype), x)
            point = x + reach * (ball.random_start(x, generator) - x) if restart else x
            for _ in range(self.steps):
                value, gradient, broken = best.gradient(point)
                with torch.no_grad():
                    size = ball.size(point, x)
                    best.offer(point, value.masked_fill(size > ball.eps, -torch.inf), broken & (size <= ball.eps))
                    nearer = broken & (size < smallest)
                    smallest = torch.where(nearer, size, smallest)
                    nearest = torch.where(aligned(nearer, x), point, nearest)
                    point = torch.where(aligned(broken, x), x + _BACK * (point - x), point)
                    # The value where the point went to, and at the input, as the gradient tells them.
                    along = gradient.double()
                    moved = value.double() - torch.where(broken, (1 - _BACK) / _BACK, 0.0) * _dot(along, point - x)
                    ahead = self._projected(point, along, moved)
                    fresh = self._projected(x, along, moved + _dot(along, x - point))
                    own, other = ball.size(ahead, point), ball.size(fresh, x)
                    bias = (own / (own + other).clamp_min(1e-300)).clamp_max(_MOST_BIASED)
                    weight = aligned(bias.to(x.dtype), x)
                    point = ball.clip((1 - weight) * ahead + weight * fresh)
        nearest = best.drawn_back(x, nearest)
        smallest = torch.where(smallest.isfinite(), ball.size(nearest, x), smallest)
        best.end(ball.project(nearest, x))
        best.settle(nearest, smallest <= ball.eps)

    def _projected(self, point: Tensor, gradient: Tensor, value: Tensor) -> Tensor:
        """Points a little beyond where a linear value, of this one and gradient here, is 0."""
        ball: Ball = self.ball
        uphill = torch.where(value < 0, 1.0, -1.0).double()
        direction, wanted = aligned(uphill, point) * gradient, value.double().abs()
        dual = torch.as_tensor(ball.norm.dual_norm(gradient.flatten(1)))
        least = torch.where(dual > 0, wanted / torch.where(dual > 0, dual, 1.0), 0.0)

        def reached(length: Tensor) -> Tensor:
            return _dot(direction, ball.clip(ball.step(point, direction, length)) - point) >= wanted * (1 - 1e-6)

        # Bounds are in the way of a step, so that it must be longer than it would be without them.
        low = high = least
        for _ in range(_DOUBLINGS):
            enough = reached(high)
            low, high = torch.where(enough, low, high), torch.where(enough, high, 2 * high)
        for _ in range(_HALVINGS if ball.bounds is not None else 0):
            middle = (low + high) / 2
            enough = reached(middle)
            low, high = torch.where(enough, low, middle), torch.where(enough, middle, high)
        # Back from beyond the boundary the step falls short of it, so that both ends lie on the far side.
        return ball.clip(ball.step(point, direction, torch.where(value < 0, _BEYOND, 2 - _BEYOND) * high))


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a.double() * b.double()).flatten(1).sum(dim=1)
