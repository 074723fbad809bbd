"""GMML and AML learn from rows that never are in memory together: time a row, and memory, at 10⁵, 10⁶ and 10⁷ rows.

Rows are drawn chunk by chunk from seeds of their own, so that every way sees the same sample. Every run is a process of
its own; its peak memory (Linux, VmHWM) is told beside what it held before the first chunk. Seconds and rows a second
are of the clock on the wall; CPU seconds hardly depend on what else the machine does, and "× fewer" is their ratio to
the size before. Drawing the rows is counted, and told apart in CPU seconds. "in memory" holds all rows, and stops at a
million.

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
parser.add_argument(
    "--only", nargs="*", help="GMML in memory, AML in memory, GMML chunks, AML chunks, GMML Dask, AML Dask"
)
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
        start = time.process_time()
        chunk = draw(number, m)
        clock.append(time.process_time() - start)
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
    "AML in memory": ("AML", in_memory),
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
    before, clock, start, start_cpu = resident("VmRSS"), [], time.perf_counter(), time.process_time()
    fit(learner, n, clock)
    told = {"seconds": time.perf_counter() - start, "CPU": time.process_time() - start_cpu, "drawing": sum(clock)}
    told |= {"before": before, "peak": resident("VmHWM")}
    print(json.dumps(told | {"matrix": learner.get_mahalanobis_matrix().tolist()}))


if arguments.way:
    measure(arguments.way, arguments.rows[0])
    raise SystemExit

print(f"{arguments.features} features, {arguments.classes} classes, chunks of {arguments.chunk:,} rows", flush=True)
print(
    "way                    rows  seconds      CPU  × fewer  drawing      rows/s  peak MiB  before  M beside the first"
)
matrices = {}
for way in arguments.only or WAYS:
    learner, fit = WAYS[way]
    fewer = None  # CPU seconds of the size before
    for n in arguments.rows:
        if fit is in_memory and n > IN_MEMORY_ROWS:
            continue
        command = [sys.executable, *sys.argv, "--rows", str(n), "--way", way]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr)
        told = json.loads(done.stdout.splitlines()[-1])
        M = np.array(told["matrix"])
        first = matrices.setdefault((learner, n), M)
        ratio = f"{told['CPU'] / fewer:8.1f}" if fewer else "       —"
        drawing = f"{told['drawing']:8.2f}" if told["drawing"] else "       —"
        difference = f"{np.abs(M - first).max() / np.abs(first).max():.1e}" if first is not M else "—"
        print(
            f"{way:15s} {n:>11,} {told['seconds']:8.2f} {told['CPU']:8.2f} {ratio} {drawing} "
            f"{n / told['seconds']:11,.0f} {told['peak']:9.0f} {told['before']:7.0f}  {difference}",
            flush=True,
        )
        fewer = told["CPU"]
