"""How one column of a table becomes features: numbers, yes or no, dates, ordered categories, categories."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from certimetric.base.arrays import Array
from certimetric.base.wording import counted, did_you_mean, listing, repeated
from certimetric.datasets.tables.columns import DATES, date_text, days_of, kind_of, numbers_of, texts_of, truth_of

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
    >>> from certimetric.datasets import TableEncoder
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
        told = [("ordinal", name) for name in self.ordinal] + [("categorical", name) for name in self.categorical]
        for kind, name in told:
            if name not in columns:
                raise ValueError(
                    f"{kind} names the column {name!r}, which is not there{did_you_mean(name, columns)}: {where} "
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


def middle(values: Array) -> float:
    """The median; of 0 and 1 the more frequent, 0 where neither is."""
    median = float(np.median(values))
    return 0.0 if median == 0.5 and np.isin(values, (0, 1)).all() else median


def learned_code(series: pd.Series, kind: str, told: Encoding, where: str) -> ColumnCode:
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
                return ColumnCode(name, (no, yes), middle(values), gaps, BOOLEAN)
        if len(words) > MAX_CATEGORIES:
            raise ValueError(
                f"column {name!r} of {where} holds {len(words)} distinct texts, more than "
                f"{MAX_CATEGORIES}: it looks like an identifier, leave it out (on the command line --read drop=COL)"
            )
        return ColumnCode(name, tuple(words), None, gaps, CATEGORY)
    if kind == DATES:
        days = days_of(known)
        assert days is not None
        return ColumnCode(name, None, float(np.median(days)), gaps, DATE)
    if kind == "boolean":
        return ColumnCode(name, ("False", "True"), middle(numbers_of(known)), gaps, BOOLEAN)
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


def code_of(name: Any, categories: Any, fill: Any, indicator: Any, kind: Any = None) -> ColumnCode:
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
