"""The Dataset value: what it guarantees, its hash, and how it shows itself."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest

from certimetric.datasets import Dataset
from certimetric.datasets.tables.dataset import image_shape_of


def toy(**changes):
    fields = {
        "name": "toy",
        "source": "bundled",
        "X": np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]),
        "y": np.array(["a", "b", "a"]),
        "feature_names": ("u", "v"),
    }
    return Dataset(**{**fields, **changes})


@pytest.mark.parametrize(
    "X",
    [
        np.asfortranarray(np.arange(6.0).reshape(3, 2)),
        np.arange(12, dtype=np.float32).reshape(3, 4)[:, ::2],
        np.arange(6).reshape(3, 2),
        [[0, 1], [2, 3], [4, 5]],
    ],
    ids=["fortran", "strided float32", "integers", "lists"],
)
def test_X_is_always_contiguous_float64(X):
    data = toy(X=X)
    assert data.X.dtype == np.float64
    assert data.X.flags.c_contiguous
    np.testing.assert_array_equal(data.X, np.asarray(X))


def test_sizes_and_classes():
    data = toy(y=[3, -1, 3])
    assert (data.n_samples, data.n_features, data.classes) == (3, 2, (-1, 3))


def test_it_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        toy().name = "other"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y": ["a", "b"]}, r"\(3, 2\), \(2,\) and \(2,\)"),
        ({"feature_names": ("u",)}, r"and \(1,\)"),
        ({"X": np.zeros(3)}, r"got \(3,\)"),
        ({"feature_names": ("u", "u")}, "'u' more than once"),
        ({"X": [[0, 1], [np.nan, 3], [4, 5]]}, "finite"),
        ({"image_shape": (2, 2)}, r"\(2, 2\) does not hold 2 features"),
    ],
)
def test_what_does_not_fit_together_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        toy(**changes)


def test_hash_ignores_name_and_source_and_memory_layout():
    X = np.arange(6.0).reshape(3, 2)
    expected = toy(X=X).sha256()
    assert re.fullmatch("[0-9a-f]{64}", expected)
    assert toy(X=np.asfortranarray(X), name="other", source="a.csv").sha256() == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"X": np.array([[0.0, 1.0], [2.0, 3.0], [4.0, np.nextafter(5.0, 6.0)]])},
        {"y": np.array(["a", "b", "b"])},
        {"feature_names": ("u", "w")},
        {"feature_names": ("v", "u")},
    ],
)
def test_hash_sees_every_part_of_the_content(changes):
    assert toy(**changes).sha256() != toy().sha256()


def test_hash_keeps_neighbouring_texts_apart():
    # Concatenation without lengths would give both sets "abc".
    def of(labels):
        return Dataset("toy", "bundled", np.zeros((2, 1)), np.array(labels), ("u",)).sha256()

    assert of(["ab", "c"]) != of(["a", "bc"])


def test_hash_is_the_same_on_every_machine():
    # Stored reports carry this number; a change here breaks them.
    data = Dataset("toy", "bundled", [[0.5, 1.0]], ["ä"], ("u", "v"))
    assert data.sha256() == "5802fd6d8ff36acd20fbf8a95bd80e9df1c7c7986e4c4b6abb3f295c7be4b0e0"


def test_frame_has_features_then_labels():
    frame = toy().to_frame()
    assert list(frame.columns) == ["u", "v", "target"]
    np.testing.assert_array_equal(frame[["u", "v"]].to_numpy(), toy().X)
    assert frame["target"].tolist() == ["a", "b", "a"]


def test_frame_never_overwrites_a_feature():
    names = ("target", "class", "label", "y")
    for used in (1, 2, 3):
        data = Dataset("toy", "bundled", np.zeros((1, used)), [0], names[:used])
        assert list(data.to_frame().columns) == list(names[: used + 1])
    with pytest.raises(ValueError, match="'target', 'class', 'label', 'y'"):
        Dataset("toy", "bundled", np.zeros((1, 4)), [0], names).to_frame()


def test_repr_is_one_short_line():
    wide = Dataset("wide", "a.csv", np.zeros((2, 500)), [0, 1], [f"f{i}" for i in range(500)])
    assert repr(wide) == "Dataset('wide', 2 rows × 500 features, 2 classes, a.csv)"


def test_html_is_escaped_and_short():
    names = ["<script>alert(1)</script>", *(f"f{i}" for i in range(499))]
    data = Dataset("<b>", "a&b.csv", np.zeros((3, 500)), ["<i>", "x", "x"], names)
    html = data._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert "a&amp;b.csv" in html
    assert "&lt;i&gt; (1), x (2)" in html
    assert len(html) < 1000


@pytest.mark.parametrize("start", [0, 1])
def test_pixel_columns_of_a_square_image_have_a_shape(start):
    assert image_shape_of(tuple(f"pixel{start + i}" for i in range(784))) == (28, 28)


@pytest.mark.parametrize(
    "names",
    [
        tuple(f"pixel{1 + i}" for i in range(6)),  # not a square
        ("pixel2", "pixel1", "pixel3", "pixel4"),  # not in order
        ("pixel1", "pixel2", "pixel3", "size"),
        ("pixel1",),
        ("a", "b", "c", "d"),
        (),
    ],
)
def test_other_columns_have_no_shape(names):
    assert image_shape_of(names) is None
