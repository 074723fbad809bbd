"""What a prediction with its certified radius costs over large training sets: seconds a query, with and without cells.

    python benchmarks/certificates.py                      # 100,000 and 1,000,000 instances, 30 features
    python benchmarks/certificates.py --rows 1e6 --features 10 --queries 500

Four kinds of data: clusters of one class each, correlated features whose classes overlap, classes on a curved surface
of 8 dimensions, and a Gaussian that two classes share. The full search is measured on fewer queries, and has to give
the same digits. The peer is scikit-learn's brute-force search for the nearest instance (it has no certificate). One
thread each, CPU seconds; what both do once, coordinates and cells, is told apart.
"""

from __future__ import annotations

import os

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.neighbors import NearestNeighbors

from certimetric import MahalanobisMetric
from certimetric.certify.radius import prepare_reference, scanned
from certimetric.geometry import resolve_norm

KINDS = ("clusters", "correlated", "surface", "gaussian")
SCANNED = 20  # queries of the full search


def problem(kind: str, n: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    if kind == "clusters":
        cluster = rng.integers(0, 200, n)
        return 2 * rng.standard_normal((200, d))[cluster] + 0.6 * rng.standard_normal((n, d)), cluster % 10
    if kind == "correlated":  # variances fall as 1/t², as those of standardised tables do
        X = (rng.standard_normal((n, d)) / np.arange(1, d + 1)) @ np.linalg.qr(rng.standard_normal((d, d)))[0]
        return X, (X[:, 0] + 0.5 * X[:, 1] + 0.3 * rng.standard_normal(n) > 0.5).astype(int)
    if kind == "surface":
        X = rng.standard_normal((n, 8)) @ rng.standard_normal((8, d)) + 0.1 * rng.standard_normal((n, d))
        return X, (np.sin(X[:, 0]) + X[:, 1] > 0).astype(int)
    X = rng.standard_normal((n, d))
    return X, (X[:, 0] + np.sin(2 * X[:, 1]) > 0).astype(int)


def cpu_seconds(run: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    began = time.process_time()
    result = run(*arguments)
    return time.process_time() - began, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=float, nargs="+", default=[1e5, 1e6])
    parser.add_argument("--features", type=int, default=30)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--neighbors", type=int, default=1)
    parser.add_argument("--norm", default="l2")
    parser.add_argument("--kinds", nargs="+", default=KINDS)
    arguments = parser.parse_args()
    table = Table("rows", "data", "embed s", "cells s", "query ms", "whole search ms", "times", "left %", "peer ms")
    d, k, m = arguments.features, arguments.neighbors, max(arguments.queries, 128)  # fewer make no cells
    metric = MahalanobisMetric.from_components(np.eye(d) + 0.1 * np.random.default_rng(1).standard_normal((d, d)))
    for n in map(int, arguments.rows):
        for kind in arguments.kinds:
            X, y = problem(kind, n + m, d)
            for rows in (50_000, n):  # the first compiles
                embed, reference = cpu_seconds(prepare_reference, metric, X[:rows], y[:rows])
                norm, _ = reference.in_range(resolve_norm(arguments.norm))
                queries, exclude = reference.embed(X[n:]), np.full(m, -1, dtype=np.int64)
                making, vicinity = cpu_seconds(reference.vicinity, queries[0], k)
                norming, normed = cpu_seconds(reference.normed, norm)
                each, found = cpu_seconds(vicinity.certify, normed, *queries, k, exclude, 64 * 2**20, 1)
                few = slice(0, SCANNED)
                known = queries[0][few], queries[1][few], exclude[few], k, normed.data, normed.order
                scan, whole = cpu_seconds(scanned, *known)
                left = found[0] < 0
                for ours, theirs in zip(found, whole):
                    np.testing.assert_array_equal(ours[few][~left[few]], theirs[~left[few]])
            peer = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(metric.transform(X[:n]))
            search, _ = cpu_seconds(peer.kneighbors, metric.transform(X[n:][few]))
            each, scan, search = 1e3 * each / m, 1e3 * scan / SCANNED, 1e3 * search / SCANNED
            each += scan * left.mean()  # these are searched for in all rows
            table.add_row(
                f"{n:,}", kind, f"{embed:.2f}", f"{making + norming:.2f}", f"{each:.2f}", f"{scan:.2f}",
                f"{scan / each:.1f}", f"{100 * left.mean():.1f}", f"{search:.2f}",
            )  # fmt: skip
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
