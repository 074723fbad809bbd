"""Arguments and options that several commands share, and those that are the fields of a request for an audit."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from copy import copy
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.models import OptionInfo

from certimetric.auditing.request import AuditRequest, Parameter, parameters
from certimetric.auditing.tables.request import Request
from certimetric.cli.inputs import number, numbers, words

DATA, METHOD, REPORT = "Data", "Method", "Report"  # panels of the help of audits


def parameters_of_command(read: Callable[..., Any], kind: type[AuditRequest]) -> list[inspect.Parameter]:
    """Parameters of a command: those of a function that reads data, and an option for each field of a request."""
    found = [
        _parameter(each.name, each.default, each.annotation, DATA)
        for each in inspect.signature(read, eval_str=True).parameters.values()
    ]
    for each in parameters(kind):
        if each.flags:
            panel = REPORT if each.name in AuditRequest.__dataclass_fields__ and each.name != "seed" else METHOD
            several = "sequence" in each.kind
            default = None if several else each.default
            annotation: Any = list[str] if several else {"int": int, "bool": bool, "path": Path}.get(each.kind, str)
            annotation = annotation | None if default is None else annotation
            found.append(_parameter(each.name, default, Annotated[annotation, option_of(kind, each.name)], panel))
    return found


def _parameter(name: str, default: Any, annotation: Any, panel: str) -> inspect.Parameter:
    told = copy(annotation.__metadata__[0])
    if isinstance(told, OptionInfo):
        told.rich_help_panel = told.rich_help_panel or panel
    annotation = Annotated[annotation.__origin__, told]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def option_of(kind: type[AuditRequest], name: str) -> Any:
    """The option that a field is, with the help that the docstring has of it."""
    told = next(each for each in parameters(kind) if each.name == name)
    text, _, shown = told.text.partition(" None for ")
    if "sequence" in told.kind:
        text += " Repeat it for more, or separate them by commas." if _commas(told) else " Repeat it for more."
        shown = shown or ", ".join(map(str, told.default))
    text += f" [default: {shown.rstrip('.')}]" if shown else ""
    choices = re.match(r"[^{]*\{(.*?)\}", told.kind)
    metavar = "[" + "|".join(re.findall(r'"([\w-]+)"', choices[1])) + "]" if choices else told.metavar or None
    return typer.Option(*told.flags, metavar=metavar, help=text)


def _commas(told: Parameter) -> bool:
    """Whether values of a list are apart by commas too, for none of them has one."""
    return told.kind == "sequence of float" or told.kind.startswith("sequence of {")


def values_of(kind: type[AuditRequest], given: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a request from the values of its options; what is not given has the default of its field."""
    found = {}
    for told in parameters(kind):
        if (value := given.get(told.name)) is None:
            continue
        if told.kind == "float" and value != told.default:
            value = number(told.flags[0], value)
        elif _commas(told):
            value = numbers(told.flags[0], value) if told.kind == "sequence of float" else words(value)
        found[told.name] = value
    return found


UNITS = ("standardised", "original")
NEIGHBORS, JOBS = Request.n_neighbors, Request.n_jobs

Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="A bundled data set, a CSV, Parquet, Excel or LIBSVM file, openml:NAME, or one of $CERTIMETRIC_DATA.",
    ),
]
Target = Annotated[str | None, typer.Option("--target", metavar="COL", help="Column with the labels.")]
DataRoot = Annotated[
    Path | None,
    typer.Option(
        "--data-root", metavar="DIR", help="Folder of the image set, or of data sets. [default: $CERTIMETRIC_DATA]"
    ),
]
Metric = Annotated[Path, typer.Argument(metavar="METRIC", help="File from `certimetric fit` or `audit`.")]
Train = Annotated[str, typer.Argument(metavar="TRAIN", help="Training data with labels.")]
Queries = Annotated[str, typer.Argument(metavar="QUERIES", help="Instances, with or without labels.")]
Neighbors = Annotated[int, option_of(Request, "n_neighbors")]
Title = Annotated[str | None, option_of(Request, "title")]
Jobs = Annotated[int, option_of(Request, "n_jobs")]
NormOption = Annotated[
    str, typer.Option("--norm", metavar="[l2|linf|l1]", help="How the size of a change is measured.")
]
ThreatOption = Annotated[
    str,
    typer.Option(
        "--threat",
        metavar="NORM[:OPTION=…,…]",
        help="l2, linf or l1, with eps=SIZE (without it: the smallest change), bounds=LOW..HIGH, immutable=A+B, "
        "integer=A+B, one_hot=A+B/C+D, increase=A+B, decrease=A+B, cost=A:2+B:0.5. Features are meant in original "
        "units, eps in those of --units.",
    ),
]
UnitsOption = Annotated[
    str | None,
    typer.Option(
        "--units",
        metavar=f"[{'|'.join(UNITS)}]",
        help="Of sizes of changes. [default: standardised if the metric file knows the scale]",
    ),
]
