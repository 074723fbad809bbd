"""``certimetric export``: a metric of a file for the tools of others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from certimetric.cli.inputs import words, writable
from certimetric.cli.options import Metric

EPILOG = """Examples:

`certimetric export wine.safetensors --to onnx -o wine.onnx`

`certimetric export wine.safetensors --to sql --table wine --id number --keep grower -o wine.sql`"""


def export(
    metric: Metric,
    to: Annotated[str, typer.Option("--to", metavar="[onnx|sql]", help="What to write.")],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="FILE", help="[default: METRIC.onnx or METRIC.sql]")
    ] = None,
    table: Annotated[
        str | None, typer.Option("--table", metavar="TABLE", help="Table of the database, or SCHEMA.TABLE.")
    ] = None,
    id: Annotated[str | None, typer.Option("--id", metavar="COL", help="Column that tells its rows apart.")] = None,
    keep: Annotated[
        list[str] | None, typer.Option("--keep", metavar="COL,…", help="Further columns of the view.")
    ] = None,
    view: Annotated[
        str | None, typer.Option("--view", metavar="NAME", help="Name of the view. [default: TABLE_embedding]")
    ] = None,
    dialect: Annotated[
        str, typer.Option("--dialect", metavar="[duckdb|postgresql]", help="Of the database.")
    ] = "duckdb",
) -> None:
    """Write the embedding of a metric as an ONNX graph, or as a view of a database and a query for the nearest rows."""
    from certimetric.base.arguments import chosen
    from certimetric.base.files import write_atomically
    from certimetric.export import export_onnx, export_sql
    from certimetric.geometry import MahalanobisMetric

    chosen("--to", to, ("onnx", "sql"))
    if to == "sql" and (table is None or id is None):
        raise ValueError("--to sql needs --table and --id: the table, and the column that tells its rows apart")
    given = {"--table": table, "--id": id, "--keep": keep, "--view": view}
    if to == "onnx" and (idle := [option for option, value in given.items() if value]):
        raise ValueError(f"{', '.join(idle)} {'is' if len(idle) == 1 else 'are'} for --to sql only, got --to onnx")
    path = writable("--out", out or metric.with_suffix(f".{to}"), metric)
    loaded = MahalanobisMetric.load(metric)
    if to == "onnx":
        export_onnx(loaded, path)
    else:
        statements = export_sql(
            loaded,
            str(table).split("."),
            id=str(id),
            keep=words(keep or []),
            view=view,
            dialect=dialect,
        )
        write_atomically(path, str(statements))
    typer.echo(f"{'Graph' if to == 'onnx' else 'Statements'}: {path}")
