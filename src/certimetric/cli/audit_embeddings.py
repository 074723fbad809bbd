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
    typer.Argument(metavar="[NAME=]FILE…", help="Files .npz with embeddings of the same pictures, one for each model."),
]


def read(files: Files) -> tuple[Mapping[str, Any], str]:
    """Compare embeddings in files by retrieval: exact figures under every change of an embedding up to ε."""
    needs_deep()
    from certimetric.datasets.embedding_files import load_embeddings

    paths = named(files)
    models = {name: load_embeddings(path) for name, path in paths.items()}
    return {"models": models, "name": " and ".join(paths)}, Path(next(iter(paths.values()))).stem


COMMAND = AuditCommand(
    "audit-embeddings",
    EmbeddingRequest,
    read,
    """Examples:

`certimetric audit-embeddings embeddings.npz`

`certimetric audit-embeddings first=a.npz second=b.npz --eps 0.1,0.25 --fail-under attacked@0.25=0.6`""",
    formerly=("--model", "-m"),
)
