"""Norms in which a perturbation is measured, each with its dual.

A certificate divides a gap by the *dual* norm of a direction, an attack steps along the vector that attains it, and a
random check samples the ball. A new norm is one class with these methods and works everywhere.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from certimetric.base.arrays import Array
from certimetric.geometry.spd import factor_with_errors

_ROUNDOFF = 2.0**-53


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
        w = self.dual_coordinates(np.asarray(v, float))
        return _length(w) if self.dual_order == 2 else np.asarray(np.linalg.norm(w, self.dual_order, axis=-1))

    @abstractmethod
    def dual_vector(self, v: ArrayLike) -> Array:
        """Perturbation s with ‖s‖ = 1 and ``sᵀv = dual_norm(v)`` (0 where v = 0), the shape of ``v``."""

    @abstractmethod
    def project(self, delta: ArrayLike, eps: float) -> Array:
        """A point of the ball of radius ``eps``: the nearest one for l2 and linf, a rescaled one for the others.

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

    def features(self, d: int) -> NDArray[np.int64]:
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
        mutable = np.asarray(mutable, dtype=bool)
        if mutable.ndim != 1 or not mutable.any():
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

    def block(self, mutable: NDArray[np.bool_]) -> Norm:
        """The norm on the subspace of some features, for vectors of these features alone."""
        return self

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


def _rescale(delta: ArrayLike, size: Array, eps: float) -> Array:
    """Shrink changes to ``eps``, given sizes that are not more than (d + 4) units too small."""
    delta = np.asarray(delta, float)
    unit = (delta.shape[-1] + 12) * _ROUNDOFF
    factor = np.divide(eps * (1.0 - unit), size, out=np.ones_like(size), where=size * (1.0 + unit) > eps)
    return delta * factor[..., None]


def _length(v: Array) -> Array:
    """Euclidean norm along the last axis, where squares over- or underflow too."""
    with np.errstate(over="ignore"):
        length = np.asarray(np.linalg.norm(v, axis=-1))
    if ((length > 1e-140) & (length < 1e140)).all():
        return length
    largest = np.abs(v).max(axis=-1, initial=0.0)
    unit = np.ldexp(1.0, np.minimum(np.frexp(largest)[1], 1023))
    return np.asarray(np.linalg.norm(v / unit[..., None], axis=-1) * unit)


class L2(Norm):
    """The Euclidean norm, its own dual."""

    name = "l2"
    diagonal = True
    dual_order = 2

    def norm(self, delta: ArrayLike) -> Array:
        return _length(np.asarray(delta, float))

    def dual_vector(self, v: ArrayLike) -> Array:
        v = np.asarray(v, float)
        size = _length(v)[..., None]
        return np.divide(v, size, out=np.zeros_like(v), where=size > 0)

    def project(self, delta: ArrayLike, eps: float) -> Array:
        return _rescale(delta, self.norm(delta), eps)

    def sample(self, rng: np.random.Generator, n: int, d: int) -> Array:
        return self.dual_vector(rng.standard_normal((n, d)))


class Linf(Norm):
    """The largest absolute change of a feature; dual to l1."""

    name = "linf"
    diagonal = True
    dual_order = 1

    def norm(self, delta: ArrayLike) -> Array:
        return np.asarray(np.abs(np.asarray(delta, float)).max(axis=-1))

    def dual_vector(self, v: ArrayLike) -> Array:
        return np.sign(np.asarray(v, float))

    def project(self, delta: ArrayLike, eps: float) -> Array:
        return np.clip(np.asarray(delta, float), -eps, eps)

    def sample(self, rng: np.random.Generator, n: int, d: int) -> Array:
        # Half of the samples are vertices of the cube, where a linear functional is largest.
        delta = rng.uniform(-1, 1, (n, d))
        delta[::2] = np.sign(delta[::2])
        return delta / np.abs(delta).max(axis=-1, keepdims=True)


class L1(Norm):
    """The sum of absolute changes; dual to l∞."""

    name = "l1"
    diagonal = True
    dual_order = np.inf

    def norm(self, delta: ArrayLike) -> Array:
        return np.asarray(np.abs(np.asarray(delta, float)).sum(axis=-1))

    def dual_vector(self, v: ArrayLike) -> Array:
        v = np.asarray(v, float)
        largest = np.abs(v).argmax(axis=-1)[..., None]
        s = np.zeros_like(v)
        np.put_along_axis(s, largest, np.sign(np.take_along_axis(v, largest, -1)), -1)
        return s

    def project(self, delta: ArrayLike, eps: float) -> Array:
        return _rescale(delta, self.norm(delta), eps)

    def sample(self, rng: np.random.Generator, n: int, d: int) -> Array:
        delta = rng.laplace(size=(n, d))
        delta[::2] *= rng.random((len(delta[::2]), d)) < 2 / d  # sparse ones: near the vertices
        delta[np.abs(delta).sum(axis=1) == 0, 0] = 1.0
        return delta / self.norm(delta)[:, None]


class Ellipsoid(Norm):
    """The ellipsoid norm ``√(δᵀAδ)`` of a positive definite matrix A, dual to that of A⁻¹.

    It says that some directions cost an attacker more than others: with ``A = diag(scale**2)`` a change of
    standardised features is measured in original units.

    Parameters
    ----------
    matrix : array-like of shape (d, d)
        Symmetric positive definite.
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

    def _check(self, v: ArrayLike) -> Array:
        v = np.asarray(v, float)
        if v.shape[-1] != len(self.matrix):
            raise ValueError(
                f"the ellipsoid norm was given for {len(self.matrix)} features, but the data have {v.shape[-1]}"
            )
        return v

    def norm(self, delta: ArrayLike) -> Array:
        return _length(self._check(delta) @ self._cholesky)

    def dual_coordinates(self, v: Array) -> Array:
        return self._check(v) @ self._inverse_cholesky.T

    def absolute_coordinates(self, v: Array) -> Array:
        return self._check(v) @ np.abs(self._inverse_cholesky).T

    def dual_vector(self, v: ArrayLike) -> Array:
        w = self.dual_coordinates(np.asarray(v, float))
        size = _length(w)[..., None]
        return self._to_size_one(np.divide(w, size, out=np.zeros_like(w), where=size > 0))

    def project(self, delta: ArrayLike, eps: float) -> Array:
        delta = self._check(delta)
        # The product with C cancels where A is ill-conditioned.
        rounding = (len(self.matrix) + 12) * _ROUNDOFF * _length(np.abs(delta) @ np.abs(self._cholesky))
        return _rescale(delta, (self.norm(delta) + rounding) * self._largest_ratio, eps)

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
    """A norm on perturbations of some of the features only (made by :meth:`Norm.restrict`).

    Parameters
    ----------
    base : Norm
    mutable : bool array of shape (d,)
        A perturbation of any other feature has infinite size.
    """

    def __init__(self, base: Norm, mutable: NDArray[np.bool_]):
        self.base, self.mutable = base, mutable
        self.inner = base.block(mutable)
        self.name, self.dual_order, self.n_features = base.name, base.dual_order, len(mutable)
        self.distortion = self.inner.distortion
        self.diagonal = base.diagonal

    def _check(self, v: ArrayLike) -> Array:
        v = np.asarray(v, float)
        if v.shape[-1] != len(self.mutable):
            raise ValueError(
                f"the norm was restricted for {len(self.mutable)} features, but the data have {v.shape[-1]}"
            )
        return v

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

    def features(self, d: int) -> NDArray[np.int64]:
        places = np.flatnonzero(self.mutable)
        return places[self.inner.features(len(places))]

    def block(self, mutable: NDArray[np.bool_]) -> Norm:
        return self.base.block(mutable).restrict(self.mutable[mutable])

    def __repr__(self) -> str:
        return f"{self.base!r} restricted to {int(self.mutable.sum())} of {len(self.mutable)} features"


class Scaled(Norm):
    """A norm of perturbations that are divided by the unit of each feature (made by :meth:`Norm.in_units`).

    Parameters
    ----------
    base : Norm
    scale : array of shape (d,)
    """

    def __init__(self, base: Norm, scale: Array):
        self.base, self.scale = base, scale
        self.name, self.dual_order, self.n_features = base.name, base.dual_order, len(scale)
        self.distortion, self.diagonal = base.distortion, base.diagonal

    def _check(self, v: ArrayLike) -> Array:
        v = np.asarray(v, float)
        self._check_features(v.shape[-1])
        return v

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
        return self.base.project(self._check(delta) / self.scale, eps * (1.0 - 4.0 * _ROUNDOFF)) * self.scale

    def sample(self, rng: np.random.Generator, n: int, d: int) -> Array:
        return self.base.sample(rng, n, d) * self.scale

    def features(self, d: int) -> NDArray[np.int64]:
        return self.base.features(d)

    def block(self, mutable: NDArray[np.bool_]) -> Norm:
        return Scaled(self.base.block(mutable), self.scale[mutable])

    def __repr__(self) -> str:
        return f"{self.base!r} in units of {len(self.scale)} features"


_NAMED = {norm.name: norm for norm in (L2, Linf, L1)}


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
    if isinstance(norm, str):
        if norm.lower() not in _NAMED:
            known = ", ".join(repr(name) for name in _NAMED)
            raise ValueError(f"norm must be one of {known}, or a positive definite matrix, got {norm!r}")
        return _NAMED[norm.lower()]()
    if norm is None or np.ndim(norm) != 2:
        raise ValueError(f"norm must be 'l2', 'linf', 'l1' or a positive definite matrix, got {norm!r}")
    return Ellipsoid(norm)
