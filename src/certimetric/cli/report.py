"""``certimetric report``: the report of an audit, rendered again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from certimetric.cli.inputs import writable
from certimetric.cli.options import Title


def report(
    results: Annotated[Path, typer.Argument(metavar="RESULTS", help="results.json of an audit, or its folder.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="HTML file to write.")] = Path("report.html"),
    title: Title = None,
) -> None:
    """Render the report of an audit again."""
    from certimetric.auditing import AuditResult
    from certimetric.base.files import write_atomically

    result = AuditResult.load(results)
    writable("--out", out)
    write_atomically(out, result.to_html(title=title))
    typer.echo(f"Report: {out}")
