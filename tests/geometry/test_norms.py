"""Norms and their duals."""

from fractions import Fraction

import numpy as np
import pytest

from certimetric.geometry import resolve_norm
from certimetric.geometry.norms import Ellipsoid

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


def composed(rng, d):
    """A norm put together at random, and its size of a change and its dual norm from the definitions."""
    name = str(rng.choice(["l2", "linf", "l1", "ellipsoid"]))
    A = rng.standard_normal((d, d))
    A = A @ A.T + np.eye(d)
    norm = resolve_norm(A if name == "ellipsoid" else name)
    units, mutable = np.ones(d), np.ones(d, dtype=bool)
    for _ in range(int(rng.integers(1, 5))):
        mask = rng.random(d) < 0.7
        if rng.random() < 0.5:
            scale = 10.0 ** rng.uniform(-3, 3, d)
            norm, units = norm.in_units(scale), units * scale
        elif (mask & mutable).any():
            norm, mutable = norm.restrict(mask), mutable & mask

    def size(delta):
        z = delta / units
        plain = {"l2": np.sqrt(z @ z), "linf": np.abs(z).max(), "l1": np.abs(z).sum(), "ellipsoid": np.sqrt(z @ A @ z)}
        return plain[name] if (delta[~mutable] == 0).all() else np.inf

    def dual(v):
        w = (v * units)[mutable]
        if name == "ellipsoid":
            return np.sqrt(w @ np.linalg.solve(A[np.ix_(mutable, mutable)], w))
        return {"l2": np.sqrt(w @ w), "linf": np.abs(w).sum(), "l1": np.abs(w).max()}[name]

    return norm, mutable, size, dual


@pytest.mark.parametrize("seed", range(40))
def test_restrictions_and_units_in_any_order(seed):
    rng = np.random.default_rng(seed)
    norm, mutable, size, dual = composed(rng, D)
    close = {"rtol": 1e-10}
    change = rng.standard_normal(D) * mutable * 10.0 ** rng.uniform(-3, 3, D)
    np.testing.assert_allclose(norm.norm(change), size(change), **close)
    if not mutable.all():
        assert np.isinf(norm.norm(np.ones(D)))
    v = rng.standard_normal((6, D)) * 10.0 ** rng.uniform(-3, 3, D)
    np.testing.assert_allclose(norm.dual_norm(v), [dual(row) for row in v], **close)
    np.testing.assert_allclose(np.linalg.norm(norm.dual_coordinates(v), norm.dual_order, axis=1), norm.dual_norm(v))
    assert (np.abs(norm.dual_coordinates(v)) <= norm.absolute_coordinates(np.abs(v)) * (1 + 1e-12)).all()
    s = norm.dual_vector(v)
    np.testing.assert_allclose((s * v).sum(axis=1), norm.dual_norm(v), **close)
    samples = norm.sample(rng, 50, D)
    np.testing.assert_allclose([size(row) for row in np.vstack([s, samples])], 1.0, **close)
    # The dual norm is the largest sᵀv: no sample has a larger one.
    assert (samples @ v.T <= norm.dual_norm(v) * (1 + 1e-10)).all()
    inside = norm.project(rng.standard_normal((20, D)) * 10.0 ** rng.uniform(-3, 3, D), 0.7)
    assert all(size(row) <= 0.7 * (1 + 1e-10) for row in inside)


def test_restrictions_that_cannot_be():
    norm = resolve_norm("linf").restrict([True, False, True])
    for mask, message in (([False, True, False], "at least one"), ([True, False], "for 3 features, got 2")):
        with pytest.raises(ValueError, match=message):
            norm.restrict(mask)
    with pytest.raises(ValueError, match="at least one"):
        resolve_norm("l2").restrict([False, False])
    with pytest.raises(ValueError, match="must be a mask"):  # as a mask these numbers would be all but feature 0
        resolve_norm("l2").restrict([0, 1, 2])
    with pytest.raises(ValueError, match="for 3 features, got 2"):
        norm.in_units([1.0, 2.0])
    with pytest.raises(ValueError, match="for 2 features, got 3"):
        resolve_norm(np.eye(2)).in_units([1.0, 2.0, 3.0])


def ill_conditioned(rng, d, exponent):
    U = np.linalg.qr(rng.standard_normal((d, d)))[0]
    A = (U * 10.0 ** np.linspace(-exponent, 0, d)) @ U.T
    return (A + A.T) / 2


def quadratic_form_of_inverse(A, v):
    """``vᵀA⁻¹v`` in rational numbers, by elimination."""
    rows = [[Fraction(a) for a in [*row, b]] for row, b in zip(A.tolist(), v.tolist())]
    total = Fraction(0)
    for i, pivot in enumerate(rows):  # A = L D Lᵀ, and the sum of (L⁻¹v)² / D
        total += pivot[-1] ** 2 / pivot[i]
        for row in rows[i + 1 :]:
            factor = row[i] / pivot[i]
            row[:] = [a - factor * b for a, b in zip(row, pivot)]
    return total


@pytest.mark.parametrize("exponent", [8, 10, 12, 13, 14, 15])
def test_dual_norms_of_ill_conditioned_ellipsoids_are_never_below_the_exact_ones(exponent):
    # A certificate divides by the dual norm: it must not be too small.
    rng = np.random.default_rng(exponent)
    refused = 0
    for d in (2, 5):
        for _ in range(4):
            A, v = ill_conditioned(rng, d, exponent), rng.standard_normal(d)
            try:
                found = Fraction(float(Ellipsoid(A).dual_norm(v)))
            except ValueError as error:
                assert "leaves nothing to certify" in str(error)
                refused += 1
                continue
            exact = quadratic_form_of_inverse(A, v)
            assert exact <= found**2 <= exact * (1 + Fraction(200 * d**2 * 2.0**-53 * 10.0**exponent))
    assert refused < 8 or exponent == 15


def test_the_condition_of_a_diagonal_matrix_costs_nothing():
    A = np.diag(10.0 ** np.array([-30.0, -8, 0, 3, 30]))
    norm, v = Ellipsoid(A), np.ones(5)
    assert norm.dual_norm(v) == pytest.approx(np.sqrt((1 / np.diagonal(A)).sum()), rel=1e-13)
    assert norm.distortion < 1 + 1e-13
    rotated = ill_conditioned(np.random.default_rng(0), 5, 1)
    units = 10.0 ** np.array([-12.0, -6, 0, 6, 12])
    assert Ellipsoid(rotated * units * units[:, None]).distortion < 1 + 1e-12  # nor do units of the features


def test_an_ellipsoid_without_a_digit_left_is_refused():
    with pytest.raises(ValueError, match=r"condition number [0-9]e\+1[5678]: .* nothing to certify") as error:
        Ellipsoid(ill_conditioned(np.random.default_rng(3), 6, 15.3))
    assert "\n" not in str(error.value)


def rational_size(norm, units, delta):
    """The square of the size of a change, exactly; for l1 and linf the size."""
    z = [Fraction(x) / Fraction(u) for x, u in zip(delta.tolist(), units.tolist())]
    if isinstance(norm, str) and norm != "l2":
        return sum(abs(x) for x in z) if norm == "l1" else max(abs(x) for x in z)
    A = np.eye(len(z)) if isinstance(norm, str) else norm
    return sum(x * Fraction(a) * y for x, row in zip(z, A.tolist()) for y, a in zip(z, row))


@pytest.mark.parametrize("name", ["l2", "l1", "linf", 0, 6, 12])
@pytest.mark.parametrize("scaled", [False, True])
def test_projections_are_within_the_ball_exactly(name, scaled, rng):
    given = name if isinstance(name, str) else ill_conditioned(rng, 4, name)
    units = 10.0 ** rng.uniform(-5, 5, 4) if scaled else np.ones(4)
    norm = resolve_norm(given).in_units(units) if scaled else resolve_norm(given)
    for size in (0.3, 1e-160, 1e100):
        points = rng.standard_normal((30, 4)) * size * units
        points[:10] /= np.maximum(norm.norm(points[:10]), 1e-300)[:, None] / size  # on the sphere already, or near it
        exact = Fraction(size) if isinstance(given, str) and name != "l2" else Fraction(size) ** 2
        inside = norm.project(points, size)
        assert all(rational_size(given, units, row) <= exact for row in inside)
        far = norm.project(points * 1e9, size)
        assert (norm.norm(far) >= size * 0.9).all()  # and not by shrinking more than needed
    steps = np.vstack([norm.dual_vector(points), norm.sample(rng, 20, 4)])
    if not isinstance(name, str):
        assert all(rational_size(given, units, row) <= 1 for row in steps)
