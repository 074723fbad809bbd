"""The data sets that come with scikit-learn and need neither a file nor the network."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from certimetric.datasets.tables.dataset import Dataset


class DatasetInfo(NamedTuple):
    """What is known about a bundled data set without loading it.

    Attributes
    ----------
    name : str
        What :func:`load` takes.
    rows, features, classes : int
    description : str

    Examples
    --------
    >>> available()[0].name, available()[0].rows
    ('iris', 150)
    """

    name: str
    rows: int
    features: int
    classes: int
    description: str


_BUNDLED = (
    DatasetInfo("iris", 150, 4, 3, "iris flowers: lengths and widths of sepal and petal, in cm"),
    DatasetInfo("wine", 178, 13, 3, "Italian wines of three growers: chemical analysis"),
    DatasetInfo("breast_cancer", 569, 30, 2, "breast tumours: shape of cell nuclei, malignant or benign"),
    DatasetInfo("digits", 1797, 64, 10, "handwritten digits: 8 × 8 images, grey values 0 to 16"),
)


def available() -> tuple[DatasetInfo, ...]:
    """The bundled data sets, one row each; nothing is loaded.

    Returns
    -------
    tuple of DatasetInfo
        Named tuples (name, rows, features, classes, description).

    Examples
    --------
    >>> [info.name for info in available()]
    ['iris', 'wine', 'breast_cancer', 'digits']
    >>> available()[0].rows
    150
    """
    return _BUNDLED


def bundled_names() -> tuple[str, ...]:
    """The names that :func:`load_bundled` takes."""
    return tuple(info.name for info in _BUNDLED)


def load_bundled(name: str) -> Dataset:
    """Load one of the bundled data sets.

    Labels are the class names (strings), for ``digits`` the digits (integers). Any other name is a ValueError.

    Examples
    --------
    >>> load_bundled("digits")
    Dataset('digits', 1797 rows × 64 features, 10 classes, images 8 × 8, bundled)
    """
    if name not in bundled_names():
        raise ValueError(f"name must be one of {', '.join(bundled_names())}, got {name!r}")
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{name}")()
    names = tuple(str(feature) for feature in bunch.feature_names)
    if name == "digits":
        labels = bunch.target.astype(np.int64)
        return Dataset(name, "bundled", bunch.data, labels, names, image_shape=(8, 8))
    labels = np.asarray(bunch.target_names, dtype=np.str_)[bunch.target]
    return Dataset(name, "bundled", bunch.data, labels, names)
