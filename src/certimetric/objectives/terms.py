"""The one list of terms, and each of them made for a labelled sample."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np

from certimetric.base.arrays import Array, Indices
from certimetric.constraints.neighbors import nearest_triplets, target_neighbors
from certimetric.geometry.norms import resolve_norm
from certimetric.objectives.bounds import PairBounds
from certimetric.objectives.divergence import LogDetDivergence
from certimetric.objectives.gradient import Term
from certimetric.objectives.margin import MarginLoss
from certimetric.objectives.neighborhood import KernelRegression, StochasticNeighbors
from certimetric.objectives.pairs import ImpostorHinge, Pull, TripletHinge
from certimetric.objectives.perturbation import PerturbationLoss
from certimetric.objectives.quadruplets import QuadrupletHinge
from certimetric.objectives.separation import SeparationRatio
from certimetric.objectives.triplet_margin import TripletMarginLoss

# Of instances (n, d), class codes (n,), triplets (m, 3) and target neighbours (n, k).
TERMS: dict[str, Callable[[Array, Indices, Indices, Indices], Term]] = {
    "pull": lambda X, y, triplets, targets: Pull(triplets[:, :2], 0.7),
    "triplet hinge": lambda X, y, triplets, targets: TripletHinge(triplets, 1.3),
    "impostor hinge": lambda X, y, triplets, targets: ImpostorHinge(targets, y, 0.8),
    "stochastic neighbors": lambda X, y, triplets, targets: StochasticNeighbors(y),
    "kernel regression": lambda X, y, triplets, targets: KernelRegression(X[:, 0] + y),
    "quadruplet hinge": lambda X, y, triplets, targets: QuadrupletHinge(triplets[:, [0, 2, 0, 1]]),
    "pair bounds": lambda X, y, triplets, targets: PairBounds(
        triplets[:, :2], np.where(y[triplets[:, 1]] > 0, 1, -1), 2.0, 0.9
    ),
    "separation ratio": lambda X, y, triplets, targets: SeparationRatio(X.T @ X / len(X), triplets[:, [0, 2]]),
    "even separation ratio": lambda X, y, triplets, targets: SeparationRatio(
        X.T @ X / len(X), triplets[:, [0, 2]], 2.0
    ),
    "divergence": lambda X, y, triplets, targets: LogDetDivergence(np.eye(X.shape[1]) + np.diag(X[0] ** 2)),
}
LOSSES: tuple[type[TripletMarginLoss], ...] = (PerturbationLoss, MarginLoss)


def term_variants(X: Array, y: Indices, *norms: Any) -> dict[str, Term]:
    """Every term in every kind that it comes in, by name: what holds of all terms is tested on these.

    Parameters
    ----------
    X : array of shape (n, d)
    y : int array of shape (n,)
        Class codes.
    norms : {"l2", "linf", "l1"}, array-like of shape (d, d) or Norm
        In which the losses on adversarial margins measure perturbations.

    Examples
    --------
    >>> import numpy as np
    >>> X, y = np.array([[0.0], [1.0], [3.0], [4.0]]), np.array([0, 0, 1, 1])
    >>> [name for name in term_variants(X, y, "l2") if "Loss" in name][:2]
    ['PerturbationLoss l2', 'MarginLoss l2 linear certified']
    """
    triplets, targets = nearest_triplets(X, y, 2, 4), target_neighbors(X, y, 2)
    terms = {name: make(X, y, triplets, targets) for name, make in TERMS.items()}
    for loss in LOSSES:
        for norm, *chosen in product(norms, *loss.choices.values()):
            made = loss(norm=norm, weight=1.5, **dict(zip(loss.choices, chosen)))
            terms[" ".join([loss.__name__, resolve_norm(norm).name, *chosen])] = made.bind(X, triplets)
    return terms
