"""Exact minimal perturbation of k-NN predictions, k > 1: branch and bound over the sets of k nearest neighbours."""

from __future__ import annotations

import heapq
import itertools
import time
from dataclasses import dataclass

import numba as nb
import numpy as np

from certimetric.base.arrays import Array, Indices
from certimetric.certify.exact.dual_program import DualProgram
from certimetric.certify.exact.regions import Regions, Step
from certimetric.certify.exact.witnesses import MinimalPerturbation, find_witnesses
from certimetric.certify.kernels import gap_over_dual, rounding_of_distances, widened
from certimetric.certify.radius import PredictedQueries, radii_of
from certimetric.geometry.kernels import insert_smallest
from certimetric.geometry.norms import Norm

N_OPPONENTS = 8  # opponents from which the first upper bound is looked for


@dataclass(frozen=True, eq=False)
class _Node:
    """All sets of k neighbours that contain ``inside`` and avoid ``outside``."""

    inside: tuple[int, ...]
    outside: tuple[int, ...]


def nearest_flips_of_votes(
    queries: PredictedQueries, norm: Norm, time_limit: float, node_limit: float = np.inf
) -> MinimalPerturbation:
    """Minimal perturbation of the k-NN predictions of queries, each within so many seconds and nodes."""
    program = DualProgram(queries.reference, norm)
    lower = radii_of(queries, norm)
    radii, steps, ends = np.full(len(lower), np.inf), np.zeros((len(lower), program.dual.shape[1])), {}
    for i in np.flatnonzero(np.isfinite(lower)).tolist():
        search = _Search(Regions.of(program, queries, i))
        lower[i] = max(lower[i], search.run(time_limit, node_limit))
        if search.best is not None:
            step = search.measured()
            radii[i], steps[i] = max(step.size, lower[i]), step.eta
            ends[i] = search.regions, search.neighbors

    def inside(i: int) -> tuple[Array, float]:
        regions, neighbors = ends[i]
        return regions.inner_steps(neighbors, regions.rest(neighbors), float(radii[i]))

    return find_witnesses(program, queries, norm, steps, radii, lower, inside)


class _Search:
    """Best-first branch and bound for one query.

    A node is relaxed to "every instance of ``inside`` is at least as near as every one of ``outside``". Where the
    solution's own k nearest agree with the node and outvote the predicted class, the relaxation is the minimum of
    the node. Where they do not agree, the nearest instance in the way is put inside or outside; where the predicted
    class still wins, one more opponent has to come in.
    """

    def __init__(self, regions: Regions):
        self.regions, self.k, self.y = regions, regions.k, regions.y
        self.best: Step | None = None
        self.settled = np.inf  # least proven bound of the nodes that need not be looked into any further
        self.neighbors = np.array([], dtype=np.int64)  # the k nearest that the best step leads to

    @property
    def radius(self) -> float:
        """Size of the smallest step found."""
        return self.best.size if self.best is not None else np.inf

    def run(self, time_limit: float, node_limit: float) -> float:
        """Search; gives the proven lower bound: the least over all nodes that were settled, given up or not reached.

        It is made of bounds that multipliers prove, never of the size of a step that was found: where the search came
        to its end the two agree, but for rounding.
        """
        end = time.monotonic() + time_limit
        for step, neighbors in self.regions.search(N_OPPONENTS):
            if self.regions.flips(neighbors):
                self._accept(step, neighbors)
        regions = self.regions
        self.bounds = _opponent_bounds(
            regions.distance,
            regions.error,
            regions.own,
            regions.present,
            self.k // 2 + 1,
            self.radius,
            regions.program.data,
            regions.program.order,
        )
        ticket = itertools.count()
        heap: list[tuple[float, int, _Node]] = [(0.0, next(ticket), _Node((), ()))]
        for visited in itertools.count():
            if not heap:
                break
            lower, _, node = heapq.heappop(heap)
            if lower >= self.radius:
                break
            if visited >= node_limit or time.monotonic() > end:
                return min(lower, self.settled)
            for bound, child in self._branch(node, lower):
                if bound < self.radius:
                    heapq.heappush(heap, (bound, next(ticket), child))
        return min(self.radius, self.settled)

    def _branch(self, node: _Node, lower: float) -> list[tuple[float, _Node]]:
        """Solve the relaxation of a node; give the bounds of its children and the children, none if it is settled."""
        regions, own, present = self.regions, self.regions.own, self.regions.present
        inside, free = np.array(node.inside, dtype=np.int64), self.k - len(node.inside)
        out = np.zeros(len(self.y), dtype=bool)
        out[list(node.outside)] = True
        spare = self._spare(inside, free)
        if spare < 0:
            return []
        if spare == 0:
            out |= own
        if free == 0:
            out |= present
        out[inside] = False
        if len(inside):
            solved = regions.step_into(inside, np.flatnonzero(out), self.radius)
            if isinstance(solved, float):
                # Beyond the best step, or so says the solver: what is proven is said by the bound.
                return self._settle(max(lower, solved))
            step, lower = solved, max(lower, solved.bound)
        else:
            p = regions.program.dual.shape[1]
            step = Step(np.zeros(p), 0.0, 0.0, np.empty((0, 2), dtype=np.int64))
        neighbors = regions.neighbors(step.eta, inside, out)
        if len(neighbors) < self.k:
            return []  # too many are outside
        agrees = regions.agrees(neighbors, step.eta)
        actual = neighbors if agrees else regions.neighbors(step.eta, inside[:0])
        if regions.flips(actual):
            self._accept(step, actual)
            return self._settle(lower)
        open_ = present & ~out
        open_[inside] = False
        if not agrees:
            # Decide about one instance in the way: one that comes before the worst of ``inside``, the predicted class
            # first; or else the nearest that fills a place although something outside comes before it.
            if free == 0:
                # All neighbours are given, and still the end of the step is not told to have them: rounding.
                if regions.flips(inside):
                    self._accept(step, inside)
                return self._settle(lower)
            scores, rounding = regions.scores(step.eta), regions.rounding(step.eta)
            before = open_ & (scores + rounding < (scores[inside] - rounding[inside]).max(initial=-np.inf))
            before = np.flatnonzero(before)
            if len(before) > free:
                before = before[own[before]] if own[before].any() else before
                j = int(before[scores[before].argmin()])
            else:
                first = scores[present & out].min(initial=np.inf)
                filling = neighbors[len(inside) :]
                j = int(next((u for u in filling if scores[u] > first), filling[0]))
            return [
                (lower, _Node(node.inside, (*node.outside, j))),
                (lower, _Node((*node.inside, j), node.outside)),
            ]
        # The predicted class still wins: a change needs an opponent that is not among these neighbours.
        candidates = np.flatnonzero(open_ & ~own & (self.bounds < self.radius))
        candidates = candidates[~np.isin(candidates, neighbors)]
        candidates = candidates[np.argsort(self.bounds[candidates], kind="stable")]
        children = []
        for position, l in enumerate(candidates):
            outside = (*node.outside, *(int(c) for c in candidates[:position]))
            children.append((max(lower, float(self.bounds[l])), _Node((*node.inside, int(l)), outside)))
        return children

    def _spare(self, inside: Indices, free: int) -> int:
        """How many more of the predicted class the k nearest may hold while another one wins; −1 for no way."""
        predicted = self.regions.predicted
        counts = np.bincount(self.y[inside], minlength=self.regions.n_classes)
        own = counts[predicted]
        for extra in range(free, -1, -1):
            reachable = counts + (free - extra)
            reachable[predicted] = own + extra
            if reachable.argmax() != predicted:
                return extra
        return -1

    def _settle(self, bound: float) -> list[tuple[float, _Node]]:
        self.settled = min(self.settled, bound)
        return []

    def measured(self) -> Step:
        """The best step, measured against all instances at once: its own program may have left out some that tie."""
        assert self.best is not None
        whole = self.regions.step_into(self.neighbors, self.regions.rest(self.neighbors))
        return whole if isinstance(whole, Step) else self.best

    def _accept(self, step: Step, neighbors: Indices) -> None:
        if step.size < self.radius:
            self.best, self.neighbors = step, neighbors


@nb.njit(cache=True, nogil=True)
def _opponent_bounds(distance, error, own, present, a, upper, data, order):
    """Lower bound of each opponent: the a-th largest e(l, j) over the predicted class; infinity from ``upper`` on."""
    points, train_errors, _, dual, dual_errors, _, growth = data
    relative = rounding_of_distances(points.shape[1])
    rounding = (error, growth[0], growth[1], relative)
    bounds = np.full(distance.shape[0], np.inf)
    inner, inner_own = np.empty(a), np.empty(a, dtype=np.int64)  # minus the largest e(l, j)
    for l in range(distance.shape[0]):
        if own[l] or not present[l]:
            continue
        below, beyond = widened(distance[l], train_errors[l], error, relative)
        filled = 0
        discarded = False
        for j in range(distance.shape[0]):
            if own[j]:
                above = widened(distance[j], train_errors[j], error, relative)[1]
                value = gap_over_dual(below, beyond, above, l, j, dual, dual_errors, order, rounding)
                filled = insert_smallest(inner, inner_own, filled, a, -value, j)
                if filled == a and -inner[a - 1] >= upper:
                    discarded = True
                    break
        if not discarded:
            bounds[l] = -inner[a - 1] if filled == a else 0.0
    return bounds
