"""Columns of a table before they are encoded: what kind each is of, and cells that do not belong into it."""

from __future__ import annotations

import numbers
import re
from collections.abc import Collection, Mapping
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from certimetric.base.arrays import LARGEST, Array
from certimetric.base.wording import counted, shortened

if TYPE_CHECKING:
    import pandas as pd

LARGEST_INTEGER = 2**63 - 1
DATES = "dates or times"
_IDENTIFIER = "it looks like an identifier, leave the column out"

_HOW_TO_ENCODE = (
    "make them numbers, leave them out, or pass encode=True, on the command line --encode (text becomes 0/1 columns, "
    "dates become days, missing numbers the median with a 0/1 indicator)"
)

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_COMMA = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?|[+-]?\d{1,3}(\.\d{3})+(,\d+)?|[+-]?\d*,\d+")
_GROUPS = re.compile(r"[+-]?\d{1,3}([ '’_\u00a0\u202f]\d{3})+([.,]\d+)?")
_UNIT = re.compile(r"[$€£¥]\s*[+-]?\d[\d.,' ]*|[+-]?\d[\d.,' ]*\s*[%$€£¥]")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?")
TRUTH = dict.fromkeys(("yes", "true", "y", "t", "on"), 1.0) | dict.fromkeys(("no", "false", "n", "f", "off"), 0.0)
_PLACEHOLDERS = ("n/a", "na", "nan", "null", "none", "nil", "missing", "unknown", "-", "--", "?", ".", "*", "")
# What numbers in other clothes look like, and what to do about them.
_DRESSED = {
    _COMMA: "write numbers with a point for decimals and without thousands separators, or say which marks they are "
    "(on the command line --read decimal=MARK and --read thousands=MARK)",
    _GROUPS: "write numbers without thousands separators, or say which mark they are "
    "(on the command line --read thousands=MARK)",
    _UNIT: "write the number without its unit",
}


def checked_kinds(frame: pd.DataFrame, where: str, *, dates: bool = False) -> dict[str, str]:
    """Kind of each column, after refusing what no encoding helps with; dates are left to those who take them."""
    if frame.shape[1] == 0:
        raise ValueError(f"{where} has no feature column: at least one column of numbers is needed")
    kinds = {str(column): kind_of(frame[column]) for column in frame.columns}
    for column, kind in kinds.items():
        if kind not in ("number", "boolean", "text") and not (dates and kind == DATES):
            advice = "pass encode=True (--encode)" if kind == DATES else "make it numbers or text"
            raise ValueError(f"column {column!r} of {where} holds {kind}: {advice}, or leave it out")
    infinite: list[str] = []
    large: list[str] = []
    for column in (column for column, kind in kinds.items() if kind == "number"):
        refuse_large_integers(frame[column], f"column {column!r} of {where}")
        values = np.abs(numbers_of(frame[column]))
        for told, rows in ((infinite, np.isinf(values)), (large, np.isfinite(values) & (values > LARGEST))):
            if rows.any():
                told.append(f"{column!r} ({counted(int(rows.sum()), 'row')}, first data row {rows.argmax() + 1})")
    if infinite:
        raise ValueError(
            f"{where} has infinite values in column {shortened(infinite)}: replace them or leave the rows out"
        )
    if large:
        raise ValueError(
            f"{where} has values beyond {LARGEST:g} in column {shortened(large)}: their squares overflow, so scale the "
            f"column first"
        )
    return kinds


def refuse_large_integers(series: pd.Series, what: str) -> None:
    """Refuse integers that do not fit into 64 bits: rounded or wrapped, different ones would become the same."""
    values = series.dropna().to_numpy()
    if values.dtype.kind == "u":
        large = values > LARGEST_INTEGER
    elif values.dtype.kind == "O":
        large = np.array(
            [is_integer(value) and not -LARGEST_INTEGER - 1 <= value <= LARGEST_INTEGER for value in values]
        )
    else:
        return
    if large.any():
        raise too_large(what, values[large.argmax()], f"{_IDENTIFIER} or make it text")


def too_large(what: str, value: object, advice: str) -> ValueError:
    """The error of a column that holds an integer of more than 64 bits."""
    return ValueError(f"{what} holds the integer {value}, which does not fit into 64 bits: {advice}")


def refuse_dirty(frame: pd.DataFrame, kinds: dict[str, str], where: str) -> None:
    """Name the first cell that keeps a column of numbers from being one, rather than take every number for a text.

    That is a column of text of which at least half of the cells are numbers, plain or with thousands separators,
    decimal commas or units. A categorical type is left alone: whoever made it meant its categories.
    """
    import pandas as pd

    for column in (column for column, kind in kinds.items() if kind == "text"):
        if isinstance(frame[column].dtype, pd.CategoricalDtype):
            continue
        texts = texts_of(frame[column].dropna())
        different = sorted(set(texts.tolist()))
        advice = {text: _advice(text.strip()) for text in different}
        numeric = {text for text in different if advice[text] in (None, *_DRESSED.values())}
        n_numeric = sum(text in numeric for text in texts.tolist())
        if 2 * n_numeric < len(texts) or not len(texts):
            continue
        what = f"column {column!r} of {where}"
        for text in different:
            if text.strip().lstrip("+-").isdecimal() and abs(int(text)) > LARGEST_INTEGER:
                raise too_large(what, text.strip(), _IDENTIFIER)
        dirty = [text for text in texts.tolist() if advice[text] is not None]
        if dirty:
            row = int((texts_of(frame[column]) == dirty[0]).argmax()) + 1
            more = f" (and {counted(len(dirty) - 1, 'cell')} more of the kind)" if len(dirty) > 1 else ""
            raise ValueError(f"{what} holds numbers, but {dirty[0]!r} in data row {row}{more}: {advice[dirty[0]]}")


def _advice(text: str) -> str | None:
    """What to do about a cell of a column of numbers; None for a number."""
    if _NUMBER.fullmatch(text):
        return None
    if text.casefold() in _PLACEHOLDERS:
        return "leave the cell empty where the value is missing"
    for form, advice in _DRESSED.items():
        if form.fullmatch(text):
            return advice
    return (
        "write a number, or leave the cell empty where the value is missing (if all of these are names of categories, "
        "begin each with a letter)"
    )


def refuse_text_and_missing(
    frame: pd.DataFrame,
    kinds: Mapping[str, str],
    where: str,
    advice: str = _HOW_TO_ENCODE,
    *,
    gaps_in: Collection[str] | None = None,
) -> None:
    """Refuse columns that are not numbers, and gaps in those that may have none (all by default), each with a cell."""
    texts, gaps = [], []
    for column, kind in kinds.items():
        series = frame[column]
        missing = series.isna().to_numpy(dtype=bool)
        if kind == "text" and not missing.all():
            cells = texts_of(series)
            odd = [i for i in np.flatnonzero(~missing).tolist() if _advice(cells[i].strip()) is not None]
            row = odd[0] if odd else int((~missing).argmax())
            texts.append(f"{column!r} (such as {cells[row]!r} in data row {row + 1})")
        if missing.any() and (gaps_in is None or column in gaps_in):
            rows = np.flatnonzero(missing)
            gaps.append(f"{column!r} ({counted(len(rows), 'row')}, first data row {rows[0] + 1})")
    parts = [f"text in column {shortened(texts)}"] if texts else []
    parts += [f"missing values (NaN) in column {shortened(gaps)}"] if gaps else []
    if parts:
        raise ValueError(f"{where} has {' and '.join(parts)}: {advice}")


def kind_of(series: pd.Series) -> str:
    """``"number"``, ``"boolean"``, ``"text"``, or words for what else the column holds."""
    import pandas as pd
    from pandas.api import types

    dtype = series.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return "text"
    if types.is_bool_dtype(dtype):
        return "boolean"
    if types.is_complex_dtype(dtype):
        return "complex numbers"
    if types.is_numeric_dtype(dtype):
        return "number"
    if types.is_datetime64_any_dtype(dtype):
        return DATES
    if types.is_timedelta64_dtype(dtype):
        return "durations"
    if isinstance(dtype, pd.StringDtype):
        return "text"
    cells = [value for value in series.to_numpy(dtype=object) if value is not None and value is not pd.NA]
    values = [value for value in cells if not (isinstance(value, float) and value != value)]
    if not values:
        return "number"  # nothing but gaps: whoever asks next sees that they are missing
    if all(isinstance(value, (bool, np.bool_)) for value in values):
        return "boolean"
    if all(isinstance(value, (numbers.Real, Decimal)) for value in values):
        return "number"
    if all(isinstance(value, (str, numbers.Real, Decimal)) for value in values):
        return "text"
    if all(isinstance(value, date) for value in values):
        return DATES
    odd = next(value for value in values if not isinstance(value, (str, numbers.Real, Decimal)))
    return f"values of type {type(odd).__name__}"


def is_integer(value: object) -> bool:
    """Whether a cell is a whole number by its type."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def numbers_of(series: pd.Series) -> Array:
    """Cells as float64; missing ones are NaN."""
    return np.asarray(series.to_numpy(dtype=np.float64, na_value=np.nan))


def texts_of(series: pd.Series) -> npt.NDArray[np.object_]:
    """Cells as text; whole floats lose their ``.0``, since pandas adds it to integers beside a gap."""
    values = series.to_numpy(dtype=object)
    out = np.empty(len(values), dtype=object)
    for i, value in enumerate(values):
        whole = isinstance(value, (float, np.floating)) and value.is_integer()
        out[i] = str(int(value)) if whole else str(value)
    return out


def days_of(series: pd.Series) -> Array | None:
    """Dates and times, or ISO texts of them, as days since 1970-01-01 in UTC, NaN for missing ones; None for others.

    Examples
    --------
    >>> import pandas as pd
    >>> days_of(pd.Series(["1970-01-02", None, "1970-01-01 12:00"]))
    array([1. , nan, 0.5])
    """
    import pandas as pd

    if kind_of(series) != DATES:
        known = texts_of(series.dropna())
        if not len(known) or not all(_DATE.fullmatch(text.strip()) for text in known):
            return None
        series = series.astype("object").where(series.notna(), None).map(str.strip, na_action="ignore")
    try:
        times = pd.to_datetime(series, utc=True, format="ISO8601")
    except ValueError:  # 2023-02-30
        return None
    # An epoch of nanoseconds has no place for differences to such dates as 9999-12-31, which stand for "never".
    epoch = pd.Timestamp(0, tz="UTC").as_unit("s")
    return np.asarray((times - epoch) / pd.Timedelta(days=1), dtype=np.float64)


def date_text(day: float) -> str:
    """A day since 1970-01-01 as ISO text, with the time where it is no midnight."""
    return str(np.datetime64(round(day * 86400), "s")).removesuffix("T00:00:00")


def truth_of(texts: npt.NDArray[np.object_]) -> Array | None:
    """1 for yes, true, on … and 0 for their opposites, in any case; None if another word is among them.

    Examples
    --------
    >>> truth_of(np.array(["Yes", "no"], dtype=object))
    array([1., 0.])
    """
    values = [TRUTH.get(str(text).strip().casefold()) for text in texts]
    return None if None in values else np.array(values, dtype=np.float64)
