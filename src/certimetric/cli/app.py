"""The commands, in the order of ``certimetric --help``; libraries are imported when a command needs them."""

from __future__ import annotations

from typing import Annotated

import typer

from certimetric.base.version import __version__
from certimetric.cli import (
    attack,
    audit,
    audit_embeddings,
    audit_model,
    bench,
    certify,
    check,
    compare,
    datasets,
    explain,
    export,
    fit,
    match,
    report,
    train,
    verify,
    verify_model,
)

# A kind of audit has its command by its place here.
AUDITS = (audit.COMMAND, audit_model.COMMAND, audit_embeddings.COMMAND, verify.COMMAND, verify_model.COMMAND)

app = typer.Typer(
    name="certimetric",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    help="Learn distances that can be trusted: accurate, hard to fool, and certified.",
    epilog="Start with `certimetric audit iris`, then with a CSV file of your own.",
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"certimetric {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


for command in AUDITS:
    command.register(app)
app.command(epilog=train.EPILOG)(train.train)
app.command(epilog=bench.EPILOG)(bench.bench)
app.command(epilog=fit.EPILOG)(fit.fit)
app.command(epilog=certify.EPILOG)(certify.certify)
app.command(epilog=check.EPILOG)(check.check)
app.command(epilog=attack.EPILOG)(attack.attack)
app.command(epilog=explain.EPILOG)(explain.explain)
app.command(epilog=export.EPILOG)(export.export)
app.command(epilog=match.EPILOG)(match.match)
app.command(epilog=compare.EPILOG)(compare.compare)
app.command()(report.report)
app.command()(datasets.datasets)
