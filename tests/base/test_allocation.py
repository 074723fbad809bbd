"""Memory that arrays gave back is used again."""

import os
import platform
import subprocess
import sys

import pytest

ROUNDS = """
import resource, sys
import numpy as np
from certimetric.base.allocation import keep_freed_memory

done = keep_freed_memory() if sys.argv[1] == "keep" else None
np.ones(40 * 2**17)  # 40 MiB: more than glibc ever keeps by itself
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    np.ones(40 * 2**17)
print(done, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")


def run(how, **environment):
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", ROUNDS, how]
    told = subprocess.run(command, env={**plain, **environment}, capture_output=True, text=True, check=True).stdout
    done, faults = told.split()
    return done, int(faults)


@glibc
def test_pages_are_not_asked_for_again():
    _, returned = run("return")
    done, kept = run("keep")
    assert done == "True"
    assert returned >= 20 * 20  # pages are of 2 MiB at most
    assert kept < returned / 20


def test_settings_of_the_environment_count():
    assert run("keep", MALLOC_ARENA_MAX="2")[0] == "False"
