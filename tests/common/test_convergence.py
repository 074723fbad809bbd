"""Every learner works at any scale of the data, and says so where a fit did not converge or did not move."""

import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.neighbors import KNeighborsClassifier

from certimetric import ITML, LMNN, NCA, SCML, Covariance, Euclidean, MarginLoss, PerturbationLoss
from certimetric.learners.specs import learner_variants

LEARNERS = learner_variants(random_state=0)
ITERATIVE = [learner for learner in learner_variants(random_state=0, max_iter=1) if "max_iter" in learner.get_params()]


def fitted(learner, X, y):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return clone(learner).fit(X, y)


@pytest.mark.parametrize("data", ["iris", "wine"])
@pytest.mark.parametrize("learner", learner_variants(random_state=0, max_iter=40), ids=repr)
def test_the_scale_of_the_data_changes_nothing(learner, data, request):
    # At each scale the metric of the data as they were, divided by the scale: same neighbours, same errors.
    X, y = request.getfixturevalue(data)
    as_given = fitted(learner, X[::2], y[::2])
    distances = as_given.metric_.pairwise(X[1::2], X[::2])
    labels = KNeighborsClassifier(3).fit(as_given.transform(X[::2]), y[::2]).predict(as_given.transform(X[1::2]))
    for scale in (1e-6, 1e6):
        scaled = fitted(learner, X[::2] * scale, y[::2])
        assert scaled.converged_ == as_given.converged_
        Z = scaled.transform(X * scale)
        found = KNeighborsClassifier(3).fit(Z[::2], y[::2]).predict(Z[1::2])
        assert (found != labels).mean() <= 0.03  # by rounding, which takes other steps near kinks
        apart = distances > 0
        ratio = scaled.metric_.pairwise(X[1::2] * scale, X[::2] * scale)[apart] / distances[apart]
        factor = np.median(ratio)  # Euclidean and the metrics of pairs are metrics in units of the data
        assert np.median(np.abs(ratio / factor - 1)) < 0.05
        if isinstance(learner, (LMNN, NCA, SCML)):
            assert factor == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize("scale", [1e-5, 1e-3, 1e-2, 30, 1e4])
@pytest.mark.parametrize("learner", [LMNN(), NCA(), SCML(random_state=0), SCML(random_state=0, l1=0)], ids=repr)
def test_the_fit_moves_at_any_scale(learner, scale, iris):
    X, y = iris
    usual, scaled = learner.fit(X, y).objective_, learner.fit(X * scale, y)
    assert scaled.converged_
    assert scaled.objective_ < 0.7 * scaled.objective_path_[0]
    assert scaled.objective_ == pytest.approx(usual, rel=0.05, abs=0.01)


def test_margins_given_in_units_of_the_data_stay_so(iris):
    # A margin of 0.5 on X is one of 500 on 1000 X.
    X, y = iris
    for loss, wider in (
        (PerturbationLoss(tau=0.25), PerturbationLoss(tau=0.25e6)),
        (MarginLoss("hinge", scale=0.5), MarginLoss("hinge", scale=500.0)),
        (PerturbationLoss(tau=0.25, norm=4 * np.eye(4)), PerturbationLoss(tau=0.25e6, norm=4 * np.eye(4))),
    ):
        a = fitted(LMNN(max_iter=10, perturbation=loss), X, y)
        b = fitted(LMNN(max_iter=10, perturbation=wider), 1000 * X, y)
        np.testing.assert_allclose(1000 * b.components_, a.components_, rtol=1e-5, atol=1e-7)
        assert b.objective_ == pytest.approx(a.objective_, rel=1e-6)


def test_a_given_start_is_one_for_the_data_as_they_are(iris):
    X, y = iris
    best = LMNN(tol=1e-6, max_iter=500).fit(X, y)
    again = fitted(LMNN(init=best.components_ / 1e6), X * 1e6, y)
    assert again.objective_path_[0] == pytest.approx(best.objective_, rel=1e-6)


@pytest.mark.parametrize("learner", ITERATIVE, ids=repr)
def test_too_few_steps_are_told(learner, wine):
    learner = clone(learner)
    with pytest.warns(ConvergenceWarning, match=rf"{type(learner).__name__} did not converge in max_iter=1 "):
        learner.fit(*wine)
    assert learner.converged_ is False


@pytest.mark.parametrize("learner", learner_variants(random_state=0, max_iter=3000), ids=repr)
def test_a_fit_that_converged_says_nothing(learner, iris):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        learner = clone(learner)
        if "batch_size" in learner.get_params() and learner.batch_size == 16:
            learner.set_params(max_iter=200)
        learner.fit(*iris)
    assert learner.converged_ is True


@pytest.mark.parametrize("learner", [each for each in LEARNERS if not isinstance(each, Euclidean)], ids=repr)
def test_a_fit_that_learned_nothing_says_so(learner):
    # All rows are equal.
    with pytest.warns(ConvergenceWarning, match="did not move|metric 0|learned nothing"):
        clone(learner).fit(np.ones((20, 3)), np.arange(20) % 2)


@pytest.mark.parametrize("perturbation", [None, PerturbationLoss()])
@pytest.mark.parametrize("n_anchors", [None, 80])
def test_a_move_by_rounding_alone_is_none(perturbation, n_anchors):
    # Whole numbers: the nearest instances are equal, others a margin or more away, and the gradient is its rounding.
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.permutation(np.repeat([-2.0, -1.0, 0.0, 1.0, 2.0], [38, 152, 228, 152, 38]))] * 4)
    X[:, 1:] = rng.permuted(X[:, 1:], axis=0)
    y = (X @ [1.0, 0.5, 0.4, 0.3] + rng.normal(size=608) > 0).astype(int)
    with pytest.warns(ConvergenceWarning, match="LMNN did not move"):
        learner = LMNN(perturbation=perturbation, n_anchors=n_anchors, random_state=0).fit(X, y)
    assert not learner.converged_
    np.testing.assert_allclose(learner.components_, np.eye(4), atol=1e-12)


def test_reasons_are_those_of_the_fit(wine):
    X, y = wine
    with pytest.warns(ConvergenceWarning, match=r"NCA did not move: .*scale each feature"):
        NCA(init=1e4 * np.eye(13)).fit(X, y)  # every chance is 0 or 1
    with pytest.warns(ConvergenceWarning, match="SCML ended at the metric 0"):
        SCML(l1=1e3, random_state=0).fit(X, y)
    with pytest.warns(ConvergenceWarning, match="Covariance ended at the metric 0"):
        Covariance().fit(np.ones((4, 2)))
    with pytest.warns(ConvergenceWarning, match="ITML did not move from its prior"):
        ITML(bounds=(1e6, 1e-6), random_state=0).fit(X, y)
