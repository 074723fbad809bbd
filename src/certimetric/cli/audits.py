"""What commands of audits share: made of a request and of how its data are read, they show what the audit found."""

from __future__ import annotations

import inspect
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from certimetric.auditing.request import AuditRequest
from certimetric.cli.findings import Junit, Sarif, see_writable, write_findings
from certimetric.cli.options import parameters_of_command, values_of

if TYPE_CHECKING:
    from certimetric.auditing import AuditResult

_FINDINGS = [
    inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
    for name, annotation in (("junit", Junit), ("sarif", Sarif))
]
_CONTEXT = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)


@dataclass(frozen=True)
class AuditCommand:
    """A command that carries out one kind of audit: the fields of its request are the options.

    ``read`` reads what is audited: it gives the fields that are no options, and how the folder is called by default.
    Its parameters are arguments and options too, its docstring is the help of the command. ``formerly`` are options
    under which ``audit`` used to do this.
    """

    name: str
    request: type[AuditRequest]
    read: Callable[..., tuple[Mapping[str, Any], str]]
    epilog: str
    formerly: tuple[str, ...] = ()

    def register(self, app: typer.Typer) -> None:
        """Make the command, and add it."""

        def command(context: typer.Context, **given: Any) -> None:
            asked = {name: given.pop(name) for name in inspect.signature(self.read).parameters}
            self._carry_out(context.obj, asked, **given)

        made: Any = command
        options = parameters_of_command(self.read, self.request)
        made.__signature__ = inspect.Signature([_CONTEXT, *options, *_FINDINGS])
        made.__annotations__ = {}
        made.__doc__ = self.read.__doc__
        app.command(self.name, epilog=self.epilog)(made)

    def _carry_out(
        self, words: list[str], asked: dict[str, Any], junit: Path | None, sarif: Path | None, **given: Any
    ) -> None:
        from certimetric.auditing.kinds import evidence_of
        from certimetric.auditing.result import REPORT_FILE, RESULTS_FILE, own_folder
        from certimetric.auditing.run import run
        from certimetric.runs.store import kept_by_an_earlier_version

        see_writable(junit, sarif, *_places([*asked.values(), *given.values()]))
        try:
            values = values_of(self.request, given)
            fields, name = self.read(**asked)
            told: dict[str, Any] = {"command": shlex.join(["certimetric", *words]), "progress": True}
            request = self.request(**fields, **values, **told)
            evidence = evidence_of(request)
            folder = Path(request.out or own_folder(Path("certimetric-audit") / name, evidence.options()))
            for remark in filter(None, (*evidence.remarks(), kept_by_an_earlier_version(folder))):
                typer.echo(f"certimetric: {remark}", err=True)
            result = run(evidence, **{**request.output, "out": folder})
        except KeyboardInterrupt:
            typer.echo("certimetric: interrupted; run the same command to go on from what is finished", err=True)
            raise typer.Exit(130) from None
        write_findings(result, junit, sarif)
        _show(result)
        typer.echo(f"Report:  {folder / REPORT_FILE}")
        typer.echo(f"Results: {folder / RESULTS_FILE}")
        if not result.passed:
            raise typer.Exit(1)


def _places(values: Sequence[Any]) -> list[str]:
    """What may name a file that is read: of NAME=FILE what stands behind the mark, too."""
    texts = [str(text) for value in values for text in (value if isinstance(value, (list, tuple)) else [value])]
    return [place for text in texts for place in (text, text.partition("=")[2])]


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], *, texts: int = 1) -> Any:
    """Print a table whose first columns are text and the others figures; give the console that it was printed on."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(title), title_justify="left")
    for i, column in enumerate(header):
        table.add_column(escape(column), justify="right" if i >= texts else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    console.print(table)
    return console


def _show(result: AuditResult) -> None:
    """Table, issues and verdict of an audit."""
    from rich.markup import escape

    from certimetric.report.views import view_of

    document = result.document
    console = print_table(view_of(document).title, *result.table())
    for check in document["checks"]:
        if check["severity"] == "issue":
            about = f" [{check['learner']}]" if check["learner"] else ""
            console.print(escape(f"{check['code']} {check['title']}{about}: {check['message']}"), soft_wrap=True)
    for entry in document["thresholds"]:
        observed = "nothing" if entry["observed"] is None else f"{float(entry['observed']):.4g}"
        holds = "holds" if entry["passed"] else "does not hold"
        console.print(escape(f"Threshold {entry['expression']} {holds}: observed {observed}"), soft_wrap=True)
    verdict = document["verdict"]
    console.print(escape(f"{verdict['status']}: {verdict['sentence']}"), soft_wrap=True)
    cells = document["reproduction"]["cells"]
    told = f"{cells['computed']} cells computed, {cells['reused']} reused"
    console.print(told + (f", {cells['failed']} failed" if cells["failed"] else ""), soft_wrap=True)
