"""Labels that do not match are told before the work, with what was probably meant."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

from certimetric import CertifiedKNeighborsClassifier, certified_radius, minimal_perturbation
from certimetric.attacks import BestOf, HopSkipJump, RegionAttack
from certimetric.constraints.labels import checked_labels, compare_labels, unknown_labels

X = np.array([[0.0], [1.0], [4.0], [5.0]])
QUERIES = np.array([[0.5], [4.5]])


@pytest.mark.parametrize(
    ("known", "asked", "told"),
    [
        ([1, 2], ["01", "02"], "'01' (probably 1)"),
        (["1", "2"], [1, 2], "1 (probably '1')"),
        (["1", "2"], ["1.0", "2.0"], "'1.0' (probably '1')"),
        (["no", "yes"], ["No", "Yes"], "'Yes' (probably 'yes')"),
        (["no", "yes"], ["no ", "yes "], "'no ' (probably 'no')"),
        ([0, 1], ["True", "False"], "'True' (probably 1)"),
        (["a", "b"], ["c", "d"], "'c'"),
    ],
)
def test_what_differs_is_told_with_what_was_meant(known, asked, told):
    found = unknown_labels(known, asked)
    assert found is not None
    assert told in found.sentence
    assert found.none_known
    assert found.rows == 2
    knn = CertifiedKNeighborsClassifier(1).fit(X, np.repeat(known, 2))
    for use in (
        lambda: knn.correctness_radius(QUERIES, asked),
        lambda: knn.certified_accuracy(QUERIES, asked, [0.0]),
        lambda: RegionAttack(1)(knn, QUERIES, asked),
        lambda: BestOf([HopSkipJump(1)])(knn, QUERIES, asked),
    ):
        with pytest.raises(ValueError, match="have a label unknown to"):
            use()


@pytest.mark.parametrize(
    ("known", "asked"), [([0, 1], [0.0, 1.0]), ([0.0, 1.0], [0, 1]), ([False, True], [0, 1]), ([0, 1], [True, False])]
)
def test_equal_numbers_are_the_same_label(known, asked):
    assert unknown_labels(known, asked) is None
    knn = CertifiedKNeighborsClassifier(1).fit(X, np.repeat(known, 2))
    expected = float(np.mean(np.asarray(asked) == np.asarray(known)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert knn.certified_accuracy(QUERIES, asked, 0.0) == expected


def test_a_new_class_is_wrong_and_said():
    knn = CertifiedKNeighborsClassifier(1).fit(X, ["a", "a", "b", "b"])
    with pytest.warns(UserWarning, match=r"1 of 2 rows of y have a label unknown to the training data: 'c'"):
        assert knn.certified_accuracy(QUERIES, ["a", "c"], 0.0) == 0.5
    with pytest.warns(UserWarning, match="unknown to the predictor: 'c'"):
        assert RegionAttack(1)(knn, QUERIES, ["a", "c"]).distances[1] == 0


MISSING = {
    "None": ["a", None, "b", "b"],
    "NaN": [0.0, np.nan, 1.0, 1.0],
    "NA": pd.Series([0, None, 1, 1], dtype="Int64"),
    "text": pd.Series(["a", None, "b", "b"]),
}


@pytest.mark.parametrize("what", MISSING)
def test_missing_labels_are_refused_with_their_row(what):
    with pytest.raises(ValueError, match="row 1"):
        checked_labels(MISSING[what])
    for use in (certified_radius, minimal_perturbation):
        with pytest.raises(ValueError, match="y_train has no label in row 1"):
            use(CertifiedKNeighborsClassifier(1).fit(X, [0, 0, 1, 1]).metric_, X, MISSING[what], QUERIES)


@pytest.mark.parametrize("large", [[2**63, 1], [2**64, 1], [-(2**63) - 1, 1], [2**63, -1]])
def test_integers_beyond_64_bits_are_refused(large):
    with pytest.raises(ValueError, match="64 bits"):
        checked_labels(large)
    with pytest.raises(ValueError, match="64 bits"):
        CertifiedKNeighborsClassifier(1).fit(X, np.repeat(np.asarray(large), 2))
    assert checked_labels([2**63 - 1, -(2**63)]).tolist() == [2**63 - 1, -(2**63)]


def test_text_and_numbers_do_not_mix():
    with pytest.raises(ValueError, match="mixes text and other labels such as 1"):
        checked_labels(np.array(["a", 1], dtype=object))


def test_the_class_none_is_a_text():
    assert checked_labels(["None", "a"]).tolist() == ["None", "a"]


def test_long_lists_stay_one_sentence():
    found = unknown_labels(range(50), [f"x{i}" for i in range(50)])
    assert "and 46 more" in found.sentence
    assert "and 44 more" in found.sentence
    assert compare_labels([1, 2], [1, 2]).tolist() == [1, 2]
