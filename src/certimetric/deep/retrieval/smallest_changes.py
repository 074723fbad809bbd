"""The smallest change of each query that breaks its R@1: a curve against ε that needs no grid of ε."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from certimetric.base.arguments import require
from certimetric.base.arrays import Array, Indices
from certimetric.deep.attacks.balls import Ball
from certimetric.deep.attacks.base import Best
from certimetric.deep.attacks.gradient import APGD
from certimetric.deep.attacks.minimal import FAB
from certimetric.deep.models.calling import frozen, seeded
from certimetric.deep.models.images import ImageSet
from certimetric.deep.retrieval.evaluation import comparable
from certimetric.deep.retrieval.index import Index

LEVELS = 8  # radii, at equal distances, at which Auto-PGD is asked whether it does better


@dataclass(frozen=True, eq=False)
class SmallestChanges:
    """Sizes of the smallest changes that were found, one for each query.

    Parameters
    ----------
    norm : str
    largest : float
        What was looked for is not larger.
    radii : array of shape (m,)
        0 where the first result is wrong as it is, infinite where nothing was found.
    """

    norm: str
    largest: float
    radii: Array

    def recall(self, eps: ArrayLike) -> Array:
        """R@1 under changes of these sizes, (…): the share of queries for which no change so small was found.

        Examples
        --------
        >>> SmallestChanges("l2", 1.0, np.array([0.0, 0.2, np.inf, 0.2])).recall([0.0, 0.1, 0.2])
        array([0.75, 0.75, 0.25])
        """
        return np.asarray((self.radii > np.asarray(eps, dtype=float)[..., None]).mean(axis=-1))

    def to_frame(self) -> pd.DataFrame:
        """The curve: every size at which it falls, and R@1 from there on."""
        eps = np.unique(np.append(self.radii[np.isfinite(self.radii)], 0.0))
        return pd.DataFrame({"norm": self.norm, "eps": eps, "recall_at_1": self.recall(eps)})


@seeded(0)
def smallest_changes(
    model: nn.Module | Callable[[Tensor], Any],
    queries: ImageSet,
    gallery: ImageSet | None = None,
    *,
    ball: Ball,
    steps: int = 40,
    seed: int = 0,
    batch_size: int = 256,
) -> SmallestChanges:
    """Look for the smallest change of each query after which its first result is wrong.

    FAB finds one; then the smallest radius is bisected at which Auto-PGD finds one too, and what it finds is drawn back
    towards the query as far as it works. What is found is an upper bound of the smallest change there is.

    Parameters
    ----------
    model, queries, gallery, batch_size
        As of :func:`evaluate_retrieval`; the model needs gradients. Queries without a positive are left out.
    ball : Ball
        The norm, and the largest change that is looked for.
    steps : int, default=40
        Of each attack.
    seed : int, default=0

    Raises
    ------
    TypeError, ValueError
        As of :func:`evaluate_retrieval`.

    References
    ----------
    Croce & Hein, arXiv 1907.02044 [croce2020minimally] and arXiv 2003.01690 [croce2020reliable], for the two attacks.

    Examples
    --------
    >>> from certimetric.deep import LinfBall
    >>> gallery = ImageSet(torch.tensor([0.1, 0.5]).view(2, 1, 1, 1), torch.tensor([0, 1]), ids=[0, 1])
    >>> queries = ImageSet(torch.tensor([0.2, 0.4]).view(2, 1, 1, 1), torch.tensor([0, 0]), ids=[2, 3])
    >>> found = smallest_changes(nn.Flatten(), queries, gallery, ball=LinfBall(0.4))  # the boundary is at 0.3
    >>> found.radii.round(3)
    array([0.1, 0. ])
    """
    require(ball.eps > 0, "eps", "must be positive, the largest change that is looked for", ball.eps)
    queries, items, able = comparable(queries, gallery)
    asked = queries.select(able.nonzero()[:, 0])
    index = Index(model, items, batch_size)
    return SmallestChanges(ball.name, ball.eps, radii_of(index, asked, ball, steps, seed))


def radii_of(index: Index, queries: ImageSet, ball: Ball, steps: int = 40, seed: int = 0) -> Array:
    """The same of queries of an index, each of which has a positive and a negative there: (m,)."""
    levels = ball.eps * np.arange(1, LEVELS + 1) / LEVELS
    if ball.name == "l0":
        levels = np.unique(np.floor(levels[levels >= 1]))
    parts = [_of_batch(index, part, ball, levels, steps, seed) for part in queries.batches(index.batch_size)]
    return np.concatenate(parts)


def _of_batch(index: Index, part: ImageSet, ball: Ball, levels: Array, steps: int, seed: int) -> Array:
    x, radii = part.tensor().to(index.device), np.full(len(part), np.inf)
    goal = index.goal(part)

    def tried(attack: Any, rows: Indices) -> None:
        """Attack some of the queries; what works is drawn back, and its size counts."""
        chosen = torch.from_numpy(rows).to(x.device)
        some, its = x[chosen], goal.select(chosen)
        with frozen(index.model), seeded(seed):
            best = Best(index.model, attack(index.model, some, its), its)
            points = best.x if ball.name == "l0" else best.drawn_back(some, best.x)
            sizes = torch.where(best.broken, ball.size(points, some), torch.inf).cpu().numpy()
        radii[rows] = np.minimum(radii[rows], sizes)

    everyone = np.arange(len(part))
    tried(APGD(ball, steps, seed=seed) if ball.name == "l0" else FAB(ball, steps, seed=seed), everyone)
    low, high = np.zeros(len(part), dtype=np.int64), np.full(len(part), len(levels) + 1)
    while True:
        # At the level of the smallest change so far nothing is to be gained: only those below it are asked.
        high = np.minimum(high, np.where(np.isfinite(radii), np.searchsorted(levels, radii) + 1, high))
        middle = (low + high) // 2
        open_ = (high - low > 1) & (radii > 0)
        if not open_.any():
            return radii
        for level in np.unique(middle[open_]):
            rows = np.flatnonzero(open_ & (middle == level))
            tried(APGD(ball, steps, seed=seed + int(level)).with_eps(float(levels[level - 1])), rows)
            broken = radii[rows] <= levels[level - 1]
            low[rows[~broken]], high[rows[broken]] = level, level
