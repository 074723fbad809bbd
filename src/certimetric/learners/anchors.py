"""Anchors: how many instances have a part in an objective; of a large table more and more, until nothing changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any, TypeVar

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from certimetric.base.arrays import Array, Indices
from certimetric.base.lazy_rows import LazyRows
from certimetric.constraints.anchors import StratifiedSample
from certimetric.constraints.neighbors import combined_triplets, neighbors_of_both_kinds
from certimetric.learners.solvers import Solution
from certimetric.objectives.block_neighborhood import BlockNeighbors
from certimetric.objectives.gradient import MetricObjective, MetricState, Term
from certimetric.objectives.neighborhood import KernelRegression, StochasticNeighbors

N_ANCHORS = [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left"), None]
_ALL_ROWS = 20_000  # up to which "auto" takes all rows
_FIRST, _PER_FEATURE, _LARGEST_FIRST = 500, 20, 5_000  # anchors of the first size
_GROWTH = 3
_HELD_OUT = 1_000
_BATCHES = 20  # whose means tell the error of a mean
_CHANGE = 0.02  # of the held-out objective that a further growth must promise

State = TypeVar("State")


@dataclass(frozen=True)
class Size:
    """One size of a growing sample of anchors: the objective of held-out ones, and its standard error."""

    n_anchors: int
    held_out: float
    error: float


def takes_all_rows(n_anchors: Any, n: int) -> bool:
    """Whether so many anchors of n rows are all of them."""
    if n_anchors == "auto":
        return n <= _ALL_ROWS
    return n_anchors is None or n_anchors >= n


@dataclass(frozen=True, eq=False)
class Anchors:
    """A sample of instances, with what each of them stands for and its neighbours in all rows.

    Parameters
    ----------
    rows : int array of shape (m,)
    weights : array of shape (m,)
        Of mean 1.
    targets, impostors : int arrays of shape (m, k) and (m, q)
        Row numbers; −1 for none.
    """

    rows: Indices
    weights: Array
    targets: Indices
    impostors: Indices

    def triplets(self) -> Indices:
        """Every target with every impostor of every anchor, shape (t, 3)."""
        return combined_triplets(self.rows, self.targets, self.impostors)

    def weights_of_rows(self, n: int) -> Array:
        """Of all n rows: 1 of those that are no anchors."""
        weights = np.ones(n)
        weights[self.rows] = self.weights
        return weights


def grow_anchors(
    X: Array | LazyRows,
    y: Indices,
    n_anchors: Any,
    start: State,
    fit: Callable[[Anchors, State], State],
    held_out: Callable[[Anchors], Callable[[State], Array]],
    *,
    rng: np.random.RandomState,
    n_targets: int = 0,
    n_impostors: int = 0,
    weights: Array | None = None,
    n_jobs: int = 1,
    report: Callable[[Size], None] | None = None,
) -> tuple[State, Anchors, list[Size]]:
    """Fit on more and more anchors, each time from where the last fit ended.

    What a metric learned of m anchors has too much on held-out ones, which no fit has seen, falls like 1/m: three times
    as many gain a third of what was gained before. The growth ends where that is less than one fiftieth of
    the held-out objective, or where the gain was less than its own standard error.

    Parameters
    ----------
    X : array of shape (n, d) or LazyRows
        Rows in a Dask array are searched on its workers; anchors and their neighbours alone are gathered.
    y : int array of shape (n,)
        Class codes.
    n_anchors : int or "auto"
        A number is taken at once, with nothing held out. The first size of "auto" is 20 a feature, from 500 to 5,000.
    start : object
    fit : callable
        From anchors and a state to the next state.
    held_out : callable
        From held-out anchors to a function from a state to numbers, one of each, whose mean is their objective.
    rng : RandomState
    n_targets, n_impostors : int
        Neighbours of an anchor that are searched.
    weights : array of shape (n,), optional
        Of the instances in the objective: classes are sampled by their shares of these.
    n_jobs : int
        Threads.
    report : callable, optional
        Called after every size.

    Returns
    -------
    state : object
    anchors : Anchors
    sizes : list of Size
    """
    sample = StratifiedSample(y, rng, weights)

    def anchors_at(rows: Indices, known: Anchors | None = None) -> Anchors:
        new = rows if known is None else rows[len(known.rows) :]
        found = neighbors_of_both_kinds(X, y, new, n_targets, n_impostors, n_jobs=n_jobs)
        if known is not None:
            found = np.concatenate([known.targets, found[0]]), np.concatenate([known.impostors, found[1]])
        return Anchors(rows, sample.weights(rows, y), *found)

    if n_anchors != "auto":
        anchors = anchors_at(sample.grow(n_anchors))
        return fit(anchors, start), anchors, []
    values = held_out(anchors_at(sample.hold_out(_HELD_OUT)))
    size = int(np.clip(_PER_FEATURE * X.shape[1], _FIRST, _LARGEST_FIRST))
    anchors = anchors_at(sample.grow(size))
    state, sizes, before = fit(anchors, start), [], None
    while True:
        after = values(state)
        sizes.append(Size(len(anchors.rows), float(after.mean()), standard_error(after)))
        if report is not None:
            report(sizes[-1])
        if before is not None:
            gain = before - after
            if gain.mean() <= max(_GROWTH * _CHANGE * abs(after.mean()), standard_error(gain)):
                break
        before, size = after, _GROWTH * size
        more = sample.grow(size)
        if not len(more):
            break
        anchors = anchors_at(np.concatenate([anchors.rows, more]), anchors)
        state = fit(anchors, state)
    return state, anchors, sizes


@dataclass(frozen=True, eq=False)
class NeighborDescent:
    """Where the descent over one size of a sample, of an objective over neighbours picked by chance, ended."""

    components: Array
    n_iter: int = 0
    solution: Solution | None = None


def descend_over_neighbors(
    X: Array | LazyRows,
    y: Indices,
    n_anchors: Any,
    start: Array,
    kind: type[StochasticNeighbors] | type[KernelRegression],
    values: Array | Indices,
    descend: Callable[[MetricObjective, Array], Solution],
    *,
    weights: Array | None = None,
    further_of: Callable[[Array, Indices, list[Term], Array | None], Term] | None = None,
    n_jobs: int = 1,
    **settings: Any,
) -> tuple[Solution, tuple[int, list[Size], float]]:
    """Learn of neighbours picked by chance, over anchors that see all rows.

    Parameters
    ----------
    X, y, n_anchors, n_jobs, settings
        As of :func:`grow_anchors`.
    start : array of shape (k, d)
    kind : type
        Of the term.
    values : array of shape (n,)
        What the term is about: class codes or numbers.
    descend : callable
        From an objective and components to a solution.
    weights : array of shape (n,), optional
        Of the instances in the mean, for rows in memory.
    further_of : callable, optional
        From instances, triplets of them, the terms so far, and the weights of the instances to one more.

    Returns
    -------
    solution : Solution
    sample : tuple
        How many anchors, the sizes, and the standard error of the term as an estimate of that over all instances.
    """

    def objective_of(anchors: Anchors) -> MetricObjective:
        # Rows are in the order of their classes: batches of consecutive ones should be alike.
        first = np.concatenate([anchors.rows[i::_BATCHES] for i in range(_BATCHES)])
        used = np.full(len(X), not isinstance(X, LazyRows))  # in a Dask array of others those that triplets name
        used[anchors.triplets()] = True
        used[first] = False
        order = np.concatenate([first, used.nonzero()[0]])
        of_rows = None if weights is None else anchors.weights_of_rows(len(X))[order]
        term: Term = (
            BlockNeighbors(X, values, first, kind.of_classes)
            if isinstance(X, LazyRows)
            else kind(values[order], n_jobs, len(first), of_rows)
        )
        terms, points = [term], X[order]
        if further_of is not None:
            place = np.empty(len(X), dtype=np.int64)
            place[order] = np.arange(len(order))
            terms.append(further_of(points, place[anchors.triplets()], terms, of_rows))
        return MetricObjective(points, terms)

    def fit(anchors: Anchors, before: NeighborDescent) -> NeighborDescent:
        solution = descend(objective_of(anchors), before.components)
        n_iter = before.n_iter + solution.n_iter
        return NeighborDescent(solution.components, n_iter, replace(solution, n_iter=n_iter))

    def held_out(anchors: Anchors) -> Callable[[NeighborDescent], Array]:
        objective = objective_of(anchors)

        def values(reached: NeighborDescent) -> Array:
            state = MetricState(objective.X, reached.components)
            further = sum(term.evaluate(state).value for term in objective.terms[1:])
            term: Any = objective.terms[0]
            return np.asarray(term.batch_means(state, _BATCHES) + further)

        return values

    reached, anchors, sizes = grow_anchors(
        X, y, n_anchors, NeighborDescent(start), fit, held_out, weights=weights, n_jobs=n_jobs, **settings
    )
    assert reached.solution is not None
    error = standard_error(held_out(anchors)(reached))
    return reached.solution, (len(anchors.rows), sizes, error)


def standard_error(values: Array) -> float:
    """Of the mean of independent numbers; 0 of a single one."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


def print_size(learner: str) -> Callable[[Size], None]:
    """A callback that prints the objective of held-out anchors after every size."""

    def report(size: Size) -> None:
        print(f"[{learner}] {size.n_anchors} anchors  held-out objective {size.held_out:.6g} ± {size.error:.2g}")

    return report
