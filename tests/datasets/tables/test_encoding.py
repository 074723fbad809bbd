"""Text, gaps, booleans and labels: what is refused, and what the encoding makes of them."""

from __future__ import annotations

import datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certimetric.datasets.tables.encoding import encode_features, encode_labels, encode_like

PEOPLE = pd.DataFrame(
    {
        "age": [30.0, None, 50.0, 20.0],
        "job": ["smith", "clerk", None, "clerk"],
        "member": [True, False, True, True],
    }
)


def refused(call, *args, **kwargs):
    with pytest.raises(ValueError) as caught:
        call(*args, where="'a.csv'", **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_numbers_and_booleans_pass_as_they_are():
    frame = pd.DataFrame(
        {
            "i": np.array([1, 2], dtype=np.int8),
            "u": np.array([3, 4], dtype=np.uint64),
            "f": np.array([0.5, 1.5], dtype=np.float32),
            "b": [True, False],
            "I": pd.array([7, 8], dtype="Int64"),
            "B": pd.array([False, True], dtype="boolean"),
            "d": [Decimal("0.25"), Decimal("1")],
        }
    )
    X, names = encode_features(frame, where="a")
    assert names == tuple(frame.columns)
    np.testing.assert_array_equal(X, [[1, 3, 0.5, 1, 7, 0, 0.25], [2, 4, 1.5, 0, 8, 1, 1]])
    assert X.dtype == np.float64
    assert X.flags.c_contiguous


def test_text_and_gaps_are_named_with_what_to_do():
    message = refused(encode_features, PEOPLE)
    assert "text in column 'job' (such as 'smith' in data row 1)" in message
    assert "missing values (NaN) in column 'age' (1 row, first data row 2), 'job' (1 row, first data row 3)" in message
    assert "encode=True" in message
    assert "'member'" not in message


def test_encoding_on_request():
    X, names = encode_features(PEOPLE, where="a", encode=True)
    assert names == ("age", "age is missing", "job=clerk", "job=smith", "job is missing", "member")
    np.testing.assert_array_equal(
        X, [[30, 0, 0, 1, 0, 1], [30, 1, 1, 0, 0, 0], [50, 0, 0, 0, 1, 1], [20, 0, 1, 0, 0, 1]]
    )


def test_encoding_does_not_depend_on_the_order_of_rows():
    order = [2, 0, 3, 1]
    X, names = encode_features(PEOPLE, where="a", encode=True)
    shuffled, same_names = encode_features(PEOPLE.iloc[order], where="a", encode=True)
    assert same_names == names
    np.testing.assert_array_equal(shuffled, X[order])


def test_encoding_leaves_numbers_alone():
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": [True, False]})
    plain, encoded = (encode_features(frame, where="a", encode=encode) for encode in (False, True))
    assert plain[1] == encoded[1]
    np.testing.assert_array_equal(plain[0], encoded[0])


def test_categorical_columns_are_text_whatever_their_categories():
    frame = pd.DataFrame({"c": pd.Categorical([2, 1, 2], categories=[1, 2, 3])})
    assert "text in column 'c' (such as '2' in data row 1)" in refused(encode_features, frame)
    X, names = encode_features(frame, where="a", encode=True)
    assert names == ("c=1", "c=2")  # a category that no row has makes no column
    np.testing.assert_array_equal(X, [[0, 1], [1, 0], [0, 1]])


def test_booleans_with_gaps_need_the_encoding():
    frame = pd.DataFrame({"b": pd.Series([True, None, True, False], dtype=object)})
    assert "missing values (NaN) in column 'b'" in refused(encode_features, frame)
    X, names = encode_features(frame, where="a", encode=True)
    assert names == ("b", "b is missing")
    np.testing.assert_array_equal(X, [[1, 0], [1, 1], [1, 0], [0, 0]])


def test_identifiers_are_not_encoded():
    def frame(distinct):
        return pd.DataFrame({"key": [f"id{i}" for i in range(distinct)]})

    assert encode_features(frame(50), where="a", encode=True)[0].shape == (50, 50)
    message = refused(encode_features, frame(51), encode=True)
    assert "column 'key'" in message
    assert "51 distinct texts" in message
    assert "identifier" in message


@pytest.mark.parametrize("encode", [False, True])
def test_infinite_values_are_never_encoded(encode):
    frame = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": [0.0, -np.inf, np.inf]})
    message = refused(encode_features, frame, encode=encode)
    assert "infinite values in column 'b' (2 rows, first data row 2)" in message


@pytest.mark.parametrize("encode", [False, True])
@pytest.mark.parametrize(
    ("values", "what"),
    [
        (pd.to_timedelta([1, 2], unit="s"), "durations"),
        ([datetime.time(12), None], "type time"),
        ([[1, 2], [3, 4]], "type list"),
        ([b"a", b"b"], "type bytes"),
        ([1 + 2j, 0j], "complex numbers"),
    ],
)
def test_other_things_are_refused_by_name(values, what, encode):
    message = refused(encode_features, pd.DataFrame({"a": [1, 2], "odd": values}), encode=encode)
    assert "column 'odd'" in message
    assert what in message


def test_a_column_without_any_value():
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": [np.nan, np.nan]})
    assert "missing values (NaN) in column 'b' (2 rows" in refused(encode_features, frame)
    assert "column 'b' of 'a.csv' has no value in any row" in refused(encode_features, frame, encode=True)


def test_a_column_of_nothing_but_untyped_gaps():
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": pd.Series([None, None], dtype=object)})
    assert "missing values (NaN) in column 'b' (2 rows" in refused(encode_features, frame)


def test_a_text_column_of_nothing_but_gaps():
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": pd.Series([None, None], dtype="string")})
    assert "missing values (NaN) in column 'b' (2 rows" in refused(encode_features, frame)


def test_no_feature_column():
    assert "no feature column" in refused(encode_features, pd.DataFrame(index=range(3)))


def test_encoded_names_that_meet_a_column():
    frame = pd.DataFrame({"sex": ["f", "m"], "sex=f": [1, 0]})
    assert "same name: 'sex=f'" in refused(encode_features, frame, encode=True)


def test_long_lists_of_columns_are_cut():
    frame = pd.DataFrame({f"c{i}": ["x", "y"] for i in range(100)})
    message = refused(encode_features, frame)
    assert "and 92 more" in message
    assert len(message) < 600


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), st.floats(-1e6, 1e6)),
            st.one_of(st.none(), st.sampled_from(["a", "b=c", "", "ä", " is missing"])),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_one_hot_rows_add_up_to_one_and_values_survive(rows):
    # Property: every text row is in exactly one of its columns; every number that was there is unchanged.
    frame = pd.DataFrame(
        {
            "number": pd.Series([row[0] for row in rows], dtype="float64"),
            "text": pd.Series([row[1] for row in rows], dtype=object),
        }
    )
    if frame.isna().all().any():
        assert "no value in any row" in refused(encode_features, frame, encode=True)
        return
    X, names = encode_features(frame, where="a", encode=True)
    hot = X[:, [i for i, name in enumerate(names) if name.startswith("text")]]
    np.testing.assert_array_equal(hot.sum(axis=1), 1)
    there = frame["number"].notna().to_numpy()
    np.testing.assert_array_equal(X[there, 0], frame["number"].to_numpy()[there])
    if not there.all():
        np.testing.assert_array_equal(X[:, names.index("number is missing")], ~there)


# ---- a second table with the features of the first ----


def test_every_row_of_the_first_table_is_encoded_alike_when_it_comes_alone():
    # Rows with a missing number are left out: the median is the first table's.
    X, names = encode_features(PEOPLE, where="a", encode=True)
    for i in np.flatnonzero(PEOPLE["age"].notna()):
        alone = PEOPLE.iloc[[i]][["member", "job", "age"]]
        np.testing.assert_array_equal(encode_like(alone, names, where="b", encode=True), X[[i]])


def test_columns_are_put_in_order_and_others_ignored():
    frame = pd.DataFrame({"note": ["x", None], "v": [1, 2], "u": [True, False]})
    np.testing.assert_array_equal(encode_like(frame, ["u", "v"], where="a"), [[1, 1], [0, 2]])


def test_missing_features_are_named_with_the_closest():
    frame = pd.DataFrame({"lenght": [1.0], "width": [2.0]})
    message = refused(encode_like, frame, ["length", "width"])
    assert "lacks 1 of 2 features: 'length' (did you mean 'lenght'?)" in message
    assert "'lenght', 'width'" in message


def test_encoded_features_without_encode_say_so():
    message = refused(encode_like, PEOPLE, ["age", "job=clerk", "job is missing"])
    assert "lacks 2 of 3 features: 'job=clerk', 'job is missing'" in message
    assert "encode=True" in message


def test_a_text_that_the_features_do_not_know():
    frame = pd.DataFrame({"job": ["clerk", "baker", "smith"]})
    message = refused(encode_like, frame, ["job=clerk", "job=smith"], encode=True)
    assert "column 'job' of 'a.csv' holds 'baker', expected one of 'clerk', 'smith'" in message


def test_a_missing_text_needs_its_indicator():
    frame = pd.DataFrame({"job": ["clerk", None]})
    np.testing.assert_array_equal(
        encode_like(frame, ["job=clerk", "job is missing"], where="a", encode=True), [[1, 0], [0, 1]]
    )
    message = refused(encode_like, frame, ["job=clerk"], encode=True)
    assert "no value in 1 row" in message
    assert "'job is missing'" in message


def test_a_missing_number_cannot_be_filled_from_the_queries():
    frame = pd.DataFrame({"age": [None, 40.0]})
    message = refused(encode_like, frame, ["age", "age is missing"], encode=True)
    assert "missing values (NaN) in column 'age' (1 row, first data row 1)" in message
    assert "encode=True" not in message


def test_categories_that_look_like_numbers_in_the_queries():
    # A training column of "1", "2", "x" is text; queries that hold only 1 and a gap are read as floats.
    frame = pd.DataFrame({"code": [1.0, np.nan]})
    names = ["code=1", "code=2", "code=x", "code is missing"]
    np.testing.assert_array_equal(encode_like(frame, names, where="a", encode=True), [[1, 0, 0, 0], [0, 0, 0, 1]])


def test_texts_with_an_equals_sign():
    frame = pd.DataFrame({"rule": ["a=b", "c"]})
    X, names = encode_features(frame, where="a", encode=True)
    np.testing.assert_array_equal(encode_like(frame, names, where="a", encode=True), X)


def test_text_where_a_number_is_expected():
    message = refused(encode_like, pd.DataFrame({"age": ["old", "young"]}), ["age"], encode=True)
    assert "text in column 'age' (such as 'old' in data row 1)" in message


def test_infinite_queries():
    assert "infinite" in refused(encode_like, pd.DataFrame({"a": [np.inf]}), ["a"])


# ---- labels ----


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ([1, 2, 2], [1, 2, 2]),
        ([1.0, -1.0, 1.0], [1, -1, 1]),
        ([True, False, True], [1, 0, 1]),
        (["b", "a", "b"], ["b", "a", "b"]),
        (pd.Categorical(["2", "1", "2"]), ["2", "1", "2"]),
        (pd.Categorical([2, 1, 2]), [2, 1, 2]),
        (pd.array([1, 2, 1], dtype="Int64"), [1, 2, 1]),
        (["1", "01", "x"], ["1", "01", "x"]),
    ],
)
def test_labels_stay_what_they_were(column, expected):
    y = encode_labels(pd.Series(column, name="y"), where="a")
    assert y.tolist() == expected
    assert y.dtype.kind == ("i" if isinstance(expected[0], int) else "U")


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ([0.5, 1.0, 2.25], ["fractions such as 0.5", "regression target"]),
        ([1.0, np.nan, np.nan], ["no label in 2 rows", "first in data row 2"]),
        (["a", None, "b"], ["no label in 1 row,", "first in data row 2"]),
        ([1.0, np.inf, 0.0], ["infinite"]),
        ([1e300, 1.0, 0.0], ["2**53"]),
        (pd.to_datetime(["2024-01-01"] * 3), ["dates or times"]),
    ],
)
def test_what_cannot_be_a_label(column, words):
    message = refused(encode_labels, pd.Series(column, name="price"))
    assert "target column 'price' of 'a.csv'" in message
    for word in words:
        assert word in message
