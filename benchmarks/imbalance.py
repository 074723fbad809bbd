"""What balanced weights of classes do where one class is rare: balanced accuracy, learner by learner.

Of a table one class is kept as the rare one, all others together are the usual one: so many usual rows to one rare row
in training, and test rows enough of both. Rows are standardised on the training part, the rule is 1-NN (of ``GMLVQ``
over its prototypes), and every learner has its defaults, once without and once with ``class_weight="balanced"``.
Nothing is tuned.

Run: CERTIMETRIC_DATA=… python benchmarks/imbalance.py [--learners gmml lmnn …] [--ratios 100 400] [--splits 2]
"""

import argparse
import time
import warnings

import numpy as np
from sklearn.metrics import balanced_accuracy_score

from certimetric import CertifiedKNeighborsClassifier
from certimetric.bench.datasets import FURTHER, SIXTEEN, find_datasets, load_checked
from certimetric.datasets.data_root import data_root
from certimetric.learners.specs import LEARNERS, make_learner
from certimetric.runs.splits import Preparation

TABLES = ("satimage", "pendigits", "optdigits", "segment")
USUAL, TEST = 2_000, 500  # rows of training, and of each of the two for testing, where there are as many


def problem(data, ratio, seed):
    """Training and test rows, of which 1 are rare."""
    rng = np.random.default_rng([seed, ratio])
    classes = np.unique(data.y)
    rare = data.y == classes[seed % len(classes)]
    usual_rows, rare_rows = rng.permutation(np.flatnonzero(~rare)), rng.permutation(np.flatnonzero(rare))
    n_usual = min(USUAL, len(usual_rows) - TEST)
    n_rare = max(round(n_usual / ratio), 2)
    train = np.concatenate([usual_rows[:n_usual], rare_rows[:n_rare]])
    test = np.concatenate([usual_rows[n_usual:][:TEST], rare_rows[n_rare:][:TEST]])
    prepared = Preparation.fit(data.X[train], None)
    return prepared(data.X[train]), rare[train].astype(int), prepared(data.X[test]), rare[test].astype(int)


def score(spec, X, y, X_test, y_test, seed):
    learner = make_learner(spec, random_state=seed).fit(X, y)
    rows = (learner.prototypes_, learner.prototype_labels_) if spec.startswith("gmlvq") else (X, y)
    return balanced_accuracy_score(y_test, CertifiedKNeighborsClassifier(1, metric=learner).fit(*rows).predict(X_test))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    able = [name for name, made in LEARNERS.items() if "class_weight" in made().get_params()]
    parser.add_argument("--learners", nargs="+", default=[*able, "lmnn+pl"])
    parser.add_argument("--ratios", nargs="+", type=int, default=[100, 400])
    parser.add_argument("--splits", type=int, default=2)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    found, _ = find_datasets((*SIXTEEN, *FURTHER), data_root(), network=False)
    tables = [load_checked(table.named, table.source) for table in found if table.named.name in TABLES]
    problems = {
        ratio: [(*problem(data, ratio, seed), seed) for data in tables for seed in range(given.splits)]
        for ratio in given.ratios
    }
    print(
        f"{len(tables)} tables, {given.splits} splits each; balanced accuracy of 1-NN: without, balanced, (won, lost)"
    )
    plain = [np.mean([score("euclidean", *some) for some in problems[ratio]]) for ratio in given.ratios]
    print(f"| {'euclidean':10} | " + " | ".join(f"{value:.3f}" for value in plain) + " |", flush=True)
    for spec in given.learners:
        cells, began = [], time.process_time()
        for ratio in given.ratios:
            both = [(score(spec, *some), score(f"{spec}:class_weight=balanced", *some)) for some in problems[ratio]]
            without, balanced = np.array(both).T
            won, lost = (balanced > without + 0.005).sum(), (balanced < without - 0.005).sum()
            cells.append(f"{without.mean():.3f} → {balanced.mean():.3f} ({won}, {lost})")
        print(f"| {spec:10} | " + " | ".join(cells) + f" | {time.process_time() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
