"""Numbers and units: one place for the page, the notebook and the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from certimetric.base.wording import span

MISSING = "–"
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
NORMS = {
    "l2": ("ℓ₂", "the Euclidean length of the change over all features together"),
    "linf": ("ℓ∞", "the largest change of any single feature"),
    "l1": ("ℓ₁", "the changes of all features added up, regardless of sign"),
    "l0": ("ℓ₀", "the number of features that change"),
}
UNITS = {
    "standardised": ("std", "standard deviations of a feature, measured on the training data"),
    "original": ("original units", "the units in which the features were given"),
    "embedding": ("units of the embedding", "units of the embedding itself"),
    "neighbour distance": (
        "median nearest-neighbour distances",
        "medians of the distance from a query to its nearest item, of each model's own embeddings: no scale matters",
    ),
    "inputs": ("units of the input", "units of the input itself"),
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


def p_value(p: float | None) -> str:
    """A p-value, where there is one.

    Examples
    --------
    >>> p_value(0.0123), p_value(0.00001), p_value(float("nan"))
    ('0.012', '< 0.001', '–')
    """
    return MISSING if p is None or math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


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
    return span(seconds)


def moment(stamp: str | None) -> str:
    """An ISO time stamp, in UTC and without its fractions; anything else as it came."""
    try:
        time = datetime.fromisoformat(str(stamp))
    except ValueError:
        return str(stamp) if stamp else MISSING
    if time.tzinfo is None:
        return f"{time:%Y-%m-%d %H:%M}"
    return f"{time.astimezone(timezone.utc):%Y-%m-%d %H:%M} UTC"


def decimals_for(values: Sequence[float | None]) -> int:
    """Decimals that give the largest of the values three significant digits."""
    finite = [abs(v) for v in values if v is not None and math.isfinite(v) and v != 0]
    return min(4, max(0, 2 - math.floor(math.log10(max(finite))))) if finite else 2


def norm_name(document: Mapping[str, Any]) -> str:
    """The short name of the norm, as it stands beside an eps."""
    norm = str(document["protocol"]["norm"])
    return NORMS.get(norm, (norm, ""))[0]


def unit_name(document: Mapping[str, Any]) -> str:
    """The short name of the unit of eps and of radii."""
    if document["protocol"]["norm"] == "l0":
        return "number of pixels"
    unit = str(document["protocol"]["units"])
    return UNITS.get(unit, (unit, ""))[0]


def measured(document: Mapping[str, Any], what: str) -> str:
    """What an axis shows, with the norm and the unit of sizes."""
    return f"{what}, {norm_name(document)} ({unit_name(document)})"
