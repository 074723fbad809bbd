"""The ``certimetric`` command."""

from certimetric.cli.main import main

__all__ = ["main"]
