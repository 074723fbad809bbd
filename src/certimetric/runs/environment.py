"""What figures depend on besides what was asked: versions, commit, cores and machine."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from certimetric.base.version import __version__

PACKAGES = ("numpy", "scipy", "scikit-learn", "numba", "threadpoolctl", "joblib", "torch", "pytorch-metric-learning")
PACKAGES += ("lightning", "safetensors", "dask", "distributed")


def environment() -> dict[str, Any]:
    """``versions`` of this library and of the packages that are installed, ``commit``, and ``machine``."""
    versions = {"certimetric": __version__}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    machine = {
        "system": platform.system(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "cpu_count": os.cpu_count(),
        "processor": _processor(),
    }
    return {"versions": versions, "commit": commit(), "machine": machine}


@cache
def commit() -> str | None:
    """The git commit of the library, if it runs from a clone; with ``+`` where files were changed."""
    package = Path(__file__).resolve().parents[1]

    def git(*words: str) -> str:
        told = subprocess.run(
            ["git", "-C", str(package), *words], capture_output=True, text=True, timeout=10, check=True
        )
        return told.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")  # fails where the clone around it is of something else
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ".")
        return git("rev-parse", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
