"""Certified radii of a million pairs: time for each norm after the one decomposition, and how tight the bounds are.

python benchmarks/pairs_radii.py                      # 10⁶ pairs × 50 features, two threads
python benchmarks/pairs_radii.py --pairs 1e5 --features 200 --jobs 1
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from certimetric import MahalanobisMetric
from certimetric.certify import minimal_pair_changes
from certimetric.certify.pairs import PairCertifier
from certimetric.constraints.tuples import Tuples
from certimetric.geometry.norms import resolve_norm

BRACKETED = 200  # pairs whose smallest changes in l∞ and l1 are looked for


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=float, default=1e6)
    parser.add_argument("--features", type=int, default=50)
    parser.add_argument("--condition", type=float, default=1e4, help="of M")
    parser.add_argument("--jobs", type=int, default=2)
    chosen = parser.parse_args()
    rng, d, m = np.random.default_rng(0), chosen.features, int(chosen.pairs)
    U, V = (np.linalg.qr(rng.standard_normal((d, d)))[0] for _ in range(2))
    metric = MahalanobisMetric.from_components((U * chosen.condition ** -np.linspace(0, 0.5, d)) @ V)
    pairs = Tuples(rng.standard_normal((20_000, d)), rng.integers(0, 20_000, (m, 2)))
    certifier = PairCertifier(metric)
    certifier.distances(Tuples(pairs.points, pairs.index[:10]))  # compiled
    started, busy = time.perf_counter(), time.process_time()
    distances = certifier.distances(pairs, n_jobs=chosen.jobs)
    wall, cpu = time.perf_counter() - started, time.process_time() - busy
    print(f"{m:,} pairs, {d} features, {chosen.jobs} threads\ndistances   {wall:6.2f} s, {cpu:6.2f} CPU s")
    t = float(np.median(distances))
    for name in ("l2", "linf", "l1"):
        norm = resolve_norm(name)
        certifier.certify(Tuples(pairs.points, pairs.index[:10]), t, norm)
        started, busy = time.perf_counter(), time.process_time()
        accepted, radii = certifier.certify(pairs, t, norm, n_jobs=chosen.jobs)
        wall, cpu = time.perf_counter() - started, time.process_time() - busy
        few = Tuples(pairs.points, pairs.index[:BRACKETED])
        found = minimal_pair_changes(metric, few, t, norm=name)
        some, within = radii[:BRACKETED] / found.radii, accepted[:BRACKETED]
        told = ", ".join(f"{word} {np.median(some[rows]):.4f}" for word, rows in (("in", within), ("out", ~within)))
        print(f"radii, {name:<4} {wall:6.2f} s, {cpu:6.2f} CPU s; bound / smallest change found, median: {told}")
    lipschitz = np.abs(distances - t) / np.sqrt(metric.spectrum()[0])
    radii = certifier.certify(pairs, t, resolve_norm("l2"), n_jobs=chosen.jobs)[1]
    share = lipschitz / np.maximum(radii, 1e-300)
    print(f"Lipschitz bound / exact, l2: median {np.median(share):.3f}, smallest {share.min():.3f}")


if __name__ == "__main__":
    main()
