"""A value that an argument cannot have: one sentence for the reader, and its parts for who asked in another's name."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from certimetric.base.wording import did_you_mean


class ArgumentError(ValueError):
    """An argument has a value that it cannot have: ``wanted``, such as "must be positive", is how the sentence goes on.

    ``owner``, a name or an object of which the class is named, says whose argument it is, ``beside`` on which further
    arguments the limit depends; ``hint`` is said after the value.

    Examples
    --------
    >>> print(ArgumentError("eps", "must be positive", -1))
    eps must be positive, got -1
    """

    def __init__(
        self,
        argument: str,
        wanted: str,
        value: object,
        owner: object = None,
        beside: Collection[str] = (),
        hint: str = "",
    ):
        name = owner if isinstance(owner, str) or owner is None else type(owner).__name__
        super().__init__(argument, wanted, value, name, beside, hint)  # all of it, so that it can be pickled
        self.argument, self.wanted, self.value, self.owner = argument, wanted, value, name
        self.beside, self.hint = beside, hint

    def __str__(self) -> str:
        return self.sentence(self.argument, "" if self.owner is None else f" of {self.owner}")

    def sentence(self, argument: str, place: str) -> str:
        """The sentence, with another name for the argument and ``place`` behind it."""
        return f"{argument}{place} {self.wanted}, got {self.value!r}{self.hint}"


def require(
    holds: bool, argument: str, wanted: str, value: object, owner: object = None, beside: Collection[str] = ()
) -> None:
    """Raise :class:`ArgumentError` unless a limit holds."""
    if not holds:
        raise ArgumentError(argument, wanted, value, owner, beside)


def chosen(argument: str, value: Any, known: Collection[str], owner: object = None) -> None:
    """Raise :class:`ArgumentError` unless the value is one of the known ones; it suggests the nearest."""
    if value not in known:
        hint = did_you_mean(value, [*known]) if isinstance(value, str) else ""
        raise ArgumentError(argument, f"must be one of {', '.join(map(repr, known))}", value, owner, hint=hint)
