"""Audits of tables at the command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from certimetric import datasets
from certimetric.auditing import AuditResult
from certimetric.auditing.result import own_folder
from certimetric.auditing.tables.request import DEFAULT_LEARNERS, DEFAULT_NOISE, make_request
from certimetric.auditing.tables.run import audit_options, run_audit
from certimetric.base.wording import counted
from certimetric.runs.store import kept_by_an_earlier_version


def audit_table(
    data: str,
    target: str | None,
    encode: bool,
    learners: Sequence[str] | None,
    n_neighbors: int,
    norm: str,
    noise: Sequence[float] | None,
    repeats: int,
    test_size: float,
    n_jobs: int,
    *,
    out: Path | None,
    command: str,
    title: str | None,
    progress: bool,
    **asked: Any,
) -> tuple[AuditResult, Path]:
    """Load, check everything, and carry out the audit; give its result and folder."""
    loaded = datasets.load(data, target=target, encode=encode)
    if loaded.imputed is not None and loaded.imputed.any():
        gaps = counted(int(loaded.imputed.sum()), "missing value")
        typer.echo(f"{data}: {gaps} filled by medians of the training part of each split")
    request = make_request(
        loaded.X,
        loaded.y,
        learners=learners or DEFAULT_LEARNERS,
        n_neighbors=n_neighbors,
        norm=norm,
        noise=DEFAULT_NOISE if noise is None else noise,
        repeats=repeats,
        test_size=test_size,
        n_jobs=n_jobs,
        feature_names=loaded.feature_names,
        image_shape=loaded.image_shape,
        name=loaded.name,
        source=loaded.source,
        imputed=loaded.imputed,
        **asked,
    )
    folder = out or own_folder(Path("certimetric-audit") / loaded.name, audit_options(request))
    if remark := kept_by_an_earlier_version(folder):
        typer.echo(f"certimetric: {remark}", err=True)
    return run_audit(request, out=folder, command=command, title=title, progress=progress), folder
