"""``certimetric report``: the report of an audit, rendered again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from certimetric.cli.inputs import results_of, writable
from certimetric.cli.options import Title


def report(
    results: Annotated[Path, typer.Argument(metavar="RESULTS", help="results.json of an audit, or its folder.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="HTML file to write.")] = Path("report.html"),
    title: Title = None,
) -> None:
    """Render the report of an audit again."""
    from certimetric.auditing import AuditResult
    from certimetric.base.files import write_atomically

    writable("--out", out, results)
    with results_of(results):
        page = AuditResult.load(results).to_html(title=title)
    write_atomically(out, page)
    typer.echo(f"Report: {out}")
