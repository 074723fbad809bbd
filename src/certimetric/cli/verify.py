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
    fields = table.audited(data, groups=group, ids=id)
    if (groups := fields.get("groups")) is not None:
        fields["groups"] = groups.where(groups.notna(), "missing").astype(str).to_numpy()
    return fields, f"{fields['name']}-verification"


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
