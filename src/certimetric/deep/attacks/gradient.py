"""Attacks along the gradient: one step, many steps, and many steps whose size adapts."""

from __future__ import annotations

import torch
from torch import Tensor

from certimetric.deep.attacks.balls import Ball, aligned
from certimetric.deep.attacks.base import Attack, Best, at_least_one


class PGD(Attack):
    """Projected gradient ascent from random starts; the best point of all steps counts.

    Parameters
    ----------
    ball : Ball
    steps : int, default=20
    step_size : float, default=None
        None for 2.5 · eps / steps. A number belongs to the radius of the ball: :meth:`with_eps` scales it along.
    restarts : int, default=1
    random_start : bool, default=True
        The first start of all is the input itself where this is False.
    seed : int, default=0

    References
    ----------
    Madry et al., arXiv 1706.06083; on embeddings, Panum et al., arXiv 2102.07265.

    Examples
    --------
    >>> from certimetric.deep import LinfBall, EmbeddingShift
    >>> x = torch.full((1, 3), 0.5)
    >>> model = torch.nn.Identity()
    >>> attacked = PGD(LinfBall(0.1), steps=5)(model, x, EmbeddingShift(model(x)))
    >>> bool(((attacked - x).abs() - 0.1).abs().max() < 1e-6)
    True
    """

    def __init__(
        self,
        ball: Ball,
        steps: int = 20,
        step_size: float | None = None,
        restarts: int = 1,
        random_start: bool = True,
        *,
        seed: int = 0,
    ):
        super().__init__(ball, seed=seed)
        at_least_one(steps=steps, restarts=restarts)
        self.steps, self.step_size, self.restarts, self.random_start = steps, step_size, restarts, random_start

    def _attack(self, x: Tensor, best: Best, generator: torch.Generator) -> None:
        for restart in range(self.restarts):
            start = self.random_start or restart > 0
            point = self.ball.random_start(x, generator) if start else x
            for _ in range(self.steps):
                point = self._step(point, self._direction(best, point, generator), x)
            best.end(point)

    def _direction(self, best: Best, point: Tensor, generator: torch.Generator) -> Tensor:
        return best.look(point)[1]

    def for_training(self) -> PGD:
        """As of every attack; the last point counts: two forward passes fewer. Of several restarts the best counts."""
        other = super().for_training()
        other._keeps_best = self.restarts > 1
        return other


class FGSM(PGD):
    """One step of the size of the ball, from the input or from a random start.

    Where there is no gradient to follow, as at a clean embedding that is to be left, the direction is drawn at random.

    Parameters
    ----------
    ball : Ball
    random_start : bool, default=False
        Start at random; the step is then 1.25 · eps, as usual for this variant, and projected.
    seed : int, default=0

    References
    ----------
    Goodfellow et al., arXiv 1412.6572; with a random start, Wong et al., arXiv 2001.03994.
    """

    def __init__(self, ball: Ball, random_start: bool = False, *, seed: int = 0):
        super().__init__(ball, 1, None, 1, random_start, seed=seed)

    @property
    def _length(self) -> float:
        return (1.25 if self.random_start else 1.0) * self.ball.eps

    def _direction(self, best: Best, point: Tensor, generator: torch.Generator) -> Tensor:
        gradient = super()._direction(best, point, generator)
        if not self._keeps_best:
            return gradient
        none = (gradient.flatten(1) == 0).all(dim=1)
        drawn = torch.randn(point.shape, generator=generator, device=point.device).to(point.dtype)
        return torch.where(aligned(none, point), drawn, gradient)


class APGD(Attack):
    """Projected gradient ascent with momentum, whose step is halved for each sample where progress stalls.

    Parameters
    ----------
    ball : Ball
    steps : int, default=50
    restarts : int, default=1
    seed : int, default=0

    References
    ----------
    Croce & Hein (Auto-PGD), arXiv 2003.01690: checkpoints, conditions and constants of section 3.
    """

    _MOMENTUM, _RISES = 0.75, 0.75

    def __init__(self, ball: Ball, steps: int = 50, restarts: int = 1, *, seed: int = 0):
        super().__init__(ball, seed=seed)
        at_least_one(steps=steps, restarts=restarts)
        self.steps, self.restarts = steps, restarts

    def _attack(self, x: Tensor, best: Best, generator: torch.Generator) -> None:
        for _ in range(self.restarts):
            self._ascend(x, self.ball.random_start(x, generator), best)

    def _ascend(self, x: Tensor, start: Tensor, best: Best) -> None:
        ball, checkpoints = self.ball, _checkpoints(self.steps)
        size = torch.full((len(x),), 2.0 * ball.eps, device=x.device)
        value, gradient = best.look(start)
        top, top_point, top_gradient = value.clone(), start, gradient
        point, previous, last_value = start, start, value
        rises = torch.zeros_like(size)
        halved, top_at_checkpoint = torch.zeros_like(size), top.clone()
        since = 0
        for step in range(1, self.steps + 1):
            ahead = self._step(point, gradient, x, size)
            momentum = 1.0 if step == 1 else self._MOMENTUM
            moved = point + momentum * (ahead - point) + (1.0 - momentum) * (point - previous)
            previous, point = point, ball.project(moved, x)
            value, gradient = best.look(point)
            rises = rises + (value > last_value)
            last_value = value
            better = value > top
            top = torch.where(better, value, top)
            chosen = aligned(better, x)
            top_point, top_gradient = torch.where(chosen, point, top_point), torch.where(chosen, gradient, top_gradient)
            since += 1
            if step not in checkpoints:
                continue
            # Too few rises, or nothing gained at this size since the last checkpoint: halve, and go on from the best.
            stalled = rises < self._RISES * since
            stuck = (halved == 0) & (top_at_checkpoint >= top)
            halve = stalled | stuck
            size = torch.where(halve, size / 2, size)
            restart = aligned(halve, x)
            point, gradient = torch.where(restart, top_point, point), torch.where(restart, top_gradient, gradient)
            previous = torch.where(restart, top_point, previous)
            last_value = torch.where(halve, top, last_value)
            halved, top_at_checkpoint = halve.to(size.dtype), top.clone()
            rises, since = torch.zeros_like(rises), 0


def _checkpoints(steps: int) -> set[int]:
    """Steps at which the step size is looked at: more and more often.

    Examples
    --------
    >>> sorted(_checkpoints(100))
    [22, 41, 58, 70, 80, 87, 93, 99]
    """
    shares = [0.0, 0.22]
    while shares[-1] < 1.0:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 0.03, 0.06))
    return {-int(-share * steps // 1) for share in shares[1:] if share <= 1.0}
