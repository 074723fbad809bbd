"""Learning from tuples: indices are points, thresholds are the best there are, scikit-learn's tools work on them."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError
from sklearn.metrics import accuracy_score, fbeta_score, roc_auc_score
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from certimetric.constraints import nearest_triplets, random_pairs
from certimetric.constraints.preprocessors import PreprocessorError, check_preprocessor
from certimetric.learners.calibration import calibrated_threshold
from certimetric.learners.specs import LEARNERS
from certimetric.learners.tuple_learner import PairLearner, TripletLearner

X, y = load_iris(return_X_y=True)
PAIRS, KINDS = random_pairs(y, 150, np.random.RandomState(0))
TRIPLETS = nearest_triplets(X, y, 2, 3)[::7]
CASES = {
    name: (made, *((PAIRS, KINDS) if issubclass(made, PairLearner) else (TRIPLETS, None)))
    for name, made in LEARNERS.items()
    if issubclass(made, (PairLearner, TripletLearner))
}


def learner(name, **settings):
    made = CASES[name][0]()
    names = made.get_params()
    settings = {"random_state": 0, "max_iter": 20, "bounds": (0.3, 5.0), **settings}  # bounds: else drawn of the points
    return made.set_params(**{key: value for key, value in settings.items() if key in names})


@pytest.fixture(params=CASES)
def name(request):
    return request.param


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_indices_are_the_points_that_the_preprocessor_gives(name):
    _, index, kinds = CASES[name]
    points = learner(name).fit(X[index], kinds)
    rows = learner(name, preprocessor=X).fit(index, kinds)
    asked = learner(name, preprocessor=lambda names: X[[int(n[1:]) for n in names]])
    named = asked.fit(np.array([[f"x{i}" for i in row] for row in index]), kinds)
    for other in (rows, named):
        np.testing.assert_allclose(
            other.get_mahalanobis_matrix(), points.get_mahalanobis_matrix(), rtol=1e-6, atol=1e-7
        )
    np.testing.assert_allclose(rows.pair_distance(PAIRS), points.pair_distance(X[PAIRS]), rtol=1e-5, atol=1e-8)
    assert (rows.predict(index) == rows.predict(X[index])).all()
    np.testing.assert_array_equal(rows.transform(np.arange(5)), rows.transform(X[:5]))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_labels_are_taken_beside_tuples_and_forget_them(name):
    _, index, kinds = CASES[name]
    made = learner(name).fit(X[index], kinds)
    assert hasattr(made, "predict")
    made.fit(X, y)
    assert made.classes_.tolist() == [0, 1, 2]
    assert not hasattr(made, "predict") and not hasattr(made, "threshold_")
    by_row = learner(name, preprocessor=X).fit(np.arange(150), y)
    np.testing.assert_array_equal(by_row.components_, made.components_)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_scikit_learn_searches_and_validates_on_tuples(name):
    made, index, kinds = CASES[name]
    folds = KFold(3, shuffle=True, random_state=0)  # triplets are in the order of the classes
    scores = cross_val_score(learner(name, preprocessor=X), index, kinds, cv=folds)
    assert scores.shape == (3,) and (scores > 0.5).all()  # better than chance, on iris, for every learner
    option = next(name for name in ("reg", "tol", "C") if name in made().get_params())
    search = GridSearchCV(learner(name, preprocessor=X), {option: [1e-3, 1e-2]}, cv=2).fit(index, kinds)
    assert search.best_params_[option] in (1e-3, 1e-2)
    twice = make_pipeline(FunctionTransformer(lambda tuples: 2 * tuples), learner(name)).fit(X[index], kinds)
    assert twice.predict(X[index]).shape == (len(index),)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    "bad, told",
    [
        (lambda X, t: t, "need a preprocessor"),
        (lambda X, t: X[t][:, :1], "must have shape"),
        (lambda X, t: X[t][:0], "0 sample"),
        (lambda X, t: np.where(np.arange(4) == 2, np.nan, X[t]), "NaN"),
    ],
)
def test_tuples_that_are_none_are_told(name, bad, told):
    _, index, kinds = CASES[name]
    given = bad(X, index)
    fit = learner(name).fit_pairs if kinds is not None else learner(name).fit_triplets
    args = () if kinds is None else (kinds[: len(given)],)
    with pytest.raises(ValueError, match=told if given is not index else "must have shape"):
        fit(given, *args)


def test_what_a_preprocessor_does_wrong_is_told():
    itml = learner("itml")
    for wrong, told in (
        (X[:3], "no row"),
        (lambda rows: X[rows][:2], "gave 2 points for"),
        (lambda rows: 1 / 0, "ZeroDivisionError"),
        (lambda rows: "none", "array of points"),
    ):
        with pytest.raises(PreprocessorError, match=told):
            clone(itml).set_params(preprocessor=wrong).fit(PAIRS, KINDS)
    with pytest.raises(ValueError, match="preprocessor must be None, an array of points, or a callable, got dict"):
        check_preprocessor({"a": 1})


def test_pairs_are_told_apart_by_their_distance_up_to_the_threshold():
    gmml = learner("gmml").fit(X[PAIRS], KINDS)
    distances = gmml.pair_distance(X[PAIRS])
    np.testing.assert_array_equal(gmml.predict(X[PAIRS]), np.where(distances <= gmml.threshold_, 1, -1))
    np.testing.assert_array_equal(gmml.decision_function(X[PAIRS]), -distances)
    assert gmml.score(X[PAIRS], KINDS) == roc_auc_score(KINDS, -distances)
    assert (gmml.set_threshold(np.inf).predict(X[PAIRS]) == 1).all()
    assert (gmml.set_threshold(-1.0).predict(X[PAIRS]) == -1).all()
    with pytest.raises(ValueError, match="threshold must be a real number, got 'far'"):
        gmml.set_threshold("far")
    with pytest.raises(ValueError, match="threshold must be a real number, got nan"):
        gmml.set_threshold(np.nan)  # which would call every pair dissimilar, and say nothing
    with pytest.raises(NotFittedError):
        learner("gmml").set_threshold(1.0)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_only_similar_pairs_leave_no_threshold():
    itml = learner("itml", max_iter=2).fit(X[PAIRS][KINDS == 1], KINDS[KINDS == 1])
    with pytest.raises(AttributeError, match="no threshold is set for pairs"):
        itml.predict(X[PAIRS])


@pytest.mark.parametrize("strategy", ["accuracy", "f_beta", "max_tpr", "max_tnr"])
@pytest.mark.parametrize("ties", [False, True])
def test_no_threshold_is_better_than_the_calibrated_one(strategy, ties):
    rng = np.random.default_rng(3)
    for _ in range(8):
        kinds = np.where(rng.random(20) < 0.4, 1, -1)
        kinds[:2] = 1, -1
        distances = rng.gamma(2.0, size=20) - 0.3 * (kinds == 1)
        if ties:
            distances = np.round(distances, 1)
        settings = {"strategy": strategy, "min_rate": rng.random(), "beta": 2.0 * rng.random()}
        chosen = figure(calibrated_threshold(distances, kinds, **settings), distances, kinds, **settings)
        every = [figure(t, distances, kinds, **settings) for t in [-np.inf, *distances]]
        assert chosen == pytest.approx(max(every)) and chosen >= 0


@pytest.mark.parametrize("unit", [0.0, 1e-100, 1.0, 1e17, 1e100])
def test_where_none_is_best_accepted_none_is_in_any_unit(unit):
    distances = np.array([1.0, 2.0, 3.0]) * unit
    for values in (distances, -distances):  # similarities too, with their sign changed
        values = np.sort(values)
        assert (values > calibrated_threshold(values, np.array([-1, -1, 1]))).all()
    # Nor is an instance that lies nearer than all of these.
    assert calibrated_threshold(distances, np.array([-1, -1, 1])) < 0.0


def figure(threshold, distances, kinds, *, strategy, min_rate, beta):
    """What a strategy makes as large as possible, by scikit-learn's figures."""
    said = np.where(distances <= threshold, 1, -1)
    tpr, tnr = (said[kinds == 1] == 1).mean(), (said[kinds == -1] == -1).mean()
    return {
        "accuracy": accuracy_score(kinds, said),
        "f_beta": fbeta_score(kinds, said, beta=beta, zero_division=0),
        "max_tpr": tpr if tnr >= min_rate else -1.0,
        "max_tnr": tnr if tpr >= min_rate else -1.0,
    }[strategy]


def test_calibration_names_what_it_cannot_use():
    gmml = learner("gmml").fit(X[PAIRS], KINDS)
    for wrong, told in (
        ({"strategy": "best"}, "strategy must be one of accuracy, f_beta, max_tpr, max_tnr, got 'best'"),
        ({"strategy": "max_tpr"}, "min_rate must be a number"),
        ({"strategy": "max_tnr", "min_rate": 1.5}, "min_rate must be a number"),
        ({"strategy": "f_beta", "beta": "big"}, "beta must be a number"),
        ({"strategy": "f_beta", "beta": 1e200}, "beta must be a number from 0 to 1e\\+100"),
    ):
        with pytest.raises(ValueError, match=told):
            gmml.calibrate_threshold(X[PAIRS], KINDS, **wrong)
    with pytest.raises(ValueError, match="needs pairs of both kinds"):
        gmml.calibrate_threshold(X[PAIRS][KINDS == 1], KINDS[KINDS == 1])


def test_a_million_pairs_of_indices_stay_indices():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(10_000, 8))
    index = rng.integers(0, 10_000, size=(1_000_000, 2))
    kinds = np.where(rng.random(1_000_000) < 0.5, 1, -1)
    import tracemalloc

    made = CASES["gmml"][0](preprocessor=points)
    tracemalloc.start()
    made.fit(index, kinds)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Indices, their order and labels take tens of bytes a pair; differences of all of them would take 64 more.
    assert peak < 2.0e8
