"""What a search for the smallest perturbation gives: sizes, proofs, and witnesses that were checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from certimetric.base.arrays import Array, Indices
from certimetric.base.results import Framed, Told
from certimetric.certify.exact.dual_program import DualProgram
from certimetric.certify.radius import PredictedQueries
from certimetric.geometry.norms import Norm
from certimetric.geometry.threat_models import BoundThreat

PROVEN = 1e-6  # relative difference of radius and proven lower bound up to which a radius counts as proven
# Of a step, tried in turn until the prediction changes: the first is enough that it does not hang on the last digit.
_OVERSHOOT = (1e-8, 1e-7, 9e-7)


@dataclass(frozen=True, eq=False)
class MinimalPerturbation(Told, Framed):
    """The smallest change of each query that changes its prediction; unpacks as ``radii, witnesses``.

    Parameters
    ----------
    radii : array of shape (m,)
        Size of the smallest change found: the infimum over changes that lead to another prediction, a tie counting
        as a change. Never below ``lower``. 0 where the query is no farther from the boundary than the rounding of the
        distances that are compared; infinity where no change was found.
    witnesses : array of shape (m, d)
        The changed query, pushed on by at most 1e-6 of the change (and ``tolerance``) until ``predict`` gives another
        label; the query itself where there is none.
    lower : array of shape (m,)
        Proven lower bound, rounded down: no smaller change leads to another prediction. It rests on dual multipliers,
        and not on the witness or the solver.
    proven : bool array of shape (m,)
        Whether ``lower`` equals the radius up to 1e-6 of it, an infinite one included. So it is for 1-NN, unless
        rounding weighs more than that: very near the boundary, or in metrics that are ill-conditioned.
    verified : bool array of shape (m,)
        Whether ``predict`` gives another label (the wanted one) at the witness, which is no farther off than
        ``radii · (1 + 1e-6) + tolerance``. False where the change is a tie that no such push breaks: instances of two
        classes at the same place, say.
    tolerance : array of shape (m,)
        By how much rounding may force the witness beyond 1e-6 of the change: the size of a change that the distances
        compared and the numbers of the query cannot tell from none. 0 where 1e-6 was enough.

    Examples
    --------
    >>> from certimetric import CertifiedKNeighborsClassifier
    >>> knn = CertifiedKNeighborsClassifier(1).fit([[0.0], [4.0]], ["a", "b"])
    >>> found = knn.minimal_perturbation([[1.0]])
    >>> found.radii.round(6).tolist(), found.proven.tolist(), knn.predict(found.witnesses).tolist()
    ([1.0], [True], ['b'])
    """

    radii: Array
    witnesses: Array
    lower: Array
    proven: NDArray[np.bool_]
    verified: NDArray[np.bool_]
    tolerance: Array

    def __iter__(self) -> Iterator[Array]:
        yield self.radii
        yield self.witnesses

    def to_frame(self) -> pd.DataFrame:
        """One row a query: radius, proven lower bound, and the two flags."""
        return pd.DataFrame(
            {"radius": self.radii, "lower": self.lower, "proven": self.proven, "verified": self.verified}
        )


def is_proven(radii: Array, lower: Array) -> NDArray[np.bool_]:
    """Where a proven lower bound and a radius meet; an infinite radius is proven by nothing but an infinite bound."""
    return lower >= np.where(np.isinf(radii), radii, radii * (1.0 - PROVEN))


@dataclass(frozen=True, eq=False)
class Goal:
    """Where a change of a query has to lead: to another label, or to a wanted one, by changes that can be made.

    Parameters
    ----------
    program : DualProgram
    queries : PredictedQueries
    norm : Norm
    threat : BoundThreat, optional
        What can be changed.
    wanted : int array of shape (m,), optional
        Class codes; −1 for any but the predicted one.
    """

    program: DualProgram
    queries: PredictedQueries
    norm: Norm
    threat: BoundThreat | None = None
    wanted: Indices | None = None

    def reached(self, of: Indices, points: Array, limit: Array | float) -> tuple[Array, NDArray[np.bool_]]:
        """Points (c, d) for queries (c,), as near as the threat model allows, and which are of the right label and no
        farther off than a limit, (c,)."""
        queries = self.queries
        if self.threat is not None:
            points = self.threat.repair(queries.X[of], points)
        labels = queries.take(of).at(points)
        aims = np.full(len(of), -1) if self.wanted is None else self.wanted[of]
        right = np.where(aims < 0, labels != queries.predicted[of], labels == aims)
        return points, right & (self.norm.norm(points - queries.X[of]) <= limit)

    def grid(self, point: Array) -> float:
        """No witness is nearer to a point than the next number that a feature can hold."""
        felt = np.abs(self.program.lift).sum(axis=0) > 0
        return float(self.norm.norm(np.spacing(np.abs(point)) * felt))

    def is_reached(self, i: int, eta: Array, size: float, inside: Callable[[], tuple[Array, float]]) -> bool:
        """Whether a step of a query, of this size, or one a hair beyond it leads there."""
        x, change = self.queries.X[i], eta @ self.program.lift
        points = x + change * (1.0 + np.array((0.0, *_OVERSHOOT))[:, None])
        if self.reached(np.full(len(points), i), points, size * (1.0 + PROVEN))[1].any():
            return True
        inner, blur = inside()
        limit = size * (1.0 + PROVEN) + blur + self.grid(x + change)
        of = np.full(len(inner), i)
        return bool(len(inner) and self.reached(of, x + inner @ self.program.lift, limit)[1].any())


def find_witnesses(
    program: DualProgram,
    queries: PredictedQueries,
    norm: Norm,
    steps: Array,
    radii: Array,
    lower: Array,
    inside: Callable[[int], tuple[Array, float]],
    goal: Goal | None = None,
) -> MinimalPerturbation:
    """The result of a search: queries changed a little beyond the boundary, where ``predict`` gives another label.

    Parameters
    ----------
    program : DualProgram
    queries : PredictedQueries
    norm : Norm
    steps : array of shape (m, p)
        To the boundary, in the dual coordinates, of size ``radii``.
    radii, lower : array of shape (m,)
        Of which the first are infinite where there is no change.
    inside : function
        Gives, for a query, steps into the inside of the new region, shape (c, p), and how far beyond the radius
        rounding may force a witness to lie: asked only where a step that goes on straight does not change the
        prediction, because it ends at a corner, or on a boundary that rounding blurs.
    goal : Goal, optional
        Where a change has to lead; to another label, by any change, without it.
    """
    goal = Goal(program, queries, norm) if goal is None else goal
    X, lift, rows = queries.X, program.lift, np.flatnonzero(np.isfinite(radii))
    witnesses, verified, tolerance = X.copy(), np.zeros(len(X), dtype=bool), np.zeros(len(X))
    changes = steps @ lift
    witnesses[rows] += changes[rows]

    def offer(of: Indices, points: Array) -> None:
        points, good = goal.reached(of, points, radii[of] * (1.0 + PROVEN) + tolerance[of])
        # The first of several that are good for a query counts.
        found, first = np.unique(of[good], return_index=True)
        witnesses[found], verified[found] = points[good][first], True

    for overshoot in _OVERSHOOT:
        left = rows[~verified[rows]]
        if len(left):
            offer(left, X[left] + changes[left] * (1.0 + overshoot))
    for i in rows[~verified[rows]]:
        inner, blur = inside(i)
        tolerance[i] = blur + goal.grid(witnesses[i])
        if len(inner):
            offer(np.full(len(inner), i), X[i] + inner @ lift)
    return MinimalPerturbation(radii, witnesses, lower, is_proven(radii, lower), verified, tolerance)
