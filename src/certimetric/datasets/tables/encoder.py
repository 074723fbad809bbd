"""The encoding of a table as data: learned on one table, applied to others, kept in the file of a metric."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from certimetric.base.arrays import Array, Indices
from certimetric.base.wording import counted, did_you_mean, listing, repeated, shortened
from certimetric.datasets.tables.columns import (
    DATES,
    checked_kinds,
    date_text,
    days_of,
    kind_of,
    numbers_of,
    refuse_dirty,
    refuse_text_and_missing,
    texts_of,
    truth_of,
)
from certimetric.datasets.tables.frames import as_pandas

if TYPE_CHECKING:
    import pandas as pd

MAX_CATEGORIES = 50
"""More distinct texts than this in one column are taken for an identifier."""

MISSING = " is missing"
"""End of the name of a 0/1 column that says where cells were missing."""


NUMBER, BOOLEAN, DATE, ORDINAL, CATEGORY = KINDS = ("number", "boolean", "date", "ordinal", "category")


@dataclass(frozen=True)
class Encoding:
    """What is said of columns that are to be encoded, beyond what their cells show.

    Parameters
    ----------
    ordinal : mapping of column to sequence of text
        Categories in their order: such a column becomes one feature, of the positions 0, 1, ….
    categorical : sequence of str
        Columns of numbers that are categories, such as postal codes.

    Examples
    --------
    >>> import pandas as pd
    >>> shirts = pd.DataFrame({"size": ["S", "L", "M"], "shop": [7, 12, 7]})
    >>> told = Encoding(ordinal={"size": ["S", "M", "L"]}, categorical=["shop"])
    >>> encoder = TableEncoder.fit(shirts, told, where="shirts.csv")
    >>> encoder.feature_names
    ('size', 'shop=12', 'shop=7')
    >>> encoder.transform(shirts, where="shirts.csv")[0][:, 0]
    array([0., 2., 1.])
    """

    ordinal: Mapping[str, Sequence[str]] = field(default_factory=dict)
    categorical: Sequence[str] = ()

    def check(self, columns: Sequence[str], where: str) -> None:
        """Refuse columns that are not there or told twice, and orders without two different categories."""
        for name in [*self.ordinal, *self.categorical]:
            if name not in columns:
                raise ValueError(
                    f"the encoding names the column {name!r}, which is not there{did_you_mean(name, columns)}: {where} "
                    f"has {listing(columns, limit=12)}"
                )
        if twice := repeated([*self.ordinal, *self.categorical]):
            raise ValueError(f"the encoding tells of column {twice[0]!r} twice: it is ordinal or categorical, and once")
        for name, order in self.ordinal.items():
            if len(order) < 2 or len(set(order)) < len(order):
                raise ValueError(f"the order of column {name!r} must be of different categories, got {listing(order)}")


@dataclass(frozen=True)
class ColumnCode:
    """How one column becomes features."""

    name: str
    # Texts that have a 0/1 feature each, or a place in their order, or stand for 0 and 1; None for numbers and dates.
    categories: tuple[str, ...] | None
    # What gaps become, NaN where that is not known and they are refused; None for categories.
    fill: float | None
    indicator: bool  # whether a last 0/1 feature says where cells are missing
    kind: str = NUMBER

    @property
    def values(self) -> tuple[str, ...]:
        """Names of the features, but for that of missing cells."""
        if self.kind == CATEGORY and self.categories is not None:
            return tuple(f"{self.name}={text}" for text in self.categories)
        return (self.name,)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the features that the column becomes."""
        return (*self.values, f"{self.name}{MISSING}") if self.indicator else self.values

    def encode(self, series: pd.Series, missing: npt.NDArray[np.bool_], where: str) -> list[Array]:
        """The features of a column but for that of missing cells, with gaps filled, one array of shape (n,) each."""
        if self.kind == CATEGORY:
            return _one_hot(self, series, missing, where)
        what = f"column {self.name!r} of {where}"
        values = np.full(len(series), self.fill or 0.0)
        known = series[~missing]
        if self.kind == DATE:
            found = days_of(known) if len(known) else np.zeros(0)
            if found is None:
                raise ValueError(f"{what} must hold dates, such as 2024-01-31, as in the table that was learned from")
        elif self.kind == ORDINAL:
            assert self.categories is not None
            places = {text: float(place) for place, text in enumerate(self.categories)}
            texts = texts_of(known).tolist()
            if unseen := sorted(set(texts) - set(places)):
                raise ValueError(f"{what} holds {listing(unseen)}, expected one of {listing(self.categories)}")
            found = np.array([places[text] for text in texts], dtype=np.float64)
        elif self.kind == BOOLEAN and kind_of(known) == "text":
            words = truth_of(texts_of(known))
            if words is None:
                odd = next(
                    text for text in texts_of(known).tolist() if truth_of(np.array([text], dtype=object)) is None
                )
                raise ValueError(f"{what} holds {odd!r}, expected yes or no, or true or false")
            found = words
        else:
            found = numbers_of(known)
            if self.kind == BOOLEAN and (odd := ~np.isin(found, (0, 1))).any():
                raise ValueError(f"{what} holds {found[odd][0]:g}, expected 0 or 1, yes or no, or true or false")
        values[~missing] = found
        return [values]

    def decode(self, features: Array) -> list[Any]:
        """Cells that features (n, …) of the column stand for: the nearest, None where they say that it is missing."""
        values = features[:, 0]
        if self.kind == CATEGORY and self.categories is not None:
            cells: list[Any] = [self.categories[place] for place in features[:, : len(self.categories)].argmax(axis=1)]
        elif self.kind in (ORDINAL, BOOLEAN) and self.categories is not None:
            places = np.clip(np.rint(values), 0, len(self.categories) - 1).astype(int)
            cells = [self.categories[place] for place in places.tolist()]
        elif self.kind == DATE:
            cells = [date_text(day) for day in values.tolist()]
        else:
            cells = [int(value) if value.is_integer() else value for value in values.tolist()]
        if not self.indicator:
            return cells
        last = features[:, -1]
        gone = last > features[:, :-1].max(axis=1) if self.kind == CATEGORY else last > 0.5
        return [None if missing else cell for cell, missing in zip(cells, gone.tolist())]


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
        encoder = cls(tuple(_learned(frame[name], kind, told, where) for name, kind in kinds.items()))
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
            columns = tuple(_code(**column) for column in data["columns"])
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
        fills[j] = _middle(known) if len(known) else None
    return fills


def _middle(values: Array) -> float:
    """The median; of 0 and 1 the more frequent, 0 where neither is."""
    median = float(np.median(values))
    return 0.0 if median == 0.5 and np.isin(values, (0, 1)).all() else median


def _learned(series: pd.Series, kind: str, told: Encoding, where: str) -> ColumnCode:
    """How a column becomes features, by its cells."""
    import pandas as pd

    name = str(series.name)
    missing = series.isna().to_numpy(dtype=bool)
    if missing.all():
        raise ValueError(f"column {name!r} of {where} has no value in any row: leave it out")
    gaps, known = bool(missing.any()), series[~missing]
    order: Sequence[str] | None = told.ordinal.get(name)
    if order is None and isinstance(series.dtype, pd.CategoricalDtype) and series.dtype.ordered:
        order = [str(text) for text in series.dtype.categories]
    if order is not None:
        code = ColumnCode(name, tuple(map(str, order)), 0.0, gaps, ORDINAL)
        places = code.encode(series, missing, where)[0][~missing]
        return replace(code, fill=float(np.median(places) // 1))
    if kind == "text" or name in told.categorical:
        texts = texts_of(known)
        words = sorted(set(texts.tolist()))
        if name not in told.categorical and not isinstance(series.dtype, pd.CategoricalDtype):
            if (days := days_of(known)) is not None:
                return ColumnCode(name, None, float(np.median(days)), gaps, DATE)
            truths = truth_of(np.array(words, dtype=object))
            # One letter alone, f or t, may as well be a category of others that are not there.
            if truths is not None and len(set(truths)) == len(words) and (len(words) > 1 or len(words[0]) > 1):
                no, yes = (
                    (words[int(truths.argmin())], words[int(truths.argmax())]) if len(words) > 1 else ("no", "yes")
                )
                values = np.array([truths[words.index(text)] for text in texts.tolist()])
                return ColumnCode(name, (no, yes), _middle(values), gaps, BOOLEAN)
        if len(words) > MAX_CATEGORIES:
            raise ValueError(
                f"column {name!r} of {where} holds {len(words)} distinct texts, more than "
                f"{MAX_CATEGORIES}: it looks like an identifier, leave it out (on the command line --drop)"
            )
        return ColumnCode(name, tuple(words), None, gaps, CATEGORY)
    if kind == DATES:
        days = days_of(known)
        assert days is not None
        return ColumnCode(name, None, float(np.median(days)), gaps, DATE)
    if kind == "boolean":
        return ColumnCode(name, ("False", "True"), _middle(numbers_of(known)), gaps, BOOLEAN)
    return ColumnCode(name, None, float(np.median(numbers_of(known))), gaps)


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


def _code(name: Any, categories: Any, fill: Any, indicator: Any, kind: Any = None) -> ColumnCode:
    if kind is None:  # of the version before
        kind = NUMBER if categories is None else CATEGORY
    if not isinstance(name, str) or not isinstance(indicator, bool) or kind not in KINDS:
        raise ValueError
    if (categories is None) != (kind in (NUMBER, DATE)) or (fill is None) != (kind == CATEGORY):
        raise ValueError
    if fill is not None and not math.isfinite(fill):
        raise ValueError
    texts = None if categories is None else tuple(str(text) for text in categories)
    return ColumnCode(name, texts, None if fill is None else float(fill), indicator, kind)
