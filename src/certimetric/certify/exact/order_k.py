"""Exact minimal perturbation of k-NN predictions: branch and bound over the sets of k nearest neighbours, and over the
values of whole features."""

from __future__ import annotations

import heapq
import itertools
import time
from dataclasses import dataclass, replace

import numba as nb
import numpy as np

from certimetric.base.arguments import ArgumentError
from certimetric.base.arrays import Array, Indices
from certimetric.certify.exact.dual_program import DualProgram
from certimetric.certify.exact.kernels import primal_order
from certimetric.certify.exact.limits import Limits
from certimetric.certify.exact.regions import Regions, Step
from certimetric.certify.exact.witnesses import Goal, MinimalPerturbation, find_witnesses
from certimetric.certify.kernels import gap_over_dual, rounding_of_distances, widened
from certimetric.certify.radius import PredictedQueries, radii_of
from certimetric.geometry.kernels import insert_smallest
from certimetric.geometry.norms import Norm
from certimetric.geometry.threat_models import BoundThreat

_BELOW = 1.0 - 1e-12  # times a size that is computed, so that the size itself is not less
N_OPPONENTS = 8  # opponents from which the first upper bound is looked for


@dataclass(frozen=True, eq=False)
class _Node:
    """All sets of k neighbours that contain ``inside`` and avoid ``outside``, after changes within ``limits``."""

    inside: tuple[int, ...]
    outside: tuple[int, ...]
    limits: Limits | None


def nearest_flips_of_votes(
    queries: PredictedQueries,
    norm: Norm,
    time_limit: float,
    node_limit: float = np.inf,
    threat: BoundThreat | None = None,
    wanted: Indices | None = None,
    eps: float = np.inf,
) -> MinimalPerturbation:
    """Minimal perturbation of the k-NN predictions of queries, each within so many seconds and nodes.

    Changes beyond ``eps``, in units of the norm, do not count. See
    :func:`certimetric.certify.exact.minimal.smallest_changes` for the others.
    """
    if queries.reference.by_distance and queries.k > 1:
        needed = "must be 'uniform' for the smallest changes of predictions by several neighbours"
        raise ArgumentError("weights", needed, "distance")
    limited = threat is not None and threat.limited
    program = DualProgram(queries.reference, norm, limited)
    limits = Limits.of(program, threat, queries.X) if threat is not None and limited else [None] * len(queries.X)
    aims = np.full(len(queries.X), -1) if wanted is None else wanted
    goal = Goal(program, queries, norm, threat, wanted)
    strict = wanted is not None or (threat is not None and threat.discrete)
    lower = radii_of(queries, norm)
    radii, steps, ends = np.full(len(lower), np.inf), np.zeros((len(lower), program.dual.shape[1])), {}
    done = queries.predicted == aims
    radii[done] = lower[done] = 0.0
    for i in np.flatnonzero(np.isfinite(lower) & ~done).tolist():
        within = limits[i]
        search = _Search(Regions.of(program, queries, i, within, int(aims[i])), goal if strict else None, i, eps)
        lower[i] = max(lower[i], search.run(time_limit, node_limit))
        if search.best is not None:
            step = search.best if strict else search.measured()
            radii[i], steps[i] = max(step.size, lower[i]), step.eta
            ends[i] = search.end, search.neighbors
        elif within is not None and lower[i] > within.reach(norm):
            lower[i] = np.inf  # nothing is as far away as that

    def inside(i: int) -> tuple[Array, float]:
        regions, neighbors = ends[i]
        return regions.inner_steps(neighbors, regions.rest(neighbors), float(radii[i]))

    return find_witnesses(program, queries, norm, steps, radii, lower, inside, goal)


class _Search:
    """Best-first branch and bound for one query.

    A node is relaxed to "every instance of ``inside`` is at least as near as every one of ``outside``". Where the
    solution's own k nearest agree with the node and outvote the predicted class, the relaxation is the minimum of
    the node. Where they do not agree, the nearest instance in the way is put inside or outside; where the predicted
    class still wins, one more opponent has to come in. Where a whole feature is none after the step, it is so below or
    above. With a ``goal``, what is found has to reach it as the i-th query.
    """

    def __init__(self, regions: Regions, goal: Goal | None = None, i: int = 0, limit: float = np.inf):
        self.regions, self.k, self.y = regions, regions.k, regions.y
        self.goal, self.i, self.limit, self.end = goal, i, limit, regions
        self.best: Step | None = None
        self.settled = np.inf  # least proven bound of the nodes that need not be looked into any further
        self.neighbors = np.array([], dtype=np.int64)  # the k nearest that the best step leads to
        self.n_rivals = len(np.unique(self.y[regions.own]))

    @property
    def radius(self) -> float:
        """Size of the smallest step found; the largest that counts where there is none."""
        return self.best.size if self.best is not None else self.limit

    def run(self, time_limit: float, node_limit: float) -> float:
        """Search; gives the proven lower bound: the least over all nodes that were settled, given up or not reached.

        It is made of bounds that multipliers prove, never of the size of a step that was found: where the search came
        to its end the two agree, but for rounding.
        """
        end = time.monotonic() + time_limit
        for step, neighbors in self.regions.search(N_OPPONENTS):
            if self.regions.flips(neighbors) and step.size < self.radius:
                self._complete(_Node((), (), self.regions.limits), step, neighbors, 0.0)
        regions = self.regions
        self.settled = np.inf
        none = np.array([], dtype=np.int64)
        self.bounds = _opponent_bounds(
            regions.distance,
            regions.error,
            regions.own,
            regions.present,
            self._spare(none, self.k) + 1,
            self.radius,
            regions.program.data,
            regions.program.order,
        )
        ticket = itertools.count()
        heap: list[tuple[float, int, _Node]] = [(0.0, next(ticket), _Node((), (), regions.limits))]
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
        regions, own, present = self.regions.within(node.limits), self.regions.own, self.regions.present
        if node.limits is not None and node.limits.empty:
            return []
        inside, free = np.array(node.inside, dtype=np.int64), self.k - len(node.inside)
        out = np.zeros(len(self.y), dtype=bool)
        out[list(node.outside)] = True
        spare = self._spare(inside, free)
        if spare < 0:
            return []
        if spare == 0:
            out |= own
        if free == 0 and self.k > 1:  # of one neighbour it does not matter which of the others is the next
            out |= present
        out[inside] = False
        if len(inside) or (node.limits is not None and not node.limits.hold_already):
            if regions.program.order != 2:
                lower = max(lower, regions.least(inside, np.flatnonzero(out), self.radius))
                if lower >= self.radius:
                    return self._settle(lower)
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
            return self._complete(node, step, actual, lower)
        open_ = present & ~out
        open_[inside] = False
        if not agrees:
            # Decide about one instance in the way: one that comes before the worst of ``inside``, the predicted class
            # first; or else the nearest that fills a place although something outside comes before it.
            if free == 0:
                # All neighbours are given, and still the end of the step is not told to have them: rounding.
                return self._complete(node, step, inside, lower) if regions.flips(inside) else self._settle(lower)
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
            return self._in_or_out(node, j, lower)
        candidates = np.flatnonzero(open_ & ~own & (self.bounds < self.radius))
        if regions.wanted < 0 or self.n_rivals == 1:
            # The predicted class still wins: a change needs an opponent that is not among these neighbours.
            candidates = candidates[~np.isin(candidates, neighbors)]
        elif (self.y[inside] == regions.wanted).sum() >= self.k - self._spare(inside[:0], self.k):
            # Enough for some vote of the others, but not for this one: one of these stays or goes.
            loose = neighbors[len(inside) :]
            return self._in_or_out(node, int((loose[own[loose]] if own[loose].any() else loose)[0]), lower)
        candidates = candidates[np.argsort(self.bounds[candidates], kind="stable")]
        children = []
        for position, l in enumerate(candidates):
            before = candidates[:position].tolist() if self.k > 1 else []
            child = _Node((*node.inside, int(l)), (*node.outside, *before), node.limits)
            children.append((max(lower, float(self.bounds[l])), child))
        return children

    def _in_or_out(self, node: _Node, j: int, lower: float) -> list[tuple[float, _Node]]:
        inside, outside = (*node.inside, j), (*node.outside, j)
        return [(lower, _Node(node.inside, outside, node.limits)), (lower, _Node(inside, node.outside, node.limits))]

    def _complete(self, node: _Node, step: Step, neighbors: Indices, lower: float) -> list[tuple[float, _Node]]:
        """Take a step whose end has these neighbours; where whole features are none there, round them, and branch."""
        limits = node.limits
        if limits is None or not len(limits.whole):
            self._accept(step, neighbors, limits)
            return self._settle(lower)
        values = limits.values(step.eta)
        broken = limits.broken(values)
        taken = self._round(neighbors, values, limits)
        if broken is not None:
            parts = limits.tightened(*broken)
        elif (left := limits.undecided) is None and limits.all_whole:
            # The one point that is left was asked, or is no nearer than another.
            return self._settle(max(lower, self.radius * _BELOW))
        elif taken or left is None:
            return self._settle(lower)
        else:  # the end of the step is a tie, or another one that does not reach the goal: look around it
            parts = limits.around(left, values[left])
        return [(lower, replace(node, limits=part)) for part in parts]

    def _round(self, neighbors: Indices, values: Array, limits: Limits) -> bool:
        """Take the smallest step to whole features as near as that to some values, if it leads to the goal; whether it
        does."""
        assert self.goal is not None and self.goal.threat is not None
        values = self.goal.threat.repair(limits.x[None], values[None])[0]
        fixed = limits.fixed(values)
        if limits.all_whole:
            eta = limits.step_to(values)
            size = float(np.linalg.norm(eta, primal_order(self.regions.program.order)))
            step: Step | float = Step(eta, size, 0.0, np.empty((0, 2), dtype=np.int64))
        else:
            regions = self.regions.within(fixed)
            step = regions.step_into(neighbors, regions.rest(neighbors), self.radius)
        if isinstance(step, float):
            return False
        return self._accept(step, self.regions.changed_neighbors(step.eta, neighbors[:0]), fixed)

    def _spare(self, inside: Indices, free: int) -> int:
        """How many more of the classes that must lose the k nearest may hold while another one wins; −1 for no way."""
        predicted, wanted = self.regions.predicted, self.regions.wanted
        counts = np.bincount(self.y[inside], minlength=self.regions.n_classes)
        if wanted >= 0:
            for extra in range(free, -1, -1):
                # Each of the others has room for what the wanted class has, less one where it stands before it.
                most = counts[wanted] + free - extra - (np.arange(len(counts)) < wanted)
                room = np.delete(most - counts, wanted)
                if (room >= 0).all() and room.sum() >= extra:
                    return extra
            return -1
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
        return self._whole(self.end, self.best, self.neighbors)

    def _whole(self, end: Regions, step: Step, neighbors: Indices) -> Step:
        whole = end.step_into(neighbors, end.rest(neighbors))
        return whole if isinstance(whole, Step) else step

    def _accept(self, step: Step, neighbors: Indices, limits: Limits | None) -> bool:
        if not step.size < self.radius:
            return False
        end = self.regions.within(limits)
        if self.goal is not None:
            one_point = limits is not None and limits.all_whole
            step = step if one_point else self._whole(end, step, neighbors)

            def inside() -> tuple[Array, float]:
                if one_point:
                    return np.empty((0, len(step.eta))), 0.0
                return end.inner_steps(neighbors, end.rest(neighbors), step.size)

            if not (step.size < self.radius and self.goal.is_reached(self.i, step.eta, step.size, inside)):
                return False
        self.best, self.neighbors, self.end = step, neighbors, end
        return True


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
