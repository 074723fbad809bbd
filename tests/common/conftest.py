"""The attacks on nearest-neighbour predictors and the norms that common tests go through: a new one is in all."""

import numpy as np
import pytest

from certimetric import attacks
from certimetric.attacks import BestOf, HopSkipJump, SmoothedVoteAttack

LIGHT = {
    "region": {"n_opponents": 2},
    "hop-skip-jump": {"n_iterations": 2, "n_queries": 20, "restarts": 2},
    "smoothed-vote": {"steps": 20},
}
ATTACKS = [
    *(kind(**LIGHT.get(name, {})) for name, kind in attacks.ATTACKS.items()),
    BestOf([SmoothedVoteAttack(steps=10, restarts=1), HopSkipJump(n_iterations=1, restarts=1)]),
]
NORMS = ("l2", "linf", "l1", "ellipsoid")


@pytest.fixture(params=ATTACKS, ids=lambda attack: type(attack).__name__)
def attack(request):
    """Each of the attacks in turn."""
    return request.param


@pytest.fixture(params=[pytest.param(norm, marks=pytest.mark.slow) if norm == "l1" else norm for norm in NORMS])
def norm(request):
    """The name of each of the norms in turn."""
    return request.param


def of_features(name, d):
    if name != "ellipsoid":
        return name
    A = np.random.default_rng(0).standard_normal((d, d))
    return A @ A.T / d + np.eye(d)


@pytest.fixture(scope="session")
def make_norm():
    """The norm of this name on so many features: ``make_norm("ellipsoid", 4)``."""
    return of_features
