"""Regions of k-NN: the smallest step into the set of points where a group of opponents outvotes the predicted class.

A region is given by the instances that must be among the neighbours and those that must not: linear constraints, one
for each pair. Its nearest point is an upper bound on the minimal perturbation; the lower bounds of a branch and bound
search (:mod:`certimetric.certify.order_k`) are nearest points of larger regions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba as nb
import numpy as np
from numpy.typing import NDArray

from certimetric.certify.kernels import difference_norm
from certimetric.certify.least_norm import OPTIMAL, OVER_LIMIT, least_distance, least_norm_in_rounds, workspace
from certimetric.certify.minimal_kernels import primal_order
from certimetric.certify.nearest_flip import DualProgram
from certimetric.geometry.neighbors import squared_distance

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

_TIE = 1e-10  # difference of squared distances that counts as a tie, relative to a typical one
_ROUNDS = 6  # of local search
_REPLACEMENTS = 2  # nearby classmates tried in the place of a member of the group


@dataclass(frozen=True, eq=False)
class Step:
    """A step into a region.

    Parameters
    ----------
    eta : array of shape (p,)
        In the dual coordinates.
    size : float
    bound : float
        What the multipliers prove the smallest step into the region to be, but for rounding.
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
    exclude : int, default=-1
        Instance that the query does not see; −1 for none.
    box : pair (array of shape (b, p), array of shape (b,)), optional
        Further constraints ``A η ≥ b``, each row of dual norm 1: bounds of the features.
    """

    def __init__(
        self, program: DualProgram, point: Array, exclude: int = -1, box: tuple[Array, Array] | None = None
    ):
        self.program, self.box = program, box
        self.points, self.dual, self.y = program.data[0], program.dual, program.data[5]
        self.point, self.squared = point, _squared_distances(self.points, point)
        self.primal_order = primal_order(program.order)
        self.present = np.arange(len(self.y)) != exclude
        self.tie = _TIE * (1.0 + float(np.median(self.squared)))

    def scores(self, eta: Array) -> Array:
        """Squared distances of the moved query to all instances, up to a common constant."""
        return self.squared - 2.0 * (self.points @ (self.program.map @ eta))

    def step_into(
        self, inside: Indices, outside: Indices, limit: float = np.inf, margin: float = 0.0
    ) -> Step | float:
        """Smallest step after which all of ``inside`` are at least as near as all of ``outside``.

        With a ``margin``, every change of at most that size leaves it so.

        Returns
        -------
        step : Step, or float
            Where there is no such step smaller than ``limit``, the proven lower bound instead.
        """
        order = self.program.order
        rows, h, pairs, count = _pair_rows(
            self.points, self.point, self.squared, self.dual, inside, outside, limit + margin, order
        )
        if count < 0:
            return np.inf
        rows, h, pairs = rows[:count], h[:count] + margin, pairs[:count]
        if self.box is not None:
            rows, h = np.vstack([rows, self.box[0]]), np.append(h, self.box[1])
            pairs = np.vstack([pairs, np.full((len(self.box[1]), 2), -1)])
        if order == 2:
            p = rows.shape[1]
            eta, active, u = np.empty(p), np.empty(p + 1, dtype=np.int64), np.empty(p + 1)
            status, q = least_distance(rows, h, len(h), limit, eta, active, u, workspace(p))
            active, u = active[:q], u[:q]
            found = status == OPTIMAL
            if status not in (OPTIMAL, OVER_LIMIT) and not q:
                return np.inf
        else:
            solution, active, u = least_norm_in_rounds(rows, h, order, limit)
            found, eta = solution is not None, np.zeros(rows.shape[1]) if solution is None else solution
        pull = float(np.linalg.norm(rows[active].T @ u, order)) if len(active) else 0.0
        gain = float(h[active] @ u)
        bound = gain / pull if gain > 0 and pull > 0 else (np.inf if gain > 0 else 0.0)
        size = float(np.linalg.norm(eta, self.primal_order))
        if not found or size >= limit:
            return bound
        binding = pairs[active[u > 0]]
        return Step(eta, size, bound, binding[binding[:, 0] >= 0])

    def groups(self, predicted: int, k: int, n_groups: int) -> list[Indices]:
        """Each of the nearest opponents with its nearest classmates: enough for a majority of k votes."""
        others = np.flatnonzero((self.y != predicted) & self.present)
        near = others[np.argsort(self.squared[others], kind="stable")[:n_groups]]
        groups = []
        for opponent in near:
            mates = others[self.y[others] == self.y[opponent]]
            distances = _squared_distances(self.points[mates], self.points[opponent])
            group = np.sort(mates[np.argsort(distances, kind="stable")[: k // 2 + 1]])
            if not any(np.array_equal(group, other) for other in groups):
                groups.append(group)
        return groups

    def search(self, predicted: int, k: int, n_groups: int) -> list[tuple[Step, Indices]]:
        """Steps into regions where the group of an opponent outvotes the predicted class, smallest first, and the group.

        From each group: the instances of the predicted class that may stay among the neighbours are first the nearest,
        then those whose constraints bind; members of the group are exchanged likewise, as long as the step shrinks.
        """
        own = np.flatnonzero((self.y == predicted) & self.present)
        own = own[np.argsort(self.squared[own], kind="stable")]
        found: list[tuple[Step, Indices]] = []
        limit = np.inf
        for group in self.groups(predicted, k, n_groups):
            spared = own[: max(k - len(group), 0)]
            # A group may shrink a good deal by exchanges, but not from several times the best.
            step = self._region(group, spared, own, k, 3.0 * limit)
            if isinstance(step, float):
                continue
            if k > 1:
                group, step = self._exchange(group, spared, own, k, step)
            found.append((step, group))
            limit = min(limit, step.size)
        return sorted(found, key=lambda pair: pair[0].size)

    def _region(self, group: Indices, spared: Indices, own: Indices, k: int, limit: float) -> Step | float:
        """Step after which the group is nearer than all but ``spared`` of the predicted class, and among the k nearest."""
        step = self.step_into(group, own[~np.isin(own, spared)], limit)
        if isinstance(step, float):
            return step
        scores = self.scores(step.eta)
        reach = scores[group].max()
        before = np.flatnonzero(self.present & (scores < reach - self.tie))
        before = before[~np.isin(before, group)]
        room = k - len(group)
        if len(before) <= room or len(group) < k // 2 + 1:
            return step
        # Instances of third classes crowd the group out: they have to stay behind it too.
        spared = before[np.argsort(scores[before], kind="stable")[:room]]
        everything = np.flatnonzero(self.present)
        return self.step_into(group, everything[~np.isin(everything, np.append(group, spared))], limit)

    def _exchange(self, group: Indices, spared: Indices, own: Indices, k: int, step: Step) -> tuple[Indices, Step]:
        """Local search over regions that differ by one instance."""
        for _ in range(_ROUNDS):
            scores = self.scores(step.eta)
            mates = np.flatnonzero(self.y == self.y[group[0]])
            mates = mates[~np.isin(mates, group)]
            mates = mates[np.argsort(scores[mates], kind="stable")[:_REPLACEMENTS]]
            moves = []
            for j in np.unique(step.pairs[:, 1]):
                if self.y[j] == self.y[own[0]]:
                    moves += [(group, np.append(np.delete(spared, s), j)) for s in range(len(spared))]
            for member in np.unique(step.pairs[:, 0]):
                moves += [(np.append(group[group != member], mate), spared) for mate in mates]
            best = None
            for new_group, new_spared in moves:
                other = self._region(new_group, new_spared, own, k, step.size * (1.0 - 1e-9))
                if isinstance(other, Step):
                    step, best = other, (new_group, new_spared)
            if best is None:
                break
            group, spared = best
        return group, step


@nb.njit(cache=True, nogil=True)
def _squared_distances(points, point):
    out = np.empty(points.shape[0])
    for j in range(points.shape[0]):
        out[j] = squared_distance(points[j], point)
    return out


@nb.njit(cache=True, nogil=True)
def _pair_rows(points, point, squared, dual, inside, outside, limit, order):
    """Rows of dual norm 1 for every pair (inside, outside) that can bind within ``limit``; −1 if one cannot be met."""
    p = dual.shape[1]
    size = inside.shape[0] * outside.shape[0]
    rows, h = np.empty((size, p)), np.empty(size)
    pairs = np.empty((size, 2), dtype=np.int64)
    count = 0
    for l in inside:
        for j in outside:
            gap = squared[l] - squared[j]
            if abs(gap) < 1e-6 * (squared[l] + squared[j]):
                gap = 0.0
                for t in range(points.shape[1]):
                    gap += (points[l, t] - points[j, t]) * ((points[l, t] - point[t]) + (points[j, t] - point[t]))
            norm = 2.0 * difference_norm(dual[l], dual[j], order)
            if norm == 0.0:
                if gap > 1e-12 * (squared[l] + squared[j]):
                    return rows, h, pairs, -1
                continue
            if gap <= -limit * norm:
                continue
            for t in range(p):
                rows[count, t] = 2.0 * (dual[l, t] - dual[j, t]) / norm
            h[count] = gap / norm
            pairs[count, 0], pairs[count, 1] = l, j
            count += 1
    return rows, h, pairs, count
