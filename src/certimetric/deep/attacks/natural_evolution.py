"""NES: the gradient of a value estimated by queries of the model alone."""

from __future__ import annotations

import torch
from torch import Tensor

from certimetric.deep.attacks.balls import Ball, aligned
from certimetric.deep.attacks.base import Attack, Best


class NESAttack(Attack):
    """Projected gradient ascent without gradients: they are estimated by natural evolution strategies.

    At every step the value is compared at ``x + σu`` and ``x − σu`` for Gaussian directions u; the sum of the
    directions, weighted by the differences, takes the place of the gradient. Only embeddings are asked for, so that it
    shows where a model hides its gradients.

    Parameters
    ----------
    ball : Ball
    steps : int, default=32
    population : int, default=50
        Forward passes of a step, an even number: two for each direction.
    step_size : float, default=None
        None for 2.5 · eps / steps. A number belongs to the radius of the ball: :meth:`with_eps` scales it along.
    sigma : float, default=None
        Length of the comparisons, in units of a pixel; None for eps / 10.
    seed : int, default=0

    References
    ----------
    Ilyas et al., *Black-box adversarial attacks with limited queries and information*, arXiv 1804.08598.
    """

    uses_gradients = False

    def __init__(
        self,
        ball: Ball,
        steps: int = 32,
        population: int = 50,
        step_size: float | None = None,
        sigma: float | None = None,
        *,
        seed: int = 0,
    ):
        super().__init__(ball, seed=seed)
        if steps < 1 or population < 2 or population % 2:
            raise ValueError(
                f"steps must be at least 1 and population an even number from 2 on, got {steps} and {population}"
            )
        if sigma is not None and not sigma > 0:
            raise ValueError(f"sigma must be positive, got {sigma!r}")
        self.steps, self.population, self.step_size, self.sigma = steps, population, step_size, sigma

    @torch.no_grad()
    def _attack(self, x: Tensor, best: Best, generator: torch.Generator) -> None:
        point = x
        for _ in range(self.steps):
            point = self._step(point, self._estimate(best, point, generator), x)
            best.end(point)

    def _estimate(self, best: Best, x: Tensor, generator: torch.Generator) -> Tensor:
        """What stands for the gradient, up to its length."""
        sigma = self.ball.eps / 10 if self.sigma is None else self.sigma
        total = torch.zeros_like(x, dtype=torch.double)  # the differences of a small embedding may be no float32
        for _ in range(self.population // 2):
            direction = torch.randn(x.shape, generator=generator, device=x.device).to(x.dtype)
            ahead, behind = (self.ball.clip(x + sign * sigma * direction) for sign in (1.0, -1.0))
            difference = best.goal(best.model(ahead)) - best.goal(best.model(behind))
            total += aligned(difference.double(), x) * direction
        return total
