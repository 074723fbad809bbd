"""The perturbation loss, which enlarges the adversarial margins of triplets up to a size."""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np

from certimetric.base.arrays import Array, Indices
from certimetric.geometry.norms import Norm
from certimetric.objectives.triplet_margin import TripletMarginLoss, TripletMarginTerm

_RELATIVE_WEIGHT = 30.0  # of the share of tau that is missing, in units of the other terms where the loss comes in


class PerturbationLoss(TripletMarginLoss):
    """Perturbation loss: enlarge the adversarial margins of triplets until they reach ``√tau``.

    For a triplet (x_i, x_j, x_l) with ``a = d²(x_i, x_l) − d²(x_i, x_j)`` the *adversarial margin* is the size of the
    smallest perturbation of x_i that makes the impostor x_l as near as the target neighbour x_j::

        r = a / (2 ‖M (x_l − x_j)‖_*)    if a > 0,   0 otherwise

    with the dual norm ‖·‖_*. The loss is the mean over triplets of ``[tau − r²]_+`` where a > 0 and ``tau``
    elsewhere. It does not depend on the scale of M, and plugs into every learner that minimises an objective over a
    metric: ``LMNN(perturbation=PerturbationLoss())``.

    By default its weight is relative: the loss is divided by ``tau``, so that it lies between 0 and 1, and multiplied
    by ``weight`` times thirty times what the learner's own terms amount to where the loss comes in: at the start, in
    :class:`LMNN` after a quarter of the steps. The learner works on the data divided by their root mean square standard
    deviation. So other units of the data change nothing: not a prediction, and a certified radius just by the factor
    between the units.

    Parameters
    ----------
    weight : float, default=1.0
        Factor of the loss in the learner's objective. Smaller ones trade radius and accuracy under noise for the
        learner's own aim.
    tau : float or "auto", default="auto"
        Squared margin beyond which a triplet is safe, in squared units of the data. "auto" reads it off the data:
        the square of the upper quartile of the margins that the triplets have in the Euclidean metric, or where the
        loss comes in if that is larger.
    norm : {"l2", "linf", "l1"}, array-like of shape (d, d) or Norm, default="l2"
        How a perturbation is measured; a matrix A stands for ``√(δᵀAδ)``.
    relative : bool, default=True
        False takes ``weight`` as the factor itself, in a learner that takes the units of the data as they are: how
        much that is depends on the units. (This was the only way up to version 0.1.)

    Notes
    -----
    Thirty, and the level of "auto", were chosen on 17 development sets: the lowest error under noise N(0, 0.3²) of
    LMNN, SCML and NCA among settings whose clean error is not worse than without the loss
    (``benchmarks/perturbation_default.py`` has the rule, and figures of other sets).

    References
    ----------
    Yang, Guo, Dong, Xue: *Towards certified robustness of distance metric learning*, arXiv 2006.05945
    [yang2020towards], sections on the closest adversarial point and the perturbation loss.

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

    aim = ("tau", 2)

    def __init__(self, weight: float = 1.0, tau: float | str = "auto", norm: Any = "l2", relative: bool = True):
        self.weight = weight
        self.tau = tau
        self.norm = norm
        self.relative = relative

    def check(self) -> Norm:
        if not isinstance(self.relative, (bool, np.bool_)):
            raise ValueError(f"relative of PerturbationLoss must be True or False, got {self.relative!r}")
        return super().check()

    def _term(
        self, triplets: Indices, norm: Norm, aim: float, objective: float, weights: Array | None
    ) -> PerturbationTerm:
        factor = _RELATIVE_WEIGHT * objective / aim if self.relative else 1.0
        return PerturbationTerm(triplets, norm, aim, self.weight * factor, weights)


class PerturbationTerm(TripletMarginTerm):
    """The perturbation loss over fixed triplets, as a term (made by :meth:`PerturbationLoss.bind`)."""

    def __init__(self, triplets: Indices, norm: Norm, tau: float, weight: float, weights: Array | None = None):
        super().__init__(triplets, norm, weight, weights)
        self.tau = tau

    def _loss(self, gap: Array, dual_squared: Array) -> tuple[float, Array, Array]:
        return _loss(gap, dual_squared, self.tau, self.counts)


@nb.njit(cache=True, nogil=True)
def _loss(gap, dual_squared, tau, counts):
    """With ``r² = a²/(4b²)``: ``∂r²/∂a = a/(2b²)`` and ``∂r²/∂b² = −a²/(4b⁴)``."""
    value = 0.0
    on_gap, on_dual = np.zeros_like(gap), np.zeros_like(gap)
    for t in range(gap.shape[0]):
        a, b2 = gap[t], dual_squared[t]
        if a <= 0.0:
            value += counts[t] * tau
        elif a * a < 4.0 * b2 * tau:
            value += counts[t] * (tau - a * a / (4.0 * b2))
            on_gap[t] = counts[t] * (-a / (2.0 * b2))
            on_dual[t] = counts[t] * (a * a / (4.0 * b2 * b2))
    return value, on_gap, on_dual
