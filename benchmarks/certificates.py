"""What a certified radius costs beside the search that predicts: seconds a query over large training sets.

    python benchmarks/certificates.py                      # 100,000 and 1,000,000 instances, 30 features
    python benchmarks/certificates.py --rows 1e6 --features 10 --queries 500

Three kinds of data: clusters of one class each, classes on a curved surface of 8 dimensions, and a Gaussian that two
classes share. The peer is scikit-learn's brute-force search for the nearest instance (it has no certificate). One
thread each, CPU seconds; embedding the training set, which both do once, is told apart.
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
from certimetric.certify.radius import PredictedQueries, prepare_reference, radii_of
from certimetric.geometry import resolve_norm

KINDS = ("clusters", "surface", "gaussian")


def problem(kind: str, n: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    if kind == "clusters":
        cluster = rng.integers(0, 200, n)
        return 2 * rng.standard_normal((200, d))[cluster] + 0.6 * rng.standard_normal((n, d)), cluster % 10
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
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--norm", default="l2")
    arguments = parser.parse_args()
    table = Table("rows", "data", "embed s", "predict ms", "radius ms", "scikit-learn search ms", "radius / search")
    norm, d = resolve_norm(arguments.norm), arguments.features
    metric = MahalanobisMetric.from_components(np.eye(d) + 0.1 * np.random.default_rng(1).standard_normal((d, d)))
    for n in map(int, arguments.rows):
        for kind in KINDS:
            X, y = problem(kind, n + arguments.queries, d)
            for rows in (500, n):  # the first compiles
                embed, reference = cpu_seconds(prepare_reference, metric, X[:rows], y[:rows])
                predict, queries = cpu_seconds(PredictedQueries.of, reference, X[n:], 1)
                radius, _ = cpu_seconds(radii_of, queries, norm)
            peer = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(metric.transform(X[:n]))
            search, _ = cpu_seconds(peer.kneighbors, metric.transform(X[n:]))
            each = [1e3 * seconds / arguments.queries for seconds in (predict, radius, search)]
            table.add_row(f"{n:,}", kind, f"{embed:.2f}", *(f"{ms:.2f}" for ms in each), f"{each[1] / each[2]:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
