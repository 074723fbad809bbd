"""The encoding of a table as data: learned on one table, applied to others, kept in the file of a metric."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from certimetric.base.arrays import Array, Indices
from certimetric.base.wording import counted, did_you_mean, listing, repeated, shortened
from certimetric.datasets.tables.columns import (
    checked_kinds,
    numbers_of,
    refuse_dirty,
    refuse_text_and_missing,
    texts_of,
)

if TYPE_CHECKING:
    import pandas as pd

MAX_CATEGORIES = 50
"""More distinct texts than this in one column are taken for an identifier."""

MISSING = " is missing"
"""End of the name of a 0/1 column that says where cells were missing."""


@dataclass(frozen=True)
class ColumnCode:
    """How one column becomes features."""

    name: str
    categories: tuple[str, ...] | None  # texts that have a 0/1 feature each; None for a column of numbers
    # What missing numbers become, NaN where that is not known and they are refused; None for a column of text.
    fill: float | None
    indicator: bool  # whether a last 0/1 feature says where cells are missing

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the features that the column becomes."""
        values = (self.name,) if self.categories is None else tuple(f"{self.name}={text}" for text in self.categories)
        return (*values, f"{self.name}{MISSING}") if self.indicator else values


@dataclass(frozen=True)
class TableEncoder:
    """Categories and medians of a table's columns, made by :meth:`fit`.

    Parameters
    ----------
    columns : tuple of ColumnCode
        In the order of the features.

    Examples
    --------
    >>> import pandas as pd
    >>> people = pd.DataFrame({"age": [30.0, None, 50.0], "sex": ["f", "m", "f"]})
    >>> encoder = TableEncoder.fit(people, where="people.csv")
    >>> encoder.feature_names
    ('age', 'age is missing', 'sex=f', 'sex=m')
    >>> encoder.transform(pd.DataFrame({"sex": ["m"], "age": [None]}), where="new.csv")[0]
    array([[40.,  1.,  0.,  1.]])
    """

    columns: tuple[ColumnCode, ...]

    @classmethod
    def fit(cls, frame: pd.DataFrame, *, where: str) -> TableEncoder:
        """Learn the texts of columns of text, and the medians of columns of numbers.

        Raises
        ------
        ValueError
            If a column holds infinite values, something that is neither number nor text, numbers with cells among them
            that are none, more than 50 distinct texts, or nothing at all; if two features would have the same name.
        """
        kinds = checked_kinds(frame, where)
        refuse_dirty(frame, kinds, where)
        columns = []
        for column, kind in kinds.items():
            missing = frame[column].isna().to_numpy(dtype=bool)
            if missing.all():
                raise ValueError(f"column {column!r} of {where} has no value in any row: leave it out")
            if kind == "text":
                values = tuple(sorted(set(texts_of(frame[column])[~missing].tolist())))
                if len(values) > MAX_CATEGORIES:
                    raise ValueError(
                        f"column {column!r} of {where} holds {len(values)} distinct texts, more than "
                        f"{MAX_CATEGORIES}: it looks like an identifier, leave it out"
                    )
                columns.append(ColumnCode(column, values, None, bool(missing.any())))
            else:
                median = float(np.median(numbers_of(frame[column])[~missing]))
                columns.append(ColumnCode(column, None, median, bool(missing.any())))
        encoder = cls(tuple(columns))
        if twice := repeated(encoder.feature_names):
            raise ValueError(f"encoding {where} gives columns with the same name: {listing(twice)}")
        return encoder

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the d features."""
        return tuple(name for column in self.columns for name in column.feature_names)

    def transform(self, frame: pd.DataFrame, *, where: str) -> tuple[Array, npt.NDArray[np.bool_]]:
        """Turn a table into features.

        Parameters
        ----------
        frame : DataFrame of n rows
            Columns that no feature needs are ignored.
        where : str
            What the frame was read from, for messages.

        Returns
        -------
        X : ndarray of shape (n, d)
            Finite float64.
        imputed : bool ndarray of shape (n, d)
            Cells of X that were missing, and are medians.

        Raises
        ------
        ValueError
            If a column is missing, holds text where numbers are known, a text that :meth:`fit` did not see, or a gap
            in a column of text that had none.
        """
        wanted = [column.name for column in self.columns]
        if absent := [name for name in wanted if name not in frame.columns]:
            raise ValueError(
                f"{where} lacks {len(absent)} of {counted(len(wanted), 'column')}: {listing(absent)}"
                f"{did_you_mean(absent[0], [str(column) for column in frame.columns])}; its columns are "
                f"{listing(frame.columns)}"
            )
        frame = frame[wanted]
        kinds = checked_kinds(frame, where)
        numeric = {column.name: kinds[column.name] for column in self.columns if column.categories is None}
        refuse_dirty(frame, numeric, where)
        unknown = {column.name for column in self.columns if column.fill is not None and math.isnan(column.fill)}
        advice = "numbers are needed there"
        if unknown:
            advice += ", with gaps filled in as in the table that the features come from"
        refuse_text_and_missing(frame, numeric, where, advice, gaps_in=unknown)
        blocks: list[Array] = []
        imputed: list[npt.NDArray[np.bool_]] = []
        for column in self.columns:
            missing = frame[column.name].isna().to_numpy(dtype=bool)
            if column.categories is None:
                values = numbers_of(frame[column.name])
                blocks.append(np.where(missing, np.float64(column.fill or 0.0), values))
                imputed.append(missing)
            else:
                blocks += _one_hot(column, frame[column.name], missing, where)
                imputed += [np.zeros(len(frame), dtype=bool)] * len(column.categories)
            if column.indicator:
                blocks.append(missing.astype(np.float64))
                imputed.append(np.zeros(len(frame), dtype=bool))
        return np.ascontiguousarray(np.column_stack(blocks)), np.column_stack(imputed)

    def told(self, imputed: npt.NDArray[np.bool_]) -> str | None:
        """One sentence on the values that were filled in; None where there were none.

        Examples
        --------
        >>> TableEncoder((ColumnCode("age", None, 40.0, True),)).told(np.array([[True, False], [True, False]]))
        "2 missing values filled by medians: 'age' (2, by 40)"
        """
        counts = dict(zip(self.feature_names, imputed.sum(axis=0).tolist()))
        parts = [
            f"{column.name!r} ({counts[column.name]}, by {column.fill:g})"
            for column in self.columns
            if column.categories is None and counts[column.name]
        ]
        if not parts:
            return None
        return f"{counted(int(imputed.sum()), 'missing value')} filled by medians: {shortened(parts, 6)}"

    def to_dict(self) -> dict[str, Any]:
        """The encoder as JSON-like data."""
        return {"columns": [asdict(column) for column in self.columns]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TableEncoder:
        """The encoder of data that :meth:`to_dict` gave.

        Raises
        ------
        ValueError
            If they are anything else.
        """
        try:
            columns = tuple(_code(**column) for column in data["columns"])
            if not columns:
                raise ValueError
        except (KeyError, TypeError, ValueError):
            raise ValueError(
                "the encoding must list its columns, each with name, categories, fill and indicator"
            ) from None
        return cls(columns)


def fill_gaps(X: Array, imputed: npt.NDArray[np.bool_], rows: Indices) -> Array:
    """The same features with their filled gaps at the medians of other rows, such as those of a training part.

    Parameters
    ----------
    X : ndarray of shape (n, d)
    imputed : bool ndarray of shape (n, d)
        Cells of X that were missing (see :class:`~certimetric.datasets.Dataset`).
    rows : int ndarray
        Rows whose medians count. A feature without any value among them keeps what it was filled with.

    Returns
    -------
    ndarray of shape (n, d)
        X itself where nothing was missing.

    Examples
    --------
    >>> X, imputed = np.array([[1.0], [3.0], [9.0], [6.0]]), np.array([[False], [False], [False], [True]])
    >>> fill_gaps(X, imputed, np.array([0, 1, 3])).ravel()
    array([1., 3., 9., 2.])
    """
    if not imputed.any():
        return X
    filled = X.copy()
    for j in np.flatnonzero(imputed.any(axis=0)):
        known = X[rows, j][~imputed[rows, j]]
        if len(known):
            filled[imputed[:, j], j] = np.median(known)
    return filled


def _one_hot(column: ColumnCode, series: pd.Series, missing: npt.NDArray[np.bool_], where: str) -> list[Array]:
    assert column.categories is not None
    texts = texts_of(series)
    if unseen := sorted(set(texts[~missing].tolist()) - set(column.categories)):
        raise ValueError(
            f"column {column.name!r} of {where} holds {listing(unseen)}, expected one of {listing(column.categories)}"
        )
    if missing.any() and not column.indicator:
        raise ValueError(
            f"column {column.name!r} of {where} has no value in {counted(int(missing.sum()), 'row')}, first data row "
            f"{int(missing.argmax()) + 1}: it had one in every row of the table that the features come from, so that "
            f"there is no feature {column.name + MISSING!r}"
        )
    return [((texts == value) & ~missing).astype(np.float64) for value in column.categories]


def _code(name: Any, categories: Any, fill: Any, indicator: Any) -> ColumnCode:
    if not isinstance(name, str) or not isinstance(indicator, bool) or (categories is None) == (fill is None):
        raise ValueError
    if categories is not None:
        return ColumnCode(name, tuple(str(text) for text in categories), None, indicator)
    if not math.isfinite(fill):
        raise ValueError
    return ColumnCode(name, None, float(fill), indicator)
