"""Parquet files that hold nothing but numbers, read batch by batch into one array, without a data frame."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from certimetric.base.arrays import LARGEST, Array
from certimetric.datasets.tables.dataset import TARGET_NAMES

if TYPE_CHECKING:
    import pandas as pd

PARQUET_TYPES = (".parquet", ".pq")
_BATCH = 65_536  # rows
_PLAIN = {"bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "float", "double"}  # as Arrow names


def stream_parquet(path: Path, target: str | None) -> tuple[Array, tuple[str, ...], pd.Series] | None:
    """Features, their names and the column of labels of a Parquet file; None where a data frame has to tell more.

    That is where a column is no plain number, a value is missing, infinite or too large, or the file is damaged or
    keeps an index: whoever reads the data frame then says what is wrong, or encodes it. Beside the result only one
    batch of rows and the labels are in memory.
    """
    try:
        from pyarrow import parquet

        file = parquet.ParquetFile(path, page_checksum_verification=True)
        schema = file.schema_arrow
        kept = (schema.pandas_metadata or {}).get("index_columns", [])
        usual = [name for name in schema.names if name.lower() in TARGET_NAMES]
        target = usual[0] if target is None and len(usual) == 1 else target
        names = tuple(name for name in schema.names if name != target)
        distinct = len(set(names)) == len(schema.names) - 1 and all(names) and file.metadata.num_rows > 0
        plain = all(str(schema.field(name).type) in _PLAIN for name in names)
        if not (distinct and plain and names) or any(isinstance(index, str) for index in kept):
            return None
        labels = file.read([target], use_pandas_metadata=False).to_pandas(ignore_metadata=True)[target]
        X = np.empty((file.metadata.num_rows, len(names)))
        start = 0
        for batch in file.iter_batches(_BATCH, columns=list(names)):
            rows = slice(start, start + batch.num_rows)
            for j, name in enumerate(names):
                column: Any = batch.column(name)
                if column.null_count:
                    return None
                X[rows, j] = column.to_numpy(zero_copy_only=False)
            if not (np.abs(X[rows]) <= LARGEST).all():
                return None
            start = rows.stop
    except (ImportError, ValueError, OSError):  # pyarrow's own errors derive from these
        return None
    return X, names, labels
