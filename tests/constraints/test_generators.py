"""Constraints that labels give: laws of every generator, whatever the labels are called."""

import warnings

import numpy as np
import pytest

from certimetric import RCA
from certimetric.constraints import (
    nearest_triplets,
    random_chunklets,
    random_pairs,
    random_quadruplets,
    random_triplets,
)

RANDOM = {
    "pairs": lambda y, n, seed: random_pairs(y, n, seed)[0],
    "triplets": random_triplets,
    "quadruplets": random_quadruplets,
    "chunklets": lambda y, n, seed: random_chunklets(y, n, random_state=seed),
}
each = pytest.mark.parametrize("name", RANDOM)


def labels(n=60, classes=4, seed=0):
    return np.random.default_rng(seed).integers(0, classes, n)


@each
def test_one_seed_gives_the_same_and_another_does_not(name):
    draw, y = RANDOM[name], labels()
    first = draw(y, 25, 3)
    np.testing.assert_array_equal(draw(y, 25, 3), first)
    np.testing.assert_array_equal(draw(y, 25, np.random.RandomState(3)), first)
    other = draw(y, 25, 4)
    assert other.shape != first.shape or (other != first).any()


@each
def test_what_classes_are_called_does_not_matter(name):
    draw, y = RANDOM[name], labels()
    for renamed in (np.array(list("adxz"))[y], 10 * y - 7, (y + 0.5), list(map(str, y))):
        np.testing.assert_array_equal(draw(renamed, 25, 3), draw(y, 25, 3))


def test_pairs_respect_labels_once_each_and_no_more_than_asked():
    y = labels()
    pairs, kinds = random_pairs(y, 100, 0)
    np.testing.assert_array_equal(kinds, np.where(y[pairs[:, 0]] == y[pairs[:, 1]], 1, -1))
    assert (pairs[:, 0] < pairs[:, 1]).all()
    assert len(np.unique(pairs, axis=0)) == len(pairs)
    assert (kinds == 1).sum() <= 100 >= (kinds == -1).sum()
    assert min((kinds == 1).sum(), (kinds == -1).sum()) > 70  # few are drawn twice


def test_triplets_respect_labels_in_the_order_of_the_draws():
    y = labels()
    triplets = random_triplets(y, 300, 0)
    i, j, l = triplets.T
    assert triplets.shape == (300, 3)
    assert (y[i] == y[j]).all()
    assert (i != j).all()
    assert (y[i] != y[l]).all()


def test_quadruplets_respect_labels_once_each_and_no_more_than_asked():
    y = labels()
    quadruplets = random_quadruplets(y, 300, 0)
    a, b, c, d = quadruplets.T
    assert (y[a] == y[b]).all()
    assert (a != b).all()
    assert (y[c] != y[d]).all()
    assert 250 < len(np.unique(quadruplets, axis=0)) == len(quadruplets) <= 300


@pytest.mark.parametrize("size", [2, 3, 5])
def test_chunklets_are_disjoint_sets_of_one_class_of_the_size_asked_for(size):
    y = labels()
    chunklets = random_chunklets(y, 8, size, random_state=0)
    assert chunklets.shape == y.shape
    assert set(chunklets) == set(range(-1, 8))
    for number in range(8):
        rows = np.flatnonzero(chunklets == number)
        assert len(rows) == size
        assert len(set(y[rows])) == 1
    assert RCA().fit(np.random.default_rng(0).standard_normal((60, 3)), chunklets).n_chunklets_ == 8


def test_nearest_triplets_are_distinct_and_the_same_every_time(rng):
    y = labels()
    X = rng.standard_normal((60, 3))
    triplets = nearest_triplets(X, y, 3, 5)
    i, j, l = triplets.T
    assert (y[i] == y[j]).all()
    assert (y[i] != y[l]).all()
    assert len(np.unique(triplets, axis=0)) == len(triplets) == 60 * 3 * 5
    np.testing.assert_array_equal(nearest_triplets(X, np.array(list("adxz"))[y], 3, 5), triplets)


def test_every_instance_and_every_pair_is_reached():
    y = np.array([2, 0, 1, 0, 2, 1, 0, 3])
    with pytest.warns(UserWarning, match="labels have"):
        pairs, kinds = random_pairs(y, 2000, 0)
    assert len(pairs) == 8 * 7 // 2
    assert (kinds == 1).sum() == 5
    counts = np.bincount(
        np.concatenate([random_chunklets(y, 3, random_state=s) >= 0 for s in range(60)]).nonzero()[0] % 8
    )
    assert (counts[:7] > 0).all()
    assert len(counts) == 7  # the one of its class is in none


@pytest.mark.filterwarnings("ignore:the labels have 5 similar")  # besides what is looked for
@pytest.mark.parametrize(
    ("draw", "told"),
    [
        (lambda y: random_pairs(y, 6, 0), "the labels have 5 similar pairs, fewer than the 6 asked for"),
        (lambda y: random_pairs(y, 30, 0), "the labels have 23 dissimilar pairs, fewer than the 30 asked for"),
        (lambda y: random_quadruplets(y, 461, 0), "the labels have 460 quadruplets, fewer than the 461 asked for"),
        (
            lambda y: random_chunklets(y, 4, random_state=0),
            "the labels have 3 disjoint chunklets of 2, fewer than the 4",
        ),
        (lambda y: random_triplets(np.arange(8), 4, 0), "the labels have 0 triplets, fewer than the 4 asked for"),
        (lambda y: random_triplets(np.zeros(8), 4, 0), "the labels have 0 triplets, fewer than the 4 asked for"),
    ],
)
def test_fewer_than_asked_for_are_said(draw, told):
    y = np.array([2, 0, 1, 0, 2, 1, 0, 3])
    with pytest.warns(UserWarning, match=told):
        draw(y)


def test_as_many_as_there_are_is_no_warning():
    y = np.array([2, 0, 1, 0, 2, 1, 0, 3])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        random_pairs(y, 5, 0)
        random_quadruplets(y, 460, 0)
        assert (random_chunklets(y, 3, random_state=0) >= 0).sum() == 6


@each
@pytest.mark.parametrize("number", [0, -1, 2.5, "3", True])
def test_numbers_and_labels_are_checked_in_one_line(name, number):
    with pytest.raises(ValueError, match=rf"n_{name} must be an integer from 1 on") as error:
        RANDOM[name](labels(), number, 0)
    assert "\n" not in str(error.value)
    for wrong, told in (([], "shape"), ([[0, 1]], "shape"), ([0.0, np.nan], "no label in row 1")):
        with pytest.raises(ValueError, match=told):
            RANDOM[name](wrong, 5, 0)


def test_a_chunklet_has_two_instances_or_more():
    with pytest.raises(ValueError, match="chunklet_size must be 2 or more"):
        random_chunklets(labels(), 3, 1)
