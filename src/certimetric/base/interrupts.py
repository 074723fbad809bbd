"""Telling an interrupt from an error."""

from __future__ import annotations


def is_interrupt(error: BaseException) -> bool:
    """Whether an exception is a Ctrl-C, or was made of one.

    A compiled kernel that the interrupt falls into reports it as a ``SystemError`` with the interrupt as its cause.

    Examples
    --------
    >>> is_interrupt(KeyboardInterrupt()), is_interrupt(ValueError("no"))
    (True, False)
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, KeyboardInterrupt):
            return True
        seen = seen.__cause__ or seen.__context__
    return False
