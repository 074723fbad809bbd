"""Estimators with metric-learn's parameters: what they translate, what they ignore, and indices as tuples."""

import inspect
import pickle
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris, load_wine
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.metrics import accuracy_score, fbeta_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks

import certimetric
from certimetric import metric_learn
from certimetric.constraints.preprocessors import PreprocessorError
from certimetric.metric_learn.base_metric import (
    _PairsClassifierMixin,
    _QuadrupletsClassifierMixin,
    _TripletsClassifierMixin,
)
from certimetric.metric_learn.exceptions import NonPSDError

X, y = load_iris(return_X_y=True)
DRAWN = metric_learn.Constraints(y).positive_negative_pairs(60, same_length=True, random_state=0)
PAIRS = np.concatenate([np.stack(DRAWN[:2], axis=1), np.stack(DRAWN[2:], axis=1)])
KINDS = np.repeat([1, -1], 60)
TRIPLETS = metric_learn.Constraints(y).generate_knntriplets(X, 2, 3)[::5]
QUADRUPLETS = np.stack(DRAWN, axis=1)
SUPERVISED = [
    metric_learn.Covariance(),
    metric_learn.LFDA(),
    metric_learn.LMNN(),
    metric_learn.NCA(),
    metric_learn.MLKR(),
    metric_learn.RCA(),
    metric_learn.ITML_Supervised(n_constraints=30, random_state=0),
    metric_learn.LSML_Supervised(n_constraints=30, random_state=0),
    metric_learn.MMC_Supervised(n_constraints=30, random_state=0),
    metric_learn.SDML_Supervised(n_constraints=30, balance_param=1e-3, random_state=0),
    metric_learn.RCA_Supervised(n_chunks=2, random_state=0),
    metric_learn.SCML_Supervised(n_basis=40, random_state=0),
]
OF_TUPLES = {
    "ITML": (metric_learn.ITML(random_state=0), PAIRS, (KINDS,)),
    "MMC": (metric_learn.MMC(), PAIRS, (KINDS,)),
    "SDML": (metric_learn.SDML(balance_param=1e-3), PAIRS, (KINDS,)),
    "SCML": (metric_learn.SCML(n_basis=40, random_state=0), TRIPLETS, ()),
    "LSML": (metric_learn.LSML(), QUADRUPLETS, ()),
}
quiet = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning", "ignore:class :UserWarning")


def named(estimators):
    return pytest.mark.parametrize("estimator", estimators, ids=lambda made: type(made).__name__)


def expected_failures(estimator):
    """The check wants the second argument of ``fit`` to be named y; metric-learn's signature has chunks there."""
    return {"check_fit_score_takes_y": "fit(X, chunks)"} if type(estimator) is metric_learn.RCA else {}


@quiet
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@parametrize_with_checks(SUPERVISED, expected_failed_checks=expected_failures)
def test_conventions_of_scikit_learn(estimator, check):
    check(estimator)


@quiet
@named(SUPERVISED)
def test_instances_may_be_indicators(estimator):
    rows = np.random.RandomState(0).permutation(len(X))[:100]
    chunks = rows % 20 if type(estimator) is metric_learn.RCA else y[rows]
    by_point = clone(estimator).fit(X[rows], chunks)
    by_row = clone(estimator).set_params(preprocessor=X).fit(rows, chunks)
    by_name = clone(estimator).set_params(preprocessor=lambda names: X[[int(name[1:]) for name in names]])
    by_name.fit(np.array([f"x{row}" for row in rows]), chunks)
    for other in (by_row, by_name):
        np.testing.assert_array_equal(other.components_, by_point.components_)
    np.testing.assert_array_equal(by_row.transform(rows), by_point.transform(X[rows]))
    assert by_row.components_.shape == (4, 4)
    with pytest.raises(PreprocessorError):
        by_row.transform([1000])


@quiet
@pytest.mark.parametrize("name", OF_TUPLES)
def test_tuples_may_be_indices(name):
    made, index, labels = OF_TUPLES[name]
    by_point = clone(made).fit(X[index], *labels)
    by_row = clone(made).set_params(preprocessor=X).fit(index, *labels)
    np.testing.assert_array_equal(by_row.components_, by_point.components_)
    np.testing.assert_array_equal(by_row.predict(index), by_point.predict(X[index]))
    np.testing.assert_array_equal(by_row.decision_function(index), by_row.decision_function(X[index]))
    np.testing.assert_array_equal(by_row.pair_distance(PAIRS), -by_point.pair_score(X[PAIRS]))
    with pytest.warns(FutureWarning, match="pair_distance"):
        np.testing.assert_array_equal(by_row.score_pairs(PAIRS), by_row.pair_distance(PAIRS))
    with pytest.raises(ValueError, match="preprocessor"):
        by_point.predict(index)
    with pytest.raises(ValueError, match=f"Tuples of {index.shape[1]} "):
        by_row.predict(np.zeros((2, 6), dtype=int))


@quiet
@pytest.mark.parametrize("name", OF_TUPLES)
def test_the_learner_is_that_of_certimetric(name):
    """What is learned can be certified and attacked, and is the same metric."""
    made, index, labels = OF_TUPLES[name]
    made = clone(made).fit(X[index], *labels)
    assert isinstance(made.learner_, getattr(certimetric, name))
    np.testing.assert_allclose(made.learner_.metric_.matrix, made.get_mahalanobis_matrix(), atol=1e-12)
    kinds = (_PairsClassifierMixin, _TripletsClassifierMixin, _QuadrupletsClassifierMixin)
    assert [isinstance(made, kind) for kind in kinds] == [index.shape[1] == size for size in (2, 3, 4)]


@pytest.mark.parametrize("name", OF_TUPLES)
def test_nothing_is_answered_before_fit(name):
    made, index, _ = OF_TUPLES[name]
    for method in ("predict", "decision_function", "pair_distance", "transform"):
        with pytest.raises(NotFittedError):
            getattr(clone(made), method)(X[index])


@quiet
@pytest.mark.parametrize("name", ["ITML", "MMC", "SDML"])
def test_grid_search_on_pairs_of_indices(name):
    parameter = {"ITML": "gamma", "MMC": "diagonal", "SDML": "sparsity_param"}[name]
    values = [True, False] if name == "MMC" else [0.01, 1.0]
    made = clone(OF_TUPLES[name][0]).set_params(preprocessor=X)
    search = GridSearchCV(made, {parameter: values}, cv=3).fit(PAIRS, KINDS)
    assert search.best_score_ == search.cv_results_["mean_test_score"].max() > 0.8
    assert search.predict(PAIRS[:3]).shape == (3,)
    assert cross_val_score(made, PAIRS, KINDS, scoring="accuracy", cv=3).mean() > 0.8


@pytest.mark.parametrize(
    ("made", "settings"),
    [
        ("LMNN", {"learn_rate": 1e-6}),
        ("LMNN", {"min_iter": 10}),
        ("SCML_Supervised", {"gamma": 0.1, "batch_size": 20}),
        ("MMC_Supervised", {"max_proj": 100}),
        ("MMC_Supervised", {"diagonal_c": 2.0}),
    ],
)
def test_one_warning_tells_what_is_ignored(made, settings):
    made = getattr(metric_learn, made)
    with pytest.warns(UserWarning, match="ignores") as told:
        made(**settings).fit(X, y)
    told = [str(warning.message) for warning in told if "ignores" in str(warning.message)]
    assert len(told) == 1
    assert all(f"{name}={value!r}" in told[0] for name, value in settings.items())
    defaults = {name: inspect.signature(made).parameters[name].default for name in settings}
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)
        made(**defaults).fit(X, y)


@pytest.mark.parametrize(
    ("made", "old", "new"),
    [
        ("LMNN", "k", "n_neighbors"),
        ("ITML", "convergence_threshold", "tol"),
        ("MMC_Supervised", "num_constraints", "n_constraints"),
        ("RCA_Supervised", "num_chunks", "n_chunks"),
    ],
)
def test_old_names_of_parameters_are_translated(made, old, new):
    with pytest.warns(FutureWarning, match=f"{old}.*{new}"):
        estimator = getattr(metric_learn, made)(**{old: 7})
    assert clone(estimator).get_params()[new] == 7


def test_closed_forms_are_the_plain_ones_where_scatters_are_regular():
    """Wine's features differ by a factor of 10⁴ in scale: a ridge would be seen."""
    X, y = load_wine(return_X_y=True)
    chunks = metric_learn.Constraints(y).chunks(60, 2, random_state=0)
    made = metric_learn.RCA().fit(X, chunks)
    within = np.concatenate([X[chunks == c] - X[chunks == c].mean(axis=0) for c in range(60)])
    whitened = within @ made.components_.T
    eigenvalues = np.linalg.eigvalsh(within.T @ within / len(within))
    ridge = 1e-10 * eigenvalues.mean() / eigenvalues.min()  # the whole difference from the plain form
    np.testing.assert_allclose(whitened.T @ whitened / len(within), np.eye(X.shape[1]), atol=1.1 * ridge)
    covariance = metric_learn.Covariance().fit(X).get_mahalanobis_matrix()
    np.testing.assert_allclose(covariance @ np.cov(X.T), np.eye(X.shape[1]), atol=1e-6)
    plain = certimetric.LFDA(2, reg=0.0).fit(X, y).get_mahalanobis_matrix()
    np.testing.assert_allclose(metric_learn.LFDA(2).fit(X, y).get_mahalanobis_matrix(), plain, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("made", [metric_learn.RCA(), metric_learn.LFDA(), metric_learn.Covariance()])
def test_singular_scatters_give_a_metric(made):
    flat = np.concatenate([X, X[:, :1] + X[:, 1:2], np.ones((len(X), 1))], axis=1)
    made = clone(made).fit(flat, y)
    assert made.components_.shape == (6, 6)
    assert np.isfinite(made.components_).all()
    assert np.isfinite(made.transform(flat)).all()


@quiet
@pytest.mark.parametrize("made", [metric_learn.LMNN, metric_learn.NCA])
def test_starting_points(made):
    starts = {}
    for init in ("identity", "pca", "lda", "random", np.eye(2, 4)):
        estimator = made(init=init, n_components=2, max_iter=1, random_state=0).fit(X, y)
        starts[str(init)] = estimator.components_
        assert estimator.components_.shape == (2, 4)
    assert len({matrix.tobytes() for matrix in starts.values()}) >= 4
    auto = made(n_components=2, max_iter=1).fit(X, y).components_
    np.testing.assert_array_equal(auto, starts["lda"])  # which it is for fewer components than classes
    for wrong in ("nothing", np.eye(2, 5), np.eye(3, 4), np.eye(5, 4)):
        with pytest.raises(ValueError, match="init"):
            made(init=wrong, n_components=2).fit(X, y)
    with pytest.raises(ValueError, match="n_components"):
        made(n_components=5).fit(X, y)


@quiet
@pytest.mark.parametrize("name", ["ITML", "SDML", "LSML", "MMC"])
def test_priors_and_starting_metrics(name):
    made, index, labels = OF_TUPLES[name]
    parameter = "init" if name == "MMC" else "prior"
    for value in ("identity", "covariance", "random", np.diag([1.0, 2.0, 3.0, 4.0])):
        fitted = clone(made).set_params(**{parameter: value}).fit(X[index], *labels)
        assert np.isfinite(fitted.components_).all()
    for wrong, error in ((np.eye(3), ValueError), (1, ValueError), (-np.eye(4), NonPSDError)):
        with pytest.raises(error):
            clone(made).set_params(**{parameter: wrong}).fit(X[index], *labels)


@pytest.mark.parametrize("strategy", ["accuracy", "f_beta", "max_tpr", "max_tnr"])
def test_calibrated_thresholds_are_the_best(strategy):
    rng = np.random.RandomState(0)
    pairs, kinds = rng.randn(60, 2, 4), rng.choice([-1, 1], 60)
    made = metric_learn.MMC().fit(X[PAIRS], KINDS)
    made.calibrate_threshold(pairs, kinds, strategy=strategy, min_rate=0.4, beta=2.0)

    def figure(threshold):
        told = np.where(made.pair_distance(pairs) <= threshold, 1, -1)
        tpr, tnr = ((told == kind)[kinds == kind].mean() for kind in (1, -1))
        return {
            "accuracy": accuracy_score(kinds, told),
            "f_beta": fbeta_score(kinds, told, beta=2.0, zero_division=0.0),
            "max_tpr": tpr if tnr >= 0.4 else -1.0,
            "max_tnr": tnr if tpr >= 0.4 else -1.0,
        }[strategy]

    distances = made.pair_distance(pairs)
    best = max(figure(threshold) for threshold in [distances.min() - 1, *distances])
    assert figure(made.threshold_) == best


def test_pairs_of_one_kind_are_all_accepted_or_none():
    made = metric_learn.ITML(random_state=0).fit(X[PAIRS], KINDS)
    for kind in (1, -1):
        made.calibrate_threshold(X[PAIRS], np.full(len(PAIRS), kind))
        assert (made.predict(X[PAIRS]) == kind).all()


def test_wrong_calibration_is_refused_before_the_work():
    for wrong in ({"strategy": "best"}, {"strategy": "max_tpr"}, {"strategy": "f_beta", "beta": None}):
        made = metric_learn.ITML()
        with pytest.raises(ValueError, match=r"strategy|min_rate|beta"):
            made.fit(X[PAIRS], KINDS, calibration_params=wrong)
        assert not hasattr(made, "components_")


def test_the_metric_is_a_value():
    """It can be pickled, and fitting again does not change it."""
    made = metric_learn.Covariance().fit(X)
    metric = made.get_metric()
    before = metric(X[0], X[1])
    made.fit(X**2)
    assert pickle.loads(pickle.dumps(metric))(X[0], X[1]) == before != made.get_metric()(X[0], X[1])
    with pytest.raises(ValueError, match="vector"):
        metric(X[:2], X[2:4])


@quiet
def test_supervised_learners_leave_out_unknown_labels():
    labels = y.copy()
    labels[::3] = -1
    changed = X.copy()
    changed[::3] *= 1.1
    for made in (
        metric_learn.RCA_Supervised(n_chunks=20, random_state=0),
        metric_learn.SCML_Supervised(random_state=0),
    ):
        first, second = clone(made).fit(X, labels), clone(made).fit(changed, labels)
        np.testing.assert_allclose(first.get_mahalanobis_matrix(), second.get_mahalanobis_matrix())
