"""Exact minimal perturbations and certified radii: time, scaling, and the bracket certified ≤ exact ≤ attack.

python benchmarks/exact.py                 # goals, scaling, and the bracket on every bundled data set
python benchmarks/exact.py --only goals    # or scaling, or bracket
"""

from __future__ import annotations

import argparse
import os
import resource
import time
from collections.abc import Callable

import numpy as np

from certimetric import LMNN, CertifiedKNeighborsClassifier, MahalanobisMetric, certified_radius, minimal_perturbation
from certimetric.attacks import BestOf, RegionAttack, SmoothedVoteAttack
from certimetric.datasets import available, load

JOBS = 2
N_ATTACKED = 60  # test instances of each data set that the attacks are run on


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["goals", "scaling", "bracket"])
    part = parser.parse_args().only
    print(f"{os.cpu_count()} cores, {JOBS} threads")
    for name, run in (("goals", goals), ("scaling", scaling), ("bracket", bracket)):
        if part in (None, name):
            run()


def timed(function: Callable[..., object], arguments: tuple) -> float:
    start = time.perf_counter()
    function(*arguments, n_jobs=JOBS)
    return time.perf_counter() - start


def standardised(name: str) -> tuple[np.ndarray, np.ndarray]:
    data = load(name)
    scale = data.X.std(axis=0)
    return (data.X - data.X.mean(axis=0)) / np.where(scale > 0, scale, 1.0), data.y


def blobs(n: int, d: int, n_classes: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, n_classes, n)
    return rng.standard_normal((n, d)) + 1.5 * np.eye(n_classes, d)[y] * 2.0, y


def goals() -> None:
    X, y = standardised("digits")
    rows = np.random.default_rng(0).permutation(len(X))
    train, test = rows[:1257], rows[1257:1357]
    euclidean = MahalanobisMetric.from_components(np.eye(64))
    for name, metric in (("Euclidean", euclidean), ("LMNN", LMNN().fit(X[train], y[train]).metric_)):
        for norm in ("l2", "linf", "l1"):
            arguments = (metric, X[train], y[train], X[test], norm)
            minimal_perturbation(*arguments, n_jobs=JOBS)  # compiles
            best = min(timed(minimal_perturbation, arguments) for _ in range(3))
            print(f"digits, 1257 train × 100 queries × 64, {name}, {norm}: exact in {best:.3f} s")
    X, y = blobs(11_000, 20)
    metric = MahalanobisMetric.from_components(np.eye(20))
    seconds = timed(minimal_perturbation, (metric, X[:10_000], y[:10_000], X[10_000:]))
    print(f"10,000 train × 1,000 queries × 20, l2: exact in {seconds:.2f} s")
    X, y = blobs(20_000, 50)
    metric = MahalanobisMetric.from_components(np.eye(50))
    seconds = timed(certified_radius, (metric, X[:10_000], y[:10_000], X[10_000:]))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"10,000 train × 10,000 queries × 50, l2: certified in {seconds:.1f} s, peak of the process {peak:.2f} GiB")


def scaling() -> None:
    print(f"\n{'n':>8} {'d':>5} {'certified':>12} {'exact l2':>12}   seconds for 500 queries")
    for n, d in [
        (1_000, 20),
        (3_000, 20),
        (10_000, 20),
        (30_000, 20),
        (100_000, 20),
        (10_000, 5),
        (10_000, 50),
        (10_000, 200),
    ]:
        X, y = blobs(n + 500, d)
        metric = MahalanobisMetric.from_components(np.eye(d))
        arguments = (metric, X[:n], y[:n], X[n:])
        certified = timed(certified_radius, arguments)
        exact = timed(minimal_perturbation, arguments)
        print(f"{n:>8} {d:>5} {certified:>12.2f} {exact:>12.2f}")


def bracket() -> None:
    print("\nmedian ratios under LMNN; 'violations' counts queries with certified > exact or exact > attack")
    print("data           norm   k  queries  cert/exact  exact/attack  cert/attack  proven  violations")
    for info in available():
        X, y = standardised(info.name)
        rows = np.random.default_rng(0).permutation(len(X))
        train, test = rows[: int(0.7 * len(X))], rows[int(0.7 * len(X)) :][:300]
        metric = LMNN().fit(X[train], y[train]).metric_
        for norm in ("l2", "linf", "l1"):
            for k in (1, 3):
                queries = X[test] if k == 1 else X[test][:N_ATTACKED]
                knn = CertifiedKNeighborsClassifier(k, metric=metric, norm=norm, n_jobs=JOBS).fit(X[train], y[train])
                _, certified = knn.predict_with_radius(queries)
                found = knn.minimal_perturbation(queries, time_limit=0.5)
                attack = BestOf([RegionAttack(), SmoothedVoteAttack()])(
                    knn, queries[:N_ATTACKED], threat=norm
                ).distances
                m = len(attack)
                violations = (certified > found.radii * (1 + 1e-9)).sum() + (
                    found.lower[:m] > attack * (1 + 1e-9)
                ).sum()
                print(
                    f"{info.name:<14} {norm:<5} {k:>2} {len(queries):>8} {ratio(certified, found.radii):>11.3f} "
                    f"{ratio(found.radii[:m], attack):>13.3f} {ratio(certified[:m], attack):>12.3f} "
                    f"{found.proven.mean():>7.2f} {violations:>11}",
                    flush=True,
                )


def ratio(lower: np.ndarray, upper: np.ndarray) -> float:
    known = np.isfinite(upper) & (upper > 0)
    return float(np.median(lower[known] / upper[known]))


if __name__ == "__main__":
    main()
