"""``certimetric datasets``: the bundled data sets."""

from __future__ import annotations

import typer


def datasets() -> None:
    """List the bundled data sets."""
    from certimetric.datasets import available

    for info in available():
        size = f"{info.rows} × {info.features}, {info.classes} classes"
        typer.echo(f"{info.name:<14} {size:<24} {info.description}")
