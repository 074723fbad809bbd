"""Columns of new rows against those of the table that a metric was learned on: gaps, categories, ranges, shifts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import betabinom, chi2_contingency

from certimetric.base.arrays import Array, Indices
from certimetric.base.wording import counted, listing
from certimetric.datasets.tables.columns import date_text, days_of, kind_of, numbers_of, texts_of

if TYPE_CHECKING:
    import pandas as pd

MODERATE, MAJOR = 0.1, 0.25  # the usual readings of a population stability index
_BINS = 10
_FEW_VALUES = 20  # numbers with at most so many different values are counted value by value


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at in new rows.

    Parameters
    ----------
    test : str
        What was looked at: "columns", "missing values", "categories", "range", "shift", "distance", "radius",
        "outliers" or "copies".
    feature : str
        The column, "" for the rows as a whole.
    value : float
        The figure: a number of rows for gaps, categories, ranges, outliers and copies, a PSI for shifts, a
        Kolmogorov–Smirnov distance for distances and radii.
    p_value : float or None
        Probability of as much among rows like those of the training set; None where anything at all is an alarm.
    alarm : bool
    message : str
        The same in words.

    Examples
    --------
    >>> Finding("range", "age", 3.0, None, True, "3 rows lie outside the range of age").alarm
    True
    """

    test: str
    feature: str
    value: float
    p_value: float | None
    alarm: bool
    message: str


def stability_index(expected: Sequence[int] | NDArray[Any], observed: Sequence[int] | NDArray[Any]) -> float:
    """Population stability index of counts in the same bins: ``Σ (q − p) ln(q / p)``, half a row added to every bin.

    Examples
    --------
    >>> round(stability_index([50, 50], [50, 50]), 3), round(stability_index([50, 50], [90, 10]), 3)
    (0.0, 0.853)
    """
    shares = [(np.asarray(counts) + 0.5) / (np.sum(counts) + 0.5 * len(counts)) for counts in (expected, observed)]
    return float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())


def compare_columns(
    train: pd.DataFrame, new: pd.DataFrame, level: float, dates: Collection[str] = ()
) -> tuple[list[Finding], NDArray[np.bool_]]:
    """Look at every column of ``train`` in ``new``, and tell which rows can be compared with those of ``train``.

    A row cannot be where it holds a category that no training row has, text among numbers, or where a column is missing
    altogether; nor where a cell is empty in a column without gaps in training.

    Parameters
    ----------
    train, new : DataFrame
        Of features alone; further columns of ``new`` are told.
    level : float
        Of each test: its probability of an alarm among rows like those of training, at most.
    dates : collection of str
        Columns of dates, which are compared by their days.

    Returns
    -------
    findings : list of Finding
        Of each column what is worth telling, and its shift.
    comparable : bool array of shape (m,)
    """
    found: list[Finding] = []
    comparable = np.ones(len(new), dtype=bool)
    for name in map(str, train.columns):
        if name not in new.columns:
            found.append(Finding("columns", name, float(len(new)), None, True, f"column {name!r} is missing"))
            comparable[:] = False
            continue
        told, able = _compare(name, train[name], new[name], level, name in dates)
        found += told
        comparable &= able
    if further := [str(name) for name in new.columns if str(name) not in train.columns]:
        told_of = f"{counted(len(further), 'further column')}, not looked at: {listing(further)}"
        found.append(Finding("columns", "", float(len(further)), None, False, told_of))
    return found, comparable


def _compare(
    name: str, train: pd.Series, new: pd.Series, level: float, dates: bool
) -> tuple[list[Finding], NDArray[np.bool_]]:
    gaps, gaps_before = (np.asarray(column.isna(), dtype=bool) for column in (new, train))
    found, able = [], np.ones(len(new), dtype=bool)
    if gaps.any() and not gaps_before.any():
        rows = f"{int(gaps.sum())} of {counted(len(new), 'row')}"
        told = f"{name!r} has no value in {rows}, and had one in every training row"
        found.append(Finding("missing values", name, float(gaps.sum()), None, True, told))
        able &= ~gaps
    read = days_of if dates else numbers_of
    numeric = dates or kind_of(train) != "text"
    if numeric and (days_of(new) is None if dates else kind_of(new) == "text") and not gaps.all():
        cell = texts_of(new.dropna())[0]
        told = f"{name!r} holds text such as {cell!r} where training has {'dates' if dates else 'numbers'}"
        return [*found, Finding("categories", name, float((~gaps).sum()), None, True, told)], np.zeros_like(able)
    if numeric:
        before, now = (np.full(len(column), np.nan) if column.isna().all() else read(column) for column in (train, new))
        assert before is not None and now is not None
        found += _range(name, before[~gaps_before], now[~gaps], level, date_text if dates else "{:g}".format)
        bins, tested = _binned(before, now)
    else:
        texts_before, texts = texts_of(train), texts_of(new)
        known, codes = np.unique(texts_before[~gaps_before].astype(str), return_inverse=True)
        unseen = ~gaps & ~np.isin(texts.astype(str), known)
        if unseen.any():
            told = (
                f"{name!r} holds {listing(sorted(set(texts[unseen].tolist())), limit=4)} in "
                f"{counted(int(unseen.sum()), 'row')}, which no training row has"
            )
            found.append(Finding("categories", name, float(unseen.sum()), None, True, told))
            able &= ~unseen
        seen = ~gaps & ~unseen
        counts = np.searchsorted(known, texts[seen].astype(str))
        bins = [np.append(np.bincount(codes, minlength=len(known)), 0),
                np.append(np.bincount(counts, minlength=len(known)), unseen.sum())]  # fmt: skip
        tested = bins
    empty = np.array([[gaps_before.sum()], [gaps.sum()]])
    told_by, tested_by = (np.hstack([np.array(each), empty]) for each in (bins, tested))
    return [*found, _shift(name, told_by, tested_by, level)], able


def _range(name: str, before: Array, now: Array, level: float, written: Callable[[float], str]) -> list[Finding]:
    """Values beyond the range of the training rows: more than chance puts there are an alarm."""
    if not len(before) or not len(now):
        return []
    low, high = before.min(), before.max()
    beyond = (now < low) | (now > high)
    if not beyond.any():
        return []
    count = int(beyond.sum())
    # How much of a distribution lies beyond the range of n draws has the distribution Beta(2, n − 1).
    p_value = float(betabinom.sf(count - 1, len(now), 2, max(len(before) - 1, 1)))
    worst = now[beyond][np.argmax(np.maximum(low - now[beyond], now[beyond] - high))]
    told = f"{name!r} is beyond {written(low)} … {written(high)} in {counted(count, 'row')}, as far as {written(worst)}"
    return [Finding("range", name, float(count), p_value, p_value < level, told)]


def _binned(before: Array, now: Array) -> tuple[list[Indices], list[Indices]]:
    """Counts of numbers in tenths of the training rows, and of all rows; value by value where there are few.

    The index is told by the tenths of the training rows. These lie where few rows happened to put them, so that chance
    alone fills some of them with many new rows: the test counts by tenths that know no row from another.
    """
    before, now = before[~np.isnan(before)], now[~np.isnan(now)]
    values = np.unique(before)
    if len(values) <= _FEW_VALUES:  # what lies between two values counts with the lower one
        found = [values[1:]]
    else:
        found = [np.quantile(column, np.arange(1, _BINS) / _BINS) for column in (before, np.append(before, now))]
    counts = []
    for edges in map(np.unique, found):
        places = (np.searchsorted(edges, column, side="right") for column in (before, now))
        counts.append([np.bincount(place, minlength=len(edges) + 1) for place in places])
    return counts[0], counts[-1]


def _shift(name: str, bins: NDArray[Any], tested: NDArray[Any], level: float) -> Finding:
    """The stability index of a column, and whether it is more than chance gives so many rows."""
    index = stability_index(bins[0], bins[1])
    some = tested[:, tested.sum(axis=0) > 0]
    p_value = 1.0
    if some.shape[1] > 1 and (some.sum(axis=1) > 0).all():
        p_value = float(chi2_contingency(some, correction=False).pvalue)
    reading = "major" if index >= MAJOR else "moderate" if index >= MODERATE else "no"
    if reading != "no" and p_value >= level:
        reading = "no certain"
    told = f"{name!r} has {'a ' if reading in ('major', 'moderate') else ''}{reading} shift: PSI {index:.2f}"
    return Finding("shift", name, index, p_value, reading == "major", told)
