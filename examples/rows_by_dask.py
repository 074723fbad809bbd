"""A million rows by Dask: blocks wherever they are, one metric

The scatters that `GMML` and `AML` learn from are sums over rows. So a Dask array is learned from in one pass, block
by block and in any order, on as many workers as there are; what is sent is a small matrix for each block and class.
The metric is that of all rows in memory, but for rounding, and it settles long before the last row, as the figure
shows: a sample would have done. `LMNN` and its like take a sample of anchors by themselves (see the page on scaling).

Run: python examples/rows_by_dask.py [figure.png]
"""

import sys

import dask.array as da
import numpy as np
from dask import delayed
from matplotlib.figure import Figure

from certimetric import GMML

n, d, n_classes, rows = 1_000_000, 20, 5, 50_000
centres = np.random.default_rng(0).standard_normal((n_classes, d))
stretch = np.linspace(0.2, 3.0, d)  # what varies inside of classes says nothing about them


def block(seed):
    """Instances and their classes, as a worker would read them from a file."""
    rng = np.random.default_rng(seed)
    y = rng.integers(n_classes, size=rows)
    return np.column_stack([centres[y] + stretch * rng.standard_normal((rows, d)), y])


table = da.concatenate([da.from_delayed(delayed(block)(i), (rows, d + 1), float) for i in range(n // rows)])
whole = GMML().fit(table[:, :d], table[:, d]).metric_.matrix

sizes = [500, 2_000, 10_000, 50_000, 200_000]
off = []
for size in sizes:
    part = GMML().fit(table[:size, :d], table[:size, d]).metric_.matrix
    off.append(np.linalg.norm(part - whole) / np.linalg.norm(whole))
    print(f"{size:>7,} rows: the metric is off by {off[-1]:.2%}")

axes = Figure(figsize=(6, 4), layout="constrained").subplots()
axes.loglog(sizes, off, marker="o")
axes.set(xlabel="rows learned from", ylabel=f"off the metric of {n:,} rows, relative")
axes.grid(alpha=0.3)

path = sys.argv[1] if len(sys.argv) > 1 else "rows_by_dask.png"
axes.figure.savefig(path, dpi=110)
