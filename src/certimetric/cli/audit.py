"""``certimetric audit``: metrics on a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer

from certimetric.auditing.tables.request import Request
from certimetric.cli.audits import AuditCommand
from certimetric.cli.options import Data, Encode, Target


def read(data: Data, target: Target = None, encode: Encode = False) -> tuple[Mapping[str, Any], str]:
    """Compare metrics on a table, and write one HTML report: error, noise, attacks, certificates.

    Finished parts are kept in the output folder: a run that was stopped goes on from there.
    """
    from certimetric import datasets
    from certimetric.base.wording import counted

    loaded = datasets.load(data, target=target, encode=encode)
    if loaded.imputed is not None and loaded.imputed.any():
        gaps = counted(int(loaded.imputed.sum()), "missing value")
        typer.echo(f"{data}: {gaps} filled by medians of the training part of each split")
    told = ("X", "y", "feature_names", "image_shape", "name", "source", "imputed")
    return {name: getattr(loaded, name) for name in told}, loaded.name


COMMAND = AuditCommand(
    "audit",
    Request,
    read,
    """Examples:

`certimetric audit iris`

`certimetric audit wine.csv --target grower --learner euclidean --learner lmnn+pl:tau=2 --jobs 4`

`certimetric audit digits --eps 0.5,1,2 --fail-under certified@1=0.6 --junit audit.xml`

Embedding models have commands of their own: `certimetric audit-model`, `certimetric audit-embeddings`.""",
)
