"""Accuracy of one fitted metric against the size of a change: at random, under attack, exact, and certified."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from certimetric.attacks import AttackResult, BestOf, RegionAttack, SmoothedVoteAttack
from certimetric.auditing.tables.request import Request
from certimetric.base.arrays import Array
from certimetric.certify import CertifiedKNeighborsClassifier, MinimalPerturbation
from certimetric.runs.key import told

ATTACKS = (RegionAttack(), SmoothedVoteAttack())
N_SIZES = 31
N_DIRECTIONS = 10
_SHOWN = 0.9  # quantile of the attack's distances up to which curves are drawn


def attack(request: Request, classifier: CertifiedKNeighborsClassifier, X: Array) -> AttackResult:
    """The nearest change of each instance that several attacks find."""
    return BestOf(ATTACKS)(classifier, X, threat=request.norm)


def exact(classifier: CertifiedKNeighborsClassifier, X: Array) -> MinimalPerturbation | None:
    """The exact minimal perturbation of each instance; None for more than one neighbour, where it takes too long."""
    return classifier.minimal_perturbation(X) if classifier.n_neighbors == 1 else None


def measure_robustness(
    request: Request,
    classifier: CertifiedKNeighborsClassifier,
    X: Array,
    right: NDArray[np.bool_],
    radii: Array,
    attacked: AttackResult,
    minimal: MinimalPerturbation | None,
    rng: np.random.Generator,
) -> dict[str, Any] | None:
    """Curves over the same instances, so that they bracket each other; None where no size changes anything.

    Parameters
    ----------
    X : array of shape (m, d)
    right : bool array of shape (m,)
        Whether the prediction is right: wrong ones count as broken at every size.
    radii : array of shape (m,)
        Certified.
    attacked, minimal : results for the same instances
    rng : Generator

    Returns
    -------
    curves : dict
        ``eps``; ``clean`` (a share), ``noise``, ``adversarial``, ``exact`` (or None) and ``certified``, shares at each
        ε; ``certified_over_exact`` and ``exact_over_attack``, medians of the ratios (with one neighbour), or
        ``certified_over_attack``.
    """
    finite = attacked.distances[right & attacked.success]
    if not len(finite) or finite.max() <= 0:
        return None
    eps = np.linspace(0.0, float(np.quantile(finite, _SHOWN, method="inverted_cdf")) or float(finite.max()), N_SIZES)
    curves: dict[str, Any] = {
        "instances": len(X),
        "eps": eps.tolist(),
        "clean": float(right.mean()),
        "noise": _under_random_changes(request, classifier, X, right, eps, rng),
        "adversarial": [_share(right & (attacked.distances > size)) for size in eps],
        "exact": None,
        "certified": [_share(right & (radii >= size)) for size in eps],
    }
    # At size 0 nothing has been changed: ties there are broken as the classifier breaks them.
    curves["adversarial"][0] = curves["clean"]
    if minimal is None:
        return {**curves, "certified_over_attack": _median_ratio(radii, attacked.distances)}
    curves["exact"] = [curves["clean"], *(_share(right & (minimal.radii > size)) for size in eps[1:])]
    return {
        **curves,
        "certified_over_exact": _median_ratio(radii, minimal.radii),
        "exact_over_attack": _median_ratio(minimal.radii, attacked.distances),
    }


def _under_random_changes(
    request: Request,
    classifier: CertifiedKNeighborsClassifier,
    X: Array,
    right: NDArray[np.bool_],
    eps: Array,
    rng: np.random.Generator,
) -> list[float]:
    """Accuracy after random changes of exactly each size, the same directions at all of them."""
    rows = np.flatnonzero(right)
    labels = classifier.predict(X[rows])
    directions = request.norm.sample(rng, N_DIRECTIONS * len(rows), X.shape[1])
    X, labels = np.tile(X[rows], (N_DIRECTIONS, 1)), np.tile(labels, N_DIRECTIONS)
    kept = [(classifier.predict(X + size * directions) == labels).mean() for size in eps]
    return [float(share * right.mean()) for share in kept]


def _share(flags: NDArray[np.bool_]) -> float:
    return float(flags.mean())


def _median_ratio(lower: Array, upper: Array) -> float | str | None:
    """Median of ``lower / upper`` where the upper one is finite and not 0; None if it is so nowhere."""
    known = np.isfinite(upper) & (upper > 0)
    # Infinite only where a bound is broken, which a check says; the document must hold it all the same.
    return told(np.median(lower[known] / upper[known])) if known.any() else None
