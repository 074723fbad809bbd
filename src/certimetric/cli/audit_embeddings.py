"""``certimetric audit-embeddings``: embeddings that were computed elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from certimetric.auditing.embeddings.request import EmbeddingRequest
from certimetric.cli.audits import AuditCommand
from certimetric.cli.inputs import named, needs_deep

Files = Annotated[
    list[str],
    typer.Argument(
        metavar="[NAME=]FILE…",
        help="Embeddings of the same items, one for each model: .npz, .npy, .safetensors, .parquet, .arrow, "
        "lancedb:FOLDER#TABLE or postgresql://USER@HOST/DATABASE#TABLE.",
    ),
]
QueryFiles = Annotated[
    list[str] | None,
    typer.Option(
        "--query-file", metavar="FILE", help="Embeddings of the queries. Repeat it, in the order of the models."
    ),
]
Labels = Annotated[
    str | None, typer.Option("--labels", metavar="FILE", help="Labels, ids and so on of the same rows, where apart.")
]
QueryLabels = Annotated[
    str | None, typer.Option("--query-labels", metavar="FILE", help="The same of the rows of --query-file.")
]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        metavar="NAME=COLUMN",
        help="How an array or a column is called: embeddings, labels, ids, groups or times. Repeat it for more.",
    ),
]
QueriesFrom = Annotated[
    str | None,
    typer.Option(
        "--queries-from", metavar="TIME", help="Items from this time on are the queries, those before it the gallery."
    ),
]


def read(
    files: Files,
    query_file: QueryFiles = None,
    labels: Labels = None,
    query_labels: QueryLabels = None,
    columns: Columns = None,
    queries_from: QueriesFrom = None,
) -> tuple[Mapping[str, Any], str]:
    """Compare embeddings by retrieval: exact figures under every change of an embedding up to ε."""
    needs_deep(["torch"])  # that ranks: nothing is trained here
    from certimetric.datasets.embedding_files import load_embeddings

    paths = named(files)
    queries: list[str | None] = list(query_file) if query_file else [None] * len(paths)
    if len(queries) != len(paths):
        raise ValueError(f"--query-file must be given for each of {len(paths)} models, got {len(queries)}")
    called = {}
    for text in columns or []:
        name, equals, told = text.partition("=")
        if not (name and equals and told):
            raise ValueError(f"--column must be NAME=COLUMN, got {text!r}")
        called[name] = told
    also: dict[str, Any] = {"labels": labels, "query_labels": query_labels, "columns": called}
    models = {
        name: load_embeddings(path, queries=own, queries_from=queries_from, **also)
        for (name, path), own in zip(paths.items(), queries)
    }
    stem = Path(next(iter(paths.values())).rpartition("#")[2]).stem
    return {"models": models, "name": " and ".join(paths)}, stem


COMMAND = AuditCommand(
    "audit-embeddings",
    EmbeddingRequest,
    read,
    """Examples:

`certimetric audit-embeddings embeddings.npz`

`certimetric audit-embeddings items.parquet --query-file queries.parquet --column labels=sku --metric cosine`

`certimetric audit-embeddings first=a.npz second=b.npz --eps 0.1,0.25 --fail-under attacked@0.25=0.6`""",
    formerly=("--model", "-m"),
)
