"""Norms in which a perturbation is measured, each with its dual.

A certificate divides a gap by the *dual* norm of a direction, an attack steps along the vector that attains it, and a
random check samples the ball. A new norm is one class with these methods and its place in :data:`NORMS`, and works
everywhere: for metrics, in threat models, and in balls around pictures, for which :class:`PlainNorm` takes tensors too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from certimetric.base.arrays import Array, Indices
from certimetric.base.rounding import UNIT_ROUNDOFF
from certimetric.geometry.spd import factor_with_errors
from certimetric.geometry.vectors import divided, poured, rescale, room, shrunk, vector_norm, wide


class Norm(ABC):
    """A norm ‖·‖ on perturbations. All methods work on the last axis of arrays of any leading shape.

    Attributes
    ----------
    name : str
        The name under which :func:`resolve_norm` knows it.
    dual_order : {1, 2, inf}
        Order p of the vector norm with ``dual_norm(v) == ‖dual_coordinates(v)‖_p``: what compiled kernels need.
    n_features : int or None
        Number of features it was made for; None for any.
    distortion : float
        The size of the change that has dual coordinates η is at most this many times ‖η‖: more than 1 where a matrix
        was factored in double precision.
    diagonal : bool
        Whether each dual coordinate is a positive multiple of one feature: wide data then need no d×d matrix.

    Examples
    --------
    >>> from certimetric.geometry import resolve_norm
    >>> norm = resolve_norm("l1")
    >>> norm.norm([3.0, -4.0]).item(), norm.dual_norm([3.0, -4.0]).item(), norm.dual_vector([3.0, -4.0]).tolist()
    (7.0, 4.0, [0.0, -1.0])
    """

    name: str
    dual_order: float
    n_features: int | None = None
    distortion: float = 1.0
    diagonal: bool = False

    @abstractmethod
    def norm(self, delta: ArrayLike) -> Array:
        """Size of the perturbation, shape ``delta.shape[:-1]``."""

    def dual_norm(self, v: ArrayLike) -> Array:
        """Largest ``sᵀv`` over ‖s‖ ≤ 1, shape ``v.shape[:-1]``."""
        return vector_norm(self.dual_coordinates(wide(v)[0]), self.dual_order)

    @abstractmethod
    def dual_vector(self, v: ArrayLike) -> Array:
        """Perturbation s with ‖s‖ = 1 and ``sᵀv = dual_norm(v)`` (0 where v = 0), the shape of ``v``."""

    @abstractmethod
    def project(self, delta: ArrayLike, eps: float) -> Array:
        """A point of the ball of radius ``eps``: the nearest one for l2, linf and l1, a rescaled one for ellipsoids.

        Rounded towards the centre, so that the size of the point itself is at most ``eps``.
        """

    @abstractmethod
    def sample(self, rng: np.random.Generator, n: int, d: int) -> Array:
        """``n`` random perturbations of size exactly 1, shape (n, d)."""

    def dual_coordinates(self, v: Array) -> Array:
        """Coordinates in which the dual norm is a plain vector norm of order ``dual_order``."""
        return v

    def absolute_coordinates(self, v: Array) -> Array:
        """Bounds on ``|dual_coordinates(w)|`` over all w with ``|w| ≤ v``, for v of entries of at least 0."""
        return self.dual_coordinates(v)

    def features(self, d: int) -> Indices:
        """The feature of each dual coordinate, where the norm is ``diagonal``."""
        return np.arange(d)

    def restrict(self, mutable: ArrayLike) -> Norm:
        """The norm for perturbations that leave some features alone.

        Certificates in it are larger, for an attacker that can change less: the dual norm sees only the features that
        can be changed.

        Parameters
        ----------
        mutable : bool array-like of shape (d,)
            Features that can be changed, at least one.
        """
        mutable = np.asarray(mutable)
        if mutable.dtype != bool or mutable.ndim != 1 or not mutable.any():  # numbers would be those of features
            raise ValueError("mutable must be a mask of the features, with at least one that can be changed")
        self._check_features(len(mutable))
        return self if mutable.all() else Restricted(self, mutable)

    def in_units(self, scale: ArrayLike) -> Norm:
        """The norm for perturbations of features that are each measured in units of their own.

        Parameters
        ----------
        scale : array-like of shape (d,)
            One unit of each feature: with standard deviations, the norm of the standardised perturbation.
        """
        scale = np.asarray(scale, dtype=float)
        if scale.ndim != 1 or not np.isfinite(scale).all() or not (scale > 0).all():
            raise ValueError("the units of a norm must be a positive number for each feature")
        self._check_features(len(scale))
        return Scaled(self, scale)

    def _check_features(self, d: int) -> None:
        if self.n_features not in (None, d):
            raise ValueError(f"the {self.name} norm was made for {self.n_features} features, got {d}")

    def _check(self, v: ArrayLike) -> Array:
        v = np.asarray(v, float)
        if v.shape[-1] != self.n_features:
            n = self.n_features
            raise ValueError(f"the {self.name} norm was given for {n} features, but the data have {v.shape[-1]}")
        return v

    def block(self, mutable: NDArray[np.bool_]) -> Norm:
        """The norm on the subspace of some features, for vectors of these features alone."""
        return self

    def unrestricted(self) -> tuple[Norm, NDArray[np.bool_]]:
        """The same norm as one of all features, and which of them it allows to change: (d,), or one True for all."""
        return self, np.array(True)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class PlainNorm(Norm):
    """A norm that knows no feature from another and grows with each of their absolute values.

    Its methods take tensors as well as arrays, in double precision, so that it is the norm of a ball around pictures
    too; what such a ball asks for besides has defaults here. Vectors are along the last axis.

    Attributes
    ----------
    order : {1, 2, inf}
        Of the vector norm that it is.

    Examples
    --------
    >>> L2().project_within([3.0, 4.0], 1.0, None, None).round(6).tolist()
    [0.6, 0.8]
    """

    order: float
    diagonal = True

    def norm(self, delta: ArrayLike) -> Array:
        return vector_norm(delta, self.order)

    def project_within(self, delta: Any, eps: float, point: Any, bounds: tuple[float, float] | None) -> Any:
        """As :meth:`project`, of changes of points in a box: clipped into it they are the better for knowing it."""
        return self.project(delta, eps)

    def steepest(self, v: Any, size: Any, point: Any, bounds: tuple[float, float] | None) -> Any:
        """The change s with ‖s‖ ≤ size of the largest ``sᵀv``, 0 at v = 0; of points in a box that is left as it is by
        clipping, or nearly so."""
        return size * self.dual_vector(v)

    def uniform(self, rng: Any, n: int, d: int) -> Any:
        """``n`` points of the ball of radius 1, shape (n, d), drawn uniformly where ``sample`` is so on its surface.

        ``rng`` is a generator of NumPy, or what has its methods ``random``, ``standard_normal`` and ``laplace``.
        """
        return self.sample(rng, n, d) * rng.random((n, 1)) ** (1.0 / max(d, 1))

    def shrinking(self, delta: Any, size: Any, eps: float) -> Any:
        """Half the slope of what is minimised to make changes smaller than ``size``, shape (…), without units: of the
        order of 1 at a size of ``eps``."""
        return delta / eps

    def ascent(self, v: Any) -> Any:
        """The direction v without units, which such a slope can be weighed against; 0 at v = 0."""
        return divided(wide(v)[0], self.dual_norm(v))

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self)

    def __hash__(self) -> int:
        return hash(type(self))


class L2(PlainNorm):
    """The Euclidean norm, its own dual.

    Examples
    --------
    >>> L2().norm([3.0, -4.0]).item(), L2().dual_vector([3.0, -4.0]).tolist()
    (5.0, [0.6, -0.8])
    """

    name, order, dual_order = "l2", 2, 2

    def dual_vector(self, v: ArrayLike) -> Array:
        return divided(wide(v)[0], self.norm(v))

    def project(self, delta: ArrayLike, eps: float) -> Array:
        return rescale(delta, self.norm(delta), eps)

    def sample(self, rng: np.random.Generator, n: int, d: int) -> Array:
        return self.dual_vector(rng.standard_normal((n, d)))


class Linf(PlainNorm):
    """The largest absolute change of a feature; dual to l1.

    Examples
    --------
    >>> Linf().norm([3.0, -4.0]).item(), Linf().dual_norm([3.0, -4.0]).item(), Linf().dual_vector([3.0, -4.0]).tolist()
    (4.0, 7.0, [1.0, -1.0])
    """

    name, order, dual_order = "linf", np.inf, 1

    def dual_vector(self, v: ArrayLike) -> Array:
        v, xp = wide(v)
        return xp.sign(v)

    def project(self, delta: ArrayLike, eps: float) -> Array:
        delta, xp = wide(delta)
        return xp.clip(delta, -eps, eps)

    def uniform(self, rng: Any, n: int, d: int) -> Any:
        return 2.0 * rng.random((n, d)) - 1.0

    def sample(self, rng: np.random.Generator, n: int, d: int) -> Array:
        # Half of the samples are vertices of the cube, where a linear functional is largest.
        delta = self.uniform(rng, n, d)
        delta[::2] = self.dual_vector(delta[::2])
        return divided(delta, self.norm(delta))

    def shrinking(self, delta: Any, size: Any, eps: float) -> Any:
        # Only what reaches beyond nine tenths of the size is in the way of a smaller one.
        delta, xp = wide(delta)
        return xp.sign(delta) * (abs(delta) > 0.9 * size[..., None])

    def ascent(self, v: Any) -> Any:
        return super().ascent(v) * v.shape[-1]


class L1(PlainNorm):
    """The sum of absolute changes; dual to l∞.

    Examples
    --------
    >>> L1().norm([3.0, -4.0]).item(), L1().dual_norm([3.0, -4.0]).item(), L1().dual_vector([3.0, -4.0]).tolist()
    (7.0, 4.0, [0.0, -1.0])
    """

    name, order, dual_order = "l1", 1, np.inf

    def dual_vector(self, v: ArrayLike) -> Array:
        v, xp = wide(v)
        largest = abs(v) == xp.amax(abs(v), -1)[..., None]
        return xp.sign(v) * (largest & (xp.cumsum(largest, -1) == 1))

    def project(self, delta: ArrayLike, eps: float) -> Array:
        return self.project_within(delta, eps, 0.0, None)

    def project_within(self, delta: Any, eps: float, point: Any, bounds: tuple[float, float] | None) -> Any:
        # In a box the sum that one entry has no room for goes to the others: the nearest point of ball and box.
        delta, xp = wide(delta)
        nearest = xp.sign(delta) * shrunk(abs(delta), room(delta, point, bounds), eps)
        return rescale(nearest, self.norm(nearest), eps)

    def steepest(self, v: Any, size: Any, point: Any, bounds: tuple[float, float] | None) -> Any:
        # The one entry of the largest slope may be at its bound already: then the next ones move.
        v, xp = wide(v)
        return xp.sign(v) * poured(abs(v), room(v, wide(point)[0], bounds), size)

    def uniform(self, rng: Any, n: int, d: int) -> Any:
        delta = rng.laplace(size=(n, d))
        return divided(delta, self.norm(delta)) * rng.random((n, 1)) ** (1.0 / max(d, 1))

    def sample(self, rng: np.random.Generator, n: int, d: int) -> Array:
        delta = rng.laplace(size=(n, d))
        delta[::2] *= rng.random((len(delta[::2]), d)) < 2 / d  # sparse ones: near the vertices
        delta[self.norm(delta) == 0, 0] = 1.0
        return divided(delta, self.norm(delta))

    def shrinking(self, delta: Any, size: Any, eps: float) -> Any:
        # The slope of a sum of absolute values, which is rounded off below the mean of the size.
        delta, xp = wide(delta)
        return xp.clip(divided(delta * delta.shape[-1], size), -1.0, 1.0)


class Ellipsoid(Norm):
    """The ellipsoid norm ``√(δᵀAδ)`` of a positive definite matrix A, dual to that of A⁻¹.

    It says that some directions cost an attacker more than others: with ``A = diag(scale**2)`` a change of
    standardised features is measured in original units.

    Parameters
    ----------
    matrix : array-like of shape (d, d)
        Symmetric positive definite.

    Examples
    --------
    >>> Ellipsoid([[4.0, 0.0], [0.0, 1.0]]).norm([[1.0, 0.0], [0.0, 1.0]]).tolist()
    [2.0, 1.0]
    """

    name = "ellipsoid"
    dual_order = 2

    def __init__(self, matrix: ArrayLike):
        # A = C Cᵀ, ‖v‖_{A⁻¹} = ‖C⁻¹v‖₂. With ‖W A Wᵀ − I‖ ≤ ρ and ‖W C − I‖ ≤ φ for what rounding made of C and
        # W = C⁻¹, the matrix A⁻¹ is at most WᵀW / (1 − ρ), and A at most (1 + ρ) / (1 − φ)² C Cᵀ.
        self.matrix, self._cholesky, inverse, rho, phi = factor_with_errors(matrix, "the matrix of the ellipsoid norm")
        self._inverse_cholesky = inverse / np.sqrt(1.0 - rho)
        self._largest_ratio = float(np.sqrt(1.0 + rho) / (1.0 - phi)) * (1.0 + 1e-15)
        self.distortion = float(np.sqrt((1.0 + rho) / (1.0 - rho))) * (1.0 + 1e-15)
        self.n_features = len(self.matrix)

    def norm(self, delta: ArrayLike) -> Array:
        return vector_norm(self._check(delta) @ self._cholesky, 2)

    def dual_coordinates(self, v: Array) -> Array:
        return self._check(v) @ self._inverse_cholesky.T

    def absolute_coordinates(self, v: Array) -> Array:
        return self._check(v) @ np.abs(self._inverse_cholesky).T

    def dual_vector(self, v: ArrayLike) -> Array:
        return self._to_size_one(L2().dual_vector(self.dual_coordinates(np.asarray(v, float))))

    def project(self, delta: ArrayLike, eps: float) -> Array:
        delta = self._check(delta)
        # The product with C cancels where A is ill-conditioned.
        rounding = (len(self.matrix) + 12) * UNIT_ROUNDOFF * vector_norm(np.abs(delta) @ np.abs(self._cholesky), 2)
        return rescale(delta, (self.norm(delta) + rounding) * self._largest_ratio, eps)

    def sample(self, rng: np.random.Generator, n: int, d: int) -> Array:
        return self._to_size_one(L2().sample(rng, n, d))

    def _to_size_one(self, w: Array) -> Array:
        """The changes of dual coordinates w of length 1, not larger than 1."""
        return self.project(w @ self._inverse_cholesky, 1.0)

    def block(self, mutable: NDArray[np.bool_]) -> Norm:
        return Ellipsoid(self.matrix[np.ix_(mutable, mutable)])

    def __repr__(self) -> str:
        return f"Ellipsoid(matrix of {len(self.matrix)} features)"


class Restricted(Norm):
    """A norm on perturbations of some of the features only, made by :meth:`Norm.restrict`: of others it is infinite.

    Parameters
    ----------
    base : Norm
    mutable : bool array of shape (d,)
        Which features may change.

    Examples
    --------
    >>> norm = L2().restrict(np.array([True, False]))
    >>> norm.norm([[2.0, 0.0], [0.0, 2.0]]).tolist(), norm.dual_vector([3.0, 4.0]).tolist()
    ([2.0, inf], [1.0, 0.0])
    """

    def __init__(self, base: Norm, mutable: NDArray[np.bool_]):
        self.base, self.mutable = base, mutable
        self.inner = base.block(mutable)
        self.name, self.dual_order, self.n_features = base.name, base.dual_order, len(mutable)
        self.distortion = self.inner.distortion
        self.diagonal = base.diagonal

    def _embed(self, delta: Array) -> Array:
        out = np.zeros((*delta.shape[:-1], len(self.mutable)))
        out[..., self.mutable] = delta
        return out

    def norm(self, delta: ArrayLike) -> Array:
        delta = self._check(delta)
        moved = (delta[..., ~self.mutable] != 0).any(axis=-1)
        return np.where(moved, np.inf, self.inner.norm(delta[..., self.mutable]))

    def dual_coordinates(self, v: Array) -> Array:
        return self.inner.dual_coordinates(self._check(v)[..., self.mutable])

    def absolute_coordinates(self, v: Array) -> Array:
        return self.inner.absolute_coordinates(self._check(v)[..., self.mutable])

    def dual_vector(self, v: ArrayLike) -> Array:
        return self._embed(self.inner.dual_vector(self._check(v)[..., self.mutable]))

    def project(self, delta: ArrayLike, eps: float) -> Array:
        return self._embed(self.inner.project(self._check(delta)[..., self.mutable], eps))

    def sample(self, rng: np.random.Generator, n: int, d: int) -> Array:
        return self._embed(self.inner.sample(rng, n, int(self.mutable.sum())))

    def features(self, d: int) -> Indices:
        places = np.flatnonzero(self.mutable)
        return places[self.inner.features(len(places))]

    def block(self, mutable: NDArray[np.bool_]) -> Norm:
        return self.base.block(mutable).restrict(self.mutable[mutable])

    def unrestricted(self) -> tuple[Norm, NDArray[np.bool_]]:
        base, allowed = self.base.unrestricted()
        return base, allowed & self.mutable

    def __repr__(self) -> str:
        return f"{self.base!r} restricted to {int(self.mutable.sum())} of {len(self.mutable)} features"


class Scaled(Norm):
    """A norm of perturbations that are divided by the unit of each feature, made by :meth:`Norm.in_units`.

    Parameters
    ----------
    base : Norm
    scale : array of shape (d,)
        The unit of each feature, positive.

    Examples
    --------
    >>> L2().in_units(np.array([10.0, 1.0])).norm([[10.0, 0.0], [0.0, 10.0]]).tolist()
    [1.0, 10.0]
    """

    def __init__(self, base: Norm, scale: Array):
        self.base, self.scale = base, scale
        self.name, self.dual_order, self.n_features = base.name, base.dual_order, len(scale)
        self.distortion, self.diagonal = base.distortion, base.diagonal

    def norm(self, delta: ArrayLike) -> Array:
        return self.base.norm(self._check(delta) / self.scale)

    def dual_coordinates(self, v: Array) -> Array:
        return self.base.dual_coordinates(self._check(v) * self.scale)

    def absolute_coordinates(self, v: Array) -> Array:
        return self.base.absolute_coordinates(self._check(v) * self.scale)

    def dual_vector(self, v: ArrayLike) -> Array:
        return self.base.dual_vector(self._check(v) * self.scale) * self.scale

    def project(self, delta: ArrayLike, eps: float) -> Array:
        # Two roundings of each feature.
        return self.base.project(self._check(delta) / self.scale, eps * (1.0 - 4.0 * UNIT_ROUNDOFF)) * self.scale

    def sample(self, rng: np.random.Generator, n: int, d: int) -> Array:
        return self.base.sample(rng, n, d) * self.scale

    def features(self, d: int) -> Indices:
        return self.base.features(d)

    def block(self, mutable: NDArray[np.bool_]) -> Norm:
        return Scaled(self.base.block(mutable), self.scale[mutable])

    def unrestricted(self) -> tuple[Norm, NDArray[np.bool_]]:
        base, allowed = self.base.unrestricted()
        return base.in_units(self.scale), allowed

    def __repr__(self) -> str:
        return f"{self.base!r} in units of {len(self.scale)} features"


NORMS: dict[str, PlainNorm] = {norm.name: norm for norm in (L2(), Linf(), L1())}


def resolve_norm(norm: Any) -> Norm:
    """Give the norm object for a name, a positive definite matrix, or a norm object.

    Parameters
    ----------
    norm : {"l2", "linf", "l1"}, array-like of shape (d, d) or Norm

    Raises
    ------
    ValueError
        If the name is unknown or the matrix is not symmetric positive definite.

    Examples
    --------
    >>> resolve_norm("linf").dual_norm([3.0, -4.0]).item()
    7.0
    """
    if isinstance(norm, Norm):
        return norm
    if isinstance(norm, str) and norm.lower() in NORMS:
        return NORMS[norm.lower()]
    known = ", ".join(map(repr, NORMS))
    if isinstance(norm, str):
        raise ValueError(f"norm must be one of {known}, or a positive definite matrix, got {norm!r}")
    if norm is None or np.ndim(norm) != 2:
        raise ValueError(f"norm must be {known} or a positive definite matrix, got {norm!r}")
    return Ellipsoid(norm)
