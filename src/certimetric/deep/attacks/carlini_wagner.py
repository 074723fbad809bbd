"""Carlini and Wagner's attack, on embeddings: the smallest change that reaches the goal."""

from __future__ import annotations

import torch
from torch import Tensor

from certimetric.deep.attacks.balls import Ball, aligned, per_sample
from certimetric.deep.attacks.base import Attack, Best, at_least_one, with_gradient

_START, _DRAWN_BACK = 1e-3, 8


class CarliniWagner(Attack):
    """Minimise the size of the change less c times the value of the goal by Adam, with a search for c.

    The goal decides: its value pulls as long as a point has not reached it (``goal.broken``), and of the points that
    have, the nearest is kept, drawn back along the way to the input. That change is the result where it lies in the
    ball; elsewhere the best point in the ball is, as of other attacks. In l2 the size is ``‖δ‖²``; in l∞ it is
    ``Σ (|δ_i| − τ)₊``, with a τ of nine tenths of the smallest change so far; in l1 a ``Σ |δ_i|``, rounded off at 0.
    The gradient of the value is normalised for every sample, so that embeddings of any length or spread are attacked
    alike. Bounds are kept by projection: the variable ``tanh`` of the paper does not move a pixel that is black or
    white.

    Parameters
    ----------
    ball : Ball
        Radius within which a result counts, and the norm in which changes are small.
    steps : int, default=100
        Of Adam, for each c.
    searches : int, default=5
        Values of c: ten times as much after a failure, a tenth after a success, their geometric mean between the two.
    constant : float, default=1.0
        First c: with 1 a change of half the radius is in balance in l2.
    confidence : float, default=0.0
        Where positive, a change counts only if its value is at least this, besides.
    learning_rate : float, default=0.01
        Share of the half width of the bounds that an entry moves in the first step, of the radius where there are no
        bounds; it falls to a tenth over the steps.
    seed : int, default=0

    References
    ----------
    Carlini & Wagner, arXiv 1608.04644, sections V and VI; on embeddings, Panum et al., arXiv 2102.07265.
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
        at_least_one(steps=steps, searches=searches)
        self.steps, self.searches, self.constant = steps, searches, constant
        self.confidence, self.learning_rate = confidence, learning_rate

    def _attack(self, x: Tensor, best: Best, generator: torch.Generator) -> None:
        ball, radius = self.ball, self.ball.eps
        unit = radius if ball.bounds is None else (ball.bounds[1] - ball.bounds[0]) / 2
        # Where the value is least, as at the clean embedding that is to be left, there is no gradient to follow.
        start = ball.clip(x + _START * (ball.random_start(x, generator) - x))
        constant = torch.full((len(x),), self.constant, dtype=torch.double, device=x.device)
        failed, worked = torch.zeros_like(constant), torch.full_like(constant, torch.inf)
        smallest, nearest = torch.where(self._reached(best.value, best.broken), 0.0, torch.inf).to(constant), x
        for _ in range(self.searches):
            point, mean, square = start, torch.zeros_like(x), torch.zeros_like(x)
            reached = torch.zeros(len(x), dtype=torch.bool, device=x.device)
            for step in range(1, self.steps + 1):
                value, gradient, broken = with_gradient(best.model, point, best.goal.judge)
                with torch.no_grad():
                    hit, size = self._reached(value, broken), ball.size(point, x)
                    best.offer(point, value.masked_fill(size > radius, -torch.inf), broken & (size <= radius))
                    nearer = hit & (size < smallest)
                    smallest = torch.where(nearer, size, smallest)
                    nearest = torch.where(aligned(nearer, x), point, nearest)
                    reached = reached | hit
                    pull = ball.ascent(gradient) * per_sample(torch.where(hit, 0.0, constant), gradient)
                    slope = (2 * ball.shrinking(point - x, smallest.clamp_max(radius)) - pull).to(x.dtype)
                    mean = 0.9 * mean + 0.1 * slope
                    square = 0.999 * square + 0.001 * slope**2
                    move = (mean / (1 - 0.9**step)) / ((square / (1 - 0.999**step)).sqrt() + 1e-8)
                    # Shorter and shorter, so that the end lies at the boundary of the goal and not on both sides of it.
                    length = self.learning_rate * unit * (1 - 0.9 * (step - 1) / self.steps)
                    point = ball.clip(point - length * move)
            worked = torch.where(reached, torch.minimum(worked, constant), worked)
            failed = torch.where(reached, failed, torch.maximum(failed, constant))
            between = (failed * worked).sqrt()
            constant = torch.where(worked.isinf(), 10 * constant, torch.where(failed > 0, between, constant / 10))
        nearest, smallest = self._drawn_back(best, x, nearest, smallest)
        best.end(ball.project(nearest, x))
        best.settle(nearest, smallest <= radius)

    def _reached(self, value: Tensor, broken: Tensor) -> Tensor:
        return broken & (value >= self.confidence) if self.confidence > 0 else broken

    @torch.no_grad()
    def _drawn_back(self, best: Best, x: Tensor, nearest: Tensor, smallest: Tensor) -> tuple[Tensor, Tensor]:
        """Bisect from the nearest points towards the inputs, as far as they keep the goal; points and their sizes."""
        low, high = torch.zeros_like(smallest), torch.ones_like(smallest)
        found = nearest
        for _ in range(_DRAWN_BACK):
            middle = (low + high) / 2
            tried = x + (nearest - x) * per_sample(middle, x)
            hit = self._reached(*best.goal.judge(best.model(tried)))
            found = torch.where(aligned(hit, x), tried, found)
            low, high = torch.where(hit, low, middle), torch.where(hit, middle, high)
        return found, torch.where(smallest.isfinite(), self.ball.size(found, x), smallest)
