"""Several attacks in place of one: in turn on what those before have left, and in expectation over draws."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from certimetric.deep.attacks.balls import Ball
from certimetric.deep.attacks.base import Attack, Best, at_least_one
from certimetric.deep.attacks.black_box import PixelSearch, SquareAttack
from certimetric.deep.attacks.gradient import APGD
from certimetric.deep.attacks.minimal import FAB
from certimetric.deep.goals.average_precision import AveragePrecisionGoal
from certimetric.deep.goals.base import Goal
from certimetric.deep.goals.margins import MarginGoal


class AutoAttack(Attack):
    """Four attacks that fail for different reasons, each on the samples for which those before did not reach the goal.

    They are APGD on the goal, of all samples, so that the ensemble is never weaker than that alone; APGD on average
    precision, where the goal is the margin; FAB; and a random search that needs no gradient, of squares, or in l0 of
    pixels. There is nothing to tune: it is for the last word on a model.

    Parameters
    ----------
    ball : Ball
    steps : int, default=50
        Of the attacks by gradients.
    queries : int, default=500
        Of the random search.
    seed : int, default=0

    References
    ----------
    In the spirit of Croce & Hein (AutoAttack), arXiv 2003.01690 [croce2020reliable], for rankings in the place of
    classes.

    Examples
    --------
    >>> from certimetric.deep import LinfBall, TargetEmbedding
    >>> attack = AutoAttack(LinfBall(0.1), steps=10)
    >>> attack(torch.nn.Identity(), torch.full((1, 3), 0.5), TargetEmbedding(torch.ones(1, 3))).round(decimals=3)
    tensor([[0.6000, 0.6000, 0.6000]])
    """

    def __init__(self, ball: Ball, steps: int = 50, queries: int = 500, *, seed: int = 0):
        super().__init__(ball, seed=seed)
        at_least_one(steps=steps, queries=queries)
        self.steps, self.queries = steps, queries

    def _attack(self, x: Tensor, best: Best, generator: torch.Generator) -> None:
        ball, told = self.ball, {"seed": self.seed}
        sparse, images = ball.name == "l0", x.ndim == 4
        search = PixelSearch if sparse else SquareAttack
        APGD(ball, self.steps, **told)._attack(x, best, generator)
        if type(best.goal) is MarginGoal and best.goal.metric.name == "euclidean":
            self._run(APGD(ball, self.steps, **told), x, best, _ByPrecision(best.goal), generator)
        if not sparse:
            self._run(FAB(ball, self.steps, **told), x, best, best.goal, generator)
        if images:
            self._run(search(ball, self.queries, **told), x, best, best.goal, generator)

    def _run(self, attack: Attack, x: Tensor, best: Best, goal: Goal, generator: torch.Generator) -> None:
        """One of them, for the samples that are left."""
        left = (~best.broken).nonzero()[:, 0]
        if not len(left):
            return
        # A goal that samples have together is never reached by one of them: then all are left.
        whole = len(left) == len(x)
        part = best.of(x if whole else x[left], goal if whole else goal.select(left))
        attack._attack(part.x, part, generator)
        best.end(part.x if whole else best.x.index_copy(0, left, part.x))


class _ByPrecision(AveragePrecisionGoal):
    """Average precision as the value, and the margin's word on what is reached."""

    per_sample = (*AveragePrecisionGoal.per_sample, "margin")

    def __init__(self, margin: MarginGoal):
        super().__init__(margin.labels, margin.gallery, margin.gallery_labels, margin.ids, margin.gallery_ids)
        self.margin = margin

    def judge(self, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        return super().judge(embeddings)[0], self.margin.broken(embeddings.detach())


class Expectation(Attack):
    """Another attack, on the mean over draws of a model that draws at random: expectation over transformation.

    Values and gradients are means over so many calls of the model; the goal counts as reached where it is for most of
    them. A randomised model is attacked as what it is, and so is one behind a channel that is not known exactly, as is
    ``Reencoded(model, (50, 95))``.

    Parameters
    ----------
    attack : Attack
    draws : int, default=8

    References
    ----------
    Athalye et al., *Synthesizing robust adversarial examples*, arXiv 1707.07397 [athalye2018synthesizing], and arXiv
    1802.00420 [athalye2018obfuscated].

    Examples
    --------
    >>> from certimetric.deep import PGD, LinfBall, TargetEmbedding
    >>> noisy = lambda x: x + 0.5 * torch.randn(x.shape)
    >>> attack = Expectation(PGD(LinfBall(0.1), steps=5), draws=4)
    >>> attack(noisy, torch.full((1, 3), 0.5), TargetEmbedding(torch.ones(1, 3))).max() > 0.59
    tensor(True)
    """

    def __init__(self, attack: Attack, draws: int = 8):
        super().__init__(attack.ball, seed=attack.seed)
        at_least_one(draws=draws)
        self.attack, self.draws = attack, draws

    @property
    def uses_gradients(self) -> bool:  # type: ignore[override]
        return self.attack.uses_gradients

    def _kept(self, model: nn.Module, x: Tensor, goal: Goal) -> Best:
        return _Mean(model, x, goal, self.draws)

    def _attack(self, x: Tensor, best: Best, generator: torch.Generator) -> None:
        self.attack._attack(x, best, generator)

    def with_eps(self, eps: float) -> Expectation:
        return Expectation(self.attack.with_eps(eps), self.draws)


class _Mean(Best):
    def __init__(self, model: nn.Module, x: Tensor, goal: Goal, draws: int):
        self.draws = draws
        super().__init__(model, x, goal)

    def of(self, x: Tensor, goal: Goal) -> Best:
        return _Mean(self.model, x, goal, self.draws)

    def judge(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self._mean([super(_Mean, self).judge(x) for _ in range(self.draws)])

    def gradient(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self._mean([super(_Mean, self).gradient(x) for _ in range(self.draws)])

    def _mean(self, parts: list[tuple[Tensor, ...]]) -> Any:
        *means, reached = (torch.stack(part).to(part[0].dtype) for part in zip(*parts))
        return (*(part.mean(dim=0) for part in means), reached.double().mean(dim=0) > 0.5)
