"""Feature names are part of a metric: every entry point takes frames by name, and refuses those it does not know."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import certimetric
from certimetric import CertifiedKNeighborsClassifier, MahalanobisMetric, certified_radius, minimal_perturbation
from certimetric.attacks import HopSkipJump, RegionAttack, SmoothedVoteAttack, ThreatModel
from certimetric.objectives import MarginLoss

NAMES = ("age", "height", "weight")
SCALES = np.array([1.0, 100.0, 1e4])  # a column in another's place changes everything


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    y = np.arange(24) % 2
    X = (rng.normal(size=(24, 3)) + y[:, None]) * SCALES
    return pd.DataFrame(X[:16], columns=NAMES), y[:16], pd.DataFrame(X[16:], columns=NAMES)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    path = tmp_path_factory.mktemp("metric") / "m.safetensors"
    MahalanobisMetric.from_components(np.diag(1 / SCALES), feature_names=NAMES).save(path)
    return MahalanobisMetric.load(path)


def classifier(metric, train, y):
    return CertifiedKNeighborsClassifier(1, metric=metric).fit(train, y)


def plain(attack):
    def run(metric, train, y, queries):
        return attack(classifier(metric, train, y), queries[:2], None, ThreatModel("l2", immutable=["age"])).distances

    return run


TRIPLETS = [[0, 2, 1], [1, 3, 2], [2, 4, 3]]
POINTS = {
    "certified_radius": certified_radius,
    "certified_radius leave-one-out": lambda metric, train, y, queries: certified_radius(metric, train, y),
    "minimal_perturbation": lambda *given: minimal_perturbation(*given).radii,
    "predict_with_radius": lambda metric, train, y, queries: classifier(metric, train, y).predict_with_radius(queries)[
        1
    ],
    "predict_proba": lambda metric, train, y, queries: classifier(metric, train, y).predict_proba(queries),
    "kneighbors": lambda metric, train, y, queries: classifier(metric, train, y).kneighbors(queries)[0],
    "classifier.minimal_perturbation": lambda metric, train, y, queries: (
        classifier(metric, train, y).minimal_perturbation(queries).radii
    ),
    "correctness_radius": lambda metric, train, y, queries: classifier(metric, train, y).correctness_radius(
        queries, np.arange(8) % 2
    ),
    "certified_accuracy": lambda metric, train, y, queries: classifier(metric, train, y).certified_accuracy(
        queries, np.arange(8) % 2, [0.0, 0.1]
    ),
    "distance": lambda metric, train, y, queries: metric.distance(train[:8], queries),
    "distance of two rows": lambda metric, train, y, queries: metric.distance(train.iloc[0], queries.iloc[0]),
    "pairwise": lambda metric, train, y, queries: metric.pairwise(train, queries),
    "transform": lambda metric, train, y, queries: metric.transform(queries) + metric.transform(train).sum(),
    "adversarial_margin": lambda metric, train, y, queries: (
        MarginLoss().adversarial_margin(metric, train, TRIPLETS)
        + MarginLoss().adversarial_margin(metric, queries, TRIPLETS)
    ),
    "region attack": plain(RegionAttack(n_opponents=2)),
    "smoothed vote attack": plain(SmoothedVoteAttack(5, 1)),
    "hop skip jump": plain(HopSkipJump(1, n_queries=10, restarts=1)),
}
SPOILT = [(point, "train") for point in POINTS] + [(point, "queries") for point in POINTS if "one-out" not in point]
entry_points = pytest.mark.parametrize("point", POINTS)

BAD = {
    "missing": (lambda frame: frame.drop(columns="height"), "'height'"),
    "unknown": (lambda frame: frame.assign(shoe=1.0), "'shoe'"),
    "renamed": (lambda frame: frame.rename(columns={"age": "Age"}), "did you mean 'Age'"),
    "duplicate": (lambda frame: pd.concat([frame, frame[["age"]]], axis=1), "more than one column called 'age'"),
}


@entry_points
@pytest.mark.parametrize("which", ["train", "queries", "both"])
def test_reordered_frames_are_taken_by_name(loaded, table, point, which):
    train, y, queries = table
    expected = POINTS[point](loaded, train, y, queries)
    other = train if which == "queries" else train[["weight", "age", "height"]]
    asked = queries if which == "train" else queries[["height", "weight", "age"]]
    np.testing.assert_array_equal(POINTS[point](loaded, other, y, asked), expected)


@pytest.mark.parametrize(("point", "which"), SPOILT)
@pytest.mark.parametrize("bad", BAD)
def test_other_names_are_refused(loaded, table, point, which, bad):
    spoil, culprit = BAD[bad]
    train, y, queries = table
    with pytest.raises(ValueError, match=culprit):
        POINTS[point](loaded, *((spoil(train), y, queries) if which == "train" else (train, y, spoil(queries))))


@pytest.mark.parametrize("point", [point for point in POINTS if point != "distance of two rows"])
def test_arrays_are_taken_by_position(loaded, table, point):
    train, y, queries = table
    found = POINTS[point](loaded, train.to_numpy(), y, queries.to_numpy())
    np.testing.assert_array_equal(found, POINTS[point](loaded, train, y, queries))
    # Trained on an array, asked by name: the metric knows the names.
    found = POINTS[point](loaded, train.to_numpy(), y, queries[["height", "weight", "age"]])
    np.testing.assert_array_equal(found, POINTS[point](loaded, train, y, queries))


@pytest.mark.parametrize("function", [certified_radius, lambda *given: minimal_perturbation(*given).radii])
def test_a_metric_without_names_takes_those_of_the_training_set(table, function):
    train, y, queries = table
    metric = MahalanobisMetric.from_components(np.diag(1 / SCALES))
    expected = function(metric, train, y, queries)
    np.testing.assert_array_equal(function(metric, train, y, queries[["weight", "height", "age"]]), expected)
    with pytest.raises(ValueError, match="X_train does not know: 'shoe'"):
        function(metric, train, y, queries.assign(shoe=1.0))


def test_a_learner_fitted_on_a_frame_gives_its_names(table):
    train, y, queries = table
    learner = certimetric.Covariance().fit(train)
    assert learner.metric_.feature_names == NAMES
    expected = certified_radius(learner, train, y, queries)
    for metric in (learner, learner.metric_):
        np.testing.assert_array_equal(
            certified_radius(metric, train[["weight", "age", "height"]], y, queries), expected
        )
    # Fitted here on a frame, the classifier follows scikit-learn: another order is an error.
    fitted = CertifiedKNeighborsClassifier(1, metric=certimetric.Covariance()).fit(train, y)
    with pytest.raises(ValueError, match="same order"):
        fitted.predict(queries[["weight", "age", "height"]])


def test_numbered_columns_are_no_names(loaded, table):
    train, y, queries = table
    numbered = pd.DataFrame(queries.to_numpy())
    np.testing.assert_array_equal(
        certified_radius(loaded, train, y, numbered), certified_radius(loaded, train, y, queries)
    )


def test_names_that_occur_twice_make_no_metric():
    with pytest.raises(ValueError, match="'a' more than once"):
        MahalanobisMetric.from_components(np.eye(2), feature_names=["a", "a"])


def test_threats_name_features_of_the_predictor(loaded, table):
    """Instances in an array or in a frame in another order: the immutable feature is the one that was named."""
    train, y, queries = table
    knn = classifier(loaded, train.to_numpy(), y)
    pipeline = make_pipeline(StandardScaler(), CertifiedKNeighborsClassifier(1)).fit(train, y)
    threat = ThreatModel("l2", immutable=["weight"])
    for predictor in (knn, pipeline):
        for asked in (queries, queries[["weight", "age", "height"]], queries.to_numpy()):
            result = RegionAttack()(predictor, asked, None, threat)
            assert result.success.all()
            np.testing.assert_array_equal(result.adversarial[:, 2], queries["weight"])
    with pytest.raises(ValueError, match="'shoe'"):
        RegionAttack()(knn, queries, None, ThreatModel("l2", immutable=["shoe"]))
