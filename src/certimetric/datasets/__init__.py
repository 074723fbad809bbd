"""Data sets: bundled, from CSV, Parquet, Excel and LIBSVM files, and from OpenML.

pandas and scikit-learn are imported when something is loaded, not with this package.
"""

from __future__ import annotations

from certimetric.datasets.tables.bundled import DatasetInfo, available
from certimetric.datasets.tables.column_code import Encoding
from certimetric.datasets.tables.dataset import Dataset
from certimetric.datasets.tables.encoder import TableEncoder, fill_gaps
from certimetric.datasets.tables.files import read_table
from certimetric.datasets.tables.loading import load, load_features, load_grouped
from certimetric.datasets.tables.reading import Reading

__all__ = [
    "Dataset",
    "DatasetInfo",
    "Encoding",
    "Reading",
    "TableEncoder",
    "available",
    "fill_gaps",
    "load",
    "load_features",
    "load_grouped",
    "read_table",
]
