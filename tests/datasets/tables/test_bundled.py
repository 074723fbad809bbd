"""The bundled sets: what the list promises is what is loaded, and listing loads nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import certimetric.datasets
from certimetric.datasets import available, load
from certimetric.datasets.tables.bundled import load_bundled


@pytest.mark.parametrize("info", available(), ids=lambda info: info.name)
def test_the_list_tells_the_truth(info):
    data = load(info.name)
    assert (data.name, data.source) == (info.name, "bundled")
    assert (data.n_samples, data.n_features, len(data.classes)) == (info.rows, info.features, info.classes)
    assert len(set(data.feature_names)) == info.features
    assert all(type(name) is str for name in data.feature_names)
    assert info.description


def test_labels_are_class_names():
    assert load("iris").classes == ("setosa", "versicolor", "virginica")
    assert load("wine").classes == ("class_0", "class_1", "class_2")
    cancer = load("breast_cancer")
    assert dict(zip(*np.unique(cancer.y, return_counts=True))) == {"benign": 357, "malignant": 212}


def test_digits_are_images_with_integer_labels():
    data = load("digits")
    assert data.image_shape == (8, 8)
    assert data.classes == tuple(range(10))
    assert data.y.dtype == np.int64
    assert load("iris").image_shape is None


def test_loading_twice_gives_independent_arrays():
    first = load("iris")
    before = first.sha256()
    load("iris").X[:] = 0
    assert first.sha256() == before == load("iris").sha256()


def test_unknown_name():
    with pytest.raises(ValueError, match=r"iris, wine, breast_cancer, digits, got 'tips'"):
        load_bundled("tips")


def test_listing_imports_nothing_heavy():
    # A stand-in for the parent package, so that only this package's own imports are seen.
    parent = Path(certimetric.datasets.__file__).parents[1]
    code = (
        "import sys, types\n"
        "parent = types.ModuleType('certimetric')\n"
        f"parent.__path__ = [{str(parent)!r}]\n"
        "sys.modules['certimetric'] = parent\n"
        "import certimetric.datasets as datasets\n"
        "assert len(datasets.available()) == 4\n"
        "print(sorted({'pandas', 'sklearn', 'scipy', 'pyarrow'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
