"""The encoding of a table as data: learned on one table, applied to others, kept in the file of a metric."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from certimetric.base.arrays import Array, Indices
from certimetric.base.wording import counted, did_you_mean, listing, repeated, shortened
from certimetric.datasets.tables.columns import DATES, checked_kinds, refuse_dirty, refuse_text_and_missing
from certimetric.datasets.tables.frames import as_pandas

if TYPE_CHECKING:
    import pandas as pd

from certimetric.datasets.tables.column_code import (
    CATEGORY,
    NUMBER,
    ColumnCode,
    Encoding,
    code_of,
    learned_code,
    middle,
)


@dataclass(frozen=True)
class TableEncoder:
    """How the columns of a table become features, learned by :meth:`fit`, without a look at the labels.

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
    >>> X, _ = encoder.transform(pd.DataFrame({"sex": ["m"], "age": [None]}), where="new.csv")
    >>> X
    array([[40.,  1.,  0.,  1.]])
    >>> encoder.decode(X)
        age sex
    0  None   m
    """

    columns: tuple[ColumnCode, ...]

    @classmethod
    def fit(cls, frame: Any, encoding: Encoding | bool = True, *, where: str = "the table") -> TableEncoder:
        """Learn what each column holds and how it becomes features: the categories of columns of text, what gaps of
        columns of numbers are filled with.

        Numbers stay, with gaps at their median; yes and no (or true and false, on and off) become 1 and 0, with gaps at
        the more frequent; ISO dates and times become days since 1970-01-01, with gaps at their median; other texts
        become a 0/1 feature each, ``column=text``, of which none is 1 in a gap; ordered categories (of pandas, or of
        ``encoding``) become their position, with gaps at the median one. Behind each column with gaps stands the 0/1
        feature ``column is missing``.

        Parameters
        ----------
        frame : data frame of pandas, polars or Arrow
        encoding : Encoding, optional
        where : str
            What the frame was read from, for messages.

        Raises
        ------
        ValueError
            If a column holds infinite values, something that is neither number nor text nor date, numbers with cells
            among them that are none, more than 50 distinct texts, or nothing at all; if two features would have the
            same name.
        """
        frame = as_pandas(frame)
        told = encoding if isinstance(encoding, Encoding) else Encoding()
        kinds = checked_kinds(frame, where, dates=True)
        told.check(list(kinds), where)
        said = {*told.ordinal, *told.categorical}
        refuse_dirty(frame, {name: kind for name, kind in kinds.items() if name not in said}, where)
        encoder = cls(tuple(learned_code(frame[name], kind, told, where) for name, kind in kinds.items()))
        if twice := repeated(encoder.feature_names):
            raise ValueError(f"encoding {where} gives columns with the same name: {listing(twice)}")
        return encoder

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the d features."""
        return tuple(name for column in self.columns for name in column.feature_names)

    @property
    def features_of(self) -> dict[str, tuple[str, ...]]:
        """Names of the features that each column becomes."""
        return {column.name: column.feature_names for column in self.columns}

    def transform(self, frame: Any, *, where: str = "the table") -> tuple[Array, npt.NDArray[np.bool_]]:
        """Turn a table into features.

        Parameters
        ----------
        frame : data frame of pandas, polars or Arrow with n rows
            Columns that no feature needs are ignored.
        where : str
            What the frame was read from, for messages.

        Returns
        -------
        X : ndarray of shape (n, d)
            Finite float64.
        imputed : bool ndarray of shape (n, d)
            Cells of X that were missing, and were filled.

        Raises
        ------
        ValueError
            If a column is missing, holds text where numbers are known, a text that :meth:`fit` did not see, or a gap
            in a column of text that had none.
        """
        frame = as_pandas(frame)
        wanted = [column.name for column in self.columns]
        if absent := [name for name in wanted if name not in frame.columns]:
            raise ValueError(
                f"{where} lacks {len(absent)} of {counted(len(wanted), 'column')}: {listing(absent)}"
                f"{did_you_mean(absent[0], [str(column) for column in frame.columns])}; its columns are "
                f"{listing(frame.columns)}"
            )
        frame = frame[wanted]
        kinds = checked_kinds(frame, where, dates=True)
        numeric = {column.name: kinds[column.name] for column in self.columns if column.kind == NUMBER}
        if dates := [name for name, kind in numeric.items() if kind == DATES]:
            raise ValueError(f"column {dates[0]!r} of {where} holds {DATES}: numbers are needed there")
        refuse_dirty(frame, numeric, where)
        unknown = {column.name for column in self.columns if column.fill is not None and math.isnan(column.fill)}
        advice = "numbers are needed there"
        if unknown:
            advice += ", with gaps filled in as in the table that the features come from"
        refuse_text_and_missing(frame, numeric, where, advice, gaps_in=unknown)
        blocks: list[Array] = []
        imputed: list[npt.NDArray[np.bool_]] = []
        none = np.zeros(len(frame), dtype=bool)
        for column in self.columns:
            missing = frame[column.name].isna().to_numpy(dtype=bool)
            blocks += column.encode(frame[column.name], missing, where)
            imputed += [none] * len(column.values) if column.kind == CATEGORY else [missing]
            if column.indicator:
                blocks.append(missing.astype(np.float64))
                imputed.append(none)
        return np.ascontiguousarray(np.column_stack(blocks)), np.column_stack(imputed)

    def decode(self, X: Array) -> pd.DataFrame:
        """The table that features (n, d) stand for: each cell the nearest that :meth:`transform` knows.

        Missing cells are None, dates ISO text.
        """
        import pandas as pd

        cells: dict[str, list[Any]] = {}
        start = 0
        for column in self.columns:
            width = len(column.feature_names)
            cells[column.name] = column.decode(X[:, start : start + width])
            start += width
        return pd.DataFrame({name: pd.Series(column, dtype=object) for name, column in cells.items()})

    def refilled(self, X: Array, imputed: npt.NDArray[np.bool_] | None, rows: Indices) -> TableEncoder:
        """The encoder with what gaps become taken from some rows of the features, as :func:`fill_gaps` takes it."""
        if imputed is None:
            return self
        fills = dict(zip(self.feature_names, _fills(X, imputed, rows)))
        return TableEncoder(
            tuple(
                column if fills.get(column.name) is None else replace(column, fill=fills[column.name])
                for column in self.columns
            )
        )

    def told(self, imputed: npt.NDArray[np.bool_]) -> str | None:
        """One sentence on the values that were filled in; None where there were none.

        Examples
        --------
        >>> TableEncoder((ColumnCode("age", None, 40.0, True),)).told(np.array([[True, False], [True, False]]))
        "2 missing values filled by medians: 'age' (2, by 40)"
        """
        counts = dict(zip(self.feature_names, imputed.sum(axis=0).tolist()))
        parts = [
            f"{column.name!r} ({counts[column.name]}, by {column.decode(np.array([[column.fill, 0.0]]))[0]})"
            if column.kind != NUMBER
            else f"{column.name!r} ({counts[column.name]}, by {column.fill:g})"
            for column in self.columns
            if column.kind != CATEGORY and counts[column.name]
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
            columns = tuple(code_of(**column) for column in data["columns"])
            if not columns:
                raise ValueError
        except (KeyError, TypeError, ValueError):
            raise ValueError(
                "the encoding must list its columns, each with name, kind, categories, fill and indicator"
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
    for j, fill in enumerate(_fills(X, imputed, rows)):
        if fill is not None:
            filled[imputed[:, j], j] = fill
    return filled


def _fills(X: Array, imputed: npt.NDArray[np.bool_], rows: Indices) -> list[float | None]:
    """What gaps of each feature become by the values of some rows; None where there are no gaps, or no values."""
    fills: list[float | None] = [None] * X.shape[1]
    for j in np.flatnonzero(imputed.any(axis=0)).tolist():
        known = X[rows, j][~imputed[rows, j]]
        fills[j] = middle(known) if len(known) else None
    return fills
