"""CSV files, their lines counted before they are read, and labels as they are spelled there.

A pandas reader repairs what it can: it renames a repeated column, fills up a short line with missing values,
takes a surplus first column for an index. Every one of these changes the features silently, so the lines of a
CSV file are counted here first, and what does not fit is an error that names the line.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import gzip
import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from certimetric.base.wording import counted, first_line, listing, repeated
from certimetric.datasets.tables.reading import SNIFFED, Reading

if TYPE_CHECKING:
    import pandas as pd


@contextlib.contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """The file's bytes, unzipped if its content (not its name) says gzip."""
    with path.open("rb") as raw:
        if raw.peek(2)[:2] == b"\x1f\x8b":
            with gzip.open(raw, "rb") as stream:
                yield stream  # type: ignore[misc]  # GzipFile reads like IO[bytes] but is not declared so
        else:
            yield raw


@contextlib.contextmanager
def _text_of(path: Path, reading: Reading) -> Iterator[IO[str]]:
    with opened(path) as stream:
        encoding = reading.encoding or ("utf-16" if _is_utf16(path) else "utf-8-sig")
        with io.TextIOWrapper(stream, encoding=encoding, newline="") as text:
            yield text


def _is_utf16(path: Path) -> bool:
    with opened(path) as stream:
        return stream.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_csv(path: Path, where: str, reading: Reading) -> pd.DataFrame:
    import pandas as pd

    header, delimiter = _checked_header(path, where, reading)
    options: dict[str, Any] = {"low_memory": False}  # types from whole columns, not from chunks
    if tuple(int(part) for part in pd.__version__.split(".")[:2]) < (3, 1):
        options["float_precision"] = "round_trip"  # later versions round correctly without being asked
    options |= {"decimal": reading.decimal, "na_values": ["?", *reading.na], "skipinitialspace": True}
    with _text_of(path, reading) as text:
        try:
            frame = pd.read_csv(text, sep=delimiter, index_col=False, **options)
        except pd.errors.ParserError as error:
            raise ValueError(f"cannot read {where} as CSV: {first_line(error)}") from error
    if "float_precision" in options:
        # The exact parser of earlier versions takes a number that overflows, and all its column with it, for text.
        for position in [i for i, kind in enumerate(frame.dtypes) if kind.kind == "O"]:
            with contextlib.suppress(ValueError, TypeError):
                frame.isetitem(position, frame.iloc[:, position].astype(float))
    frame.columns = pd.Index(header)
    return reading.grouped(frame)


def _checked_header(path: Path, where: str, reading: Reading) -> tuple[list[str], str]:
    """Column names and delimiter of a CSV file, once every line is found to have as many values as names."""
    if reading.encoding is None and not _is_utf16(path):
        with opened(path) as stream:
            if b"\x00" in stream.read(65536):
                raise ValueError(f"{where} is a binary file, expected text (CSV)")
    with _text_of(path, reading) as text:
        start, delimiter = _start_of(text, where, reading)
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
    check_names(header, where)
    return header, delimiter


def _start_of(text: Iterable[str], where: str, reading: Reading) -> tuple[list[str], str]:
    """The first lines, of which the first that is not blank is the header, and the delimiter that they have."""
    start: list[str] = []
    for line in text:
        start.append(line)
        if line.strip():
            start += itertools.islice(text, SNIFFED)
            return start, reading.sniffed(each for each in start if each.strip())
    raise ValueError(f"{where} is empty")


def check_names(names: Sequence[str], where: str) -> None:
    unnamed = [str(i + 1) for i, name in enumerate(names) if not name]
    if unnamed:
        raise ValueError(
            f"column {', '.join(unnamed[:8])} of {where} has no name: name it in the header, or leave it out "
            f"if it is a saved row index"
        )
    if twice := repeated(names):
        raise ValueError(
            f"{where} has more than one column called {listing(twice)}: column names must differ{header_hint(names)}"
        )


def header_hint(names: Sequence[str]) -> str:
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


def refuse_merged_labels(path: Path, frame: pd.DataFrame, target: str, *, where: str, reading: Reading) -> None:
    """Refuse labels of a CSV file that are spelled differently but read as one number, such as ``01`` and ``1``.

    Decimal zeros alone make no other spelling: 1 and 1.0 are one label everywhere.
    """
    labels = frame[target].to_numpy()
    if labels.dtype.kind not in "iuf" or not (np.isfinite(labels) & (labels == np.floor(labels))).all():
        return  # text; missing labels, or measurements: no labels either way
    first: dict[float, str] = {}  # spelling of each label
    for text, row in _spellings(path, target, where, reading).items():
        other = first.setdefault(labels[row], text)
        if _without_decimal_zeros(text) != _without_decimal_zeros(other):
            raise ValueError(
                f"target column {target!r} of {where} spells one number in more ways than one, {other!r} and {text!r}: "
                f"labels that are all numbers are read as numbers, so spell each in one way, or begin every label with "
                f"a letter where these are different classes"
            )


def _spellings(path: Path, column: str, where: str, reading: Reading) -> dict[str, int]:
    """The different cells of one column as they are written, but for spaces around, and a row that has each."""
    import pandas as pd

    with _text_of(path, reading) as text:
        start, delimiter = _start_of(text, where, reading)
    rows = csv.reader(start, delimiter=delimiter, skipinitialspace=True)
    header = next(row for row in rows if "".join(row).strip())  # of the file: some of its columns may be left out
    position = [cell.strip() for cell in header].index(column)
    with _text_of(path, reading) as text:
        options: dict[str, Any] = {"dtype": str, "keep_default_na": False, "usecols": [position]}
        cells = pd.read_csv(text, sep=delimiter, skipinitialspace=True, index_col=False, **options).iloc[:, 0]
    different = cells.drop_duplicates()
    return {text.strip(): row for row, text in zip(different.index.tolist(), different.tolist())}


def _without_decimal_zeros(number: str) -> str:
    whole, _, decimals = number.partition(".")
    return number if decimals.strip("0") else whole
