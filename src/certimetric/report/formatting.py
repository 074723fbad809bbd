"""Numbers, units and the marking of the best: one place for the page, the notebook and the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from certimetric.report.document import (
    check_document,
    estimate,
    number,
    printable,
    quoted_eps,
    quoted_noise,
    splits_done,
)

MISSING = "–"
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
NORMS = {
    "l2": ("ℓ₂", "the Euclidean length of the change over all features together"),
    "linf": ("ℓ∞", "the largest change of any single feature"),
    "l1": ("ℓ₁", "the changes of all features added up, regardless of sign"),
}
UNITS = {
    "standardised": ("std", "standard deviations of a feature, measured on the training data"),
    "original": ("original units", "the units in which the features were given"),
    "embedding": ("units of the embedding", "units of the embedding itself"),
    "neighbour distance": (
        "median nearest-neighbour distances",
        "medians of the distance from a query to its nearest item, of each model's own embeddings: no scale matters",
    ),
    "pixels": ("pixel values", "pixel values, where 0 is black and 1 is white"),
}


def superscript(exponent: int) -> str:
    """A power of ten as text, for axes and long numbers.

    Examples
    --------
    >>> superscript(-3)
    '10⁻³'
    """
    return "10" + str(exponent).translate(_SUPERSCRIPT)


def plain(value: float | None, digits: int = 3) -> str:
    """A number with so many significant digits, in powers of ten where it is very large or very small.

    Examples
    --------
    >>> [plain(v) for v in (1.73205, 0.5, 1234.5, 2.5e-7, 0, float("inf"), None)]
    ['1.73', '0.5', '1234', '2.5×10⁻⁷', '0', '∞', '–']
    """
    if value is None:
        return MISSING
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == 0:
        return "0"
    rounded = float(f"{value:.{digits - 1}e}")
    exponent = math.floor(math.log10(abs(rounded)))
    if exponent < -4 or exponent > 5:
        mantissa = f"{rounded / 10.0**exponent:.{digits - 1}f}".rstrip("0").rstrip(".")
        return f"{mantissa}×{superscript(exponent)}".replace("-", "−")
    text = f"{value:.{max(0, digits - 1 - exponent)}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text).replace("-", "−")


def fixed(value: float | None, decimals: int) -> str:
    """A number with so many decimals, for columns that line up.

    Examples
    --------
    >>> fixed(1.5, 2), fixed(float("inf"), 2), fixed(None, 2)
    ('1.50', '∞', '–')
    """
    if value is None or math.isinf(value):
        return plain(value)
    return f"{value:.{decimals}f}".replace("-", "−")


def percent(share: float | None, decimals: int = 1) -> str:
    """A share of one as per cent.

    Examples
    --------
    >>> percent(0.0186)
    '1.9 %'
    """
    return MISSING if share is None else f"{fixed(100 * share, decimals)} %"


def size_name(eps: float) -> str:
    """A size of attack, in steps of 8-bit values where it is one and no short number.

    Examples
    --------
    >>> size_name(8 / 255), size_name(0.1), size_name(1.0)
    ('8/255', '0.1', '1')
    """
    steps = eps * 255
    short = abs(float(f"{eps:.2e}") - eps) < 1e-9 * eps
    return f"{round(steps)}/255" if abs(steps - round(steps)) < 1e-6 and round(steps) and not short else plain(eps)


def duration(seconds: float | None) -> str:
    """A span of time in the units a person would use.

    Examples
    --------
    >>> duration(31.2), duration(3725), duration(0.004)
    ('31.2 s', '1 h 2 min', '4 ms')
    """
    if seconds is None:
        return MISSING
    if seconds < 1:
        return f"{plain(1000 * seconds, 2)} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def moment(stamp: str | None) -> str:
    """An ISO time stamp, in UTC and without its fractions; anything else as it came."""
    try:
        time = datetime.fromisoformat(str(stamp))
    except ValueError:
        return str(stamp) if stamp else MISSING
    if time.tzinfo is None:
        return f"{time:%Y-%m-%d %H:%M}"
    return f"{time.astimezone(timezone.utc):%Y-%m-%d %H:%M} UTC"


def decimals_for(values: Sequence[float | None], digits: int = 3) -> int:
    """Decimals that give the largest of the values so many significant digits."""
    finite = [abs(v) for v in values if v is not None and math.isfinite(v) and v != 0]
    return min(4, max(0, digits - 1 - math.floor(math.log10(max(finite))))) if finite else digits - 1


def norm_name(document: Mapping[str, Any]) -> str:
    """The short name of the norm, as it stands beside an eps."""
    norm = str(document["protocol"]["norm"])
    return NORMS.get(norm, (norm, ""))[0]


def unit_name(document: Mapping[str, Any]) -> str:
    """The short name of the unit of eps and of radii."""
    unit = str(document["protocol"]["units"])
    return UNITS.get(unit, (unit, ""))[0]


@dataclass(frozen=True)
class Cell:
    """One figure of one learner: its text, its ± over splits, its 95 % interval, and whether it is the best."""

    text: str
    spread: str
    interval: str
    best: bool


@dataclass(frozen=True)
class Column:
    """One column of the comparison; ``better`` is "lower", "higher" or "" where nothing is better."""

    key: str
    name: str
    qualifier: str
    unit: str
    better: str
    cells: tuple[Cell, ...]


def _column(
    document: Mapping[str, Any], key: str, index: int | None, name: str, qualifier: str, unit: str, better: str
) -> Column:
    found = [estimate(learner, key, index) for learner in document["learners"]]
    return make_column(found, key, name, qualifier, unit, better)


def make_column(
    found: Sequence[Mapping[str, Any]], key: str, name: str, qualifier: str, unit: str, better: str
) -> Column:
    """A column of a comparison from one estimate a learner: ``mean``, and ``std`` or ``low`` and ``high``."""
    factor = 100 if unit == "%" else 1
    values = [None if (v := number(e.get("mean"))) is None else factor * v for e in found]
    if unit == "%":
        # A second decimal only where errors are so small that one would hide the differences.
        known = [v for v in values if v is not None]
        decimals = 2 if better == "lower" and known and min(known) < 2 else 1
    else:
        decimals = decimals_for(values)
    texts = [fixed(value, decimals) for value in values]
    # Marked by what is shown: two learners that read the same are both best, and nobody is where all are alike.
    shown = [text for value, text in zip(values, texts) if value is not None]
    known = [value for value in values if value is not None]
    best = ""
    if better and len(set(shown)) > 1:
        best = fixed(min(known) if better == "lower" else max(known), decimals)
    cells = []
    for entry, value, text in zip(found, values, texts):
        spread, low, high = (number(entry.get(part)) for part in ("std", "low", "high"))
        cells.append(
            Cell(
                text,
                "" if spread is None else fixed(factor * spread, decimals),
                ""
                if low is None or high is None
                else f"{fixed(factor * low, decimals)} to {fixed(factor * high, decimals)}",
                value is not None and text == best,
            )
        )
    return Column(key, name, qualifier, unit, better, tuple(cells))


def comparison(document: Mapping[str, Any]) -> list[Column]:
    """The columns of the comparison table, the best of each marked."""
    protocol = document["protocol"]
    columns = [_column(document, "error", None, "Error", "", "%", "lower")]
    if any(estimate(learner, "balanced_accuracy") for learner in document["learners"]):
        columns.append(_column(document, "balanced_accuracy", None, "Balanced accuracy", "", "%", "higher"))
    if (noise := quoted_noise(document)) is not None:
        level = f"σ = {plain(number(protocol['noise'][noise]))}"
        columns.append(_column(document, "noise_error", noise, "Error under noise", level, "%", "lower"))
    if (eps := quoted_eps(document)) is not None:
        radius = f"ε = {plain(number(protocol['eps'][eps]))}"
        columns.append(_column(document, "certified_accuracy", eps, "Certified accuracy", radius, "%", "higher"))
    columns.append(_column(document, "median_radius", None, "Median radius", "", unit_name(document), "higher"))
    columns.append(_column(document, "fit_seconds", None, "Fit", "", "s", ""))
    return columns


def baseline_row(document: Mapping[str, Any], columns: Sequence[Column]) -> dict[str, Any] | None:
    """What always answering the most frequent class gives, as a row below the comparison; None where it is not known.

    Its answer never changes, so that it has the same error under noise, and its accuracy is certified at every ε.
    """
    told = document.get("baseline")
    if not told:
        return None
    error = float(told["error"])
    shares = {
        "error": error,
        "balanced_accuracy": float(told["balanced_accuracy"]),
        "noise_error": error,
        "certified_accuracy": 1.0 - error,
    }
    cells = []
    for column in columns:
        decimals = max((len(cell.text.partition(".")[2]) for cell in column.cells), default=1)
        cells.append(fixed(100 * shares[column.key], decimals) if column.key in shares else MISSING)
    return {"label": f"Always “{told['class']}”", "cells": cells}


def learner_name(learner: Mapping[str, Any]) -> str:
    """The label, with the number of splits that are left where some failed."""
    done, total = splits_done(learner)
    return learner["label"] if done == total else f"{learner['label']} ({done} of {total} splits)"


def summary_table(document: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The comparison as text: a header, a row for each learner with the best of a column marked by ``*``, and a row for
    always answering the most frequent class.

    Parameters
    ----------
    document : dict
        Audit document.

    Returns
    -------
    header : list of str
    rows : list of list of str
        Mean ± standard deviation over splits.

    Raises
    ------
    ValueError
        The document has another schema or lacks a section.

    Examples
    --------
    >>> summary_table({"schema": "certimetric.audit/0"})
    Traceback (most recent call last):
        ...
    ValueError: document has the schema 'certimetric.audit/0'; expected 'certimetric.audit/1'
    """
    check_document(document)
    document = printable(document)
    columns = comparison(document)
    header, rows = as_text("Learner", [learner_name(learner) for learner in document["learners"]], columns)
    if (baseline := baseline_row(document, columns)) is not None:
        rows.append([baseline["label"], *baseline["cells"]])
    return header, rows


def as_text(corner: str, names: Sequence[str], columns: Sequence[Column]) -> tuple[list[str], list[list[str]]]:
    """Columns of a comparison as text: a header, and one row for each name."""
    header = [
        f"{column.name}{' at ' + column.qualifier if column.qualifier else ''}"
        f"{f' [{column.unit}]' if column.unit else ''}"
        for column in columns
    ]
    rows = [[name, *(_cell_text(column.cells[i]) for column in columns)] for i, name in enumerate(names)]
    return [corner, *header], rows


def _cell_text(cell: Cell) -> str:
    return cell.text + (f" ± {cell.spread}" if cell.spread else "") + (" *" if cell.best else "")
