"""Exact minimal perturbation of k-NN predictions, k > 1: branch and bound over the sets of k nearest neighbours."""

from __future__ import annotations

import heapq
import itertools
import time
from dataclasses import dataclass

import numba as nb
import numpy as np
from numpy.typing import NDArray

from certimetric.certify.kernels import gap_over_dual, insert_largest, rounding_of_distances
from certimetric.certify.nearest_flip import DualProgram
from certimetric.certify.radius import bound_radii
from certimetric.certify.reference import ReferenceSet
from certimetric.certify.regions import Regions, Step
from certimetric.certify.witnesses import PROVEN, MinimalPerturbation, push_outward
from certimetric.geometry.neighbors import DEFAULT_MEMORY
from certimetric.geometry.norms import Norm

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

N_OPPONENTS = 8  # opponents from which the first upper bound is looked for
_ROUNDING = 1e-9  # by which a proven bound may miss the best step because of rounding, relative


@dataclass(frozen=True, eq=False)
class _Node:
    """All sets of k neighbours that contain ``inside`` and avoid ``outside``."""

    inside: tuple[int, ...]
    outside: tuple[int, ...]


def nearest_flips_of_votes(
    reference: ReferenceSet,
    X: Array,
    k: int,
    norm: Norm,
    *,
    time_limit: float,
    node_limit: float = np.inf,
    exclude: Indices | None = None,
    memory: int = DEFAULT_MEMORY,
    n_jobs: int = 1,
) -> MinimalPerturbation:
    """Minimal perturbation of the k-NN predictions of queries, each within so many seconds and nodes."""
    bound = bound_radii(reference, X, k, norm, exclude=exclude, memory=memory, n_jobs=n_jobs)
    points, errors = reference.embed(X)
    if exclude is None:
        exclude = np.full(len(X), -1, dtype=np.int64)
    program = DualProgram(reference, norm)
    radii, lower = np.full(len(X), np.inf), bound.radii.copy()
    steps, inwards = np.zeros((2, len(X), program.dual.shape[1]))
    for i, point in enumerate(points):
        if np.isinf(lower[i]):
            continue
        search = _Search(Regions(program, point, int(bound.predicted[i]), k, errors[i], int(exclude[i])))
        proven = search.run(time_limit, node_limit)
        lower[i] = max(lower[i], proven)
        if search.best is not None:
            # What counts as a tie may be too near by a relative 1e-8, but never below what is proven.
            radii[i], steps[i] = max(search.best.size, lower[i]), search.best.eta
            # 10⁻⁶ of it keeps a distance of 10⁻⁶ steps from every boundary.
            inwards[i] = search.regions.inward(search.best, search.neighbors, 1e-6) * 1e6
    changes = steps @ program.lift
    witnesses, verified = push_outward(
        reference, X, changes, inwards @ program.lift, k, bound.predicted, exclude, np.flatnonzero(np.isfinite(radii))
    )
    proven = lower >= np.where(np.isinf(radii), radii, radii * (1.0 - PROVEN))
    return MinimalPerturbation(radii, witnesses, lower, proven, verified)


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
        self.unproven = np.inf  # least bound of nodes that were given up without a proof
        self.neighbors = np.array([], dtype=np.int64)  # the k nearest that the best step leads to

    @property
    def radius(self) -> float:
        """Size of the smallest step found."""
        return self.best.size if self.best is not None else np.inf

    def run(self, time_limit: float, node_limit: float) -> float:
        """Search; gives the proven lower bound, which is the radius where the search came to its end."""
        end = time.monotonic() + time_limit
        for step, neighbors in self.regions.search(N_OPPONENTS):
            self._accept(step, neighbors)
        regions = self.regions
        self.bounds = _opponent_bounds(
            regions.squared,
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
                return min(lower, self.unproven)
            for bound, child in self._branch(node, lower):
                if bound < self.radius:
                    heapq.heappush(heap, (bound, next(ticket), child))
        return min(self.radius, self.unproven)

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
                # Beyond the best step, or so says the solver: what it did not prove stays open.
                if solved < self.radius * (1.0 - _ROUNDING):
                    self.unproven = min(self.unproven, max(lower, solved))
                return []
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
            return []
        open_ = present & ~out
        open_[inside] = False
        if not agrees:
            # Decide about one instance in the way: one that comes before the worst of ``inside``, the predicted class
            # first; or else the nearest that fills a place although something outside comes before it.
            scores = regions.scores(step.eta)
            before = np.flatnonzero(open_ & (scores < scores[inside].max(initial=-np.inf) - regions.rounding))
            if len(before) > free:
                before = before[own[before]] if own[before].any() else before
                j = int(before[scores[before].argmin()])
            else:
                first = scores[present & out].min(initial=np.inf)
                j = int(next(u for u in neighbors[len(inside) :] if scores[u] > first))
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

    def _accept(self, step: Step, neighbors: Indices) -> None:
        if step.size < self.radius:
            self.best, self.neighbors = step, neighbors


@nb.njit(cache=True, nogil=True)
def _opponent_bounds(squared, error, own, present, a, upper, data, order):
    """Lower bound of each opponent: the a-th largest e(l, j) over the predicted class; infinity from ``upper`` on."""
    points, point_errors, _, dual, dual_errors, _, growth = data
    relative = rounding_of_distances(points.shape[1])
    rounding = (error, growth[0], growth[1], relative)
    bounds = np.full(squared.shape[0], np.inf)
    inner = np.empty(a)
    for l in range(squared.shape[0]):
        if own[l] or not present[l]:
            continue
        below = max(np.sqrt(squared[l]) * (1.0 - relative) - error - point_errors[l], 0.0)
        beyond = np.sqrt(squared[l]) * (1.0 + relative) + error + point_errors[l]
        filled = 0
        discarded = False
        for j in range(squared.shape[0]):
            if own[j]:
                above = np.sqrt(squared[j]) * (1.0 + relative) + error + point_errors[j]
                value = gap_over_dual(below, beyond, above, l, j, dual, dual_errors, order, rounding)
                filled = insert_largest(inner, filled, a, value)
                if filled == a and inner[a - 1] >= upper:
                    discarded = True
                    break
        if not discarded:
            bounds[l] = inner[a - 1] if filled == a else 0.0
    return bounds
