"""The search over learners and hyper-parameters: what it chooses, what it never sees, and what it refuses."""

from itertools import pairwise

import numpy as np
import pytest
from sklearn.base import clone

from certimetric import LMNN, CertifiedKNeighborsClassifier, MetricSearchCV, make_learner
from certimetric.certify.criteria import CAUTION, EPS_SHARE, Criterion, Judged
from certimetric.certify.search import learner_of
from certimetric.learners.candidates import AUTO, REFERENCE
from certimetric.learners.specs import LEARNERS

CHEAP = ("euclidean", "gmml", "gmml:t=0.1", "gmml:t=0.9", "rca")


@pytest.fixture(scope="module")
def data():
    """Two of eight features tell the classes, the others are noise: a learned metric is better in everything."""
    rng = np.random.default_rng(3)
    codes = np.repeat([0, 1, 2], [60, 50, 40])
    X = rng.normal(size=(150, 8))
    X[:, :2] += 2.5 * np.array([[0, 0], [1, 0], [0, 1]])[codes]
    return X, np.array(["a", "b", "c"])[codes]


def search(**changed):
    return MetricSearchCV(**{"learners": CHEAP, "cv": 3, "random_state": 0, **changed})


def test_balanced_beats_euclidean_where_features_are_noise(data):
    X, y = data
    found = search().fit(X[::2], y[::2])
    chosen = found.best_params_["learner"]
    assert chosen != REFERENCE
    plain = CertifiedKNeighborsClassifier().fit(X[::2], y[::2])
    held_out = X[1::2], y[1::2]
    assert found.score(*held_out) >= plain.score(*held_out)
    accuracies = [each.certified_accuracy(*held_out, found.eps_) for each in (found.best_estimator_, plain)]
    assert accuracies[0] > accuracies[1]
    # What predicts is the classifier with that learner on all rows, and nothing else.
    again = CertifiedKNeighborsClassifier(metric=make_learner(chosen, random_state=0)).fit(X[::2], y[::2])
    for a, b in zip(found.predict_with_radius(X[1::2]), again.predict_with_radius(X[1::2])):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(found.transform(X), found.best_estimator_.learner_.transform(X))
    nested = CertifiedKNeighborsClassifier(metric=clone(found)).fit(X[::2], y[::2])
    np.testing.assert_array_equal(nested.predict(X), found.predict(X))


def test_halving_keeps_the_better_half_and_euclidean(data):
    results = search(learners=(*CHEAP, "gmml:t=0.2", "gmml:t=0.3")).fit(*data).cv_results_
    stages = [{p["learner"] for p, i in zip(results["params"], results["iter"]) if i == number} for number in (0, 1, 2)]
    assert stages[0] > stages[1] > stages[2] > {REFERENCE}
    assert len(stages[0]) == 7
    assert all(len(later) <= (len(earlier) + 1) // 2 + 1 for earlier, later in pairwise(stages))
    assert len({len(column) for column in results.values()}) == 1
    best = search().fit(*data)
    assert best.cv_results_["params"][best.best_index_] == best.best_params_
    assert best.cv_results_["rank_test_score"][best.best_index_] == 1
    assert best.cv_results_["iter"][best.best_index_] == max(best.cv_results_["iter"])


def test_candidates_are_judged_on_rows_that_they_were_not_fitted_on(data, monkeypatch):
    """And all on the same: each row of the last stage once in every repeat, by every candidate."""
    from certimetric.certify import halving as module

    seen = []
    original = module.judge

    def spy(learner, fold, *args, **kwargs):
        train, test = ({row.tobytes() for row in part} for part in (fold.X, fold.X_test))
        assert not train & test
        seen.append((repr(learner), sorted(test)))
        return original(learner, fold, *args, **kwargs)

    monkeypatch.setattr(module, "judge", spy)
    search(learners=["euclidean", "gmml"]).fit(*data)
    rows = {name: sorted(row for who, test in seen if who == name for row in test) for name, _ in seen}
    euclidean, gmml = rows.values()
    assert euclidean == gmml == sorted(3 * [row.tobytes() for row in data[0]])


@pytest.mark.parametrize(
    ("criterion", "best"),
    [
        ("error", lambda j: j.right.mean()),
        ("certified@0.7", lambda j: (j.right & (j.radii >= 0.7)).mean()),
        ("noise@2", lambda j: j.noisy.mean()),
    ],
)
def test_a_criterion_is_the_share_that_it_says(data, criterion, best):
    found = search(criterion=criterion, learners=["euclidean", "gmml"]).fit(*data)
    last = Criterion.parse(criterion)
    judged = Judged(np.array([True, True, False]), np.array([True, False, False]), np.array([0.5, 1.0, 2.0]))
    assert last.score(judged, last.eps(None)) == pytest.approx(best(judged))
    assert found.best_score_ == max(found.cv_results_["mean_test_score"])
    assert (found.eps_ is None) == (criterion == "error")


def test_balanced_admits_what_errs_no_more_than_chance_makes():
    right = np.ones(100, dtype=bool)
    reference, other = right.copy(), right.copy()
    reference[:10] = False
    radii = np.linspace(0, 1, 100)
    for excess, admitted in ((0, True), (30, False), (-5, True)):
        other[:] = True
        other[50 : 60 + excess] = False
        assert Criterion("balanced").admits(Judged(other, None, radii), Judged(reference, None, radii)) is admitted
    eps = Criterion("balanced").eps(Judged(reference, None, radii))
    assert eps == pytest.approx(EPS_SHARE * np.median(np.where(reference, radii, 0.0)))
    assert CAUTION <= 1.0


def test_a_candidate_that_fails_is_told_and_left(data):
    found = search(learners=["euclidean", "gmml", LMNN(init=np.eye(3))], criterion="error").fit(*data)
    failed = [np.isnan(score) for score in found.cv_results_["mean_test_score"]]
    assert any(failed)
    assert found.best_params_["learner"] in ("euclidean", "gmml")
    assert [each["score"] for each in found.search_told()["tried"]].count(None) == 1


@pytest.mark.slow
def test_same_seed_same_choice_and_processes_change_nothing(data):
    first, second = (search(criterion="noise@1", n_jobs=jobs).fit(*data) for jobs in (None, 2))
    timed = "mean_fit_time"
    tables = [{k: v for k, v in each.cv_results_.items() if k != timed} for each in (first, second)]
    assert tables[0] == tables[1]


@pytest.mark.parametrize(
    ("changed", "culprit"),
    [
        ({"criterion": "balance"}, "did you mean 'balanced'"),
        ({"criterion": "noise"}, "noise@0.5"),
        ({"criterion": "certified@-1"}, "at least 0"),
        ({"criterion": "error@1"}, "no size"),
        ({"learners": []}, "at least one"),
        ({"learners": ["gmml", "gmml"]}, "'gmml' more than once"),
        ({"learners": "lmn"}, "did you mean 'lmnn'"),
        ({"learners": [3]}, "got 3"),
    ],
)
def test_what_is_refused_is_named(data, changed, culprit):
    with pytest.raises((ValueError, TypeError), match=culprit.replace("(", r"\(")) as error:
        search(**changed).fit(*data)
    assert "\n" not in str(error.value)


def test_rows_of_which_no_class_has_two_cannot_be_folded():
    with pytest.raises(ValueError, match="at least two instances"):
        search().fit(np.eye(4), [0, 1, 2, 3])


def test_every_candidate_of_the_list_is_a_learner():
    assert AUTO[0] == REFERENCE
    assert len({repr(make_learner(spec)) for spec in AUTO}) == len(AUTO)
    assert "auto" not in LEARNERS


def test_a_specification_names_a_search():
    assert learner_of("auto:criterion=certified@0.5,max_rows=100", random_state=1, n_neighbors=5).get_params() == {
        **MetricSearchCV(criterion="certified@0.5", max_rows=100, random_state=1, n_neighbors=5).get_params()
    }
    with pytest.raises(ValueError, match="did you mean 'criterion'"):
        learner_of("auto:criterium=error")
    with pytest.raises(ValueError, match="learner 'auto:cv=1'"):
        learner_of("auto:cv=1")
