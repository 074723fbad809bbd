"""What a request for an audit of any kind is: each field is a parameter, its documentation and an option of a command.

A kind of audit has one dataclass. Its fields say of themselves, once, what :func:`parameters_of` makes the signature
and the docstring of a function of, and ``certimetric.cli`` the options of a command. Making a request checks all.
"""

from __future__ import annotations

import functools
import inspect
import os
import textwrap
from collections.abc import Callable, Iterable, Iterator
from dataclasses import MISSING, dataclass, field, fields
from numbers import Integral
from typing import Any, ParamSpec, TypeVar, cast

_P = ParamSpec("_P")
_R = TypeVar("_R")
_T = TypeVar("_T")
_WIDTH = 116


@dataclass(frozen=True)
class About:
    """What a field of a request says of itself.

    Parameters
    ----------
    kind : str
        Type and shape as docstrings have them; how the text of an option is read follows from it.
    text : str
        What it is, in docstrings and in the help of commands.
    more : str
        What docstrings say after that.
    absent : str
        What None stands for.
    option : str
        Flags of the option, separated by spaces; without any the field is for Python, and commands know it otherwise.
    metavar : str, optional
        What stands for the value in the help of commands.
    """

    kind: str
    text: str
    more: str = ""
    absent: str = ""
    option: str = ""
    metavar: str | None = None


def about(kind: str, text: str, more: str = "", **told: Any) -> dict[str, About]:
    """Metadata of a field without default; see :class:`About`."""
    return {"about": About(kind, text, more, **told)}


def option(default: Any, flags: str, kind: str, text: str, more: str = "", **told: Any) -> Any:
    """A field that is a parameter of a function and an option of a command; see :class:`About`."""
    return field(default=default, metadata=about(kind, text, more, option=flags, **told))


def python_only(default: Any, kind: str, text: str, more: str = "", **told: Any) -> Any:
    """A field that is a parameter of a function only; see :class:`About`."""
    return field(default=default, metadata=about(kind, text, more, **told))


def one_of(names: Iterable[str]) -> str:
    """Names as docstrings list the values that a parameter may have.

    Examples
    --------
    >>> one_of(["linf", "l2"])
    '{"linf", "l2"}'
    """
    return "{" + ", ".join(f'"{name}"' for name in names) + "}"


def judged_by(spec: str, figures: str) -> Any:
    """The field ``fail_under``: of whom the figures are, and which there are."""
    return option(
        (),
        "--fail-under",
        "str or sequence of str",
        f"Thresholds ``FIGURE=VALUE`` or ``{spec}.FIGURE=VALUE``: where one is missed the audit fails, and a command "
        f"exits with 1. The FIGURE is {figures}. Without a {spec} it is about the recommended one.",
        'Without any threshold the status is never "PASS" but "REPORT".',
        metavar=f"[{spec}.]FIGURE=VALUE",
    )


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class AuditRequest:
    """What every audit is asked: the seed, what it is judged by, and where and how its report is written.

    Derived requests have fields for data and method, and check all of them when they are made.
    """

    seed: int = option(0, "--seed", "int", "Same seed, same machine, same figures.")
    fail_under: str | Iterable[str] = ()  # described by every kind, for its figures: judged_by
    out: str | os.PathLike[str] | None = option(
        None,
        "--out -o",
        "path",
        "Folder for report, results and what was computed so far: a run that was stopped goes on from there. One "
        "with the report of an audit of other data or with other options is refused. Without it nothing is written, or "
        "by a command into certimetric-audit/NAME, or NAME-2 and so on where another audit is there.",
        "Thresholds, title and processes are none of these options: the same figures are judged anew. Where its "
        "``results.json`` is removed, the report is written over, and what is finished and the same is used again.",
        metavar="DIR",
    )
    title: str | None = option(None, "--title", "str", "Heading of the report.", metavar="TEXT")
    command: str | None = python_only(
        None, "str", "How to repeat the audit, for the report.", absent="the call in Python"
    )
    progress: bool = python_only(False, "bool", "Show a progress bar on stderr.")
    name: str = python_only("data", "str", "Name of the data in the report.")

    def __post_init__(self) -> None:
        texts = (self.fail_under,) if isinstance(self.fail_under, str) else tuple(self.fail_under)
        self._settle(seed=whole("seed", self.seed, 0), fail_under=texts)

    def _settle(self, **values: Any) -> None:
        """Put what was checked in the place of what was asked."""
        for key, value in values.items():
            object.__setattr__(self, key, value)

    @property
    def output(self) -> dict[str, Any]:
        """What is asked of the report, none of which changes a figure."""
        return {key: getattr(self, key) for key in ("out", "command", "title", "progress")}


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class RankingRequest(AuditRequest):
    """What audits of retrieval are asked besides."""

    report_eps: Any = option(
        None, "--report-eps", "float", "The ε that table and verdict quote.", absent="the middle one", metavar="EPS"
    )
    n_queries: int = option(500, "--queries", "int", "So many queries, drawn at random, are ranked.", metavar="N")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._settle(n_queries=whole("n_queries", self.n_queries, 1))


def whole(name: str, value: Any, least: int) -> int:
    """A whole number of at least so much.

    Raises
    ------
    ValueError
        If it is none.
    """
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
    return int(value)


def described(kind: type[AuditRequest]) -> Iterator[tuple[str, Any, About]]:
    """Fields of a request by name, with default (``dataclasses.MISSING`` for none) and description, its own ones first.

    A request that gives an inherited field another default need not describe it again.
    """
    lineage = [base.__dict__["__dataclass_fields__"] for base in kind.__mro__ if "__dataclass_fields__" in vars(base)]
    known = {name: told.metadata["about"] for base in lineage[::-1] for name, told in base.items() if told.metadata}
    asked = [each for each in fields(kind) if each.init]
    for each in sorted(asked, key=lambda each: any(each.name in base for base in lineage[1:])):
        yield each.name, each.default, known[each.name]


def parameters_of(kind: Callable[_P, _R]) -> Callable[[Callable[[_R], _T]], Callable[_P, _T]]:
    """Make of a function of a request one with the request's parameters, which its docstring then lists.

    Parameters
    ----------
    kind : type
        A request; the function has it as its attribute ``request``.
    """

    def decorate(function: Callable[[_R], _T]) -> Callable[_P, _T]:
        @functools.wraps(function)
        def call(*args: _P.args, **kwargs: _P.kwargs) -> _T:
            return function(kind(*args, **kwargs))

        signature, given = inspect.signature(kind), inspect.signature(function)
        before, returns, after = inspect.cleandoc(function.__doc__ or "").partition("Returns\n-------\n")
        told: Any = call
        told.__doc__ = f"{before}{_section(cast(type[AuditRequest], kind))}\n\n{returns}{after}"
        told.__signature__ = signature.replace(return_annotation=given.return_annotation)
        told.request = kind
        return call

    return decorate


def _section(kind: type[AuditRequest]) -> str:
    lines = ["Parameters", "----------"]
    for name, default, told in described(kind):
        lines.append(f"{name} : {told.kind}" + ("" if default is MISSING else f", default={default!r}"))
        text = " ".join(filter(None, [told.text, told.more, told.absent and f"None for {told.absent}."]))
        lines += textwrap.wrap(text, _WIDTH, initial_indent="    ", subsequent_indent="    ")
    return "\n".join(lines)
