"""From the columns of a table to a finite float64 matrix and a vector of labels.

A table of numbers and booleans needs no decision. Text and missing values do, so they are errors that name
the columns, unless an encoding is asked for. That encoding is, for every column of text (or of a categorical
type)

* one column per distinct text, called ``column=text``, in the sorted order of the texts, holding 0 or 1;
* a last column ``column is missing`` if some cells are missing (the others are then 0);

and for every column of numbers or booleans with missing cells

* the column itself, with the missing cells set to the median of the others;
* a column ``column is missing`` after it, holding 0 or 1.

Columns keep their place. More than 50 distinct texts in a column are an error: it looks like an identifier.

**A median over the whole file leaks.** The encoding sees every row, those of a later test split too. The leak
is mild (one number per column), but where it matters, load a table whose missing cells are still missing with
:func:`~certimetric.datasets.read_table`, and put ``SimpleImputer(strategy="median", add_indicator=True)`` in
front of the learner in a ``Pipeline``, so that cross-validation fits it on training rows only.
"""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from certimetric.datasets.wording import counted, did_you_mean, listing

if TYPE_CHECKING:
    import pandas as pd

MAX_CATEGORIES = 50
"""More distinct texts than this in one column are taken for an identifier."""

_MISSING = " is missing"
_HOW_TO_ENCODE = (
    "make them numbers, leave them out, or pass encode=True, on the command line --encode (text becomes 0/1 columns, "
    "missing numbers the median with a 0/1 indicator)"
)


def encode_features(
    frame: pd.DataFrame, *, where: str, encode: bool = False
) -> tuple[npt.NDArray[np.float64], tuple[str, ...]]:
    """Turn feature columns into a matrix.

    Parameters
    ----------
    frame : DataFrame of n rows
        The feature columns only, with different names.
    where : str
        What the frame was read from, for messages.
    encode : bool, default False
        Encode text and missing values as the module's documentation says, instead of refusing them.

    Returns
    -------
    X : ndarray of shape (n, d)
        Finite float64.
    feature_names : tuple of str
        d names; those of the frame if nothing was encoded.

    Raises
    ------
    ValueError
        If there is no column; if a column holds infinite values, or dates, lists or other things that are
        neither numbers nor text; with ``encode=False`` if one holds text or missing values; with
        ``encode=True`` if one holds more than 50 distinct texts, or nothing at all.

    Examples
    --------
    >>> import pandas as pd
    >>> frame = pd.DataFrame({"age": [30.0, None, 50.0], "sex": ["f", "m", "f"]})
    >>> X, names = encode_features(frame, where="people.csv", encode=True)
    >>> names
    ('age', 'age is missing', 'sex=f', 'sex=m')
    >>> X
    array([[30.,  0.,  1.,  0.],
           [40.,  1.,  0.,  1.],
           [50.,  0.,  1.,  0.]])
    """
    if frame.shape[1] == 0:
        raise ValueError(f"{where} has no feature column: at least one column of numbers is needed")
    kinds = _checked_kinds(frame, where)
    if not encode:
        _refuse_text_and_missing(frame, kinds, where)
    blocks: list[npt.NDArray[np.float64]] = []
    names: list[str] = []
    for column, kind in kinds.items():
        series = frame[column]
        missing = series.isna().to_numpy(dtype=bool)
        if missing.all():
            raise ValueError(f"column {column!r} of {where} has no value in any row: leave it out")
        if kind == "text":
            texts = _texts(series)
            values = sorted(set(texts[~missing].tolist()))
            if len(values) > MAX_CATEGORIES:
                raise ValueError(
                    f"column {column!r} of {where} holds {len(values)} distinct texts, more than "
                    f"{MAX_CATEGORIES}: it looks like an identifier, leave it out"
                )
            blocks += [((texts == value) & ~missing).astype(np.float64) for value in values]
            names += [f"{column}={value}" for value in values]
        else:
            numbers_ = _numbers(series)
            if missing.any():
                numbers_ = np.where(missing, np.median(numbers_[~missing]), numbers_)
            blocks.append(numbers_)
            names.append(column)
        if missing.any():
            blocks.append(missing.astype(np.float64))
            names.append(f"{column}{_MISSING}")
    repeated = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if repeated:
        raise ValueError(f"encoding {where} gives columns with the same name: {listing(repeated)}")
    return np.ascontiguousarray(np.column_stack(blocks)), tuple(names)


def encode_like(
    frame: pd.DataFrame, feature_names: Sequence[str], *, where: str, encode: bool = False
) -> npt.NDArray[np.float64]:
    """Turn the columns of a second table into the features of a first one, in its order.

    Parameters
    ----------
    frame : DataFrame of n rows
        Any columns; those that no feature needs are ignored.
    feature_names : sequence of str
        The d names that :func:`encode_features` gave for the first table.
    where : str
        What the frame was read from, for messages.
    encode : bool, default False
        Whether the names may be those of encoded columns.

    Returns
    -------
    ndarray of shape (n, d)
        Finite float64.

    Raises
    ------
    ValueError
        If a feature has no column; if a needed column holds infinite values or something that is neither
        number nor text; if one of text holds a text that the first table did not have; if a number is missing
        (the first table's median is not known here).

    Examples
    --------
    >>> import pandas as pd
    >>> frame = pd.DataFrame({"sex": ["m"], "age": [41]})
    >>> encode_like(frame, ("age", "sex=f", "sex=m"), where="query.csv", encode=True)
    array([[41.,  0.,  1.]])
    """
    origins = {name: _origin(name, frame, encode) for name in feature_names}
    absent = [name for name, origin in origins.items() if origin is None]
    if absent:
        raise ValueError(_absent_message(absent, feature_names, frame, where, encode))
    found = {name: origin for name, origin in origins.items() if origin is not None}
    frame = frame[list(dict.fromkeys(column for column, _ in found.values()))]
    kinds = _checked_kinds(frame, where)
    text_columns = {column for column, part in found.values() if part is not None and part != _MISSING}
    numeric = [column for column in frame.columns if column not in text_columns]
    _refuse_text_and_missing(
        frame[numeric],
        {column: kinds[column] for column in numeric},
        where,
        advice="numbers are needed there, with gaps filled in as in the table that the features come from",
    )
    texts = {column: _texts(frame[column]) for column in text_columns}
    gaps = {column: frame[column].isna().to_numpy(dtype=bool) for column in frame.columns}
    for column in sorted(text_columns):
        known = {part[1:] for c, part in found.values() if c == column and part is not None and part != _MISSING}
        unseen = sorted(set(texts[column][~gaps[column]].tolist()) - known)
        if unseen:
            raise ValueError(
                f"column {column!r} of {where} holds {listing(unseen)}, expected one of {listing(sorted(known))}"
            )
        if gaps[column].any() and f"{column}{_MISSING}" not in found:
            raise ValueError(
                f"column {column!r} of {where} has no value in {counted(int(gaps[column].sum()), 'row')}: "
                f"the features have no column {column + _MISSING!r} for that"
            )
    blocks = []
    for column, part in found.values():
        if part is None:
            blocks.append(_numbers(frame[column]))
        elif part == _MISSING:
            blocks.append(gaps[column].astype(np.float64))
        else:
            blocks.append(((texts[column] == part[1:]) & ~gaps[column]).astype(np.float64))
    return np.ascontiguousarray(np.column_stack(blocks))


def encode_labels(series: pd.Series, *, where: str) -> npt.NDArray[Any]:
    """Turn a target column into labels: strings or int64.

    Integers stay, booleans become 0 and 1, floats that are all whole numbers become integers, everything else
    becomes strings as written. There is no check that two classes occur (queries may all be of one).

    Parameters
    ----------
    series : Series of n rows
        The target column.
    where : str
        What it was read from, for messages.

    Returns
    -------
    ndarray of shape (n,)

    Raises
    ------
    ValueError
        If labels are missing or infinite, or if they are numbers with fractions (a regression target).

    Examples
    --------
    >>> import pandas as pd
    >>> encode_labels(pd.Series([1.0, -1.0]), where="toy.csv")
    array([ 1, -1])
    """
    what = f"target column {str(series.name)!r} of {where}"
    missing = series.isna().to_numpy(dtype=bool)
    if missing.any():
        raise ValueError(
            f"{what} has no label in {counted(int(missing.sum()), 'row')}, first in data row "
            f"{int(missing.argmax()) + 1}: label these rows or leave them out"
        )
    kind = _kind(series)
    if kind == "boolean":
        return _numbers(series).astype(np.int64)
    if kind == "number":
        values = np.asarray(series.to_numpy())
        if values.dtype.kind in "iu":
            return values.astype(np.int64)
        floats = _numbers(series)
        if np.isinf(floats).any():
            raise ValueError(f"{what} holds infinite values: class labels are needed")
        fractions = floats != np.floor(floats)
        if fractions.any():
            raise ValueError(
                f"{what} holds numbers with fractions such as {floats[fractions][0]:g}: this looks like a "
                f"regression target, class labels are needed"
            )
        if np.abs(floats).max() > 2**53:  # beyond it float64 skips integers, so labels would merge
            raise ValueError(f"{what} holds numbers beyond 2**53: class labels are needed")
        return floats.astype(np.int64)
    if kind != "text":
        raise ValueError(f"{what} holds {kind}: class labels are needed (text or whole numbers)")
    values = np.asarray(series.to_numpy(dtype=object))
    if all(_is_integer(value) for value in values):  # a categorical type over integers
        return values.astype(np.int64)
    return np.asarray([str(value) for value in values], dtype=np.str_)


def _checked_kinds(frame: pd.DataFrame, where: str) -> dict[str, str]:
    """Kind of each column, after refusing what no encoding helps with."""
    kinds = {str(column): _kind(frame[column]) for column in frame.columns}
    for column, kind in kinds.items():
        if kind not in ("number", "boolean", "text"):
            raise ValueError(f"column {column!r} of {where} holds {kind}: make it numbers or text, or leave it out")
    infinite = []
    for column in (column for column, kind in kinds.items() if kind == "number"):
        rows = np.flatnonzero(np.isinf(_numbers(frame[column])))
        if len(rows):
            infinite.append(f"{column!r} ({counted(len(rows), 'row')}, first data row {rows[0] + 1})")
    if infinite:
        raise ValueError(
            f"{where} has infinite values in column {_joined(infinite)}: replace them or leave the rows out"
        )
    return kinds


def _refuse_text_and_missing(
    frame: pd.DataFrame, kinds: dict[str, str], where: str, advice: str = _HOW_TO_ENCODE
) -> None:
    texts, gaps = [], []
    for column, kind in kinds.items():
        series = frame[column]
        missing = series.isna().to_numpy(dtype=bool)
        if kind == "text" and not missing.all():
            texts.append(f"{column!r} (such as {_texts(series)[~missing][0]!r})")
        if missing.any():
            rows = np.flatnonzero(missing)
            gaps.append(f"{column!r} ({counted(len(rows), 'row')}, first data row {rows[0] + 1})")
    parts = [f"text in column {_joined(texts)}"] if texts else []
    parts += [f"missing values (NaN) in column {_joined(gaps)}"] if gaps else []
    if parts:
        raise ValueError(f"{where} has {' and '.join(parts)}: {advice}")


def _origin(name: str, frame: pd.DataFrame, encode: bool) -> tuple[str, str | None] | None:
    """(column, part) a feature is made from: part is None, ``"=text"`` or the indicator's ending."""
    if name in frame.columns:
        return name, None
    if not encode:
        return None
    if name.endswith(_MISSING) and name[: -len(_MISSING)] in frame.columns:
        return name[: -len(_MISSING)], _MISSING
    for position in (i for i, letter in enumerate(name) if letter == "="):
        if name[:position] in frame.columns:
            return name[:position], name[position:]
    return None


def _absent_message(
    absent: list[str], feature_names: Sequence[str], frame: pd.DataFrame, where: str, encode: bool
) -> str:
    message = f"{where} lacks {len(absent)} of {counted(len(feature_names), 'feature')}: {listing(absent)}"
    if not encode and all(_origin(name, frame, True) for name in absent):
        return f"{message}: pass encode=True, as for the table that they come from"
    columns = [str(column) for column in frame.columns]
    return f"{message}{did_you_mean(absent[0], columns)}; its columns are {listing(columns)}"


def _kind(series: pd.Series) -> str:
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
    if types.is_datetime64_any_dtype(dtype) or types.is_timedelta64_dtype(dtype):
        return "dates or times"
    if isinstance(dtype, pd.StringDtype):
        return "text"
    values = [value for value in series.to_numpy(dtype=object) if not _is_null(value)]
    if not values:
        return "number"  # nothing but gaps: whoever asks next sees that they are missing
    if all(isinstance(value, (bool, np.bool_)) for value in values):
        return "boolean"
    if all(isinstance(value, (numbers.Real, Decimal)) for value in values):
        return "number"
    if all(isinstance(value, (str, numbers.Real, Decimal)) for value in values):
        return "text"
    odd = next(value for value in values if not isinstance(value, (str, numbers.Real, Decimal)))
    return f"values of type {type(odd).__name__}"


def _is_null(value: object) -> bool:
    import pandas as pd

    return value is None or value is pd.NA or (isinstance(value, float) and value != value)


def _is_integer(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _numbers(series: pd.Series) -> npt.NDArray[np.float64]:
    return np.asarray(series.to_numpy(dtype=np.float64, na_value=np.nan))


def _texts(series: pd.Series) -> npt.NDArray[np.object_]:
    """Cells as text; whole floats lose their ``.0``, since pandas adds it to integers beside a gap."""
    values = series.to_numpy(dtype=object)
    out = np.empty(len(values), dtype=object)
    for i, value in enumerate(values):
        whole = isinstance(value, (float, np.floating)) and value.is_integer()
        out[i] = str(int(value)) if whole else str(value)
    return out


def _joined(parts: list[str], limit: int = 8) -> str:
    return ", ".join(parts[:limit]) + (f" and {len(parts) - limit} more" if len(parts) > limit else "")
