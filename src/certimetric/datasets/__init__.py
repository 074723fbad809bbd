"""Data sets: bundled, from CSV, Parquet and LIBSVM files, and from OpenML.

pandas and scikit-learn are imported when something is loaded, not with this package.
"""

from __future__ import annotations

from certimetric.datasets.bundled import DatasetInfo, available
from certimetric.datasets.dataset import Dataset
from certimetric.datasets.encoder import TableEncoder, fill_gaps
from certimetric.datasets.loading import load, load_features
from certimetric.datasets.tables import read_table

__all__ = [
    "Dataset",
    "DatasetInfo",
    "TableEncoder",
    "available",
    "fill_gaps",
    "load",
    "load_features",
    "read_table",
]
