"""Square attack: a random search that needs no gradient, an independent check on attacks that do."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from certimetric.deep.attacks.balls import Ball
from certimetric.deep.attacks.base import Attack, Best


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
    Andriushchenko et al., arXiv 1912.00049.
    """

    uses_gradients, in_audits = False, {"queries": 1000}

    def __init__(self, ball: Ball, queries: int = 500, share: float = 0.8, *, seed: int = 0):
        super().__init__(ball, seed=seed)
        if queries < 1 or not 0 < share <= 1:
            raise ValueError(f"queries must be at least 1 and share between 0 and 1, got {queries} and {share:g}")
        self.queries, self.share = queries, share

    @torch.no_grad()
    def _attack(self, x: Tensor, best: Best, generator: torch.Generator) -> None:
        if x.ndim != 4:
            raise ValueError(
                f"SquareAttack changes windows of images (b, c, h, w), got inputs of shape {tuple(x.shape)}"
            )
        b, c, h, w = x.shape

        def signs(*shape: int) -> Tensor:
            return torch.randint(0, 2, shape, generator=generator, device=x.device).to(x.dtype) * 2 - 1

        stripes = x + self.ball.eps * signs(b, c, 1, w)
        best.end(self.ball.project(stripes, x))
        for query in range(1, self.queries):
            side = max(1, min(h, w, round((_share(query, self.share) * h * w) ** 0.5)))
            top = torch.randint(0, h - side + 1, (b, 1, 1, 1), generator=generator, device=x.device)
            left = torch.randint(0, w - side + 1, (b, 1, 1, 1), generator=generator, device=x.device)
            row = torch.arange(h, device=x.device).view(1, 1, h, 1) - top
            column = torch.arange(w, device=x.device).view(1, 1, 1, w) - left
            window = (row >= 0) & (row < side) & (column >= 0) & (column < side)
            # Twice the radius in every channel: in l∞ that sets the window to its edge.
            length = 2.0 * self.ball.eps / float(self.ball.norm.norm(np.ones(side * side)))
            bump = length * signs(b, c, 1, 1) * window.to(x.dtype)
            moved = x + self.ball.to_edge((best.x - x).double() + bump).to(x.dtype)
            best.end(self.ball.project(moved, x))


def _share(query: int, first: float) -> float:
    """The schedule of the paper: halved at these queries."""
    return first / 2.0 ** sum(query > mark for mark in (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000))
