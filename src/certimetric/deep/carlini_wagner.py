"""Carlini and Wagner's attack, on embeddings: the smallest l2 change that reaches the goal."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from certimetric.deep.attack import Attack, Best, value_and_gradient
from certimetric.deep.objectives import Objective
from certimetric.deep.threats import Ball, aligned, per_sample


class CarliniWagner(Attack):
    """Minimise ``‖δ‖² − c · min(objective, confidence)`` by Adam over an unbounded variable, with a search for c.

    Bounded inputs are ``low + (high − low) (tanh(w) + 1) / 2``, so that no step leaves the bounds. Where a goal was
    reached by a smaller change than before, that change is kept; the result is projected into the ball, so that it is
    comparable with other attacks at the same radius.

    Parameters
    ----------
    ball : Ball
        Radius within which a result counts.
    steps : int, default=100
        Of Adam, for each c.
    searches : int, default=5
        Values of c: ten times as much after a failure, halved between a failure and a success.
    constant : float, default=1.0
        First c.
    confidence : float, default=0.0
        Value of the objective up to which it is raised.
    learning_rate : float, default=0.01
    seed : int, default=0

    References
    ----------
    Carlini & Wagner, arXiv 1608.04644, section VI; on embeddings, Panum et al., arXiv 2102.07265.
    """

    def __init__(
        self,
        ball: Ball,
        steps: int = 100,
        searches: int = 5,
        constant: float = 1.0,
        confidence: float = 0.0,
        learning_rate: float = 0.01,
        *,
        seed: int = 0,
    ):
        super().__init__(ball, seed=seed)
        self.steps, self.searches, self.constant = steps, searches, constant
        self.confidence, self.learning_rate = confidence, learning_rate

    def _attack(
        self, model: nn.Module, x: Tensor, objective: Objective, best: Best, generator: torch.Generator
    ) -> None:
        low, high = (-torch.inf, torch.inf) if self.ball.bounds is None else self.ball.bounds
        bounded = self.ball.bounds is not None
        if bounded:
            inside = ((x - low) / (high - low) * 2 - 1).clamp(-1 + 1e-6, 1 - 1e-6)
            start = torch.atanh(inside)
        else:
            start = x.clone()

        def inputs(w: Tensor) -> Tensor:
            return low + (high - low) * (torch.tanh(w) + 1) / 2 if bounded else w

        constant = torch.full((len(x),), self.constant, device=x.device)
        failed, worked = torch.zeros_like(constant), torch.full_like(constant, torch.inf)
        smallest, nearest = torch.full_like(constant, torch.inf), x
        for _ in range(self.searches):
            w, mean, square = start.clone(), torch.zeros_like(start), torch.zeros_like(start)
            reached = torch.zeros(len(x), dtype=torch.bool, device=x.device)
            for step in range(1, self.steps + 1):
                point = inputs(w)
                value, gradient = value_and_gradient(model, point, objective)
                best.offer(point, value.masked_fill(self.ball.size(point, x) > self.ball.eps, -torch.inf))
                with torch.no_grad():
                    hit = value > 0
                    size = (point - x).flatten(1).norm(dim=1)
                    nearer = hit & (size < smallest)
                    smallest = torch.where(nearer, size, smallest)
                    nearest = torch.where(aligned(nearer, x), point, nearest)
                    reached = reached | hit
                    pull = per_sample((value < self.confidence).to(x.dtype) * constant, x)
                    slope = 2 * (point - x) - pull * gradient
                    if bounded:
                        slope = slope * (high - low) / 2 * (1 - torch.tanh(w) ** 2)
                    mean = 0.9 * mean + 0.1 * slope
                    square = 0.999 * square + 0.001 * slope**2
                    w = w - self.learning_rate * (mean / (1 - 0.9**step)) / ((square / (1 - 0.999**step)).sqrt() + 1e-8)
            worked = torch.where(reached, torch.minimum(worked, constant), worked)
            failed = torch.where(reached, failed, torch.maximum(failed, constant))
            constant = torch.where(torch.isinf(worked), constant * 10, (failed + worked.clamp_max(1e10)) / 2)
        best.end(self.ball.project(nearest, x))
