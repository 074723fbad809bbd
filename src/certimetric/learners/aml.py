"""Adversarial metric learning: a confusion stage in closed form inside a distinguishment stage."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import eigh
from sklearn.utils._param_validation import Interval, StrOptions

from certimetric.base.arrays import Array
from certimetric.constraints.tuples import check_pair_labels
from certimetric.geometry.spd import geodesic, inverse
from certimetric.learners.gmml import ScatterLearner

_CONCAVITY_ROOM = 1.25  # where β must be raised: how far above the bound of strict concavity
_ARMIJO = 1e-4


class AML(ScatterLearner):
    """Adversarial metric learning: two competing stages over similar and dissimilar pairs.

    *Confusion*: for the current M every pair is moved to the adversarial pair (π, π') that maximises its loss minus
    ``beta [d²(x, π) + d²(x', π')]``: in closed form the midpoint stays and the difference becomes T Δ with
    ``T = β/(β−2) I`` for similar and ``T = (I − (2/β) M⁻²)⁻¹`` for dissimilar pairs. *Distinguishment*: M minimises the
    loss of the original pairs plus ``alpha`` times that of the adversarial ones. The base loss is that of
    :class:`GMML`, ``mean Δᵀ M Δ`` over similar plus ``mean Δᵀ M⁻¹ Δ`` over dissimilar pairs. After one pass that sums
    two d×d scatters, the cost does not depend on the number of pairs.

    From labels *all* pairs count and none is drawn. Both stages need only the two scatters, for the confusion stage is
    a linear map of Δ that the metric determines; so the adversarial pairs and the metric do not depend on how the rows
    are cut: ``fit`` takes Dask arrays besides arrays, and ``fit_chunks`` an iterator of chunks.

    Parameters
    ----------
    alpha : float, default=1.0
        Weight of the adversarial pairs.
    beta : float, default=8.0
        Price of moving a pair, above 2: the larger, the closer the adversarial pairs stay. The confusion stage has a
        unique maximum only where ``λ_min(M)² > 2/β``; if the metric that the solver starts from violates that, β is
        raised until it holds (see ``beta_``).
    solver : {"bilevel", "alternating"}, default="bilevel"
        "bilevel" descends the objective with the adversarial pairs as functions of M. "alternating" fixes the
        adversarial pairs, takes the geometric mean, and repeats while that lowers the objective: a few iterations,
        that stop near the equilibrium of the two stages, which is not quite the minimum.
    reg : float, default=0.01
        Ridge on both scatters, as a fraction of their mean eigenvalue.
    max_iter : int, default=100
    tol : float, default=1e-8
        Stop when an iteration lowers the objective by less than this fraction.
    preprocessor : array-like of shape (n, d) or callable, default=None
        Points by row number, or a function of indicators that gives points: :meth:`fit` and all that answers about
        tuples then takes indicators, so that tuples are indices and no point is copied.

    Attributes
    ----------
    components_ : array of shape (d, d)
        After :meth:`fit` on n < d instances fewer rows, at most n: those in the span of their differences.
    metric_ : MahalanobisMetric
    objective_path_ : list of float
        The bilevel objective after every iteration: it never rises.
    converged_ : bool
        Whether the last iteration gained less than ``tol``, or no step gained anything; a warning says if not.
    objective_ : float
    beta_ : float
        The β in force at the end: ``beta``, or what it had to be raised to.
    n_iter_ : int
    scatter_ : PairScatter

    References
    ----------
    Chen, Gong, Li, Yang, Zhang, Tao (2018), *Adversarial metric learning*, IJCAI, arXiv 1802.03170.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from certimetric import AML
    >>> X, y = load_iris(return_X_y=True)
    >>> aml = AML().fit(X, y)
    >>> aml.confuse_pairs(X[[[0, 50], [0, 1]]], [-1, 1]).shape
    (2, 2, 4)
    """

    _parameter_constraints = {
        "alpha": [Interval(Real, 0, None, closed="left")],
        "beta": [Interval(Real, 2, None, closed="neither")],
        "solver": [StrOptions({"bilevel", "alternating"})],
        "reg": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "preprocessor": ["array-like", callable, None],
    }

    def __init__(
        self,
        alpha: float = 1.0,
        beta: float = 8.0,
        *,
        solver: str = "bilevel",
        reg: float = 0.01,
        max_iter: int = 100,
        tol: float = 1e-8,
        preprocessor: Any = None,
    ):
        self.alpha = alpha
        self.beta = beta
        self.solver = solver
        self.reg = reg
        self.max_iter = max_iter
        self.tol = tol
        self.preprocessor = preprocessor

    def confuse_pairs(self, pairs: ArrayLike, y: ArrayLike) -> Array:
        """The adversarial pairs that the confusion stage makes of given pairs, at the learned metric.

        Parameters
        ----------
        pairs : array-like of shape (n, 2, d)
        y : array-like of shape (n,)
            +1 (similar) or −1 (dissimilar).

        Returns
        -------
        adversarial : array of shape (n, 2, d)
            Maximisers of the confusion objective under ``beta_``. Where there were fewer instances than features, what
            of a pair lies outside of the span of their differences stays: the metric does not see it.
        """
        given = self._given(pairs)
        y = check_pair_labels(y, len(given))
        pairs = given.points[given.index]
        difference = pairs[:, 0] - pairs[:, 1]
        if self._axes is None:
            similar, dissimilar = confusion_maps(self.get_mahalanobis_matrix(), self.beta_)
            moved = np.where((y == 1)[:, None], difference @ similar.T, difference @ dissimilar.T)
        else:
            L = self.components_ @ self._axes.T
            similar, dissimilar = confusion_maps(L.T @ L, self.beta_)
            within = difference @ self._axes.T
            change = np.where((y == 1)[:, None], within @ similar.T, within @ dissimilar.T) - within
            moved = difference + change @ self._axes
        middle = pairs.mean(axis=1)
        return np.stack([middle + moved / 2, middle - moved / 2], axis=1)

    def _solve(self, S: Array, D: Array) -> Array:
        M = geodesic(inverse(S), D)  # the solution without an adversary
        smallest = eigh(M, eigvals_only=True)[0]
        self.beta_ = float(max(self.beta, _CONCAVITY_ROOM * 2.0 / smallest**2))
        objective = _BilevelObjective(S, D, self.alpha, self.beta_)
        propose = objective.matched_mean
        if self.solver == "alternating":
            propose = objective.frozen_mean
            # Frozen pairs give no descent direction close to the equilibrium; from a multiple of the identity they do.
            M = np.eye(len(M)) * np.sqrt(max(np.trace(D) / np.trace(S), _CONCAVITY_ROOM * 2.0 / self.beta_))
        value, eigen = objective.evaluate(M)
        self.objective_path_ = [value]
        converged = False
        for _ in range(self.max_iter):
            target = propose(M, eigen)
            slope = min(objective.slope(M, eigen, target), 0.0)
            for step in 0.5 ** np.arange(30):
                candidate = target if step == 1 else geodesic(M, target, step)
                new_value, new_eigen = objective.evaluate(candidate)
                if new_value <= value + _ARMIJO * step * slope and new_value < value:
                    break
            else:
                converged = True
                break  # no step along this geodesic lowers the objective
            decrease = value - new_value
            M, value, eigen = candidate, new_value, new_eigen
            self.objective_path_.append(value)
            if decrease <= self.tol * abs(value):
                converged = True
                break
        self.objective_, self.n_iter_ = value, max(len(self.objective_path_) - 1, 1)
        first = self.objective_path_[0]
        reason = f"did not converge in max_iter={self.max_iter} steps, from {first:.6g} to {value:.6g}; raise max_iter"
        self._set_converged(converged, "" if converged else reason)
        return M


def confusion_maps(M: Array, beta: float) -> tuple[Array, Array]:
    """The linear maps from Δ to the difference of the adversarial pair, for similar and for dissimilar pairs.

    Raises
    ------
    ValueError
        If the confusion stage is not strictly concave at M: it then has no maximum.
    """
    values, vectors = eigh(M)
    if beta <= 2 or values[0] <= 0 or values[0] ** 2 <= 2.0 / beta:
        raise ValueError(
            f"the confusion stage is unbounded for beta={beta:.6g}: it needs beta > 2 and a smallest eigenvalue of M "
            f"above {np.sqrt(2 / beta):.3g}, got {values[0]:.3g}"
        )
    dissimilar = (vectors * (values**2 / (values**2 - 2.0 / beta))) @ vectors.T
    return np.eye(len(M)) * (beta / (beta - 2.0)), dissimilar


Eigen = tuple[Array, Array]


class _BilevelObjective:
    """``F(M) = (1 + α (β/(β−2))²) tr(M S) + tr(h(M) D)`` with ``h(m) = 1/m + α m³/(m² − 2/β)²`` on eigenvalues.

    As T and M commute, ``α tr(M⁻¹ T D T)`` joins ``tr(M⁻¹ D)`` in one function of the eigenvalues. F is infinite
    where the confusion stage is unbounded, so that descent never leaves the region where it is not.
    """

    def __init__(self, S: Array, D: Array, alpha: float, beta: float):
        self.S, self.D = S * (1.0 + alpha * (beta / (beta - 2.0)) ** 2), D
        self.S_inverse = inverse(self.S)
        self.alpha, self.kappa = alpha, 2.0 / beta

    def evaluate(self, M: Array) -> tuple[float, Eigen]:
        values, vectors = eigh(M, driver="evd")
        if values[0] <= 0 or values[0] ** 2 <= self.kappa * (1 + 1e-12):
            return np.inf, (values, vectors)
        diagonal = np.einsum("ij,ij->j", vectors, self.D @ vectors)
        return float(np.vdot(self.S, M) + self._h(values) @ diagonal), (values, vectors)

    def _h(self, m: Array) -> Array:
        return 1.0 / m + self.alpha * m**3 / (m**2 - self.kappa) ** 2

    def _h_slope(self, m: Array) -> Array:
        return -1.0 / m**2 - self.alpha * m**2 * (m**2 + 3.0 * self.kappa) / (m**2 - self.kappa) ** 3

    def _h_gradient(self, eigen: Eigen) -> Array:
        """Gradient of ``tr(h(M) D)``: first divided differences of h in the basis of M (Daleckii and Krein)."""
        m, V = eigen
        gap = m[:, None] - m[None, :]
        near = np.abs(gap) <= 1e-6 * np.abs(m).max()
        h = self._h(m)
        middle = (m[:, None] + m[None, :]) / 2
        quotient = np.where(near, self._h_slope(middle), (h[:, None] - h[None, :]) / np.where(near, 1.0, gap))
        return V @ (quotient * (V.T @ self.D @ V)) @ V.T

    def slope(self, M: Array, eigen: Eigen, target: Array) -> float:
        """Derivative of F at 0 along the geodesic from M to the target."""
        gradient = self.S + self._h_gradient(eigen)
        # The geodesic leaves M with velocity M^½ log(M^-½ target M^-½) M^½ = M log(M⁻¹ target).
        values, W = eigh(target, M)  # target W = M W diag, Wᵀ M W = I
        MW = M @ W
        velocity = (MW * np.log(np.maximum(values, np.finfo(float).tiny))) @ MW.T
        return float(np.vdot(gradient, velocity))

    def matched_mean(self, M: Array, eigen: Eigen) -> Array:
        """Minimiser of ``tr(M' S) + tr(M'⁻¹ E)`` with E chosen so that its gradient at M is that of F.

        That model is strictly convex along geodesics, so the way to its minimiser goes downhill in F too.
        """
        E = -M @ self._h_gradient(eigen) @ M
        return geodesic(self.S_inverse, (E + E.T) / 2)

    def frozen_mean(self, M: Array, eigen: Eigen) -> Array:
        """Minimiser of the loss of the original pairs and of the adversarial pairs frozen at M."""
        m, V = eigen
        T = (V * (m**2 / (m**2 - self.kappa))) @ V.T
        E = self.D + self.alpha * (T @ self.D @ T)
        return geodesic(self.S_inverse, (E + E.T) / 2)
