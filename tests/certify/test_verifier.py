"""The verifier: thresholds by every criterion, certified rates, and how it is used."""

import json
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import accuracy_score, fbeta_score
from sklearn.model_selection import GridSearchCV

from certimetric import ITML, LMNN, MMC, MahalanobisMetric, PairVerifier
from certimetric.certify import pair_radii, verification_curve
from certimetric.geometry.diagonal import DiagonalMetric


@pytest.fixture(scope="module")
def labelled_pairs(iris):
    X, y = iris
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, len(X), (2, 400))
    return np.stack([X[first], X[second]], axis=1), np.where(y[first] == y[second], 1, -1)


@pytest.fixture(scope="module")
def euclidean(labelled_pairs):
    return PairVerifier().fit(*labelled_pairs)


def test_fits_on_labels_and_on_pairs(iris, labelled_pairs):
    X, y = iris
    pairs, labels = labelled_pairs
    of_labels, of_pairs = (
        PairVerifier(LMNN(max_iter=20)).fit(X, y),
        PairVerifier(ITML(random_state=0)).fit(pairs, labels),
    )
    for verifier in (of_labels, of_pairs):
        assert verifier.score(pairs, labels) > 0.85
        assert verifier.learner_ is not None and verifier.learner_ is not verifier.metric
        decisions = verifier.predict(pairs)
        assert (decisions == np.where(verifier.decision_function(pairs) >= 0, 1, -1)).all()
    sides = PairVerifier(ITML(random_state=0)).fit((pairs[:, 0], pairs[:, 1]), labels)
    assert sides.threshold_ == of_pairs.threshold_
    fitted = LMNN(max_iter=20).fit(X, y)
    assert PairVerifier(fitted).fit(pairs, labels).metric_ == fitted.metric_


def test_what_is_given_needs_no_data(labelled_pairs):
    pairs, _ = labelled_pairs
    metric = DiagonalMetric([1.0, 2.0, 0.5, 1.0])
    verifier = PairVerifier(metric, threshold=1.5).fit()
    np.testing.assert_array_equal(verifier.predict(pairs) == 1, verifier.pair_distance(pairs) <= 1.5)
    np.testing.assert_allclose(verifier.pair_distance(pairs), metric.distance(pairs[:, 0], pairs[:, 1]), rtol=1e-13)
    np.testing.assert_array_equal(verifier.predict_with_radius(pairs)[1], pair_radii(metric, pairs, 1.5))


def test_thresholds_are_the_best_of_all(euclidean, labelled_pairs):
    pairs, labels = labelled_pairs
    distances = euclidean.pair_distance(pairs)
    candidates = np.append(np.unique(distances), -1.0)
    predicted = [np.where(distances <= t, 1, -1) for t in candidates]
    false = [(p[labels == -1] == 1).mean() for p in predicted]
    missed = [(p[labels == 1] == -1).mean() for p in predicted]

    def chosen(**how):
        return clone(euclidean).fit(*labelled_pairs).calibrate(pairs, labels, **how)

    best = max(accuracy_score(labels, p) for p in predicted)
    assert chosen(criterion="accuracy").score(pairs, labels) == pytest.approx(best)
    best = max(fbeta_score(labels, p, beta=0.5) for p in predicted)
    found = fbeta_score(labels, chosen(criterion="f_beta", value=0.5).predict(pairs), beta=0.5)
    assert found == pytest.approx(best)
    for far in (0.05, 0.3):
        limit = max(t for t, rate in zip(candidates, false) if rate <= far)
        assert chosen(criterion="far", value=far).threshold_ == limit
    t = chosen().threshold_
    assert min(abs(a - b) for a, b in zip(false, missed)) == pytest.approx(
        abs((distances[labels == -1] <= t).mean() - (distances[labels == 1] > t).mean())
    )


@pytest.mark.parametrize("unit", [1.0, 1e30])
def test_a_threshold_that_accepts_none_does_so_in_any_unit(unit):
    pairs = np.array([[[1.0, 0.0], [0.0, 0.0]], [[2.0, 0.0], [0.0, 0.0]], [[3.0, 0.0], [0.0, 0.0]]]) * unit
    verifier = PairVerifier(IDENTITY).fit(pairs, [-1, -1, 1])
    assert (verifier.predict(pairs) == -1).all()
    assert (verifier.predict(pairs / 2) == -1).all()
    assert np.isfinite(verifier.decision_function(pairs)).all()


def test_a_name_is_no_learner_and_it_is_said_what_is(labelled_pairs):
    with pytest.raises(
        TypeError, match=r"got 'gmml'; a learner by its name is made by certimetric.make_learner\('gmml'\)"
    ):
        PairVerifier("gmml").fit(*labelled_pairs)


def test_rates_that_cannot_be_claimed_are_told(euclidean, labelled_pairs):
    pairs, labels = labelled_pairs
    with pytest.warns(UserWarning, match=r"0.005 cannot be told from \d+ impostor pairs: they show no less than 0.01"):
        euclidean.calibrate(pairs, labels, criterion="far", value=0.005)
    same = np.zeros((4, 2, 4))
    with pytest.warns(UserWarning, match="threshold_ is -inf, and nothing is accepted"):
        strict = PairVerifier().fit(pairs, labels).calibrate(same, [1, 1, -1, -1], criterion="far", value=0.1)
    assert (strict.predict(same) == -1).all() and np.isinf(strict.predict_with_radius(same)[1]).all()


def test_certified_rates(labelled_pairs):
    pairs, labels = labelled_pairs
    verifier = PairVerifier().fit(pairs, labels)
    eps = np.array([0.0, 0.05, 0.2, 0.5, 3.0])
    rates = verifier.certified_rates(pairs, labels, eps)
    far, tar = verifier.curve(pairs, labels).at(verifier.threshold_)
    assert (rates.far[0], rates.tar[0]) == (far, tar)
    assert (np.diff(rates.tar) <= 0).all() and (np.diff(rates.far) >= 0).all()
    # At the Euclidean distance every radius is |d − t|: the rates are those of moved thresholds.
    distances = verifier.pair_distance(pairs)
    for size, certified_far, certified_tar in zip(eps[1:], rates.far[1:], rates.tar[1:]):
        moved = verification_curve(distances, labels)
        assert certified_tar == moved.at(verifier.threshold_ - size)[1]
        assert certified_far == moved.at(verifier.threshold_ + size)[0]
    share = (labels == 1).mean()
    expected = share * rates.tar + (1 - share) * (1 - rates.far)
    np.testing.assert_allclose(verifier.certified_accuracy(pairs, labels, eps), expected, atol=1e-12)
    assert verifier.certified_accuracy(pairs, labels, 0.0) == pytest.approx(verifier.score(pairs, labels))
    assert list(rates.to_frame()) == ["eps", "tar", "far"] and json.loads(rates.to_json())["far"] == rates.far.tolist()


def test_witnesses_change_what_predict_says(labelled_pairs):
    pairs, labels = labelled_pairs
    for norm in ("l2", "linf"):
        verifier = PairVerifier(ITML(), norm=norm).fit(pairs, labels)
        found = verifier.minimal_change(pairs[:50])
        decisions, radii = verifier.predict_with_radius(pairs[:50])
        moved = verifier.predict((found.witnesses, pairs[:50, 1]))
        assert (moved != decisions)[found.verified].all() and found.verified.mean() > 0.95
        assert (radii <= found.radii).all()


def test_is_an_estimator(labelled_pairs, iris):
    pairs, labels = labelled_pairs
    search = GridSearchCV(PairVerifier(ITML()), {"metric__gamma": [0.1, 1.0], "norm": ["l2"]}, cv=2)
    search.fit(pairs, labels)
    assert search.best_score_ > 0.8
    with pytest.raises(NotFittedError):
        PairVerifier().predict(pairs)
    X, y = iris
    frame = pd.DataFrame(X, columns=list("abcd"))
    verifier = PairVerifier(LMNN(max_iter=5)).fit(frame, y)
    turned = (frame[list("dcba")][:9], X[50:59])
    np.testing.assert_array_equal(verifier.predict(turned), verifier.predict((X[:9], X[50:59])))


def test_columns_of_frames_go_by_name_in_fit(iris):
    """Those of the enrolled side too, and the metric keeps the names, whoever made it."""
    X, y = iris
    frame, labels = pd.DataFrame(X, columns=list("abcd")), np.where(y[::3] == y[1::3][::-1], 1, -1)
    probes, enrolled = frame[::3], frame[1::3][::-1]
    for metric in (None, ITML(random_state=0), MMC(diagonal=True, max_iter=20)):
        plain, turned = (PairVerifier(metric).fit((probes, e), labels) for e in (enrolled, enrolled[list("cadb")]))
        assert plain.threshold_ == turned.threshold_ and turned.metric_.feature_names == tuple("abcd")
        pairs = probes[list("dcba")], enrolled
        np.testing.assert_array_equal(turned.predict(pairs), plain.predict((probes, enrolled)))
    of_labels = PairVerifier().fit(frame, y)
    assert (of_labels.pair_distance((frame[list("dcba")], frame)) == 0.0).all()


def test_pairs_for_the_threshold_are_drawn_without_a_warning(iris):
    # The labels of a small set have fewer pairs than are drawn at most, and nobody asked for more.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        PairVerifier().fit(*iris)


IDENTITY = MahalanobisMetric.from_matrix(np.eye(2))


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: PairVerifier(threshold=np.nan).fit(np.zeros((3, 2)), [0, 1, 1]), "threshold must be a distance"),
        (lambda: PairVerifier().fit(np.zeros((3, 2)), [1, 1, 1]), "y must hold at least two classes"),
        (lambda: PairVerifier().fit(np.zeros((3, 2, 2)), [1, 1, 1]), "pairs of both kinds"),
        (lambda: PairVerifier().fit(), "X must hold labelled instances or pairs"),
        (lambda: PairVerifier(LMNN(), threshold=1.0).fit(), "X must hold labelled instances or pairs"),
        (lambda: PairVerifier().fit((np.zeros((3, 2)), np.zeros((3, 3))), [1, -1, 1]), "of equal shape"),
        (lambda: PairVerifier(ITML()).fit((np.zeros((3, 2)), np.zeros((4, 2))), [1, -1, 1]), "of equal shape"),
        (lambda: PairVerifier(threshold=1.0).fit(np.full((3, 2), np.nan), [0, 1, 1]), "X contains NaN"),
        (lambda: _ready().calibrate(np.zeros((3, 2, 2)), [1, -1, 1], criterion="far", value="low"), "got 'low'"),
        (lambda: _ready().calibrate(np.zeros((3, 2, 2)), [1, -1, 1], criterion="far", value=0.0), "above 0 and at"),
        (lambda: _ready().calibrate(np.zeros((3, 2, 2)), [1, -1, 1], criterion="far"), "value must be the"),
        (lambda: _ready().calibrate(np.zeros((3, 2, 2)), [1, -1, 1], value=0.1), "value is for the criteria"),
        (lambda: _ready().calibrate(np.zeros((3, 2, 2)), [1, -1, 1], criterion="err"), "did you mean 'eer'"),
        (lambda: _ready().calibrate(np.zeros((3, 2, 2)), [1, 1, 1]), "there is no impostor pair"),
        (lambda: _ready().calibrate(np.zeros((3, 2, 3)), [1, -1, 1]), "made for 2 features, but the pairs have 3"),
        (lambda: _ready().certified_rates(np.zeros((3, 2, 2)), [-1, -1, -1], 0.1), "there is no genuine pair"),
        (lambda: _ready().certified_accuracy(np.zeros((3, 2, 2)), [1, -1, 1], -0.1), "eps must hold sizes"),
        (lambda: _ready().certified_accuracy(np.zeros((3, 2, 2)), [1, 0, 1], 0.1), r"\+1 \(similar\) or -1"),
    ],
)  # fmt: skip
def test_bad_input_is_told_in_a_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence) as error:
        call()
    assert "\n" not in str(error.value)


def _ready():
    return PairVerifier(IDENTITY, threshold=1.0).fit()
