"""Adversarial metric learning: both stages against numerical optimisers, and the promises about its objective."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import approx_fprime, minimize

from certimetric import AML, GMML
from certimetric.constraints import PairScatter
from certimetric.geometry.spd import geodesic, inverse
from certimetric.learners.aml import CONFUSIONS, _BilevelObjective, confusion_maps
from certimetric.learners.gmml import ridged

SOLVERS = ("bilevel", "alternating")
each_confusion = pytest.mark.parametrize("confusion", CONFUSIONS)


def labelled_pairs(rng, n=300, d=4):
    y = rng.choice([-1, 1], n)
    first = rng.standard_normal((n, d))
    return np.stack([first, first + rng.standard_normal((n, d)) * np.where(y == 1, 0.5, 2.0)[:, None]], axis=1), y


@each_confusion
@pytest.mark.parametrize("label", [1, -1])
def test_confusion_is_the_numerical_optimum(rng, label, confusion):
    # "ascent": max over (π, π') of loss(π − π', y) − β [d_M²(x, π) + d_M²(x', π')]; "opposite": min of
    # loss(π − π', −y) + β […]; started from the pair itself.
    pairs, y = labelled_pairs(rng)
    aml = AML(beta=6.0, confusion=confusion).fit_pairs(pairs, y)
    M, beta = aml.get_mahalanobis_matrix(), aml.beta_
    K = M if label == (1 if confusion == "ascent" else -1) else np.linalg.inv(M)
    sign = -1.0 if confusion == "ascent" else 1.0
    for pair in pairs[:5]:

        def loss(flat, pair=pair):
            moved = flat.reshape(2, -1)
            delta, shift = moved[0] - moved[1], moved - pair
            return sign * (delta @ K @ delta) + beta * np.einsum("ki,ij,kj->", shift, M, shift)

        def slope(flat, pair=pair):
            moved = flat.reshape(2, -1)
            pull = 2 * sign * K @ (moved[0] - moved[1])
            return (2 * beta * (moved - pair) @ M + np.stack([pull, -pull])).ravel()

        best = minimize(loss, pair.ravel(), jac=slope, method="BFGS", options={"gtol": 1e-11}).x.reshape(2, -1)
        ours = aml.confuse_pairs(pair[None], [label])[0]
        np.testing.assert_allclose(ours, best, atol=1e-6)
        np.testing.assert_allclose(ours.mean(axis=0), pair.mean(axis=0), atol=1e-12)  # the midpoint stays


def test_unbounded_confusion_is_refused():
    # Strictly concave iff β > 2 and λ_min(M)² > 2/β.
    with pytest.raises(ValueError, match="unbounded"):
        confusion_maps(np.diag([1.0, 0.5]), 8.0, "ascent")  # 0.25 = 2/8: the boundary itself
    with pytest.raises(ValueError, match="unbounded"):
        confusion_maps(np.eye(2), 2.0, "ascent")
    similar, dissimilar = confusion_maps(np.diag([1.0, 0.6]), 8.0, "ascent")
    np.testing.assert_allclose(similar, np.eye(2) * 8 / 6)
    np.testing.assert_allclose(np.diag(dissimilar), [1 / (1 - 0.25), 1 / (1 - 0.25 / 0.36)])
    with pytest.raises(ValueError, match=r"beta of AML must be above 2 with confusion='ascent', got 1\.5"):
        AML(beta=1.5, confusion="ascent").fit([[0.0], [1.0], [2.0]], [0, 0, 1])


@pytest.mark.parametrize("beta", [1e-3, 1.0, 100.0])
def test_opposite_labels_need_no_bound(rng, beta):
    # Strictly convex for every β > 0: nothing is raised, whatever the eigenvalues, and every pair becomes shorter.
    pairs, y = labelled_pairs(rng)
    aml = AML(beta=beta).fit_pairs(pairs, -y)
    assert aml.beta_ == beta
    lengths = [np.linalg.norm(some[:, 0] - some[:, 1], axis=1) for some in (aml.confuse_pairs(pairs, y), pairs)]
    assert (lengths[0] < lengths[1]).all()
    similar, dissimilar = confusion_maps(np.diag([2.0, 0.5]), beta)
    np.testing.assert_allclose(np.diag(similar), [4 * beta / (2 + 4 * beta), 0.25 * beta / (2 + 0.25 * beta)])
    np.testing.assert_allclose(dissimilar, np.eye(2) * beta / (2 + beta))


@pytest.mark.parametrize("solver", SOLVERS)
def test_beta_is_raised_where_the_data_ask_for_it(rng, solver):
    # Dissimilar pairs nearer than similar ones: GMML's metric has eigenvalues far below 1.
    pairs, y = labelled_pairs(rng)
    aml = AML(beta=3.0, confusion="ascent", solver=solver).fit_pairs(pairs, -y)
    assert aml.beta_ > 3.0
    smallest = np.linalg.eigvalsh(aml.get_mahalanobis_matrix())[0]
    assert smallest**2 > 2 / aml.beta_
    assert np.isfinite(aml.confuse_pairs(pairs, -y)).all()
    assert AML(beta=30.0, confusion="ascent", solver=solver).fit_pairs(pairs, y).beta_ == 30.0


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    alpha=st.floats(0, 20),
    beta=st.floats(2.01, 50),
    confusion=st.sampled_from(list(CONFUSIONS)),
    solver=st.sampled_from(SOLVERS),
)
def test_objective_never_rises(seed, alpha, beta, confusion, solver):
    rng = np.random.default_rng(seed)
    d = int(rng.integers(1, 6))
    pairs = rng.standard_normal((40, 2, d)) * 10.0 ** rng.uniform(-1, 1, d)
    y = np.where(np.arange(40) % 2, 1, -1)
    aml = AML(alpha, beta, confusion=confusion, solver=solver).fit_pairs(pairs, y)
    assert (np.diff(aml.objective_path_) <= 0).all()
    assert aml.objective_ == aml.objective_path_[-1]
    if confusion == "ascent":
        assert np.linalg.eigvalsh(aml.get_mahalanobis_matrix())[0] ** 2 > 2 / aml.beta_
    else:
        assert aml.beta_ == beta


def scatters(rng, d=4):
    scatter = PairScatter.from_pairs(*labelled_pairs(rng, d=d))
    return ridged(scatter.similar, 0.01), ridged(scatter.dissimilar, 0.01)


@each_confusion
def test_objective_is_the_loss_of_original_and_adversarial_pairs(rng, confusion):
    # F(M) = loss(original) + α loss(adversarial), the adversarial pairs made at M.
    pairs, y = labelled_pairs(rng)
    aml = AML(alpha=0.7, beta=9.0, confusion=confusion, reg=0).fit_pairs(pairs, y)
    M = aml.get_mahalanobis_matrix()

    def loss(some):
        delta = some[:, 0] - some[:, 1]
        near = np.einsum("ni,ij,nj->n", delta, M, delta)[y == 1].mean()
        return near + np.einsum("ni,ij,nj->n", delta, np.linalg.inv(M), delta)[y == -1].mean()

    assert aml.objective_ == pytest.approx(loss(pairs) + 0.7 * loss(aml.confuse_pairs(pairs, y)), rel=1e-6)


@each_confusion
@pytest.mark.parametrize("M", ["geodesic", "equal eigenvalues"])
def test_gradient_and_slope_against_differences(rng, confusion, M):
    S, D = scatters(rng)
    objective = _BilevelObjective(S, D, 1.5, CONFUSIONS[confusion](7.0))
    M = geodesic(inverse(S), D) if M == "geodesic" else 1.3 * np.eye(4)
    target = 1.7 * np.eye(4) + 0.1
    _, eigen = objective.evaluate(M)
    numeric = approx_fprime([0.0], lambda t: objective.evaluate(geodesic(M, target, float(t[0])))[0], 1e-7)[0]
    assert objective.slope(M, eigen, target) == pytest.approx(numeric, rel=1e-4)
    gradient = sum(objective.gradients(eigen))
    for _ in range(5):
        change = rng.standard_normal((4, 4)) / 2
        change = change + change.T
        values = [objective.evaluate(M + h * change)[0] for h in (1e-6, -1e-6)]
        assert np.vdot(gradient, change) == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-5, abs=1e-5)


@each_confusion
def test_matched_mean_has_the_gradient_of_the_objective(rng, confusion):
    # So the way to it goes downhill, from any metric that is not stationary.
    S, D = scatters(rng)
    for beta in (2.5, 40.0) if confusion == "ascent" else (0.05, 2.5, 40.0):
        objective = _BilevelObjective(S, D, 5.0, CONFUSIONS[confusion](beta))
        for _ in range(10):
            A = rng.standard_normal((4, 4))
            M = A @ A.T + np.eye(4)
            _, eigen = objective.evaluate(M)
            assert objective.slope(M, eigen, objective.matched_mean(M, eigen)) < 0


@each_confusion
@pytest.mark.parametrize("beta", [0.3, 7.0])
def test_bilevel_is_not_above_a_generic_optimiser(rng, confusion, beta):
    S, D = scatters(rng)
    beta = max(beta, 2.5) if confusion == "ascent" else beta
    aml = AML(alpha=2.0, beta=beta, confusion=confusion, tol=1e-12)
    solved = aml._solve(S, D)
    objective = _BilevelObjective(S, D, 2.0, CONFUSIONS[confusion](aml.beta_))
    rows = np.tril_indices(4)

    def value(flat):
        C = np.zeros((4, 4))
        C[rows] = flat
        result = objective.evaluate(C @ C.T + 1e-12 * np.eye(4))[0]
        return result if np.isfinite(result) else 1e12

    start = np.linalg.cholesky(geodesic(inverse(S), D))[rows]
    generic = minimize(value, start, method="Nelder-Mead", options={"maxiter": 20000, "fatol": 1e-12, "xatol": 1e-9})
    assert objective.evaluate(solved)[0] <= generic.fun * (1 + 1e-7)
    assert generic.fun < aml.objective_path_[0]  # there was something to gain


def test_no_adversary_is_gmml(rng):
    pairs, y = labelled_pairs(rng)
    np.testing.assert_allclose(
        AML(alpha=0).fit_pairs(pairs, y).get_mahalanobis_matrix(),
        GMML().fit_pairs(pairs, y).get_mahalanobis_matrix(),
        rtol=1e-5,
    )


@pytest.mark.parametrize("learner", [GMML(), AML(), AML(solver="alternating"), AML(confusion="ascent")], ids=repr)
def test_streams_and_merges_give_the_batch_result(rng, learner):
    pairs, y = labelled_pairs(rng)
    batch = learner.fit_pairs(pairs, y).get_mahalanobis_matrix()
    streamed = type(learner)(**learner.get_params())
    for part in np.array_split(np.arange(len(y)), 5):
        streamed.partial_fit_pairs(pairs[part], y[part])
    np.testing.assert_allclose(streamed.get_mahalanobis_matrix(), batch, rtol=1e-9)
    halves = [PairScatter.from_pairs(pairs[i::2], y[i::2]) for i in (0, 1)]
    merged = type(learner)(**learner.get_params()).fit_scatter(halves[0] + halves[1])
    np.testing.assert_allclose(merged.get_mahalanobis_matrix(), batch, rtol=1e-9)


def test_first_parts_of_one_kind_only_are_counted(rng):
    pairs, y = labelled_pairs(rng)
    order = np.argsort(y, kind="stable")
    aml = AML()
    for part in np.array_split(order, 6):
        aml.partial_fit_pairs(pairs[part], y[part])
    np.testing.assert_allclose(
        aml.get_mahalanobis_matrix(), AML().fit_pairs(pairs, y).get_mahalanobis_matrix(), rtol=1e-9
    )


def test_gmml_solves_its_riccati_equation(rng):
    # At t = 1/2 the minimiser of tr(MS) + tr(M⁻¹D) satisfies M S M = D.
    S, D = scatters(rng)
    M = GMML()._solve(S, D)
    np.testing.assert_allclose(M @ S @ M, D, rtol=1e-8)
    np.testing.assert_allclose(GMML(t=0.0)._solve(S, D), np.linalg.inv(S), rtol=1e-8)
    np.testing.assert_allclose(GMML(t=1.0)._solve(S, D), D, rtol=1e-8)


@pytest.mark.parametrize(
    ("pairs", "y", "message"),
    [
        (np.ones((3, 2, 2)), [1, 1, 0], r"\+1 \(similar\) or -1"),
        (np.ones((3, 2, 2)), [1, -1], "each of the 3 pairs"),
        (np.ones((3, 3, 2)), [1, -1, 1], r"\(n, 2, d\)"),
        (np.ones((3, 2)), [1, -1, 1], r"\(n, 2, d\)"),
        (np.full((3, 2, 2), np.nan), [1, -1, 1], "NaN"),
        (np.ones((3, 2, 2)), [1, 1, 1], "one similar and one dissimilar"),
    ],
)
def test_bad_pairs_are_named(pairs, y, message):
    with pytest.raises(ValueError, match=message):
        AML().fit_pairs(pairs, y)


def test_pairs_of_another_width_are_named(rng):
    aml = AML().fit_pairs(*labelled_pairs(rng))
    with pytest.raises(ValueError, match="fitted on 4 features, but the tuples have 3"):
        aml.confuse_pairs(np.ones((2, 2, 3)), [1, -1])
    with pytest.raises(ValueError, match="fitted on 4 features, but the tuples have 3"):
        aml.partial_fit_pairs(np.ones((2, 2, 3)), [1, -1])


def test_plain_alternation_is_not_a_descent(wine):
    # Why "alternating" accepts only steps that lower F: with the adversarial pairs frozen, the geometric mean ignores
    # that they move with M, and the iteration goes to an equilibrium of the two stages by way of higher values of F.
    X, y = wine
    scatter = PairScatter.from_labels(X, y)
    S, D = ridged(scatter.similar, 0.01), ridged(scatter.dissimilar, 0.01)
    objective = _BilevelObjective(S, D, 1.0, CONFUSIONS["ascent"](8.0))
    M, path = geodesic(inverse(S), D), []
    for _ in range(40):
        value, eigen = objective.evaluate(M)
        path.append(value)
        M = objective.frozen_mean(M, eigen)
    assert (np.diff(path) > 1e-6).any()
    assert abs(path[-1] - path[-2]) < 1e-3 * path[-1]  # it does converge
    assert path[-1] > AML(alpha=1.0, beta=8.0, confusion="ascent").fit(X, y).objective_ * 1.01  # but not to the minimum


def test_scatters_from_elsewhere_are_checked(rng):
    good = PairScatter.from_pairs(*labelled_pairs(rng))
    broken = good.similar_sum.copy()
    broken[0, 0] = np.nan
    for similar, message in ((broken, "similar_sum must be finite"), (np.eye(3), "must have one shape")):
        scatter = PairScatter(similar, good.dissimilar_sum, good.n_similar, good.n_dissimilar)
        with pytest.raises(ValueError, match=message):
            GMML().fit_scatter(scatter)
