"""Functions of symmetric positive definite (SPD) matrices: powers, geometric means, geodesics.

The affine-invariant geometry of SPD matrices as in Bhatia, *Positive Definite Matrices* (2007).
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike

from certimetric.base.arrays import Array
from certimetric.base.rounding import UNIT_ROUNDOFF


def check_matrix(matrix: ArrayLike, name: str) -> Array:
    """A finite float64 copy of a matrix that was given as a parameter; a ValueError where it is none."""
    try:
        L = np.array(matrix).astype(float, casting="same_kind" if np.iscomplexobj(matrix) else "unsafe")
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a matrix of real numbers, got {type(matrix).__name__}") from None
    if L.ndim != 2:
        raise ValueError(f"{name} must be a matrix, got an array of shape {L.shape}")
    if not np.isfinite(L).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity")
    return L


def check_symmetric(matrix: ArrayLike, name: str) -> Array:
    """A finite, square, exactly symmetrised float64 copy of a matrix that is symmetric to 1e-8 of its largest entry."""
    M = check_matrix(matrix, name)
    if M.shape[0] != M.shape[1]:
        raise ValueError(f"{name} must be a square matrix, got an array of shape {M.shape}")
    if M.size and np.abs(M - M.T).max() > 1e-8 * max(np.abs(M).max(), np.finfo(float).tiny):
        raise ValueError(f"{name} must be symmetric")
    return (M + M.T) / 2


def check_spd(matrix: ArrayLike, name: str) -> Array:
    """Like :func:`check_symmetric`, and every eigenvalue must be positive."""
    M = check_symmetric(matrix, name)
    smallest = scipy.linalg.eigvalsh(M)[0]
    if smallest <= 0:
        raise ValueError(f"{name} must be positive definite, got the eigenvalue {smallest:.3g}")
    return M


def power(matrix: Array, exponent: float) -> Array:
    """Power of an SPD matrix.

    Examples
    --------
    >>> power(np.diag([4.0, 9.0]), 0.5)
    array([[2., 0.],
           [0., 3.]])
    """
    values, vectors = scipy.linalg.eigh(matrix, driver="evd")
    return (vectors * values**exponent) @ vectors.T


def inverse(matrix: Array) -> Array:
    """Inverse of an SPD matrix, exactly symmetric."""
    inverted = scipy.linalg.cho_solve(scipy.linalg.cho_factor(matrix, lower=True), np.eye(len(matrix)))
    return (inverted + inverted.T) / 2


def geodesic(A: Array, B: Array, t: float = 0.5) -> Array:
    """Point at ``t`` of the geodesic from A (t = 0) to B (t = 1), both SPD: the weighted geometric mean ``A #_t B``.

    Examples
    --------
    >>> geodesic(np.diag([1.0, 4.0]), np.diag([4.0, 1.0]), 0.5)
    array([[2., 0.],
           [0., 2.]])
    """
    # With A = CCᵀ, A #_t B = C (C⁻¹ B C⁻ᵀ)^t Cᵀ: one Cholesky and one symmetric eigenproblem.
    C = scipy.linalg.cholesky(A, lower=True)
    half = scipy.linalg.solve_triangular(C, B, lower=True)
    inner = scipy.linalg.solve_triangular(C, half.T, lower=True)
    values, vectors = scipy.linalg.eigh((inner + inner.T) / 2, driver="evd")
    factor = C @ (vectors * np.maximum(values, 0.0) ** (t / 2))
    return factor @ factor.T


def factor_psd(matrix: Array) -> Array:
    """Components L of shape (d, d) with ``LᵀL = M``, rows by decreasing eigenvalue.

    Eigenvalues that are negative by rounding count as zero. The sign of every row is fixed, so that equal
    matrices give equal components.
    """
    values, vectors = scipy.linalg.eigh(matrix)
    order = np.argsort(values)[::-1]
    L = (vectors[:, order] * np.sqrt(np.maximum(values[order], 0.0))).T
    return fix_row_signs(L)


def fix_row_signs(L: Array) -> Array:
    """Make the entry of largest absolute value of every row positive (distances do not change)."""
    pivot = L[np.arange(len(L)), np.abs(L).argmax(axis=1)]
    return L * np.where(pivot < 0, -1.0, 1.0)[:, None]


def factor_with_errors(matrix: ArrayLike, name: str) -> tuple[Array, Array, Array, float, float]:
    """Cholesky factor of a positive definite matrix, its inverse, and how far rounding has put them off.

    Features may be of any units: the errors of a diagonal matrix are a few roundings, whatever its condition. A matrix
    so ill-conditioned that a bound exceeds 1/4 is refused by a ValueError.

    Returns
    -------
    A, C, W : array of shape (d, d)
        The matrix, made exactly symmetric; ``A ≈ C Cᵀ``, lower triangular, and ``W ≈ C⁻¹``.
    rho, phi : float
        Bounds on the spectral norms of ``W A Wᵀ − I`` and ``W C − I``. They are measured, not estimated.
    """
    A = check_symmetric(matrix, name)
    if (np.diagonal(A) > 0).all():
        units = np.ldexp(1.0, -np.frexp(np.sqrt(np.diagonal(A)))[1])  # powers of two change no digit
        check_spd(A * units * units[:, None], name)
    else:
        check_spd(A, name)
    try:
        C = scipy.linalg.cholesky(A, lower=True)
        W = scipy.linalg.solve_triangular(C, np.eye(len(A)), lower=True)
        rho, phi = _distance_to_identity(W, A, W.T), _distance_to_identity(W, C)
    except np.linalg.LinAlgError:
        rho = phi = np.inf
    if not max(rho, phi) < 0.25:
        raise ValueError(
            f"{name} has the condition number {np.linalg.cond(A):.0e}: in double precision it leaves nothing to certify"
        )
    return A, C, W, rho, phi


def _distance_to_identity(*factors: Array) -> float:
    """Bound on the spectral norm of I − the product of these matrices, the rounding of the product counted."""
    product, sizes = factors[0], np.abs(factors[0])
    for factor in factors[1:]:
        product, sizes = product @ factor, sizes @ np.abs(factor)
    unit = (len(factors) * len(product) + 8) * UNIT_ROUNDOFF
    difference = np.abs(product - np.eye(len(product))) + unit * sizes
    # ‖E‖₂² ≤ ‖E‖₁ ‖E‖_∞
    return float(np.sqrt(difference.sum(axis=0).max() * difference.sum(axis=1).max())) * (1.0 + 1e-9)
