"""Terms over pairs and triplets: the pull of target neighbours and the hinge against impostors."""

from __future__ import annotations

import numba as nb
import numpy as np
from numpy.typing import NDArray

from certimetric.base.arrays import Array, Indices
from certimetric.base.chunks import DEFAULT_MEMORY, chunk_slices, map_chunks
from certimetric.geometry.kernels import expansion_error, pair_squared_distances, squared_distance_in_kind
from certimetric.objectives.gradient import MetricState, TermValue

_ROWS_AT_ONCE = 64  # instances whose distances to all others are held: enough for a product to be fast


class Pull:
    """Mean squared distance over pairs, times ``weight``.

    Parameters
    ----------
    pairs : int array of shape (m, 2)
        Rows to pull together.
    weight : float
    weights : array of shape (n,), optional
        Of the rows; a pair counts by that of its first.

    Examples
    --------
    >>> state = MetricState(np.array([[0.0], [1.0], [3.0]]), np.eye(1))
    >>> Pull(np.array([[0, 1], [0, 2]]), weight=1.0).evaluate(state).value
    5.0
    """

    def __init__(self, pairs: Indices, weight: float, weights: Array | None = None):
        self.i, self.j = np.ascontiguousarray(pairs[:, 0]), np.ascontiguousarray(pairs[:, 1])
        counts = counts_of(self.i, weights)
        self.weights = counts * (weight / (counts.sum() or 1.0))

    def evaluate(self, state: MetricState) -> TermValue:
        """Value and constant pair weights."""
        squared = pair_squared_distances(state.Z, self.i, self.j)
        return TermValue(float(self.weights @ squared), self.i, self.j, self.weights)


class TripletHinge:
    """Mean of ``[margin + d²(i, j) − d²(i, l)]_+`` over fixed triplets, times ``weight``.

    Parameters
    ----------
    triplets : int array of shape (m, 3)
        Rows (instance i, target neighbour j, impostor l).
    weight, margin : float
    weights : array of shape (n,), optional
        Of the instances, in the mean.

    Examples
    --------
    >>> state = MetricState(np.array([[0.0], [1.0], [1.2]]), np.eye(1))
    >>> round(TripletHinge(np.array([[0, 1, 2]])).evaluate(state).value, 6)
    0.56
    """

    def __init__(self, triplets: Indices, weight: float = 1.0, margin: float = 1.0, weights: Array | None = None):
        self.pairs, self.margin = TripletPairs(triplets), margin
        counts = counts_of(triplets[:, 0], weights)
        self.weights = counts * (weight / (counts.sum() or 1.0))

    def evaluate(self, state: MetricState) -> TermValue:
        """Value and pair weights: +1 on targets and −1 on impostors of every active triplet."""
        squared = self.pairs.squared_distances(state.Z)
        violation = self.margin + squared[self.pairs.target] - squared[self.pairs.impostor]
        active = (violation > 0) * self.weights
        weights = self.pairs.collect(active, -active)
        return TermValue(float(active @ violation), self.pairs.i, self.pairs.j, weights)


def pull_and_push(triplets: Indices, push_weight: float, weights: Array | None = None) -> tuple[Pull, TripletHinge]:
    """LMNN's terms of given triplets: pull over their targets, and hinge over the triplets themselves."""
    targets = np.unique(triplets[:, :2], axis=0)
    # The same balance as with all impostors: the push counts once a target, not once a triplet.
    n_triplets, n_targets = (counts_of(some[:, 0], weights).sum() for some in (triplets, targets))
    push = push_weight * n_triplets / (n_targets or 1.0)
    return Pull(targets, 1.0 - push_weight, weights), TripletHinge(triplets, push, weights=weights)


def counts_of(instances: Indices, weights: Array | None) -> Array:
    """How much tuples count by weights of their instances: 1 where there are none."""
    return np.ones(len(instances)) if weights is None else weights[instances]


class TripletPairs:
    """The distinct pairs (i, j) and (i, l) of a set of triplets, so that no distance is computed twice.

    Parameters
    ----------
    triplets : int array of shape (m, 3)

    Attributes
    ----------
    i, j : int arrays of shape (p,)
        The pairs.
    target, impostor : int arrays of shape (m,)
        Numbers of the pairs (i, j) and (i, l) of every triplet.
    """

    def __init__(self, triplets: Indices):
        i, j, l = np.asarray(triplets, dtype=np.int64).T
        self.i, self.j, number = distinct_pairs(np.concatenate([i, i]), np.concatenate([j, l]))
        self.target, self.impostor = number[: len(i)], number[len(i) :]

    def squared_distances(self, Z: Array) -> Array:
        """Squared distance of every pair, shape (p,)."""
        return pair_squared_distances(Z, self.i, self.j)

    def collect(self, on_target: Array, on_impostor: Array) -> Array:
        """Add up weights given a triplet into weights a pair, shape (p,)."""
        n = len(self.i)
        total = np.bincount(self.target, on_target, n) + np.bincount(self.impostor, on_impostor, n)
        return np.asarray(total, dtype=np.float64)


def distinct_pairs(i: Indices, j: Indices) -> tuple[Indices, Indices, Indices]:
    """Every pair of rows once, ordered, and the number of its pair for every pair that was given."""
    n = max(int(j.max(initial=-1)) + 1, 1)
    keys, number = np.unique(i * n + j, return_inverse=True)
    return keys // n, keys % n, number


class ImpostorHinge:
    """The push term of LMNN over *all* impostors: Σ over targets (i, j) and other-class l of ``[1 + d²_ij − d²_il]_+``.

    The term keeps a list of candidate impostors: everything within ``slack`` times the reach of an instance's margin
    when the list was made. Between two calls of :meth:`refresh` an impostor that was farther away may be missed, so
    a solver refreshes on a schedule and once more at its end, after which the value is the true one.

    Parameters
    ----------
    targets : int array of shape (n, k)
        Target neighbours, −1 for none.
    y : int array of shape (n,)
        Class codes.
    weight : float
        The sum is divided by the number of targets and multiplied by this.
    slack : float
        At least 1; how much farther than the margin candidates are kept.
    memory : int
        Bytes for blocks of distances while refreshing.
    n_jobs : int
        Threads used while refreshing.
    weights : array of shape (n,), optional
        Of the instances: the sum is over their weights, and divided by those of the targets.

    Examples
    --------
    >>> state = MetricState(np.array([[0.0], [1.0], [1.2]]), np.eye(1))
    >>> hinge = ImpostorHinge(np.array([[1], [0], [-1]]), np.array([0, 0, 1]))
    >>> hinge.refresh(state)
    >>> round(hinge.evaluate(state).value, 6)
    1.26
    """

    def __init__(
        self,
        targets: Indices,
        y: Indices,
        weight: float = 1.0,
        slack: float = 1.2,
        memory: int = DEFAULT_MEMORY,
        n_jobs: int = 1,
        weights: Array | None = None,
    ):
        self.targets, self.y = np.ascontiguousarray(targets), np.ascontiguousarray(y)
        self._scale = counts_of(np.arange(len(targets)), weights)
        self.weight = weight / (float(self._scale @ (targets >= 0).sum(axis=1)) or 1.0)
        self.slack, self.memory, self.n_jobs = slack, memory, n_jobs
        self.starts, self.candidates = np.zeros(len(y) + 1, dtype=np.int64), np.zeros(0, dtype=np.int32)

    def refresh(self, state: MetricState) -> None:
        """Search all pairs for the candidates at the metric of ``state``: exact, in chunks of bounded memory."""
        Z = state.Z - state.Z.mean(axis=0)
        z = np.einsum("ij,ij->i", Z, Z)
        reach = self.slack * margin_reach(Z, self.targets)
        order = np.argsort(self.y, kind="stable")
        rows_sorted, labels = Z[order], self.y[order]
        starts = np.searchsorted(labels, self.y, side="left")
        stops = np.searchsorted(labels, self.y, side="right")

        def search(rows: slice) -> tuple[Indices, NDArray[np.int32]]:
            products = Z[rows] @ rows_sorted.T
            return _candidates(products, z[rows], z[order], reach[rows], starts[rows], stops[rows], order, Z.shape[1])

        width = 8.0 * len(Z)
        slices = chunk_slices(len(Z), width, int(min(self.memory, _ROWS_AT_ONCE * width)), self.n_jobs)
        found = map_chunks(search, slices, self.n_jobs)
        counts = np.concatenate([count for count, _ in found])
        self.starts = np.concatenate([[0], np.cumsum(counts)])
        self.candidates = np.concatenate([some for _, some in found])

    def widen(self) -> bool:
        """Double the slack of the candidates."""
        self.slack = 1.0 + 2.0 * (self.slack - 1.0)
        return True

    def evaluate(self, state: MetricState) -> TermValue:
        """Value over the candidates, and weights on the pairs of active triplets."""
        return candidate_hinge(state.Z, self.targets, self.starts, self.candidates, self.weight, self._scale)


def candidate_hinge(
    Z: Array, targets: Indices, starts: Indices, candidates: NDArray[np.int32], weight: float, scale: Array
) -> TermValue:
    """``weight · Σ_i scale_i Σ_j Σ_l [1 + d²_ij − d²_il]_+`` over first rows of Z, targets j, candidates l.

    Parameters
    ----------
    Z : array of shape (n, k)
    targets : int array of shape (m, t)
        Of the first m rows; −1 for none.
    starts : int array of shape (m + 1,)
        Where the candidates of each of them begin.
    candidates : int array
    weight : float
    scale : array of shape (m,)
    """
    value, i, j, weights, n_pairs = _hinge(Z, targets, starts, candidates, weight, scale)
    return TermValue(value, i[:n_pairs], j[:n_pairs], weights[:n_pairs])


@nb.njit(cache=True, nogil=True)
def _margins(Z, i, targets, margins):
    """Fill ``margins`` with ``1 + d²_ij`` over the targets of instance i, 0 for none; give the largest."""
    reach = 0.0
    for a in range(targets.shape[1]):
        j = targets[i, a]
        margins[a] = 1.0 + squared_distance_in_kind(Z[i], Z[j]) if j >= 0 else 0.0
        reach = max(reach, margins[a])
    return reach


@nb.njit(cache=True, nogil=True)
def margin_reach(Z, targets):
    """Largest ``1 + d²_ij`` over the targets of each of the first rows; 0 without targets."""
    reach, margins = np.empty(targets.shape[0]), np.empty(targets.shape[1])
    for i in range(targets.shape[0]):
        reach[i] = _margins(Z, i, targets, margins)
    return reach


@nb.njit(cache=True, nogil=True)
def _grown(array, capacity):
    """A copy with room for more."""
    larger = np.empty(capacity, dtype=array.dtype)
    larger[: array.shape[0]] = array
    return larger


@nb.njit(cache=True, nogil=True)
def _candidates(products, q, p, reach, starts, stops, order, r):
    m, n = products.shape
    counts = np.zeros(m, dtype=np.int64)
    capacity = 16 * m + 1024
    found = np.empty(capacity, dtype=np.int32)
    size = 0
    largest = p.max()
    for i in range(m):
        if reach[i] == 0.0:
            continue
        if size + n > capacity:
            capacity = 2 * capacity + n
            found = _grown(found, capacity)
        # Rounding may only add candidates, never lose one.
        limit = reach[i] + expansion_error(r, q[i], largest) - q[i]
        before = size
        for start, stop in ((0, starts[i]), (stops[i], n)):  # the rows of the own class lie between them
            for position in range(start, stop):
                # Branch-free append: the slot is written always and kept only for a candidate.
                found[size] = order[position]
                size += p[position] - 2.0 * products[i, position] < limit
        counts[i] = size - before
    return counts, found[:size].copy()


@nb.njit(cache=True, nogil=True, fastmath={"contract", "reassoc"})
def _hinge(Z, targets, starts, candidates, weight, scale):
    n, k = targets.shape
    capacity = n * k + 4096  # grows to the active pairs, which are far fewer than the candidates
    pair_i = np.empty(capacity, dtype=np.int64)
    pair_j = np.empty(capacity, dtype=np.int64)
    pair_w = np.empty(capacity)
    size = 0
    value = 0.0
    margins = np.empty(k)
    active = np.empty(k, dtype=np.int64)
    for i in range(n):
        needed = size + starts[i + 1] - starts[i] + k
        if needed > capacity:
            capacity = 2 * needed
            pair_i, pair_j, pair_w = _grown(pair_i, capacity), _grown(pair_j, capacity), _grown(pair_w, capacity)
        active[:] = 0
        reach = _margins(Z, i, targets, margins)
        for position in range(starts[i], starts[i + 1]):
            l = candidates[position]
            squared = squared_distance_in_kind(Z[i], Z[l])
            if squared < reach:
                count = 0
                for a in range(k):
                    if margins[a] > squared:
                        value += scale[i] * (margins[a] - squared)
                        active[a] += 1
                        count += 1
                pair_i[size], pair_j[size], pair_w[size] = i, l, -weight * count * scale[i]
                size += 1
        for a in range(k):
            if active[a] > 0:
                pair_i[size], pair_j[size], pair_w[size] = i, targets[i, a], weight * active[a] * scale[i]
                size += 1
    return weight * value, pair_i, pair_j, pair_w, size
