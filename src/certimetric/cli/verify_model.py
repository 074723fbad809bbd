"""``certimetric verify-model``: whom embedding models accept as the same, clean and attacked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from certimetric.auditing.model_verification.request import ModelVerificationRequest
from certimetric.cli import audit_model
from certimetric.cli.audit_model import Groups, ImagesOption, Models, Size, SkipCorrupt
from certimetric.cli.audits import AuditCommand
from certimetric.cli.options import DataRoot

Surrogate = Annotated[
    str | None,
    typer.Option(
        "--surrogate",
        metavar="MODEL",
        help="Model that attacks are computed on, and tried on the others: a folder of a run, or module:factory.",
    ),
]

RatesBy = Annotated[
    str | None,
    typer.Option(
        "--rates-by",
        metavar="REGEX",
        help="Rates are told by what it finds in the path of a picture, too; pairs stay as they are.",
    ),
]


def read(
    model: Models,
    images: ImagesOption,
    data_root: DataRoot = None,
    size: Size = None,
    skip_corrupt: SkipCorrupt = False,
    groups: Groups = None,
    rates_by: RatesBy = None,
    surrogate: Surrogate = None,
) -> tuple[Mapping[str, Any], str]:
    """Compare embedding models by whom they accept as the same: calibrated thresholds, dodging, impersonation.

    Finished parts are kept in the output folder: a run that was stopped goes on from there.
    """
    from certimetric.auditing.retrieval.request import Subject

    fields, name = audit_model.read(model, images, data_root, size, skip_corrupt, groups)
    given = dict(fields)
    if rates_by is not None:
        given["groups"] = audit_model.groups_by_path(given["queries"].images, rates_by, "--rates-by")
    if surrogate is not None:
        given["surrogate"] = Subject("surrogate", audit_model.model_of(surrogate, "--surrogate")[0], surrogate)
    return {"images": given.pop("queries"), **given}, f"{name}-verification"


COMMAND = AuditCommand(
    "verify-model",
    ModelVerificationRequest,
    read,
    """Examples:

`certimetric verify-model --model runs/natural --model runs/robust --images omniglot --data-root DIR --far 1e-2`

`certimetric verify-model --model mine=package.module:factory --images faces/ --metric cosine --attack pgd,square`""",
)
