"""The commands let threads sleep where they wait: told to the libraries before these are loaded, and to no caller."""

import os
import subprocess
import sys

from certimetric.cli.main import wait_passively

SCRIPT = """
import os, sys
from certimetric.cli import main

module = sys.modules["certimetric.cli.main"]

def told(set_defaults=module.wait_passively):
    loaded = [name for name in ("numpy", "scipy", "sklearn", "torch", "numba") if name in sys.modules]
    set_defaults()
    print(loaded, os.environ["OMP_WAIT_POLICY"], os.environ["OPENBLAS_THREAD_TIMEOUT"], os.environ["KMP_BLOCKTIME"])

module.wait_passively = told
sys.argv = ["certimetric", "--version"]
sys.exit(main())
"""


def test_libraries_are_told_before_they_are_loaded():
    environment = {key: value for key, value in os.environ.items() if key not in ("OMP_WAIT_POLICY", "KMP_BLOCKTIME")}
    environment["OPENBLAS_THREAD_TIMEOUT"] = "10"  # of the user's, which stays
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0] == "[] PASSIVE 10 0"


def test_callers_keep_their_environment(run, monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    assert run("--version").code == 0
    assert "OMP_WAIT_POLICY" not in os.environ
    monkeypatch.setattr(os, "environ", {"KMP_BLOCKTIME": "7"})
    wait_passively()
    assert os.environ == {"KMP_BLOCKTIME": "7", "OMP_WAIT_POLICY": "PASSIVE", "OPENBLAS_THREAD_TIMEOUT": "4"}
