"""Arguments and options that several commands share."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer


class NormName(str, Enum):
    """Norms that have a name."""

    l2 = "l2"
    linf = "linf"
    l1 = "l1"


class Units(str, Enum):
    """Units of certified radii and of attacks."""

    standardised = "standardised"
    original = "original"


Data = Annotated[
    str, typer.Argument(metavar="DATA", help="A bundled data set, a CSV, Parquet or LIBSVM file, or openml:NAME.")
]
Target = Annotated[str | None, typer.Option("--target", metavar="COL", help="Column with the labels.")]
Neighbors = Annotated[int, typer.Option("--neighbors", "-k", help="Neighbours that vote.")]
NormOption = Annotated[NormName, typer.Option("--norm", help="How a perturbation is measured.")]
UnitsOption = Annotated[
    Units | None,
    typer.Option("--units", help="Of sizes of changes. [default: standardised if the metric file knows the scale]"),
]
Encode = Annotated[bool, typer.Option("--encode", help="Turn text columns into 0/1 columns and fill gaps.")]
