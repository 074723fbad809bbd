"""Accuracy of one fitted metric against the size of a change: at random, under attack, exact, and certified."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from certimetric.attacks import AttackResult, BestOf, RegionAttack, SmoothedVoteAttack
from certimetric.auditing.tables.request import Request
from certimetric.base.arrays import Array, Indices
from certimetric.certify import CertifiedKNeighborsClassifier, MinimalPerturbation
from certimetric.geometry.neighbors import nearest_neighbors
from certimetric.runs.key import told
from certimetric.runs.splits import Split

ATTACKS = (RegionAttack(), SmoothedVoteAttack())
NEAR = 2000  # training instances that attacks look at, where there are more
_ROUNDS = 8  # in which more of them are looked at, where what was found does not hold
N_SIZES = 31
N_DIRECTIONS = 10
_SHOWN = 0.9  # quantile of the attack's distances up to which curves are drawn


def attack(classifier: CertifiedKNeighborsClassifier, X: Array, threat: Any) -> AttackResult:
    """The nearest change of each instance that several attacks find.

    Of many training instances attacks look at the nearest to each instance and at the nearest of other classes than the
    predicted one. What they find is held against all: where it does not hold, what surrounds it is looked at too, and
    the attack is repeated. A change that never holds is none.
    """
    look = BestOf(ATTACKS)
    if len(classifier.X_) <= NEAR or not len(X):
        return look(classifier, X, threat=threat)
    before, y = classifier.predict(X), classifier.y_
    result = AttackResult(X.copy(), np.zeros(len(X), dtype=bool), np.full(len(X), np.inf), before.copy())
    rows = list(_nearest(classifier, X, NEAR // 2))
    for label in np.unique(before):
        own = np.flatnonzero(before == label)
        for i, some in zip(own, _nearest(classifier, X[own], NEAR // 4, np.flatnonzero(y != label))):
            rows[i] = np.union1d(rows[i], some)
    left = np.arange(len(X))
    for _ in range(_ROUNDS):
        tried = [look(_among(classifier, rows[i]), X[i : i + 1], threat=threat) for i in left]
        left = left[[bool(one.success[0]) for one in tried]]
        tried = [one for one in tried if one.success[0]]
        if not tried:
            break
        points = np.concatenate([one.adversarial for one in tried])
        labels = classifier.predict(points)
        holds = labels != before[left]
        kept = left[holds]
        result.adversarial[kept], result.success[kept], result.labels[kept] = points[holds], True, labels[holds]
        result.distances[kept] = np.concatenate([one.distances for one in tried])[holds]
        left = left[~holds]
        for i, around in zip(left, _nearest(classifier, points[~holds], NEAR // 8)):
            rows[i] = np.union1d(rows[i], around)
    return result


def _nearest(classifier: CertifiedKNeighborsClassifier, X: Array, count: int, among: Indices | None = None) -> Indices:
    """Training instances that are nearest to each instance, of some of them or of all, shape (m, count)."""
    points = classifier.reference_.points
    queries, _ = classifier.reference_.embed(X)
    if among is None:
        return nearest_neighbors(queries, points, min(count, len(points)))[0]
    return among[nearest_neighbors(queries, points[among], min(count, len(among)))[0]]


def _among(classifier: CertifiedKNeighborsClassifier, rows: Indices) -> CertifiedKNeighborsClassifier:
    """The classifier of some of its training instances."""
    few = CertifiedKNeighborsClassifier(classifier.n_neighbors, metric=classifier.metric_, norm=classifier.norm)
    return few.fit(classifier.X_[rows], classifier.y_[rows])


def exact(classifier: CertifiedKNeighborsClassifier, X: Array) -> MinimalPerturbation | None:
    """The exact minimal perturbation of each instance; None for more than one neighbour, where it takes too long."""
    return classifier.minimal_perturbation(X) if classifier.n_neighbors == 1 else None


@dataclass(frozen=True, eq=False)
class Attacked:
    """Instances of a test part, and what was found of each of them."""

    request: Request
    classifier: CertifiedKNeighborsClassifier
    part: Split
    rows: Indices  # of the test part
    predicted: Indices
    radii: Array  # certified
    result: AttackResult  # of the attacks
    minimal: MinimalPerturbation | None  # with one neighbour: what is exact

    @property
    def X(self) -> Array:
        return self.part.X_test[self.rows]

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether each prediction is right."""
        return self.predicted == self.request.codes[self.part.test[self.rows]]

    def some(self, chosen: NDArray[np.bool_]) -> Attacked:
        """The same of some of the instances."""
        own = {name: getattr(self, name)[chosen] for name in ("rows", "predicted", "radii")}
        found = {name: _part(getattr(self, name), chosen) for name in ("result", "minimal")}
        return replace(self, **own, **found)


def _part(result: Any, rows: NDArray[np.bool_]) -> Any:
    """A result for some of its instances."""
    return result and replace(result, **{field.name: getattr(result, field.name)[rows] for field in fields(result)})


def measure_robustness(attacked: Attacked, rng: np.random.Generator) -> dict[str, Any] | None:
    """Curves over the same instances, so that they bracket each other; None where no size changes anything.

    A wrong prediction counts as broken at every size.

    Returns
    -------
    curves : dict
        ``eps``; ``clean`` (a share), ``noise``, ``adversarial``, ``exact`` (or None) and ``certified``, shares at each
        ε; ``certified_over_exact`` and ``exact_over_attack``, medians of the ratios (with one neighbour), or
        ``certified_over_attack``.
    """
    right, radii, distances, minimal = attacked.right, attacked.radii, attacked.result.distances, attacked.minimal
    finite = distances[right & attacked.result.success]
    if not len(finite) or finite.max() <= 0:
        return None
    eps = np.linspace(0.0, float(np.quantile(finite, _SHOWN, method="inverted_cdf")) or float(finite.max()), N_SIZES)
    clean = float(right.mean())

    def left(broken_beyond: Array) -> list[float]:
        """Shares that are right still; at size 0 nothing has been changed, and ties break as in the classifier."""
        return [clean, *(float((right & (broken_beyond > size)).mean()) for size in eps[1:])]

    curves = {
        "instances": len(right),
        "eps": eps.tolist(),
        "clean": clean,
        "noise": _under_random_changes(attacked, eps, rng),
        "adversarial": left(distances),
        "exact": None if minimal is None else left(minimal.radii),
        "certified": [float((right & (radii >= size)).mean()) for size in eps],
    }
    if minimal is None:
        return {**curves, "certified_over_attack": _median_ratio(radii, distances)}
    return {
        **curves,
        "certified_over_exact": _median_ratio(radii, minimal.radii),
        "exact_over_attack": _median_ratio(minimal.radii, distances),
    }


def _under_random_changes(attacked: Attacked, eps: Array, rng: np.random.Generator) -> list[float]:
    """Accuracy after random changes of exactly each size, the same directions at all of them."""
    right, predict = attacked.right, attacked.classifier.predict
    X = attacked.X[right]
    directions = attacked.request.norm.sample(rng, N_DIRECTIONS * len(X), X.shape[1])
    X, labels = np.tile(X, (N_DIRECTIONS, 1)), np.tile(predict(X), N_DIRECTIONS)
    kept = [(predict(X + size * directions) == labels).mean() for size in eps]
    return [float(share * right.mean()) for share in kept]


def _median_ratio(lower: Array, upper: Array) -> float | str | None:
    """Median of ``lower / upper`` where the upper one is finite and not 0; None if it is so nowhere."""
    known = np.isfinite(upper) & (upper > 0)
    # Infinite only where a bound is broken, which a check says; the document must hold it all the same.
    return told(np.median(lower[known] / upper[known])) if known.any() else None
