"""The problems of the comparison, each made once and kept, so that every method gets the same arrays."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.datasets import load_digits, load_wine, make_classification
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

PROBLEMS = {
    "wine": "scikit-learn's wine, 124 x 13 in three classes (54 for testing)",
    "digits": "scikit-learn's digits, 1,257 x 64 in ten classes (540 for testing)",
    "spambase": "spambase of CERTIMETRIC_DATA, 3,220 x 57 in two classes (1,381 for testing)",
    "letter": "letter of CERTIMETRIC_DATA, 14,000 x 16 in 26 classes (6,000 for testing)",
    "synthetic": "make_classification, 7,000 x 50 in five classes (3,000 for testing): 20 informative "
    "features, 10 linear combinations of them, 20 of noise; two clusters a class",
    "numbers": "a number of four of 30 features with noise, 2,000 x 30 (858 for testing); classes are below and above "
    "its median",
    "triplets": "100,000 triplets of 5,000 x 100 in ten classes (2,143 for testing), 30 features informative",
}
LABELLED = ("wine", "digits", "spambase", "letter", "synthetic")
BOUND_PERCENTILES = (5, 95)  # of squared distances: ITML's bounds
LARGEST_CHUNKLETS = 1000


def load_table(name: str) -> tuple[np.ndarray, np.ndarray]:
    """A table of CERTIMETRIC_DATA."""
    folder = Path(os.environ.get("CERTIMETRIC_DATA", "")) / "tabular"
    for path in (folder / f"{name}.csv", folder / f"{name}.csv.gz"):
        if path.exists():
            table = pd.read_csv(path)
            return table.drop(columns="target").to_numpy(float), pd.factorize(table["target"], sort=True)[0]
    raise FileNotFoundError(f"CERTIMETRIC_DATA names no folder that holds tabular/{name}.csv[.gz]")


def load_problem(name: str, folder: Path) -> tuple[Path, dict[str, np.ndarray]]:
    """The problem's arrays, made once and kept in `folder`, standardised on the training part.

    With them come the pairs of ITML (20 c² similar and as many dissimilar ones) and its bounds, chunklets of two and,
    where they are the problem, triplets: everybody learns of the same.
    """
    path = folder / f"{name}.npz"
    if path.exists():
        with np.load(path) as arrays:
            if "chunklets_train" in arrays:
                return path, dict(arrays)
    numbers = None
    if name in ("wine", "digits"):
        X, y = (load_wine if name == "wine" else load_digits)(return_X_y=True)
    elif name == "synthetic":
        X, y = make_classification(
            n_samples=10_000,
            n_features=50,
            n_informative=20,
            n_redundant=10,
            n_classes=5,
            n_clusters_per_class=2,
            class_sep=1.0,
            random_state=0,
        )
    elif name == "numbers":
        X, numbers = numbers_to_predict(2858)
        y = (numbers > np.median(numbers)).astype(int)
    elif name == "triplets":
        X, y = make_classification(
            n_samples=7143, n_features=100, n_informative=30, n_redundant=0, n_classes=10, random_state=0
        )
    else:
        X, y = load_table(name)
    rows = np.arange(len(X))
    X_train, X_test, y_train, y_test, rows, _ = train_test_split(X, y, rows, test_size=0.3, stratify=y, random_state=0)
    scaler = StandardScaler().fit(X_train)
    X_train = scaler.transform(X_train)
    pairs, pair_labels, bounds = draw_pairs(X_train, y_train)
    arrays = {
        "X_train": X_train,
        "y_train": y_train,
        "X_test": scaler.transform(X_test),
        "y_test": y_test,
        "pairs": pairs,
        "pair_labels": pair_labels,
        "bounds": bounds,
        "chunklets_train": draw_chunklets(y_train),
    }
    if name == "triplets":
        arrays["triplets_train"], arrays["triplets_test"] = draw_triplets(y_train), draw_triplets(y_test)
    if numbers is not None:
        arrays["numbers_train"] = numbers[rows]
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)
    return path, arrays


def numbers_to_predict(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Instances with 30 features, four of which determine a number but for noise."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, 30))
    return X, np.sin(2 * X[:, 0]) + X[:, 1] * X[:, 2] + 0.5 * X[:, 3] + 0.1 * rng.standard_normal(n)


def draw_pairs(X: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random pairs of distinct instances, the similar ones first, their labels ±1, and ITML's bounds."""
    rng = np.random.default_rng(0)
    n_each = 20 * len(np.unique(y)) ** 2
    drawn: dict[bool, list[np.ndarray]] = {True: [], False: []}
    while any(sum(map(len, kind)) < n_each for kind in drawn.values()):
        pairs = rng.integers(len(y), size=(10 * n_each, 2))
        pairs = pairs[((X[pairs[:, 0]] - X[pairs[:, 1]]) ** 2).sum(axis=1) > 0]
        for same, kind in drawn.items():
            kind.append(pairs[(y[pairs[:, 0]] == y[pairs[:, 1]]) == same])
    pairs = np.concatenate([np.concatenate(drawn[True])[:n_each], np.concatenate(drawn[False])[:n_each]])
    some = rng.integers(len(y), size=(10_000, 2))
    squared = ((X[some[:, 0]] - X[some[:, 1]]) ** 2).sum(axis=1)
    bounds = np.percentile(squared[squared > 0], BOUND_PERCENTILES)
    return pairs, np.repeat([1, -1], n_each), bounds


def draw_chunklets(y: np.ndarray) -> np.ndarray:
    """A chunklet, −1 for none, of every instance: half of the instances of each class in pairs, at most 1,000 pairs."""
    rng = np.random.default_rng(0)
    chunklets = np.full(len(y), -1)
    pairs = []
    for label in np.unique(y):
        own = rng.permutation(np.flatnonzero(y == label))
        pairs.append(own[: len(own) // 4 * 2].reshape(-1, 2))
    drawn = rng.permutation(np.concatenate(pairs))[:LARGEST_CHUNKLETS]
    chunklets[drawn] = np.arange(len(drawn))[:, None]
    return chunklets


def draw_triplets(y: np.ndarray, n: int = 100_000) -> np.ndarray:
    """An instance, another of its class, and one of another class: shape (n, 3)."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(y), size=(40 * n, 3))
    a, b, c = drawn.T
    return drawn[(y[a] == y[b]) & (a != b) & (y[a] != y[c])][:n]
