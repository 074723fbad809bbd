"""Tables as people have them: marks, encodings, words for what is missing, dates, Excel, frames of other libraries."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from certimetric import MahalanobisMetric
from certimetric.datasets import Encoding, Reading, TableEncoder, load, read_table
from certimetric.datasets.tables.frames import as_pandas

GERMAN = "name;betrag;seit;aktiv;klasse\nMüller, A;1.234,5;2020-01-31;ja;a\nX;7,25;n.v.;nein;b\nY;12;2021-02-28;ja;a\n"


def written(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


def test_one_table_however_it_is_written(tmp_path):
    reading = Reading(decimal="comma", thousands="point", na=("n.v.",))
    frames = [
        read_table(written(tmp_path / "a.csv", GERMAN, "utf-8-sig"), reading),
        read_table(written(tmp_path / "b.csv", GERMAN, "utf-16"), reading),
        read_table(
            written(tmp_path / "c.csv", GERMAN, "cp1252"), Reading(**{**reading.to_dict(), "encoding": "cp1252"})
        ),
        read_table(written(tmp_path / "d.csv", GERMAN.replace(";", "|")), reading),
    ]
    for frame in frames:
        pd.testing.assert_frame_equal(frame, frames[0])
    assert frames[0]["betrag"].tolist() == [1234.5, 7.25, 12.0]
    assert frames[0]["seit"].isna().tolist() == [False, True, False]
    assert frames[0]["name"][0] == "Müller, A"


@pytest.mark.parametrize(
    ("cells", "kept"),
    [
        (["1.234", "12.03.2018"], False),
        (["1.234", "1.23"], False),
        (["1.234", "-12.345.678"], True),
        (["5", "17"], True),
    ],
)
def test_thousands_are_groups_of_three_throughout(tmp_path, cells, kept):
    file = written(tmp_path / "a.csv", "a;b\n" + "".join(f"{cell};1\n" for cell in cells))
    values = read_table(file, Reading(decimal=",", thousands="."))["a"]
    assert (values.dtype.kind in "if") == kept
    if kept:
        assert values.tolist() == [float(cell.replace(".", "")) for cell in cells]


def test_what_is_not_said_is_not_guessed(tmp_path):
    file = written(tmp_path / "a.csv", "u;class\n1,5;a\n2,5;b\n")
    with pytest.raises(ValueError, match=r"'1,5' in data row 1 .*--read decimal="):
        load(file)
    np.testing.assert_array_equal(load(file, reading=Reading(decimal=",")).X.ravel(), [1.5, 2.5])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"delimiter": "--"}, "delimiter must be one character"),
        ({"thousands": "a"}, "thousands must be one character"),
        ({"decimal": ";"}, "decimal must be a point or a comma"),
        ({"thousands": "point"}, "thousands and decimal must be different marks"),
        ({"encoding": "klingon"}, "encoding must be one that Python knows"),
    ],
)
def test_marks_that_make_no_sense(options, told):
    with pytest.raises(ValueError, match=told):
        Reading(**options)


def test_columns_are_dropped_by_name(tmp_path):
    file = written(tmp_path / "a.csv", "id,u,class\nx1,1,a\nx2,2,b\n")
    assert load(file, reading=Reading(drop=("id",))).feature_names == ("u",)
    with pytest.raises(ValueError, match="drop names the column 'ids', which is not there \\(did you mean 'id'"):
        load(file, reading=Reading(drop=("ids",)))
    for name in ("iris", "openml:iris"):
        with pytest.raises(ValueError, match="which is none"):
            load(name, reading=Reading(drop=("id",)))


def test_labels_are_held_against_their_own_column(tmp_path):
    """Columns before that of the labels are left out: what is spelled in two ways is found all the same."""
    file = written(tmp_path / "a.csv", "id,u,class\n7,1,01\n8,2,1\n9,3,2\n")
    with pytest.raises(ValueError, match="spells one number in more ways than one, '01' and '1'"):
        load(file, reading=Reading(drop=("id",)))
    fine = written(tmp_path / "b.csv", "id,u,class\n01,1,1\n1,2,1\n1,3,2\n")
    assert load(fine, reading=Reading(drop=("id",))).y.tolist() == [1, 1, 2]


def test_a_reading_survives_as_data():
    reading = Reading(delimiter="tab", decimal="comma", na=("n/a", "-999"), drop=("id",))
    assert Reading.from_dict(reading.to_dict()) == Reading(delimiter="\t", decimal=",", na=("n/a", "-999"))
    with pytest.raises(ValueError, match="the reading must tell"):
        Reading.from_dict({"mark": ";"})


def people():
    return pd.DataFrame(
        {
            "since": ["2020-01-31", None, "2020-03-01", "1969-12-31 12:00"],
            "owner": ["yes", "No", None, "yes"],
            "size": ["S", "L", "M", None],
            "shop": [7, 12, 7, 12],
            "born": pd.to_datetime(["2000-01-01", "2001-01-01", None, "1999-06-01"]),
        }
    )


def test_dates_truths_and_orders():
    encoding = Encoding(ordinal={"size": ["S", "M", "L"]}, categorical=["shop"])
    encoder = TableEncoder.fit(people(), encoding)
    X, imputed = encoder.transform(people())
    table = pd.DataFrame(X, columns=encoder.feature_names)
    assert table["since"].tolist() == [18292, 18292, 18322, -0.5]  # the gap at the median day
    assert table["owner"].tolist() == [1, 0, 1, 1]  # and at the more frequent of the two
    assert table["size"].tolist() == [0, 2, 1, 1]
    assert table["shop=12"].tolist() == [0, 1, 0, 1]
    assert imputed.sum() == 4
    # What is decoded is the table, in one spelling.
    back = encoder.decode(X)
    assert back["since"].tolist() == ["2020-01-31", None, "2020-03-01", "1969-12-31T12:00:00"]
    assert back["owner"].tolist() == ["yes", "No", None, "yes"]
    assert back["size"].tolist() == ["S", "L", "M", None]
    np.testing.assert_array_equal(encoder.transform(back)[0], X)


def test_dates_that_stand_for_always_and_never():
    frame = pd.DataFrame({"until": ["0001-01-01", "9999-12-31", None, "2020-01-31"]})
    encoder = TableEncoder.fit(frame)
    X, _ = encoder.transform(frame)
    assert X[:, 0].tolist() == [-719162, 2932896, 18292, 18292]
    assert encoder.decode(X)["until"].tolist() == ["0001-01-01", "9999-12-31", None, "2020-01-31"]


def test_a_category_that_is_named_may_look_like_numbers():
    frame = pd.DataFrame({"children": ["0", "1", "2", "3+"]})
    with pytest.raises(ValueError, match="holds numbers, but '3\\+'"):
        TableEncoder.fit(frame)
    encoder = TableEncoder.fit(frame, Encoding(categorical=["children"]))
    np.testing.assert_array_equal(encoder.transform(frame)[0], np.eye(4))


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        ("since", "31.01.2020", "must hold dates, such as 2024-01-31"),
        ("since", "2020-02-30", "must hold dates"),
        ("owner", "maybe", "holds 'maybe', expected yes or no"),
        ("size", "XL", "holds 'XL', expected one of 'S', 'M', 'L'"),
        ("shop", 9, "holds '9', expected one of '12', '7'"),
    ],
)
def test_other_cells_of_a_new_table_are_named(column, value, told):
    encoder = TableEncoder.fit(people(), Encoding({"size": ["S", "M", "L"]}, ["shop"]))
    new = people().iloc[[0]].astype(object)
    new[column] = [value]
    with pytest.raises(ValueError, match=f"column '{column}' of new.csv {told}"):
        encoder.transform(new, where="new.csv")


@pytest.mark.parametrize(
    ("encoding", "told"),
    [
        (Encoding({"sise": ["S", "L"]}), "'sise', which is not there \\(did you mean 'size'"),
        (Encoding({"size": ["S"]}), "the order of column 'size'"),
        (Encoding({"shop": ["7", "12"]}, ["shop"]), "tells of column 'shop' twice"),
    ],
)
def test_encodings_that_make_no_sense(encoding, told):
    with pytest.raises(ValueError, match=told):
        TableEncoder.fit(people(), encoding)


def test_frames_of_arrow():
    pa = pytest.importorskip("pyarrow")
    frame = people()[["shop", "owner"]]
    table = pa.Table.from_pandas(frame)
    assert as_pandas(table)["owner"].tolist()[0] == "yes"
    encoder = TableEncoder.fit(table)
    np.testing.assert_array_equal(encoder.transform(table)[0], encoder.transform(frame)[0])
    # By name, where a metric knows its features: not by position.
    metric = MahalanobisMetric.from_components(np.diag([1.0, 3.0]), feature_names=["a", "b"])
    swapped = pa.table({"b": [1.0, 2.0], "a": [5.0, 7.0]})
    np.testing.assert_array_equal(metric.transform(swapped), [[5, 3], [7, 6]])
    with pytest.raises(TypeError, match="a data frame is needed, got list"):
        as_pandas([1])


def test_frames_of_polars():
    pl = pytest.importorskip("polars")
    pytest.importorskip("pyarrow")
    assert as_pandas(pl.DataFrame({"a": [1, 2]}))["a"].tolist() == [1, 2]


def test_excel(tmp_path):
    pytest.importorskip("openpyxl")
    frame = people().drop(columns="born").assign(klass=list("abab"))
    frame.to_excel(tmp_path / "a.xlsx", index=False)
    read = read_table(tmp_path / "a.xlsx")
    pd.testing.assert_frame_equal(read, frame, check_dtype=False)
    assert load(tmp_path / "a.xlsx", target="klass", encode=True).n_features == 9
    (tmp_path / "b.xlsx").write_bytes(b"no zip")
    with pytest.raises(ValueError, match=r"cannot read .*b.xlsx' as Excel"):
        read_table(tmp_path / "b.xlsx")


def test_excel_without_its_package(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "openpyxl", None)
    (tmp_path / "a.xlsx").write_bytes(b"PK")
    with pytest.raises(OSError, match=r"pip install 'certimetric\[excel\]'"):
        read_table(tmp_path / "a.xlsx")
