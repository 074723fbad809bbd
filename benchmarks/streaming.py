"""GMML and AML learn from rows that never are in memory together: time a row, and memory, at 10⁵, 10⁶ and 10⁷ rows.

Rows are drawn chunk by chunk from seeds of their own, so that every way sees the same sample. Every run is a process of
its own; its peak memory (Linux, VmHWM) is told beside what it held before the first chunk. What drawing the rows takes
is told apart from the rest. "in memory" holds all rows, and stops at a million.

Run: python benchmarks/streaming.py [--rows 100000 1000000 10000000] [--features 50] [--chunk 50000]
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000])
parser.add_argument("--features", type=int, default=50)
parser.add_argument("--classes", type=int, default=10)
parser.add_argument("--chunk", type=int, default=50_000)
parser.add_argument("--threads", type=int, default=2, help="of the Dask scheduler")
parser.add_argument("--only", nargs="*", help="GMML in memory, GMML chunks, AML chunks, GMML Dask, AML Dask")
parser.add_argument("--way", help=argparse.SUPPRESS)
arguments = parser.parse_args()

IN_MEMORY_ROWS = 1_000_000


def draw(number, m):
    """Chunk ``number`` of the sample: Gaussian classes, features of different spread and away from 0."""
    rng = np.random.default_rng([0, number])
    centres = np.random.default_rng(1).standard_normal((arguments.classes, arguments.features)) * 2 + 10
    y = rng.integers(0, arguments.classes, m)
    X = rng.standard_normal((m, arguments.features))
    X *= np.geomspace(0.2, 5.0, arguments.features)
    X += centres[y]
    return X, y


def sizes(n):
    return [min(arguments.chunk, n - start) for start in range(0, n, arguments.chunk)]


def chunks(n, clock):
    for number, m in enumerate(sizes(n)):
        start = time.perf_counter()
        chunk = draw(number, m)
        clock.append(time.perf_counter() - start)
        yield chunk


def in_memory(learner, n, clock):
    X, y = np.empty((n, arguments.features)), np.empty(n, dtype=np.int64)
    for number, (X_part, y_part) in enumerate(chunks(n, clock)):
        rows = slice(number * arguments.chunk, number * arguments.chunk + len(y_part))
        X[rows], y[rows] = X_part, y_part
    learner.fit(X, y)


def by_chunks(learner, n, clock):
    learner.fit_chunks(chunks(n, clock))


def by_dask(learner, n, clock):
    import dask
    import dask.array as da

    parts = [(dask.delayed(draw, nout=2)(number, m), m) for number, m in enumerate(sizes(n))]
    X = da.concatenate([da.from_delayed(part[0], (m, arguments.features), dtype=float) for part, m in parts])
    y = da.concatenate([da.from_delayed(part[1], (m,), dtype=int) for part, m in parts])
    with dask.config.set(scheduler="threads", num_workers=arguments.threads):
        learner.fit(X, y)


WAYS = {
    "GMML in memory": ("GMML", in_memory),
    "GMML chunks": ("GMML", by_chunks),
    "GMML Dask": ("GMML", by_dask),
    "AML chunks": ("AML", by_chunks),
    "AML Dask": ("AML", by_dask),
}


def resident(line):
    """MiB that this process holds (VmRSS), or has held at most (VmHWM)."""
    return int(Path("/proc/self/status").read_text().split(line + ":")[1].split()[0]) / 1024


def measure(way, n):
    import certimetric

    name, fit = WAYS[way]
    learner = getattr(certimetric, name)()
    fit(learner, 200, [])  # imports
    before, clock, start = resident("VmRSS"), [], time.perf_counter()
    fit(learner, n, clock)
    seconds = time.perf_counter() - start
    told = {"seconds": seconds, "drawing": sum(clock), "before": before, "peak": resident("VmHWM")}
    print(json.dumps(told | {"matrix": learner.get_mahalanobis_matrix().tolist()}))


if arguments.way:
    measure(arguments.way, arguments.rows[0])
    raise SystemExit

print(f"{arguments.features} features, {arguments.classes} classes, chunks of {arguments.chunk:,} rows", flush=True)
print(
    "way                   rows   seconds  drawing     rows/s   time a row   peak MiB  before   M beside the first way"
)
matrices = {}
for way in arguments.only or WAYS:
    learner, fit = WAYS[way]
    per_row = []
    for n in arguments.rows:
        if fit is in_memory and n > IN_MEMORY_ROWS:
            continue
        command = [sys.executable, *sys.argv, "--rows", str(n), "--way", way]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr)
        told = json.loads(done.stdout.splitlines()[-1])
        per_row.append(told["seconds"] / n)
        M = np.array(told["matrix"])
        first = matrices.setdefault((learner, n), M)
        difference = f"{np.abs(M - first).max() / np.abs(first).max():.1e}" if first is not M else "—"
        print(
            f"{way:15s} {n:>11,} {told['seconds']:9.2f} {told['drawing'] or float('nan'):8.2f} {n / told['seconds']:10,.0f} "
            f"{per_row[-1] / per_row[0]:8.2f} ×1 {told['peak']:10.0f} {told['before']:7.0f}   {difference}",
            flush=True,
        )
