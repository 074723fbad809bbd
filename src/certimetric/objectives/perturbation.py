"""The adversarial margin of a triplet in the input space, and the perturbation loss that enlarges it."""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator

from certimetric.geometry.mahalanobis import as_metric
from certimetric.geometry.norms import Norm, resolve_norm
from certimetric.objectives.gradient import MetricState, TermValue, add_laplacian_product
from certimetric.objectives.pairs import TripletPairs, pair_squared_distances

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

_AUTO_QUANTILE = 0.75
_CHUNK_TRIPLETS = 8192


class PerturbationLoss(BaseEstimator):
    """Perturbation loss: enlarge the adversarial margins of triplets until they reach ``√tau``.

    For a triplet (x_i, x_j, x_l) with ``a = d²(x_i, x_l) − d²(x_i, x_j)`` the *adversarial margin* is the size of the
    smallest perturbation of x_i that makes the impostor x_l as near as the target neighbour x_j::

        r = a / (2 ‖M (x_l − x_j)‖_*)    if a > 0,   0 otherwise

    with the dual norm ‖·‖_*. The loss is the mean over triplets of ``[tau − r²]_+`` where a > 0 and ``tau``
    elsewhere. It does not depend on the scale of M, and plugs into every learner that minimises an objective over a
    metric: ``LMNN(perturbation=PerturbationLoss())``.

    Parameters
    ----------
    weight : float, default=1.0
        Factor of the loss in the learner's objective.
    tau : float or "auto", default="auto"
        Squared margin beyond which a triplet is safe, in squared units of the data. "auto" reads it off the data:
        the square of the upper quartile of the margins that the triplets have in the Euclidean metric.
    norm : {"l2", "linf", "l1"}, array-like of shape (d, d) or Norm, default="l2"
        How a perturbation is measured; a matrix A stands for ``√(δᵀAδ)``.

    References
    ----------
    Yang, Guo, Wang, Xu: *Metric learning with adversarial margin / perturbation loss*, arXiv 2006.05945, sections on
    the closest adversarial point and the perturbation loss.

    Examples
    --------
    >>> from certimetric import MahalanobisMetric, PerturbationLoss
    >>> X = [[0.0, 0.0], [1.0, 0.0], [4.0, 0.0]]
    >>> metric = MahalanobisMetric.from_matrix([[1.0, 0.0], [0.0, 1.0]])
    >>> loss = PerturbationLoss(tau=4.0)
    >>> loss.adversarial_margin(metric, X, [[0, 1, 2]])
    array([2.5])
    >>> loss.closest_adversarial_point(metric, X, [[0, 1, 2]])
    array([[2.5, 0. ]])
    """

    def __init__(self, weight: float = 1.0, tau: float | str = "auto", norm: Any = "l2"):
        self.weight = weight
        self.tau = tau
        self.norm = norm

    def bind(self, X: Array, triplets: Indices) -> PerturbationTerm:
        """The loss as a term of an objective, over fixed triplets of rows of X (any learner's entry point).

        Parameters
        ----------
        X : array of shape (n, d)
        triplets : int array of shape (m, 3)

        Raises
        ------
        ValueError
            If ``weight``, ``tau`` or ``norm`` is not usable.
        """
        norm = self.check()
        tau = self._auto_tau(X, triplets, norm) if self.tau == "auto" else float(self.tau)
        return PerturbationTerm(triplets, norm, tau, float(self.weight))

    def check(self) -> Norm:
        """Raise a ValueError if ``weight``, ``tau`` or ``norm`` is not usable; give the norm otherwise."""
        if isinstance(self.weight, str) or not np.isfinite(self.weight) or self.weight < 0:
            raise ValueError(f"the weight of PerturbationLoss must be at least 0, got {self.weight!r}")
        auto = isinstance(self.tau, str) and self.tau == "auto"
        if not auto and (isinstance(self.tau, str) or not np.isfinite(self.tau) or self.tau <= 0):
            raise ValueError(f"tau of PerturbationLoss must be 'auto' or a positive number, got {self.tau!r}")
        return resolve_norm(self.norm)

    @staticmethod
    def _auto_tau(X: Array, triplets: Indices, norm: Norm) -> float:
        if not len(triplets):
            return 1.0
        gap, v = _gap_and_direction(np.eye(X.shape[1]), X, triplets)
        margins = _margins(gap, norm.dual_norm(v))
        tau = float(np.quantile(margins, _AUTO_QUANTILE) ** 2)
        return tau if tau > 0 else 1.0

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
        return _margins(gap, resolve_norm(self.norm).dual_norm(v))

    def closest_adversarial_point(self, metric: Any, X: ArrayLike, triplets: ArrayLike) -> Array:
        """The nearest point to x_i at which the impostor is as near as the target neighbour, shape (m, d).

        Where the order is already flipped, that is x_i itself; where nothing flips it, NaN.
        """
        gap, v = self._gap_and_direction(metric, X, triplets)
        norm = resolve_norm(self.norm)
        margins = _margins(gap, norm.dual_norm(v))
        instances = np.asarray(X, dtype=float)[np.asarray(triplets)[:, 0]]
        reachable = np.isfinite(margins)[:, None]
        step = np.where(reachable, margins[:, None], 0.0) * norm.dual_vector(v)
        return np.where(reachable, instances + step, np.nan)

    def _gap_and_direction(self, metric: Any, X: ArrayLike, triplets: ArrayLike) -> tuple[Array, Array]:
        metric = as_metric(metric)
        X, triplets = np.asarray(X, dtype=float), np.asarray(triplets)
        if triplets.ndim != 2 or triplets.shape[1] != 3 or not np.issubdtype(triplets.dtype, np.integer):
            raise ValueError(f"triplets must be row numbers of shape (m, 3), got shape {triplets.shape}")
        metric.transform(X[:1])  # one message for a wrong number of features
        return _gap_and_direction(metric.components, X, triplets)


def _gap_and_direction(L: Array, X: Array, triplets: Indices) -> tuple[Array, Array]:
    """``a = d²(x_i, x_l) − d²(x_i, x_j)`` and ``v = M(x_l − x_j)`` of every triplet."""
    i, j, l = triplets.T
    Z = X @ L.T
    gap = pair_squared_distances(Z, i, l) - pair_squared_distances(Z, i, j)
    return gap, (Z[l] - Z[j]) @ L


def _margins(gap: Array, dual: Array) -> Array:
    margins = np.zeros_like(gap)
    positive = gap > 0
    with np.errstate(divide="ignore"):
        margins[positive] = gap[positive] / (2 * dual[positive])
    return margins


class PerturbationTerm:
    """The perturbation loss over fixed triplets, as a term (made by :meth:`PerturbationLoss.bind`).

    Parameters
    ----------
    triplets : int array of shape (m, 3)
    norm : Norm
    tau, weight : float
    """

    def __init__(self, triplets: Indices, norm: Norm, tau: float, weight: float):
        self.pairs = TripletPairs(triplets)
        self.norm, self.tau, self.weight = norm, tau, weight / max(len(triplets), 1)
        # The dual norm depends on (j, l) alone, and triplets of neighbouring instances share those pairs.
        n = int(triplets.max(initial=-1)) + 1
        keys, self.direction = np.unique(triplets[:, 2] * n + triplets[:, 1], return_inverse=True)
        self.l, self.j = keys // max(n, 1), keys % max(n, 1)

    def evaluate(self, state: MetricState) -> TermValue:
        """Value, pair weights of the gap, and the gradient of the dual norms.

        With ``r² = a²/(4b²)``: ``∂r²/∂a = a/(2b²)`` and ``∂r²/∂b² = −a²/(4b⁴)``.
        """
        squared = self.pairs.squared_distances(state.Z)
        gap = squared[self.pairs.impostor] - squared[self.pairs.target]
        # A whitened copy of Y turns the dual norm of an ellipsoid into a Euclidean one.
        Y = np.ascontiguousarray(self.norm.dual_coordinates(state.Y))
        dual_squared = _dual_squared(Y, self.l, self.j, self.norm.dual_order)[self.direction]
        value, on_gap, on_dual = _loss(gap, dual_squared, self.tau)
        weights = self.pairs.collect(-on_gap, on_gap) * self.weight
        dual_weights = np.asarray(np.bincount(self.direction, on_dual, len(self.l)) * self.weight, dtype=np.float64)
        gradient = self._dual_gradient(state, dual_weights)
        return TermValue(value * self.weight, self.pairs.i, self.pairs.j, weights, gradient)

    def _dual_gradient(self, state: MetricState, weights: Array) -> Array:
        """Gradient of ``Σ w b²``: with s attaining the dual norm at v, ``∂b²/∂M = b (s uᵀ + u sᵀ)``, u = x_l − x_j."""
        X = state.X
        if self.norm.dual_order == 2:
            # b s is linear in v, so the sum over pairs is again a Laplacian: Σ w v uᵀ = Yᵀ Laplacian(W) X.
            products = np.zeros_like(X)
            add_laplacian_product(self.l, self.j, weights, X, products)
            whitened = self.norm.dual_coordinates(state.Y).T @ products
            half = self.norm.dual_coordinates(np.eye(X.shape[1])) @ whitened
        else:
            half = np.zeros((X.shape[1],) * 2)
            active = np.flatnonzero(weights)
            for start in range(0, len(active), _CHUNK_TRIPLETS):
                some = active[start : start + _CHUNK_TRIPLETS]
                l, j = self.l[some], self.j[some]
                v = state.Y[l] - state.Y[j]
                b = self.norm.dual_norm(v)
                half += (self.norm.dual_vector(v) * (b * weights[some])[:, None]).T @ (X[l] - X[j])
        return half + half.T


@nb.njit(cache=True, nogil=True)
def _loss(gap, dual_squared, tau):
    """Sum of the loss over triplets, and its derivatives in the gap a and in the squared dual norm b²."""
    value = 0.0
    on_gap, on_dual = np.zeros_like(gap), np.zeros_like(gap)
    for t in range(gap.shape[0]):
        a, b2 = gap[t], dual_squared[t]
        if a <= 0.0:
            value += tau
        elif a * a < 4.0 * b2 * tau:
            value += tau - a * a / (4.0 * b2)
            on_gap[t] = -a / (2.0 * b2)
            on_dual[t] = a * a / (4.0 * b2 * b2)
    return value, on_gap, on_dual


@nb.njit(cache=True, nogil=True, fastmath={"contract", "reassoc"})
def _dual_squared(Y, l, j, order):
    """Squared vector norm of order 1, 2 or infinity of ``Y[l] − Y[j]``."""
    out = np.empty(l.shape[0])
    for pair in range(l.shape[0]):
        a, b = l[pair], j[pair]
        total = 0.0
        if order == 2:
            for t in range(Y.shape[1]):
                difference = Y[a, t] - Y[b, t]
                total += difference * difference
        elif order == 1:
            for t in range(Y.shape[1]):
                total += abs(Y[a, t] - Y[b, t])
            total *= total
        else:
            for t in range(Y.shape[1]):
                total = max(total, abs(Y[a, t] - Y[b, t]))
            total *= total
        out[pair] = total
    return out
