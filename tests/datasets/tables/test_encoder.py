"""Encoders: learned on one table, applied to others, kept as data; and cells that do not belong into a column."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from certimetric.datasets import TableEncoder, fill_gaps, load
from certimetric.datasets.tables.encoding import encode_features, encode_labels, encode_like

PEOPLE = pd.DataFrame(
    {
        "age": [30.0, None, 50.0, 20.0],
        "job": ["smith", "clerk", None, "clerk"],
        "member": [True, False, False, True],
        "height": [1.0, 2.0, 3.0, 5.0],
    }
)
ENCODER = TableEncoder.fit(PEOPLE, where="people.csv")


def test_a_table_is_encoded_as_it_encodes_itself():
    X, names = encode_features(PEOPLE, where="people.csv", encode=True)
    assert names == ENCODER.feature_names
    again, imputed = ENCODER.transform(PEOPLE, where="people.csv")
    np.testing.assert_array_equal(again, X)
    assert np.argwhere(imputed).tolist() == [[1, 0]]
    # Row by row, columns in another order and others among them: a row is encoded as in its table.
    for i in range(len(PEOPLE)):
        row = PEOPLE.iloc[[i], ::-1].assign(extra="x")
        np.testing.assert_array_equal(ENCODER.transform(row, where="new.csv")[0], X[[i]])


def test_it_survives_as_data():
    again = TableEncoder.from_dict(json.loads(json.dumps(ENCODER.to_dict())))
    assert again == ENCODER


@pytest.mark.parametrize(
    "damaged",
    [
        {},
        {"columns": []},
        {"columns": [{"name": "a"}]},
        {"columns": [{"name": "a", "categories": None, "fill": None, "indicator": False}]},
        {"columns": [{"name": "a", "categories": None, "fill": "x", "indicator": False}]},
        {"columns": [{"name": "a", "categories": None, "fill": float("nan"), "indicator": False}]},
        {"columns": [{"name": "a", "categories": ["x"], "fill": 1.0, "indicator": True}]},
        {"columns": [{"name": 1, "categories": ["x"], "fill": None, "indicator": True}]},
        {"columns": 3},
        [],
    ],
)
def test_damaged_data_are_refused(damaged):
    with pytest.raises(ValueError, match="the encoding must list its columns"):
        TableEncoder.from_dict(damaged)


def test_gaps_become_the_medians_of_the_first_table_and_are_told():
    new = pd.DataFrame({"age": [None, 99.0], "job": ["clerk", None], "member": [None, True], "height": [None, None]})
    X, imputed = ENCODER.transform(new, where="new.csv")
    assert X[0].tolist() == [30, 1, 1, 0, 0, 0, 2.5]
    assert imputed.sum() == 4
    assert ENCODER.told(imputed) == (
        "4 missing values filled by medians: 'age' (1, by 30), 'member' (1, by False), 'height' (2, by 2.5)"
    )
    assert ENCODER.told(np.zeros_like(imputed)) is None


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        ({"job": ["baker", "clerk"]}, "holds 'baker', expected one of 'clerk', 'smith'"),
        ({"age": ["old", "young"]}, "'age' (such as 'old' in data row 1)"),
        ({"age": ["40", "4O"]}, "'4O' in data row 2"),
        ({"height": [1.0, np.inf]}, "infinite values in column 'height'"),
        ({"height": None}, "lacks 1 of 4 columns: 'height'"),
    ],
)
def test_what_does_not_fit_is_one_sentence(spoil, told):
    new = pd.DataFrame({"age": [40, 41], "job": ["clerk"] * 2, "member": [True] * 2, "height": [1.0, 2.0]})
    new = new.assign(**{name: values for name, values in spoil.items() if values is not None})
    new = new.drop(columns=[name for name, values in spoil.items() if values is None])
    with pytest.raises(ValueError) as error:
        ENCODER.transform(new, where="new.csv")
    assert told in str(error.value)
    assert "new.csv" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_gap_in_text_that_had_none_is_refused():
    encoder = TableEncoder.fit(pd.DataFrame({"job": ["a", "b"]}), where="a")
    with pytest.raises(ValueError, match="no value in 1 row, first data row 2"):
        encoder.transform(pd.DataFrame({"job": ["a", None]}), where="b")


def test_medians_of_a_training_part():
    X, imputed = ENCODER.transform(PEOPLE, where="a")
    rows = np.array([0, 1, 2])
    filled = fill_gaps(X, imputed, rows)
    expected = X.copy()
    expected[1, 0] = 40.0  # the median of 30 and 50; the 20 of the last row is not in the training part
    np.testing.assert_array_equal(filled, expected)
    assert X[1, 0] == 30  # what was given stays
    assert fill_gaps(X, imputed, np.array([1]))[1, 0] == 30  # nothing known there
    assert fill_gaps(X, np.zeros_like(imputed), rows) is X


def test_a_data_set_says_what_was_filled(tmp_path):
    (tmp_path / "a.csv").write_text("age,size,class\n30,1,a\n,2,b\n50,,a\n70,3,b\n")
    data = load(tmp_path / "a.csv", encode=True)
    assert data.told_gaps == "2 missing values filled by medians: 'age' (1, by 50), 'size' (1, by 2)"
    assert np.argwhere(data.imputed).tolist() == [[1, 0], [2, 2]]
    (tmp_path / "b.csv").write_text("age,class\n30,a\n40,b\n")
    assert load(tmp_path / "b.csv", encode=True).told_gaps is None
    assert load(tmp_path / "b.csv").encoder is None


NUMBERS = [str(value) for value in range(20, 30)]
DIRTY = {
    "12a": ("12a", "write a number"),
    "question mark": ("? ", "leave the cell empty"),
    "n/a": ("n/a ", "leave the cell empty"),
    "dash": ("-", "leave the cell empty"),
    "thousands": ("1,234", "without thousands separators"),
    "millions": ("1,234,567.5", "without thousands separators"),
    "german": ("1.234,5", "a point for decimals"),
    "decimal comma": ("3,5", "a point for decimals"),
    "apostrophe": ("12'345", "without thousands separators"),
    "underscore": ("1_000", "without thousands separators"),
    "space": ("1 000", "without thousands separators"),
    "percent": ("12 %", "without its unit"),
    "dollar": ("$12.50", "without its unit"),
    "letter O": ("1O", "write a number"),
    "hexadecimal": ("0x10", "write a number"),
}


@pytest.mark.parametrize("encode", [False, True])
@pytest.mark.parametrize("what", DIRTY)
def test_one_dirty_cell_is_named(tmp_path, what, encode):
    cell, advice = DIRTY[what]
    rows = [*NUMBERS[:3], cell, *NUMBERS[3:]]
    frame = pd.DataFrame({"size": [1.0] * len(rows), "age": rows})
    with pytest.raises(ValueError) as error:
        encode_features(frame, where="a.csv", encode=encode)
    assert str(error.value).startswith(f"column 'age' of a.csv holds numbers, but {cell!r} in data row 4: ")
    assert advice in str(error.value)
    assert "\n" not in str(error.value)
    # From a file too, where pandas decides on the type.
    frame.assign(y=["a", "b"] * (len(rows) // 2) + ["a"]).to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(ValueError, match="data row 4"):
        load(tmp_path / "a.csv", encode=encode)
    with pytest.raises(ValueError, match="data row 4"):
        encode_like(frame, ["size", "age"], where="a.csv", encode=encode)


@pytest.mark.parametrize("cells", [["1,234", "5,678"], ["3,5", "4,5"], ["5 %", "7 %"], ["€3", "€4"]])
def test_whole_columns_of_dressed_numbers_are_named(cells):
    with pytest.raises(ValueError, match=r"data row 1 \(and 1 cell more of the kind\): write "):
        encode_features(pd.DataFrame({"a": cells}), where="a.csv", encode=True)


@pytest.mark.parametrize(
    "cells",
    [
        ["red", "green", "7"],
        ["12a", "13b", "14a"],
        ["10-20", "20-30", "30+"],
        ["2024-01-01", "2024-01"],
        ["yes", "no", ""],
        pd.Categorical(["0", "1", "3+", "0"]),
    ],
)
def test_categories_stay_categories(cells):
    X, names = encode_features(pd.DataFrame({"a": cells}), where="a.csv", encode=True)
    assert len(names) == len(set(cells))
    np.testing.assert_array_equal(X.sum(axis=1), 1)


@pytest.mark.parametrize("encode", [False, True])
@pytest.mark.parametrize("value", ["9223372036854775808", "18446744073709551616", "-9223372036854775809"])
@pytest.mark.parametrize("other", ["1", "-1"])
def test_integers_beyond_64_bits_are_no_features(tmp_path, value, other, encode):
    (tmp_path / "a.csv").write_text(f"id,y\n{value},a\n{other},b\n")
    with pytest.raises(ValueError, match=f"'id' of .*holds the integer {value}.*identifier"):
        load(tmp_path / "a.csv", encode=encode)


@pytest.mark.parametrize("value", ["9223372036854775808", "18446744073709551616", "-9223372036854775809"])
@pytest.mark.parametrize("other", ["1", "-1"])
def test_integers_beyond_64_bits_are_no_labels(tmp_path, value, other):
    (tmp_path / "a.csv").write_text(f"u,y\n1,{value}\n2,{other}\n")
    with pytest.raises(ValueError, match=f"'y' of .*holds the integer {value}.*64 bits"):
        load(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text("u,y\n1,9223372036854775807\n2,-9223372036854775808\n")
    assert load(tmp_path / "b.csv").y.tolist() == [2**63 - 1, -(2**63)]


def test_classes_that_differ_in_spaces_only():
    with pytest.raises(ValueError, match="differ only in spaces, 'yes' and 'yes '"):
        encode_labels(pd.Series(["yes", "yes ", "no"], name="y"), where="a.csv")


def test_a_class_named_none_is_told(tmp_path):
    (tmp_path / "a.csv").write_text("u,y\n1,None\n2,a\n3,b\n")
    with pytest.raises(ValueError, match=r"no label in 1 row, first in data row 1: .*None are missing"):
        load(tmp_path / "a.csv")


@pytest.mark.parametrize("encode", [False, True])
def test_values_whose_squares_overflow(tmp_path, encode):
    (tmp_path / "a.csv").write_text("u,v,y\n1,2,a\n3,-1e300,b\n")
    with pytest.raises(ValueError, match=r"values beyond 1e\+150 in column 'v' \(1 row, first data row 2\).*scale"):
        load(tmp_path / "a.csv", encode=encode)
