"""Spectral norms of matrices and of convolutions, rounded up with a proof: what a Lipschitz constant may rest on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from certimetric.base.arrays import Array
from certimetric.base.rounding import UNIT_ROUNDOFF
from certimetric.deep.ranking.distances import slices

_BYTES = 2**26  # of the matrices of frequencies that are looked at together
_SLACKS = (1e-9, 1e-7, 1e-5, 1e-3)  # relative; the first that the proof holds for


def rounding(n: int) -> float:
    """Relative error of an inner product of n real or complex terms, added in any order: γ of four times n, for complex
    terms (Higham, *Accuracy and Stability of Numerical Algorithms*, section 3.6)."""
    return 4 * (n + 4) * UNIT_ROUNDOFF / (1 - 4 * (n + 4) * UNIT_ROUNDOFF)


def spectral_norm(matrices: NDArray[np.inexact], errors: Array | float = 0.0) -> float:
    """Upper bound on the largest singular value of matrices (…, m, n), real or complex.

    An estimate ρ is raised until a Cholesky factorisation *proves* ``ρ² I − AᴴA`` positive semidefinite: its success in
    floating point bounds the smallest eigenvalue from below (Rump, *Verification of positive definiteness*, BIT 46
    (2006) 433–452). No trust in an iteration's convergence is needed; the bound is above the norm by a share of about
    1e-9. ``errors`` bounds the Frobenius norm of what each matrix may be off by; a ValueError if one is not finite.

    Examples
    --------
    >>> 0 <= spectral_norm(np.diag([3.0, 1.0])) - 3 < 1e-8
    True
    """
    A = np.atleast_2d(np.asarray(matrices))
    if not np.isfinite(A).all():
        raise ValueError("weights must be finite, got NaN or infinity")
    if A.shape[-2] < A.shape[-1]:
        A = A.conj().swapaxes(-1, -2)
    m, n = A.shape[-2:]
    A, errors = A.reshape(-1, m, n), np.broadcast_to(errors, A.shape[:-2]).reshape(-1)
    gram = A.conj().swapaxes(-1, -2) @ A
    squares = (A.real**2 + A.imag**2).sum(axis=(1, 2)) * (1 + rounding(m * n))
    estimates = np.sqrt(np.maximum(np.linalg.eigvalsh(gram)[:, -1], 0.0))
    # Of many matrices only those near the top decide: a small one is raised to what costs nothing.
    rho = np.maximum(estimates, (1 - 1e-6) * estimates.max()) + np.finfo(float).tiny ** 0.25
    for slack in _SLACKS:
        bound = rho * (1 + slack)
        # The errors of the products, of the factorisation, and of this subtraction itself.
        moved = 2 * (rounding(m) * squares + rounding(n) * (n * bound**2 + squares))
        shifted = (bound**2 - moved)[:, None, None] * np.eye(n) - gram
        try:
            np.linalg.cholesky(shifted)
        except np.linalg.LinAlgError:
            continue
        return float(np.nextafter((bound + errors).max() * (1 + 4 * UNIT_ROUNDOFF), np.inf))
    return float(np.nextafter(np.sqrt(squares.max()) * (1 + 1e-9) + errors.max(), np.inf))  # Frobenius


def convolution_norm(
    kernel: Array, size: tuple[int, int], stride: tuple[int, int] = (1, 1), padding: tuple[int, int] = (0, 0)
) -> float:
    """Upper bound on the norm of a convolution of pictures of a given size with zeros around them.

    On a torus that is large enough for the padding to lie in it, the convolution is block diagonal in the Fourier
    basis, and the true operator is a part of it: its norm is at most the largest over the frequencies. A stride takes
    every s-th output, so that the s × s pixels of a cell count as channels. The kernel is of shape (c_out, c_in, h, w).

    The Fourier basis is that of Sedghi et al., arXiv 1805.10408; what zeros around the picture do to it is written in
    ``docs/certified-retrieval.md``.

    Examples
    --------
    >>> box = np.full((1, 1, 3, 3), 1 / 9)
    >>> 0 <= 1.0 - convolution_norm(box, (64, 64), padding=(1, 1)) + 1e-8 < 1e-6
    True
    """
    c_out, c_in, *extent = kernel.shape
    # Cells of the torus: the padding in front fits behind the picture.
    cells = [-(-(n + p) // s) for n, p, s in zip(size, padding, stride)]
    reach = [-(-k // s) for k, s in zip(extent, stride)]
    padded = np.zeros((c_out, c_in, reach[0] * stride[0], reach[1] * stride[1]))
    padded[:, :, : extent[0], : extent[1]] = kernel
    phases = padded.reshape(c_out, c_in, reach[0], stride[0], reach[1], stride[1]).transpose(2, 4, 0, 1, 3, 5)
    blocks = phases.reshape(reach[0] * reach[1], c_out, -1)  # one matrix for each offset between cells
    # An exponential is known to about 1e-15, and the sum over the offsets adds its rounding.
    error = (rounding(len(blocks)) + 1e-14) * float(np.linalg.norm(np.abs(blocks).sum(axis=0)))
    rows = np.exp(2j * np.pi * np.outer(np.arange(cells[0]), np.arange(reach[0])) / cells[0])
    # A real kernel has conjugate matrices at opposite frequencies.
    columns = np.exp(2j * np.pi * np.outer(np.arange(cells[1] // 2 + 1), np.arange(reach[1])) / cells[1])
    waves = np.einsum("ip,jq->ijpq", rows, columns).reshape(-1, len(blocks))
    parts = slices(len(waves), _BYTES // (64 * blocks[0].size))
    return max(spectral_norm(np.tensordot(waves[rows], blocks, axes=1), error) for rows in parts)
