"""Pairs that are given instead of drawn: which rows of the table they are of, and which are genuine."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from certimetric.base.arrays import Indices
from certimetric.base.wording import counted, did_you_mean, repeated

# How files spell the kind of a pair.
_GENUINE = frozenset({"1", "true", "genuine", "same"})
_IMPOSTOR = frozenset({"0", "-1", "false", "impostor", "different"})


@dataclass(frozen=True, eq=False)
class GivenPairs:
    """Test pairs that are the same in every split.

    Parameters
    ----------
    rows : int array of shape (m, 2)
        Rows of the table, probes first.
    genuine : bool array of shape (m,)
    told : bool
        Whether the kinds were given; otherwise they are those of the labels.
    source : str or None
        The file.
    """

    rows: Indices
    genuine: NDArray[np.bool_]
    told: bool
    source: str | None

    @classmethod
    def read(cls, given: Any, codes: Indices, ids: Any = None) -> GivenPairs:
        """Pairs of a file, a data frame or an array with two columns, probe and enrolled, or a third, genuine.

        Parameters
        ----------
        given : path, DataFrame or array-like of shape (m, 2) or (m, 3)
        codes : int array of shape (n,)
            Classes of the rows.
        ids : array-like of shape (n,), optional
            What the pairs call the rows; without them by number, from 0.

        Raises
        ------
        ValueError, OSError
            If a file cannot be read, or on the first pair that is none, in one sentence.

        Examples
        --------
        >>> pairs = GivenPairs.read([["a", "b"], ["c", "a"]], np.array([0, 0, 1]), ids=["a", "b", "c"])
        >>> pairs.rows.tolist(), pairs.genuine.tolist()
        ([[0, 1], [2, 0]], [True, False])
        """
        frame, source = _table(given)
        where = "the table of pairs" if source is None else repr(source)
        if frame.shape[1] not in (2, 3):
            raise ValueError(
                f"pairs must have two columns, probe and enrolled, and at most a third, genuine: {where} has "
                f"{counted(frame.shape[1], 'column')}"
            )
        columns = [_spelled(frame.iloc[:, j]) for j in range(frame.shape[1])]
        place = _places(len(codes), ids)
        rows = np.array([[_row(name, i, place, where, ids) for i, name in enumerate(side)] for side in columns[:2]]).T
        if (same := rows[:, 0] == rows[:, 1]).any():
            i = int(same.argmax())
            raise ValueError(f"pairs must be of two rows: {where} has {columns[0][i]!r} twice in pair {i}")
        genuine = codes[rows[:, 0]] == codes[rows[:, 1]]
        if told := len(columns) == 3:
            genuine = np.array([_kind(word, i, where) for i, word in enumerate(columns[2])])
        if genuine.all() or not genuine.any():
            missing = "impostor" if genuine.all() else "genuine"
            raise ValueError(f"pairs must hold genuine and impostor pairs: {where} has no {missing} pair")
        return cls(rows.astype(np.int64), genuine, told, source)

    def others(self, n: int) -> Indices:
        """The rows that no pair has, of a table of ``n``."""
        return np.setdiff1d(np.arange(n), self.rows)


def names_file(value: Any) -> bool:
    """Whether a value for pairs is the path of a file."""
    from certimetric.datasets.tables.files import file_type

    return isinstance(value, os.PathLike) or (
        isinstance(value, str) and (file_type(value) is not None or Path(value).is_file())
    )


def _table(given: Any) -> tuple[Any, str | None]:
    import pandas as pd

    if not names_file(given):
        values = given if isinstance(given, pd.DataFrame) else np.asarray(given, dtype=object)
        if values.ndim != 2 or not len(values):
            raise ValueError(f"pairs must be a number, all, a file, or a table of two or three columns, got {given!r}")
        return pd.DataFrame(values).infer_objects(), None
    from certimetric.datasets.tables.files import read_table

    frame, where = read_table(given), os.fspath(given)
    if all(str(name).lstrip("-").isdigit() for name in frame.columns):
        raise ValueError(f"pairs need names of their columns: the first line of {where!r} holds numbers only")
    return frame, where


def _spelled(values: Any) -> list[str]:
    """Values as text; whole numbers without decimals, for a column with gaps holds floats."""
    import pandas as pd

    column = pd.Series(values)
    return [
        "" if missing else str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()
        for value, missing in zip(column.tolist(), column.isna())
    ]


def _places(n: int, ids: Any) -> dict[str, int]:
    if ids is None:
        return {str(row): row for row in range(n)}
    names = _spelled(ids)
    if len(names) != n:
        raise ValueError(f"ids must hold one for each of the {n} rows of X, got {len(names)}")
    if "" in names:
        raise ValueError(f"ids must not be missing, as that of row {names.index('')} is")
    if twice := repeated(names):
        raise ValueError(f"ids must be different, got {twice[0]!r} more than once")
    return {name: row for row, name in enumerate(names)}


def _row(name: str, i: int, place: dict[str, int], where: str, ids: Any) -> int:
    if (row := place.get(name)) is not None:
        return row
    if ids is not None:
        raise ValueError(
            f"pairs must be of ids of the table: {where} has {name!r} in pair {i}, which no row has"
            f"{did_you_mean(name, list(place)[:10_000])}"
        )
    if name.lstrip("-").isdigit():
        raise ValueError(f"pairs must be of rows 0 to {len(place) - 1}: {where} has row {name} in pair {i}")
    raise ValueError(
        f"pairs must be of row numbers, from 0: {where} has {name!r} in pair {i} (ids need the column of the table "
        f"that they are in, --id COLUMN)"
    )


def _kind(word: str, i: int, where: str) -> bool:
    if (lower := word.lower()) in _GENUINE:
        return True
    if lower in _IMPOSTOR:
        return False
    raise ValueError(
        f"the third column of pairs must say 1 (genuine) or 0 (impostor): {where} has {word!r} in pair {i}"
    )
