"""Tables from files: CSV, Parquet, Excel and LIBSVM, checked before anything is computed on them."""

from __future__ import annotations

import contextlib
import gzip
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from certimetric.base.wording import counted, did_you_mean, first_line, listing
from certimetric.datasets.tables.column_code import Encoding
from certimetric.datasets.tables.csv_files import check_names, header_hint, opened, read_csv, refuse_merged_labels
from certimetric.datasets.tables.dataset import TARGET_NAMES, Dataset, image_shape_of
from certimetric.datasets.tables.encoder import TableEncoder
from certimetric.datasets.tables.encoding import encode_features, encode_labels
from certimetric.datasets.tables.parquet_files import PARQUET_TYPES
from certimetric.datasets.tables.reading import Reading

if TYPE_CHECKING:
    import pandas as pd

MAX_DENSE_BYTES = 4 * 2**30
"""A LIBSVM file whose dense matrix would be larger is refused."""

_LIBSVM_TARGET = "label"


def read_table(path: str | os.PathLike[str], reading: Reading | None = None) -> pd.DataFrame:
    """Read a CSV, Parquet, Excel or LIBSVM file into a data frame with different column names and at least one row.

    The cells stay as they are: text is text and missing is missing. In CSV an empty cell, ``?``, and what
    pandas counts as missing (``NA``, ``NaN``, ``null``, ``None`` …) are missing; ``reading`` says what else is, and
    how values are written. Of an Excel file the first sheet is read, whose first row is the header. The columns of a
    LIBSVM file are ``f0, f1, …`` and ``label``; it counts its features from 1, unless an index 0 occurs in it.

    Parameters
    ----------
    path : str or path
        A file ending in .csv, .tsv, .parquet, .pq, .xlsx, .libsvm, .svmlight or .svm; CSV and LIBSVM may be gzipped.
    reading : Reading, optional
        By default values are apart by tabs, commas, semicolons or bars, as the header shows, and decimals have a point.

    Returns
    -------
    DataFrame

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    OSError
        If it is a directory, may not be read, or is a damaged gzip file, or pyarrow is missing for Parquet, or openpyxl
        for Excel.
    ValueError
        If it is of another type, empty, without rows, binary where text is expected, ragged, or has repeated
        or empty column names; if ``reading`` tells of text what is none, or leaves out a column that is not there.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = pathlib.Path(folder.name, "table.csv")
    >>> _ = path.write_text("age;kind\\n31;a\\n;b\\n", encoding="utf-8")
    >>> read_table(path)
        age kind
    0  31.0    a
    1   NaN    b
    """
    reading = reading or Reading()
    found, where = existing_file(path), repr(os.fspath(path))
    kind = file_type(found)
    if kind is None:
        raise ValueError(f"{where} is of no known type: its name must end in {', '.join(FILE_TYPES)} or .csv.gz")
    if not reading.plain and not is_text(found) and _READERS[kind] is not _read_excel:
        raise ValueError(f"{next(iter(reading.to_dict()))} tells how text is written, and {where} is no file of text")
    with _told(where):
        if found.stat().st_size == 0:
            raise ValueError(f"{where} is empty")
        frame = _READERS[kind](found, where, reading)
    if len(frame) == 0:
        raise ValueError(f"{where} has no rows: there is only the header {listing(frame.columns)}")
    columns = [str(column) for column in frame.columns]
    if absent := [name for name in reading.drop if name not in columns]:
        raise ValueError(
            f"drop names the column {absent[0]!r}, which is not there{did_you_mean(absent[0], columns)}: {where} has "
            f"{listing(columns, limit=12)}"
        )
    return frame.drop(columns=list(reading.drop))


def is_text(path: str | os.PathLike[str]) -> bool:
    """Whether a table is read from a file of text, for which a :class:`Reading` says how."""
    return _READERS.get(file_type(path) or "") is read_csv


def suited(reading: Reading | None, path: str | os.PathLike[str]) -> Reading | None:
    """How a further table is read after a first one: as that, if both are of text; columns are then taken by name."""
    return None if reading is None or not is_text(path) else replace(reading, drop=())


def read_labelled(
    path: str | os.PathLike[str],
    target: str | None,
    *,
    wanted: Sequence[str] | None = None,
    must: bool = False,
    reading: Reading | None = None,
) -> tuple[pd.DataFrame, str | None, str]:
    """A file's table, the name of its column of labels or None, and what the file is called in messages.

    The labels are those of ``target``, or of the only column with a usual name that is no feature. With the features
    that are ``wanted`` they may be missing, unless there ``must`` be some. Labels of CSV that would merge are refused.
    """
    found, where = existing_file(path), repr(os.fspath(path))
    frame = read_table(found, reading)
    columns = [str(column) for column in frame.columns]
    reader = _READERS[file_type(found) or ""]
    if reader is _read_libsvm:
        if target is not None:
            raise ValueError(
                f"target does not apply to {where}: a LIBSVM file has no column names, each line starts with its label"
            )
        target = _LIBSVM_TARGET
        frame = frame if wanted is None else _padded(frame, wanted, where)
    elif must or (target is not None and wanted is None):
        target = pick_target(columns, target, where=where)
    elif target is None:
        usual = [column for column in columns if column.lower() in TARGET_NAMES and column not in (wanted or ())]
        if len(usual) > 1 and wanted is None:
            pick_target(columns, None, where=where)  # raises: which of them it is has to be said
        target = usual[0] if len(usual) == 1 else None
    elif target not in columns:
        target = None
    if target is not None and reader is read_csv:
        refuse_merged_labels(found, frame, target, where=where, reading=reading or Reading())
    return frame, target, where


def pick_target(columns: Sequence[str], target: str | None, *, where: str) -> str:
    """The column with the labels: ``target`` if it is there, else the only one with a usual name.

    Where there is none or several, a ValueError lists the columns.

    Examples
    --------
    >>> pick_target(["u", "v", "Class"], None, where="toy.csv")
    'Class'
    """
    if target is not None:
        if not isinstance(target, str):
            raise TypeError(f"target must be a column name (str), got {type(target).__name__}")
        if target in columns:
            return target
        problem = f"{where} has no target column {target!r}{did_you_mean(target, columns)}"
    else:
        candidates = [column for column in columns if column.lower() in TARGET_NAMES]
        if len(candidates) == 1:
            return candidates[0]
        if candidates:
            problem = f"{where} has {len(candidates)} columns that could be the target ({listing(candidates)})"
        else:
            problem = f"{where} has no column called {', '.join(TARGET_NAMES[:-1])} or {TARGET_NAMES[-1]}"
        problem += ", name the one with the labels by target="
    raise ValueError(f"{problem}; its columns are {listing(columns, limit=12)}{header_hint(columns)}")


def assemble(
    frame: pd.DataFrame,
    *,
    name: str,
    source: str,
    where: str,
    target: str,
    encode: bool | Encoding,
    encoder: TableEncoder | None = None,
) -> Dataset:
    """Split off the labels, encode the features (as an earlier table was, if an encoder is given), and check that there
    are classes to tell apart.
    """
    y = encode_labels(frame[target], where=where)
    labels = np.unique(y)
    if len(labels) < 2:
        raise ValueError(
            f"target column {target!r} of {where} has one class only, {labels.tolist()[0]!r} in all "
            f"{counted(len(y), 'row')}: at least two classes are needed"
        )
    features = frame.drop(columns=target)
    if not encode and encoder is None:
        X, feature_names = encode_features(features, where=where)
        return Dataset(name, source, X, y, feature_names, image_shape_of(feature_names))
    encoder = TableEncoder.fit(features, encode, where=where) if encoder is None else encoder
    X, imputed = encoder.transform(features, where=where)
    names = encoder.feature_names
    return Dataset(name, source, X, y, names, image_shape_of(names), encoder, imputed if imputed.any() else None)


def file_type(path: str | os.PathLike[str]) -> str | None:
    """The ending that says how a file is read, in lower case, or None for a file of another type.

    Examples
    --------
    >>> file_type("a.CSV"), file_type("a.csv.gz"), file_type("a.gz"), file_type("a.xls")
    ('.csv', '.csv', '.csv', None)
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".gz":
        suffix = Path(path.stem).suffix.lower()
        if suffix not in FILE_TYPES:
            return ".csv"
        if _READERS[suffix] in (_read_parquet, _read_excel):
            return None
    return suffix if suffix in FILE_TYPES else None


def existing_file(path: str | os.PathLike[str]) -> Path:
    found = Path(path)
    if found.is_dir():
        raise IsADirectoryError(f"{str(path)!r} is a directory, expected a file ({', '.join(FILE_TYPES)})")
    if not found.exists():
        near = [entry.name for entry in found.parent.iterdir()] if found.parent.is_dir() else []
        raise FileNotFoundError(f"there is no file {str(path)!r}{did_you_mean(found.name, near)}")
    if not found.is_file():
        raise OSError(f"{str(path)!r} is not a regular file (it has to be read twice)")
    return found


@contextlib.contextmanager
def _told(where: str) -> Iterator[None]:
    """Turn what reading raises into one line that names the file."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{where} is not {error.encoding.upper()} text (byte 0x{error.object[error.start]:02x} cannot be decoded): "
            f"it is a binary file, needs to be saved as UTF-8, or to be read with its encoding (--read encoding=NAME)"
        ) from error
    except UnicodeError as error:  # without the mark that its encoding begins with
        raise ValueError(
            f"{where} is not of the encoding it is read with (--read encoding=NAME): {first_line(error)}"
        ) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise OSError(f"{where} is a damaged gzip file: {first_line(error)}") from error
    except OSError as error:
        if error.strerror is None:  # raised here, with its own words
            raise
        raise OSError(f"cannot read {where}: {error.strerror}") from error


def _read_parquet(path: Path, where: str, reading: Reading) -> pd.DataFrame:
    import pandas as pd

    try:
        from pyarrow import parquet

        names = [str(name) for name in parquet.read_schema(path).names]
    except ImportError as error:
        raise OSError(
            f"reading {where} needs pyarrow, which is not installed: pip install 'certimetric[parquet]'"
        ) from error
    except PermissionError:
        raise
    except (ValueError, OSError) as error:  # pyarrow's own errors derive from these
        raise ValueError(f"cannot read {where} as Parquet: {first_line(error)}") from error
    check_names(names, where)
    try:
        # Files that were written with checksums are seen to be whole; others have none.
        frame = pd.read_parquet(path, engine="pyarrow", page_checksum_verification=True)
    except (ValueError, OSError, NotImplementedError) as error:
        raise ValueError(f"cannot read {where} as Parquet: {first_line(error)}") from error
    frame.columns = pd.Index([str(column) for column in frame.columns])
    return frame.reset_index(drop=True)


def _read_excel(path: Path, where: str, reading: Reading) -> pd.DataFrame:
    """The first sheet; cells have types there, so that only words for missing values and grouped texts matter."""
    import pandas as pd

    try:
        frame = pd.read_excel(path, header=None, na_values=["?", *reading.na], engine="openpyxl")
    except ImportError as error:
        raise OSError(
            f"reading {where} needs openpyxl, which is not installed: pip install 'certimetric[excel]'"
        ) from error
    except PermissionError:
        raise
    except Exception as error:  # openpyxl raises whatever zip, XML and its own parts raise
        raise ValueError(f"cannot read {where} as Excel: {first_line(error)}") from error
    frame = frame.dropna(how="all")
    if not len(frame):
        raise ValueError(f"{where} is empty: its first sheet has no cell")
    names = ["" if missing else str(name).strip() for name, missing in zip(frame.iloc[0], frame.iloc[0].isna())]
    check_names(names, where)
    frame = frame.iloc[1:].reset_index(drop=True).infer_objects()
    frame.columns = pd.Index(names)
    return reading.grouped(frame)


def _read_libsvm(path: Path, where: str, reading: Reading) -> pd.DataFrame:
    import pandas as pd
    from sklearn.datasets import load_svmlight_file

    with opened(path) as stream:
        try:
            X, labels = load_svmlight_file(stream, dtype=np.float64)
        except (ValueError, OverflowError, IndexError) as error:
            raise ValueError(f"cannot read {where} as LIBSVM: {first_line(error)}") from error
    if X.shape[0] == 0:
        raise ValueError(f"{where} is empty")
    if X.nnz == 0:
        raise ValueError(f"{where} has no feature column: no line has an index:value pair")
    size = 8 * X.shape[0] * X.shape[1]
    if size > MAX_DENSE_BYTES:
        raise ValueError(
            f"{where} has {X.shape[0]} rows of {X.shape[1]} features, {size / 2**30:.0f} GiB as a dense "
            f"matrix, more than {MAX_DENSE_BYTES / 2**30:.0f} GiB: reduce its features first"
        )
    frame = pd.DataFrame(X.toarray(), columns=[f"f{i}" for i in range(X.shape[1])])
    frame[_LIBSVM_TARGET] = labels
    return frame


def _padded(frame: pd.DataFrame, wanted: Sequence[str], where: str) -> pd.DataFrame:
    """Add the zero columns that a sparse file does not mention, when the features are ``f0, f1, …``."""
    import pandas as pd

    given = frame.shape[1] - 1
    if set(wanted) != {f"f{i}" for i in range(len(wanted))}:
        return frame
    if given > len(wanted):
        raise ValueError(f"{where} has {counted(given, 'feature')}, expected at most {len(wanted)}")
    zeros = pd.DataFrame(0.0, index=frame.index, columns=[f"f{i}" for i in range(given, len(wanted))])
    return pd.concat([frame, zeros], axis=1)


_READERS = {
    **dict.fromkeys((".csv", ".tsv"), read_csv),
    **dict.fromkeys(PARQUET_TYPES, _read_parquet),
    ".xlsx": _read_excel,
    **dict.fromkeys((".libsvm", ".svmlight", ".svm"), _read_libsvm),
}
FILE_TYPES = tuple(_READERS)
"""Endings of the files that can be read; CSV and LIBSVM also with ``.gz`` behind."""
