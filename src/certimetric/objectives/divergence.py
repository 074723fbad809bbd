"""The LogDet divergence, which keeps a metric near to a prior and positive definite."""

from __future__ import annotations

import numpy as np
from scipy.linalg import lapack

from certimetric.base.arrays import Array
from certimetric.objectives.gradient import MetricState, TermValue

_SINGULAR = 1400.0  # of a determinant as small as a float can be
_NO_PAIRS = np.zeros(0, dtype=np.int64)


class LogDetDivergence:
    """``tr(M M₀⁻¹) − log det(M M₀⁻¹) − d``: 0 at the prior M₀, and convex in M.

    Where M is singular, and it is infinite, it is taken to be 1,400: line searches step back from numbers only.

    Parameters
    ----------
    prior_components : array of shape (d, d)
        L₀ of full rank, with ``M₀ = L₀ᵀ L₀``; the components that are looked at must be square, too.

    Examples
    --------
    >>> divergence = LogDetDivergence(np.eye(2))
    >>> [round(divergence.evaluate(MetricState(np.zeros((1, 2)), scale * np.eye(2))).value, 4) for scale in (1.0, 2.0)]
    [0.0, 3.2274]
    """

    def __init__(self, prior_components: Array):
        inverse = np.linalg.inv(prior_components)
        self.inverse_prior = inverse @ inverse.T
        self.inverse_prior_components = inverse
        self.prior_log_det = np.linalg.slogdet(prior_components)[1]

    def evaluate(self, state: MetricState) -> TermValue:
        """Value, and the gradient in M, ``M₀⁻¹ − M⁻¹``."""
        relative = state.L @ self.inverse_prior_components  # its squared singular values are those of M M₀⁻¹
        factors, pivots, singular = lapack.dgetrf(state.L)
        if singular:
            return TermValue(_SINGULAR, _NO_PAIRS, _NO_PAIRS, np.zeros(0), np.zeros_like(self.inverse_prior))
        log_det = np.log(np.abs(np.diagonal(factors))).sum() - self.prior_log_det
        value = float(np.vdot(relative, relative) - 2.0 * log_det) - len(relative)
        inverse = lapack.dgetri(factors, pivots)[0]
        return TermValue(value, _NO_PAIRS, _NO_PAIRS, np.zeros(0), self.inverse_prior - inverse @ inverse.T)


def logdet_gap(K: Array, gradient: Array) -> float:
    """How far an objective ``tr(M A) − log det M + g(M)``, with a convex g, lies above its minimum at ``M = KᵀK``.

    Convex are :class:`PairBounds` and :class:`QuadrupletHinge`. Let S be a subgradient of g at M. As g lies above its
    tangent there, the objective lies above ``tr(M' (A + S)) − log det M'`` and a constant for every M', and that is
    least at ``M' = (A + S)⁻¹``. With ``I + E = K (A + S) Kᵀ`` the difference to its value at M is ``tr E − log det(I +
    E)``; and ``E = G Kᵀ / 2`` of the gradient in K, ``G = 2 K (A + S − M⁻¹)``, so that neither A nor S is needed, and
    M may be in any coordinates. This is also the duality gap at the multipliers that K implies.

    Parameters
    ----------
    K : array of shape (d, d)
        Regular.
    gradient : array of shape (d, d)
        Of the objective in K.

    Returns
    -------
    float
        An upper bound, infinite where the tangent has no minimum. (In exact arithmetic: the gradient is taken as it
        is.)

    Examples
    --------
    >>> K = np.diag([2.0, 1.0])  # of tr M − log det M, which is least at the identity
    >>> round(logdet_gap(K, 2 * K - 2 * np.linalg.inv(K)), 4)  # 4 − log 4 − 1
    1.6137
    """
    E = gradient @ K.T / 2
    try:
        factor = np.linalg.cholesky(np.eye(len(E)) + (E + E.T) / 2)
    except np.linalg.LinAlgError:
        return np.inf
    return float(np.trace(E) - 2.0 * np.log(np.diagonal(factor)).sum())
