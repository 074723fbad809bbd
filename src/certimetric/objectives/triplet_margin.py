"""Adversarial margins of triplets: what every loss on them shares, from the margin itself to its gradient."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any, ClassVar

import numba as nb
import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_array

from certimetric.base.arrays import Array, Indices
from certimetric.base.chunks import chunk_slices
from certimetric.geometry.features import align_all
from certimetric.geometry.kernels import difference_norm, pair_squared_distances, squared_distance
from certimetric.geometry.mahalanobis import as_metric
from certimetric.geometry.norms import L1, L2, Linf, Norm, resolve_norm
from certimetric.objectives.gradient import MetricState, Term, TermValue, add_laplacian_product
from certimetric.objectives.pairs import TripletPairs, counts_of, distinct_pairs

_AUTO_QUANTILE = 0.75
_CHUNK_BYTES = 16 * 2**20  # of the dual coordinates of directions


class TripletMarginLoss(BaseEstimator, ABC):
    """Base of the losses on adversarial margins: settings, and the margins of triplets under any metric.

    A subclass names, beside its parameters, the one that is the margin aimed at (``"auto"`` reads it off the data), the
    power in which that has the units of the data, and the values that its other parameters may have.
    """

    weight: float
    norm: Any
    relative: bool = False
    __init__: Callable[..., None]
    aim: ClassVar[tuple[str, int]]
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    @abstractmethod
    def _term(self, triplets: Indices, norm: Norm, aim: float, objective: float, weights: Array | None) -> Term:
        """The loss as a term over fixed triplets, every setting known."""

    def bind(
        self,
        X: Array,
        triplets: Indices,
        objective: float = 1.0,
        weights: Array | None = None,
        start: Array | None = None,
    ) -> Any:
        """The loss as a term of an objective, over fixed triplets of rows of X (any learner's entry point).

        Parameters
        ----------
        X : array of shape (n, d)
        triplets : int array of shape (m, 3)
        objective : float, default=1.0
            What the other terms of the objective amount to at the start: the unit of a relative weight.
        weights : array of shape (n,), optional
            Of the instances, in the mean.
        start : array of shape (k, d), optional
            Components at which the loss comes in: margins that are larger there than in the Euclidean metric are kept.

        Raises
        ------
        ValueError
            If a setting is not usable.
        """
        norm, (name, power) = self.check(), self.aim
        value = getattr(self, name)
        aim = typical_margin(X, triplets, norm, start) ** power if value == "auto" else float(value)
        return self._term(triplets, norm, aim, objective, weights)

    def for_coordinates(self, norm: Norm, unit: float) -> TripletMarginLoss:
        """The same loss for instances that were divided by ``unit``, of perturbations measured by ``norm``."""
        name, power = self.aim
        value = getattr(self, name)
        aim = value if isinstance(value, str) else value / unit**power
        return type(self)(**{**self.get_params(deep=False), "norm": norm, name: aim})

    def check(self) -> Norm:
        """Raise a ValueError if a setting is not usable; give the norm otherwise."""
        loss, (name, _) = type(self).__name__, self.aim
        for parameter, known in self.choices.items():
            if (value := getattr(self, parameter)) not in known:
                raise ValueError(f"{parameter} of {loss} must be one of {', '.join(map(repr, known))}, got {value!r}")
        if not _is_finite(self.weight) or self.weight < 0:
            raise ValueError(f"the weight of {loss} must be at least 0, got {self.weight!r}")
        value = getattr(self, name)
        if not (isinstance(value, str) and value == "auto") and not (_is_finite(value) and value > 0):
            raise ValueError(f"{name} of {loss} must be 'auto' or a positive number, got {value!r}")
        return resolve_norm(self.norm)

    def adversarial_margin(self, metric: Any, X: ArrayLike, triplets: ArrayLike) -> Array:
        """Size of the smallest perturbation of x_i that flips each triplet.

        Parameters
        ----------
        metric : MahalanobisMetric or fitted learner
        X : array-like of shape (n, d)
        triplets : int array-like of shape (m, 3)
            Rows (instance, target neighbour, impostor) of X.

        Returns
        -------
        margins : array of shape (m,)
            In units of X; 0 where the impostor is already the nearer one, infinity where nothing flips the order.
        """
        gap, v = self._gap_and_direction(metric, X, triplets)
        return margins_of(gap, resolve_norm(self.norm).dual_norm(v))

    def signed_margin(self, metric: Any, X: ArrayLike, triplets: ArrayLike) -> Array:
        """``[d²(x_i, x_l) − d²(x_i, x_j)] / (2 ‖M (x_l − x_j)‖_*)`` of every triplet, shape (m,).

        The adversarial margin where it is positive; negative where the impostor is the nearer one; 0 where the metric
        cannot tell target neighbour and impostor apart.
        """
        gap, v = self._gap_and_direction(metric, X, triplets)
        dual = resolve_norm(self.norm).dual_norm(v)
        return np.divide(gap, 2 * dual, out=np.zeros_like(gap), where=dual > 0)

    def closest_adversarial_point(self, metric: Any, X: ArrayLike, triplets: ArrayLike) -> Array:
        """The nearest point to x_i at which the impostor is as near as the target neighbour, shape (m, d).

        Where the order is already flipped, that is x_i itself; where nothing flips it, NaN.
        """
        gap, v = self._gap_and_direction(metric, X, triplets)
        norm = resolve_norm(self.norm)
        margins = margins_of(gap, norm.dual_norm(v))
        instances = np.asarray(align_all(metric, X=X)[0], dtype=float)[np.asarray(triplets)[:, 0]]
        reachable = np.isfinite(margins)[:, None]
        step = np.where(reachable, margins[:, None], 0.0) * norm.dual_vector(v)
        return np.where(reachable, instances + step, np.nan)

    def _gap_and_direction(self, metric: Any, X: ArrayLike, triplets: ArrayLike) -> tuple[Array, Array]:
        (X,) = align_all(metric, X=X)
        metric = as_metric(metric)
        X, triplets = check_array(X, dtype=np.float64, input_name="X"), np.asarray(triplets)
        if triplets.ndim != 2 or triplets.shape[1] != 3 or not np.issubdtype(triplets.dtype, np.integer):
            raise ValueError(f"triplets must be row numbers of shape (m, 3), got shape {triplets.shape}")
        if triplets.size and not (triplets.min() >= 0 and triplets.max() < len(X)):
            raise ValueError(
                f"triplets must be row numbers of X from 0 to {len(X) - 1}, got {triplets.min()} to {triplets.max()}"
            )
        metric.transform(X[:1])  # one message for a wrong number of features
        return gap_and_direction(metric.components, X, triplets)


def _is_finite(value: Any) -> bool:
    return isinstance(value, Real) and math.isfinite(value)


def gap_and_direction(L: Array, X: Array, triplets: Indices) -> tuple[Array, Array]:
    """``a = d²(x_i, x_l) − d²(x_i, x_j)`` and ``v = M(x_l − x_j)`` of every triplet."""
    i, j, l = triplets.T
    Z = X @ L.T
    gap = pair_squared_distances(Z, i, l) - pair_squared_distances(Z, i, j)
    return gap, (Z[l] - Z[j]) @ L


def margins_of(gap: Array, dual: Array) -> Array:
    """Sizes of the smallest perturbations: 0 where the order is flipped, infinity where nothing flips it."""
    margins = np.zeros_like(gap)
    positive = gap > 0
    with np.errstate(divide="ignore"):
        margins[positive] = gap[positive] / (2 * dual[positive])
    return margins


def typical_margin(X: Array, triplets: Indices, norm: Norm, L: Array | None = None) -> float:
    """Upper quartile of the margins that the triplets have in the Euclidean metric, or under L if that is larger; 1
    where it is 0.

    The margin that losses aim at by default: it has the units of the data, whatever their scaling.
    """
    typical = 0.0
    for components in (np.eye(X.shape[1]), L):
        if components is not None and len(triplets):
            gap, v = gap_and_direction(components, X, triplets)
            slices = chunk_slices(len(v), 8.0 * norm.dual_coordinates(v[:1]).shape[-1], _CHUNK_BYTES)
            dual = np.concatenate([norm.dual_norm(v[rows]) for rows in slices])
            margin = float(np.quantile(margins_of(gap, dual), _AUTO_QUANTILE))
            typical = max(typical, margin if margin < np.inf else 0.0)
    return typical or 1.0


class TripletMarginTerm(ABC):
    """A loss on the adversarial margins of fixed triplets, as a term: all but the loss itself.

    Parameters
    ----------
    triplets : int array of shape (m, 3)
    norm : Norm
    weight : float
        Factor of the mean over the triplets.
    weights : array of shape (n,), optional
        Of the instances, in the mean.
    """

    def __init__(self, triplets: Indices, norm: Norm, weight: float, weights: Array | None):
        self.pairs, self.norm = TripletPairs(triplets), norm
        self.counts = counts_of(triplets[:, 0], weights)
        self.weight = weight / (self.counts.sum() or 1.0)
        # The dual norm depends on (j, l) alone, and triplets of neighbouring instances share those pairs.
        self.l, self.j, self.direction = distinct_pairs(triplets[:, 2], triplets[:, 1])

    @abstractmethod
    def _loss(self, gap: Array, dual_squared: Array) -> tuple[float, Array, Array]:
        """Sum of the loss by ``counts``, and its derivatives in the gap a and in the squared dual norm b²."""

    def evaluate(self, state: MetricState) -> TermValue:
        """Value, pair weights of the gap, and the gradient of the dual norms."""
        squared = self.pairs.squared_distances(state.Z)
        gap = squared[self.pairs.impostor] - squared[self.pairs.target]
        # A whitened copy of Y turns the dual norm of an ellipsoid into a Euclidean one.
        Y = np.ascontiguousarray(self.norm.dual_coordinates(state.Y))
        dual_squared = _dual_squared(Y, self.l, self.j, self.norm.dual_order)[self.direction]
        value, on_gap, on_dual = self._loss(gap, dual_squared)
        weights = self.pairs.collect(-on_gap, on_gap) * self.weight
        dual_weights = np.asarray(np.bincount(self.direction, on_dual, len(self.l)) * self.weight, dtype=np.float64)
        gradient = self._dual_gradient(state.X, Y, dual_weights)
        return TermValue(value * self.weight, self.pairs.i, self.pairs.j, weights, gradient)

    def _dual_gradient(self, X: Array, Y: Array, weights: Array) -> Array:
        """Gradient of ``Σ w b²``: with s attaining the dual norm at v, ``∂b²/∂M = b (s uᵀ + u sᵀ)``, u = x_l − x_j.

        Y holds the dual coordinates of the instances. The sum over pairs is that of products of one row each of X and
        of another array of the size of Y: no row is made for a pair.
        """
        products = np.zeros_like(X if self.norm.dual_order == 2 else Y)
        if self.norm.dual_order == 2:
            # b s is linear in v, so the sum over pairs is again a Laplacian: Σ w v uᵀ = Yᵀ Laplacian(W) X.
            add_laplacian_product(self.l, self.j, weights, X, products)
            half = Y.T @ products
        else:
            _add_dual_products(self.l, self.j, weights, Y, self.norm.dual_order, products)
            half = products.T @ X
        if not isinstance(self.norm, (L1, L2, Linf)):  # whose dual coordinates are the features
            half = self.norm.dual_coordinates(np.eye(X.shape[1])) @ half
        return half + half.T


@nb.njit(cache=True, nogil=True)
def _dual_squared(Y, l, j, order):
    """Squared vector norm of order 1, 2 or infinity of ``Y[l] − Y[j]``."""
    out = np.empty(l.shape[0])
    for pair in range(l.shape[0]):
        a, b = Y[l[pair]], Y[j[pair]]
        out[pair] = squared_distance(a, b) if order == 2 else difference_norm(a, b, order) ** 2
    return out


@nb.njit(cache=True, nogil=True)
def _add_dual_products(l, j, weights, Y, order, out):
    """Add ``w b s`` to row l of ``out`` and take it from row j, s attaining the norm b of ``Y[l] − Y[j]``: of order 1
    the signs of the difference, of order infinity its largest entry alone."""
    for pair in range(l.shape[0]):
        w = weights[pair]
        if w == 0.0:
            continue
        a, b = l[pair], j[pair]
        if order == 1:
            size = difference_norm(Y[a], Y[b], 1)
            for t in range(Y.shape[1]):
                step = w * size * np.sign(Y[a, t] - Y[b, t])
                out[a, t] += step
                out[b, t] -= step
        else:
            largest = 0
            for t in range(Y.shape[1]):
                if abs(Y[a, t] - Y[b, t]) > abs(Y[a, largest] - Y[b, largest]):
                    largest = t
            step = w * (Y[a, largest] - Y[b, largest])
            out[a, largest] += step
            out[b, largest] -= step
