"""Adversarial metric learning: a confusion stage in closed form inside a distinguishment stage."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import eigh
from sklearn.utils._param_validation import Interval, StrOptions

from certimetric.base.arrays import Array
from certimetric.constraints.tuples import check_pair_labels
from certimetric.geometry.spd import geodesic, inverse
from certimetric.learners.base import CLASS_WEIGHT
from certimetric.learners.gmml import ScatterLearner

_CONCAVITY_ROOM = 1.25  # where β must be raised: how far above the bound of strict concavity
_ARMIJO = 1e-4
_LEAST_CURVATURE = 1e-9  # of the model that a step minimises, as a share of its gradient


class AML(ScatterLearner):
    """Adversarial metric learning: two competing stages over similar and dissimilar pairs.

    *Confusion*: for the current M every pair is moved to an adversarial pair (π, π') at a price of
    ``beta [d²(x, π) + d²(x', π')]``. *Distinguishment*: M minimises the loss of the original pairs plus ``alpha`` times
    that of the adversarial ones. The base loss is that of :class:`GMML`, ``mean Δᵀ M Δ`` over similar plus
    ``mean Δᵀ M⁻¹ Δ`` over dissimilar pairs. After one pass that sums two d×d scatters, the cost does not depend on the
    number of pairs.

    Where the pairs go is in closed form: the midpoint stays and the difference becomes T Δ. By default they minimise
    the loss *of the opposite label*, as in the code of the method's authors: similar pairs come to look as if they were
    dissimilar with ``T = β M² (2 I + β M²)⁻¹``, dissimilar ones as if similar with ``T = β/(2 + β) I``, for every
    positive β. With ``confusion="ascent"`` they maximise the loss of their own label, ``T = β/(β−2) I`` for similar and
    ``T = (I − (2/β) M⁻²)⁻¹`` for dissimilar pairs, which has a maximum for large β only.

    From labels *all* pairs count and none is drawn. Both stages need only the two scatters, for the confusion stage is
    a linear map of Δ that the metric determines; so the adversarial pairs and the metric do not depend on how the rows
    are cut: ``fit`` takes Dask arrays besides arrays, and ``fit_chunks`` an iterator of chunks.

    Parameters
    ----------
    alpha : float, default=10.0
        Weight of the adversarial pairs.
    beta : float, default=30.0
        Price of moving a pair: the larger, the closer the adversarial pairs stay. With "ascent" it is above 2, and the
        confusion stage has a unique maximum only where ``λ_min(M)² > 2/β``: if the metric that the solver starts from
        violates that, β is raised until it holds (see ``beta_``).
    confusion : {"opposite", "ascent"}, default="opposite"
        What adversarial pairs are: near pairs of least loss under the opposite label, or of most under their own.
    solver : {"bilevel", "alternating"}, default="bilevel"
        "bilevel" descends the objective with the adversarial pairs as functions of M. "alternating" fixes the
        adversarial pairs, takes the geometric mean, and repeats while that lowers the objective: a few iterations,
        that stop near the equilibrium of the two stages, which is not quite the minimum.
    reg : float, default=0.01
        Ridge on both scatters, as a fraction of their mean eigenvalue.
    max_iter : int, default=100
    tol : float, default=1e-8
        Stop when an iteration lowers the objective by less than this fraction.
    class_weight : dict, "balanced" or None, default=None
        Of labelled instances: a weight for each class, or as much in all for every class.
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
        The β in force at the end: ``beta``, or what it had to be raised to (with "ascent" only).
    n_iter_ : int
    scatter_ : PairScatter

    References
    ----------
    Chen, Gong, Yang, Li, Wei, Li (2018), *Adversarial metric learning*, IJCAI, arXiv 1802.03170 [chen2018adversarial].
    In their code the adversarial dissimilar pairs have the loss ``Δᵀ M Δ``, and so pull together what should be apart;
    here it is that of dissimilar pairs.

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
        "beta": [Interval(Real, 0, None, closed="neither")],
        "confusion": [StrOptions({"opposite", "ascent"})],
        "solver": [StrOptions({"bilevel", "alternating"})],
        "reg": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "class_weight": CLASS_WEIGHT,
        "preprocessor": ["array-like", callable, None],
    }

    def __init__(
        self,
        alpha: float = 10.0,
        beta: float = 30.0,
        *,
        confusion: str = "opposite",
        solver: str = "bilevel",
        reg: float = 0.01,
        max_iter: int = 100,
        tol: float = 1e-8,
        class_weight: Mapping[Any, float] | str | None = None,
        preprocessor: Any = None,
    ):
        self.alpha = alpha
        self.beta = beta
        self.confusion = confusion
        self.solver = solver
        self.reg = reg
        self.max_iter = max_iter
        self.tol = tol
        self.class_weight = class_weight
        self.preprocessor = preprocessor

    def _validate_params(self) -> None:
        super()._validate_params()
        if self.confusion == "ascent" and self.beta <= 2:
            raise ValueError(f"beta of AML must be above 2 with confusion='ascent', got {self.beta!r}")

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
            Optima of the confusion stage under ``beta_``. Where there were fewer instances than features, what
            of a pair lies outside of the span of their differences stays: the metric does not see it.
        """
        given = self._given(pairs)
        y = check_pair_labels(y, len(given))
        pairs = given.points[given.index]
        difference = pairs[:, 0] - pairs[:, 1]
        if self._axes is None:
            similar, dissimilar = confusion_maps(self.get_mahalanobis_matrix(), self.beta_, self.confusion)
            moved = np.where((y == 1)[:, None], difference @ similar.T, difference @ dissimilar.T)
        else:
            L = self.components_ @ self._axes.T
            similar, dissimilar = confusion_maps(L.T @ L, self.beta_, self.confusion)
            within = difference @ self._axes.T
            change = np.where((y == 1)[:, None], within @ similar.T, within @ dissimilar.T) - within
            moved = difference + change @ self._axes
        middle = pairs.mean(axis=1)
        return np.stack([middle + moved / 2, middle - moved / 2], axis=1)

    def _solve(self, S: Array, D: Array) -> Array:
        M = geodesic(inverse(S), D)  # the solution without an adversary
        self.beta_ = float(self.beta)
        floor = 0.0
        if self.confusion == "ascent":
            smallest = eigh(M, eigvals_only=True)[0]
            self.beta_ = float(max(self.beta, _CONCAVITY_ROOM * 2.0 / smallest**2))
            floor = _CONCAVITY_ROOM * 2.0 / self.beta_
        objective = _BilevelObjective(S, D, self.alpha, CONFUSIONS[self.confusion](self.beta_))
        propose = objective.matched_mean
        if self.solver == "alternating":
            propose = objective.frozen_mean
            # Frozen pairs give no descent direction close to the equilibrium; from a multiple of the identity they do.
            M = np.eye(len(M)) * np.sqrt(max(np.trace(D) / np.trace(S), floor))
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


class Confusion(ABC):
    """Where the confusion stage moves pairs, as functions of the eigenvalues m of M, with which its maps commute."""

    def __init__(self, beta: float):
        self.beta = beta

    @abstractmethod
    def maps(self, m: Array) -> tuple[Array, Array]:
        """Eigenvalues of T of similar and of dissimilar pairs."""

    @abstractmethod
    def slopes(self, m: Array) -> tuple[Array, Array]:
        """Derivatives of ``m T²`` of similar pairs and of ``T²/m`` of dissimilar ones."""

    def bounded(self, m: Array) -> bool:
        """Whether the stage has an optimum at eigenvalues in ascending order."""
        return bool(m[0] > 0)


class Opposite(Confusion):
    """Pairs of least loss under the opposite label, a strictly convex problem for every β > 0.

    Over t, ``T = β m²/(2 + β m²)`` minimises ``t²/m + β m (t − 1)²/2``, and ``T = β/(2 + β)`` minimises
    ``t² m + β m (t − 1)²/2``.
    """

    def maps(self, m: Array) -> tuple[Array, Array]:
        priced = self.beta * m**2
        return priced / (2.0 + priced), np.full_like(m, self.beta / (2.0 + self.beta))

    def slopes(self, m: Array) -> tuple[Array, Array]:
        similar, dissimilar = self.maps(m)
        # ∂T/∂m = 2 T (1 − T) / m.
        return similar**2 * (1.0 + 4.0 * (1.0 - similar)), -((dissimilar / m) ** 2)


class Ascent(Confusion):
    """Pairs of most loss under their own label: bounded only where ``β > 2`` and ``m² > 2/β``."""

    def maps(self, m: Array) -> tuple[Array, Array]:
        return np.full_like(m, self.beta / (self.beta - 2.0)), m**2 / (m**2 - 2.0 / self.beta)

    def slopes(self, m: Array) -> tuple[Array, Array]:
        similar, _ = self.maps(m)
        kappa = 2.0 / self.beta
        return similar**2, -(m**2) * (m**2 + 3.0 * kappa) / (m**2 - kappa) ** 3

    def bounded(self, m: Array) -> bool:
        return bool(self.beta > 2 and m[0] > 0 and m[0] ** 2 > 2.0 / self.beta * (1 + 1e-12))


CONFUSIONS: dict[str, type[Confusion]] = {"opposite": Opposite, "ascent": Ascent}


def confusion_maps(M: Array, beta: float, confusion: str = "opposite") -> tuple[Array, Array]:
    """The linear maps from Δ to the difference of the adversarial pair, for similar and for dissimilar pairs.

    Raises
    ------
    ValueError
        If the confusion stage is not strictly concave at M: it then has no maximum.
    """
    values, vectors = eigh(M)
    stage = CONFUSIONS[confusion](beta)
    if confusion == "ascent" and not stage.bounded(values):
        raise ValueError(
            f"the confusion stage is unbounded for beta={beta:.6g}: it needs beta > 2 and a smallest eigenvalue of M "
            f"above {np.sqrt(2 / beta):.3g}, got {values[0]:.3g}"
        )
    similar, dissimilar = ((vectors * T) @ vectors.T for T in stage.maps(np.maximum(values, 0.0)))
    return similar, dissimilar


Eigen = tuple[Array, Array]


class _BilevelObjective:
    """``F(M) = tr(g(M) S) + tr(h(M) D)`` with ``g(m) = m + α m T²`` and ``h(m) = (1 + α T²)/m`` on eigenvalues.

    As T and M commute, the losses of original and adversarial pairs join in functions of the eigenvalues. F is infinite
    where the confusion stage is unbounded, so that descent never leaves the region where it is not.
    """

    def __init__(self, S: Array, D: Array, alpha: float, confusion: Confusion):
        self.S, self.D, self.alpha, self.confusion = S, D, alpha, confusion

    def evaluate(self, M: Array) -> tuple[float, Eigen]:
        values, vectors = eigh(M, driver="evd")
        if not self.confusion.bounded(values):
            return np.inf, (values, vectors)
        on_s, on_d = (np.einsum("ij,ij->j", vectors, scatter @ vectors) for scatter in (self.S, self.D))
        g, h = self._functions(values)
        return float(g @ on_s + h @ on_d), (values, vectors)

    def _functions(self, m: Array) -> tuple[Array, Array]:
        similar, dissimilar = self.confusion.maps(m)
        return m * (1.0 + self.alpha * similar**2), (1.0 + self.alpha * dissimilar**2) / m

    def gradients(self, eigen: Eigen) -> tuple[Array, Array]:
        """Gradients of ``tr(g(M) S)`` and of ``tr(h(M) D)``: divided differences in the basis of M (Daleckii)."""
        m, V = eigen
        gap = m[:, None] - m[None, :]
        near = np.abs(gap) <= 1e-6 * np.abs(m).max()
        middle = (m[:, None] + m[None, :]) / 2
        on_similar, on_dissimilar = self.confusion.slopes(middle.ravel())
        slopes = (1.0 + self.alpha * on_similar, -1.0 / middle.ravel() ** 2 + self.alpha * on_dissimilar)
        found = []
        for f, slope, scatter in zip(self._functions(m), slopes, (self.S, self.D)):
            rise = (f[:, None] - f[None, :]) / np.where(near, 1.0, gap)
            quotient = np.where(near, slope.reshape(gap.shape), rise)
            found.append(V @ (quotient * (V.T @ scatter @ V)) @ V.T)
        return found[0], found[1]

    def slope(self, M: Array, eigen: Eigen, target: Array) -> float:
        """Derivative of F at 0 along the geodesic from M to the target."""
        gradient = sum(self.gradients(eigen))
        # The geodesic leaves M with velocity M^½ log(M^-½ target M^-½) M^½ = M log(M⁻¹ target).
        values, W = eigh(target, M)  # target W = M W diag, Wᵀ M W = I
        MW = M @ W
        velocity = (MW * np.log(np.maximum(values, np.finfo(float).tiny))) @ MW.T
        return float(np.vdot(gradient, velocity))

    def matched_mean(self, M: Array, eigen: Eigen) -> Array:
        """Minimiser of ``tr(M' A) + tr(M'⁻¹ E)`` with A and E chosen so that its gradient at M is that of F.

        That model is strictly convex along geodesics, so the way to its minimiser goes downhill in F too. Where one of
        the two is not positive definite, ``t M⁻¹`` is added to A and ``t M`` to E, which changes no gradient.
        """
        m, V = eigen
        root = np.sqrt(m)
        # In the basis of M, and scaled by its roots: there M is the identity, and adds t to both.
        A, E = (root[:, None] * (V.T @ part @ V) * root for part in self.gradients(eigen))
        lowest = min(eigh(A, eigvals_only=True)[0], eigh(-E, eigvals_only=True)[0])
        size = np.abs(A).max() + np.abs(E).max()
        shift = max(_LEAST_CURVATURE * size - lowest, 0.0) * np.eye(len(m))
        A, E = A + shift, shift - E
        back = V * root
        target = back @ geodesic(inverse((A + A.T) / 2), (E + E.T) / 2) @ back.T
        return (target + target.T) / 2

    def frozen_mean(self, M: Array, eigen: Eigen) -> Array:
        """Minimiser of the loss of the original pairs and of the adversarial pairs frozen at M."""
        m, V = eigen
        A, E = (
            scatter + self.alpha * (T @ scatter @ T)
            for scatter, T in zip((self.S, self.D), ((V * T) @ V.T for T in self.confusion.maps(m)))
        )
        return geodesic(inverse((A + A.T) / 2), (E + E.T) / 2)
