"""Risk and coverage: figures against all orders, resamples against expanded samples, conformal coverage."""

import json
from itertools import permutations

import numpy as np
import pytest

from certimetric import CertifiedKNeighborsClassifier
from certimetric.certify import compare_scores, conformal_sets, prediction_scores, risk_coverage_curve
from certimetric.certify.confidence import class_distances, distance_ratios


def test_equal_scores_are_in_no_order():
    """The curve is the mean over every order that the scores allow."""
    errors, score = np.array([1, 0, 0, 1, 0]), np.array([2.0, 2.0, 1.0, 1.0, 1.0])
    orders = [order for order in permutations(range(5)) if (np.diff(score[list(order)]) <= 0).all()]
    curves = [np.cumsum(errors[list(order)]) / np.arange(1, 6) for order in orders]
    found = risk_coverage_curve(errors, score)
    np.testing.assert_allclose(found.risk, np.mean(curves, axis=0))
    assert found.aurc == pytest.approx(np.mean(curves))


def test_best_and_no_order():
    errors = np.array([True, False, False, True, False, False])
    best = risk_coverage_curve(errors, ~errors)
    assert best.excess == pytest.approx(0) and best.excess_share == pytest.approx(0)
    chance = risk_coverage_curve(errors, np.zeros(6))
    assert chance.aurc == pytest.approx(errors.mean()) and chance.excess_share == pytest.approx(1)
    assert np.isnan(risk_coverage_curve([False, False], [1, 2]).excess_share)
    assert best.risk_at(0.5) == 0 and best.risk_at(1.0) == errors.mean()
    assert json.loads(best.to_json())["risk"] == best.risk.tolist()


def test_a_resample_is_the_sample_with_rows_repeated():
    """AURC by weights is that of a sample in which every row stands as often as it was drawn."""
    rng = np.random.default_rng(0)
    errors, score = rng.random(40) < 0.3, rng.integers(0, 6, 40).astype(float)
    found = compare_scores(errors, {"score": score, "other": rng.random(40)}, n_resamples=1, random_state=3)
    draws = np.random.default_rng(3).multinomial(40, np.full(40, 1 / 40), size=1)[0]
    expanded = risk_coverage_curve(np.repeat(errors, draws), np.repeat(score, draws)).aurc
    assert found.figures[0].aurc_low == found.figures[0].aurc_high == pytest.approx(expanded)


def test_scores_are_compared_in_pairs():
    rng = np.random.default_rng(1)
    chance = rng.random(600)
    errors = rng.random(600) > chance
    scores = {"good": chance, "same": 2 * chance, "noise": rng.random(600), "reverse": -chance}
    found = compare_scores(errors, scores)
    assert set(found.worse) == {"noise", "reverse"} and not found.better
    same = found.to_frame().set_index("score").loc["same"]
    assert same["difference"] == same["difference_low"] == same["difference_high"] == 0
    assert compare_scores(errors, scores, reference="noise").better == ("good", "same")
    assert json.loads(found.to_json())["reference"] == "good"


def test_an_instance_is_drawn_with_all_its_predictions():
    """Two parts with the same predictions tell no more than one: intervals stay as wide."""
    rng = np.random.default_rng(2)
    errors, score = rng.random(80) < 0.4, rng.random(80)
    once = compare_scores(errors, {"score": score}).figures[0]
    both = {"parts": np.repeat([0, 1], 80), "instances": np.tile(np.arange(80), 2)}
    twice = compare_scores(np.tile(errors, 2), {"score": np.tile(score, 2)}, **both).figures[0]
    assert (twice.aurc, twice.aurc_low) == pytest.approx((once.aurc, once.aurc_low))


@pytest.mark.parametrize(
    ("errors", "score", "told"),
    [
        ([0, 2], [1, 2], "errors must be a bool"),
        ([], [], "errors must be a bool"),
        ([0, 1], [1.0], "score must hold one number for each of the 2"),
        ([0, 1], [1.0, np.nan], "score must hold numbers"),
    ],
)
def test_bad_input_is_told(errors, score, told):
    with pytest.raises(ValueError, match=told):
        risk_coverage_curve(errors, score)


def test_scores_of_predictions(iris):
    X, y = iris
    knn = CertifiedKNeighborsClassifier(3).fit(X[::2], y[::2])
    found = prediction_scores(knn, X[1::2])
    labels, radii = knn.predict_with_radius(X[1::2])
    np.testing.assert_array_equal(found.label, labels)
    np.testing.assert_array_equal(found.radius, radii)
    apart = np.linalg.norm(X[1::2, None] - X[None, ::2], axis=2)
    own = np.where(y[::2] == labels[:, None], apart, np.inf).min(axis=1)
    other = np.where(y[::2] != labels[:, None], apart, np.inf).min(axis=1)
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(found.distance_ratio, other / own)
    np.testing.assert_allclose(class_distances(knn, X[1::2]).min(axis=1), apart.min(axis=1))
    assert set(np.round(3 * found.vote_share)) <= {1, 2, 3}
    with pytest.raises(ValueError, match="classes must be at least two"):
        distance_ratios(np.ones((3, 1)))


def test_conformal_sets_hold_the_truth_as_often_as_promised():
    """Marginal coverage is at least 1 − α, and at most 1/(n + 1) above it, for continuous scores."""
    rng = np.random.default_rng(0)
    held = [conformal_sets(draw[:9], draw[9:, None], alpha=0.1).mean() for draw in rng.random((4000, 10))]
    assert 0.9 - 0.015 <= np.mean(held) <= 0.9 + 0.015  # exactly 9 of 10 here; three standard errors
    assert conformal_sets([0.5], [[9.0]], alpha=0.1).all()  # too few to exclude anything
    with pytest.raises(ValueError, match="alpha must be between 0 and 1"):
        conformal_sets([0.5], [[9.0]], alpha=1.0)
