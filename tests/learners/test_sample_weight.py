"""Weights of instances in the learners that take them: what they mean."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.utils.validation import has_fit_parameter

from certimetric import AML, GMML, MLKR, NCA, RCA, Covariance
from certimetric.geometry import MahalanobisMetric
from certimetric.learners.specs import LEARNERS, REGRESSORS
from certimetric.objectives.gradient import MetricState
from certimetric.objectives.neighborhood import KernelRegression, StochasticNeighbors

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # few steps are meant
WEIGHTED = [AML(max_iter=5), GMML(), MLKR(max_iter=5), NCA(max_iter=5), RCA(), RCA(n_components=2), Covariance()]
SUMS = [GMML(), GMML(t=0.3, prior="covariance"), RCA(), RCA(n_components=2), Covariance()]
each_learner = pytest.mark.parametrize("learner", WEIGHTED, ids=repr)


@pytest.fixture
def sample(iris):
    return iris[0][::3], iris[1][::3]


def metric_of(learner, *sample, **weights):
    return clone(learner).fit(*sample, **weights).get_mahalanobis_matrix()


def test_all_learners_that_take_them_are_tested_here():
    taking = {made for made in (*LEARNERS.values(), *REGRESSORS.values()) if has_fit_parameter(made(), "sample_weight")}
    assert taking == {type(learner) for learner in WEIGHTED}


@each_learner
def test_equal_weights_and_the_unit_of_weights_change_nothing(learner, sample, rng):
    np.testing.assert_array_equal(metric_of(learner, *sample, sample_weight=np.ones(50)), metric_of(learner, *sample))
    weights = rng.random(50) + 0.1
    one, other = (metric_of(learner, *sample, sample_weight=unit * weights) for unit in (1.0, 1e-200))
    np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-9)
    assert np.abs(one - metric_of(learner, *sample)).max() > 1e-3 * np.abs(one).max()


@each_learner
def test_no_weight_is_not_there(learner, sample):
    X, y = sample
    kept = np.arange(50) % 5 > 0
    expected = metric_of(learner, X[kept], y[kept])
    np.testing.assert_allclose(metric_of(learner, X, y, sample_weight=3.0 * kept), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("learner", SUMS, ids=repr)
def test_whole_weights_of_scatters_are_copies_but_for_the_scale_of_the_metric(learner, sample, rng):
    # GMML counts pairs and Covariance degrees of freedom: those of copies among themselves are not there with weights.
    X, y = sample
    weights = rng.integers(0, 4, 50)
    weighted, copies = (
        metric_of(learner, X, y, sample_weight=weights),
        metric_of(learner, X.repeat(weights, 0), y.repeat(weights)),
    )
    if not isinstance(learner, RCA):
        weighted, copies = weighted / np.trace(weighted), copies / np.trace(copies)
    np.testing.assert_allclose(weighted, copies, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("learner", [AML(max_iter=5), GMML(), NCA(max_iter=5)], ids=repr)
def test_weights_of_classes_are_those_of_their_instances(learner, sample):
    X, y = sample[0][:40], sample[1][:40]  # of 17, 17 and 6
    balanced = metric_of(clone(learner).set_params(class_weight="balanced"), X, y)
    by_hand = metric_of(learner, X, y, sample_weight=1.0 / np.bincount(y)[y])
    np.testing.assert_allclose(balanced, by_hand, rtol=1e-7, atol=1e-10)
    both = clone(learner).set_params(class_weight={0: 1.0, 1: 2.0, 2: 5.0})
    np.testing.assert_allclose(
        metric_of(both, X, y, sample_weight=np.arange(40)),
        metric_of(learner, X, y, sample_weight=np.arange(40) * np.array([1.0, 2.0, 5.0])[y]),
        rtol=1e-7,
        atol=1e-10,
    )


@pytest.mark.parametrize("scale", [0.3, 6.0], ids=["blocks", "lists"])
@pytest.mark.parametrize("term", [StochasticNeighbors, KernelRegression])
def test_sums_over_instances_are_linear_in_their_weights(term, scale, rng):
    X, y = rng.standard_normal((60, 3)), np.arange(60) % 3
    state = MetricState(X, scale * np.eye(3))
    found = []
    parts = rng.random((2, 60))
    for weights in (parts[0], parts[1], parts.sum(axis=0)):
        result = term(y, weights=weights).evaluate(state)
        found.append(weights.sum() * np.append(result.value, result.products.ravel()))
    np.testing.assert_allclose(found[0] + found[1], found[2], rtol=1e-10, atol=1e-12)


@each_learner
@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(49), "sample_weight.shape"),
        (-np.ones(50), "sample_weight must have numbers of at least 0, two of them above 0, got -1 to -1"),
        (np.eye(50)[0], "two of them above 0, got 0 to 1 with 1 above 0"),
        (np.full(50, np.nan), "sample_weight contains NaN"),
    ],
)
def test_weights_that_say_nothing_are_refused(learner, sample, weights, message):
    with pytest.raises(ValueError, match=message):
        clone(learner).fit(*sample, sample_weight=weights)


def test_weights_are_of_instances_in_memory(sample):
    X, y = sample
    with pytest.raises(ValueError, match="sample_weight must be None for tuples: instances have weights"):
        GMML().fit(X[[[0, 1], [0, 40]]], [1, -1], sample_weight=[1.0, 2.0])
    with pytest.raises(
        ValueError, match="class_weight must be None for chunks: weights are taken of instances in memory"
    ):
        GMML(class_weight="balanced").fit_chunks([(X, y)])
    assert isinstance(GMML(class_weight="balanced").fit(X, y).metric_, MahalanobisMetric)
