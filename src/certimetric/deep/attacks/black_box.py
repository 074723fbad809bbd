"""Attacks that need no gradient, an independent check on those that do: random squares, and estimated gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from certimetric.deep.attacks.balls import Ball, aligned
from certimetric.deep.attacks.base import Attack, Best, images_only
from certimetric.deep.models.bounds import ends


class SquareAttack(Attack):
    """Change one random square window at a time, and keep what raises the value.

    In l∞ every channel of the window is set to +eps or −eps. In other norms the window gets a bump of random sign in
    every channel, and the whole change is taken back to the radius: simpler than the moves of mass in the paper.

    Parameters
    ----------
    ball : Ball
        For images, (b, c, h, w).
    queries : int, default=500
        Forward passes; more are never weaker.
    share : float, default=0.8
        Part of the pixels that the first windows cover; it shrinks as the paper's schedule says for 10,000 queries.
    seed : int, default=0

    References
    ----------
    Andriushchenko et al., arXiv 1912.00049 [andriushchenko2019square].

    Examples
    --------
    >>> from certimetric.deep import EmbeddingShift, LinfBall
    >>> x, model = torch.full((2, 1, 4, 4), 0.5), torch.nn.Flatten()
    >>> attacked = SquareAttack(LinfBall(0.1), queries=20)(model, x, EmbeddingShift(model(x)))
    >>> round((attacked - x).abs().max().item(), 4)
    0.1
    """

    uses_gradients, in_audits = False, {"queries": 1000}

    def __init__(self, ball: Ball, queries: int = 500, share: float = 0.8, *, seed: int = 0):
        super().__init__(ball, seed=seed)
        if queries < 1 or not 0 < share <= 1:
            raise ValueError(f"queries must be at least 1 and share between 0 and 1, got {queries} and {share:g}")
        self.queries, self.share = queries, share

    @torch.no_grad()
    def _attack(self, x: Tensor, best: Best, generator: torch.Generator) -> None:
        images_only(self, x)
        b, c, h, w = x.shape

        def signs(*shape: int) -> Tensor:
            return torch.randint(0, 2, shape, generator=generator, device=x.device).to(x.dtype) * 2 - 1

        stripes = x + self.ball.eps * signs(b, c, 1, w)
        best.end(self.ball.project(stripes, x))
        for query in range(1, self.queries):
            side = max(1, min(h, w, round((_share(query, self.share) * h * w) ** 0.5)))
            row, column = (
                torch.arange(extent, device=x.device)
                - torch.randint(0, extent - side + 1, (b, 1, 1, 1), generator=generator, device=x.device)
                for extent in (h, w)
            )
            window = ((row >= 0) & (row < side)).mT & (column >= 0) & (column < side)
            # Twice the radius in every channel: in l∞ that sets the window to its edge.
            bump = 2.0 * self.ball.level(side * side) * signs(b, c, 1, 1) * window.to(x.dtype)
            moved = x + self.ball.to_edge((best.x - x).double() + bump).to(x.dtype)
            best.end(self.ball.project(moved, x))


def _share(query: int, first: float) -> float:
    """The schedule of the paper: halved at these queries."""
    return first / 2.0 ** sum(query > mark for mark in (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000))


class PixelSearch(Attack):
    """Set a few pixels at a time to extreme colours, give others back, and keep what raises the value.

    In l0 as many pixels as the radius allows are changed, in other balls a tenth of them, as far as these let them. The
    share that is exchanged shrinks as the paper's schedule says.

    Parameters
    ----------
    ball : Ball
        For images, (b, c, h, w), within bounds.
    queries : int, default=500
        Forward passes; more are never weaker.
    seed : int, default=0

    References
    ----------
    Croce et al., *Sparse-RS*, arXiv 2006.12834 [croce2022sparse].

    Examples
    --------
    >>> from certimetric.deep import L0Ball, TargetEmbedding
    >>> grey, white = torch.full((1, 1, 3, 3), 0.5), TargetEmbedding(torch.ones(1, 9))
    >>> int((PixelSearch(L0Ball(2), queries=50)(torch.nn.Flatten(), grey, white) == 1).sum())
    2
    """

    uses_gradients, in_audits = False, {"queries": 1000}

    def __init__(self, ball: Ball, queries: int = 500, *, seed: int = 0):
        super().__init__(ball, seed=seed)
        if ball.bounds is None:
            raise ValueError("PixelSearch sets pixels to the ends of their range: the ball needs bounds, got None")
        if queries < 1:
            raise ValueError(f"queries must be at least 1, got {queries}")
        self.queries = queries

    @torch.no_grad()
    def _attack(self, x: Tensor, best: Best, generator: torch.Generator) -> None:
        images_only(self, x)
        b, _, h, w = x.shape
        low, high = ends(self.ball.bounds, x)
        k = max(1, min(h * w, int(self.ball.eps) if self.ball.name == "l0" else h * w // 10))
        for query in range(self.queries):
            changed = (best.x != x).any(dim=1).view(b, h * w)
            order = torch.rand((b, h * w), generator=generator, device=x.device)
            colours = torch.randint(0, 2, x.shape, generator=generator, device=x.device).to(x.dtype)
            m = k if query == 0 else max(1, round(k * _share(query, 0.3)))
            # Those that come are drawn of those as they were; of the changed ones so many go that there is room.
            many = torch.full((b,), m, device=x.device), changed.sum(dim=1) + m - k
            come, go = (
                (own & (order.where(own, -1.0).argsort(descending=True).argsort() < n[:, None])).view(b, 1, h, w)
                for own, n in zip((~changed, changed), many)
            )
            moved = torch.where(come, low + (high - low) * colours, torch.where(go, x, best.x))
            best.end(self.ball.project(moved, x))


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
    Ilyas et al., *Black-box adversarial attacks with limited queries and information*, arXiv 1804.08598
    [ilyas2018black].

    Examples
    --------
    >>> from certimetric.deep import EmbeddingShift, LinfBall
    >>> x, model = torch.full((2, 1, 4, 4), 0.5), torch.nn.Flatten()
    >>> attacked = NESAttack(LinfBall(0.1), steps=5, population=10)(model, x, EmbeddingShift(model(x)))
    >>> round((attacked - x).abs().max().item(), 4)
    0.1
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
            difference = best.judge(ahead)[0] - best.judge(behind)[0]
            total += aligned(difference.double(), x) * direction
        return total
