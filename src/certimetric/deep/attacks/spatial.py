"""Pictures that are turned and moved: all of a grid of angles and places is tried."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from certimetric.base.arguments import require
from certimetric.deep.attacks.balls import UNIT, check_region
from certimetric.deep.attacks.base import Attack, Best, at_least_one, images_only
from certimetric.deep.attacks.warps import turn, warped


@dataclass(frozen=True)
class Turns:
    """Rotations by up to ``eps`` degrees in both directions, with moves that are told beside it."""

    eps: float
    bounds: tuple[float, float] = UNIT
    name = "rotation"

    def __post_init__(self) -> None:
        check_region(self, "Turns")
        require(self.eps <= 180, "eps", "must be at most 180 degrees", self.eps, self)


class SpatialAttack(Attack):
    """Turn and move the picture as does most harm: every angle and place of a grid is tried.

    Nothing but embeddings is asked for, and no gradient would help: the goal has many valleys along these few
    directions. What comes in from outside of the picture repeats its border.

    Parameters
    ----------
    degrees : float, default=30.0
        Largest rotation, in both directions.
    shift : float, default=0.1
        Largest move, as a share of width and height.
    angles, shifts : int, default=11, 5
        Odd numbers of points of the grid along each of them: ``angles · shifts²`` forward passes.
    seed : int, default=0
        Nothing is drawn.

    References
    ----------
    Engstrom et al., *Exploring the landscape of spatial robustness*, arXiv 1712.02779 [engstrom2019exploring]: the
    exhaustive search.

    Examples
    --------
    >>> from certimetric.deep import TargetEmbedding
    >>> upright = torch.eye(5)[2].expand(1, 1, 5, 5)
    >>> lying = TargetEmbedding(upright.mT.flatten(1))
    >>> found = SpatialAttack(90.0, angles=3, shifts=1)(torch.nn.Flatten(), upright, lying)
    >>> bool(torch.allclose(found, upright.mT, atol=1e-5))
    True
    """

    uses_gradients = False

    def __init__(self, degrees: float = 30.0, shift: float = 0.1, angles: int = 11, shifts: int = 5, *, seed: int = 0):
        super().__init__(Turns(degrees), seed=seed)
        at_least_one(angles=angles, shifts=shifts)
        for name, number in (("angles", angles), ("shifts", shifts)):
            require(number % 2 == 1, name, "must be odd, so that the picture as it is lies on the grid", number, self)
        require(0 <= shift < 1, "shift", "must be a share from 0 to 1", shift, self)
        self.shift, self.angles, self.shifts = shift, angles, shifts

    @property
    def _may_change(self) -> bool:
        return self.ball.eps > 0 or self.shift > 0

    @torch.no_grad()
    def _attack(self, x: Tensor, best: Best, generator: torch.Generator) -> None:
        images_only(self, x)
        turns, moves = (
            torch.linspace(-reach, reach, n).tolist() if n > 1 else [0.0]
            for reach, n in ((self.ball.eps, self.angles), (self.shift, self.shifts))
        )
        one = torch.ones(len(x), device=x.device)
        for degrees, right, down in product(turns, moves, moves):
            if degrees or right or down:
                best.end(warped(x, turn(degrees * one, right * one, down * one, x.shape)))
