"""Reading files: what is read, and one line for everything that cannot be."""

from __future__ import annotations

import gzip
import sys

import numpy as np
import pandas as pd
import pytest

from certimetric.datasets import load, read_table
from certimetric.datasets.tables import files as tables
from certimetric.datasets.tables.files import file_type, pick_target

CSV = "u,v,target\n1,2.5,a\n3,4.5,b\n"


def refused(path, error=ValueError):
    with pytest.raises(error) as caught:
        read_table(path)
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message
    return message


def write(folder, content, name="a.csv"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", CSV.encode()),
        ("A.CSV", CSV.encode()),
        ("a.csv.gz", gzip.compress(CSV.encode(), mtime=0)),
        ("a.gz", gzip.compress(CSV.encode(), mtime=0)),
        ("zipped.csv", gzip.compress(CSV.encode(), mtime=0)),  # the content says gzip, whatever the name
        ("plain.csv.gz", CSV.encode()),
        ("a.tsv", CSV.replace(",", "\t").encode()),
        ("semicolons.csv", CSV.replace(",", ";").encode()),
        ("windows.csv", CSV.replace("\n", "\r\n").encode()),
        ("bom.csv", b"\xef\xbb\xbf" + CSV.encode()),
        ("blank-lines.csv", ("\n \n" + CSV.replace("\n", "\n\n")).encode()),
        ("spaces.csv", CSV.replace(",", ", ").encode()),
        ("quoted.csv", b'"u","v","target"\n"1","2.5","a"\n3,4.5,"b"\n'),
        ("no-newline-at-end.csv", CSV.rstrip().encode()),
    ],
)
def test_the_same_table_in_many_dresses(tmp_path, name, content):
    frame = read_table(write(tmp_path, content, name))
    assert list(frame.columns) == ["u", "v", "target"]
    assert frame["u"].tolist() == [1, 3]
    assert frame["v"].tolist() == [2.5, 4.5]
    assert frame["target"].tolist() == ["a", "b"]


def test_numbers_are_read_exactly(tmp_path):
    # repr gives the shortest text that reads back as the same float; a fast, inexact parser misses some.
    values = np.random.default_rng(0).normal(size=2000) * 10.0 ** np.arange(-100, 100).repeat(10)
    frame = read_table(write(tmp_path, "x\n" + "\n".join(map(repr, values.tolist()))))
    np.testing.assert_array_equal(frame["x"].to_numpy(), values)


def test_missing_cells_stay_missing_and_text_stays_text(tmp_path):
    frame = read_table(write(tmp_path, "a,b,c\n1,x,\n?,NA,2\n3, ?,nan\n"))
    assert frame.isna().to_numpy().tolist() == [
        [False, False, True],
        [True, True, False],
        [False, True, True],
    ]
    assert frame["b"][0] == "x"


def test_quoted_cells_may_hold_delimiters_and_line_ends(tmp_path):
    frame = read_table(write(tmp_path, 'a,b\n"x,y",1\n"two\nlines",2\n'))
    assert frame["a"].tolist() == ["x,y", "two\nlines"]


@pytest.mark.parametrize("content", ["", "\n", "  \n\n", "\ufeff", gzip.compress(b"", mtime=0)])
def test_empty_file(tmp_path, content):
    assert "is empty" in refused(write(tmp_path, content))


@pytest.mark.parametrize("content", ["u,v,target\n", "u,v,target", "u,v,target\n\n \n"])
def test_header_only(tmp_path, content):
    message = refused(write(tmp_path, content))
    assert "no rows" in message
    assert "'u', 'v', 'target'" in message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a,b,c\n1,2,3\n4,5\n", "line 3 has 2 values, its header has 3 columns"),
        ("a,b,c\n1,2,3\n\n4,5,6,7\n", "line 4 has 4 values, its header has 3 columns"),
        # pandas alone would take the first column of this one for an index
        ("a,b\n1,2,3\n4,5,6\n", "line 2 has 3 values, its header has 2 columns"),
        ("a,b\n1\n", "line 2 has 1 value, its header has 2 columns"),
        ('a,b\n"x\ny",1\n2\n', "line 4 has 1 value"),
        ("a\n1,2\n", "line 2 has 2 values, its header has 1 column"),
    ],
)
def test_ragged_lines_are_numbered(tmp_path, content, words):
    message = refused(write(tmp_path, content))
    assert "ragged" in message
    assert words in message


@pytest.mark.parametrize("content", ['a,b\n1,"2\n3,4\n', 'a,b\n"1"x,2\n'])
def test_broken_quotes(tmp_path, content):
    assert "cannot read" in refused(write(tmp_path, content))


def test_repeated_column_names(tmp_path):
    message = refused(write(tmp_path, "a,b,a,b,c\n1,2,3,4,5\n"))
    assert "more than one column called 'a', 'b'" in message


def test_columns_without_a_name(tmp_path):
    message = refused(write(tmp_path, pd.DataFrame({"a": [1], "b": [2]}).to_csv()))
    assert "column 1 of" in message
    assert "row index" in message


def test_a_header_line_that_looks_like_data(tmp_path):
    assert "header line missing?" in refused(write(tmp_path, "5.1,3.5,3.5,0.2\n4.9,3.0,1.4,0.2\n"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "binary"),
        (bytes(range(256)) * 50, "binary"),
        ("größe,b\n1,2\n".encode("latin-1"), "UTF-8"),
        (b"a,b\n" + b"1,2\n" * 50000 + b"\xe9,2\n", "UTF-8"),
    ],
    ids=["png", "all bytes", "latin-1", "late latin-1"],
)
def test_binary_garbage(tmp_path, content, words):
    assert words in refused(write(tmp_path, content))


def test_damaged_gzip(tmp_path):
    whole = gzip.compress(CSV.encode() * 1000)
    assert "damaged gzip" in refused(write(tmp_path, whole[:-20], "cut.csv.gz"), OSError)
    assert "damaged gzip" in refused(write(tmp_path, b"\x1f\x8b" + b"garbage" * 9, "bad.csv.gz"), OSError)
    flipped = whole[:40] + bytes(255 - byte for byte in whole[40:60]) + whole[60:]
    assert "damaged gzip" in refused(write(tmp_path, flipped, "flipped.csv.gz"), OSError)


def test_directory_instead_of_a_file(tmp_path):
    folder = tmp_path / "data.csv"
    folder.mkdir()
    message = refused(folder, IsADirectoryError)
    assert "is a directory" in message


def test_no_such_file_suggests_a_neighbour(tmp_path):
    write(tmp_path, CSV, "measurements.csv")
    assert "did you mean 'measurements.csv'?" in refused(tmp_path / "measurments.csv", FileNotFoundError)
    assert "no file" in refused(tmp_path / "nowhere" / "a.csv", FileNotFoundError)


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    path = write(tmp_path, CSV)

    def denied(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(type(path), "open", denied)  # permissions do not stop a superuser, so they are faked
    assert refused(path, OSError) == f"cannot read {str(path)!r}: Permission denied"


@pytest.mark.parametrize("name", ["a.xls", "a.txt", "a", "a.parquet.gz", "a.csv.zip"])
def test_other_types_of_file(tmp_path, name):
    message = refused(write(tmp_path, CSV, name))
    assert "no known type" in message
    assert ".parquet" in message


def test_file_type_is_read_from_the_name():
    expected = {"a.pq": ".pq", "a.SVM.gz": ".svm", "x/b.libsvm": ".libsvm", "openml:iris": None, "iris": None}
    assert {name: file_type(name) for name in expected} == expected


# ---- Parquet ----


def test_parquet_keeps_types(tmp_path):
    pytest.importorskip("pyarrow")
    path = tmp_path / "a.parquet"
    written = pd.DataFrame(
        {
            "f": np.array([0.5, 1.5], dtype=np.float32),
            "b": [True, False],
            "c": pd.Categorical(["x", "y"]),
            "n": pd.array([1, None], dtype="Int64"),
            "target": ["p", "q"],
        },
        index=[7, 9],
    )
    written.to_parquet(path)
    pd.testing.assert_frame_equal(read_table(path), written.reset_index(drop=True))


@pytest.mark.parametrize("content", [CSV.encode(), b"PAR1" + b"\x00" * 64 + b"PAR1", b"\x00\xff" * 40])
def test_a_file_that_is_not_parquet(tmp_path, content):
    pytest.importorskip("pyarrow")
    assert "as Parquet" in refused(write(tmp_path, content, "a.parquet"))


@pytest.mark.parametrize("read", [read_table, lambda path: load(path, target="target")], ids=["frame", "numbers"])
def test_a_changed_bit_of_parquet_with_checksums_is_seen(tmp_path, read):
    pytest.importorskip("pyarrow")
    path = tmp_path / "a.parquet"
    rng = np.random.default_rng(0)
    pd.DataFrame({"u": rng.random(100), "target": [0, 1] * 50}).to_parquet(path, write_page_checksum=True)
    content = bytearray(path.read_bytes())
    content[300] ^= 4  # in a number
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"cannot read .*a\.parquet' as Parquet: .*checksum") as error:
        read(path)
    assert "\n" not in str(error.value)


def test_parquet_without_rows_and_empty(tmp_path):
    pytest.importorskip("pyarrow")
    path = tmp_path / "a.parquet"
    pd.DataFrame({"u": [1.0], "target": ["a"]}).iloc[:0].to_parquet(path)
    assert "no rows" in refused(path)
    assert "is empty" in refused(write(tmp_path, b"", "b.parquet"))


def test_parquet_with_repeated_names(tmp_path):
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table([pa.array([1]), pa.array([2])], names=["u", "u"]), path)
    assert "more than one column called 'u'" in refused(path)


def test_parquet_without_pyarrow(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    message = refused(write(tmp_path, b"PAR1", "a.parquet"), OSError)
    assert "needs pyarrow" in message
    assert "certimetric[parquet]" in message


# ---- LIBSVM ----


@pytest.mark.parametrize("name", ["a.libsvm", "a.svmlight", "a.svm", "a.svm.gz"])
def test_libsvm_is_dense_with_numbered_features(tmp_path, name):
    content = b"# comment\n+1 1:0.5 3:2\n-1 2:1e-3\n"
    frame = read_table(write(tmp_path, gzip.compress(content) if name.endswith("gz") else content, name))
    assert list(frame.columns) == ["f0", "f1", "f2", "label"]
    np.testing.assert_array_equal(frame.to_numpy(), [[0.5, 0, 2, 1], [0, 1e-3, 0, -1]])


def test_libsvm_counted_from_zero(tmp_path):
    frame = read_table(write(tmp_path, "1 0:5 1:6\n0 1:7\n", "a.svm"))
    np.testing.assert_array_equal(frame[["f0", "f1"]].to_numpy(), [[5, 6], [0, 7]])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a 1:2\n", "as LIBSVM"),
        (CSV, "as LIBSVM"),
        ("1 2:1 1:1\n", "as LIBSVM"),
        ("1 99999999999999:1\n", "as LIBSVM"),
        (bytes(range(256)), "as LIBSVM"),
        ("", "is empty"),
        ("# only a comment\n", "is empty"),
        ("1\n-1\n", "no feature"),
    ],
)
def test_what_is_not_libsvm(tmp_path, content, words):
    assert words in refused(write(tmp_path, content, "a.svm"))


def test_libsvm_too_large_to_be_dense(tmp_path):
    lines = "".join(f"{i % 2} {2_000_000_000 - i}:1\n" for i in range(4))
    message = refused(write(tmp_path, lines, "a.svm"))
    assert "60 GiB" in message
    assert f"more than {tables.MAX_DENSE_BYTES >> 30} GiB" in message


# ---- which column holds the labels ----


@pytest.mark.parametrize("name", ["target", "class", "label", "y", "Class", "TARGET", "Y"])
def test_the_usual_names_are_found(name):
    assert pick_target(["u", name, "v"], None, where="a") == name


@pytest.mark.parametrize(
    ("columns", "target", "words"),
    [
        (["u", "v"], None, ["no column called target, class, label or y", "by target=", "'u', 'v'"]),
        (["u", "y", "Class"], None, ["2 columns", "('y', 'Class')", "by target="]),
        (
            ["u", "Species"],
            "species",
            ["no target column 'species'", "did you mean 'Species'?", "'u', 'Species'"],
        ),
        (["u", "kind"], "knid", ["did you mean 'kind'?"]),
        (["u", "kind"], "colour", ["no target column 'colour'; its columns are 'u', 'kind'"]),
        (["5.1", "3.5", "Iris-setosa"], None, ["header line missing?"]),
    ],
)
def test_target_not_found(columns, target, words):
    with pytest.raises(ValueError) as caught:
        pick_target(columns, target, where="'a.csv'")
    for word in words:
        assert word in str(caught.value)


def test_a_named_target_wins_over_the_usual_names():
    assert pick_target(["y", "class", "u"], "u", where="a") == "u"


def test_target_must_be_a_name():
    with pytest.raises(TypeError, match="target must be a column name"):
        pick_target(["u", "v"], 1, where="a")


def test_long_headers_are_cut():
    with pytest.raises(ValueError, match="and 988 more"):
        pick_target([f"f{i}" for i in range(1000)], None, where="a")
