"""Norms and their duals."""

import numpy as np
import pytest

from certimetric.geometry import resolve_norm

D = 5


def ellipsoid():
    A = np.random.default_rng(7).standard_normal((D, D))
    return resolve_norm(A @ A.T + np.eye(D))


@pytest.fixture(params=["l2", "linf", "l1", "ellipsoid", "scaled linf", "scaled ellipsoid"])
def norm(request):
    name = request.param.split()[-1]
    norm = ellipsoid() if name == "ellipsoid" else resolve_norm(name)
    return norm.in_units([1.0, 0.1, 20.0, 3.0, 0.5]) if "scaled" in request.param else norm


def test_hoelder_and_its_equality(norm, rng):
    # |sᵀv| ≤ ‖s‖ ‖v‖_*, with equality at the dual vector, which has size 1.
    V, S = rng.standard_normal((2, 200, D))
    assert (np.abs((S * V).sum(axis=1)) <= norm.norm(S) * norm.dual_norm(V) * (1 + 1e-12)).all()
    s = norm.dual_vector(V)
    np.testing.assert_allclose(norm.norm(s), 1, rtol=1e-12)
    np.testing.assert_allclose((s * V).sum(axis=1), norm.dual_norm(V), rtol=1e-12)
    assert (norm.dual_vector(np.zeros((1, D))) == 0).all()


def test_norm_axioms(norm, rng):
    a, b = rng.standard_normal((2, 50, D))
    assert (norm.norm(a + b) <= norm.norm(a) + norm.norm(b) + 1e-12).all()
    np.testing.assert_allclose(norm.norm(-3 * a), 3 * norm.norm(a))
    assert norm.norm(a.reshape(5, 10, D)).shape == (5, 10)


def test_projection_lands_in_the_ball_and_stays(norm, rng):
    delta = rng.standard_normal((50, D)) * 3
    inside = norm.project(delta, 0.5)
    assert (norm.norm(inside) <= 0.5 * (1 + 1e-12)).all()
    np.testing.assert_allclose(norm.project(inside, 0.5), inside, rtol=1e-12)
    small = delta * 1e-3
    np.testing.assert_allclose(norm.project(small, 1.0), small, rtol=1e-15)


def test_samples_have_size_one(norm, rng):
    np.testing.assert_allclose(norm.norm(norm.sample(rng, 64, D)), 1, rtol=1e-12)


def test_dual_norm_of_an_ellipsoid_is_that_of_the_inverse(rng):
    A = rng.standard_normal((D, D))
    A = A @ A.T + np.eye(D)
    v = rng.standard_normal(D)
    assert resolve_norm(A).dual_norm(v) == pytest.approx(np.sqrt(v @ np.linalg.solve(A, v)))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("l3", "got 'l3'"),
        (None, "positive definite matrix"),
        ([[1.0, 2.0], [0.0, 1.0]], "symmetric"),
        ([[1.0, 0.0], [0.0, -1.0]], "positive definite"),
        ([[np.nan]], "finite"),
        ([[1.0, 0.0]], "square"),
    ],
)
def test_bad_norms_are_named(bad, message):
    with pytest.raises(ValueError, match=message) as error:
        resolve_norm(bad)
    assert "\n" not in str(error.value)


def test_ellipsoid_for_another_number_of_features():
    with pytest.raises(ValueError, match="2 features, but the data have 3"):
        resolve_norm(np.eye(2)).norm(np.ones(3))


@pytest.mark.parametrize("name", ["l2", "linf", "l1", "ellipsoid", "scaled"])
def test_a_restricted_norm_is_that_of_the_other_features(name, rng):
    # For changes of the mutable features alone the norm is the same, its dual is that on their subspace.
    norm = {"ellipsoid": ellipsoid(), "scaled": ellipsoid().in_units([1.0, 0.1, 20.0, 3.0, 0.5])}.get(name)
    norm = resolve_norm(name) if norm is None else norm
    mutable = np.array([True, False, True, True, False])
    restricted = norm.restrict(mutable)
    delta = rng.standard_normal((20, D)) * mutable
    np.testing.assert_allclose(restricted.norm(delta), norm.norm(delta), rtol=1e-12)
    assert np.isinf(restricted.norm(np.ones(D)))
    v = rng.standard_normal((20, D))
    s = restricted.dual_vector(v)
    assert (s[:, ~mutable] == 0).all()
    np.testing.assert_allclose(restricted.norm(s), 1, rtol=1e-12)
    np.testing.assert_allclose((s * v).sum(axis=1), restricted.dual_norm(v), rtol=1e-12)
    assert (restricted.dual_norm(v) <= norm.dual_norm(v) * (1 + 1e-12)).all()  # an attacker who can change less
    assert (restricted.sample(rng, 8, D)[:, ~mutable] == 0).all()
    assert (restricted.norm(restricted.project(3 * delta, 0.5)) <= 0.5 * (1 + 1e-12)).all()
    assert norm.restrict(np.ones(D, dtype=bool)) is norm


def test_units_are_positive_numbers():
    with pytest.raises(ValueError, match="a positive number for each feature"):
        resolve_norm("l2").in_units([1.0, 0.0])
