"""Options of commands that read tables: how files are written, which columns count, and how text becomes numbers."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from certimetric.base.wording import did_you_mean
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


_OF_FILES = {
    "delimiter": "delimiter=MARK between values",
    "decimal": "decimal=MARK (point or comma)",
    "thousands": "thousands=MARK between groups of three digits",
    "encoding": "encoding=NAME such as cp1252",
    "na": "na=WORD for a missing value",
}
_ONCE = ("delimiter", "decimal", "thousands", "encoding")
_OF_TABLES = _OF_FILES | {
    "drop": "drop=COL for a column that is left out",
    "ordinal": "ordinal=COL=A<B<C for categories in their order",
    "category": "category=COL for numbers that are categories",
}


def _read(keys: Mapping[str, str], what: str) -> Any:
    told = f"{what}: {', '.join(keys.values())}. Repeat it for more, or separate them by commas."
    return _option("--read", "KEY=VALUE", told)


_ReadFiles = Annotated[list[str], _read(_OF_FILES, "How files are written")]
_ReadTables = Annotated[list[str], _read(_OF_TABLES, "How a table is read")]


@dataclass(frozen=True)
class FileOptions:
    """How files of text are written."""

    keys: ClassVar[Mapping[str, str]] = _OF_FILES

    read: _ReadFiles = field(default_factory=list)

    def told(self) -> dict[str, list[str]]:
        """What is said under each key."""
        found: dict[str, list[str]] = {key: [] for key in self.keys}
        for text in self.read:
            for part in re.split(f",(?=(?:{'|'.join(self.keys)})=)", text):
                key, equals, value = part.partition("=")
                if not equals or not value or key not in self.keys:
                    known, hint = ", ".join(self.keys), did_you_mean(key, self.keys)
                    raise ValueError(f"--read must be KEY=VALUE with a KEY of {known}, got {part!r}{hint}")
                found[key].append(value)
        for key in _ONCE:
            if len(found[key]) > 1:
                raise ValueError(f"--read must say {key} once, got {' and '.join(found[key])}")
        return found

    def reading(self, **further: Any) -> Reading:
        """The options as one value."""
        from certimetric.datasets import Reading

        told = self.told()
        once = {key: told[key][0] for key in _ONCE if told[key]}
        return Reading(**{**once, "na": tuple(words(told["na"])), **further})


@dataclass(frozen=True)
class TableOptions(FileOptions):
    """How a table is read that is learned from."""

    keys: ClassVar[Mapping[str, str]] = _OF_TABLES

    read: _ReadTables = field(default_factory=list)
    target: Target = None
    encode: Annotated[
        bool, _option("--encode", None, "Turn text columns into 0/1 columns, dates into days, and fill gaps.")
    ] = False

    def how(self) -> dict[str, Any]:
        """What the loaders of data sets take: target, encode, and reading if anything is said of it."""
        from certimetric.datasets import Encoding, Reading

        told = self.told()
        orders = dict(_order(text) for text in told["ordinal"])
        encode: bool | Encoding = self.encode
        if orders or told["category"]:
            encode = Encoding(orders, tuple(told["category"]))
        reading = self.reading(drop=tuple(told["drop"]))
        return {"target": self.target, "encode": encode, "reading": None if reading == Reading() else reading}

    def load(self, data: str) -> Dataset:
        """The table."""
        from certimetric import datasets

        return datasets.load(data, **self.how())

    def audited(self, data: str, test: str | None = None, **columns: str | None) -> dict[str, Any]:
        """What an audit is asked of the table: its rows, those of a table of ``test`` rows too, and by their roles
        columns that are no features."""
        from certimetric.base.wording import counted
        from certimetric.datasets.tables.loading import load_beside, load_with_test

        named = {role: column for role, column in columns.items() if column is not None}
        beside: dict[str, Any] = {}
        if test is not None:
            loaded, beside, rows = load_with_test(data, test, named, **self.how())
            beside = {**beside, "test": rows}
        elif named:
            loaded, beside = load_beside(data, named, **self.how())
        else:
            loaded = self.load(data)
        if loaded.imputed is not None and loaded.imputed.any():
            gaps = counted(int(loaded.imputed.sum()), "missing value")
            typer.echo(f"{data}: {gaps} filled by medians of the training part of each split")
        told = ("X", "y", "feature_names", "image_shape", "name", "source", "imputed", "encoder")
        return {**{name: getattr(loaded, name) for name in told}, **beside}


def _order(text: str) -> tuple[str, list[str]]:
    """A column and its categories in their order; the column may have an equals sign in its name, a category not."""
    name, equals, told = text.rpartition("=")
    parts = [part.strip() for part in told.split("<")]
    if not equals or not name or len(parts) < 2 or not all(parts):
        raise ValueError(f"--read ordinal must be COL=A<B<C, got {text!r}")
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
