"""What may change of one query, as constraints on a step: bounds, directions, whole numbers, groups of one 1."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import issparse

from certimetric.base.arrays import Array, Indices
from certimetric.certify.exact.dual_program import DualProgram
from certimetric.geometry.norms import Norm
from certimetric.geometry.threat_models import BoundThreat

_WHOLE = 1e-6  # distance from a whole number that still counts as one


@dataclass(frozen=True, eq=False)
class Limits:
    """Linear limits ``low ≤ V η ≤ high`` of a step η, some of which a search for whole numbers tightens.

    Parameters
    ----------
    V : array of shape (d + g, p)
        What a step changes each feature by, and the sum over each one-hot group.
    low, high : array of shape (d + g,)
        Infinite where there is no limit.
    x : array of shape (d,)
        The query.
    whole : int array
        Features that take separate values only.
    free : int array
        All features that can change.
    spread : array of shape (d + g,)
        Over the norm of each row of V, what rounding made of it may be measured by: 1, but for sums.
    """

    V: Array
    low: Array
    high: Array
    x: Array
    whole: Indices
    free: Indices
    spread: Array

    @classmethod
    def of(cls, program: DualProgram, threat: BoundThreat, X: Array) -> list[Limits]:
        """Limits of the changes of each instance, for a program with a coordinate for each feature that can change."""
        lift = program.lift.toarray() if issparse(program.lift) else program.lift
        groups = [group for group in threat.one_hot if threat.mutable[group].all()]
        sums = [lift[:, group].sum(axis=1) for group in groups]
        V = np.vstack([lift.T, *sums])
        sizes = np.linalg.norm(lift, axis=0)
        spread = np.ones(len(V))
        for place, group in enumerate(groups, start=len(lift.T)):
            spread[place] = len(group) * sizes[group].sum() / np.linalg.norm(V[place])
        whole = np.flatnonzero(threat.whole)
        lows, highs = (np.where(threat.mutable, limit - X, side) for limit, side in zip(threat.limits(X), _NO_LIMITS))
        members = np.concatenate(groups) if groups else np.array([], dtype=np.int64)
        lows[:, members], highs[:, members] = 0.0 - X[:, members], 1.0 - X[:, members]
        rests = np.array([1.0 - X[:, group].sum(axis=1) for group in groups]).reshape(len(groups), len(X)).T
        free = np.flatnonzero(threat.mutable)
        return [
            cls(V, np.append(low, rest), np.append(high, rest), x, whole, free, spread)
            for low, high, rest, x in zip(lows, highs, rests, X)
        ]

    def rows(self, order: float, limit: float) -> tuple[Array, Array, Array]:
        """Constraints ``N η ≥ h`` that can bind within ``limit``, rows of norm 1 of an order, and their spread."""
        sizes = np.linalg.norm(self.V, order, axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            below, above = self.low / sizes, -self.high / sizes
        felt = sizes > 0
        lower, upper = (np.flatnonzero(felt & (h > -limit) & np.isfinite(h)) for h in (below, above))
        N = np.vstack([self.V[lower] / sizes[lower, None], -self.V[upper] / sizes[upper, None]])
        return N, np.append(below[lower], above[upper]), np.append(self.spread[lower], self.spread[upper])

    @property
    def empty(self) -> bool:
        """Whether no step is within the limits, for the reason that two of the same row contradict each other."""
        return bool((self.low > self.high).any())

    @property
    def hold_already(self) -> bool:
        """Whether the query is within the limits as it is."""
        return bool((self.low <= 0.0).all() and (self.high >= 0.0).all())

    def tightened(self, feature: int, value: float) -> tuple[Limits, Limits]:
        """The limits with a whole feature below a value that is not whole, and above it."""
        high, low = self.high.copy(), self.low.copy()
        high[feature] = np.floor(value) - self.x[feature]
        low[feature] = np.ceil(value) - self.x[feature]
        return replace(self, high=high), replace(self, low=low)

    @property
    def all_whole(self) -> bool:
        """Whether every feature that can change takes separate values only."""
        return len(self.whole) == len(self.free)

    @property
    def undecided(self) -> int | None:
        """A whole feature that can have more than one value; None where there is none."""
        loose = self.whole[self.high[self.whole] - self.low[self.whole] > 0.5]
        return int(loose[0]) if len(loose) else None

    def around(self, feature: int, value: float) -> list[Limits]:
        """The limits with a whole feature at a whole value, below it, and above it."""
        at = np.round(value) - self.x[feature]
        parts = []
        for low, high in ((at, at), (self.low[feature], at - 1.0), (at + 1.0, self.high[feature])):
            part = replace(self, low=self.low.copy(), high=self.high.copy())
            part.low[feature], part.high[feature] = low, high
            parts.append(part)
        return parts

    def fixed(self, values: Array) -> Limits:
        """The limits with every whole feature at its value in ``values``, (d,)."""
        low, high = self.low.copy(), self.high.copy()
        low[self.whole] = high[self.whole] = values[self.whole] - self.x[self.whole]
        return replace(self, low=low, high=high)

    def values(self, eta: Array) -> Array:
        """The query after a step, (d,)."""
        return self.x + self.V[: len(self.x)] @ eta

    def broken(self, values: Array) -> tuple[int, float] | None:
        """The whole feature whose value is farthest from a whole number, and the value; None where all are whole."""
        at = values[self.whole]
        off = np.abs(at - np.round(at))
        worst = int(off.argmax()) if len(off) else -1
        return (int(self.whole[worst]), float(at[worst])) if worst >= 0 and off[worst] > _WHOLE else None

    def step_to(self, values: Array) -> Array:
        """The step that leads to values, (d,), which differ from the query in features that can change."""
        return np.asarray(np.linalg.solve(self.V[self.free], (values - self.x)[self.free]))

    def reach(self, norm: Norm) -> float:
        """An upper bound on the size of a change within the limits, infinite where it is not known."""
        if not norm.diagonal:
            return np.inf
        d = len(self.x)
        farthest = np.zeros(d)
        farthest[self.free] = np.maximum(-self.low[:d], self.high[:d])[self.free]
        return float(norm.norm(farthest)) * (1.0 + 1e-9) if np.isfinite(farthest).all() else np.inf


_NO_LIMITS = (-np.inf, np.inf)
