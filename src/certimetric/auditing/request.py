"""What a request for an audit of any kind is: each field is a parameter, its documentation and an option of a command.

A kind of audit has one dataclass, whose docstring says of each field once what it is. :func:`parameters_of` makes the
signature and docstring of a function of it, ``certimetric.cli`` a command. Making a request checks all values.
"""

from __future__ import annotations

import functools
import inspect
import os
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from numbers import Integral
from typing import Any, ClassVar, ParamSpec, TypeVar, cast

from certimetric.auditing.thresholds import Threshold, parse_threshold

_P = ParamSpec("_P")
_R = TypeVar("_R")
_T = TypeVar("_T")


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class AuditRequest:
    """What every audit is asked: the seed, what it is judged by, and where and how its report is written.

    The first paragraph about a parameter is also the help of its option, where a last sentence "None for …" tells the
    default. What a derived request says of a parameter comes before what is said here.

    Parameters
    ----------
    seed : int
        Same seed, same machine, same figures.
    fail_under : str or sequence of str
        Where one is missed the audit fails, and a command exits with 1. Without a name it is about the recommended one.

        Without any threshold the status is never "PASS" but "REPORT".
    out : path
        Folder for report, results and what was computed so far: a run that was stopped goes on from there. One with the
        report of an audit of other data or with other options is refused. None for certimetric-audit/NAME, or NAME-2
        and so on where another audit is there, by a command; in Python nothing is written then.

        Thresholds, title and processes are none of these options: the same figures are judged anew. Where its
        ``results.json`` is removed, the report is written over, and what is finished and the same is used again.
    title : str
        Heading of the report.
    command : str
        How to repeat the audit, for the report. None for the call in Python.
    progress : bool
        Tell on stderr how far the work is: by a bar on a terminal, else by a line every ten seconds.
    name : str
        Name of the data in the report.

    Raises
    ------
    ValueError, TypeError
        If an argument is not as described, or ``out`` holds the report of another audit; nothing has been computed
        then.
    OSError
        If ``out`` cannot be written; nothing has been computed then.

    Examples
    --------
    >>> AuditRequest(seed=3).output["title"] is None
    True
    """

    options: ClassVar[Mapping[str, str]] = {
        "seed": "--seed N",
        "fail_under": "--fail-under [NAME.]FIGURE=VALUE",
        "out": "--out -o DIR",
        "title": "--title TEXT",
    }
    """Fields that are options of a command: flags, and what stands for the value. Derived requests add theirs."""

    seed: int = 0
    fail_under: str | Iterable[str] = ()
    out: str | os.PathLike[str] | None = None
    title: str | None = None
    command: str | None = None
    progress: bool = False
    name: str = "data"
    thresholds: tuple[Threshold, ...] = field(init=False)  # derived: what is said in ``fail_under``

    def __post_init__(self) -> None:
        texts = (self.fail_under,) if isinstance(self.fail_under, str) else tuple(self.fail_under)
        self._settle(seed=whole("seed", self.seed, 0), fail_under=texts)

    def _settle(self, **values: Any) -> None:
        """Put what was checked in the place of what was asked."""
        for key, value in values.items():
            object.__setattr__(self, key, value)

    def _judge_by(self, learners: Sequence[str], figures: Mapping[str, bool], **measured: Any) -> None:
        """Read the thresholds; for what can be told of learners see :func:`parse_threshold`."""
        self._settle(
            thresholds=tuple(parse_threshold(text, learners, figures=figures, **measured) for text in self.fail_under)
        )

    @property
    def output(self) -> dict[str, Any]:
        """What is asked of the report, none of which changes a figure."""
        return {key: getattr(self, key) for key in ("out", "command", "title", "progress")}


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class RankingRequest(AuditRequest):
    """What audits of retrieval are asked besides.

    Parameters
    ----------
    report_eps : float
        The ε that table and verdict quote. None for the middle one.
    n_queries : int
        So many queries, drawn at random, are ranked.

    Examples
    --------
    >>> RankingRequest(n_queries=100).n_queries
    100
    """

    options = {"report_eps": "--report-eps EPS", "n_queries": "--queries N"}

    report_eps: Any = None
    n_queries: int = 500

    def __post_init__(self) -> None:
        super().__post_init__()
        self._settle(n_queries=whole("n_queries", self.n_queries, 1))


def whole(name: str, value: Any, least: int) -> int:
    """A whole number of at least so much.

    Parameters
    ----------
    name : str
        Of the argument, for the error.
    value : object
    least : int
        The smallest that is allowed.

    Raises
    ------
    ValueError
        If it is none.

    Examples
    --------
    >>> whole("n_splits", 3, 1)
    3
    """
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
    return int(value)


def seconds_of(name: str, value: Any) -> float:
    """A span of time in seconds: a number of them, or text such as 90s, 10m or 2h.

    Parameters
    ----------
    name : str
        Of the argument, for the error.
    value : str or float

    Raises
    ------
    ValueError
        If it is none.

    Examples
    --------
    >>> seconds_of("budget", "1.5m"), seconds_of("budget", 30)
    (90.0, 30.0)
    """
    found = re.fullmatch(r"(\d+(?:\.\d*)?)\s*([smh]?)", str(value).strip().lower())
    seconds = float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]] if found else 0.0
    if isinstance(value, bool) or not 0.0 < seconds < float("inf"):
        raise ValueError(f"{name} must be a span of time such as 90s, 10m or 2h, got {value!r}")
    return seconds


@dataclass(frozen=True)
class Parameter:
    """A field of a request: type and shape, what help and docstring say, what only the docstring says, its option.

    Parameters
    ----------
    name : str
    default : object
        ``dataclasses.MISSING`` for none.
    kind : str
        Type and shape, as the docstring says.
    text : str
        What help and docstring say.
    more : str
        What only the docstring says.
    flags : tuple of str
        Of the command's option; none for a field that is for Python only.
    metavar : str
        What stands for the value in the help.

    Examples
    --------
    >>> found = {each.name: each for each in parameters(AuditRequest)}["seed"]
    >>> found.default, found.flags, found.metavar
    (0, ('--seed',), 'N')
    """

    name: str
    default: Any  # dataclasses.MISSING for none
    kind: str
    text: str
    more: str
    flags: tuple[str, ...]  # none for a field that is for Python only
    metavar: str


def parameters(kind: type[AuditRequest]) -> tuple[Parameter, ...]:
    """Fields of a request as its docstring and those of its bases tell them, in this order.

    Parameters
    ----------
    kind : type
        A class of requests, whose docstring describes every field.

    Examples
    --------
    >>> [(each.name, each.flags) for each in parameters(RankingRequest)][:2]
    [('report_eps', ('--report-eps',)), ('n_queries', ('--queries',))]
    """
    kinds: dict[str, str] = {}
    texts: dict[str, list[list[str]]] = {}
    options: dict[str, str] = {}
    for base in kind.__mro__[:-1]:
        _, *words = re.split(r"^(\w+) : (.+)\n", _section(base, "Parameters"), flags=re.MULTILINE)
        for name, told, body in zip(words[::3], words[1::3], words[2::3]):
            kinds.setdefault(name, told)
            texts.setdefault(name, []).append([" ".join(part.split()) for part in body.split("\n\n")])
        options = {**vars(base).get("options", {}), **options}
    given = [each for each in fields(kind) if each.init]
    defaults = {each.name: each.default for each in given}
    first = {each.name for each in given if not each.kw_only}  # the data, of whichever class they are fields
    kinds = dict(sorted(kinds.items(), key=lambda item: item[0] not in first))
    assert defaults.keys() == kinds.keys(), f"{kind.__name__} must describe every field"
    found = []
    for name, told in kinds.items():
        text, more = (" ".join(" ".join(each[rows]) for each in texts[name]) for rows in (slice(1), slice(1, None)))
        words = options.get(name, "").split()
        flags = tuple(word for word in words if word.startswith("-"))
        metavar = " ".join(words[len(flags) :])
        found.append(Parameter(name, defaults[name], told, text.strip(), more.strip(), flags, metavar))
    return tuple(found)


def _section(kind: type, name: str) -> str:
    """A section of the docstring of a class."""
    told = inspect.cleandoc(kind.__doc__ or "").partition(f"{name}\n{'-' * len(name)}\n")[2]
    return re.split(r"\n\n(?=\S)", told)[0]


def parameters_of(kind: Callable[_P, _R]) -> Callable[[Callable[[_R], _T]], Callable[_P, _T]]:
    """Make of a function of a request one with the request's parameters, which its docstring then lists, and errors.

    Parameters
    ----------
    kind : type
        A request; the function has it as its attribute ``request``.

    Examples
    --------
    >>> told = parameters_of(RankingRequest)(lambda request: request.n_queries)
    >>> told(n_queries=20), told.request.__name__
    (20, 'RankingRequest')
    """

    def decorate(function: Callable[[_R], _T]) -> Callable[_P, _T]:
        @functools.wraps(function)
        def call(*args: _P.args, **kwargs: _P.kwargs) -> _T:
            return function(kind(*args, **kwargs))

        told: Any = call
        asked = cast(type[AuditRequest], kind)
        lines = ["Parameters", "----------"]
        for each in parameters(asked):
            lines.append(
                f"{each.name} : {each.kind}" + ("" if each.default is MISSING else f", default={each.default!r}")
            )
            lines += textwrap.wrap(f"{each.text} {each.more}", 116, initial_indent="    ", subsequent_indent="    ")
        before, returns, after = inspect.cleandoc(function.__doc__ or "").partition("Returns\n-------\n")
        result, _, further = after.partition("\n\n")
        errors = next(filter(None, (_section(base, "Raises") for base in asked.__mro__)), "")
        lines += ["", returns + result, "", "Raises", "------", errors, "", further]
        told.__doc__ = before + "\n".join(lines)
        returned = inspect.signature(function).return_annotation
        told.__signature__ = inspect.signature(kind).replace(return_annotation=returned)
        told.request = kind
        return call

    return decorate
