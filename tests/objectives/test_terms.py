"""Every term against loops over its triplets, and its gradients against finite differences."""

from importlib import import_module
from inspect import isabstract
from pkgutil import iter_modules

import numpy as np
import pytest
from scipy.optimize import approx_fprime

from certimetric import MahalanobisMetric, PerturbationLoss, objectives
from certimetric.constraints import nearest_triplets, target_neighbors
from certimetric.geometry import resolve_norm
from certimetric.objectives import (
    ImpostorHinge,
    LogDetDivergence,
    MetricObjective,
    MetricState,
    Pull,
    StochasticNeighbors,
    Term,
    TripletHinge,
)
from certimetric.objectives.block_neighborhood import BlockNeighbors
from certimetric.objectives.gradient import ActiveSetTerm
from certimetric.objectives.terms import LOSSES, term_variants

D = 4


def labelled():
    rng = np.random.default_rng(1)
    return rng.standard_normal((40, D)), rng.integers(0, 3, 40)


@pytest.fixture(scope="module")
def sample():
    X, y = labelled()
    return X, y, nearest_triplets(X, y, 2, 4), target_neighbors(X, y, 2)


def ellipsoid():
    A = np.random.default_rng(5).standard_normal((D, D))
    return A @ A.T + np.eye(D)


NORMS = {"l2": "l2", "linf": "linf", "l1": "l1", "ellipsoid": ellipsoid()}
TERMS = term_variants(*labelled(), *NORMS.values())


# A divergence is of metrics of full rank.
CASES = [(name, k) for name, term in TERMS.items() for k in (D, 2) if k == D or not isinstance(term, LogDetDivergence)]


@pytest.mark.parametrize(("name", "k"), CASES)
def test_gradients(sample, name, k):
    objective = MetricObjective(sample[0], [TERMS[name]])
    L = np.random.default_rng(2).standard_normal((k, D)) * 0.6
    objective.refresh(L)
    value, gradient = objective.in_components(L)
    numeric = approx_fprime(L.ravel(), lambda flat: objective.in_components(flat.reshape(k, D))[0], 1e-7)
    np.testing.assert_allclose(gradient.ravel(), numeric, atol=3e-5 * max(1, np.abs(numeric).max()))
    # With M = LᵀL the chain rule gives ∂/∂L = 2 L ∂/∂M.
    same, in_matrix = objective.in_matrix(L)
    assert same == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(2 * L @ in_matrix, gradient, atol=1e-10 * max(1, np.abs(gradient).max()))


def test_every_term_stands_in_the_list():
    modules = [import_module(f"{objectives.__name__}.{found.name}") for found in iter_modules(objectives.__path__)]
    made = {thing for module in modules for thing in vars(module).values() if isinstance(thing, type)}
    # Of rows in Dask blocks: it is held against the terms of arrays where learners of blocks are tested.
    apart = (Term, ActiveSetTerm, BlockNeighbors)
    made = {thing for thing in made if hasattr(thing, "evaluate") and thing not in apart}
    assert {thing for thing in made if not isabstract(thing) and not thing.__name__.startswith("_")} == {
        type(term) for term in TERMS.values()
    }


def squared(L, a, b):
    return float(((L @ (a - b)) ** 2).sum())


def test_values_against_loops(sample):
    X, y, R, _ = sample
    L = np.random.default_rng(3).standard_normal((D, D)) * 0.6
    state = MetricState(X, L)
    hinge = np.mean([max(0, 1 + squared(L, X[i], X[j]) - squared(L, X[i], X[l])) for i, j, l in R])
    assert TripletHinge(R, 1.3).evaluate(state).value == pytest.approx(1.3 * hinge)
    pull = np.mean([squared(L, X[i], X[j]) for i, j, _ in R])
    assert Pull(R[:, :2], 0.7).evaluate(state).value == pytest.approx(0.7 * pull)
    probabilities = []
    for i in range(len(X)):
        p = np.array([np.exp(-squared(L, X[i], X[j])) if j != i else 0 for j in range(len(X))])
        probabilities.append(p[y == y[i]].sum() / p.sum())
    assert StochasticNeighbors(y).evaluate(state).value == pytest.approx(1 - np.mean(probabilities))


def test_impostor_hinge_is_the_sum_over_all_impostors(sample):
    X, y, _, T = sample
    for seed in range(5):
        L = np.random.default_rng(seed).standard_normal((D, D)) * 0.5
        term = ImpostorHinge(T, y, 1.0)
        state = MetricState(X, L)
        term.refresh(state)
        total = sum(
            max(0, 1 + squared(L, X[i], X[j]) - squared(L, X[i], X[l]))
            for i in range(len(X))
            for j in T[i]
            for l in np.flatnonzero(y != y[i])
        )
        assert term.evaluate(state).value == pytest.approx(total / (T >= 0).sum())


def test_refresh_does_not_depend_on_chunks_or_threads(sample):
    X, y, _, T = sample
    state = MetricState(X, np.eye(D))
    terms = [ImpostorHinge(T, y), ImpostorHinge(T, y, memory=1), ImpostorHinge(T, y, n_jobs=3)]
    for term in terms:
        term.refresh(state)
        np.testing.assert_array_equal(term.starts, terms[0].starts)
        np.testing.assert_array_equal(term.candidates, terms[0].candidates)


@pytest.mark.parametrize("norm", NORMS)
def test_perturbation_loss_against_its_definition(sample, norm):
    X, _, R, _ = sample
    L = np.random.default_rng(3).standard_normal((D, D))
    M, ball = L.T @ L, resolve_norm(NORMS[norm])
    losses = []
    for i, j, l in R:
        a = squared(L, X[i], X[l]) - squared(L, X[i], X[j])
        r = a / (2 * ball.dual_norm(M @ (X[l] - X[j])))
        losses.append(max(0.8 - r**2, 0) if a > 0 else 0.8)
    term = PerturbationLoss(weight=2.0, tau=0.8, norm=NORMS[norm], relative=False).bind(X, R)
    assert term.evaluate(MetricState(X, L)).value == pytest.approx(2 * np.mean(losses))
    # A relative weight is in units of thirty times the rest of the objective, of the share of tau.
    term = PerturbationLoss(weight=2.0, tau=0.8, norm=NORMS[norm]).bind(X, R, objective=0.7)
    assert term.evaluate(MetricState(X, L)).value == pytest.approx(2 * 30 * 0.7 * np.mean(losses) / 0.8)


def test_perturbation_loss_does_not_see_the_scale_or_a_rotation(sample):
    # r is homogeneous of degree 0 in M; a joint rotation of data and metric changes no l2 length.
    X, _, R, _ = sample
    L = np.random.default_rng(3).standard_normal((D, D))
    term = PerturbationLoss(tau=0.8).bind(X, R)
    value = term.evaluate(MetricState(X, L)).value
    assert term.evaluate(MetricState(X, 37 * L)).value == pytest.approx(value)
    Q = np.linalg.qr(np.random.default_rng(4).standard_normal((D, D)))[0]
    assert term.evaluate(MetricState(X @ Q.T, L @ Q.T)).value == pytest.approx(value)


def test_margins_of_rows_that_are_not_there_are_refused(sample):
    X, _, R, _ = sample
    loss, metric = PerturbationLoss(), MahalanobisMetric.from_components(np.eye(D))
    for wrong in ([[0, 1, len(X)]], [[0, -1, 2]]):
        with pytest.raises(ValueError, match=f"row numbers of X from 0 to {len(X) - 1}"):
            loss.adversarial_margin(metric, X, wrong)
    broken = X.copy()
    broken[0, 0] = np.nan
    with pytest.raises(ValueError, match="X contains NaN"):
        loss.signed_margin(metric, broken, R)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("value", [None, "much", np.nan, np.inf, -1.0, [1.0]])
def test_settings_of_the_losses_are_checked(loss, value):
    with pytest.raises(ValueError, match=f"weight of {loss.__name__}"):
        loss(weight=value).check()
    aim = loss.aim[0]
    with pytest.raises(ValueError, match=f"{aim} of {loss.__name__}"):
        loss(**{aim: value}).check()
