"""The coordinates that learners work in: a unit near 1, and no more features than the instances can tell apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import issparse

from certimetric.base.arrays import Array, Indices
from certimetric.base.chunks import chunk_slices
from certimetric.base.lazy_rows import LazyRows
from certimetric.constraints.class_scatter import ClassScatter
from certimetric.geometry.norms import L2, Norm
from certimetric.objectives.gradient import MetricObjective, Term
from certimetric.objectives.triplet_margin import TripletMarginLoss

_MEMORY = 2**18  # bytes of centred instances at a time, which stay in cache
_USUAL_SIZES = (0.1, 10.0**0.5)  # between these, margins and steps of size 1 work on the data as they are


@dataclass(frozen=True, eq=False)
class Coordinates:
    """Instances in the coordinates of a learner, and the way back to components for the data as they came.

    *Unit.* The objectives of some learners have a margin of 1 or a chance ``exp(−d²)``, and all of them start from
    distances of the data. So data whose features have a root mean square standard deviation below 0.1 or above √10 are
    divided by the power of ten that is nearest to it: what is learned of them is what is learned of the same data at a
    usual size. Any others, standardised ones for instance, are taken as they are. With a loss on adversarial margins of
    relative weight the unit is that root mean square itself, whatever its size, so that no unit makes a difference.

    *Span.* An objective that sees differences of n instances only is a function of ``L Vᵀ``, with the orthonormal rows
    of V spanning these differences. Where there are more features than instances, one thin singular value
    decomposition gives V, and the learner works on n × n instead of n × d numbers: the same objective, exactly. (Losses
    on margins in another norm than l2 also depend on what a metric does to directions outside of the span; for them
    this is the objective of the metrics that do nothing there.)

    Parameters
    ----------
    X : array of shape (n, r), or LazyRows
    unit : float
        What the data were divided by.
    axes : array of shape (r, d) or None
        V: orthonormal principal axes, by decreasing variance; None where nothing was reduced.
    """

    X: Any
    unit: float = 1.0
    axes: Array | None = None

    @classmethod
    def of(
        cls, X: Array, *, rescale: bool, reduce: bool = True, perturbation: TripletMarginLoss | None = None
    ) -> Coordinates:
        """Choose coordinates for instances, shape (n, d).

        Parameters
        ----------
        X : array of shape (n, d)
        rescale : bool
            Whether the objective depends on the unit of the data.
        reduce : bool
            Whether the learner may work in the span of the instances.
        perturbation : TripletMarginLoss, optional
            The loss on adversarial margins of the learner.
        """
        axes = None
        size = deviation_of(X) if rescale and perturbation is not None and perturbation.relative else 0.0
        if reduce and X.shape[1] > len(X):
            centred = X - X.mean(axis=0)
            _, singular, axes = np.linalg.svd(centred, full_matrices=False)
            rounding = max(X.shape) * np.finfo(float).eps * np.abs(X).max() * np.sqrt(len(X))
            axes = axes[: max(int((singular > rounding).sum()), 1)]
            X = np.ascontiguousarray(centred @ axes.T)
        unit = size or (unit_of(X) if rescale else 1.0)
        if size or unit != 1.0:  # a grid is about the mean, even where the unit is 1
            X = (X - X.mean(axis=0)) / unit
        return cls(on_grid(X) if size else X, unit, axes)

    @classmethod
    def for_descent(
        cls,
        X: Array,
        init: Any,
        n_components: int | None,
        *,
        rescale: bool,
        perturbation: TripletMarginLoss | None = None,
    ) -> Coordinates:
        """Choose coordinates for a descent over L from ``init`` (see :func:`certimetric.learners.starts`).

        A starting point of rows that leave the span of the instances keeps what they have outside: nothing is reduced.
        """
        inside = isinstance(init, str) and (init != "identity" or n_components in (None, X.shape[1]))
        return cls.of(X, rescale=rescale, reduce=inside, perturbation=perturbation)

    @classmethod
    def of_blocks(cls, X: Any, scatter: ClassScatter, *, perturbation: TripletMarginLoss | None = None) -> Coordinates:
        """The same for rows in a Dask array, which are counted by class already: its ``X`` are LazyRows.

        To rounding these are the coordinates of the rows in memory. Nothing is reduced to a span.
        """
        import dask

        n = int(scatter.counts.sum())
        pairs = scatter.pairs()
        variance = np.diag(pairs.similar_sum + pairs.dissimilar_sum) / n**2
        varies = variance > 0
        deviation = float(np.sqrt(variance[varies].mean())) if varies.any() else 1.0
        relative = perturbation is not None and perturbation.relative
        unit = deviation if relative else usual_unit(deviation)
        if relative or unit != 1.0:
            X = (X - scatter.counts @ (scatter.means + scatter.rests) / n) / unit
        if relative:
            X = X.map_blocks(rounded_to, grid_of(dask.compute(abs(X).max(axis=0))[0]), dtype=np.float64)
        return cls(LazyRows(X), unit)

    def lift(self, L: Array) -> Array:
        """Components for the data, shape (k, d), of components in these coordinates, shape (k, r)."""
        return (L if self.axes is None else L @ self.axes) / self.unit

    def norm(self, norm: Norm) -> Norm:
        """The norm of perturbations, for vectors in these coordinates (in units of the data)."""
        return norm if self.axes is None or isinstance(norm, L2) else Spanned(norm, self.axes)

    def loss(self, loss: TripletMarginLoss) -> TripletMarginLoss:
        """A loss on adversarial margins, for instances in these coordinates."""
        if self.axes is None and self.unit == 1.0:
            return loss
        return loss.for_coordinates(self.norm(loss.check()), self.unit)

    def bind(
        self,
        loss: TripletMarginLoss,
        triplets: Indices,
        terms: list[Term],
        start: Array,
        weights: Array | None = None,
    ) -> Term:
        """A loss on adversarial margins as a further term of an objective over these instances.

        Parameters
        ----------
        loss : TripletMarginLoss
        triplets : int array of shape (m, 3)
        terms : list of Term
            The terms of the learner itself: what they amount to at the start is the unit of a relative weight.
        start : array of shape (k, r)
            Components that the descent starts from, as far as the loss has a part in it.
        weights : array of shape (n,), optional
            Of the instances, in the mean.
        """
        return self.bind_in([], loss, triplets, terms, start, weights)

    def bind_in(
        self,
        unit: list[tuple[float, Array]],
        loss: TripletMarginLoss,
        triplets: Indices,
        terms: list[Term],
        start: Array,
        weights: Array | None = None,
    ) -> Term:
        """The same, in a unit that the first call puts into the list, with its start; later ones, of more instances,
        find both there."""
        if not unit:
            objective = 1.0
            if loss.relative:
                own = MetricObjective(self.X, terms)
                own.refresh(start)
                objective = own.in_components(start)[0]
            # Where they amount to nothing, what they are made of is the unit: a margin of 1, or a chance.
            unit.append((objective if objective > 0 else 1.0, start))
        objective, start = unit[0]
        return self.loss(loss).bind(self.X, triplets, objective, weights, start)


def check_n_components(n_components: int | None, d: int) -> None:
    """Refuse more components than features."""
    if n_components is not None and n_components > d:
        raise ValueError(f"n_components must be at most the number of features, {d}, got {n_components}")


def deviation_of(X: Any) -> float:
    """Root mean square standard deviation of the features that vary, of sparse instances too; 1 where none does."""
    n, ranges = X.shape[0], X.max(axis=0) - X.min(axis=0)
    ranges = np.asarray(ranges.toarray() if issparse(X) else ranges).ravel()
    size = float(ranges.max(initial=0.0))
    if not size > 0:
        return 1.0
    mean = np.asarray(X.mean(axis=0)).ravel()
    varies = ranges > 0  # a constant feature differs from its mean by rounding only
    total = 0.0
    for rows in chunk_slices(n, 8.0 * X.shape[1], _MEMORY):
        centred = (X[rows].toarray() if issparse(X) else X[rows]) - mean
        centred /= size
        centred *= varies
        total += float(np.vdot(centred, centred))
    return size * float(np.sqrt(total / (n * np.count_nonzero(varies))))


def on_grid(X: Array) -> Array:
    """Every feature rounded to 30 binary digits: other units change the last of 53, and must not decide between ties.

    (Measurements with few digits have many equal distances, and which neighbour is a target depends on such a tie.)
    """
    return rounded_to(X, grid_of(np.abs(X).max(axis=0)))


def grid_of(largest: Array) -> Array:
    """The grid of features of these largest sizes."""
    return np.asarray(np.ldexp(1.0, np.frexp(largest)[1] - 30))


def rounded_to(X: Array, grid: Array) -> Array:
    """Every feature as multiples of its grid."""
    return np.ascontiguousarray(np.round(X / grid) * grid)


def unit_of(X: Array) -> float:
    """Power of ten nearest to the root mean square standard deviation of the features that vary; 1 for usual ones."""
    return usual_unit(deviation_of(X))


def usual_unit(deviation: float) -> float:
    """The same of a deviation."""
    low, high = _USUAL_SIZES
    return 1.0 if low <= deviation <= high else float(10.0 ** np.clip(np.round(np.log10(deviation)), -300, 300))


class Spanned(Norm):
    """A norm on the perturbations in the span of orthonormal rows, for vectors of coordinates along them.

    It is what an objective needs of a norm: the dual norm of directions in the span, and the vectors that attain it.

    Parameters
    ----------
    base : Norm
    axes : array of shape (r, d)
    """

    def __init__(self, base: Norm, axes: Array):
        self.base, self.axes = base, axes
        self.name, self.dual_order = base.name, base.dual_order

    def norm(self, delta: ArrayLike) -> Array:
        return self.base.norm(np.asarray(delta, float) @ self.axes)

    def dual_coordinates(self, v: Array) -> Array:
        return self.base.dual_coordinates(v @ self.axes)

    def dual_vector(self, v: ArrayLike) -> Array:
        # Projected to the span, which changes none of its products with directions there.
        return self.base.dual_vector(np.asarray(v, float) @ self.axes) @ self.axes.T

    def project(self, delta: ArrayLike, eps: float) -> Array:
        raise NotImplementedError("a ball cut by a subspace is not projected to")

    def sample(self, rng: np.random.Generator, n: int, d: int) -> Array:
        raise NotImplementedError("a ball cut by a subspace is not sampled from")
