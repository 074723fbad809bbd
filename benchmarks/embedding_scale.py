"""Seconds and peak memory of an audit of many embeddings, read from a file: 500 queries against the rest.

Peak memory (Linux) is that of the process that audits, all that it imports and the embeddings included. Pages of the
mapped file that nothing was written to count too, though they are given back where memory is short.

Run: python benchmarks/embedding_scale.py [--items 1000000] [--dim 256] [--classes 50000] [--metric euclidean]
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--items", type=int, default=1_000_000)
parser.add_argument("--dim", type=int, default=256)
parser.add_argument("--classes", type=int, default=50_000)
parser.add_argument("--noise", type=float, default=0.9, help="of a coordinate, beside 1 of class centres")
parser.add_argument("--metric", default="euclidean")
parser.add_argument("--folder", help=argparse.SUPPRESS)
arguments = parser.parse_args()


def write(folder):
    """Embeddings around class centres in single precision, in parts, and their labels."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(arguments.classes, arguments.dim)).astype(np.float32)
    labels = np.arange(arguments.items) % arguments.classes
    shape = (arguments.items, arguments.dim)
    points = np.lib.format.open_memmap(folder / "items.npy", mode="w+", dtype=np.float32, shape=shape)
    for start in range(0, arguments.items, 50_000):
        rows = labels[start : start + 50_000]
        noise = rng.standard_normal((len(rows), arguments.dim), dtype=np.float32)
        points[start : start + len(rows)] = centres[rows] + np.float32(arguments.noise) * noise
    points.flush()
    np.save(folder / "labels.npy", labels)


def audit(folder):
    """The audit, in a process of its own."""
    from certimetric.auditing import audit_embeddings
    from certimetric.datasets.embedding_files import load_embeddings

    wall, processor = time.perf_counter(), time.process_time()
    given = load_embeddings(folder / "items.npy", labels=folder / "labels.npy")
    result = audit_embeddings({"model": given}, metric=arguments.metric)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{arguments.items:,} × {arguments.dim}, {arguments.classes:,} classes, {arguments.metric}")
    print(f"{wall:.0f} s ({processor:.0f} s of processor), {peak:.2f} GiB at the peak")
    print(result.to_frame()[["attack", "eps", "recall_at_1", "map_at_r"]].round(3).to_string(index=False))


if arguments.folder:
    audit(Path(arguments.folder))
else:
    with tempfile.TemporaryDirectory() as made:
        write(Path(made))
        subprocess.run([sys.executable, *sys.argv, "--folder", made], check=True)
