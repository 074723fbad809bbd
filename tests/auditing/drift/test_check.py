"""New rows against training rows: no alarm on the same, an alarm on each kind of change, outliers that are certain."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import betabinom, binom

from certimetric import OpenSetKNeighborsClassifier, check_drift
from certimetric.auditing.drift.columns import compare_columns, stability_index
from certimetric.geometry import MahalanobisMetric


@pytest.fixture(scope="module")
def people():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"age": rng.integers(18, 80, 300), "income": rng.normal(3, 1, 300).round(3)})
    table["plan"] = rng.choice(["a", "b"], 300)
    return table, (table["income"] > 3).astype(int).to_numpy()


NAMES = ("age", "income", "plan=a", "plan=b")


@pytest.fixture(scope="module")
def metric():
    return MahalanobisMetric(np.diag([0.05, 1.0, 0.7, 0.7]), feature_names=NAMES)


def alarms(found):
    return {(each.test, each.feature) for each in found.alarms}


def test_rows_of_the_same_kind_are_no_alarm(people, metric):
    table, y = people
    found = check_drift(metric, table[:200], y[:200], table[200:])
    assert not found.alarm and found.figures["comparable"] == 1.0
    assert (found.n_train, found.n_new, found.n_compared) == (200, 100, 100)
    again = check_drift(metric, table[:200], y[:200], table[:200])  # the training rows themselves
    assert not again.alarm
    assert {each.test for each in again.findings} >= {"copies", "distance", "radius", "shift"}


def test_a_metric_that_was_fitted_to_noise_raises_no_alarm():
    """It draws its training rows together, so that every new row looks far: the plain distance says otherwise."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(160, 100)), rng.integers(0, 2, 160)
    told_by_heart = MahalanobisMetric(np.linalg.lstsq(X[:80], y[:80] + 0.1 * X[:80, 0], rcond=None)[0][None])
    found = check_drift(told_by_heart, X[:80], y[:80], X[80:])
    distance = next(each for each in found.findings if each.test == "distance")
    assert distance.value > 0.3  # what the learned metric alone would take for drift
    assert not distance.alarm and not found.alarm


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda rows: rows.assign(income=rows["income"] + 2), {("shift", "income"), ("range", "income")}),
        (lambda rows: rows.drop(columns="plan"), {("columns", "plan")}),
        (lambda rows: rows.assign(plan=np.where(rows.index % 9 == 0, "z", rows["plan"])), {("categories", "plan")}),
        (lambda rows: rows.assign(age=np.where(rows.index % 9 == 0, np.nan, rows["age"])), {("missing values", "age")}),
        (lambda rows: rows.assign(age="old"), {("categories", "age")}),
    ],
    ids=["shifted", "lacking", "new category", "gaps", "text"],
)
def test_each_kind_of_change_is_an_alarm(people, metric, change, expected):
    table, y = people
    found = check_drift(metric, table[:200], y[:200], change(table[200:]))
    assert expected <= alarms(found)
    assert found.alarms == found.findings[: len(found.alarms)]  # they come first


def test_rows_that_cannot_be_compared_are_left_out(people, metric):
    table, y = people
    new = table[200:].reset_index(drop=True)
    new.loc[3, "plan"] = "z"
    found = check_drift(metric, table[:200], y[:200], new.assign(note=1))
    assert (found.n_new, found.n_compared) == (100, 99)
    assert any(each.test == "columns" and "'note'" in each.message and not each.alarm for each in found.findings)


def test_certified_outliers_are_those_of_the_open_set(people, metric):
    """Far from every training row, and no change of size ε brings one near."""
    table, y = people
    new = table[200:].reset_index(drop=True)
    new.loc[:4, "income"] = [9.0, 10.0, 11.0, 12.0, 13.0]
    found = check_drift(metric, table[:200], y[:200], new, eps=2.0)
    assert {0, 1, 2, 3, 4} <= {each.row for each in found.outliers}
    features = [pd.get_dummies(rows, prefix_sep="=")[list(NAMES)].to_numpy(float) for rows in (table[:200], new)]
    knn = OpenSetKNeighborsClassifier(1, metric=metric, threshold=found.near).fit(features[0], y[:200])
    labels, radii = knn.predict_with_radius(features[1])
    assert [each.row for each in sorted(found.outliers, key=lambda each: each.row)] == np.flatnonzero(
        labels < 0
    ).tolist()
    for each in found.certified_outliers:
        assert each.radius == radii[each.row] >= 2.0
        moved = features[1][each.row] + np.array([0.0, -2.0, 0.0, 0.0])
        assert knn.predict(moved[None])[0] == -1
    assert 3 <= len(found.certified_outliers) < len(found.outliers) + 1


def test_ranges_are_exceeded_by_chance_as_often_as_told():
    """The number of new values beyond the range of n others is beta-binomial."""
    rng = np.random.default_rng(0)
    draws = rng.random((4000, 50))
    beyond = (draws[:, 30:] < draws[:, :30].min(1, keepdims=True)) | (
        draws[:, 30:] > draws[:, :30].max(1, keepdims=True)
    )
    counts = beyond.sum(axis=1)
    for least in (1, 2, 4):
        assert (counts >= least).mean() == pytest.approx(betabinom.sf(least - 1, 20, 2, 29), abs=0.025)


def test_many_rows_against_few_of_training_raise_alarms_as_often_as_told():
    # Training rows that are each other's nearest share a distance, and their tenths are where few of them happen to be.
    plain, alarms = MahalanobisMetric.from_components(np.eye(1)), 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        train, new = rng.normal(size=(30, 1)), rng.normal(size=(300, 1))
        alarms += check_drift(plain, train, np.arange(30) % 2, new, alpha=0.05).alarm
    assert alarms <= binom.isf(0.01, 40, 0.05)


def test_few_rows_have_no_certain_shift():
    """The stability index of twelve rows is above the usual limit by chance alone."""
    rng = np.random.default_rng(0)
    train, new = (pd.DataFrame({"x": rng.normal(size=n)}) for n in (200, 12))
    (shift,) = [each for each in compare_columns(train, new, 0.01)[0] if each.test == "shift"]
    assert shift.value > 0.25 and not shift.alarm and "no certain shift" in shift.message
    assert stability_index([10, 20], [20, 40]) == pytest.approx(0, abs=1e-3)


def test_dates_are_compared_by_their_days():
    days = pd.date_range("2020-01-01", periods=120).strftime("%Y-%m-%d").to_series(index=range(120))
    train, new = days.iloc[:100].to_frame("opened"), pd.DataFrame({"opened": ["2020-03-01 12:00", "2021-01-01", None]})
    found, comparable = compare_columns(train, new, 0.01, dates=["opened"])
    told = {each.test: each.message for each in found}
    assert told["range"] == "'opened' is beyond 2020-01-01 … 2020-04-09 in 1 row, as far as 2021-01-01"
    assert "categories" not in told and comparable.tolist() == [True, True, False]
    (text, *_), comparable = compare_columns(train, pd.DataFrame({"opened": ["soon"]}), 0.01, dates=["opened"])
    assert text.alarm and "text such as 'soon' where training has dates" in text.message and not comparable.any()


def test_figures_are_told_as_frame_json_and_text(people, metric):
    table, y = people
    found = check_drift(metric, table[:200], y[:200], table[200:].assign(income=20.0))
    frame, told = found.to_frame(), json.loads(found.to_json())
    assert len(frame) == len(found.findings) == len(told["findings"])
    assert told["alarm"] is True and told["figures"] == found.figures
    assert found.figures["near"] == 0.0
    first, *lines = str(found).splitlines()
    assert first.startswith("100 new rows, 100 of them comparable, against 200 training rows")
    assert sum(line.startswith("ALARM") for line in lines) == len(found.alarms)


def test_bad_input_is_told(people, metric):
    table, y = people
    with pytest.raises(ValueError, match="alpha must be between 0 and 1, got 2"):
        check_drift(metric, table[:200], y[:200], table[200:], alpha=2)
    with pytest.raises(ValueError, match="n_neighbors must be between 1"):
        check_drift(metric, table[:3], y[:3], table[200:], n_neighbors=3)
    with pytest.raises(ValueError, match="lacks"):
        check_drift(metric, table[:200].drop(columns="age"), y[:200], table[200:])
