"""Of several attacks the nearest point counts."""

import numpy as np
import pytest

from certimetric import CertifiedKNeighborsClassifier
from certimetric.attacks import BestOf, HopSkipJump, SmoothedVoteAttack


@pytest.mark.parametrize("norm", ["l2", *(pytest.param(norm, marks=pytest.mark.slow) for norm in ("linf", "l1"))])
def test_is_the_nearest_of_all(wine, norm):
    X, y = wine
    knn = CertifiedKNeighborsClassifier(3).fit(X[::2], y[::2])
    attacks = [HopSkipJump(3), SmoothedVoteAttack(30, 2)]
    results = [attack(knn, X[1::8], threat=norm) for attack in attacks]
    nearest = np.argmin([result.distances for result in results], axis=0)
    assert set(nearest) == {0, 1}  # each attack wins somewhere, so that this tests something
    points = np.stack([result.adversarial for result in results])
    for order in (1, -1):
        both = BestOf(attacks[::order])(knn, X[1::8], threat=norm)
        np.testing.assert_array_equal(both.distances, np.minimum(*(result.distances for result in results)))
        np.testing.assert_array_equal(both.adversarial, points[nearest, np.arange(len(nearest))])


def test_bad_settings():
    with pytest.raises(ValueError, match="attacks must hold at least one attack"):
        BestOf([])
    with pytest.raises(TypeError, match="attacks must hold attack objects, got 'hsj'"):
        BestOf([HopSkipJump(), "hsj"])
