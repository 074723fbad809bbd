"""Files of findings that commands write for the tools of CI: ``--junit`` and ``--sarif``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from certimetric.cli.inputs import writable
from certimetric.cli.options import REPORT

if TYPE_CHECKING:
    from certimetric.auditing.result import Documented

Junit = Annotated[
    Path | None, typer.Option("--junit", metavar="FILE", help="Write JUnit XML for CI.", rich_help_panel=REPORT)
]
Sarif = Annotated[
    Path | None,
    typer.Option("--sarif", metavar="FILE", help="Write SARIF 2.1.0 for tools of security.", rich_help_panel=REPORT),
]


def see_writable(junit: Path | None, sarif: Path | None, *read: str | Path | None) -> None:
    """See before the work that the files can be written, and are two, and none of those that are read."""
    for option, path in (("--junit", junit), ("--sarif", sarif)):
        if path is not None:
            writable(option, path, *read)
    if junit is not None and sarif is not None and os.path.abspath(junit) == os.path.abspath(sarif):
        raise ValueError(f"--junit and --sarif must be two files, got {str(junit)!r} for both")


def write_findings(told: Documented, junit: Path | None, sarif: Path | None) -> None:
    """Write the files that were asked for."""
    from certimetric.base.files import write_atomically

    if junit is not None:
        write_atomically(junit, told.to_junit())
    if sarif is not None:
        write_atomically(sarif, told.to_sarif())
