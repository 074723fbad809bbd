"""The smallest change that gives another class, beside the counterfactuals of DiCE and alibi for the same k-NN.

    python benchmarks/counterfactuals.py                                  # builds environments for the peers first
    python benchmarks/counterfactuals.py --methods alibi --tables heart_statlog --queries 20

All explain the same nearest-neighbour classifier under a learned metric. What may change is the same: every feature
within the range of its training values, but for one that is immutable. What a change costs is the sum of absolute
changes in standard deviations (DiCE's genetic search is given these weights, alibi the data in that unit). Changes of
peers are checked by our classifier, and count where they change its prediction. Where one of them costs less than what
we call the least, the line says so, and the exit code is 1. Seconds are CPU seconds a query.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import peers

from certimetric import LMNN, CertifiedKNeighborsClassifier, MahalanobisMetric, counterfactuals, datasets
from certimetric.attacks import ThreatModel

TABLES = "breast_cancer,wine,heart_statlog,pima"  # the last two are of the folder that CERTIMETRIC_DATA names
METHODS = "random,kdtree,genetic,alibi"
peers.ENVIRONMENTS["dice-ml"] = ["dice-ml==0.12"]
peers.ENVIRONMENTS["alibi"] = ["alibi[tensorflow]==0.9.6", "click"]


def compare(name: str, methods: list[str], n_queries: int, time_limit: float) -> bool:
    """Print a line for each method on a table; whether none found less than our least."""
    data = datasets.load(name)
    scale, order = data.X.std(axis=0), np.random.default_rng(0).permutation(len(data.X))
    X, y = data.X[order], data.y[order]
    X_train, y_train, X_test = X[n_queries:], y[n_queries:], X[:n_queries]
    learner = LMNN().fit(X_train / scale, y_train)
    metric = learner.get_mahalanobis_matrix() / np.outer(scale, scale)
    low, high = X_train.min(axis=0), X_train.max(axis=0)
    X_test = np.clip(X_test, low, high)
    knn = CertifiedKNeighborsClassifier(1, metric=MahalanobisMetric.from_matrix(metric)).fit(X_train, y_train)
    before = knn.predict(X_test)
    cost = dict(enumerate((1.0 / scale).tolist()))
    threat = ThreatModel("l1", bounds=(low, high), immutable=[0], cost=cost)
    counterfactuals(knn, X_test[:1], constraints=threat)  # compiles
    start = time.process_time()
    ours = counterfactuals(knn, X_test, constraints=threat, time_limit=time_limit)
    seconds = (time.process_time() - start) / n_queries
    print(f"{name}: {len(X_train)} × {X.shape[1]}, {n_queries} queries, {100 * ours.proven.mean():.0f} % proven")
    print(
        f"  certimetric     found {ours.found.mean():4.0%}  median {np.median(ours.distances):.3f}  {seconds:.3f} s",
        flush=True,
    )
    holds = True
    with tempfile.TemporaryDirectory() as folder:
        problem = Path(folder) / "problem.npz"
        np.savez(
            problem,
            L=knn.metric_.components,
            X=X_train,
            y=np.unique(y_train, return_inverse=True)[1],
            queries=X_test,
            low=low,
            high=high,
            scale=scale,
        )
        for method in methods:
            peer = "alibi" if method == "alibi" else "dice-ml"
            worker = [str(peers.environment(peer, False)), str(Path(__file__).with_name("counterfactuals_peers.py"))]
            done = subprocess.run([*worker, method, str(problem)], capture_output=True, text=True)
            told = [line for line in done.stdout.splitlines() if line.startswith("REPORT ")]
            if not told:
                print(f"  {peer} {method}: {(done.stderr.strip().splitlines() or ['no report'])[-1]}")
                continue
            report = json.loads(told[-1].removeprefix("REPORT "))
            points = np.array(report["points"], dtype=float)  # NaN where none was found
            there = np.isfinite(points).all(axis=1)
            good = there & (points[:, 0] == X_test[:, 0]) & (points >= low).all(axis=1) & (points <= high).all(axis=1)
            if good.any():
                good[good] = knn.predict(points[good]) != before[good]
            sizes = np.abs((points - X_test) / scale).sum(axis=1)[good]
            holds &= not (sizes < ours.lower[good]).any()
            ratio = np.median(sizes / ours.distances[good]) if good.any() else np.nan
            shorter, below = (int((sizes < bound[good] * (1 - 1e-9)).sum()) for bound in (ours.distances, ours.lower))
            median = np.median(sizes) if good.any() else np.nan
            print(
                f"  {peer:8s}{method:8s}found {good.mean():4.0%}  median {median:.3f}  {report['seconds']:.3f} s  "
                f"{ratio:.2f} × ours; shorter than ours {shorter}, than our proven bound {below}",
                flush=True,
            )
    return holds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", default=TABLES)
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument("--queries", type=int, default=20)
    parser.add_argument("--time-limit", type=float, default=10.0, help="seconds a query for ours")
    given = parser.parse_args()
    methods = given.methods.split(",")
    hold = [compare(name, methods, given.queries, given.time_limit) for name in given.tables.split(",")]
    return 0 if all(hold) else 1


if __name__ == "__main__":
    raise SystemExit(main())
