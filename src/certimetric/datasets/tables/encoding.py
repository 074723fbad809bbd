"""From the columns of a table to a finite float64 matrix and a vector of labels.

A table of numbers and booleans needs no decision. Text and missing values do, so they are errors that name
the columns, unless an encoding is asked for: :func:`certimetric.datasets.load` says which it is, and what leaks by it.
Functions here take ``where``, what the table was read from, for their messages.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from certimetric.base.arrays import Array, Indices
from certimetric.base.wording import counted, did_you_mean, listing
from certimetric.datasets.tables.column_code import CATEGORY, MISSING, NUMBER, ColumnCode, Encoding
from certimetric.datasets.tables.columns import (
    LARGEST_INTEGER,
    checked_kinds,
    is_integer,
    kind_of,
    numbers_of,
    refuse_dirty,
    refuse_text_and_missing,
    too_large,
)
from certimetric.datasets.tables.encoder import TableEncoder

if TYPE_CHECKING:
    import pandas as pd


def encode_features(
    frame: pd.DataFrame, *, where: str, encode: bool | Encoding = False
) -> tuple[Array, tuple[str, ...]]:
    """Turn the columns of a frame of n rows into a matrix (n, d) of float64, with d names.

    It refuses what :meth:`TableEncoder.fit` refuses, and with ``encode=False`` text and missing values, too.

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
    if encode:
        encoder = TableEncoder.fit(frame, encode, where=where)
        return encoder.transform(frame, where=where)[0], encoder.feature_names
    kinds = checked_kinds(frame, where)
    refuse_dirty(frame, kinds, where)
    refuse_text_and_missing(frame, kinds, where)
    return np.ascontiguousarray(np.column_stack([numbers_of(frame[column]) for column in kinds])), tuple(kinds)


def encode_like(
    frame: pd.DataFrame, feature_names: Sequence[str], *, where: str, encode: bool | Encoding = False
) -> Array:
    """Turn the columns of a second table into the features (n, d) of a first one, in the order of their names.

    Columns that no feature needs are ignored. With ``encode=True`` the names may be those of encoded columns. It
    refuses missing columns and numbers (the first table's median is not known here), and what
    :meth:`TableEncoder.transform` does.

    Examples
    --------
    >>> import pandas as pd
    >>> frame = pd.DataFrame({"sex": ["m"], "age": [41]})
    >>> encode_like(frame, ("age", "sex=f", "sex=m"), where="query.csv", encode=True)
    array([[41.,  0.,  1.]])
    """
    origins = {name: origin for name in feature_names if (origin := _origin(name, frame, bool(encode))) is not None}
    if absent := [name for name in feature_names if name not in origins]:
        raise ValueError(_absent_message(absent, feature_names, frame, where, bool(encode)))
    parts: dict[str, list[str | None]] = {}
    for column, part in origins.values():
        parts.setdefault(column, []).append(part)
    encoder = TableEncoder(tuple(_code_of(column, made) for column, made in parts.items()))
    X, _ = encoder.transform(frame, where=where)
    places = {name: place for place, name in enumerate(encoder.feature_names)}
    if absent := [name for name in feature_names if name not in places]:  # no column is both numbers and texts
        raise ValueError(_absent_message(absent, feature_names, frame, where, bool(encode)))
    return np.ascontiguousarray(X[:, [places[name] for name in feature_names]])


def encode_labels(series: pd.Series, *, where: str) -> npt.NDArray[Any]:
    """Turn a target column of n rows into labels (n,): strings or int64.

    Integers stay, booleans become 0 and 1, floats that are all whole numbers become integers, everything else becomes
    strings as written. Missing and infinite labels are refused, and numbers with fractions (a regression target). There
    is no check that two classes occur (queries may all be of one).

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
            f"{int(missing.argmax()) + 1}: label these rows or leave them out (in CSV an empty cell, ?, NA, NaN, null "
            f"and None are missing: a class of such a name needs another)"
        )
    kind = kind_of(series)
    if kind == "boolean":
        return numbers_of(series).astype(np.int64)
    if kind == "number":
        values = np.asarray(series.to_numpy())
        if values.dtype.kind in "iuO" and all(is_integer(value) for value in values.tolist()):
            return _integers(values.tolist(), what)
        floats = numbers_of(series)
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
    if all(is_integer(value) for value in values):  # a categorical type over integers
        return _integers(values.tolist(), what)
    texts = [str(value) for value in values]
    if all(text.strip().lstrip("+-").isdecimal() for text in texts):
        _integers(texts, what)  # the reader made text of them where they do not fit
    trimmed = {text: text.strip() for text in set(texts)}
    if len(set(trimmed.values())) < len(trimmed):
        twins = sorted(text for text in trimmed if list(trimmed.values()).count(text.strip()) > 1)
        raise ValueError(
            f"{what} holds classes that differ only in spaces, {twins[0]!r} and {twins[1]!r}: make them one"
        )
    return np.asarray(texts, dtype=np.str_)


def _integers(values: Sequence[Any], what: str) -> Indices:
    """Whole numbers, or texts of them, as labels."""
    if large := [value for value in values if not -(2**63) <= int(value) <= LARGEST_INTEGER]:
        raise too_large(what, large[0], "labels of that size need a letter")
    return np.array(values, dtype=object).astype(np.int64)


def _origin(name: str, frame: pd.DataFrame, encode: bool) -> tuple[str, str | None] | None:
    """(column, part) a feature is made from: part is None, ``"=text"`` or the indicator's ending."""
    if name in frame.columns:
        return name, None
    if not encode:
        return None
    if name.endswith(MISSING) and name[: -len(MISSING)] in frame.columns:
        return name[: -len(MISSING)], MISSING
    for position in (i for i, letter in enumerate(name) if letter == "="):
        if name[:position] in frame.columns:
            return name[:position], name[position:]
    return None


def _code_of(column: str, parts: Sequence[str | None]) -> ColumnCode:
    """How a column becomes the features of these parts; what its gaps were filled with is not known."""
    texts = tuple(part[1:] for part in parts if part is not None and part != MISSING)
    kind = CATEGORY if texts else NUMBER
    return ColumnCode(column, texts or None, None if texts else math.nan, MISSING in parts, kind)


def _absent_message(
    absent: list[str], feature_names: Sequence[str], frame: pd.DataFrame, where: str, encode: bool
) -> str:
    message = f"{where} lacks {len(absent)} of {counted(len(feature_names), 'feature')}: {listing(absent)}"
    if not encode and all(_origin(name, frame, True) for name in absent):
        return f"{message}: pass encode=True, as for the table that they come from"
    columns = [str(column) for column in frame.columns]
    return f"{message}{did_you_mean(absent[0], columns)}; its columns are {listing(columns)}"
