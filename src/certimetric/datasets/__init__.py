"""Data sets: bundled, from CSV, Parquet and LIBSVM files, and from OpenML.

pandas and scikit-learn are imported when something is loaded, not with this package.
"""

from __future__ import annotations

from .bundled import DatasetInfo, available
from .dataset import Dataset
from .loading import load, load_features
from .tables import read_table

__all__ = ["Dataset", "DatasetInfo", "available", "load", "load_features", "read_table"]
