"""The objective of LMNN over anchors: a sample of instances, each with its impostors among all rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numba as nb
import numpy as np
from numpy.typing import NDArray

from certimetric.base.arrays import Array, Indices
from certimetric.base.chunks import chunk_slices, map_chunks
from certimetric.base.lazy_rows import LazyRows
from certimetric.geometry.kernels import pair_squared_distances, squared_distance
from certimetric.geometry.screens import GROUP, Screen, any_within
from certimetric.objectives.gradient import MetricObjective, MetricState, Term, TermValue
from certimetric.objectives.pairs import Pull, candidate_hinge, margin_reach, pull_and_push

_LISTED_PAIRS = 2**21  # candidates of all anchors together that a search keeps at first
_MOST_PAIRS = 2**24  # and at most: 64 MiB of row numbers
_RESOLUTION = 0.1  # of the standard error

# Push and number of candidates of every anchor; anchor and row of those kept, in order.
_Listed = tuple[Array, Indices, Indices, NDArray[np.int32]]


class AnchorObjective(MetricObjective):
    """Pull and push of LMNN over anchors and, besides, further terms on fixed triplets of theirs.

    ``Σ_i ω_i [(1 − μ) Σ_j d²_ij + μ Σ_j Σ_l (1 + d²_ij − d²_il)_+] / Σ_i ω_i k_i`` over the anchors i with weights ω
    and k_i target neighbours j, and *all* instances l of other classes. :meth:`refresh` searches all rows for it, in
    blocks, and gives the objective exactly (:meth:`true_value`). The descent in between sees the rows that it lists
    alone: of every anchor all candidates, or, where these are very many, a random part of them that
    stands for all.

    Parameters
    ----------
    X : array of shape (n, d) or LazyRows
        Rows in a Dask array are searched on its workers.
    y : int array of shape (n,)
        Class codes.
    anchors : int array of shape (m,)
    targets : int array of shape (m, k)
        Target neighbours of the anchors, −1 for none.
    weights : array of shape (m,)
        ω, of mean 1.
    push_weight : float
        μ.
    triplets : int array of shape (t, 3), optional
        What ``loss`` is given.
    loss : callable, optional
        Makes a term of the rows at work, (p, d), triplets of them, and their ``weights``, (p,).
    seed : int
        Of the random parts.
    slack : float
        At least 1; how much farther than the margin candidates are kept.
    n_jobs : int
        Threads of the searches; they change nothing.
    """

    def __init__(
        self,
        X: Array | LazyRows,
        y: Indices,
        anchors: Indices,
        targets: Indices,
        weights: Array,
        push_weight: float,
        *,
        triplets: Indices | None = None,
        loss: Callable[..., Term] | None = None,
        seed: int = 0,
        slack: float = 1.2,
        n_jobs: int = 1,
    ):
        self.all_rows, self.y, self.anchors, self.seed, self.slack, self.n_jobs = X, y, anchors, seed, slack, n_jobs
        self.weights, self.push_weight = weights, push_weight
        self.capacity = int(np.clip(_LISTED_PAIRS // max(len(anchors), 1), 16, len(X)))
        # The rows at work begin with the anchors, then come all that fixed terms need, then what a search lists.
        needed = targets[targets >= 0]
        if triplets is not None:
            needed = np.concatenate([needed, triplets[:, 1:].ravel()])
        self._fixed = np.concatenate([anchors, np.setdiff1d(needed, anchors)])
        self._place = np.full(len(X), -1, dtype=np.int32)
        self._place[self._fixed] = np.arange(len(self._fixed))
        self.targets = np.where(targets >= 0, self._place[targets], -1).astype(np.int64)
        i, a = np.nonzero(targets >= 0)
        self._total = float(weights[i].sum())
        pull = Pull(np.stack([i, self.targets[i, a]], axis=1), 1.0 - push_weight, weights)
        fixed = np.ascontiguousarray(X[self._fixed])
        self._fixed_terms: list[Term] = [pull]
        if loss is not None and triplets is not None:
            of_rows = np.concatenate([weights, np.ones(len(fixed) - len(anchors))])
            self._fixed_terms.append(loss(fixed, self._place[triplets].astype(np.int64), weights=of_rows))
        none = np.zeros(len(anchors) + 1, dtype=np.int64), np.zeros(0, dtype=np.int32)
        super().__init__(fixed, [*self._fixed_terms, self._hinge(*none, weights)])
        self._push, self._cut = np.zeros(len(anchors)), False

    def refresh(self, L: Array) -> None:
        """Search all rows for the impostors of the anchors at L, and list those that the descent will see."""
        push, found, kept = self._search(L, self.capacity)
        self._push = push
        self._place[self._fixed] = np.arange(len(self._fixed))
        listed = np.minimum(found, self.capacity)
        self._cut = bool((found > listed).any())
        starts = np.concatenate([[0], np.cumsum(listed)])
        rows = kept[np.arange(self.capacity) < listed[:, None]]
        more = np.unique(rows)
        more = more[self._place[more] < 0]
        self._place[more] = np.arange(len(self._fixed), len(self._fixed) + len(more))
        candidates = self._place[rows]
        self._place[more] = -1
        self.X = np.concatenate([self.X[: len(self._fixed)], self.all_rows[more]])
        scale = self.weights * (found / np.maximum(listed, 1))
        self.terms = [*self._fixed_terms, self._hinge(starts, candidates, scale)]

    def widen(self) -> bool:
        """Keep twice as many candidates while memory allows, or from twice as far where none was left out."""
        if not self._cut:
            self.slack = 1.0 + 2.0 * (self.slack - 1.0)
        elif 2 * self.capacity * len(self.anchors) > _MOST_PAIRS:
            return False
        self.capacity = min(2 * self.capacity, len(self.all_rows))
        return True

    def true_value(self, L: Array) -> float:
        """The objective at L, which was last refreshed: with all impostors, not those listed alone."""
        state = MetricState(self.X[: len(self._fixed)], L)
        return sum(term.evaluate(state).value for term in self._fixed_terms) + float(self._push @ self.weights)

    def values(self, L: Array) -> Array:
        """Numbers, one of every anchor, whose mean is the objective at any L: pull and push of its own, and any loss.

        They are found by a search that lists nothing.
        """
        self._push = self._search(L, 0)[0]
        return self._values(L)

    def resolution(self, L: Array) -> float:
        """A tenth of the standard error, or by how much lists that are cut are off.

        To minimise a sample's own objective more closely is to learn the sample.
        """
        value = self.true_value(L)
        off = abs(self.in_components(L)[0] - value) if self._cut else 0.0
        return max(_RESOLUTION * self.error(L), off) / value if value > 0 else 0.0

    def error(self, L: Array) -> float:
        """Standard error of pull and push as an estimate of those of all instances, at L or near by."""
        values = self._values(L)
        return float(values.std() / np.sqrt(max(len(values) - 1, 1)))

    def _values(self, L: Array) -> Array:
        state = MetricState(self.X[: len(self._fixed)], L)
        loss = sum(term.evaluate(state).value for term in self._fixed_terms[1:])
        Z = state.Z
        squared = np.square(Z[: len(self.anchors), None] - Z[self.targets]).sum(axis=-1)
        pull = (squared * (self.targets >= 0)).sum(axis=1) * ((1.0 - self.push_weight) / max(self._total, 1e-300))
        return np.asarray((pull + self._push) * self.weights * len(self.anchors) + loss)

    def _hinge(self, starts: Indices, candidates: NDArray[np.int32], scale: Array) -> _SampledHinge:
        return _SampledHinge(self.targets, starts, candidates, scale, self.push_weight / max(self._total, 1e-300))

    def _search(self, L: Array, capacity: int) -> tuple[Array, Indices, NDArray[np.int32]]:
        """Of every anchor its push over all rows, how many candidates it has, and the list of those kept."""
        m = len(self.anchors)
        fixed = np.ascontiguousarray(self.X[: len(self._fixed)] @ L.T)
        asked = _Search(
            L,
            fixed,
            self.targets,
            margin_reach(fixed, self.targets),
            self.slack if capacity else 1.0,
            self.y[self.anchors],
            self.seed,
            capacity,
        )
        if isinstance(self.all_rows, LazyRows):
            push, found, anchor, row = self.all_rows.reduce(asked.listed, asked.merged, self.y)
            kept = np.empty((m, capacity), dtype=np.int32)
            place = np.arange(len(anchor)) - np.searchsorted(anchor, anchor)
            kept[anchor, place] = row
        else:
            push, found, kept = asked(self.all_rows, self.y, 0, n_jobs=self.n_jobs)
        return np.asarray(push * (self.push_weight / max(self._total, 1e-300))), found, kept


@dataclass(frozen=True, eq=False)
class _Search:
    """A search for the impostors of anchors, whose coordinates are the first of ``fixed``, at the components L."""

    L: Array
    fixed: Array
    targets: Indices
    margins: Array
    slack: float
    labels: Indices
    seed: int
    capacity: int

    def __call__(
        self, rows: Array, y: Indices, first: int, *, n_jobs: int = 1
    ) -> tuple[Array, Indices, NDArray[np.int32]]:
        """Push, number of candidates, and list of those kept, of some rows, numbered from ``first``."""
        m = len(self.labels)
        screen = Screen(self.fixed[:m])
        push, found = np.zeros(m), np.zeros(m, dtype=np.int64)
        kept = np.empty((m, self.capacity), dtype=np.int32)

        def search(part: slice) -> None:
            for block in screen.blocks(len(rows)):
                P = np.ascontiguousarray(rows[block] @ self.L.T)
                prepared, others = screen.prepared(P), y[block]
                for tile in screen.tiles(part):
                    _impostors(
                        screen.products(tile, prepared), screen.offset[tile], screen.relative, tile.start, self.fixed,
                        P, self.targets, self.margins, self.slack, self.labels, others, first + block.start, self.seed,
                        push, found, kept,
                    )  # fmt: skip

        map_chunks(search, chunk_slices(m, 1.0, 2**40, n_jobs), n_jobs)
        return push, found, kept

    def listed(self, rows: Array, y: Indices, first: int) -> _Listed:
        """The same with the lists one after the other: the anchor and the row of every candidate that was kept."""
        push, found, kept = self(rows, y, first)
        there = np.arange(self.capacity) < np.minimum(found, self.capacity)[:, None]
        return push, found, np.nonzero(there)[0], kept[there]

    def merged(self, parts: list[_Listed]) -> _Listed:
        """Several parts of the rows as one; where a list is too long, candidates drawn by what each stands for."""
        push, found = (np.sum([part[i] for part in parts], axis=0) for i in (0, 1))
        anchor, row = (np.concatenate([part[i] for part in parts]) for i in (2, 3))
        stands_for = np.concatenate([(n / np.maximum(np.bincount(i, minlength=len(n)), 1))[i] for _, n, i, _ in parts])
        # The largest of u^(1/w) are a sample by weights w (Efraimidis & Spirakis, 2006); lists that fit are kept whole.
        draws = np.log(np.random.default_rng([self.seed, len(row)]).random(len(row))) / stands_for
        order = np.lexsort((-draws, anchor))
        place = np.arange(len(order)) - np.searchsorted(anchor[order], anchor[order])
        order = order[place < self.capacity]
        order = order[np.lexsort((row[order], anchor[order]))]
        return push, found, anchor[order], row[order]


class FixedAnchorObjective(MetricObjective):
    """Pull and push of LMNN over given triplets of anchors and, besides, a loss on the same triplets.

    Parameters
    ----------
    X : array of shape (n, d)
    triplets : int array of shape (t, 3)
        Of anchors, each with the same number of target neighbours and impostors (fewer in small classes).
    push_weight : float
    loss : callable, optional
        Makes a term of the rows at work, (p, d), the triplets among them, and their ``weights``, (p,).
    weights : array of shape (n,), optional
        Of the instances.
    """

    def __init__(
        self,
        X: Array | LazyRows,
        triplets: Indices,
        push_weight: float,
        loss: Callable[..., Term] | None = None,
        weights: Array | None = None,
    ):
        rows, place = np.unique(triplets, return_inverse=True)
        points, triplets = np.ascontiguousarray(X[rows]), place.reshape(-1, 3)
        weights = None if weights is None else weights[rows]
        self._pull, self._push = pull_and_push(triplets, push_weight, weights)
        terms: list[Term] = [self._pull, self._push]
        super().__init__(points, terms if loss is None else [*terms, loss(points, triplets, weights=weights)])
        self._anchor = triplets[:, 0]

    def values(self, L: Array) -> Array:
        """Numbers, one of every anchor, whose mean is the objective at L: pull and push of its own, and any loss."""
        state = MetricState(self.X, L)
        loss = sum(term.evaluate(state).value for term in self.terms[2:])
        pull = self._pull.weights * pair_squared_distances(state.Z, self._pull.i, self._pull.j)
        squared, pairs = self._push.pairs.squared_distances(state.Z), self._push.pairs
        push = self._push.weights * np.maximum(self._push.margin + squared[pairs.target] - squared[pairs.impostor], 0.0)
        n = len(self.X)
        own = np.bincount(self._pull.i, pull, n) + np.bincount(self._anchor, push, n)
        anchors = np.unique(self._anchor)
        return np.asarray(own[anchors] * len(anchors) + loss)

    def error(self, L: Array) -> float:
        """Standard error of pull and push at L as an estimate of those of all instances."""
        values = self.values(L)
        return float(values.std() / np.sqrt(max(len(values) - 1, 1)))


class _SampledHinge:
    """The push over listed candidates, each of which stands for as many as ``scale`` says for its instance."""

    def __init__(self, targets: Indices, starts: Indices, candidates: NDArray[np.int32], scale: Array, weight: float):
        self.targets, self.starts, self.candidates = targets, starts, candidates
        self.scale, self.weight = scale, weight

    def evaluate(self, state: MetricState) -> TermValue:
        """Value over the candidates, and weights on the pairs of active triplets."""
        return candidate_hinge(state.Z, self.targets, self.starts, self.candidates, self.weight, self.scale)

    def refresh(self, state: MetricState) -> None:
        """Nothing: the objective lists the candidates."""

    def widen(self) -> bool:
        """Nothing: the objective does."""
        return False


@nb.njit(cache=True, nogil=True)
def _impostors(
    products, offset, relative, begin, Z, P, targets, margins, slack, labels, others, first, seed, push, found, kept
):  # fmt: skip
    """Add a block of rows to the push of every anchor, and to the lists of candidates.

    A list that is full takes the t-th candidate with a chance of (its length)/t in the place of a random one, so that
    every candidate is as likely to be in it. Chances are a hash of seed, anchor and t: threads and blocks change none.
    """
    m, n = products.shape
    capacity = kept.shape[1]
    k = targets.shape[1]
    own = np.empty(k)
    for part in range(m):
        i = begin + part
        if margins[i] == 0.0:
            continue
        row, z = products[part], Z[i]
        wide = slack * margins[i]
        bound = np.float32((wide - offset[part]) + relative * abs(wide - offset[part]))
        n_own = 0
        for a in range(k):
            if targets[i, a] >= 0:
                own[n_own] = 1.0 + squared_distance(z, Z[targets[i, a]])
                n_own += 1
        for start in range(0, n, GROUP):
            stop = min(start + GROUP, n)
            if not any_within(row[start:stop], bound):
                continue
            for j in range(start, stop):
                if row[j] > bound or others[j] == labels[i]:
                    continue
                squared = squared_distance(z, P[j])
                if squared >= wide:
                    continue
                for a in range(n_own):
                    if own[a] > squared:
                        push[i] += own[a] - squared
                if capacity:
                    place = found[i]
                    if place >= capacity:
                        place = np.int64(_hash(seed, i, found[i]) % np.uint64(found[i] + 1))
                    if place < capacity:
                        kept[i, place] = first + j
                    found[i] += 1


@nb.njit(cache=True, nogil=True)
def _hash(seed, i, t):
    """A whole number that looks random, from three (the finaliser of splitmix64)."""
    x = np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15)
    x ^= np.uint64(i) * np.uint64(0xD1342543DE82EF95) + np.uint64(t) * np.uint64(0x2545F4914F6CDD1D)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
