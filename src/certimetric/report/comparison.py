"""The comparison of what was audited, column by column, the best of each marked: for page, notebook and terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from certimetric.report.document import bounds, number
from certimetric.report.formatting import MISSING, decimals_for, fixed


@dataclass(frozen=True)
class Cell:
    """One figure of one learner."""

    text: str
    spread: str  # ± over splits
    interval: str  # of 95 %
    best: bool
    value: float | None  # a share where the unit is per cent
    low: float | None = None  # the ends of the interval
    high: float | None = None


@dataclass(frozen=True)
class Column:
    """One column of the comparison; ``better`` is "lower", "higher" or "" where nothing is better."""

    key: str
    name: str
    qualifier: str
    unit: str
    better: str
    cells: tuple[Cell, ...]


def make_column(
    found: Sequence[Mapping[str, Any]], key: str, name: str, qualifier: str, unit: str, better: str
) -> Column:
    """A column of a comparison from one estimate a learner: ``mean``, and ``std`` or ``low`` and ``high``."""
    factor = 100 if unit == "%" else 1
    means = [number(e.get("mean")) for e in found]
    values = [None if v is None else factor * v for v in means]
    known = [v for v in values if v is not None]
    if unit == "%":
        # A second decimal only where errors are so small that one would hide the differences.
        decimals = 2 if better == "lower" and known and min(known) < 2 else 1
    else:
        decimals = decimals_for(values)
    texts = [fixed(value, decimals) for value in values]
    # Marked by what is shown: two learners that read the same are both best, and nobody is where all are alike.
    shown = {text for value, text in zip(values, texts) if value is not None}
    best = fixed(min(known) if better == "lower" else max(known), decimals) if better and len(shown) > 1 else ""
    cells = []
    for entry, mean, text in zip(found, means, texts):
        spread, (_, low, high) = number(entry.get("std")), bounds(entry)
        ends = [None if end is None else fixed(factor * end, decimals) for end in (low, high)]
        cells.append(
            Cell(
                text,
                "" if spread is None else fixed(factor * spread, decimals),
                "" if None in ends else f"{ends[0]} to {ends[1]}",
                mean is not None and text == best,
                mean,
                low,
                high,
            )
        )
    return Column(key, name, qualifier, unit, better, tuple(cells))


def as_text(corner: str, names: Sequence[str], columns: Sequence[Column]) -> tuple[list[str], list[list[str]]]:
    """Columns of a comparison as text: a header, and one row for each name."""
    header = [
        f"{column.name}{' at ' + column.qualifier if column.qualifier else ''}"
        f"{f' [{column.unit}]' if column.unit else ''}"
        for column in columns
    ]

    def told(cell: Cell) -> str:
        return cell.text + (f" ± {cell.spread}" if cell.spread else "") + (" *" if cell.best else "")

    return [corner, *header], [[name, *(told(each.cells[i]) for each in columns)] for i, name in enumerate(names)]


def best_figure(labels: Sequence[str], column: Column, baseline: int | None) -> dict[str, str] | None:
    """The best figure of a column, beside that of the learner at the position ``baseline``; None if none is known."""
    best = [i for i, cell in enumerate(column.cells) if cell.best]
    best = best or [i for i, cell in enumerate(column.cells) if cell.text != MISSING]
    if not best:
        return None
    cell, against = column.cells[best[0]], ""
    if baseline is not None and baseline not in best and column.cells[baseline].text != MISSING:
        against = f"{labels[baseline]}: {column.cells[baseline].text} {column.unit}"
    return {
        "name": column.name,
        "qualifier": column.qualifier,
        "value": cell.text,
        "unit": column.unit,
        "learner": labels[best[0]] if len(best) == 1 else f"{len(best)} alike",
        "against": against,
    }
