"""Laws of SPD matrices."""

import numpy as np

from certimetric.geometry import spd


def random_spd(rng, d=5):
    A = rng.standard_normal((d, d))
    return A @ A.T + 0.1 * np.eye(d)


def test_geodesic_ends_symmetry_and_riccati(rng):
    A, B = random_spd(rng), random_spd(rng)
    np.testing.assert_allclose(spd.geodesic(A, B, 0.0), A, atol=1e-10)
    np.testing.assert_allclose(spd.geodesic(A, B, 1.0), B, atol=1e-10)
    np.testing.assert_allclose(spd.geodesic(A, B), spd.geodesic(B, A), atol=1e-10)
    # A # B is the positive solution of X A⁻¹ X = B.
    X = spd.geodesic(A, B)
    np.testing.assert_allclose(X @ np.linalg.inv(A) @ X, B, atol=1e-9)


def test_geodesic_commutes_with_congruence(rng):
    A, B, C = random_spd(rng), random_spd(rng), rng.standard_normal((5, 5))
    np.testing.assert_allclose(
        spd.geodesic(C @ A @ C.T, C @ B @ C.T, 0.3), C @ spd.geodesic(A, B, 0.3) @ C.T, atol=1e-8
    )


def test_power_and_inverse(rng):
    A = random_spd(rng)
    root = spd.power(A, 0.5)
    np.testing.assert_allclose(root @ root, A, atol=1e-10)
    np.testing.assert_allclose(spd.inverse(A), np.linalg.inv(A), atol=1e-9)


def test_factor_of_a_singular_matrix(rng):
    L = rng.standard_normal((2, 5))
    factor = spd.factor_psd(L.T @ L)
    np.testing.assert_allclose(factor.T @ factor, L.T @ L, atol=1e-12)
    # Equal matrices give equal components, whatever the signs of the eigenvectors.
    np.testing.assert_array_equal(factor, spd.factor_psd((-L).T @ (-L)))
