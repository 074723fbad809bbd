"""A limit in nodes in place of seconds: the same answer however busy the machine is."""

import numpy as np
import pytest
from sklearn.datasets import load_iris

from certimetric import CertifiedKNeighborsClassifier


@pytest.fixture(scope="module")
def fitted():
    X, y = load_iris(return_X_y=True)
    return CertifiedKNeighborsClassifier(n_neighbors=3).fit(X[::2], y[::2]), X[1::10]


def test_more_nodes_close_the_bracket(fitted):
    classifier, X = fitted
    none, few, many = (classifier.minimal_perturbation(X, time_limit=np.inf, node_limit=n) for n in (0, 20, 2000))
    assert not none.proven.all()
    assert many.proven.sum() > few.proven.sum() >= none.proven.sum()
    for less, more in ((none, few), (few, many)):
        assert (less.lower <= more.lower * (1 + 1e-12)).all()
        assert (more.radii <= less.radii * (1 + 1e-12)).all()
    again = classifier.minimal_perturbation(X, time_limit=np.inf, node_limit=20)
    assert np.array_equal(again.radii, few.radii)
    assert np.array_equal(again.lower, few.lower)


def test_a_negative_limit_is_refused(fitted):
    classifier, X = fitted
    with pytest.raises(ValueError, match="node_limit must not be negative, got -1"):
        classifier.minimal_perturbation(X, node_limit=-1)
