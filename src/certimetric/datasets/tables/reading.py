"""How a file of text writes a table: delimiter, decimal mark, thousands, encoding, words for what is missing."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

DELIMITERS = "\t,;|"
SNIFFED = 20  # lines whose values are counted where the header has more than one of the delimiters
_NAMED = {"comma": ",", "point": ".", "semicolon": ";", "tab": "\t", "space": " ", "pipe": "|", "\\t": "\t"}


@dataclass(frozen=True)
class Reading:
    """How a table is read from a file of text.

    The marks may be given by their names: comma, point, semicolon, tab, space, pipe.

    Parameters
    ----------
    delimiter : str, optional
        One character between values. By default the tab, comma, semicolon or bar that the header has.
    decimal : {".", ","}, default="."
        Mark of decimals.
    thousands : str, optional
        Mark between groups of three digits, such as ``"."``, ``","``, ``"'"`` or ``" "``. Only cells that are
        grouped so throughout are taken for numbers.
    encoding : str, optional
        By default UTF-8, or UTF-16 where the file begins with its mark.
    na : tuple of str
        Words for a missing value, besides the empty cell, ``?`` and those that pandas knows.
    drop : tuple of str
        Columns that are left out.

    Raises
    ------
    ValueError
        If a mark is no single character, two are the same, or the encoding is unknown.

    Examples
    --------
    >>> Reading(decimal="comma", thousands=".").to_dict()
    {'decimal': ',', 'thousands': '.'}
    """

    delimiter: str | None = None
    decimal: str = "."
    thousands: str | None = None
    encoding: str | None = None
    na: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("delimiter", "decimal", "thousands"):
            given = getattr(self, name)
            if given is None:
                continue
            mark = _NAMED.get(given, given)
            if not isinstance(mark, str) or len(mark) != 1 or mark.isalnum() or mark in '"\n\r+-':
                raise ValueError(f"{name} must be one character that no number or word begins with, got {given!r}")
            object.__setattr__(self, name, mark)
        if self.decimal not in (".", ","):
            raise ValueError(f"decimal must be a point or a comma, got {self.decimal!r}")
        if self.thousands == self.decimal:
            raise ValueError(f"thousands and decimal must be different marks, got {self.decimal!r} for both")
        if self.encoding is not None:
            try:
                "".encode(self.encoding)
            except (LookupError, UnicodeError):
                raise ValueError(f"encoding must be one that Python knows, got {self.encoding!r}") from None
        for name in ("na", "drop"):
            words = getattr(self, name)
            object.__setattr__(self, name, (words,) if isinstance(words, str) else tuple(map(str, words)))

    @property
    def plain(self) -> bool:
        """Whether nothing is said of how values are written."""
        return not self.to_dict()

    def to_dict(self) -> dict[str, Any]:
        """What differs from the defaults, but for columns left out, as JSON-like data."""
        told = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "drop"}
        told = {name: value for name, value in told.items() if value != getattr(Reading, name)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in told.items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Reading:
        """The reading of data that :meth:`to_dict` gave; a ValueError if they are anything else."""
        try:
            return cls(**data)
        except (TypeError, ValueError):
            raise ValueError("the reading must tell delimiter, decimal, thousands, encoding and na") from None

    def sniffed(self, lines: Iterable[str]) -> str:
        """The delimiter of a file by its first lines, the header before them: the first that it has outside of quotes.

        If it has several, the first that cuts all of the lines into as many values as the header.

        Examples
        --------
        >>> Reading().sniffed(["name, first;age", "Ann;3"])
        ';'
        """
        if self.delimiter is not None:
            return self.delimiter
        some = [line for line in itertools.islice(lines, SNIFFED) if line.strip()]
        header = re.sub(r'"[^"]*"', "", some[0])
        there = [mark for mark in DELIMITERS if mark in header]
        if len(there) > 1:
            widths = {mark: [len(row) for row in csv.reader(some, delimiter=mark)] for mark in there}
            there = [mark for mark in there if len(set(widths[mark])) == 1] or there
        return there[0] if there else ","

    def grouped(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Numbers in place of texts that are numbers in groups of three digits, column by column."""
        if self.thousands is None:
            return frame
        mark, decimal = re.escape(self.thousands), re.escape(self.decimal)
        number = re.compile(rf"[+-]?(\d+|\d{{1,3}}({mark}\d{{3}})+)({decimal}\d*)?")
        for position, kind in enumerate(frame.dtypes):
            column = frame.iloc[:, position]
            if kind.kind in "iufbc" or not len(known := column.dropna()):
                continue
            texts = [str(cell).strip() for cell in known]
            if all(map(number.fullmatch, texts)):
                values = np.full(len(column), np.nan)
                values[column.notna().to_numpy()] = [
                    float(text.replace(self.thousands, "").replace(self.decimal, ".")) for text in texts
                ]
                frame.isetitem(position, values)
        return frame
