"""Random pairs: of the right kind, distinct, and all of them reachable."""

import numpy as np
import pytest

from certimetric.constraints import random_pairs

pytestmark = pytest.mark.filterwarnings("ignore:the labels have:UserWarning")  # more than there are is meant


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_labels_are_right_and_pairs_distinct(rng, classes):
    y = rng.integers(0, classes, 50)
    pairs, labels = random_pairs(y, 200, np.random.RandomState(0))
    np.testing.assert_array_equal(labels, np.where(y[pairs[:, 0]] == y[pairs[:, 1]], 1, -1))
    assert (pairs[:, 0] < pairs[:, 1]).all()
    assert len(np.unique(pairs, axis=0)) == len(pairs)
    assert {-1, 1} <= set(labels.tolist())


def test_enough_draws_give_every_pair(rng):
    y = np.array([2, 0, 1, 0, 2, 1, 0, 3])  # class 3 has one member: no similar pair, but dissimilar ones
    pairs, labels = random_pairs(y, 2000, np.random.RandomState(0))
    assert len(pairs) == 8 * 7 // 2
    assert (labels == 1).sum() == 3 + 1 + 1
    assert (labels[(pairs == 7).any(axis=1)] == -1).all()


def test_no_similar_pairs_where_every_class_has_one_member():
    pairs, labels = random_pairs(np.arange(4), 100, np.random.RandomState(0))
    assert len(pairs) == 6
    assert (labels == -1).all()
