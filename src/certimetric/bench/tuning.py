"""Hyper-parameters of every learner, chosen by the same procedure with the same budget on the training part alone."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import StratifiedKFold

from certimetric.base.arrays import Array, Indices
from certimetric.certify import CertifiedKNeighborsClassifier
from certimetric.learners.specs import make_learner
from certimetric.runs.splits import Preparation, class_draw

BUDGET = 6
# The first is the default: it wins ties. With the perturbation loss four are its own λ and τ, and two its base's.
_PERTURBATION = ("weight=1", "weight=0.1", "weight=0.03", "weight=1,tau=4")
CANDIDATES: dict[str, tuple[str, ...]] = {
    "aml": ("alpha=10", "alpha=1", "alpha=100", "beta=10", "beta=100", "reg=0.1"),
    "aml:confusion=ascent": (
        "alpha=1,beta=8",
        "alpha=4,beta=8",
        "alpha=0.25,beta=8",
        "alpha=1,beta=3",
        "alpha=1,beta=32",
        "alpha=1,beta=8,reg=0.1",
    ),
    "euclidean": ("",),
    "lmnn": (
        "push_weight=0.5",
        "push_weight=0.5,max_iter=20",
        "push_weight=0.1",
        "push_weight=0.9",
        "push_weight=0.1,max_iter=20",
        "push_weight=0.03",
    ),
    "scml": ("l1=1e-5", "l1=1e-4", "l1=1e-3", "l1=1e-2", "l1=3e-2", "l1=1e-1"),
    "nca": ("max_iter=50", "max_iter=5", "max_iter=10", "max_iter=20", "max_iter=30", "max_iter=100"),
    "lmnn+pl": (*_PERTURBATION, "weight=1,push_weight=0.1", "weight=0.1,push_weight=0.1"),
    "scml+pl": (*_PERTURBATION, "weight=0.1,l1=1e-2", "weight=0.03,l1=1e-2"),
    "nca+pl": (*_PERTURBATION, "weight=1,max_iter=20", "weight=0.1,max_iter=20"),
    "itml": ("gamma=1", "gamma=0.001", "gamma=0.01", "gamma=0.1", "gamma=10", "gamma=100"),
    "gmml": ("t=0.5", "t=0.1", "t=0.3", "t=0.7", "t=0.9", "t=0.5,reg=0.1"),
    "arml": (
        "",
        "loss=hinge",
        "loss=exponential",
        "margin=triplet",
        "margin=triplet,loss=hinge",
        "margin=triplet,loss=exponential",
    ),
}

# Default parameters in words, beside the tuned ones: of these learners nothing is chosen.
UNTUNED = ("gmml:t=0.5", "aml:alpha=10,beta=30")


def candidates_of(learner: str) -> list[str]:
    """The candidates of a learner, by its specification or else by its name."""
    if learner in UNTUNED:
        return [""]
    return list(CANDIDATES.get(learner) or CANDIDATES.get(learner.partition(":")[0], ("",)))


@dataclass(frozen=True)
class Choice:
    """What was chosen.

    Parameters
    ----------
    spec : str
        Specification with its options.
    errors : dict
        Cross-validated error of every candidate, by its specification; None where it failed on a fold. Empty where
        there was nothing to choose.
    """

    spec: str
    errors: dict[str, float | None]


def with_options(learner: str, options: str) -> str:
    """A specification with further options.

    Examples
    --------
    >>> with_options("lmnn+pl", "weight=4"), with_options("euclidean", "")
    ('lmnn+pl:weight=4', 'euclidean')
    """
    if not options:
        return learner
    return f"{learner},{options}" if ":" in learner else f"{learner}:{options}"


def choose(
    learner: str,
    candidates: Sequence[str],
    X: Array,
    codes: Indices,
    *,
    pca: int,
    n_neighbors: int,
    folds: int,
    limit: int,
    seed: int,
    unit_length: bool = False,
) -> Choice:
    """Choose among candidates by cross-validation; ties go to the one that is listed first.

    Parameters
    ----------
    learner : str
        Specification; options in it hold for all candidates.
    candidates : sequence of str
        Further options.
    X : array of shape (n, d)
        The training part, in original units: scales are those of the training part of each fold.
    codes : int array of shape (n,)
    pca, n_neighbors, folds : int
    limit : int
        Instances that are used, drawn class by class.
    seed : int
    unit_length : bool
        Of the preparation, as ``pca`` is.
    """
    specs = [with_options(learner, options) for options in candidates]
    if len(specs) == 1:
        return Choice(specs[0], {})
    rows = class_draw(codes, limit, np.random.default_rng([seed, 11]))
    X, codes = X[rows], codes[rows]
    errors: dict[str, float | None] = {}
    parts = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes smaller than the number of folds
        splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
        for train, test in splitter.split(X, codes):
            prepared = Preparation.fit(X[train], pca, unit_length)
            parts.append((prepared(X[train]), codes[train], prepared(X[test]), codes[test]))
        for spec in specs:
            try:
                errors[spec] = float(np.mean([_error(spec, *part, n_neighbors, seed) for part in parts]))
            except (ValueError, np.linalg.LinAlgError):
                errors[spec] = None
    usable = [spec for spec in specs if errors[spec] is not None]
    if not usable:
        raise ValueError(f"no candidate of {learner!r} could be fitted in the cross-validation")
    return Choice(min(usable, key=lambda spec: errors[spec] or 0.0), errors)


def _error(
    spec: str, X: Array, codes: Indices, X_test: Array, codes_test: Indices, n_neighbors: int, seed: int
) -> float:
    learner = make_learner(spec, random_state=seed).fit(X, codes)
    classifier = CertifiedKNeighborsClassifier(min(n_neighbors, len(X)), metric=learner).fit(X, codes)
    return float((classifier.predict(X_test) != codes_test).mean())
