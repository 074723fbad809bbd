"""The problems of the comparison, and what a learned metric is worth on them.

Every method is judged here by the same code, from its components L (k×d) alone: the 3-NN test error, the LMNN
objective and the SCML objective. Methods scale their metric differently (a k-NN prediction does not care), so
each objective is also given at the best global scale of M, which is fair to a method with other units.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits, make_classification
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from sklearn.preprocessing import StandardScaler

PROBLEMS = {
    "digits": "scikit-learn's digits, 1,257 x 64 in ten classes (540 for testing)",
    "synthetic": "make_classification, 7,000 x 50 in five classes (3,000 for testing): 20 informative "
    "features, 10 linear combinations of them, 20 of noise; two clusters a class",
}
CHUNK_BYTES = 64_000_000
SCML_BETA = 1e-5  # metric-learn's default weight of the trace

ValueSlope = Callable[[float], tuple[float, float]]


def load_problem(name: str, folder: Path) -> tuple[Path, dict[str, np.ndarray]]:
    """The problem's arrays, made once and kept in `folder`, standardised on the training part."""
    path = folder / f"{name}.npz"
    if not path.exists():
        if name == "digits":
            X, y = load_digits(return_X_y=True)
        else:
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
        X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.3, stratify=y, random_state=0)
        scaler = StandardScaler().fit(X_train)
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(
            path,
            X_train=scaler.transform(X_train),
            y_train=y_train,
            X_test=scaler.transform(X_test),
            y_test=y_test,
        )
    with np.load(path) as arrays:
        return path, dict(arrays)


class Judge:
    """Judges learned components on one problem.

    Parameters
    ----------
    problem : dict
        The arrays of `load_problem`.
    n_neighbors : int
        Target neighbours of an instance (nearest of its class by Euclidean distance), and k of the k-NN test.
    n_impostors : int
        Impostors of an instance in the SCML triplets: its nearest of other classes by Euclidean distance.
    """

    def __init__(self, problem: dict[str, np.ndarray], n_neighbors: int = 3, n_impostors: int = 10) -> None:
        self.X, self.y = problem["X_train"], problem["y_train"]
        self.X_test, self.y_test = problem["X_test"], problem["y_test"]
        self.n_neighbors = n_neighbors
        n = len(self.y)
        self.targets = np.empty((n, n_neighbors), dtype=np.intp)
        self.impostors = np.empty((n, n_impostors), dtype=np.intp)
        for label in np.unique(self.y):
            own, others = np.flatnonzero(self.y == label), np.flatnonzero(self.y != label)
            search = NearestNeighbors(algorithm="brute").fit(self.X[own])
            self.targets[own] = own[search.kneighbors(None, n_neighbors, return_distance=False)]
            search = NearestNeighbors(algorithm="brute").fit(self.X[others])
            self.impostors[own] = others[search.kneighbors(self.X[own], n_impostors, return_distance=False)]

    def __call__(self, L: np.ndarray) -> dict[str, float]:
        """All figures of the metric M = LᵀL."""
        if not np.all(np.isfinite(L)) or L.ndim != 2 or L.shape[1] != self.X.shape[1]:
            raise ValueError(f"components of shape {L.shape}, finite with {self.X.shape[1]} columns expected")
        lmnn, scml = self.lmnn_objective(L), self.scml_objective(L)
        lmnn_scale, lmnn_best = minimise_scale(lmnn)
        scml_scale, scml_best = minimise_scale(scml)
        return {
            "test_error": self.test_error(L),
            "lmnn": lmnn(1.0)[0],
            "lmnn_best": lmnn_best,
            "lmnn_scale": lmnn_scale,
            "scml": scml(1.0)[0],
            "scml_best": scml_best,
            "scml_scale": scml_scale,
            "rank": int(np.linalg.matrix_rank(L)),
        }

    def test_error(self, L: np.ndarray) -> float:
        """Share of test instances that k-NN under L gets wrong."""
        knn = KNeighborsClassifier(self.n_neighbors, algorithm="brute").fit(self.X @ L.T, self.y)
        return 1.0 - knn.score(self.X_test @ L.T, self.y_test)

    def lmnn_objective(self, L: np.ndarray) -> ValueSlope:
        """½ Σ_ij d²_ij + ½ Σ_ijl [1 + d²_ij − d²_il]_+ of the metric s·LᵀL, as a function of the scale s.

        The impostors l are *all* instances of other classes, not an active set and not the nearest few. Rows
        are taken in chunks, so that no table exceeds `CHUNK_BYTES`.
        """
        Z = (self.X - self.X.mean(axis=0)) @ L.T  # centred: the expanded squares below then cancel least
        norms = np.einsum("ij,ij->i", Z, Z)
        targets = squared_distances(Z, self.targets)
        pull = targets.sum()
        rows = max(1, CHUNK_BYTES // (8 * len(Z)))

        def value_slope(s: float) -> tuple[float, float]:
            value, slope = s * pull, pull
            reach = 1.0 / s + targets  # an impostor counts where its distance stays below this
            for start in range(0, len(Z), rows):
                part = slice(start, start + rows)
                D = norms[part, None] + norms - 2.0 * (Z[part] @ Z.T)
                furthest = reach[part].max(axis=1)
                i, impostor = np.nonzero((furthest[:, None] > D) & (self.y[part, None] != self.y))
                distance = np.maximum(D[i, impostor], 0.0)
                for j in range(self.n_neighbors):
                    active = distance < reach[part][i, j]
                    difference = (targets[part][i, j] - distance)[active]
                    value += np.count_nonzero(active) + s * difference.sum()
                    slope += difference.sum()
            return 0.5 * value, 0.5 * slope

        return value_slope

    def scml_objective(self, L: np.ndarray) -> ValueSlope:
        """Mean [1 + d²_ij − d²_il]_+ over the fixed triplets, plus β·tr(M), as a function of the scale.

        With a basis of unit vectors tr(M) is the sum of the weights: metric-learn's SCML minimises this.
        """
        Z = self.X @ L.T
        impostors = squared_distances(Z, self.impostors)
        difference = squared_distances(Z, self.targets)[:, :, None] - impostors[:, None, :]
        trace = SCML_BETA * np.einsum("ij,ij->", L, L)

        def value_slope(s: float) -> tuple[float, float]:
            hinge = 1.0 + s * difference
            active = hinge > 0
            return (
                float(hinge[active].sum() / hinge.size + s * trace),
                float(difference[active].sum() / hinge.size + trace),
            )

        return value_slope


def squared_distances(Z: np.ndarray, neighbours: np.ndarray) -> np.ndarray:
    """Squared distances (n, k) of each row of Z to its `neighbours` (n, k), by direct differences."""
    columns = [((Z - Z[neighbours[:, j]]) ** 2).sum(axis=1) for j in range(neighbours.shape[1])]
    return np.stack(columns, axis=1)


def minimise_scale(value_slope: ValueSlope, tolerance: float = 1e-5) -> tuple[float, float]:
    """The s > 0 that minimises a convex function of s, and its value.

    Two tangents on either side of the minimum bound it from below where they cross: the search stops when the
    best value found is within `tolerance` (relative) of that bound.
    """
    low = high = 1.0
    value_low, slope_low = value_high, slope_high = value_slope(1.0)
    for _ in range(100):
        if slope_low <= 0.0:
            break
        low /= 2.0
        value_low, slope_low = value_slope(low)
    for _ in range(100):
        if slope_high >= 0.0:
            break
        high *= 2.0
        value_high, slope_high = value_slope(high)
    for _ in range(100):
        best = min((value_low, low), (value_high, high))
        if slope_low >= 0.0 or slope_high <= 0.0 or slope_high == slope_low:
            break  # an end is a minimum itself
        crossing = (value_low - value_high + slope_high * high - slope_low * low) / (slope_high - slope_low)
        bound = value_low + slope_low * (crossing - low)
        if best[0] - bound <= tolerance * abs(best[0]):
            break
        # Away from the ends, so that the interval shrinks from both sides and no tangent just creeps along.
        s = min(max(crossing, low + 0.1 * (high - low)), high - 0.1 * (high - low))
        value, slope = value_slope(s)
        if slope <= 0.0:
            low, value_low, slope_low = s, value, slope
        else:
            high, value_high, slope_high = s, value, slope
    return best[1], best[0]
