"""Regions of k-NN: the smallest step into the set of points where a group of opponents outvotes the predicted class.

A region is given by the instances that must be among the neighbours and those that must not: linear constraints, one
for each pair. Its nearest point is an upper bound on the minimal perturbation; the lower bounds of a branch and bound
search (:mod:`certimetric.certify.exact.order_k`) are nearest points of larger regions.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass

import numba as nb
import numpy as np
from numpy.typing import NDArray

from certimetric.base.arrays import Array, Indices
from certimetric.certify.exact.dual_program import DualProgram
from certimetric.certify.exact.kernels import certified_combination, pair_row, primal_order
from certimetric.certify.exact.least_norm import solve_rows
from certimetric.certify.exact.limits import Limits
from certimetric.certify.kernels import rounding_of_distances
from certimetric.certify.radius import PredictedQueries
from certimetric.geometry.kernels import squared_distance

_TIE = 1e-8  # relative to a step: how much farther it would have to go for what still counts as a tie at its end
_ROUNDS = 6  # of local search
_POLISH = 1e-6  # relative slack within which the exact measure of a step is looked for
_REPLACEMENTS = 2  # nearby classmates tried in the place of a member of the group
_INSIDE = 4e-7  # of a step, by which it may grow to end inside of a region
_BLUR = 16.0  # times the rounding error of a boundary, within which a step across it may end


@dataclass(frozen=True, eq=False)
class Step:
    """A step into a region.

    Parameters
    ----------
    eta : array of shape (p,)
        In the dual coordinates.
    size : float
    bound : float
        What the multipliers prove the smallest step into the region to be at least.
    pairs : int array of shape (q, 2)
        Instances (inside, outside) whose constraint binds.
    """

    eta: Array
    size: float
    bound: float
    pairs: Indices


class Regions:
    """Regions around one query.

    Parameters
    ----------
    program : DualProgram
    point : array of shape (r,)
        The query in the coordinates of the metric.
    predicted : int
        Its class code.
    k : int
    error : float
        Bound on the rounding error of ``point``.
    exclude : int
        Instance that the query does not see; −1 for none.
    limits : Limits, optional
        What may change of the query.
    wanted : int, default=-1
        The class that is to win the vote; −1 for any but the predicted one.
    """

    def __init__(
        self,
        program: DualProgram,
        point: Array,
        predicted: int,
        k: int,
        error: float,
        exclude: int,
        limits: Limits | None = None,
        wanted: int = -1,
    ):
        self.program, self.predicted, self.k, self.error, self.limits = program, predicted, k, error, limits
        self.points, self.dual, self.y = program.data[0], program.dual, program.data[5]
        self.point, self.squared = point, _squared_distances(self.points, point)
        self.distance, self.offsets = np.sqrt(self.squared), self.points - point
        self.n_classes = program.reference.n_classes
        self.present = np.arange(len(self.y)) != exclude
        # Of the classes that must lose: the predicted one, or all but the wanted one; and the least of their codes.
        self.wanted = wanted
        self.own = (self.y == predicted if wanted < 0 else self.y != wanted) & self.present
        self.rival = predicted if wanted < 0 else int(wanted == 0)

    @classmethod
    def of(
        cls, program: DualProgram, queries: PredictedQueries, i: int, limits: Limits | None = None, wanted: int = -1
    ) -> Regions:
        """Regions around the i-th of some queries."""
        known = int(queries.predicted[i]), queries.k, queries.errors[i], int(queries.exclude[i])
        return cls(program, queries.points[i], *known, limits, wanted)

    def within(self, limits: Limits | None) -> Regions:
        """The same under other limits."""
        if limits is self.limits:
            return self
        other = copy(self)
        other.limits = limits
        return other

    def scores(self, eta: Array) -> Array:
        """Squared distances of the moved query to all instances, up to a common constant."""
        return self.squared - 2.0 * (self.offsets @ (self.program.map @ eta))

    def rounding(self, eta: Array) -> Array:
        """Bound on the rounding error of each of the scores."""
        reach = self.distance + float(np.linalg.norm(self.program.map @ eta))
        errors = self.error + self.program.data[1]
        return (rounding_of_distances(self.points.shape[1]) * reach + 2.0 * errors) * reach

    def neighbors(self, eta: Array, inside: Indices, out: NDArray[np.bool_] | None = None) -> Indices:
        """The k nearest after a step, given what must be among them and what must not."""
        scores = self.scores(eta)
        may = self.present.copy() if out is None else self.present & ~out
        may[inside] = False
        rest = np.flatnonzero(may)
        rest = rest[np.argsort(scores[rest], kind="stable")[: self.k - len(inside)]]
        return np.concatenate([inside, rest])

    def changed_neighbors(self, eta: Array, inside: Indices) -> Indices:
        """The k nearest after a step, ties decided so that the prediction changes where they can be."""
        neighbors = self.neighbors(eta, inside)
        if self.flips(neighbors):
            return neighbors
        scores, rounding = self.scores(eta), self.rounding(eta)
        last = neighbors[scores[neighbors].argmax()]
        size = float(np.linalg.norm(eta, primal_order(self.program.order)))
        apart = np.linalg.norm(self.dual - self.dual[last], self.program.order, axis=1)
        blur = rounding + rounding[last] + 2.0 * _TIE * size * apart
        sure = np.flatnonzero(self.present & (scores < scores[last] - blur))
        tied = np.flatnonzero(self.present & (np.abs(scores - scores[last]) <= blur))
        for label in np.unique(self.y[tied]):
            # This class first, the predicted one last.
            order = np.lexsort((scores[tied], self.own[tied], self.y[tied] != label))
            chosen = np.concatenate([sure, tied[order]])[: self.k]
            if self.flips(chosen):
                return chosen
        return neighbors

    def agrees(self, neighbors: Indices, eta: Array) -> bool:
        """Whether these are the k nearest after a step, ties decided in their favour."""
        scores, rounding = self.scores(eta), self.rounding(eta)
        surely, least = scores + rounding, scores[neighbors] - rounding[neighbors]
        before = self.present & (surely < least.max())
        before[neighbors] = False
        tie = 2.0 * _TIE * float(np.linalg.norm(eta, primal_order(self.program.order)))
        for j in np.flatnonzero(before):  # what comes before one of them must do so by no more than a tie
            worse = least > surely[j]
            apart = np.linalg.norm(self.dual[neighbors[worse]] - self.dual[j], self.program.order, axis=1)
            if (least[worse] > surely[j] + tie * apart).any():
                return False
        return True

    def flips(self, neighbors: Indices) -> bool:
        """Whether another class wins the vote of these instances, the first one where votes are equal; or the wanted
        one does."""
        winner = int(np.bincount(self.y[neighbors], minlength=self.n_classes).argmax())
        return winner != self.predicted if self.wanted < 0 else winner == self.wanted

    def step_into(
        self,
        inside: Indices,
        outside: Indices,
        limit: float = np.inf,
        *,
        margin: float = 0.0,
        order: float | None = None,
    ) -> Step | float:
        """Smallest step after which all of ``inside`` are at least as near as all of ``outside``.

        With a ``margin``, every change of at most that size leaves it so, limits aside. ``order=2`` asks for the
        smallest step in l2, which is found much sooner, whatever the norm is that steps are measured in.

        Returns
        -------
        step : Step, or float
            Where there is no such step smaller than ``limit``, the proven lower bound instead.
        """
        order = self.program.order if order is None else order
        reach = limit + margin if order == self.program.order else np.inf
        rows = self._rows(inside, outside, reach, order)
        if rows is None:
            return self._never(inside, outside)
        eta, active, u = solve_rows(rows.N, rows.h + margin * rows.of_pairs, rows.tolerance, order, limit)
        bound = self._proven(rows, active, u) if order == self.program.order and not margin else 0.0
        size = np.inf if eta is None else float(np.linalg.norm(eta, primal_order(self.program.order)))
        if eta is None or size >= limit:
            return bound
        binding = rows.pairs[active[u > 0]]
        return Step(eta, size, bound, binding[binding[:, 0] >= 0])

    def inner_steps(self, inside: Indices, outside: Indices, size: float) -> tuple[Array, float]:
        """Steps that end inside of a region, a little farther than its nearest point, which is ``size`` away.

        Returns
        -------
        steps : array of shape (c, p)
            One ends as far inside as a step that is longer by a share of 1e-6 can; others farther from every boundary
            than its rounding error.
        blur : float
            How much longer a step may have to be than ``size`` because rounding blurs the boundaries near its end.
        """
        order, p = self.program.order, self.dual.shape[1]
        rows = self._rows(inside, outside, np.inf, order)
        if rows is None or not len(rows.h):
            return np.empty((0, p)), 0.0
        eta, active, u = solve_rows(rows.N, rows.h, rows.tolerance, order, np.inf)
        if eta is None:
            return np.empty((0, p)), 0.0
        binds = rows.of_pairs & (rows.h - rows.N @ eta >= -rows.tolerance - 1e-9 * size)
        blur = _BLUR * float(rows.tolerance[binds].max(initial=0.0))
        # A margin of every boundary lengthens the step by the margin times the sum of the multipliers.
        pull = float(np.linalg.norm(rows.N[active].T @ u, order)) if len(u) else 0.0
        margin = _INSIDE * size * pull / float(u.sum()) if pull > 0 else 0.0
        steps = []
        # Limits are not given away: a feature at its bound stays there.
        allowed = np.where(rows.of_pairs, 0.0, rows.tolerance)
        for margins in (margin + np.zeros(len(rows.h)), 2.0 * rows.tolerance, 0.25 * rows.tolerance):
            inner, _, _ = solve_rows(rows.N, rows.h + margins * rows.of_pairs, allowed, order, np.inf)
            if inner is not None:
                steps.append(inner)
        return np.array(steps).reshape(-1, p), blur

    def _rows(self, inside: Indices, outside: Indices, limit: float, order: float) -> _Rows | None:
        """Constraints of a region, and of the limits, that can bind within ``limit``; None where one cannot be met."""
        N, h, tolerance, sizes, pairs, count = _pair_rows(
            self.point, self.error, self.distance, inside, outside, limit, self.program.data, order
        )
        if count < 0:
            return None
        rows = _Rows(N[:count], h[:count], tolerance[:count], sizes[:count], pairs[:count])
        if self.limits is None:
            return rows
        N, h, spread = self.limits.rows(order, limit)
        return _Rows(
            np.vstack([rows.N, N]),
            np.append(rows.h, h),
            np.append(rows.tolerance, np.full(len(h), 1e-13 * np.abs(h).max(initial=0.0))),
            np.append(rows.sizes, spread),
            np.vstack([rows.pairs, np.full((len(h), 2), -1)]),
        )

    def _proven(self, rows: _Rows, active: Indices, u: Array) -> float:
        """Lower bound on the size of a step into a region from multipliers of its rows, rounded down."""
        of, u = rows.of_pairs[active], np.maximum(u, 0.0)
        pairs, limits, mu = active[of], active[~of], u[~of]
        h = rows.h[limits]
        joined = mu @ rows.N[limits], float(mu @ h), float(mu @ np.abs(h)), float(mu @ rows.sizes[limits]), len(mu)
        return self._certified(rows.pairs[pairs], u[of] / rows.sizes[pairs], joined)

    def _never(self, inside: Indices, outside: Indices) -> float:
        """The same for a pair that no step brings together as far as rounding can tell: the best such pair."""
        bounds = [self._certified(np.array([[l, j]]), np.ones(1)) for l in inside for j in outside]
        return max(bounds, default=0.0)

    def _certified(
        self, pairs: Indices, weights: Array, limits: tuple[Array, float, float, float, int] | None = None
    ) -> float:
        data, order = self.program.data, self.program.order
        inside, outside = np.ascontiguousarray(pairs[:, 0]), np.ascontiguousarray(pairs[:, 1])
        limits = (np.zeros(self.dual.shape[1]), 0.0, 0.0, 0.0, 0) if limits is None else limits
        return float(certified_combination(inside, outside, weights, self.distance, self.error, data, order, limits))

    def least(self, inside: Indices, outside: Indices, limit: float) -> float:
        """A proven lower bound on the size of a step into a region within ``limit``, from the program in l2: its
        multipliers are multipliers of the same constraints in any norm, and are found much sooner."""
        rows = self._rows(inside, outside, limit, self.program.order)
        if rows is None:
            return self._never(inside, outside)
        sizes = np.linalg.norm(rows.N, axis=1)
        _, active, u = solve_rows(rows.N / sizes[:, None], rows.h / sizes, rows.tolerance / sizes, 2, np.inf)
        return self._proven(rows, active, u / sizes[active])

    def search(self, n_opponents: int) -> list[tuple[Step, Indices]]:
        """Steps after which the prediction is another one, smallest first, and the k nearest that each leads to.

        From each of the nearest opponents: its nearest classmates have to come in, the instances nearest to the query
        may stay as far as the vote allows. Then instances that bind are let in, and members of the group exchanged, as
        long as the step shrinks. Regions are compared by their smallest step in l2, and the best measured exactly.
        """
        starts = []
        for group, spared in self._groups(n_opponents):
            step = self._region(group, spared, np.inf, 2.0)
            if isinstance(step, Step):
                starts.append((step, group, spared))
        starts.sort(key=lambda start: start[0].size)
        ends: list[tuple[Step, Indices, Indices]] = []
        for step, group, spared in starts[:n_opponents]:
            # A step may shrink a good deal by exchanges, but not from several times the best.
            if ends and step.size > 3.0 * ends[0][0].size:
                break
            ends.append(self._exchange(step, group, spared, 2.0) if self.k > 1 else (step, group, spared))
            ends.sort(key=lambda end: end[0].size)
        if self.program.order != 2 and ends:
            measured = []
            for step, group, spared in ends:
                exact = self._region(group, spared, step.size * (1.0 + _POLISH), self.program.order)
                measured.append((exact if isinstance(exact, Step) else step, group, spared))
            ends = sorted(measured, key=lambda end: end[0].size)
            ends[0] = self._exchange(*ends[0], self.program.order) if self.k > 1 else ends[0]
        return [(step, self.changed_neighbors(step.eta, group)) for step, group, _ in ends]

    def inward(self, step: Step, neighbors: Indices, margin: float) -> Array:
        """Change of a step that leads into the region it touches, that where ``neighbors`` are the k nearest.

        Its end keeps a distance of ``margin`` times the step from every boundary. Zero if there is no inside.
        """
        inner = self.step_into(neighbors, self.rest(neighbors), margin=margin * step.size, order=2)
        return inner.eta - step.eta if isinstance(inner, Step) else np.zeros_like(step.eta)

    def rest(self, neighbors: Indices) -> Indices:
        """The instances that are not among these."""
        rest = self.present.copy()
        rest[neighbors] = False
        return np.flatnonzero(rest)

    def _groups(self, n_opponents: int) -> list[tuple[Indices, Indices]]:
        """Instances that come in, and instances that may stay: together k that outvote the predicted class."""
        others = np.flatnonzero(~self.own & self.present)
        order = np.flatnonzero(self.present)[np.argsort(self.squared[self.present], kind="stable")]
        own = order[self.own[order]]
        groups, seen = [], set()
        nearest = order[: self.k]
        last = nearest[self.own[nearest]][-1] if self.own[nearest].any() else -1
        kept = nearest[nearest != last]
        for opponent in others[np.argsort(self.squared[others], kind="stable")[:n_opponents]]:
            mates = others[self.y[others] == self.y[opponent]]
            mates = mates[np.argsort(_squared_distances(self.points[mates], self.points[opponent]), kind="stable")]
            if opponent not in nearest and self.flips(np.append(kept, opponent)):
                groups.append((np.array([opponent]), kept))  # the vote is so close that one exchange changes it
            for size in range(self.k // 2 + 1, 0, -1):
                group = mates[:size]
                key = tuple(sorted(group.tolist()))
                if len(group) < size or key in seen:
                    continue
                seen.add(key)
                places = self.k - size
                if size > places:
                    groups.append((group, own[:places]))
                    continue
                # Without a majority, other classes have to hold places that the predicted one must not have.
                spared = self._stay(order, group)
                if len(spared) == places:
                    groups.append((group, spared))
        return groups

    def _region(self, group: Indices, spared: Indices, limit: float, order: float) -> Step | float:
        """Step after which the group is nearer than all but ``spared`` of the predicted class, and the vote flips."""
        outside = self.own.copy()
        outside[spared] = False
        step = self.step_into(group, np.flatnonzero(outside), limit, order=order)
        if isinstance(step, float):
            return step
        neighbors = self.neighbors(step.eta, group)
        if self.flips(neighbors) and self.agrees(neighbors, step.eta):
            return step
        # Other instances crowd the group out: all but the nearest of them have to stay behind it.
        spared = self._stay(np.argsort(self.scores(step.eta), kind="stable"), group)
        if len(spared) < self.k - len(group):
            return np.inf
        outside = self.present.copy()
        outside[spared] = outside[group] = False
        return self.step_into(np.concatenate([group, spared]), np.flatnonzero(outside), limit, order=order)

    def _stay(self, order: Indices, group: Indices) -> Indices:
        """The first of ``order`` that may be neighbours beside the group: too few of the predicted class to win."""
        places, label = self.k - len(group), self.y[group[0]]
        allowed = len(group) if label < self.rival else len(group) - 1
        order = order[self.present[order]][: 4 * self.k]
        order = order[~np.isin(order, group)]
        return order[~self.own[order] | (np.cumsum(self.own[order]) <= allowed)][:places]

    def _exchange(self, step: Step, group: Indices, spared: Indices, order: float) -> tuple[Step, Indices, Indices]:
        """Local search over regions that differ by one instance."""
        for _ in range(_ROUNDS):
            scores = self.scores(step.eta)
            mates = np.flatnonzero((self.y == self.y[group[0]]) & self.present)
            mates = mates[~np.isin(mates, group)]
            mates = mates[np.argsort(scores[mates], kind="stable")[:_REPLACEMENTS]]
            moves = []
            for j in np.unique(step.pairs[:, 1]):
                if self.own[j]:
                    kept = [s for s in range(len(spared)) if self.own[spared[s]]]
                    moves += [(group, np.append(np.delete(spared, s), j)) for s in kept]
            for member in np.unique(step.pairs[:, 0]):
                if member in group:
                    moves += [(np.append(group[group != member], mate), spared[spared != mate]) for mate in mates]
            improved = False
            for new_group, new_spared in moves:
                other = self._region(new_group, new_spared, step.size * (1.0 - 1e-9), order)
                if isinstance(other, Step):
                    step, group, spared, improved = other, new_group, new_spared, True
            if not improved:
                break
        return step, group, spared


@dataclass(frozen=True, eq=False)
class _Rows:
    """Constraints ``N η ≥ h`` with rows of dual norm 1: what each may be violated by, its norm before, its pair.

    Of limits the pair is (−1, −1), and in place of the norm there is the share of the row in what rounding does to it.
    """

    N: Array
    h: Array
    tolerance: Array
    sizes: Array
    pairs: Indices

    @property
    def of_pairs(self) -> NDArray[np.bool_]:
        """Which are no limits."""
        return self.pairs[:, 0] >= 0


@nb.njit(cache=True, nogil=True)
def _squared_distances(points, point):
    out = np.empty(points.shape[0])
    for j in range(points.shape[0]):
        out[j] = squared_distance(points[j], point)
    return out


@nb.njit(cache=True, nogil=True)
def _pair_rows(point, error, distance, inside, outside, limit, data, order):
    """Rows of dual norm 1 for every pair (inside, outside) that can bind within ``limit``; −1 if one cannot be met.

    With them their right-hand sides, the rounding errors of these, the norms that rows were divided by, and the pairs.
    """
    p, size = data[3].shape[1], inside.shape[0] * outside.shape[0]
    rows, h, tolerance, sizes = np.empty((size, p)), np.empty(size), np.empty(size), np.empty(size)
    pairs = np.empty((size, 2), dtype=np.int64)
    m = 0
    for l in inside:
        for j in outside:
            use, h[m], tolerance[m], sizes[m] = pair_row(point, l, j, error, limit, data, order, distance, rows, m)
            if use < 0:
                return rows, h, tolerance, sizes, pairs, -1
            pairs[m, 0], pairs[m, 1] = l, j
            m += use
    return rows, h, tolerance, sizes, pairs, m
