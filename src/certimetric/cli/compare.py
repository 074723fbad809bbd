"""``certimetric compare``: two audits, and what changed from one to the other."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from certimetric.cli.audits import print_table
from certimetric.cli.findings import Junit, Sarif, see_writable, write_findings
from certimetric.cli.inputs import number, results_of
from certimetric.cli.options import Title

EPILOG = """Examples:

`certimetric compare audits/v1 audits/v2`

`certimetric compare audits/released audits/candidate --fail-on-regression --tolerance 0.02 --junit compare.xml`"""


def compare(
    context: typer.Context,
    before: Annotated[Path, typer.Argument(metavar="BEFORE", help="results.json of an audit, or its folder.")],
    after: Annotated[Path, typer.Argument(metavar="AFTER", help="The same of a later audit.")],
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="DIR", help="Folder for compare.html and compare.json.")
    ] = Path("certimetric-compare"),
    tolerance: Annotated[
        str, typer.Option("--tolerance", metavar="SHARE", help="By how much a share may become worse.")
    ] = "0.01",
    fail_on_regression: Annotated[
        bool,
        typer.Option(
            "--fail-on-regression",
            help="Exit with 1 where a figure became worse, or a threshold or check that held does not any more.",
        ),
    ] = False,
    title: Title = None,
    junit: Junit = None,
    sarif: Sarif = None,
) -> None:
    """Compare two audits of one kind: what changed, whether by more than chance, and what does not compare."""
    from rich.markup import escape

    from certimetric.auditing import compare_audits

    allowed = number("--tolerance", tolerance)
    if not 0 <= allowed <= 1:
        raise ValueError(f"--tolerance must be a share from 0 to 1, got {tolerance!r}")
    see_writable(junit, sarif, before, after)
    with results_of(before, after):
        told = compare_audits(before, after, tolerance=allowed, command=shlex.join(["certimetric", *context.obj]))
        data, page = told.save(out, title=title)
        write_findings(told, junit, sarif)
    document = told.document
    console = print_table(title or document["title"], *told.table(), texts=2)
    for remark in document["remarks"]:
        console.print(escape(remark), soft_wrap=True)
    for each in document["rules"]:
        about = f" [{each['learner']}]" if each["learner"] else ""
        name = f"{each['code'] or 'Threshold'} {each['title']}{about}"
        console.print(escape(f"{name}: {each['outcome']}: {each['message']}"), soft_wrap=True)
    console.print(escape(f"{told.status}: {document['verdict']['sentence']}"), soft_wrap=True)
    typer.echo(f"Page:    {page}")
    typer.echo(f"Results: {data}")
    if fail_on_regression:
        if told.regressed:
            raise typer.Exit(1)
        if not told.comparable:
            raise ValueError("--fail-on-regression: no figure of these audits compares, so that nothing was held")
