"""AML against GMML on a million pairs: after one pass over the pairs, AML must cost little more.

Run: python benchmarks/pairs.py [--pairs 1000000] [--features 50] [--repeats 5]
"""

import argparse
import time

import numpy as np

from certimetric import AML, GMML

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--pairs", type=int, default=1_000_000)
parser.add_argument("--features", type=int, default=50)
parser.add_argument("--repeats", type=int, default=5)
arguments = parser.parse_args()

rng = np.random.default_rng(0)
n, d = arguments.pairs, arguments.features
pairs = rng.standard_normal((n, 2, d))
y = np.where(rng.random(n) < 0.5, 1, -1)
similar = y == 1
pairs[similar, 1] = pairs[similar, 0] + 0.3 * rng.standard_normal((similar.sum(), d))

learners = {"GMML": GMML(), "AML bilevel": AML(), "AML alternating": AML(solver="alternating")}
best = dict.fromkeys(learners, (np.inf, np.inf))
for _ in range(arguments.repeats):
    for name, learner in learners.items():
        wall, cpu = time.perf_counter(), time.process_time()
        learner.fit_pairs(pairs, y)
        best[name] = min(best[name], (time.perf_counter() - wall, time.process_time() - cpu))
print(f"{n:,} pairs of {d} features, best of {arguments.repeats}")
for name, (wall, cpu) in best.items():
    print(f"{name:16s} {wall:6.2f} s wall  {cpu:6.2f} s CPU  {wall / best['GMML'][0]:5.2f} x GMML")
