"""Operating points of pairs: against scikit-learn, and against plain counting."""

import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from certimetric.certify.rates import claimable_far, verification_curve
from certimetric.certify.resampling import ClassCounts, class_intervals
from certimetric.certify.streams import StreamedDistances


def drawn(seed, m=400, ties=False):
    rng = np.random.default_rng(seed)
    genuine = rng.random(m) < 0.3
    genuine[:2] = True, False
    distances = rng.gamma(2.0, size=m) + 1.5 * ~genuine
    return (np.round(distances * 4) / 4 if ties else distances), genuine


def counted(distances, genuine, t):
    """FAR and TAR by counting, pair by pair."""
    accepted = [d <= t for d in distances]
    far = sum(a and not g for a, g in zip(accepted, genuine)) / sum(not g for g in genuine)
    return far, sum(a and g for a, g in zip(accepted, genuine)) / sum(genuine)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_curve_is_that_of_scikit_learn(seed, ties, weighted):
    distances, genuine = drawn(seed, ties=ties)
    weights = np.random.default_rng(seed).random(len(distances)) if weighted else None
    curve = verification_curve(distances, genuine, weights)
    far, tar, scores = roc_curve(genuine, -distances, sample_weight=weights, drop_intermediate=False)
    np.testing.assert_allclose(curve.far, far, atol=1e-12, rtol=0)
    np.testing.assert_allclose(curve.tar, tar, atol=1e-12, rtol=0)
    np.testing.assert_array_equal(curve.thresholds[1:], -scores[1:])
    assert curve.auc == pytest.approx(roc_auc_score(genuine, -distances, sample_weight=weights), abs=1e-12)
    assert curve.auc_error == 0.0


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_points_are_those_of_plain_counting(seed, ties):
    distances, genuine = drawn(seed, 60, ties)
    curve = verification_curve(distances, genuine.astype(int) * 2 - 1)
    candidates = sorted({-np.inf, *distances.tolist()})
    points = [counted(distances, genuine, t) for t in candidates]
    for t, point in zip(candidates, points):
        assert curve.at(t) == point
        assert curve.at(np.nextafter(t, np.inf)) == point
    for target in (0.01, 0.1, 0.25, 0.5, 1.0, points[len(points) // 2][0] or 0.1):
        best = max(t for t, (far, _) in zip(candidates, points) if far <= target)
        assert curve.threshold_at(target) == best
        assert curve.tar_at(target) == counted(distances, genuine, best)[1]
    nearest = min(abs(far - (1 - tar)) for far, tar in points)
    far, tar = curve.at(curve.eer_threshold)
    assert abs(far - (1 - tar)) == pytest.approx(nearest, abs=1e-12)
    # The equal error rate by bisection on the polygon through the points.
    low, high = 0.0, 1.0
    fars, tars = np.array(points).T
    for _ in range(60):
        middle = (low + high) / 2
        place = int(np.searchsorted(fars + tars, 2 * middle))  # along the polygon far + tar increases evenly
        a, b = max(place - 1, 0), place
        share = (2 * middle - fars[a] - tars[a]) / ((fars[b] + tars[b] - fars[a] - tars[a]) or 1.0)
        far, tar = fars[a] + share * (fars[b] - fars[a]), tars[a] + share * (tars[b] - tars[a])
        low, high = (middle, high) if far < 1 - tar else (low, middle)
    assert curve.eer == pytest.approx(far, abs=1e-9)


def test_a_threshold_is_never_looser_than_its_rate():
    # Impostors at equal distance go together: 2 of 4 at 1.0, so that a rate of 0.25 allows none of them.
    curve = verification_curve([0.5, 1.0, 1.0, 2.0, 3.0], [True, False, False, False, False])
    assert curve.threshold_at(0.25) == 0.5 and curve.threshold_at(0.5) == 1.0
    curve = verification_curve([1.0, 1.0], [True, False])
    assert curve.threshold_at(0.5) == -np.inf and curve.tar_at(0.5) == 0.0
    assert curve.auc == 0.5 and curve.eer == 0.5


@pytest.mark.parametrize("kind", ["plain", "ties", "negative", "tiny", "zeros"])
@pytest.mark.parametrize("tail", [10**6, 1000, 37])
def test_a_stream_has_the_points_of_all_pairs_at_once(kind, tail):
    distances, genuine = drawn(0, 3000, ties=kind == "ties")
    if kind == "negative":
        distances -= 4.0
    elif kind == "tiny":
        distances *= 1e-200
    elif kind == "zeros":
        distances = np.where(np.arange(3000) < 500, 0.0, distances)
    stream, backwards = StreamedDistances(tail, bits=8), StreamedDistances(tail, bits=8)
    for rows in np.array_split(np.arange(3000), 13):
        stream.add(distances[rows], genuine[rows])
    for rows in np.array_split(np.arange(3000)[::-1], 4):
        backwards.add(distances[rows].reshape(2, -1), genuine[rows].reshape(2, -1))
    whole, curve = verification_curve(distances, genuine), stream.curve()
    assert (curve.n_genuine, curve.n_impostor) == (whole.n_genuine, whole.n_impostor)
    assert stream.n_impostor == whole.n_impostor
    for name in ("thresholds", "far", "tar"):
        np.testing.assert_array_equal(getattr(curve, name), getattr(backwards.curve(), name))
    for t, far, tar in zip(curve.thresholds, curve.far, curve.tar):
        assert whole.at(t) == (far, tar)
    assert abs(curve.auc - whole.auc) <= curve.auc_error + 1e-12
    below = whole.thresholds < curve.exact_below
    np.testing.assert_array_equal(curve.thresholds[: below.sum()], whole.thresholds[below])
    if tail > 3000:
        np.testing.assert_array_equal(curve.thresholds, whole.thresholds)
        assert curve.exact_below == np.inf
    else:
        assert curve.exact_below < np.inf
        for far in (0.005, 0.3, 0.9):
            assert curve.threshold_at(far) <= whole.threshold_at(far)
            assert tail == 37 or far == 0.9 or curve.threshold_at(far) == whole.threshold_at(far)


def test_a_range_that_grows_by_far_keeps_counts():
    stream = StreamedDistances(1, bits=4)
    stream.add([1e-9, -1e-9, 0.0], [True, False, True])
    stream.add([1e9, 3.0], [True, False])
    curve, whole = stream.curve(), verification_curve([1e-9, -1e-9, 0.0, 1e9, 3.0], [1, -1, 1, 1, -1])
    for t, far, tar in zip(curve.thresholds, curve.far, curve.tar):
        assert whole.at(t) == (far, tar)


def test_claimable_rate():
    # With n pairs and a rate of 3/n, no false accept at all has a probability of about 5 %.
    for n in (100, 10**6):
        assert (1 - claimable_far(n)) ** n == pytest.approx(0.05, abs=0.003)


def subjects_and_distances(seed, n_subjects, spread):
    """Pairs of subjects of which some are harder than others, by ``spread``."""
    rng = np.random.default_rng(seed)
    hardness = spread * rng.standard_normal(n_subjects)
    first, second = (a.ravel() for a in np.indices((n_subjects, n_subjects)))
    first, second = np.tile(first, 3), np.tile(second, 3)
    distances = rng.normal(3.0 * (first != second), 1.0) + hardness[first] + hardness[second]
    return np.stack([first, second], axis=1), distances


def test_intervals_cover_what_other_subjects_give():
    # The rate at a fixed threshold in the population, from many subjects; pairs alone would give far too short ones.
    figures = {"far": lambda curve: curve.at(1.0)[0], "tar": lambda curve: curve.at(1.0)[1]}
    truth = verification_curve(*_with_kind(*subjects_and_distances(99, 400, 0.7)))
    hits = {"far": 0, "tar": 0}
    for seed in range(60):
        subjects, distances = subjects_and_distances(seed, 25, 0.7)
        found = class_intervals(distances, subjects, figures, n_resamples=200, confidence=0.9)
        for name, figure in figures.items():
            hits[name] += found[name]["low"] <= figure(truth) <= found[name]["high"]
    assert min(hits.values()) >= 42  # 90 % of 60 are 54; the percentile method falls short with 25 subjects


def _with_kind(subjects, distances):
    return distances, subjects[:, 0] == subjects[:, 1]


def test_counts_of_classes_are_the_weights_of_pairs():
    subjects, distances = subjects_and_distances(0, 12, 0.5)
    counts = ClassCounts([0.5, 2.0], 12)
    for rows in np.array_split(np.arange(len(distances)), 5):
        counts.add(distances[rows], *subjects[rows].T)
    figures = {f"{side}{t}": (lambda curve, t=t, i=i: curve.at(t)[i]) for i, side in enumerate(("far", "tar"))
               for t in (0.5, 2.0)}  # fmt: skip
    pairs = class_intervals(distances, subjects, figures, n_resamples=50)
    blocks = counts.intervals(n_resamples=50)
    for side in ("far", "tar"):
        for place, t in enumerate((0.5, 2.0)):
            assert blocks[side][place] == pytest.approx(pairs[f"{side}{t}"], abs=1e-12)


def test_results_are_frames_and_json():
    distances, genuine = drawn(0)
    curve = verification_curve(distances, genuine)
    frame = curve.to_frame()
    assert list(frame) == ["threshold", "far", "tar"] and len(frame) == len(distances) + 1
    document = json.loads(curve.to_json())
    assert document["thresholds"][0] is None and document["n_genuine"] == genuine.sum()
    thin = curve.thinned(20)
    assert len(thin.far) <= 24
    for t, far, tar in zip(thin.thresholds, thin.far, thin.tar):
        assert curve.at(t) == (far, tar)
    assert thin.far[-1] == thin.tar[-1] == 1.0


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: verification_curve([1.0, np.nan], [1, -1]), "distances must be finite, got nan"),
        (lambda: verification_curve([1.0, 2.0], [1]), "genuine must say it of each of the 2 pairs"),
        (lambda: verification_curve([1.0, 2.0], [1, 3]), "genuine must be bool, or labels"),
        (lambda: verification_curve([1.0, 2.0], [1, 1]), "there is no impostor pair"),
        (lambda: verification_curve([1.0, 2.0], [-1, -1]), "there is no genuine pair"),
        (
            lambda: verification_curve([1.0, 2.0], [1, -1]).threshold_at(0.0),
            "far must be a rate of false accepts above 0 and at most 1",
        ),
        (
            lambda: verification_curve([1.0, 2.0], [1, -1]).tar_at(np.nan),
            "far must be a rate of false accepts above 0 and at most 1",
        ),
        (lambda: verification_curve([1.0, 2.0], [1, -1]).at(np.nan), "threshold must be a distance, got nan"),
        (lambda: verification_curve([1.0, 2.0], [1, -1], [1.0]), "weights must be one for each of the 2 pairs"),
        (lambda: StreamedDistances().curve(), "there is no genuine pair"),
        (lambda: claimable_far(0), "n_impostor must be a positive number"),
        (lambda: class_intervals([1.0, 2.0], [[1, 1], [1, 1]], {}), "subjects must be at least 2"),
        (lambda: class_intervals([1.0, 2.0], [1, 2], {}), r"subjects must have shape \(m, 2\)"),
    ],
)
def test_bad_input_is_told_in_a_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence) as error:
        call()
    assert "\n" not in str(error.value)
