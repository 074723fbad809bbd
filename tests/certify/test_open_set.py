"""Open-set identification: what is answered, certified and calibrated, against plain loops and attacks."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from certimetric import (
    LMNN,
    CertifiedKNeighborsClassifier,
    MahalanobisMetric,
    OpenSetKNeighborsClassifier,
    in_original_units,
)
from certimetric.certify import pair_radii
from certimetric.geometry.norms import resolve_norm


@parametrize_with_checks([OpenSetKNeighborsClassifier(n_neighbors=3)])
def test_is_a_classifier(estimator, check):
    check(estimator)


def drawn(seed, k=1, n=60, d=3, norm="l2", share=0.6, names=False):
    """Enrolled instances of three classes, and queries of four: a fitted classifier, queries and their labels."""
    rng = np.random.default_rng(seed)
    centres = 2.0 * rng.standard_normal((4, d))
    y, y_new = rng.integers(0, 3, n), rng.integers(0, 4, 50)
    X, X_new = centres[y] + rng.standard_normal((n, d)), centres[y_new] + rng.standard_normal((50, d))
    if names:
        y, y_new = np.array(["a", "b", "c", "d"])[y], np.array(["a", "b", "c", "d"])[y_new]
    metric = MahalanobisMetric.from_components(rng.standard_normal((d, d)))
    nearest = metric.pairwise(X_new, X).min(axis=1)
    classifier = OpenSetKNeighborsClassifier(k, metric=metric, norm=norm, threshold=float(np.quantile(nearest, share)))
    return classifier.fit(X, y), X_new, y_new


@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize("names", [False, True])
def test_answers_are_votes_within_the_threshold(k, names):
    knn, X, _ = drawn(0, k, names=names)
    closed = CertifiedKNeighborsClassifier(k, metric=knn.metric).fit(knn.X_, knn.y_)
    nearest = knn.metric.pairwise(X, knn.X_).min(axis=1)
    expected = np.where(nearest <= knn.threshold_, closed.predict(X), "unknown" if names else -1)
    np.testing.assert_array_equal(knn.predict(X), expected)
    assert 0.3 < (expected == knn.unknown_).mean() < 0.5
    np.testing.assert_array_equal(OpenSetKNeighborsClassifier(k, metric=knn.metric).fit(knn.X_, knn.y_).predict(X),
                                  closed.predict(X))  # fmt: skip


@pytest.mark.parametrize("norm", ["l2", "linf", "l1"])
@pytest.mark.parametrize("k", [1, 3])
def test_radii_are_those_of_the_formula(k, norm):
    knn, X, _ = drawn(1, k, n=150, norm=norm)
    answers, radii = knn.predict_with_radius(X)
    np.testing.assert_array_equal(answers, knn.predict(X))
    closed = CertifiedKNeighborsClassifier(k, metric=knn.metric, norm=norm).fit(knn.X_, knn.y_)
    votes = closed.predict_with_radius(X)[1]
    for x, answer, radius, vote in zip(X, answers, radii, votes):
        balls = pair_radii(knn.metric, (np.tile(x, (150, 1)), knn.X_), knn.threshold_, norm=norm)
        within = knn.metric.distance(x, knn.X_) <= knn.threshold_
        if answer == -1:
            assert radius == pytest.approx(balls.min(), rel=1e-9)
        else:
            nearest = np.argsort(knn.metric.distance(x, knn.X_))[:16]
            best = np.where(within, balls, 0.0)[nearest].max()
            assert radius == pytest.approx(min(vote, best), rel=1e-9)


@pytest.mark.parametrize("norm", ["l2", "linf", "l1", "ellipsoid", "restricted"])
@pytest.mark.parametrize("k", [1, *(pytest.param(k, marks=pytest.mark.slow) for k in (2, 3))])
def test_no_change_within_the_radius_flips(k, norm):
    A = np.random.default_rng(0).standard_normal((3, 3))
    chosen = {"ellipsoid": A @ A.T + np.eye(3), "restricted": resolve_norm("l2").restrict([True, False, True])}
    norm = chosen.get(norm, norm)
    for seed in range(2):
        knn, X, _ = drawn(seed, k, n=30, norm=norm)
        X = X[:20]
        answers, radii = knn.predict_with_radius(X)
        rng, size = np.random.default_rng(seed), np.minimum(radii, 1e3)
        for _ in range(60):
            steps = resolve_norm(norm).sample(rng, len(X), 3)
            moved = X + steps * (size * (1 - 1e-12))[:, None]
            np.testing.assert_array_equal(knn.predict(moved), answers)
        # Towards and away from enrolled instances, where flips are nearest.
        found = knn.minimal_perturbation(X, node_limit=3)
        assert (found.lower == radii).all() and (found.radii >= radii).all()
        change = found.witnesses - X
        length = resolve_norm(norm).norm(change)
        ok = (length > 0) & np.isfinite(length)
        inside = X[ok] + change[ok] * (np.minimum(radii[ok] / length[ok], 1e3) * (1 - 1e-12))[:, None]
        np.testing.assert_array_equal(knn.predict(inside), answers[ok])


def test_rejected_radii_are_exact_for_l2():
    for k in (1, 3):
        knn, X, _ = drawn(3, k)
        answers, radii = knn.predict_with_radius(X)
        found = knn.minimal_perturbation(X, node_limit=3)
        rejected = answers == -1
        assert found.proven[rejected].all() and rejected.any()
        np.testing.assert_array_equal(knn.predict(found.witnesses) != answers, found.verified)
        assert found.verified.all() and (found.radii[~rejected] >= radii[~rejected]).all()


def test_leave_one_out_is_a_refit():
    knn, _, _ = drawn(4, 3, n=30)
    labels, radii = knn.leave_one_out()
    for i in range(30):
        rest = np.arange(30) != i
        other = OpenSetKNeighborsClassifier(3, metric=knn.metric, threshold=knn.threshold_)
        label, radius = other.fit(knn.X_[rest], knn.y_[rest]).predict_with_radius(knn.X_[i : i + 1])
        assert label[0] == labels[i] and radius[0] == pytest.approx(radii[i], rel=1e-9)


def test_calibration_by_probes_and_by_the_enrolled():
    knn, X, y = drawn(5)
    unknown = ~np.isin(y, knn.classes_)
    nearest = knn.metric.pairwise(X, knn.X_).min(axis=1)
    for fpir in (0.3, 0.5):
        knn.calibrate(X, y, fpir=fpir)
        accepted = nearest <= knn.threshold_
        assert accepted[unknown].mean() <= fpir
        higher = nearest[nearest > knn.threshold_ * (1 + 1e-12)].min()
        assert (nearest[unknown] <= higher * (1 + 1e-12)).mean() > fpir
        curve = knn.identification_curve(X, y)
        right = (knn.predict(X) == y)[~unknown].mean()
        assert curve.dir_at(fpir) == right and list(curve.to_frame()) == ["threshold", "fpir", "dir"]
        assert json.loads(curve.to_json())["n_unknown"] == unknown.sum()
    with pytest.warns(UserWarning, match="probes of unknown subjects"):
        knn.calibrate(X, y, fpir=0.01)
    # Of the enrolled: nearest of another class, of which none may be accepted more often.
    knn.calibrate(fpir=0.2)
    distances = knn.metric.pairwise(knn.X_)
    other = np.where(knn.y_[:, None] != knn.y_, distances, np.inf).min(axis=1)
    assert (other <= knn.threshold_).mean() <= 0.2


def test_certified_rates_and_score():
    knn, X, y = drawn(6)
    eps = np.array([0.0, 0.05, 0.3])
    rates = knn.certified_identification(X, y, eps)
    known = np.isin(y, knn.classes_)
    answers = knn.predict(X)
    assert rates.dir[0] == (answers == y)[known].mean() and rates.fpir[0] == (answers != -1)[~known].mean()
    assert (np.diff(rates.dir) <= 0).all() and (np.diff(rates.fpir) >= 0).all()
    truth = np.where(known, y, -1)
    assert knn.score(X, y) == (answers == truth).mean() == pytest.approx(knn.certified_accuracy(X, y, 0.0))
    assert list(rates.to_frame()) == ["eps", "dir", "fpir"] and json.loads(rates.to_json())["eps"] == eps.tolist()
    assert (knn.correctness_radius(X, y)[answers != truth] == 0).all()


def test_sentinel_is_no_label():
    X = np.arange(4.0)[:, None]
    assert OpenSetKNeighborsClassifier().fit(X, [-1, -3, 1, 1]).unknown_ == -4
    with pytest.raises(ValueError, match="unknown must be no label of the training set, but -1 is one"):
        OpenSetKNeighborsClassifier(unknown=-1).fit(X, [-1, -1, 1, 1])
    with pytest.raises(ValueError, match="but 'unknown' is one"):
        OpenSetKNeighborsClassifier().fit(X, ["unknown", "a", "a", "b"])
    with pytest.raises(ValueError, match="unknown must be text"):
        OpenSetKNeighborsClassifier(unknown=-1).fit(X, ["b", "a", "a", "b"])
    knn = OpenSetKNeighborsClassifier(unknown=0, threshold=0.1).fit(X, [-1, -1, 1, 1])
    np.testing.assert_array_equal(knn.predict([[0.05], [0.5], [9.0]]), [-1, 0, 0])
    named = OpenSetKNeighborsClassifier(unknown="nobody at all", threshold=0.1).fit(X, np.array(["a", "a", "b", "b"]))
    assert named.predict([[9.0]]).tolist() == ["nobody at all"]
    objects = OpenSetKNeighborsClassifier(threshold=0.1).fit(X, np.array(["a", "a", "b", "b"], dtype=object))
    assert objects.predict([[9.0], [0.0]]).tolist() == ["unknown", "a"]


def test_composes(wine):
    X, y = wine
    rng = np.random.default_rng(0)
    X = X * rng.uniform(1, 100, X.shape[1]) + 5
    known = y < 2
    frame = pd.DataFrame(X, columns=[f"f{i}" for i in range(X.shape[1])])
    knn = OpenSetKNeighborsClassifier(1, metric=LMNN(max_iter=5), threshold=2.0)
    pipeline = make_pipeline(StandardScaler(), knn).fit(frame[known], y[known])
    assert (pipeline.predict(frame[~known]) == -1).any()
    original = in_original_units(pipeline)
    np.testing.assert_array_equal(original.predict(frame), pipeline.predict(frame))
    answers, radii = original.predict_with_radius(X)
    for _ in range(30):
        steps = resolve_norm("l2").sample(rng, len(X), X.shape[1])
        np.testing.assert_array_equal(
            original.predict(X + steps * (np.minimum(radii, 1e6) * (1 - 1e-12))[:, None]), answers
        )
    search = GridSearchCV(OpenSetKNeighborsClassifier(), {"n_neighbors": [1, 3], "threshold": [50.0, 500.0]}, cv=2)
    assert search.fit(X, y).best_score_ > 0.3


def test_dask_gives_the_same():
    array = pytest.importorskip("dask.array")
    knn, X, _ = drawn(7)
    answers, radii = knn.predict_with_radius(X)
    lazy, lazy_radii = knn.predict_with_radius(array.from_array(X, chunks=(7, 3)))
    np.testing.assert_array_equal(np.asarray(lazy), answers)
    np.testing.assert_array_equal(np.asarray(lazy_radii), radii)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda knn, X, y: OpenSetKNeighborsClassifier(threshold=np.nan).fit(X, y), "threshold must be a distance"),
        (lambda knn, X, y: knn.calibrate(X, y, fpir=0.0), "fpir must be a rate of false positive ident"),
        (lambda knn, X, y: knn.calibrate(X, np.zeros(50, int), fpir=0.1), "an unknown one lacks"),
        (lambda knn, X, y: knn.calibrate(X, np.full(50, 9), fpir=0.1), "a known one lacks"),
        (lambda knn, X, y: knn.calibrate(X, y[:9], fpir=0.1), "y must hold one label for each of the 50 queries"),
        (lambda knn, X, y: knn.calibrate(X, fpir=0.1), "y must hold a label for each query, got None"),
        (lambda knn, X, y: knn.certified_identification(X, np.zeros(50, int), 0.1), "labels that are not"),
        (lambda knn, X, y: knn.certified_identification(X, y, -1.0), "eps must hold sizes"),
        (lambda knn, X, y: OpenSetKNeighborsClassifier().fit(X[:1], y[:1]).calibrate(fpir=0.1), "at least two classes"),
        (lambda knn, X, y: OpenSetKNeighborsClassifier().fit(X[:1], y[:1]).leave_one_out(), "needs more than"),
    ],
)  # fmt: skip
def test_bad_input_is_told_in_a_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence) as error:
        call(*drawn(0))
    assert "\n" not in str(error.value)
