"""Radii of pairs: against general optimisers, against attacks at the radius itself, and the laws that they obey."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from certimetric import MahalanobisMetric
from certimetric.certify import minimal_pair_changes, pair_radii
from certimetric.certify.pairs import PairCertifier, checked_pairs
from certimetric.constraints.tuples import Tuples
from certimetric.geometry.diagonal import DiagonalMetric
from certimetric.geometry.norms import resolve_norm

METRICS = ("full", "low rank", "wide", "diagonal", "blind", "ill")


def drawn_metric(kind, d, rng):
    if kind == "diagonal":
        return DiagonalMetric(10.0 ** rng.uniform(-3, 0, d))
    L = rng.standard_normal((d, d))
    if kind == "low rank":
        L = L[: max(1, d - 1)]
    elif kind == "wide":
        L = np.vstack([L, rng.standard_normal((2, d))])
    elif kind == "blind":
        L[:, : d // 2] = 0.0
    elif kind == "ill":  # M of condition 1e12
        U, _, V = np.linalg.svd(L)
        L = (U * 10.0 ** np.linspace(0, -6, d)) @ V
    return MahalanobisMetric.from_components(L)


def drawn_norm(name, d, rng):
    if name == "ellipsoid":
        A = rng.standard_normal((d, d))
        return resolve_norm(A @ A.T + np.eye(d))
    base = resolve_norm(name.split()[0])
    if "units" in name:
        base = base.in_units(10.0 ** rng.uniform(-1, 1, d))
    if "restricted" in name:
        mutable = rng.random(d) < 0.6
        mutable[rng.integers(d)] = True
        base = base.restrict(mutable)
    return base


def problem(seed, kind="full", norm="l2", d=4, m=12):
    rng = np.random.default_rng(seed)
    metric, pairs = drawn_metric(kind, d, rng), rng.standard_normal((m, 2, d))
    pairs[0, 0] = pairs[0, 1]
    distances = metric.distance(pairs[:, 0], pairs[:, 1])
    return metric, pairs, distances, float(np.median(distances)), drawn_norm(norm, d, rng)


def by_sqp(metric, pair, t, accepted, starts, rng):
    """Size of the smallest change in l2 by sequential quadratic programs from many starts."""
    w, M, sign, best = pair[0] - pair[1], metric.matrix, 1.0 if accepted else -1.0, np.inf
    scale = t / np.sqrt(np.linalg.eigvalsh(M)[-1])

    def beyond(x):
        return sign * ((w + x) @ M @ (w + x) / t**2 - 1.0)

    limit = {"type": "ineq", "fun": beyond, "jac": lambda x: sign * 2 * M @ (w + x) / t**2}
    for _ in range(starts):
        start = rng.standard_normal(len(w)) * rng.uniform(0.1, 3) * scale - (0.0 if accepted else w)
        found = minimize(
            lambda x: x @ x / scale**2, start, jac=lambda x: 2 * x / scale**2, constraints=[limit], method="SLSQP",
            options={"maxiter": 500, "ftol": 1e-16},
        )  # fmt: skip
        if beyond(found.x) >= -1e-10:
            best = min(best, np.sqrt(found.x @ found.x))
    return best


@pytest.mark.parametrize("kind", ["full", "low rank", "wide", "diagonal", "blind"])
@pytest.mark.parametrize("seed", range(2))
def test_l2_is_what_a_general_optimiser_finds(kind, seed):
    metric, pairs, distances, t, _ = problem(seed, kind, m=6)
    radii = pair_radii(metric, pairs, t)
    rng = np.random.default_rng(0)
    for pair, distance, radius in zip(pairs, distances, radii):
        assert radius == pytest.approx(by_sqp(metric, pair, t, distance <= t, 12, rng), rel=1e-7, abs=1e-9)


def test_hard_case_and_its_neighbourhood():
    # The difference has no part, or next to none, along the top direction: the way out turns to it. M = diag(4, 1).
    metric, t = MahalanobisMetric.from_matrix(np.diag([4.0, 1.0])), 2.0
    exact = np.sqrt(2 / 3)  # of (0, 1): the nearest point of the boundary is (√5 / 3, 4 / 3)
    for small in (0.0, 1e-300, 1e-17, 1e-12, 1e-8):
        radius, found = (
            function(metric, [[[small, 1.0], [0.0, 0.0]]], t) for function in (pair_radii, minimal_pair_changes)
        )
        assert radius[0] == pytest.approx(exact, rel=1e-7 if small > 1e-9 else 1e-11)
        assert found.verified[0] and found.radii[0] == pytest.approx(exact, rel=1e-7)
        assert found.proven[0]
    # The same instance twice: t over the root of the largest eigenvalue.
    assert pair_radii(metric, [[[5.0, 5.0], [5.0, 5.0]]], t)[0] == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize("norm", ["l2", "ellipsoid", "l2 units", "l2 restricted", "l2 units restricted"])
@pytest.mark.parametrize("kind", METRICS)
def test_exact_norms_meet_their_witness(kind, norm):
    for seed in range(4):
        metric, pairs, distances, t, norm_ = problem(seed, kind, norm)
        radii, found = pair_radii(metric, pairs, t, norm=norm_), minimal_pair_changes(metric, pairs, t, norm=norm_)
        reached = np.isfinite(found.radii)
        assert found.proven[reached].all() and found.verified[reached].all()
        np.testing.assert_allclose(radii[reached], found.radii[reached], rtol=1e-6 if kind == "ill" else 1e-9)
        _witnesses_hold(metric, pairs, distances <= t, t, norm_, found)


def _witnesses_hold(metric, pairs, accepted, t, norm, found):
    rows = np.flatnonzero(found.verified)
    if not len(rows):
        return
    sizes = norm.norm(found.witnesses[rows] - pairs[rows, 0])
    assert (sizes <= found.radii[rows] * (1 + 1e-6) + found.tolerance[rows]).all()
    assert (sizes >= found.lower[rows] * (1 - 1e-12)).all()
    now = PairCertifier(metric).distances(checked_pairs(metric, (found.witnesses[rows], pairs[rows, 1]))[0]) <= t
    assert (now != accepted[rows]).all()


@pytest.mark.parametrize("norm", ["linf", "l1", "linf units", "l1 restricted", "linf units restricted"])
@pytest.mark.parametrize("kind", METRICS)
def test_other_norms_are_bracketed(kind, norm):
    closed = []
    for seed in range(3):
        metric, pairs, distances, t, norm_ = problem(seed, kind, norm)
        radii, found = pair_radii(metric, pairs, t, norm=norm_), minimal_pair_changes(metric, pairs, t, norm=norm_)
        assert (radii <= found.lower).all() and (found.lower <= found.radii).all()
        reached, accepted = np.isfinite(found.radii), distances <= t
        assert found.verified[reached].all()
        _witnesses_hold(metric, pairs, accepted, t, norm_, found)
        closed.append(found.proven[reached & ~accepted])
        if norm.startswith("l1"):
            assert found.proven[reached & accepted].all()
        # Never farther than the Lipschitz bound, and at least it.
        kappa = PairCertifier(metric).maps.per_distance(norm_)
        scale = 2.0 ** PairCertifier(metric).maps.exponent
        lipschitz = np.abs(distances - t) / (kappa * scale)
        assert (radii >= lipschitz * (1 - 1e-6) - 1e-12).all()
    closed = np.concatenate(closed)
    assert closed.mean() >= 0.9 if len(closed) else True


@pytest.mark.parametrize("norm", ["linf", "l1"])
def test_programs_from_outside_are_what_a_general_optimiser_finds(norm):
    metric, pairs, distances, t, _ = problem(1, norm=norm)
    found = minimal_pair_changes(metric, pairs, t, norm=norm)
    for i in np.flatnonzero(distances > t):
        assert found.radii[i] == pytest.approx(_into_by_sqp(metric, pairs[i], t, norm), rel=1e-6) and found.proven[i]


def _into_by_sqp(metric, pair, t, norm):
    w, M, d = pair[0] - pair[1], metric.matrix, pair.shape[1]

    def change(x):  # the last is a bound on all of the others, which are the positive and the negative parts
        return w + x[:d] - x[d : 2 * d]

    limits = [{"type": "ineq", "fun": lambda x: t**2 - change(x) @ M @ change(x)}]
    if norm == "linf":
        limits.append({"type": "ineq", "fun": lambda x: x[-1] - x[: 2 * d]})
    start = np.concatenate([np.maximum(-w, 0), np.maximum(w, 0), [np.abs(w).max()]])
    return minimize(
        (lambda x: x[-1]) if norm == "linf" else (lambda x: x[: 2 * d].sum()), start,
        bounds=[(0, None)] * (2 * d + 1), constraints=limits, method="SLSQP", options={"maxiter": 1000, "ftol": 1e-14},
    ).fun  # fmt: skip


def test_accepted_pairs_in_linf_against_all_corners():
    metric, pairs, distances, t, _ = problem(2, d=5, m=20)
    found = minimal_pair_changes(metric, pairs, t, norm="linf")
    corners = np.stack(np.meshgrid(*[[-1.0, 1.0]] * 5), axis=-1).reshape(-1, 5)
    for i in np.flatnonzero(distances <= t):
        a, b = metric.transform(pairs[i, 0] - pairs[i, 1]), metric.transform(corners)
        square, slope, gap = (b**2).sum(axis=1), b @ a, t**2 - a @ a
        exact = ((np.sqrt(slope**2 + square * gap) - slope) / square).min()
        assert found.lower[i] <= exact * (1 + 1e-12) and found.radii[i] == pytest.approx(exact, rel=1e-9)
        assert found.lower[i] >= 0.6 * exact
    # Features for themselves: the bound is exact.
    metric = DiagonalMetric([1.0, 0.5, 2.0, 0.1, 3.0])
    assert minimal_pair_changes(metric, pairs[:1], t, norm="linf").proven.all()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    kind=st.sampled_from(METRICS),
    norm=st.sampled_from(["l2", "linf", "l1", "ellipsoid", "l2 restricted", "l1 units"]),
    share=st.sampled_from([0.0, 1e-9, 0.3, 0.999999, 1.0, 1.7]),
    scale=st.sampled_from([1.0, 1e-8, 1e6, 1e-120, 1e60]),
    offset=st.sampled_from([0.0, 1e3]),
)
def test_no_change_within_the_radius_flips(seed, kind, norm, share, scale, offset):
    metric, pairs, _, _, norm_ = problem(seed, kind, norm, d=3, m=4)
    pairs = (pairs + offset) * scale
    certifier = PairCertifier(metric)
    given_pairs, _ = checked_pairs(metric, pairs)
    t = share * float(np.median(certifier.distances(given_pairs)))
    accepted, radii = certifier.certify(given_pairs, t, norm_)
    assert (radii >= 0).all() and not np.isnan(radii).any()
    assert (accepted == (certifier.distances(given_pairs) <= t)).all()
    rng = np.random.default_rng(seed)
    witnesses = minimal_pair_changes(metric, pairs, t, norm=norm_)
    for i in range(len(pairs)):
        size = min(radii[i], 1e6 * scale * max(offset, 1.0))
        steps = norm_.sample(rng, 40, 3)
        gradient = (pairs[i, 0] - pairs[i, 1]) @ metric.components.T @ metric.components
        towards = witnesses.witnesses[i] - pairs[i, 0]
        for extra in (norm_.dual_vector(gradient), -norm_.dual_vector(gradient), towards):
            length = float(norm_.norm(extra))
            if 0 < length < np.inf:
                steps = np.vstack([steps, extra / length])
        moved = pairs[i, 0] + steps * size * (1.0 - 1e-12)
        within = norm_.norm(moved - pairs[i, 0]) <= size
        probes = moved[within]
        if len(probes):
            enrolled = np.repeat(pairs[i : i + 1, 1], len(probes), axis=0)
            now = certifier.distances(checked_pairs(metric, (probes, enrolled))[0]) <= t
            assert (now == accepted[i]).all()
            with np.errstate(all="ignore"):
                again = metric.distance(probes, enrolled) <= t  # in whatever order BLAS adds
            assert (again == accepted[i]).all()


@pytest.mark.parametrize("norm", ["l2", "linf", "l1"])
def test_radii_grow_from_the_boundary(norm):
    # Leaving takes more the larger t is, entering the more the smaller it is.
    metric, pairs, distances, _, _ = problem(5, m=8)
    for i in range(len(pairs)):
        ts = distances[i] * np.array([0.0, 0.2, 0.5, 0.9, 0.999, 1.001, 1.1, 2.0, 10.0]) + (distances[i] == 0)
        radii = np.array([pair_radii(metric, pairs[i : i + 1], t, norm=norm)[0] for t in ts])
        outside = distances[i] > ts
        assert (np.diff(radii[outside]) <= 0).all() and (np.diff(radii[~outside]) >= 0).all()


def test_invariances():
    metric, pairs, _, t, _ = problem(6, "low rank")
    radii = pair_radii(metric, pairs, t)
    rng = np.random.default_rng(0)
    d = pairs.shape[2]
    rotation = np.linalg.qr(rng.standard_normal((d, d)))[0]
    order = rng.permutation(d)
    rotated = MahalanobisMetric.from_components(metric.components @ rotation)
    np.testing.assert_allclose(pair_radii(rotated, pairs @ rotation, t), radii, rtol=1e-10)
    turned = MahalanobisMetric.from_components(np.linalg.qr(rng.standard_normal((3, 3)))[0] @ metric.components)
    np.testing.assert_allclose(pair_radii(turned, pairs, t), radii, rtol=1e-10)
    swapped = MahalanobisMetric.from_components(metric.components[:, order])
    for norm in ("l2", "linf", "l1"):
        plain = pair_radii(metric, pairs, t, norm=norm)
        np.testing.assert_allclose(pair_radii(swapped, pairs[..., order], t, norm=norm), plain, rtol=1e-10)
        # Powers of two change no digit: of the metric with the threshold, or of the data with the threshold.
        scaled = MahalanobisMetric.from_components(metric.components * 2.0**40)
        np.testing.assert_array_equal(pair_radii(scaled, pairs, t * 2.0**40, norm=norm), plain)
        np.testing.assert_array_equal(pair_radii(metric, pairs * 2.0**-90, t * 2.0**-90, norm=norm), plain * 2.0**-90)
    np.testing.assert_allclose(pair_radii(metric, pairs + 3.0, t), radii, rtol=1e-10)
    # What stands beside a pair, and who works on it, changes nothing.
    many = np.concatenate([pairs] * 50)
    np.testing.assert_array_equal(pair_radii(metric, many, t, n_jobs=2), np.tile(radii, 50))
    alone = [pair_radii(metric, pairs[i : i + 1], t)[0] for i in range(len(pairs))]
    np.testing.assert_array_equal(alone, radii)


def test_order_of_norms():
    # ‖δ‖∞ ≤ ‖δ‖₂ ≤ ‖δ‖₁ for every change, and so for the smallest ones.
    metric, pairs, _, t, _ = problem(7, m=20)
    linf, l2, l1 = (minimal_pair_changes(metric, pairs, t, norm=norm).radii for norm in ("linf", "l2", "l1"))
    assert (linf <= l2 * (1 + 1e-9)).all() and (l2 <= l1 * (1 + 1e-9)).all()


def test_a_diagonal_metric_is_its_matrix():
    rng = np.random.default_rng(0)
    weights, pairs = rng.random(5), rng.standard_normal((10, 2, 5))
    dense = MahalanobisMetric.from_components(np.diag(weights))
    mutable = np.array([True, False, True, True, False])
    for name in ("l2", "linf", "l1"):
        for norm in (
            resolve_norm(name),
            resolve_norm(name).restrict(mutable),
            resolve_norm(name).in_units(1 + weights),
        ):
            of_diagonal, of_dense = (
                pair_radii(metric, pairs, 0.8, norm=norm) for metric in (DiagonalMetric(weights), dense)
            )
            far = of_dense > 1e6  # nothing but rounding can change these: either bound on it will do
            assert (of_diagonal[far] > 1e6).all()
            if name == "linf":  # a bound, which knows the norm of a diagonal matrix exactly
                assert (of_diagonal >= of_dense * (1 - 1e-8)).all() or far.any()
                continue
            np.testing.assert_allclose(of_diagonal[~far], of_dense[~far], rtol=1e-8)


def test_corners_of_the_threshold():
    metric = MahalanobisMetric.from_matrix(np.diag([1.0, 0.0]))
    pairs = [[[0.0, 5.0], [0.0, 0.0]], [[3.0, 0.0], [0.0, 0.0]]]
    np.testing.assert_array_equal(pair_radii(metric, pairs, -1.0), [np.inf, np.inf])  # accepts nothing
    np.testing.assert_array_equal(pair_radii(metric, pairs, np.inf), [np.inf, np.inf])  # accepts all
    radii = pair_radii(metric, pairs, 0.0)
    assert radii[0] == 0.0 and radii[1] == pytest.approx(3.0, rel=1e-9)
    at = pair_radii(metric, pairs, 3.0)
    assert at[1] == 0.0 and at[0] == pytest.approx(3.0, rel=1e-9)  # on the boundary; blind to the second feature
    zero = MahalanobisMetric.from_components(np.zeros((1, 2)))
    np.testing.assert_array_equal(pair_radii(zero, pairs, 1.0), [np.inf, np.inf])
    blind = resolve_norm("l2").restrict([False, True])
    assert pair_radii(metric, pairs, 1.0, norm=blind)[0] > 1e9 and pair_radii(metric, pairs, 1.0, norm=blind)[1] > 1e9
    assert not minimal_pair_changes(metric, pairs, 1.0, norm=blind).verified.any()


def test_frames_are_taken_by_name_and_pairs_by_index():
    import pandas as pd

    metric = MahalanobisMetric.from_components([[2.0, 1.0]], feature_names=("a", "b"))
    rng = np.random.default_rng(0)
    probes, enrolled = rng.standard_normal((2, 7, 2))
    plain = pair_radii(metric, np.stack([probes, enrolled], axis=1), 1.0)
    frame = pd.DataFrame(probes[:, ::-1], columns=["b", "a"])
    np.testing.assert_array_equal(pair_radii(metric, (frame, enrolled), 1.0), plain)
    index = np.stack([np.arange(7), 7 + np.arange(7)], axis=1)
    np.testing.assert_array_equal(pair_radii(metric, Tuples(np.vstack([probes, enrolled]), index), 1.0), plain)
    with pytest.raises(ValueError, match="lacks 1 of 2 features"):
        pair_radii(metric, (frame.rename(columns={"a": "c"}), enrolled), 1.0)


@pytest.mark.parametrize(
    ("pairs", "threshold", "norm", "sentence"),
    [
        (np.zeros((3, 2, 2)), np.nan, "l2", "threshold must be a distance, got nan"),
        (np.zeros((3, 2, 2)), "near", "l2", "threshold must be a distance, got 'near'"),
        (np.zeros((3, 2, 3)), 1.0, "l2", "made for 2 features, but the pairs have 3"),
        (np.zeros((3, 3, 2)), 1.0, "l2", r"pairs must have shape \(n, 2, d\)"),
        (
            (np.zeros((3, 2)), np.zeros((4, 2))),
            1.0,
            "l2",
            r"equal shape, probes and enrolled, got \(3, 2\) and \(4, 2\)",
        ),
        ((np.zeros((3, 2)), np.zeros((3, 3))), 1.0, "l2", "equal shape, probes and enrolled"),
        (np.full((1, 2, 2), np.nan), 1.0, "l2", "NaN"),
        (np.zeros((3, 2, 2)), 1.0, "l7", "norm must be one of"),
        (np.zeros((3, 2, 2)), 1.0, np.eye(3), "ellipsoid norm was given for 3 features"),
    ],
)
def test_bad_input_is_told_in_a_sentence(pairs, threshold, norm, sentence):
    with pytest.raises(ValueError, match=sentence):
        pair_radii(MahalanobisMetric.from_matrix(np.eye(2)), pairs, threshold, norm=norm)
