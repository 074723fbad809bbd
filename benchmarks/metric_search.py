"""What a search chooses, beside the Euclidean distance, on test rows that it never saw.

``CERTIMETRIC_DATA=… python benchmarks/metric_search.py [SET …]``: without names, the half of the tables that had no
part in choosing candidates and rule (docs/tables.md). Each has at most 800 rows, half of them for training.
"""

from __future__ import annotations

import sys
import time
import warnings

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import binomtest

from certimetric import CertifiedKNeighborsClassifier, MetricSearchCV, datasets
from certimetric.base.threads import single_threaded
from certimetric.constraints.labels import class_draw
from certimetric.runs.splits import Preparation, honest_split

HELD_OUT = [
    "newthyroid",
    "haberman",
    "ecoli",
    "balance",
    "pima",
    "parkinsons",
    "dermatology",
    "ionosphere",
    "vowel",
    "segment",
    "german_numeric",
    "spambase",
]
COLUMNS = ["set", "chosen", "error, Euclidean %", "error %", "p (higher)", "certified, Euclidean %", "certified %", "s"]
IDENTIFIERS = {"vowel": 3}  # columns that are left out, the first


def row(name: str) -> list[str]:
    """The figures of one table."""
    table = datasets.load(name)
    X, codes = table.X[:, IDENTIFIERS.get(name, 0) :], np.unique(table.y, return_inverse=True)[1]
    some = class_draw(codes, 800, np.random.default_rng(9))
    X, codes = X[some], codes[some]
    train, test = honest_split(X, codes, 0.5, 0, 0)
    prepared = Preparation.fit(X[train])
    given, held_out, truth = prepared(X[train]), prepared(X[test]), codes[test]
    start = time.process_time()
    search = MetricSearchCV(random_state=0).fit(given, codes[train])
    seconds = time.process_time() - start
    euclidean = CertifiedKNeighborsClassifier().fit(given, codes[train])
    right, plain = (each.predict(held_out) == truth for each in (search, euclidean))
    worse, better = int((plain & ~right).sum()), int((right & ~plain).sum())
    p = float(binomtest(worse, worse + better, alternative="greater").pvalue) if worse + better else 1.0
    certified = [each.certified_accuracy(held_out, truth, search.eps_) for each in (euclidean, search.best_estimator_)]
    errors = [f"{100 * (1 - each.mean()):.1f}" for each in (plain, right)]
    chosen = search.best_params_["learner"]
    return [name, chosen, *errors, f"{p:.2f}", *(f"{100 * float(each):.1f}" for each in certified), f"{seconds:.0f}"]


def main() -> None:
    """Print the table."""
    table = Table(*COLUMNS)
    with single_threaded(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of learners that stop at their bound
        for name in sys.argv[1:] or HELD_OUT:
            table.add_row(*row(name))
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
