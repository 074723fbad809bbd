"""``certimetric audit``: metrics on a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from certimetric.auditing.tables.request import Request
from certimetric.cli.audits import AuditCommand
from certimetric.cli.options import Data
from certimetric.cli.tables import TableOptions, with_table

Test = Annotated[
    str | None,
    typer.Option("--test", metavar="FILE", help="A table of test rows: it is the test part of the only split."),
]
Group = Annotated[
    str | None,
    typer.Option("--group", metavar="COL", help="Column of groups, none of which is in both parts. It is no feature."),
]
Time = Annotated[
    str | None,
    typer.Option("--time", metavar="COL", help="Column of times: the latest rows are tested. It is no feature."),
]
Id = Annotated[
    str | None,
    typer.Option("--id", metavar="COL", help="Column that the report calls rows by. It is no feature."),
]


@with_table
def read(
    data: Data, table: TableOptions, test: Test = None, group: Group = None, time: Time = None, id: Id = None
) -> tuple[Mapping[str, Any], str]:
    """Compare metrics on a table, and write one HTML report: error, noise, attacks, certificates.

    Finished parts are kept in the output folder: a run that was stopped goes on from there.
    """
    said = [f"--{name}" for name, told in (("test", test), ("group", group), ("time", time)) if told is not None]
    if len(said) > 1:
        raise ValueError(f"--test, --group and --time all say how to split: give one of them, not {' and '.join(said)}")
    fields = table.audited(data, test, groups=group, times=time, ids=id)
    return fields, fields["name"]


COMMAND = AuditCommand(
    "audit",
    Request,
    read,
    """Examples:

`certimetric audit iris`

`certimetric audit wine.csv --target grower --learner euclidean --learner lmnn+pl:tau=2 --jobs 4`

`certimetric audit digits --eps 0.5,1,2 --fail-under certified@1=0.6 --junit audit.xml`

`certimetric audit loans.csv --target status --encode --time opened --id customer`

Embedding models have commands of their own: `certimetric audit-model`, `certimetric audit-embeddings`.""",
)
