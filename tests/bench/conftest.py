"""Documents of comparisons."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from certimetric.report.document import BENCH_SCHEMA as SCHEMA


@pytest.fixture(scope="session")
def document():
    """The document of a comparison, from what a suite tells: ``document(suite, told, title=…)``."""

    def of(suite, told, title=None, missing=None):
        return {
            "schema": SCHEMA,
            "suite": {"name": suite.name, "title": title or suite.title, "about": suite.about},
            **{name: told[name] for name in ("summary", "figures", "learners")},
            "tables": [asdict(table) for table in told["tables"]],
            "missing": missing or {},
            "cells": {"planned": 30, "done": 29, "failed": 1, "open": 0},
            "reproduction": {"command": "", "protocols": ["1"], "seeds": [0], "cell_seconds": 1.0, "runs": []},
        }

    return of
