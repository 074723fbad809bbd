"""Constraints of labels: distinct, of the right kinds, seeded, and without instances of unknown classes."""

import numpy as np
import pytest
from sklearn.datasets import load_iris

from certimetric.metric_learn.constraints import Constraints, wrap_pairs

X, y = load_iris(return_X_y=True)
LABELS = np.where(np.arange(len(y)) % 7 == 0, -1, y)


@pytest.mark.parametrize("same_length", [False, True])
def test_pairs(same_length):
    a, b, c, d = Constraints(LABELS).positive_negative_pairs(200, same_length=same_length, random_state=0)
    assert len(a) == len(b) == len(c) == len(d) == 200
    assert (LABELS[a] == LABELS[b]).all()
    assert (LABELS[c] != LABELS[d]).all()
    assert (LABELS[np.concatenate([a, b, c, d])] >= 0).all()
    for some in ((a, b), (c, d)):
        assert len(np.unique(np.sort(np.stack(some, axis=1), axis=1), axis=0)) == 200
    again = Constraints(LABELS).positive_negative_pairs(200, same_length=same_length, random_state=0)
    np.testing.assert_array_equal(a, again[0])


@pytest.mark.filterwarnings("ignore:Only generated 4")
def test_too_few_pairs_are_told():
    with pytest.warns(UserWarning, match="2 positive .*10"):
        a, _, c, _ = Constraints([0, 0, 1, 1]).positive_negative_pairs(10, random_state=0)
    assert (len(a), len(c)) == (2, 4)
    with pytest.warns(UserWarning):
        a, _, c, _ = Constraints([0, 0, 1, 1]).positive_negative_pairs(10, same_length=True, random_state=0)
    assert len(a) == len(c) == 2


def test_wrapped_pairs():
    pairs, kinds = wrap_pairs(X, ([0, 1], [2, 3], [4], [60]))
    np.testing.assert_array_equal(pairs, X[[[0, 2], [1, 3], [4, 60]]])
    assert kinds.tolist() == [1, 1, -1]


@pytest.mark.parametrize(("n_chunks", "size"), [(10, 2), (5, 7), (60, 2)])
def test_chunks(n_chunks, size):
    chunks = Constraints(LABELS).chunks(n_chunks, size, random_state=0)
    assert np.bincount(chunks[chunks >= 0]).tolist() == [size] * n_chunks
    assert all(len(set(LABELS[chunks == chunk])) == 1 for chunk in range(n_chunks))
    assert (chunks[LABELS < 0] == -1).all()


def test_more_chunks_than_there_are_instances_are_refused():
    assert (Constraints([0] * 4 + [1] * 3).chunks(3, 2, random_state=0) >= 0).sum() == 6
    with pytest.raises(ValueError, match="3"):
        Constraints([0] * 4 + [1] * 3).chunks(4, 2)


def test_triplets_are_of_the_nearest():
    triplets = Constraints(LABELS).generate_knntriplets(X, 2, 3)
    known = np.flatnonzero(LABELS >= 0)
    assert len(triplets) == len(known) * 6
    for i in known[::20]:
        own = triplets[triplets[:, 0] == i]
        for column, k, same in ((1, 2, True), (2, 3, False)):
            allowed = known[((LABELS[known] == LABELS[i]) == same) & (known != i)]
            distances = np.sort(np.linalg.norm(X[allowed] - X[i], axis=1))[:k]
            taken = np.unique(own[:, column])
            np.testing.assert_allclose(np.sort(np.linalg.norm(X[taken] - X[i], axis=1)), distances)


def test_classes_too_small_for_triplets_are_told():
    labels = np.r_[np.zeros(2, int), np.ones(20, int)]
    with pytest.warns(UserWarning, match="class 0 has 2"):
        triplets = Constraints(labels).generate_knntriplets(X[:22], 3, 1)
    assert (triplets[:, 0] == 0).sum() == 1
