"""Rules of nearest neighbours: all rows of a training set, fewer of them, or learned prototypes, chosen on it alone."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.model_selection import StratifiedKFold

from certimetric.auditing.tables.summary import certified_accuracy
from certimetric.base.arrays import Array, Indices
from certimetric.certify import (
    CertifiedKNeighborsClassifier,
    adversarial_pruning,
    certified_radius,
    condensed_neighbors,
    edited_neighbors,
)
from certimetric.learners.specs import make_learner
from certimetric.runs.splits import Preparation

WRONG = -1.0  # radius of an instance that is predicted wrongly
_MOST_PROTOTYPES = 64


@dataclass(frozen=True)
class Choice:
    """One way to make a rule of a training set: a family, with numbers that are chosen by cross-validation.

    ``radius`` and ``scale`` are in units of half the Euclidean median radius.
    """

    family: str
    n_neighbors: int = 1
    radius: float = 0.0
    n_prototypes: int = 0
    scale: float = 0.0


_RADII = (0.5, 1.0, 2.0, 4.0)
CHOICES = (
    *(Choice("all", n_neighbors=k) for k in (1, 3, 11)),
    *(Choice("pruned", radius=radius) for radius in _RADII),
    *(Choice("edited", n_neighbors=k) for k in (3, 11)),
    *(Choice("condensed", radius=radius) for radius in _RADII),
)
_SIZES = ((3, 3.0), (3, 1.5), (1, 3.0), (1, 1.5), (8, 3.0), (8, 1.5), (20, 1.5))
PROTOTYPES = tuple(Choice("prototypes", n_prototypes=n, scale=scale) for n, scale in _SIZES)
FAMILIES = ("all", "pruned", "edited", "condensed")


class Part:
    """A training set with a learner: every rule that is made of it, the metric fitted once."""

    def __init__(self, learner: str, X: Array, y: Indices, seed: int, unit: float | None = None):
        self.X, self.y, self.learner, self.seed = X, y, learner, seed
        self.unit = half_median_radius(X, y) if unit is None else unit
        self.metric = None if learner == "gmlvq" else self._fitted(make_learner(learner, random_state=seed)).metric_

    def _fitted(self, learner: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return learner.fit(self.X, self.y)

    def choices(self) -> Sequence[Choice]:
        """What there is to choose among; of prototypes at most a bounded number."""
        if self.metric is not None:
            return CHOICES
        n_classes = len(np.unique(self.y))
        return [
            each for each in PROTOTYPES if each.n_prototypes * n_classes <= _MOST_PROTOTYPES or each.n_prototypes == 1
        ]

    def rule(self, choice: Choice) -> CertifiedKNeighborsClassifier:
        """The nearest-neighbour rule of a choice, fitted."""
        X, y, metric = self.X, self.y, self.metric
        k = 1
        if choice.family == "prototypes":
            learner = make_learner("gmlvq", random_state=self.seed)
            learner.set_params(n_prototypes=choice.n_prototypes, scale=choice.scale * self.unit)
            metric = self._fitted(learner).metric_
            X, y = learner.prototypes_, learner.prototype_labels_
        elif choice.family == "all":
            k = min(choice.n_neighbors, len(X))
        elif choice.family == "edited":
            rows = edited_neighbors(X, y, min(choice.n_neighbors, len(X) - 1), metric=metric)
            X, y = X[rows], y[rows]
        else:
            rows = adversarial_pruning(X, y, choice.radius * self.unit, metric=metric).rows
            if choice.family == "condensed":
                rows = rows[condensed_neighbors(X[rows], y[rows], metric=metric)]
            X, y = X[rows], y[rows]
        return CertifiedKNeighborsClassifier(k, metric=metric).fit(X, y)


def half_median_radius(X: Array, y: Indices) -> float:
    """Half the median certified radius of the Euclidean 1-NN rule, of the rows that it gets right, each left out."""
    rule = CertifiedKNeighborsClassifier(1).fit(X, y)
    right = np.zeros(len(X), dtype=bool)
    right[edited_neighbors(X, y, 1)] = True
    radii = certified_radius(rule.metric_, X, y)[right]
    radii = radii[(radii > 0) & np.isfinite(radii)]
    return float(np.median(radii)) / 2.0 if len(radii) else 1.0


def radii_of_right(rule: CertifiedKNeighborsClassifier, X: Array, y: Indices) -> Array:
    """Certified radii of right predictions, and a negative number for wrong ones (of classes that were pruned, too)."""
    labels, radii = rule.predict_with_radius(X)
    return np.where(labels == y, radii, WRONG)


def choose_rules(whole: Part, X: Array, y: Indices, *, folds: int, pca: int) -> dict[str, tuple[Choice, float]]:
    """The choice of every family with the highest certified accuracy at the goal's ε, in folds of the training part.

    Scales are those of the training rows of each fold; ties go to the choice that is listed first.
    """
    scores: dict[Choice, list[float]] = {choice: [] for choice in whole.choices()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes smaller than the number of folds
        splits = list(StratifiedKFold(folds, shuffle=True, random_state=whole.seed).split(X, y))
    for train, test in splits:
        preparation = Preparation.fit(X[train], pca)
        part = Part(whole.learner, preparation(X[train]), y[train], whole.seed, whole.unit)
        for choice in scores:
            radii = radii_of_right(part.rule(choice), preparation(X[test]), y[test])
            scores[choice].append(certified_accuracy(radii, whole.unit))
    best: dict[str, tuple[Choice, float]] = {}
    for choice, values in scores.items():
        score = float(np.mean(values))
        if choice.family not in best or score > best[choice.family][1]:
            best[choice.family] = choice, score
    return best


def told_choice(choice: Choice) -> str:
    """What was chosen, in words: of each family the numbers that it has."""
    parts = {"k": choice.n_neighbors, "radius": choice.radius, "prototypes": choice.n_prototypes, "scale": choice.scale}
    shown = {
        "all": ("k",),
        "pruned": ("radius",),
        "edited": ("k",),
        "condensed": ("radius",),
        "prototypes": ("prototypes", "scale"),
    }[choice.family]
    return ", ".join(f"{name}={parts[name]:g}" for name in shown)
