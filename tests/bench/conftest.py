"""The toy suite, importable by this process and by workers."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest


@pytest.fixture
def toy(monkeypatch):
    """The module with the toy suite."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return importlib.import_module("toy_suite")


@pytest.fixture
def runs(tmp_path):
    """How often a cell of the toy suite was run."""

    def count(split):
        file = tmp_path / f"{split}.runs"
        return len(file.read_text().splitlines()) if file.exists() else 0

    return count
