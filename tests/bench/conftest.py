"""The toy suite, importable by this process and by workers."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from certimetric.report.bench.page import SCHEMA


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


@pytest.fixture(scope="session")
def document():
    """The document of a comparison, from what a suite tells: ``document(suite, told, title=…)``."""

    def of(suite, told, title=None, missing=None):
        return {
            "schema": SCHEMA,
            "suite": {"name": suite.name, "title": title or suite.title, "about": suite.about},
            **{name: told[name] for name in ("summary", "figures", "learners")},
            "tables": [table.to_mapping() for table in told["tables"]],
            "missing": missing or {},
            "cells": {"planned": 30, "done": 29, "failed": 1, "open": 0},
            "reproduction": {"command": "", "protocols": ["1"], "seeds": [0], "cell_seconds": 1.0, "runs": []},
        }

    return of
