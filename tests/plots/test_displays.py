"""Displays show what the estimators say: numbers against the estimators, and what is drawn against the numbers."""

import subprocess
import sys

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure

from certimetric import GMML, CertifiedKNeighborsClassifier, MahalanobisMetric, PairVerifier
from certimetric.plots import (
    CertifiedAccuracyDisplay,
    DecisionRegionDisplay,
    MetricDisplay,
    RadiusDisplay,
    RiskCoverageDisplay,
    RobustnessScoreDisplay,
    SandwichDisplay,
    VerificationDisplay,
)
from certimetric.plots.verification import draw_det, scale_det


@pytest.fixture
def ax():
    return Figure().subplots()


@pytest.fixture(scope="module")
def knn(wine):
    X, y = wine
    return CertifiedKNeighborsClassifier(1, metric=GMML()).fit(X[::2], y[::2])


@pytest.fixture(scope="module")
def queries(wine):
    X, y = wine
    return X[1::6], y[1::6]


def test_certified_accuracy_is_that_of_the_classifier(knn, queries, ax):
    display = CertifiedAccuracyDisplay.from_estimator(knn, *queries, label="GMML", ax=ax)
    assert len(display.eps) > 50
    np.testing.assert_array_equal(display.accuracy, knn.certified_accuracy(*queries, display.eps))
    np.testing.assert_array_equal(display.line_.get_ydata(), display.accuracy)
    assert display.accuracy[-1] == 0  # the default sizes go beyond the largest radius
    assert ax.get_legend().get_texts()[0].get_text() == "GMML"


def test_sandwich_holds_the_truth(knn, queries, ax):
    display = SandwichDisplay.from_estimator(knn, *queries, exact=True, ax=ax)
    assert (display.certified <= display.exact).all()
    assert (display.exact <= display.attacked + 1e-12).all()
    assert display.attacked[0] == display.certified[0] == knn.score(*queries)  # without a change there is no bracket
    np.testing.assert_array_equal(display.certified, knn.certified_accuracy(*queries, display.eps))
    assert len(display.lines_) == 3


def test_lines_alone_are_drawn_in_styles_that_are_given(ax):
    """What is not known is not drawn, and nothing is written on the axes: reports write their own."""
    display = SandwichDisplay([0.0, 1.0], None, [0.8, 0.5], clean=[0.8, 0.8], random=[0.8, 0.7])
    looks = {
        name: {"color": colour, "gid": name} for name, colour in (("attacked", "r"), ("clean", "k"), ("random", "g"))
    }
    display.draw(ax, looks)
    assert [(line.get_gid(), line.get_color()) for line in ax.lines] == [
        ("attacked", "r"),
        ("clean", "k"),
        ("random", "g"),
    ]
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [0.8, 0.5])
    assert not ax.collections and ax.get_legend() is None and not ax.get_xlabel()
    SandwichDisplay([0.0, 1.0], [0.8, 0.4], [0.8, 0.5]).draw(ax)
    (shade,) = ax.collections
    assert {(1.0, 0.4), (1.0, 0.5)} <= set(map(tuple, shade.get_paths()[0].vertices))


def test_rates_of_nothing_and_of_all_are_within_the_axes(ax):
    scale_det(ax, (0.01, 0.02), 0.99)
    line = draw_det(ax, [0.0, 0.1, 1.0], [1.0, 0.3, 0.0], (0.01, 0.02))
    np.testing.assert_allclose(line.get_xydata(), [[0.01, 0.98], [0.1, 0.3], [0.99, 0.02]])
    steps = np.diff(ax.transData.transform([[0.5, 0.5], [0.841345, 0.5], [0.977250, 0.5]])[:, 0])
    assert steps[0] == pytest.approx(steps[1], rel=1e-4)  # one and two standard deviations


def test_reports_draw_without_estimators():
    told = (
        "import certimetric.report, sys; print(sorted({'numba', 'sklearn', 'matplotlib', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_attack_within_the_certificate_is_refused(ax):
    with pytest.raises(ValueError, match=r"attacked must not be nearer than what is certified, got 1"):
        SandwichDisplay.from_predictions([1.0, 2.0], [1.5, 1.0], ax=ax)


def test_radii_are_all_counted(knn, queries, ax):
    display = RadiusDisplay.from_estimator(knn, *queries, ax=ax)
    tops = [patch.get_y() + patch.get_height() for patch in ax.patches]
    assert sum(patch.get_height() for patch in ax.patches) == pytest.approx(len(queries[0]))
    assert display.correct.mean() == knn.score(*queries)
    assert max(tops) <= len(queries[0])


def test_risk_ends_with_the_error(knn, queries, ax):
    display = RiskCoverageDisplay.from_estimator(knn, *queries, label="radius", ax=ax)
    assert display.curve.risk[-1] == pytest.approx(1 - knn.score(*queries))
    np.testing.assert_array_equal(display.line_.get_ydata(), display.curve.risk)
    assert f"AURC {display.curve.aurc:.3g}" in ax.get_legend().get_texts()[0].get_text()


@pytest.mark.parametrize("norm", ["l2", "linf", "l1", [[2.0, 0.5], [0.5, 1.0]]])
def test_no_ball_leaves_its_region(iris, norm, ax):
    X, y = iris
    X = X[:, 2:]
    knn = CertifiedKNeighborsClassifier(metric=GMML(), norm=norm).fit(X[::2], y[::2])
    display = DecisionRegionDisplay.from_estimator(knn, X[1::8], grid_resolution=30, ax=ax)
    _, radii = knn.predict_with_radius(X[1::8])
    drawn = np.isfinite(display.balls).all(axis=(1, 2))
    np.testing.assert_array_equal(drawn, (radii > 0) & np.isfinite(radii))
    for ball, point, code in zip(display.balls[drawn], display.points[drawn], display.point_codes[drawn]):
        inside = point + (ball - point) * (1 - 1e-9)  # the outline is rounded
        assert set(knn.predict(inside)) == {knn.classes_[code]}
    expected = knn.predict(np.column_stack([display.xx.ravel(), display.yy.ravel()]))
    np.testing.assert_array_equal(knn.classes_[display.codes.ravel()], expected)


def test_regions_are_of_two_features(knn, queries):
    with pytest.raises(ValueError, match=r"X must have shape \(m, 2\)"):
        DecisionRegionDisplay.from_estimator(knn, queries[0])


def test_metric_is_shown_by_spectrum_and_features(ax):
    metric = MahalanobisMetric.from_matrix(np.diag([1.0, 6.0, 3.0]), feature_names=["a", "b", "c"])
    display = MetricDisplay.from_estimator(metric, kind="features", ax=ax)
    np.testing.assert_allclose(display.weights, [0.1, 0.6, 0.3])
    np.testing.assert_allclose([bar.get_width() for bar in ax.patches], [0.1, 0.3, 0.6])
    assert [text.get_text() for text in ax.get_yticklabels()] == ["a", "c", "b"]  # the heaviest on top
    other = Figure().subplots()
    display.plot(other)
    np.testing.assert_allclose(other.lines[0].get_ydata(), [1.0, 0.5, 1 / 6])
    with pytest.raises(ValueError, match='kind must be "spectrum" or "features"'):
        display.plot(other, kind="nothing")


def test_verification_marks_the_threshold(wine, ax):
    X, y = wine
    rows = np.random.default_rng(0).integers(0, len(X), (400, 2))
    pairs, kinds = (X[rows[:, 0]], X[rows[:, 1]]), np.where(y[rows[:, 0]] == y[rows[:, 1]], 1, -1)
    verifier = PairVerifier(GMML()).fit(X, y).calibrate(pairs, kinds, criterion="eer")
    display = VerificationDisplay.from_estimator(verifier, pairs, kinds, ax=ax)
    far, tar = verifier.curve(pairs, kinds).at(verifier.threshold_)
    assert ax.lines[-1].get_xydata().tolist() == [[far, 1 - tar]]
    assert (np.diff(display.line_.get_xdata()) >= 0).all()
    assert (np.diff(display.line_.get_ydata()) <= 0).all()
    display.plot(other := Figure().subplots(), kind="roc")
    assert other.lines[-1].get_xydata().tolist() == [[far, tar]]


def test_components_stand_around_the_circle(ax):
    names, values = ["CA+", "CA-", "QA+", "ES:R"], np.array([100.0, 50.0, 0.0, 25.0])
    display = RobustnessScoreDisplay.from_predictions(names, values, ax=ax)
    x, y = display.line_.get_xdata()[:-1], display.line_.get_ydata()[:-1]
    np.testing.assert_allclose(np.hypot(x, y), values)
    np.testing.assert_allclose([x[0], y[1], x[3]], [0.0, 0.0, -25.0], atol=1e-12)  # the first at the top, clockwise
    assert [text.get_text() for text in ax.texts][-4:] == ["CA+", "CA−", "QA+", "ES:R"]
    spokes = len(ax.lines)
    RobustnessScoreDisplay.from_predictions(names, values / 2, ax=ax)
    assert len(ax.lines) == spokes + 1  # over the same radar
    with pytest.raises(ValueError, match=r"values .*4 numbers from 0 to 100"):
        RobustnessScoreDisplay.from_predictions(names, values + 1)


def test_without_axes_there_is_a_figure():
    display = RadiusDisplay.from_predictions([1.0, 2.0], [True, True])
    assert display.figure_ is display.ax_.figure
    pyplot.close(display.figure_)


@pytest.mark.parametrize(
    ("radii", "correct", "sentence"),
    [
        ([-1.0], [True], "radii must hold sizes of at least 0, got -1.0"),
        ([], [], "radii must have shape"),
        ([1.0, 2.0], [True], "correct must be a bool for each of the 2 queries"),
        ([1.0], [1], "correct must be a bool for each"),
    ],
)
@pytest.mark.parametrize("display", [RadiusDisplay, CertifiedAccuracyDisplay])
def test_wrong_numbers_are_named(display, radii, correct, sentence):
    with pytest.raises(ValueError, match=sentence):
        display.from_predictions(radii, correct)
