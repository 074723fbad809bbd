"""Values whose squares overflow get one sentence that names the scale, never an infinite or undefined figure."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from certimetric import CertifiedKNeighborsClassifier, MahalanobisMetric, certified_radius, minimal_perturbation
from certimetric.attacks import HopSkipJump, RegionAttack
from certimetric.geometry.features import LARGEST, MODEST
from certimetric.learners import make_learner
from certimetric.learners.specs import LEARNERS, REGRESSORS

METRIC = MahalanobisMetric.from_matrix(np.eye(2))
rng = np.random.default_rng(0)
X = rng.normal(size=(20, 2)) + 2 * (np.arange(20) % 2)[:, None]
y = np.arange(20) % 2


def far(value):
    spoilt = X.copy()
    spoilt[3, 1] = value
    return spoilt


def knn(metric=METRIC):
    return CertifiedKNeighborsClassifier(1, metric=metric).fit(X, y)


POINTS = {
    "distance": lambda Z: METRIC.distance(Z, X),
    "pairwise": METRIC.pairwise,
    "transform": METRIC.transform,
    "certified_radius, training set": lambda Z: certified_radius(METRIC, Z, y, X),
    "certified_radius, queries": lambda Z: certified_radius(METRIC, X, y, Z),
    "certified_radius, leave-one-out": lambda Z: certified_radius(METRIC, Z, y),
    "minimal_perturbation": lambda Z: minimal_perturbation(METRIC, X, y, Z).radii,
    "fit": lambda Z: CertifiedKNeighborsClassifier(1).fit(Z, y).predict_with_radius(X)[1],
    "predict_with_radius": lambda Z: knn().predict_with_radius(Z)[1],
    "kneighbors": lambda Z: knn().kneighbors(Z)[0],
}
ATTACKS = {
    "region attack": lambda Z: RegionAttack(1)(knn(), Z[2:5]).distances,
    "hop skip jump": lambda Z: HopSkipJump(1)(knn(), Z[2:5]).distances,
}
LEARN = {
    name: lambda Z, name=name: make_learner(name, random_state=0).fit(Z, y).metric_.transform(X) for name in LEARNERS
}
LEARN |= {name: lambda Z, made=made: made().fit(Z, y).metric_.transform(X) for name, made in REGRESSORS.items()}
LIMITS = [(use, LARGEST) for use in POINTS.values()] + [(use, MODEST) for use in (ATTACKS | LEARN).values()]
cases = pytest.mark.parametrize(("use", "limit"), LIMITS, ids=[*POINTS, *ATTACKS, *LEARN])


@cases
@pytest.mark.parametrize("value", [1e300, -1e300, None])
def test_too_large_values_are_refused(use, limit, value):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match=r"holds the value .*scale the data"):
            use(far(1.1 * limit if value is None else value))


@cases
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # few steps are meant
def test_up_to_the_limit_figures_are_defined(use, limit):
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        assert not np.isnan(use(far(limit))).any()


def test_a_metric_that_makes_large_values_is_told():
    metric = MahalanobisMetric.from_components(1e200 * np.eye(2))
    for use in (metric.transform, metric.pairwise, lambda Z: metric.distance(Z, X[0]), lambda Z: knn(metric)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(ValueError, match="mapped by the metric"):
                use(X)


def test_dask_queries():
    da = pytest.importorskip("dask.array")
    lazy = certified_radius(METRIC, X, y, da.from_array(far(1e300), chunks=(5, 2)))
    with pytest.raises(ValueError, match="scale the data"):
        lazy.compute(scheduler="synchronous")
