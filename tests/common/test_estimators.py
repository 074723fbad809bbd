"""scikit-learn's own checks over every estimator, and what all learners owe beyond them."""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import has_fit_parameter

from certimetric import (
    GMML,
    LMNN,
    RCA,
    CertifiedKNeighborsClassifier,
    CertifiedKNeighborsRegressor,
    Euclidean,
    MetricSearchCV,
    PerturbationLoss,
)
from certimetric.learners.specs import REGRESSORS, learner_variants

# Few steps are meant: nothing here asks whether the last one converged.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
LEARNERS = learner_variants(max_iter=50)
PREDICTORS = [
    CertifiedKNeighborsClassifier(),
    CertifiedKNeighborsRegressor(),
    CertifiedKNeighborsClassifier(2, metric=LMNN(max_iter=20)),
    MetricSearchCV(["euclidean", "gmml"], cv=2, max_rows=100, random_state=0),
]
PLAIN = [learner for learner in LEARNERS if learner.get_params(deep=False).get("perturbation") is None]
SUPERVISED = [learner for learner in LEARNERS if learner.__sklearn_tags__().target_tags.required]
PERTURBED = [
    learner
    for learner in learner_variants(max_iter=10, random_state=0)
    if learner.get_params(deep=False).get("perturbation") is not None
]
each_learner = pytest.mark.parametrize("learner", LEARNERS, ids=repr)
each_supervised = pytest.mark.parametrize("learner", SUPERVISED, ids=repr)


WEIGHTS_ARE_NO_COPIES = dict.fromkeys(
    ("check_sample_weight_equivalence_on_dense_data", "check_sample_weight_equivalence_on_sparse_data"),
    "copies are rows, and pairs and neighbours of each other, and of fewer rows than features a metric is one of their "
    "span: test_sample_weight says what holds",
)


def weights_are_no_copies(estimator):
    return WEIGHTS_ARE_NO_COPIES if has_fit_parameter(estimator, "sample_weight") else {}


@parametrize_with_checks(
    [*PLAIN, LMNN(max_iter=50, perturbation=PerturbationLoss()), *PREDICTORS],
    expected_failed_checks=weights_are_no_copies,
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks([learner for learner in LEARNERS if learner not in PLAIN])
def test_scikit_learn_checks_with_the_perturbation_loss(estimator, check):
    check(estimator)


def ready(learner):
    learner = clone(learner)
    if "random_state" in learner.get_params():
        learner.set_params(random_state=0)
    return learner


@each_learner
def test_metric_learn_names(learner, iris):
    X, y = iris
    learner = ready(learner).fit(X, y)
    pairs = X[[[0, 60], [1, 2]]]
    distances = learner.pair_distance(pairs)
    if hasattr(learner, "get_bilinear_matrix"):  # a similarity is learned beside the metric, and is the score
        W = learner.get_bilinear_matrix()
        np.testing.assert_allclose(learner.pair_score(pairs), np.einsum("pi,ij,pj->p", pairs[:, 0], W, pairs[:, 1]))
    else:
        np.testing.assert_allclose(learner.pair_score(pairs), -distances)
    np.testing.assert_allclose(learner.get_metric()(X[0], X[60]), distances[0])
    np.testing.assert_allclose(np.linalg.norm(learner.transform(X[:1]) - learner.transform(X[60:61])), distances[0])
    L = learner.components_
    np.testing.assert_allclose(learner.get_mahalanobis_matrix(), L.T @ L, atol=1e-12)
    np.testing.assert_array_equal(learner.metric_.components, L)


@each_learner
def test_same_seed_same_metric_pickle_and_clone(learner, iris):
    X, y = iris
    a, b = ready(learner).fit(X, y), ready(learner).fit(X, y)
    np.testing.assert_array_equal(a.components_, b.components_)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(a)).transform(X), a.transform(X))
    assert not hasattr(clone(a), "components_")


@each_learner
def test_pandas_in_and_out(learner, iris):
    X, y = iris
    frame = pd.DataFrame(X, columns=["a", "b", "c", "d"])
    learner = ready(learner).set_output(transform="pandas").fit(frame, y)
    Z = learner.transform(frame)
    assert list(Z.columns) == list(learner.get_feature_names_out())
    assert learner.metric_.feature_names == ("a", "b", "c", "d")


@pytest.mark.parametrize("learner", PERTURBED, ids=repr)
def test_grid_search_over_the_perturbation_loss(learner, iris):
    pipeline = make_pipeline(learner, KNeighborsClassifier(3))
    name = type(learner).__name__.lower()
    grid = {f"{name}__perturbation__weight": [0.1, 1.0], f"{name}__perturbation__tau": ["auto", 0.5]}
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(*iris)
    assert len(search.cv_results_["params"]) == 4
    assert search.best_score_ > 0.85


@each_learner
def test_unfitted_use_says_so(learner):
    for use in (
        lambda: clone(learner).transform([[0.0]]),
        lambda: clone(learner).metric_,
        lambda: clone(learner).get_mahalanobis_matrix(),
    ):
        with pytest.raises(NotFittedError):
            use()


@each_learner
def test_bad_input_is_named_in_one_line(learner, iris):
    X, y = iris
    wrong = X.copy()
    wrong[3, 1] = np.nan
    infinite = X.copy()
    infinite[3, 1] = np.inf
    learner = ready(learner)
    for data, message in ((wrong, "NaN"), (infinite, "infinity")):
        with pytest.raises(ValueError, match=message):
            learner.fit(data, y)
    learner.fit(X, y)
    with pytest.raises(ValueError, match="4 features") as error:
        learner.transform(X[:, :2])
    assert "\n" not in str(error.value)


@each_supervised
def test_one_class_is_named(learner, iris):
    if isinstance(learner, RCA):  # a class is a chunklet, and one is enough
        assert ready(learner).fit(iris[0], np.full(150, 7)).n_chunklets_ == 1
        return
    told = r"all of its values are equal \(7\)" if type(learner) in REGRESSORS.values() else r"only 1 class \(7\)"
    with pytest.raises(ValueError, match=told) as error:
        ready(learner).fit(iris[0], np.full(150, 7))
    assert "\n" not in str(error.value)


def array_parameters():
    """(learner, name) of every parameter that takes a matrix: those that say so, and norms."""
    for learner in LEARNERS:
        for name, constraint in type(learner)._parameter_constraints.items():
            if name == "norm" or (name != "bounds" and "array-like" in constraint):
                yield pytest.param(learner, name, id=f"{learner!r}-{name}")
        if getattr(learner, "perturbation", None) is not None:
            yield pytest.param(learner, "perturbation__norm", id=f"{learner!r}-perturbation__norm")


@pytest.mark.parametrize(("learner", "name"), list(array_parameters()))
def test_arrays_given_as_parameters_are_checked(learner, name, iris):
    broken = np.eye(4)
    broken[1, 2] = broken[2, 1] = np.nan
    wrong = {
        "finite": broken,
        "finite, got": np.diag([1.0, np.inf, 1.0, 1.0]),
        "shape|square|features|row numbers": np.eye(3),
        "shape|square|matri": np.eye(4)[0],
        "number|matri": np.full((4, 4), "a"),
    }
    for message, value in wrong.items():
        with pytest.raises(ValueError, match=message) as error:
            ready(learner).set_params(**{name: value}).fit(*iris)
        assert "\n" not in str(error.value).partition(", got")[0]


@pytest.mark.parametrize("learner", [RCA(), GMML(), Euclidean()], ids=repr)  # each with a transform of its own
def test_single_precision_in_single_precision_out(learner, iris):
    X, y = iris
    learner = learner.fit(X.astype(np.float32), y)
    single, double = learner.transform(X.astype(np.float32)), learner.transform(X.astype(np.float32).astype(float))
    assert single.dtype == np.float32 and double.dtype == learner.components_.dtype == np.float64
    np.testing.assert_array_equal(single, double.astype(np.float32))
