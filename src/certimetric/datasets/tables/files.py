"""Tables from files: CSV, Parquet and LIBSVM, checked before anything is computed on them.

A pandas reader repairs what it can: it renames a repeated column, fills up a short line with missing values,
takes a surplus first column for an index. Every one of these changes the features silently, so the lines of a
CSV file are counted here first, and what does not fit is an error that names the line.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import itertools
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from certimetric.base.wording import counted, did_you_mean, first_line, listing
from certimetric.datasets.tables.dataset import TARGET_NAMES, Dataset, image_shape_of
from certimetric.datasets.tables.encoder import TableEncoder
from certimetric.datasets.tables.encoding import encode_features, encode_labels

if TYPE_CHECKING:
    import pandas as pd

_CSV = (".csv", ".tsv")
_PARQUET = (".parquet", ".pq")
LIBSVM = (".libsvm", ".svmlight", ".svm")
FILE_TYPES = (*_CSV, *_PARQUET, *LIBSVM)
"""Endings of the files that can be read; CSV and LIBSVM also with ``.gz`` behind."""

MAX_DENSE_BYTES = 4 * 2**30
"""A LIBSVM file whose dense matrix would be larger is refused."""

LIBSVM_TARGET = "label"
"""Name of the column that holds the labels of a LIBSVM file."""


def read_table(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read a CSV, Parquet or LIBSVM file into a data frame with different column names and at least one row.

    The cells stay as they are: text is text and missing is missing. In CSV an empty cell, ``?``, and what
    pandas counts as missing (``NA``, ``NaN``, ``null``, ``None`` …) are missing; the values are separated by
    tabs if the header has one, else by commas, else by semicolons; the text is UTF-8. The columns of a LIBSVM
    file are ``f0, f1, …`` and ``label``; it counts its features from 1, unless an index 0 occurs in it.

    Parameters
    ----------
    path : str or path
        A file ending in .csv, .tsv, .parquet, .pq, .libsvm, .svmlight or .svm; CSV and LIBSVM may be gzipped.

    Returns
    -------
    DataFrame

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    OSError
        If it is a directory, may not be read, or is a damaged gzip file, or pyarrow is missing for Parquet.
    ValueError
        If it is of another type, empty, without rows, binary where text is expected, ragged, or has repeated
        or empty column names.
    """
    found, where = existing_file(path), repr(os.fspath(path))
    kind = file_type(found)
    if kind is None:
        raise ValueError(f"{where} is of no known type: its name must end in {', '.join(FILE_TYPES)} or .csv.gz")
    with _told(where):
        if found.stat().st_size == 0:
            raise ValueError(f"{where} is empty")
        if kind in _PARQUET:
            frame = _read_parquet(found, where)
        elif kind in LIBSVM:
            frame = _read_libsvm(found, where)
        else:
            frame = _read_csv(found, where)
    if len(frame) == 0:
        raise ValueError(f"{where} has no rows: there is only the header {listing(frame.columns)}")
    return frame


def pick_target(columns: Sequence[str], target: str | None, *, where: str) -> str:
    """The column with the labels: ``target`` if it is there, else the only one with a usual name.

    Raises
    ------
    TypeError
        If ``target`` is not a string.
    ValueError
        If there is no such column, or none or several with a usual name; the message lists the columns.

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
    raise ValueError(f"{problem}; its columns are {listing(columns, limit=12)}{_header_hint(columns)}")


def assemble(
    frame: pd.DataFrame,
    *,
    name: str,
    source: str,
    where: str,
    target: str,
    encode: bool,
    encoder: TableEncoder | None = None,
) -> Dataset:
    """Split off the labels, encode the features (as an earlier table was, if an encoder is given), and check that there
    are classes to tell apart.

    Raises
    ------
    ValueError
        If the columns cannot be used (see :mod:`certimetric.datasets.tables.encoding`) or all labels are equal.
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
    encoder = TableEncoder.fit(features, where=where) if encoder is None else encoder
    X, imputed = encoder.transform(features, where=where)
    names = encoder.feature_names
    return Dataset(name, source, X, y, names, image_shape_of(names), encoder, imputed if imputed.any() else None)


def refuse_merged_labels(path: Path, frame: pd.DataFrame, target: str, *, where: str) -> None:
    """Refuse labels of a CSV file that are spelled differently but read as one number, such as ``01`` and ``1``.

    Decimal zeros alone make no other spelling: 1 and 1.0 are one label everywhere.

    Parameters
    ----------
    path : path
        What ``frame`` was read from; for other types than CSV there is nothing to refuse.
    frame : DataFrame
        From :func:`read_table`.
    target : str
        The column with the labels.
    where : str
        The name of the file, for messages.

    Raises
    ------
    ValueError
        If there are such labels; the message names some.
    """
    labels = frame[target].to_numpy()
    if file_type(path) not in _CSV or labels.dtype.kind not in "iuf":
        return
    if labels.dtype.kind == "f" and not (np.isfinite(labels) & (labels == np.floor(labels))).all():
        return  # missing labels, or measurements: no labels either way
    first: dict[float, str] = {}  # spelling of each label
    for text, row in _spellings(path, list(frame.columns).index(target), where).items():
        other = first.setdefault(labels[row], text)
        if _without_decimal_zeros(text) != _without_decimal_zeros(other):
            raise ValueError(
                f"target column {target!r} of {where} spells one number in more ways than one, {other!r} and {text!r}: "
                f"labels that are all numbers are read as numbers, so spell each in one way, or begin every label with "
                f"a letter where these are different classes"
            )


def _spellings(path: Path, position: int, where: str) -> dict[str, int]:
    """The different cells of one column as they are written, but for spaces around, and a row that has each."""
    import pandas as pd

    with _text_of(path) as text:
        delimiter = _start_of(text, where)[1]
    with _text_of(path) as text:
        options: dict[str, Any] = {"dtype": str, "keep_default_na": False, "usecols": [position]}
        cells = pd.read_csv(text, sep=delimiter, skipinitialspace=True, index_col=False, **options).iloc[:, 0]
    different = cells.drop_duplicates()
    return {text.strip(): row for row, text in zip(different.index.tolist(), different.tolist())}


def _without_decimal_zeros(number: str) -> str:
    whole, _, decimals = number.partition(".")
    return number if decimals.strip("0") else whole


def file_type(path: str | os.PathLike[str]) -> str | None:
    """The ending that says how a file is read, in lower case, or None for a file of another type.

    Examples
    --------
    >>> file_type("a.CSV"), file_type("a.csv.gz"), file_type("a.gz"), file_type("a.xlsx")
    ('.csv', '.csv', '.csv', None)
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix != ".gz":
        return suffix if suffix in FILE_TYPES else None
    inner = Path(path.stem).suffix.lower()
    if inner in _PARQUET:
        return None
    return inner if inner in FILE_TYPES else ".csv"


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
            f"{where} is not UTF-8 text (byte 0x{error.object[error.start]:02x} cannot be decoded): "
            f"it is a binary file or needs to be saved as UTF-8"
        ) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise OSError(f"{where} is a damaged gzip file: {first_line(error)}") from error
    except OSError as error:
        if error.strerror is None:  # raised here, with its own words
            raise
        raise OSError(f"cannot read {where}: {error.strerror}") from error


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """The file's bytes, unzipped if its content (not its name) says gzip."""
    with path.open("rb") as raw:
        if raw.peek(2)[:2] == b"\x1f\x8b":
            with gzip.open(raw, "rb") as stream:
                yield stream  # type: ignore[misc]  # GzipFile reads like IO[bytes] but is not declared so
        else:
            yield raw


@contextlib.contextmanager
def _text_of(path: Path) -> Iterator[IO[str]]:
    with _opened(path) as stream, io.TextIOWrapper(stream, encoding="utf-8-sig", newline="") as text:
        yield text


def _read_csv(path: Path, where: str) -> pd.DataFrame:
    import pandas as pd

    header, delimiter = _checked_header(path, where)
    options: dict[str, Any] = {"low_memory": False}  # types from whole columns, not from chunks
    if tuple(int(part) for part in pd.__version__.split(".")[:2]) < (3, 1):
        options["float_precision"] = "round_trip"  # later versions round correctly without being asked
    with _text_of(path) as text:
        try:
            frame = pd.read_csv(text, sep=delimiter, skipinitialspace=True, na_values=["?"], index_col=False, **options)
        except pd.errors.ParserError as error:
            raise ValueError(f"cannot read {where} as CSV: {first_line(error)}") from error
    if "float_precision" in options:
        # The exact parser of earlier versions takes a number that overflows, and all its column with it, for text.
        for position in [i for i, kind in enumerate(frame.dtypes) if kind.kind == "O"]:
            with contextlib.suppress(ValueError, TypeError):
                frame.isetitem(position, frame.iloc[:, position].astype(float))
    frame.columns = pd.Index(header)
    return frame


def _checked_header(path: Path, where: str) -> tuple[list[str], str]:
    """Column names and delimiter of a CSV file, once every line is found to have as many values as names."""
    with _opened(path) as stream:
        if b"\x00" in stream.read(65536):
            raise ValueError(f"{where} is a binary file, expected text (CSV)")
    with _text_of(path) as text:
        start, delimiter = _start_of(text, where)
        reader = csv.reader(itertools.chain(start, text), delimiter=delimiter, skipinitialspace=True, strict=True)
        header: list[str] = []
        try:
            for row in reader:
                if len(row) <= 1 and not "".join(row).strip():
                    continue  # a blank line, which pandas skips too
                if not header:
                    header = [cell.strip() for cell in row]
                elif len(row) != len(header):
                    raise ValueError(
                        f"{where} is ragged: line {reader.line_num} has {counted(len(row), 'value')}, "
                        f"its header has {counted(len(header), 'column')}"
                    )
        except csv.Error as error:
            raise ValueError(f"cannot read {where} as CSV: line {reader.line_num}: {first_line(error)}") from error
    _check_names(header, where)
    return header, delimiter


def _start_of(text: Iterable[str], where: str) -> tuple[list[str], str]:
    """The lines up to the first that is not blank, and the delimiter which that one, the header, has."""
    start: list[str] = []
    for line in text:
        start.append(line)
        if line.strip():
            return start, next((mark for mark in "\t,;" if mark in line), ",")
    raise ValueError(f"{where} is empty")


def _check_names(names: Sequence[str], where: str) -> None:
    unnamed = [str(i + 1) for i, name in enumerate(names) if not name]
    if unnamed:
        raise ValueError(
            f"column {', '.join(unnamed[:8])} of {where} has no name: name it in the header, or leave it out "
            f"if it is a saved row index"
        )
    if len(set(names)) < len(names):
        repeated = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(
            f"{where} has more than one column called {listing(repeated)}: column names must differ"
            f"{_header_hint(names)}"
        )


def _header_hint(names: Sequence[str]) -> str:
    """A remark where the header looks like a row of data."""
    numeric = sum(_is_number(name) for name in names)
    fractions = sum(_is_number(name) and not name.strip("+-").isdigit() for name in names)
    return " (is the header line missing?)" if 2 * numeric >= len(names) and fractions else ""


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _read_parquet(path: Path, where: str) -> pd.DataFrame:
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
    _check_names(names, where)
    try:
        frame = pd.read_parquet(path, engine="pyarrow")
    except (ValueError, OSError, NotImplementedError) as error:
        raise ValueError(f"cannot read {where} as Parquet: {first_line(error)}") from error
    frame.columns = pd.Index([str(column) for column in frame.columns])
    return frame.reset_index(drop=True)


def _read_libsvm(path: Path, where: str) -> pd.DataFrame:
    import pandas as pd
    from sklearn.datasets import load_svmlight_file

    with _opened(path) as stream:
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
    frame[LIBSVM_TARGET] = labels
    return frame
