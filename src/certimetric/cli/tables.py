"""Options of commands that read tables: how files are written, which columns count, and how text becomes numbers."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from certimetric.cli.inputs import words
from certimetric.cli.options import Target

if TYPE_CHECKING:
    from certimetric.datasets import Dataset, Encoding, Reading

FILES = "Files"  # panel of the help

FeaturesOption = Annotated[
    Path | None,
    typer.Option(
        "--features",
        metavar="FILE",
        help="TOML: a table [NAME] for each feature, with bounds, direction, cost, immutable, integer.",
    ),
]

FractionsOption = Annotated[
    bool, typer.Option("--fractions", help="Let whole numbers and categories take values between, too.")
]


def _option(flag: str, metavar: str | None, text: str) -> Any:
    return typer.Option(flag, metavar=metavar, help=text, rich_help_panel=FILES)


@dataclass(frozen=True)
class FileOptions:
    """How files of text are written."""

    delimiter: Annotated[
        str | None, _option("--delimiter", "MARK", "Between values. [default: what the header shows]")
    ] = None
    decimal: Annotated[str, _option("--decimal", "MARK", "Of decimals: point or comma.")] = "."
    thousands: Annotated[
        str | None, _option("--thousands", "MARK", "Between groups of three digits: point, comma, space ….")
    ] = None
    encoding: Annotated[
        str | None,
        _option("--encoding", "NAME", "Of the text, such as cp1252. [default: utf-8, or utf-16 by its mark]"),
    ] = None
    na: Annotated[
        list[str], _option("--na", "WORD", "What stands for a missing value too. Repeat it for more, or use commas.")
    ] = field(default_factory=list)

    def reading(self, **further: Any) -> Reading:
        """The options as one value."""
        from certimetric.datasets import Reading

        told = {each.name: getattr(self, each.name) for each in fields(FileOptions)}
        return Reading(**{**told, "na": tuple(words(self.na)), **further})


@dataclass(frozen=True)
class TableOptions(FileOptions):
    """How a table is read that is learned from."""

    target: Target = None
    drop: Annotated[list[str], _option("--drop", "COL", "Column that is left out. Repeat it for more.")] = field(
        default_factory=list
    )
    encode: Annotated[
        bool, _option("--encode", None, "Turn text columns into 0/1 columns, dates into days, and fill gaps.")
    ] = False
    ordinal: Annotated[
        list[str],
        _option("--ordinal", "COL=A<B<C", "Categories in their order, which become 0, 1, 2. Repeat it for more."),
    ] = field(default_factory=list)
    categorical: Annotated[
        list[str], _option("--category", "COL", "Column of numbers that are categories. Repeat it for more.")
    ] = field(default_factory=list)

    def how(self) -> dict[str, Any]:
        """What the loaders of data sets take: target, encode, and reading if anything is said of it."""
        from certimetric.datasets import Encoding, Reading

        orders = dict(_order(text) for text in self.ordinal)
        encode: bool | Encoding = self.encode or bool(orders or self.categorical)
        if orders or self.categorical:
            encode = Encoding(orders, tuple(self.categorical))
        reading = self.reading(drop=tuple(self.drop))
        return {"target": self.target, "encode": encode, "reading": None if reading == Reading() else reading}

    def load(self, data: str) -> Dataset:
        """The table."""
        from certimetric import datasets

        return datasets.load(data, **self.how())


def _order(text: str) -> tuple[str, list[str]]:
    """A column and its categories in their order; the column may have an equals sign in its name, a category not."""
    name, equals, told = text.rpartition("=")
    parts = [part.strip() for part in told.split("<")]
    if not equals or not name or len(parts) < 2 or not all(parts):
        raise ValueError(f"--ordinal must be COL=A<B<C, got {text!r}")
    return name, parts


def with_table(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make of a command with a parameter that is one of the above a command with its fields as options."""
    signature = inspect.signature(function, eval_str=True)
    name = next(
        name
        for name, each in signature.parameters.items()
        if isinstance(each.annotation, type) and issubclass(each.annotation, FileOptions)
    )
    kind = signature.parameters[name].annotation
    options = inspect.signature(kind, eval_str=True).parameters

    @functools.wraps(function)
    def command(**given: Any) -> Any:
        told = {option: given.pop(option) for option in options}
        return function(**given, **{name: kind(**{key: value for key, value in told.items() if value is not None})})

    parameters = [each for each in signature.parameters.values() if each.name != name]
    for each in options.values():
        several = each.annotation.__origin__ == list[str]
        annotation = Annotated[(list[str] | None, *each.annotation.__metadata__)] if several else each.annotation
        default = None if several else each.default
        parameters.append(inspect.Parameter(each.name, each.KEYWORD_ONLY, default=default, annotation=annotation))
    made: Any = command
    made.__signature__ = inspect.Signature([each.replace(kind=each.KEYWORD_ONLY) for each in parameters])
    made.__annotations__ = {}
    return made
