"""What the perturbation loss does to error and certified radius, with defaults, on bundled data.

70/30 stratified splits (seeds 0-2), standardised on the training part, 3-NN; "LMNN, frozen triplets" is the common
simplification that looks only at the triplets nearest in the Euclidean metric, "LMNN" has the true objective.

Run: python benchmarks/perturbation_loss.py [--repeats 3]
"""

import argparse

import numpy as np
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from certimetric import LMNN, NCA, SCML, CertifiedKNeighborsClassifier, Euclidean, PerturbationLoss
from certimetric.constraints import nearest_triplets
from certimetric.datasets import load

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--repeats", type=int, default=3)
arguments = parser.parse_args()


def frozen(X, y):
    codes = np.unique(y, return_inverse=True)[1]
    return LMNN().fit_triplets(X[nearest_triplets(X, codes, 3, 10)])


METHODS = {
    "Euclidean": lambda X, y: Euclidean().fit(X, y),
    "LMNN, frozen triplets": frozen,
    "LMNN": lambda X, y: LMNN().fit(X, y),
    "LMNN + PL": lambda X, y: LMNN(perturbation=PerturbationLoss()).fit(X, y),
    "SCML": lambda X, y: SCML(random_state=0).fit(X, y),
    "SCML + PL": lambda X, y: SCML(random_state=0, perturbation=PerturbationLoss()).fit(X, y),
    "NCA": lambda X, y: NCA().fit(X, y),
    "NCA + PL": lambda X, y: NCA(perturbation=PerturbationLoss()).fit(X, y),
}

for name in ("digits", "breast_cancer", "wine"):
    data = load(name)
    results = {method: [] for method in METHODS}
    for seed in range(arguments.repeats):
        split = train_test_split(data.X, data.y, test_size=0.3, stratify=data.y, random_state=seed)
        scaler = StandardScaler().fit(split[0])
        X_train, X_test = scaler.transform(split[0]), scaler.transform(split[1])
        for method, fit in METHODS.items():
            knn = CertifiedKNeighborsClassifier(3, metric=fit(X_train, split[2]).metric_).fit(X_train, split[2])
            radii = knn.correctness_radius(X_test, split[3])
            results[method].append((1 - knn.score(X_test, split[3]), np.median(radii)))
    print(f"\n{name}: mean of {arguments.repeats} splits")
    base = np.mean([radius for _, radius in results["LMNN"]])
    for method, rows in results.items():
        error, radius = np.mean(rows, axis=0)
        print(f"  {method:22s} error {100 * error:5.2f} %   median radius {radius:.3f}   {radius / base:.2f} x LMNN's")
