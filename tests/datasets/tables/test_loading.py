"""load and load_features from the outside: names, files, and everything that can be wrong with them."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from certimetric.datasets import load, load_features

CSV = "u,v,target\n1,2.5,a\n3,4.5,b\n5,6.5,a\n"


def write(folder, content, name="a.csv"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def refused(call, *args, error=ValueError, **kwargs):
    with pytest.raises(error) as caught:
        call(*args, **kwargs)
    message = str(caught.value)
    assert message
    assert "\n" not in message
    return message


# ---- load ----


@pytest.mark.parametrize("as_type", [str, Path])
def test_a_csv_file(tmp_path, as_type):
    path = as_type(write(tmp_path, CSV, "flowers.csv"))
    data = load(path)
    assert (data.name, data.source, data.image_shape) == ("flowers", str(path), None)
    np.testing.assert_array_equal(data.X, [[1, 2.5], [3, 4.5], [5, 6.5]])
    assert data.y.tolist() == ["a", "b", "a"]
    assert data.feature_names == ("u", "v")


def test_one_content_has_one_hash_in_every_format(tmp_path):
    pytest.importorskip("pyarrow")
    bundled = load("wine")
    frame = bundled.to_frame()
    frame.to_csv(tmp_path / "w.csv", index=False)
    frame.to_csv(tmp_path / "w.csv.gz", index=False)
    frame.to_csv(tmp_path / "w.tsv", index=False, sep="\t")
    frame.to_parquet(tmp_path / "w.parquet")
    for path in sorted(tmp_path.iterdir()):
        data = load(path)
        assert data.name == "w"
        assert data.sha256() == bundled.sha256(), path.name


def test_libsvm_labels_become_integers(tmp_path):
    data = load(write(tmp_path, "+1 1:0.5 3:2\n-1 2:1\n", "a.libsvm"))
    assert data.y.tolist() == [1, -1]
    assert data.feature_names == ("f0", "f1", "f2")
    np.testing.assert_array_equal(data.X, [[0.5, 0, 2], [0, 1, 0]])


def test_libsvm_regression_labels_and_target(tmp_path):
    path = write(tmp_path, "0.5 1:0.5\n1.5 1:1\n", "a.libsvm")
    assert "regression target" in refused(load, path)
    assert "does not apply" in refused(load, path, target="label")
    assert "does not apply" in refused(load_features, path, target="label")


def test_pixel_columns_make_images(tmp_path):
    names = ",".join(f"pixel{i + 1}" for i in range(4))
    data = load(write(tmp_path, f"{names},class\n0,1,2,3,a\n3,2,1,0,b\n"))
    assert data.image_shape == (2, 2)


def test_encoding_on_request(tmp_path):
    path = write(tmp_path, "age,sex,member,class\n30,f,True,1\n,m,False,0\n50,f,True,1\n")
    message = refused(load, path)
    assert "'sex' (such as 'f' in data row 1)" in message
    assert "'age' (1 row, first data row 2)" in message
    data = load(path, encode=True)
    assert data.feature_names == ("age", "age is missing", "sex=f", "sex=m", "member")
    np.testing.assert_array_equal(data.X, [[30, 0, 1, 0, 1], [40, 1, 0, 1, 0], [50, 0, 1, 0, 1]])


@pytest.mark.parametrize("encode", [False, True])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("u,target\n1,a\ninf,b\n", ["infinite values", "'u' (1 row, first data row 2)"]),
        ("u,target\n1,a\n1e999,b\n", ["infinite values", "'u'"]),
        ("u,target\n1,a\n2,a\n", ["'target'", "one class only, 'a' in all 2 rows"]),
        ("u,target\n1,a\n", ["one class only"]),
        ("u,target\n1,a\n2,\n3,b\n", ["'target'", "no label in 1 row", "data row 2"]),
        ("u,target\n1,0.25\n2,1.5\n", ["'target'", "regression target"]),
        ("target\na\nb\n", ["no feature column"]),
        ("u,v\n1,2\n", ["no column called target", "'u', 'v'"]),
        ("u,u,target\n1,2,a\n3,4,b\n", ["more than one column called 'u'"]),
        ("u,target\n", ["no rows"]),
        ("u,target\n1,a\n2\n", ["ragged", "line 3"]),
        ("", ["is empty"]),
        (b"\x00\x01\x02", ["binary"]),
    ],
)
def test_files_that_make_no_data_set(tmp_path, content, words, encode):
    path = write(tmp_path, content)
    message = refused(load, path, encode=encode)
    for word in [*words, repr(str(path))]:
        assert word in message


def test_nan_in_a_file(tmp_path):
    message = refused(load, write(tmp_path, "u,v,target\n1,nan,a\n2,3,b\n"))
    assert "missing values (NaN) in column 'v'" in message
    assert "encode=True" in message


def test_target_of_a_file(tmp_path):
    path = write(tmp_path, "species,u,y\na,1,2\nb,3,4\n")
    data = load(path, target="species")
    assert data.feature_names == ("u", "y")
    message = refused(load, path, target="specie")
    assert "did you mean 'species'?" in message
    assert "'species', 'u', 'y'" in message
    refused(load, path, target=0, error=TypeError)


@pytest.mark.parametrize(
    ("name", "closest"),
    [("irsi", "iris"), ("Iris", "iris"), ("breast-cancer", "breast_cancer"), ("digit", "digits")],
)
def test_unknown_names_suggest_the_closest(name, closest):
    message = refused(load, name)
    assert f"unknown data set {name!r} (did you mean {closest!r}?)" in message
    assert "openml:NAME" in message


@pytest.mark.parametrize("name", ["", "zzzz", "openml"])
def test_unknown_names_that_are_near_nothing(name):
    message = refused(load, name)
    assert "iris, wine, breast_cancer, digits" in message
    assert "did you mean" not in message


def test_bundled_names_win_over_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "iris").mkdir()
    assert load("iris").source == "bundled"
    assert "is a directory" in refused(load, f".{os.sep}iris", error=IsADirectoryError)


def test_bundled_sets_take_no_target():
    assert "does not apply" in refused(load, "iris", target="species")


def test_directory_and_missing_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    write(tmp_path, CSV, "wines.csv")
    assert "'data' is a directory" in refused(load, "data", error=IsADirectoryError)
    assert "did you mean 'wines.csv'?" in refused(load, "wine.csv", error=FileNotFoundError)
    assert "did you mean 'wines.csv'?" in refused(load, "wines.cvs", error=FileNotFoundError)
    assert "no file" in refused(load, Path("nothing"), error=FileNotFoundError)


def test_files_of_another_type(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, CSV, "a.xls")
    assert "no known type" in refused(load, "a.xls")


@pytest.mark.parametrize("value", [None, 3, b"iris", ["iris"]])
def test_neither_name_nor_path(value):
    assert "name_or_path must be str or path" in refused(load, value, error=TypeError)


# ---- load_features ----


def test_queries_are_put_in_the_order_of_the_training_set(tmp_path):
    path = write(tmp_path, "note,v,u\nx,2,1\ny,4,3\n")
    X, names, y = load_features(path, feature_names=["u", "v"])
    np.testing.assert_array_equal(X, [[1, 2], [3, 4]])
    assert names == ("u", "v")
    assert y is None


def test_queries_with_labels(tmp_path):
    path = write(tmp_path, CSV)
    for options in ({}, {"feature_names": ("u", "v")}, {"target": "target"}):
        X, names, y = load_features(path, **options)
        assert names == ("u", "v")
        assert X.shape == (3, 2)
        assert y.tolist() == ["a", "b", "a"]


def test_queries_of_one_class_are_fine(tmp_path):
    assert load_features(write(tmp_path, "u,target\n1,a\n"))[2].tolist() == ["a"]


def test_features_that_are_called_like_a_target(tmp_path):
    path = write(tmp_path, "x,y\n1,2\n")
    X, _, y = load_features(path, feature_names=("x", "y"))
    np.testing.assert_array_equal(X, [[1, 2]])
    assert y is None
    X, names, y = load_features(path)
    assert (names, y.tolist()) == (("x",), [2])


def test_no_labels_and_no_names(tmp_path):
    X, names, y = load_features(write(tmp_path, "u,v\n1,2\n"))
    assert (X.tolist(), names, y) == ([[1.0, 2.0]], ("u", "v"), None)


def test_a_named_target_may_be_absent_only_where_the_features_are_known(tmp_path):
    path = write(tmp_path, "u,v\n1,2\n")
    assert load_features(path, feature_names=("u", "v"), target="kind")[2] is None
    assert "no target column 'kind'" in refused(load_features, path, target="kind")


def test_several_possible_targets(tmp_path):
    path = write(tmp_path, "u,class,label\n1,a,b\n")
    assert "'class', 'label'" in refused(load_features, path)
    assert load_features(path, feature_names=["u"])[2] is None
    assert load_features(path, feature_names=["u"], target="class")[2].tolist() == ["a"]


def test_missing_features_are_named(tmp_path):
    message = refused(load_features, write(tmp_path, "u,lenght\n1,2\n"), feature_names=("length", "u", "w"))
    assert "lacks 2 of 3 features: 'length', 'w' (did you mean 'lenght'?)" in message


@pytest.mark.parametrize("cell", ["", "inf", "text"])
def test_queries_that_are_not_numbers(tmp_path, cell):
    path = write(tmp_path, f"u,v\n1,2\n{cell},3\n")
    for options in ({}, {"feature_names": ("u", "v")}):
        assert "'u'" in refused(load_features, path, **options)


def test_queries_are_encoded_like_the_training_set(tmp_path):
    training = load(write(tmp_path, "age,sex,target\n30,f,a\n,m,b\n50,f,a\n", "train.csv"), encode=True)
    path = write(tmp_path, "sex,age\nm,41\nm,42\n", "queries.csv")
    X, names, y = load_features(path, feature_names=training.feature_names, encode=True)
    assert names == training.feature_names == ("age", "age is missing", "sex=f", "sex=m")
    np.testing.assert_array_equal(X, [[41, 0, 0, 1], [42, 0, 0, 1]])
    assert y is None
    assert "encode=True" in refused(load_features, path, feature_names=training.feature_names)


def test_a_sparse_file_may_not_mention_the_last_features(tmp_path):
    path = write(tmp_path, "1 1:5\n1 2:6\n", "q.svm")
    X, _, y = load_features(path, feature_names=("f0", "f1", "f2"))
    np.testing.assert_array_equal(X, [[5, 0, 0], [0, 6, 0]])
    assert y.tolist() == [1, 1]
    assert "2 features, expected at most 1" in refused(load_features, path, feature_names=("f0",))
    assert "lacks 1 of 1 feature: 'length'" in refused(load_features, path, feature_names=("length",))


def test_a_round_trip_through_queries_changes_nothing(tmp_path):
    data = load("breast_cancer")
    shuffled = list(np.random.default_rng(0).permutation(data.feature_names))
    data.to_frame()[shuffled].to_csv(tmp_path / "q.csv.gz", index=False)
    X, names, y = load_features(tmp_path / "q.csv.gz", feature_names=data.feature_names)
    np.testing.assert_array_equal(X, data.X)
    assert (names, y) == (data.feature_names, None)


@pytest.mark.parametrize("name", ["q.csv", "somewhere"])
def test_queries_that_are_not_there(tmp_path, name):
    assert "no file" in refused(load_features, tmp_path / name, error=FileNotFoundError)
    assert "directory" in refused(load_features, tmp_path, error=IsADirectoryError)


# ---- real files ----


def test_every_real_table():
    folder = os.environ.get("CERTIMETRIC_DATA")
    if not folder:
        pytest.skip("CERTIMETRIC_DATA is not set: it names the folder with the real data sets")
    paths = sorted((Path(folder) / "tabular").glob("*.csv*"))
    assert paths, f"no CSV files in {folder}/tabular"
    for path in paths:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as stream:
            header = stream.readline().rstrip("\n").split(",")
            rows = sum(1 for _ in stream)
        data = load(path)
        assert data.X.shape == (rows, len(header) - 1), path.name
        assert data.feature_names == tuple(header[:-1]), path.name
        assert data.name == path.name.split(".")[0]
        assert 2 <= len(data.classes) <= 26, path.name
        assert isinstance(data.classes[0], (int, str)), path.name


def test_a_real_table_agrees_with_a_plain_reader():
    folder = os.environ.get("CERTIMETRIC_DATA")
    if not folder:
        pytest.skip("CERTIMETRIC_DATA is not set: it names the folder with the real data sets")
    path = Path(folder) / "tabular" / "sonar.csv"
    plain = np.loadtxt(path, delimiter=",", skiprows=1, usecols=range(60))
    np.testing.assert_array_equal(load(path).X, plain)
    assert load(path).y.tolist() == pd.read_csv(path)["target"].tolist()


def with_labels(folder, labels, name="a.csv"):
    mark = "\t" if ".tsv" in name else ","
    text = f"u{mark}class\n" + "".join(f"{i}{mark}{label}\n\n" for i, label in enumerate(labels))
    path = folder / name
    path.write_bytes(gzip.compress(text.encode(), mtime=0) if name.endswith(".gz") else text.encode())
    return path


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.csv.gz", "a.tsv.gz"])
@pytest.mark.parametrize(
    ("labels", "first", "second"),
    [
        (["01", "2", "1", "2"], "01", "1"),
        (["01", "1"], "01", "1"),  # not "one class only"
        (["+1", "-1", "1"], "+1", "1"),
        (["2", "1e1", "10"], "1e1", "10"),
        (["1.0", "2", "01"], "1.0", "01"),
        (["0", "-0", "1"], "0", "-0"),
    ],
)
def test_labels_of_a_text_file_that_would_merge_are_told(tmp_path, name, labels, first, second):
    path = with_labels(tmp_path, labels, name)
    for read in (load, load_features):
        with pytest.raises(ValueError, match="spells one number in more ways than one") as caught:
            read(path)
        message = str(caught.value)
        assert f"target column 'class' of {str(path)!r}" in message
        assert f"{first!r} and {second!r}" in message
        assert "\n" not in message


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["01", "02", "01"], [1, 2, 1]),
        (["+1", "-1", "+1"], [1, -1, 1]),
        (["1.0", "2.0", "1.0"], [1, 2, 1]),
        (["1", "1.0", "2.00", "1."], [1, 1, 2, 1]),  # an integer column put below one of floats
        (["1 ", "1", "2"], [1, 1, 2]),
        (["10", "100", "1"], [10, 100, 1]),
        (["01", "1", "x"], ["01", "1", "x"]),  # text stays text
    ],
)
def test_labels_spelled_in_one_way_are_read_as_ever(tmp_path, labels, expected):
    assert load(with_labels(tmp_path, labels)).y.tolist() == expected


@pytest.mark.parametrize(
    ("labels", "told"), [(["0.5", "0.50", "1"], "regression target"), (["01", "", "1"], "no label in 1 row")]
)
def test_what_are_no_labels_is_told_first(tmp_path, labels, told):
    with pytest.raises(ValueError, match=told):
        load(with_labels(tmp_path, labels))


def test_features_may_be_spelled_as_they_like(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("u,class\n01,a\n1,b\n")
    assert load(path).X.tolist() == [[1.0], [1.0]]
