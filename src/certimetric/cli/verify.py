"""``certimetric verify``: who is accepted as the same, by metrics on a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from certimetric.auditing.verification.request import VerificationRequest
from certimetric.cli.audits import AuditCommand
from certimetric.cli.options import Data
from certimetric.cli.tables import TableOptions, with_table

Group = Annotated[
    str | None,
    typer.Option(
        "--group", metavar="COL", help="Column by whose values rates are told too. It is no feature and may be text."
    ),
]

Id = Annotated[
    str | None,
    typer.Option(
        "--id", metavar="COL", help="Column by whose values a file of pairs calls the rows. It is no feature either."
    ),
]


@with_table
def read(data: Data, table: TableOptions, group: Group = None, id: Id = None) -> tuple[Mapping[str, Any], str]:
    """Compare metrics by whom they accept as the same: calibrated thresholds, attacks, certificates, one HTML report.

    Classes are the subjects. Finished parts are kept in the output folder: a run that was stopped goes on from there.
    """
    from certimetric.base.wording import counted
    from certimetric.datasets.tables.loading import load_beside

    columns = {role: column for role, column in (("groups", group), ("ids", id)) if column is not None}
    if columns:
        loaded, beside = load_beside(data, columns, **table.how())
    else:
        loaded, beside = table.load(data), {}
    if loaded.imputed is not None and loaded.imputed.any():
        gaps = counted(int(loaded.imputed.sum()), "missing value")
        typer.echo(f"{data}: {gaps} filled by medians of the training part of each split")
    told = ("X", "y", "feature_names", "image_shape", "name", "source", "imputed", "encoder")
    fields = {name: getattr(loaded, name) for name in told}
    groups = beside.get("groups")
    if groups is not None:
        fields["groups"] = groups.where(groups.notna(), "missing").astype(str).to_numpy()
    return {**fields, "ids": beside.get("ids")}, f"{loaded.name}-verification"


COMMAND = AuditCommand(
    "verify",
    VerificationRequest,
    read,
    """Examples:

`certimetric verify letter.csv --learner euclidean --learner lmnn --far 1e-3`

`certimetric verify faces.csv --target person --group camera --fail-under tar@far=1e-3:0.9 --junit verify.xml`

`certimetric verify faces.csv --target person --id file --pairs pairs.csv`

A metric with its threshold: `certimetric fit --verify`; who it is: `certimetric match`.""",
)
