"""Which score of a prediction tells the wrong ones best: AURC on tables, under the Euclidean and under learned metrics.

    python benchmarks/trust.py                          # tables of $CERTIMETRIC_DATA, as on the page docs/trust.md
    python benchmarks/trust.py --learner lmnn --rows 2000 iris wine sonar

Splits, predictor and scores are those of `certimetric audit`, without its attacks. A column holds the AURC as a share
of that of chance, the best possible order being 0; below the table stands on how many tables each score is
significantly better or worse than the certified radius (paired bootstrap over test rows, 95 %).
"""

from __future__ import annotations

import os

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

import argparse
import time
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from certimetric import datasets
from certimetric.auditing.tables.cells import audit_cell, compute_cell
from certimetric.auditing.tables.request import Request
from certimetric.auditing.tables.trust import LABELS, compute_trust, tell_trust, trust_cell

TABLES = [
    *("iris", "wine", "breast_cancer", "australian", "balance", "dermatology", "ecoli", "german_numeric", "glass"),
    *("haberman", "heart_statlog", "ionosphere", "newthyroid", "parkinsons", "pima", "segment", "sonar", "spambase"),
    *("vowel", "yeast"),
]


def measure(name: str, learner: str, rows: int, repeats: int) -> dict[str, Any]:
    data = datasets.load(name)
    kept = np.sort(np.random.default_rng(0).permutation(data.n_samples)[:rows])
    request = Request(data.X[kept], data.y[kept], name=name, learners=[learner], repeats=repeats)
    (subject,) = request.subjects
    cells = [audit_cell(request, request.data.sha256(), subject, split) for split in range(repeats)]
    found = [compute_cell(request, None, cell) for cell in cells]
    components = {cell["split"]: cell["components"] for cell in found}
    scored = [compute_trust(request, components, trust_cell(request, cell)) for cell in cells]
    return tell_trust(request, {"spec": subject.spec, "label": subject.label}, found, scored)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="*", default=TABLES)
    parser.add_argument("--learner", default="gmml")
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    names = list(LABELS)[:-1]
    table = Table("table", "error %", *(LABELS[name] for name in names), "in sets %", "size")
    counts = {name: [0, 0] for name in names}
    shares: dict[str, list[float]] = {name: [] for name in names}
    began = time.process_time()
    for name in arguments.tables:
        found = measure(name, arguments.learner, arguments.rows, arguments.repeats)
        rows = {row["score"]: row for row in found["scores"]}
        cells = []
        for score in names:
            row = rows[score]
            mark = "+" if row["difference_high"] < 0 else "-" if row["difference_low"] > 0 else ""
            counts[score][0] += mark == "+"
            counts[score][1] += mark == "-"
            shares[score].append(np.nan if row["excess_share"] is None else row["excess_share"])
            cells.append(f"{shares[score][-1]:.2f}{mark}")
        sets = found["conformal"]
        table.add_row(
            name, f"{100 * found['error']:.1f}", *cells, f"{100 * sets['coverage']:.1f}", f"{sets['size']:.2f}"
        )
    table.add_row("median", "", *(f"{np.nanmedian(shares[score]):.2f}" for score in names), "", "")
    console = Console(width=140)
    console.print(table)
    for score in names[1:]:
        better, worse = counts[score]
        console.print(f"{LABELS[score]}: better than the radius on {better}, worse on {worse} of {len(shares[score])}")
    console.print(f"{time.process_time() - began:.0f} CPU seconds, {arguments.learner}")


if __name__ == "__main__":
    main()
