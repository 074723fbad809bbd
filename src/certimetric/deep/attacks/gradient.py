"""Attacks along the gradient: one step, many, many whose size adapts, and the smallest change that is enough."""

from __future__ import annotations

import torch
from torch import Tensor

from certimetric.deep.attacks.balls import Ball, aligned
from certimetric.deep.attacks.base import Attack, Best, at_least_one
from certimetric.deep.models.bounds import ends

_START = 1e-3  # of Carlini and Wagner's: how far from the input, in its ball


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
    Madry et al., arXiv 1706.06083 [madry2017towards]; on embeddings, Panum et al., arXiv 2102.07265
    [panum2021exploring].

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
    Goodfellow et al., arXiv 1412.6572 [goodfellow2014explaining]; with a random start, Wong et al., arXiv 2001.03994
    [wong2020fast].

    Examples
    --------
    >>> from certimetric.deep import EmbeddingShift, LinfBall
    >>> x, model = torch.full((2, 1, 4, 4), 0.5), torch.nn.Flatten()
    >>> attacked = FGSM(LinfBall(0.1))(model, x, EmbeddingShift(model(x)))
    >>> round((attacked - x).abs().max().item(), 4)
    0.1
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
    Croce & Hein (Auto-PGD), arXiv 2003.01690 [croce2020reliable]: checkpoints, conditions and constants of section 3.

    Examples
    --------
    >>> from certimetric.deep import EmbeddingShift, LinfBall
    >>> x, model = torch.full((2, 1, 4, 4), 0.5), torch.nn.Flatten()
    >>> attacked = APGD(LinfBall(0.1), steps=10)(model, x, EmbeddingShift(model(x)))
    >>> round((attacked - x).abs().max().item(), 4)
    0.1
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
    Carlini & Wagner, arXiv 1608.04644 [carlini2016towards], sections V and VI; on embeddings, Panum et al., arXiv
    2102.07265 [panum2021exploring].

    Examples
    --------
    >>> from certimetric.deep import AwayFromPositive, L2Ball
    >>> x, model = torch.full((1, 4), 0.5), torch.nn.Identity()
    >>> attacked = CarliniWagner(L2Ball(1.0))(model, x, AwayFromPositive(model(x) - 0.1, reach=0.5))
    >>> round((attacked - x).norm().item(), 2)
    0.3
    """

    smallest = of_norms = True

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
        low, high = ends(ball.bounds, x)
        unit = radius if ball.bounds is None else (high - low) / 2
        # Where the value is least, as at the clean embedding that is to be left, there is no gradient to follow.
        start = ball.clip(x + _START * (ball.random_start(x, generator) - x))
        constant = torch.full((len(x),), self.constant, dtype=torch.double, device=x.device)
        failed, worked = torch.zeros_like(constant), torch.full_like(constant, torch.inf)
        smallest, nearest = torch.where(self._reached(best.value, best.broken), 0.0, torch.inf).to(constant), x
        for _ in range(self.searches):
            point, mean, square = start, torch.zeros_like(x), torch.zeros_like(x)
            reached = torch.zeros(len(x), dtype=torch.bool, device=x.device)
            for step in range(1, self.steps + 1):
                value, gradient, broken = best.gradient(point)
                with torch.no_grad():
                    hit, size = self._reached(value, broken), ball.size(point, x)
                    best.offer(point, value.masked_fill(size > radius, -torch.inf), broken & (size <= radius))
                    nearer = hit & (size < smallest)
                    smallest = torch.where(nearer, size, smallest)
                    nearest = torch.where(aligned(nearer, x), point, nearest)
                    reached = reached | hit
                    pull = ball.ascent(gradient) * aligned(torch.where(hit, 0.0, constant).to(x.dtype), x)
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
        nearest = best.drawn_back(x, nearest, self._reached)
        smallest = torch.where(smallest.isfinite(), ball.size(nearest, x), smallest)
        best.end(ball.project(nearest, x))
        best.settle(nearest, smallest <= radius)

    def _reached(self, value: Tensor, broken: Tensor) -> Tensor:
        return broken & (value >= self.confidence) if self.confidence > 0 else broken
