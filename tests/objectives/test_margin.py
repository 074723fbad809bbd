"""The margin loss: against its definition, and how it stands to the certificate."""

import numpy as np
import pytest

from certimetric import LMNN, NCA, SCML, MahalanobisMetric, MarginLoss, PerturbationLoss, certified_radius
from certimetric.constraints import nearest_triplets
from certimetric.geometry import resolve_norm
from certimetric.objectives import MetricObjective
from certimetric.objectives.margin import soft_certificate

NORMS = ("l2", "linf", "l1")


@pytest.fixture(scope="module")
def sample():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((50, 3)), np.arange(50) % 3
    return X, y, MahalanobisMetric.from_components(rng.standard_normal((3, 3)))


@pytest.mark.parametrize("norm", NORMS)
def test_signed_margin(sample, norm):
    X, y, metric = sample
    triplets = nearest_triplets(X, y, 3, 4)
    signed = MarginLoss(norm=norm).signed_margin(metric, X, triplets)
    i, j, l = triplets.T
    gap = metric.distance(X[i], X[l]) ** 2 - metric.distance(X[i], X[j]) ** 2
    expected = gap / (2 * resolve_norm(norm).dual_norm((X[l] - X[j]) @ metric.matrix))
    np.testing.assert_allclose(signed, expected, rtol=1e-9)
    assert (signed < 0).any()
    # Where positive it is the adversarial margin; exchanging j and l changes its sign.
    unsigned = PerturbationLoss(norm=norm).adversarial_margin(metric, X, triplets)
    np.testing.assert_allclose(np.maximum(signed, 0), unsigned, rtol=1e-9)
    exchanged = MarginLoss(norm=norm).signed_margin(metric, X, triplets[:, [0, 2, 1]])
    np.testing.assert_allclose(exchanged, -signed, rtol=1e-9)


@pytest.mark.parametrize("kind", ["linear", "hinge", "exponential"])
def test_value_of_triplets(sample, kind):
    X, y, metric = sample
    triplets = nearest_triplets(X, y, 3, 4)
    r = MarginLoss().signed_margin(metric, X, triplets) / 0.7
    expected = {"linear": -r, "hinge": np.maximum(1 - r, 0), "exponential": np.exp(-r)}[kind].mean()
    term = MarginLoss(kind, 2.0, 0.7, margin="triplet").bind(X, triplets)
    value, _ = MetricObjective(X, [term]).in_components(metric.components)
    assert value == pytest.approx(2.0 * expected, rel=1e-9)


@pytest.mark.parametrize("margin", ["certified", "triplet"])
def test_scale_of_the_metric_plays_no_part(sample, margin):
    X, y, metric = sample
    objective = MetricObjective(X, [MarginLoss(margin=margin).bind(X, nearest_triplets(X, y, 3, 4))])
    value, gradient = objective.in_components(metric.components)
    assert objective.in_components(5.0 * metric.components)[0] == pytest.approx(value, rel=1e-9)
    # So the gradient is orthogonal to L itself.
    assert (gradient * metric.components).sum() == pytest.approx(0, abs=1e-9 * np.abs(gradient).max())


def test_soft_certificate_is_a_lower_bound_of_the_certificate(sample):
    # Over all triplets min_l max_j of the margins is the certified radius; the smooth one is below it, by little.
    X, y, metric = sample
    triplets = nearest_triplets(X, y, 50, 50)
    triplets = triplets[np.lexsort((triplets[:, 2], triplets[:, 0]))]
    r = MarginLoss().signed_margin(metric, X, triplets)
    i, _, l = triplets.T
    instances = np.flatnonzero(np.diff(i, prepend=-1))
    opponents = np.flatnonzero((np.diff(i, prepend=-1) != 0) | (np.diff(l, prepend=-1) != 0))
    hard = np.array([min(r[(i == a) & (l == b)].max() for b in np.flatnonzero(y != y[a])) for a in range(len(X))])
    for smoothing in (0.1, 0.01):
        soft, share = soft_certificate(r, opponents, instances, smoothing)
        assert (soft <= hard + 1e-12).all()
        assert (soft >= hard - smoothing * (np.log(50) + np.log(50))).all()
        np.testing.assert_allclose(np.add.reduceat(share, instances), 1, rtol=1e-9)
    right = hard > 0
    np.testing.assert_allclose(certified_radius(metric, X, y, n_neighbors=1)[right], hard[right], rtol=1e-7)


@pytest.mark.parametrize("learner", [LMNN, NCA, SCML])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # few steps are meant
def test_plugs_into_other_learners(wine, learner):
    X, y = wine
    options = {"random_state": 0} if learner is SCML else {}
    plain = learner(**options).fit(X[::2], y[::2])
    robust = learner(perturbation=MarginLoss(weight=5.0), **options).fit(X[::2], y[::2])
    radii = [np.median(certified_radius(fitted, X[::2], y[::2], X[1::2])) for fitted in (plain, robust)]
    assert radii[1] > radii[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "cubic"}, "kind of MarginLoss must be one of 'linear', 'hinge', 'exponential', got 'cubic'"),
        ({"margin": "mean"}, "margin of MarginLoss"),
        ({"scale": 0.0}, "scale of MarginLoss must be 'auto' or a positive number, got 0.0"),
        ({"weight": -1.0}, "weight of MarginLoss must be at least 0"),
        ({"norm": "l3"}, "norm must be one of"),
    ],
)
def test_bad_settings_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        MarginLoss(**options).check()
