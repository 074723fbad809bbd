"""What a learned metric is worth on a problem of the comparison.

Every method is judged here by the same code, from its components L (k×d) alone: the 3-NN test error, and the objective
of its family. Methods scale their metric differently (a k-NN prediction does not care), so the objectives of LMNN,
SCML, GMML and RCA are taken at the best global scale of M, which is fair to a method with other units. NCA and ITML
mean the same units everywhere: their objectives are taken as they come.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

FAMILIES = {
    "lmnn": "½ pull + ½ hinge over every other-class instance, at the best scale",
    "scml": "mean hinge over 3 x 10 triplets an instance + 1e-5 tr(M), at the best scale",
    "itml": "LogDet divergence from the identity + that of the best slack variables, on the same pairs",
    "nca": "one minus the mean chance of a neighbour of the same class",
    "mlkr": "1 - R² of leave-one-out kernel regression",
    "mmc": "mean squared distance of similar over squared mean distance of dissimilar pairs, the same ones",
    "lsml": "mean squared residual of quadruplets made of those pairs + LogDet divergence from the identity",
    "sdml": "tr(M P) - log det M + 0.01 times the entries off the diagonal, P of those pairs at a balance of 0.1",
    "rca": "log tr(M C) / d - log det M / d of the scatter C inside of chunklets, over the features that vary",
    "lfda": "minus the trace of between over within scatters of neighbours, along the leading c - 1 components",
    "oasis": "share of 100,000 fresh triplets in the wrong order",
    "gmml": "tr(M S) + tr(M⁻¹ D) over all pairs of labels, with GMML's ridge, at the best scale",
}
CHUNK_BYTES = 64_000_000
SCML_BETA = 1e-5  # metric-learn's default weight of the trace
GMML_RIDGE = 0.01
SDML_BALANCE, SDML_SPARSITY = 0.1, 0.01  # as peer_worker.py asks for, and the default of both

ValueSlope = Callable[[float], tuple[float, float]]


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
        self.numbers = problem.get("numbers_train")
        self.gaps = self.X[problem["pairs"][:, 0]] - self.X[problem["pairs"][:, 1]]
        self.similar, self.bounds = problem["pair_labels"] == 1, problem["bounds"]
        self.chunklets, self.triplets = problem["chunklets_train"], problem.get("triplets_test")
        self.n_neighbors, self.n_impostors = n_neighbors, n_impostors

    @cached_property
    def targets(self) -> np.ndarray:
        """The nearest of the same class, shape (n, n_neighbors)."""
        return self._nearest(same=True, k=self.n_neighbors)

    @cached_property
    def impostors(self) -> np.ndarray:
        """The nearest of other classes, shape (n, n_impostors)."""
        return self._nearest(same=False, k=self.n_impostors)

    def _nearest(self, same: bool, k: int) -> np.ndarray:
        nearest = np.empty((len(self.y), k), dtype=np.intp)
        for label in np.unique(self.y):
            own = np.flatnonzero(self.y == label)
            among = own if same else np.flatnonzero(self.y != label)
            search = NearestNeighbors(algorithm="brute").fit(self.X[among])
            nearest[own] = among[search.kneighbors(None if same else self.X[own], k, return_distance=False)]
        return nearest

    def __call__(self, L: np.ndarray, families: tuple[str, ...]) -> dict[str, float]:
        """The test error of the metric M = LᵀL, its rank, and the objectives of `families`."""
        if not np.all(np.isfinite(L)) or L.ndim != 2 or L.shape[1] != self.X.shape[1]:
            raise ValueError(f"components of shape {L.shape}, finite with {self.X.shape[1]} columns expected")
        figures: dict[str, float] = {"test_error": self.test_error(L), "rank": int(np.linalg.matrix_rank(L))}
        for family in families:
            figures[family] = self.objective(family, L)
        return figures

    def objective(self, family: str, L: np.ndarray) -> float:
        """The objective of a family, as `FAMILIES` says it."""
        if family == "lmnn":
            return minimise_scale(self.lmnn_objective(L))[1]
        if family == "scml":
            return minimise_scale(self.scml_objective(L))[1]
        return {
            "itml": self.itml_objective,
            "nca": self.nca_objective,
            "gmml": self.gmml_objective,
            "mlkr": self.mlkr_objective,
            "mmc": self.mmc_objective,
            "lsml": self.lsml_objective,
            "sdml": self.sdml_objective,
            "rca": self.rca_objective,
            "lfda": self.lfda_objective,
            "oasis": self.oasis_objective,
        }[family](L)

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

    def itml_objective(self, L: np.ndarray) -> float:
        """D(M, I) + D(diag ξ, diag ξ₀), D the LogDet divergence, for the slack variables ξ that are best for M.

        A pair that keeps its bound keeps ξ = ξ₀; another has its squared distance for ξ. A singular M costs infinity.
        """
        sign, logdet = np.linalg.slogdet(L @ L.T)
        if L.shape[0] < L.shape[1] or sign <= 0:
            return math.inf
        squared = ((self.gaps @ L.T) ** 2).sum(axis=1)
        bounds = np.where(self.similar, *self.bounds)
        broken = np.where(self.similar, squared > bounds, squared < bounds)
        ratio = squared[broken] / bounds[broken]
        return float((L**2).sum() - logdet - L.shape[1] + (ratio - np.log(ratio) - 1.0).sum())

    def mlkr_objective(self, L: np.ndarray) -> float:
        """Squared error of predicting every number by the others, over its variance."""
        assert self.numbers is not None
        Z, y = (self.X - self.X.mean(axis=0)) @ L.T, self.numbers
        norms = (Z**2).sum(axis=1)
        squared = norms[:, None] + norms - 2 * Z @ Z.T
        np.fill_diagonal(squared, np.inf)
        k = np.exp(squared.min(axis=1, keepdims=True) - squared)
        return float(((y - k @ y / k.sum(axis=1)) ** 2).mean() / y.var())

    def mmc_objective(self, L: np.ndarray) -> float:
        """The ratio whose minimum at tr(M S) = 1 has the largest sum of distances of dissimilar pairs."""
        distances = np.sqrt(((self.gaps @ L.T) ** 2).sum(axis=1))
        return float((distances[self.similar] ** 2).mean() / distances[~self.similar].mean() ** 2)

    def lsml_objective(self, L: np.ndarray) -> float:
        """Mean of [d(a, b) − d(c, d)]_+², and D(M, I). A singular M costs infinity."""
        sign, logdet = np.linalg.slogdet(L @ L.T)
        if L.shape[0] < L.shape[1] or sign <= 0:
            return math.inf
        distances = np.sqrt(((self.gaps @ L.T) ** 2).sum(axis=1))
        near, far = distances[self.similar], distances[~self.similar]
        m = min(len(near), len(far))
        return float((np.maximum(near[:m] - far[:m], 0.0) ** 2).mean() + (L**2).sum() - logdet - L.shape[1])

    def sdml_objective(self, L: np.ndarray) -> float:
        """The graphical lasso's objective. A singular M costs infinity."""
        sign, logdet = np.linalg.slogdet(L @ L.T)
        if L.shape[0] < L.shape[1] or sign <= 0:
            return math.inf
        M = L.T @ L
        P = (self.gaps.T * np.where(self.similar, 1.0, -1.0)) @ self.gaps * (SDML_BALANCE / len(self.gaps))
        P += np.eye(len(P))
        return float((M * P).sum() - logdet + SDML_SPARSITY * (np.abs(M).sum() - np.trace(M)))

    def rca_objective(self, L: np.ndarray) -> float:
        """Logarithm of the mean variance inside of chunklets at det M = 1. A singular M costs infinity."""
        varying = np.ptp(self.X, axis=0) > 0
        L = L[:, varying]
        within = []
        for chunklet in range(self.chunklets.max() + 1):
            own = self.X[self.chunklets == chunklet][:, varying]
            within.append(own - own.mean(axis=0))
        d = L.shape[1]
        sign, logdet = np.linalg.slogdet(L.T @ L)
        if np.linalg.matrix_rank(L) < d or sign <= 0:
            return math.inf
        return float(np.log(np.square(np.concatenate(within) @ L.T).sum(axis=1).mean() / d) - logdet / d)

    def lfda_objective(self, L: np.ndarray) -> float:
        """The quotient that does not depend on how the components are scaled or turned among themselves."""
        n, d = self.X.shape
        X = self.X - self.X.mean(axis=0)
        within, between = np.zeros((d, d)), X.T @ X
        for label in np.unique(self.y):
            own = X[self.y == label]
            squared = euclidean_distances(own, squared=True)
            scale = np.sqrt(np.sort(squared, axis=1)[:, min(7, len(own) - 1)])
            product = scale[:, None] * scale
            affinity = np.exp(-np.divide(squared, product, out=np.zeros_like(squared), where=product > 0))
            affinity[product <= 0] = 0
            scatter = (own.T * affinity.sum(axis=1)) @ own - own.T @ affinity @ own
            centred = own - own.mean(axis=0)
            within += scatter / len(own)
            between += scatter / n - scatter / len(own) - len(own) * (centred.T @ centred) / n
        L = L[: len(np.unique(self.y)) - 1]
        return -float(np.trace(np.linalg.lstsq(L @ within @ L.T, L @ between @ L.T, rcond=None)[0]))

    def oasis_objective(self, L: np.ndarray) -> float:
        """The order by distance, not by similarity: all that neighbours see."""
        assert self.triplets is not None
        near, far = squared_distances(self.X_test @ L.T, self.triplets[:, 1:], self.triplets[:, 0]).T
        return float((near >= far).mean())

    def nca_objective(self, L: np.ndarray) -> float:
        """One minus the mean chance that an instance picks one of its class, in double precision throughout."""
        Z = (self.X - self.X.mean(axis=0)) @ L.T
        norms = np.einsum("ij,ij->i", Z, Z)
        rows = max(1, CHUNK_BYTES // (8 * len(Z)))
        total = 0.0
        for start in range(0, len(Z), rows):
            part = slice(start, start + rows)
            chances = norms - 2.0 * (Z[part] @ Z.T)
            np.fill_diagonal(chances[:, part], np.inf)
            chances = np.exp(chances.min(axis=1, keepdims=True) - chances)
            own = (chances * (self.y[part, None] == self.y)).sum(axis=1)
            total += float((own / chances.sum(axis=1)).sum())
        return 1.0 - total / len(Z)

    def gmml_objective(self, L: np.ndarray) -> float:
        """tr(M S) + tr(M⁻¹ D) at the best scale, 2 √(tr(M S) tr(M⁻¹ D)). A singular M costs infinity."""
        n, d = self.X.shape
        if np.linalg.matrix_rank(L) < d:
            return math.inf
        similar, n_similar = np.zeros((d, d)), 0
        for label in np.unique(self.y):
            own = self.X[self.y == label]
            own = own - own.mean(axis=0)
            similar += len(own) * (own.T @ own)
            n_similar += len(own) * (len(own) - 1) // 2
        centred = self.X - self.X.mean(axis=0)
        dissimilar = n * (centred.T @ centred) - similar
        scatters = similar / n_similar, dissimilar / (n * (n - 1) // 2 - n_similar)
        S, D = (A + GMML_RIDGE * np.trace(A) / d * np.eye(d) for A in scatters)
        M = L.T @ L
        return float(2.0 * math.sqrt(np.trace(M @ S) * np.trace(np.linalg.solve(M, D))))


def squared_distances(Z: np.ndarray, neighbours: np.ndarray, rows: Any = slice(None)) -> np.ndarray:
    """Squared distances (n, k) of each of the `rows` of Z to its `neighbours` (n, k), by direct differences."""
    columns = [((Z[rows] - Z[neighbours[:, j]]) ** 2).sum(axis=1) for j in range(neighbours.shape[1])]
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
