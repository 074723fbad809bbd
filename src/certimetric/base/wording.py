"""The phrases that messages and tables share: lists that stay short, the closest name, what pixels are called."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Sequence

PIXELS = "raw pixels"  # pictures as their own embedding, beside every model


def listing(names: Iterable[object], *, limit: int = 8) -> str:
    """Quote ``names`` for a message, and say how many are left out beyond ``limit``.

    Examples
    --------
    >>> listing(["a", "b"])
    "'a', 'b'"
    >>> listing(range(20), limit=2)
    "'0', '1' and 18 more"
    """
    return shortened([repr(str(name)) for name in names], limit)


def shortened(parts: Sequence[str], limit: int = 8) -> str:
    """The first parts with commas between, and how many more there are."""
    return ", ".join(parts[:limit]) + (f" and {len(parts) - limit} more" if len(parts) > limit else "")


def repeated(names: Iterable[str]) -> list[str]:
    """The names that occur more than once, sorted.

    Examples
    --------
    >>> repeated(["b", "a", "b", "c", "c", "b"])
    ['b', 'c']
    """
    return sorted(name for name, count in Counter(names).items() if count > 1)


def closest(name: str, options: Iterable[str]) -> str | None:
    """The option spelt most like ``name``, ignoring case, or None when none is near.

    Examples
    --------
    >>> closest("irsi", ["iris", "wine"])
    'iris'
    >>> closest("zebra", ["iris", "wine"]) is None
    True
    """
    by_lower = {option.lower(): option for option in reversed(list(options))}
    found = difflib.get_close_matches(name.lower(), list(by_lower), n=1, cutoff=0.6)
    return by_lower[found[0]] if found else None


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` for the closest option, or nothing."""
    found = closest(name, options)
    return "" if found is None else f" (did you mean {found!r}?)"


def first_line(error: BaseException) -> str:
    """The first line of what a library said, cut to a readable length, so that a message stays one line."""
    lines = str(error).strip().splitlines()
    text = lines[0].strip().rstrip(".:") if lines else type(error).__name__
    return text if len(text) <= 200 else f"{text[:197]}..."


def counted(number: int, noun: str) -> str:
    """``1 row``, ``2 rows``, ``1 class``, ``3 classes``."""
    if number == 1:
        return f"1 {noun}"
    return f"{number} {noun}{'es' if noun.endswith('s') else 's'}"


def span(seconds: float) -> str:
    """A span of time to the second, or where it is longer than an hour to the minute.

    Examples
    --------
    >>> span(12.3), span(125), span(7261)
    ('12 s', '2 min 5 s', '2 h 1 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 1:
        return f"{rest} s"
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
