"""Data that hardly say anything: every learner gives a finite metric, or one sentence that says what is missing."""

import warnings

import numpy as np
import pytest
from sklearn.base import clone

from certimetric.learners.specs import REGRESSORS, learner_variants
from certimetric.learners.tuple_learner import TupleLearner

LEARNERS = learner_variants(max_iter=25, n_neighbors=1, random_state=0)
OF_TUPLES = [learner for learner in LEARNERS if isinstance(learner, TupleLearner)]
N, D = 24, 4


def features():
    """Instances whose scatters are singular, nearly so, or have little to do with each other."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((N, D))
    yield "collinear", np.c_[X, X[:, :2].sum(axis=1), -2 * X[:, 0]]
    yield "nearly collinear", np.c_[X, X[:, 0] + 1e-9 * rng.standard_normal(N)]
    yield "two constant columns", np.c_[X, np.zeros(N), np.full(N, 7.0)]
    yield "all but one constant", np.c_[X[:, 0], np.ones((N, 3))]
    yield "one instance differs", np.r_[np.ones((N - 1, D)), np.zeros((1, D))]
    yield "on a line", np.outer(rng.standard_normal(N), np.ones(D))
    yield "features of far units", X * np.array([1e-8, 1.0, 1e4, 1e8])
    yield "more features than instances", rng.standard_normal((N, 3 * N))
    yield "more features, and they repeat", np.tile(X, (1, 12))
    yield "all equal", np.ones((N, D))


def tuples(size):
    """Row numbers of tuples, with the labels of pairs."""
    rng = np.random.default_rng(1)
    some = rng.integers(0, N, (30, size))
    some[:, 1] = (some[:, 0] + 1 + some[:, 1] % (N - 1)) % N
    kinds = np.where(np.arange(30) % 2, 1, -1)
    yield "one", some[:1], kinds[:1]
    yield "one of the other kind", some[:1], -kinds[:1]
    yield "two", some[:2], kinds[:2]
    yield "all similar", some, np.ones(30, dtype=int)
    yield "all dissimilar", some, -np.ones(30, dtype=int)
    yield "of equal instances", np.repeat(some[:, :1], size, axis=1), kinds
    yield "one many times", np.repeat(some[:1], 30, axis=0), kinds
    yield "usual", some, kinds


FEATURES = dict(features())
TUPLES = {(size, name): (index, kinds) for size in (2, 3, 4) for name, index, kinds in tuples(size)}


def fit(learner, *data, **parameters):
    """The learner with these parameters, fitted; None where one sentence said why it cannot be."""
    learner = clone(learner).set_params(**parameters)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of convergence: few steps are meant
        warnings.simplefilter("error", RuntimeWarning)  # of undefined numbers
        try:
            learner.fit(*data)
        except ValueError as error:
            told = str(error)
            assert told and "\n" not in told and len(told) < 300, told
            return None
    assert np.isfinite(learner.components_).all()
    return learner


@pytest.mark.parametrize("case", FEATURES)
@pytest.mark.parametrize("learner", LEARNERS, ids=repr)
def test_labelled_instances(learner, case):
    X, y = FEATURES[case], np.arange(N) % 3
    fitted = fit(learner, X, y)
    assert fitted is not None  # every learner can learn of these, be it that there is nothing to learn
    assert fitted.components_.shape[1] == X.shape[1]
    assert np.isfinite(fitted.transform(X)).all()
    assert np.isfinite(fitted.metric_.distance(X, X[::-1])).all()


@pytest.mark.parametrize("y", [[0, 1], [0, 0, 1], [0, 1, 2]], ids=str)
@pytest.mark.parametrize("learner", LEARNERS, ids=repr)
def test_two_or_three_instances(learner, y):
    X = np.array([[0.0, 1.0], [2.0, 0.5], [1.0, 1.0]])[: len(y)]
    fitted = fit(learner, X, y)
    if fitted is None:  # where no two are of one class, those that need such a pair say so
        assert y != [0, 0, 1]


@pytest.mark.parametrize("case", FEATURES)
@pytest.mark.parametrize("learner", OF_TUPLES, ids=repr)
def test_tuples_of_hard_instances(learner, case):
    X = FEATURES[case]
    index, kinds = TUPLES[learner.tuple_size, "usual"]
    y = [kinds] if learner.tuple_size == 2 else []
    fitted = fit(learner, index, *y, preprocessor=X)
    if fitted is None:  # quadruplets of instances that are not shared make no triplets for the loss
        assert getattr(learner, "perturbation", None) is not None
    else:
        assert np.isfinite(fitted.pair_distance(index[:, :2])).all()


@pytest.mark.parametrize("name", sorted({name for _, name in TUPLES}))
@pytest.mark.parametrize("learner", OF_TUPLES, ids=repr)
def test_few_and_one_sided_tuples(learner, name):
    X = np.random.default_rng(0).standard_normal((N, D))
    index, kinds = TUPLES[learner.tuple_size, name]
    y = [kinds] if learner.tuple_size == 2 else []
    for given, preprocessor in ((index, X), (X[index], None)):
        fitted = fit(learner, given, *y, preprocessor=preprocessor)
        if fitted is not None:
            assert fitted.components_.shape[1] == D
            assert np.isfinite(fitted.pair_distance(given[:, :2])).all()


def test_the_lists_are_of_all_learners():
    assert {type(learner) for learner in LEARNERS} >= set(REGRESSORS.values())
    assert {learner.tuple_size for learner in OF_TUPLES} == {2, 3, 4}
