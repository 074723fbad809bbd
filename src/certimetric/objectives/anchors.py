"""The objective of LMNN over anchors: a sample of instances, each with its impostors among all rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

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
_SEARCHED_PER_ANCHOR = 5  # rows that the descent searches, or more where they are cheap:
_CHEAP_PRODUCTS = 2 * 10**8  # rows times squared features
_SEARCH_PRODUCTS = 2**35  # anchors times features times rows that each searches,
_FEWEST_ROWS = 2_000  # and these at least
_RESOLUTION, _RESOLVED_SHARE = 0.1, 0.002  # of the standard error, and of the objective
_WIDE = 64  # features from which on the steps are in single precision
_ALL = (slice(None),)  # the one part, where every anchor searches every row


class AnchorObjective(MetricObjective):
    """Pull and push of LMNN over anchors and, besides, further terms on fixed triplets of theirs.

    ``Σ_i ω_i [(1 − μ) Σ_j d²_ij + μ Σ_j Σ_l (1 + d²_ij − d²_il)_+] / Σ_i ω_i k_i`` over the anchors i with weights ω
    and k_i target neighbours j, and *all* instances l of other classes: :meth:`values` search all rows for these, in
    blocks. The descent has for l a random sample that stands for all, of five rows an anchor or, where that is more,
    2 · 10⁸ / d²; and each anchor a part of it, so that a search costs 2³⁵ multiplications. :meth:`refresh` searches
    these, and gives the objective over them exactly (:meth:`true_value`). The steps in between see the rows that it
    lists alone: of every anchor all candidates, or, where these are very many, a random part of them that stands for
    all.

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
        n_searched = min(max(_SEARCHED_PER_ANCHOR * len(anchors), _CHEAP_PRODUCTS // X.shape[1] ** 2), len(X))
        n_parts = -(-len(anchors) * n_searched * X.shape[1] // _SEARCH_PRODUCTS)
        n_parts = max(min(n_parts, n_searched // _FEWEST_ROWS), 1)
        self.searched = np.arange(len(X))
        if n_parts > 1 or n_searched < len(X):  # in random order, so that parts of it are samples too
            self.searched = np.random.default_rng(seed).permutation(len(X))[:n_searched]
        # Every n-th anchor searches every n-th row: anchors stand in the order of their classes.
        self._parts = [slice(first, None, n_parts) for first in range(n_parts)]
        self._stands_for = np.empty(len(anchors))
        for part in self._parts:
            self._stands_for[part] = len(X) / len(self.searched[part])
        self.capacity = int(np.clip(_LISTED_PAIRS // max(len(anchors), 1), 16, len(self.searched)))
        # The rows at work begin with the anchors, then come all that fixed terms need, then what a search lists.
        needed = targets[targets >= 0]
        if triplets is not None:
            needed = np.concatenate([needed, triplets[:, 1:].ravel()])
        self._fixed = np.concatenate([anchors, np.setdiff1d(needed, anchors)])
        self._place = np.full(len(X), -1, dtype=np.int32)
        self._place[self._fixed] = np.arange(len(self._fixed))
        self.targets = np.where(targets >= 0, self._place[targets], -1).astype(np.int64)
        i, a = np.nonzero(targets >= 0)
        total = max(float(weights[i].sum()), 1e-300)
        self._per_pull, self._per_push = (1.0 - push_weight) / total, push_weight / total
        pull = Pull(np.stack([i, self.targets[i, a]], axis=1), 1.0 - push_weight, weights)
        fixed = self._fixed_rows = np.ascontiguousarray(X[self._fixed])
        self._fixed_terms: list[Term] = [pull]
        if loss is not None and triplets is not None:
            of_rows = np.concatenate([weights, np.ones(len(fixed) - len(anchors))])
            self._fixed_terms.append(loss(fixed, self._place[triplets].astype(np.int64), weights=of_rows))
        none = np.zeros(len(anchors) + 1, dtype=np.int64), np.zeros(0, dtype=np.int32)
        super().__init__(fixed, [*self._fixed_terms, self._hinge(*none, weights)])
        self._single = loss is None and X.shape[1] >= _WIDE
        self.X = self._at_work(fixed)
        self._push, self._cut = np.zeros(len(anchors)), False

    def refresh(self, L: Array) -> None:
        """Search for the impostors of the anchors at L, and list those that the steps will see."""
        push, found, kept = self._search(L, self.capacity)
        self._push = push
        listed = np.minimum(found, self.capacity)
        self._cut = bool((found > listed).any())
        starts = np.concatenate([[0], np.cumsum(listed)])
        numbers = kept[np.arange(self.capacity) < listed[:, None]]
        place = self._place[self.searched]
        more = np.zeros(len(place), dtype=bool)
        more[numbers] = True
        more &= place < 0
        place[more] = np.arange(len(self._fixed), len(self._fixed) + np.count_nonzero(more))
        rows = self._local[0][self._local[2][more]]
        self.X = np.concatenate([self.X[: len(self._fixed)], self._at_work(rows)])
        scale = self.weights * (self._stands_for * (found / np.maximum(listed, 1)))
        self.terms = [*self._fixed_terms, self._hinge(starts, place[numbers], scale)]

    def widen(self) -> bool:
        """Keep twice as many candidates while memory allows, or from twice as far where none was left out."""
        if not self._cut:
            self.slack = 1.0 + 2.0 * (self.slack - 1.0)
        elif 2 * self.capacity * len(self.anchors) > _MOST_PAIRS:
            return False
        self.capacity = min(2 * self.capacity, len(self.searched))
        return True

    def in_components(self, L: Array) -> tuple[float, Array]:
        """Value and gradient with respect to L, shape (k, d)."""
        value, gradient = super().in_components(L.astype(self.X.dtype, copy=False))
        return value, gradient.astype(float, copy=False)

    def _at_work(self, rows: Array) -> Array:
        """Rows as the steps take them: of many features in single precision, about an origin near by, for differences
        alone count, and their rounding is far below what is resolved."""
        return (rows - self._fixed_rows[0]).astype(np.float32) if self._single else rows

    def true_value(self, L: Array) -> float:
        """The objective at L, which was last refreshed: with all impostors searched, not those listed alone."""
        state = MetricState(self._fixed_rows, L)
        return sum(term.evaluate(state).value for term in self._fixed_terms) + float(self._push @ self.weights)

    def values(self, L: Array) -> Array:
        """Numbers, one of every anchor, whose mean is the objective at any L: pull and push of its own, and any loss.

        They are found by a search of all rows that lists nothing.
        """
        asked = self._asked(L, 0)
        if isinstance(self.all_rows, LazyRows):
            push = self.all_rows.reduce(asked.pushes, partial(np.sum, axis=0), self.y)
        else:
            push = asked(self.all_rows, self.y, np.arange(len(self.y)), n_jobs=self.n_jobs)[0]
        self._push = push * self._per_push
        return self._values(L)

    def resolution(self, L: Array) -> float:
        """A tenth of the standard error, a five-hundredth of the objective, or by how much lists that are cut are off.

        To minimise a sample's own objective more closely is to learn the sample.
        """
        value = self.true_value(L)
        off = abs(self.in_components(L)[0] - value) if self._cut else 0.0
        return max(_RESOLUTION * self.error(L), off, _RESOLVED_SHARE * value) / value if value > 0 else 0.0

    def error(self, L: Array) -> float:
        """Standard error of pull and push as an estimate of those of all instances, at L or near by."""
        values = self._values(L)
        return float(values.std() / np.sqrt(max(len(values) - 1, 1)))

    def _values(self, L: Array) -> Array:
        state = MetricState(self._fixed_rows, L)
        loss = sum(term.evaluate(state).value for term in self._fixed_terms[1:])
        Z = state.Z
        squared = np.square(Z[: len(self.anchors), None] - Z[self.targets]).sum(axis=-1)
        pull = (squared * (self.targets >= 0)).sum(axis=1) * self._per_pull
        return np.asarray((pull + self._push) * self.weights * len(self.anchors) + loss)

    def _hinge(self, starts: Indices, candidates: NDArray[np.int32], scale: Array) -> _SampledHinge:
        return _SampledHinge(self.targets, starts, candidates, scale, self._per_push)

    def _search(self, L: Array, capacity: int) -> tuple[Array, Indices, NDArray[np.int32]]:
        """Of every anchor its push over the rows searched, how many candidates it has, and the list of those kept."""
        push, found, kept = self._asked(L, capacity)(*self._local, self._parts, n_jobs=self.n_jobs)
        return push * (self._stands_for * self._per_push), found, kept

    @cached_property
    def _local(self) -> tuple[Array, Indices, Indices]:
        """Rows in memory, their classes, and the numbers among them of those that the descent searches."""
        if isinstance(self.all_rows, LazyRows):
            return self.all_rows[self.searched], self.y[self.searched], np.arange(len(self.searched))
        return self.all_rows, self.y, self.searched

    def _asked(self, L: Array, capacity: int) -> _Search:
        fixed = np.ascontiguousarray(self._fixed_rows @ L.T)
        reach = margin_reach(fixed, self.targets)
        slack = self.slack if capacity else 1.0
        return _Search(L, fixed, self.targets, reach, slack, self.y[self.anchors], self.seed, capacity)


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
        self,
        rows: Array,
        y: Indices,
        searched: Indices,
        parts: Sequence[slice] = _ALL,
        *,
        n_jobs: int = 1,
    ) -> tuple[Array, Indices, NDArray[np.int32]]:
        """Push, number of candidates, and list of those kept, by their place in ``searched``, row numbers: the
        anchors of each part search the rows of that part."""
        m = len(self.labels)
        push, found = np.zeros(m), np.zeros(m, dtype=np.int64)
        kept = np.empty((m, self.capacity), dtype=np.int32)

        def search(part: tuple[Indices, Indices]) -> None:
            asked, places = part
            screen = Screen(self.fixed[asked])
            for block in screen.blocks(len(places)):
                chosen = searched[places[block]]
                P = np.ascontiguousarray(rows[chosen] @ self.L.T)
                prepared, others = screen.prepared(P), y[chosen]
                for tile in screen.tiles(slice(0, len(asked))):
                    _impostors(
                        screen.products(tile, prepared), screen.offset[tile], screen.relative, asked[tile], self.fixed,
                        P, self.targets, self.margins, self.slack, self.labels, others, places[block], self.seed, push,
                        found, kept,
                    )  # fmt: skip

        work = []
        for part in parts:
            asked, places = np.arange(m)[part], np.arange(len(searched))[part]
            work += [(asked[cut], places) for cut in chunk_slices(len(asked), 1.0, 2**40, -(-n_jobs // len(parts)))]
        map_chunks(search, work, n_jobs)
        return push, found, kept

    def pushes(self, rows: Array, y: Indices, first: int) -> Array:
        """Push of every anchor over the rows of a block."""
        return self(rows, y, np.arange(len(rows)))[0]


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
    products, offset, relative, asked, Z, P, targets, margins, slack, labels, others, places, seed, push, found, kept
):  # fmt: skip
    """Add a block of rows to the push of the anchors that are asked for, and to their lists of candidates.

    A list that is full takes the t-th candidate with a chance of (its length)/t in the place of a random one, so that
    every candidate is as likely to be in it. Chances are a hash of seed, anchor and t: threads and blocks change none.
    """
    m, n = products.shape
    capacity = kept.shape[1]
    k = targets.shape[1]
    own = np.empty(k)
    for part in range(m):
        i = asked[part]
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
                        kept[i, place] = places[j]
                    found[i] += 1


@nb.njit(cache=True, nogil=True)
def _hash(seed, i, t):
    """A whole number that looks random, from three (the finaliser of splitmix64)."""
    x = np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15)
    x ^= np.uint64(i) * np.uint64(0xD1342543DE82EF95) + np.uint64(t) * np.uint64(0x2545F4914F6CDD1D)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
