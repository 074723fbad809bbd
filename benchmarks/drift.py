"""How often `certimetric check` raises an alarm: on rows like those of training, and on shifted ones.

    python benchmarks/drift.py                        # as on the page docs/check.md
    python benchmarks/drift.py --learner lmnn iris wine ionosphere parkinsons sonar

Of each table 60 % of the rows are training, the metric is learned on them, and the others are new: as they are, with
one feature moved by a standard deviation, and with all features moved by half of one in a random direction.
"""

from __future__ import annotations

import os

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

import argparse
import time
import warnings

import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.preprocessing import StandardScaler

from certimetric import check_drift, datasets, make_learner

TABLES = [
    *("iris", "wine", "breast_cancer", "ecoli", "glass", "haberman", "ionosphere", "parkinsons", "pima", "segment"),
    *("sonar", "yeast"),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="*", default=TABLES)
    parser.add_argument("--learner", default="gmml")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--rows", type=int, default=600)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    began = time.process_time()
    table = Table(
        "table", "new rows", "false alarms", "learned metric alone", "one feature +1 sd", "all features 0.5 sd"
    )
    totals = np.zeros(4)
    for name in arguments.tables:
        data = datasets.load(name)
        counts = np.zeros(4)
        for repeat in range(arguments.repeats):
            rng = np.random.default_rng(repeat)
            rows = rng.permutation(data.n_samples)[: arguments.rows]
            train, new = np.split(rows, [int(0.6 * len(rows))])
            scaler = StandardScaler().fit(data.X[train])
            A, B = scaler.transform(data.X[train]), scaler.transform(data.X[new])
            learner = make_learner(arguments.learner).fit(A, data.y[train])
            one = np.eye(B.shape[1])[rng.integers(B.shape[1])]
            every = 0.5 * rng.choice([-1.0, 1.0], B.shape[1])
            found = [check_drift(learner, A, data.y[train], B + shift) for shift in (0.0, one, every)]
            alone = [each for each in found[0].findings if each.test in ("distance", "radius")]
            # What the learned metric says without the plain distance beside it.
            certain = any(each.value > 0.15 and each.value > 1.8 * np.sqrt(1 / len(A) + 1 / len(B)) for each in alone)
            counts += [found[0].alarm, certain, found[1].alarm, found[2].alarm]
        totals += counts
        shares = (f"{100 * count / arguments.repeats:.0f} %" for count in counts)
        table.add_row(name, str(len(new)), *shares)
    whole = arguments.repeats * len(arguments.tables)
    table.add_row("all", "", *(f"{100 * count / whole:.1f} %" for count in totals))
    console = Console(width=120)
    console.print(table)
    console.print(f"{time.process_time() - began:.0f} CPU seconds, {arguments.learner}")


if __name__ == "__main__":
    main()
