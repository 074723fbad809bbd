"""What would change a prediction: the smallest change that can be made and leads to another class, or a wanted one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from joblib import effective_n_jobs
from numpy.typing import ArrayLike, NDArray
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_array, check_is_fitted

from certimetric.base.arguments import require
from certimetric.base.arrays import Array, Indices, check_size
from certimetric.base.results import finite_rows
from certimetric.base.wording import listing
from certimetric.certify.classifier import CertifiedKNeighborsClassifier
from certimetric.certify.exact.minimal import TIME_LIMIT, smallest_changes
from certimetric.certify.radius import MIB, PredictedQueries
from certimetric.certify.units import in_original_units
from certimetric.geometry.features import align, feature_names, names_of
from certimetric.geometry.threat_models import BoundThreat, resolve_threat

_TOLD = 1e-6  # share of the largest change, in what the norm counts, below which a change of a feature is not told


@dataclass(frozen=True, eq=False)
class Counterfactuals:
    """Changed instances that have another class, the smallest changes first; one entry for each, c in all.

    Parameters
    ----------
    X : array of shape (m, d)
        The queries, and what is predicted of them: ``predicted``, shape (m,).
    predicted : array of shape (m,)
    rows : int array of shape (c,)
        The query of each entry. The first entry of a query is the smallest change of all, each further one the smallest
        that does not change the features in ``kept``. A query has an entry even where nothing was found.
    points : array of shape (c, d)
        The changed query; the query itself where nothing was found.
    labels : array of shape (c,)
        What ``predict`` gives there.
    found : bool array of shape (c,)
        Whether it is the wanted class, or another one where none is wanted.
    distances : array of shape (c,)
        Size of the change in the norm that was asked for; infinite where nothing was found.
    lower : array of shape (c,)
        Proven lower bound: no smaller change that can be made leads there. Infinite where none does, whatever its size.
    proven : bool array of shape (c,)
        Whether the two meet, up to 2e-6 of the distance.
    kept : list of tuple of int
        Features that were left alone, for an entry unlike those before it.
    names : tuple of str
        Of the features; ``x0``, ``x1`` … where the data have none.
    groups : list of int arrays
        One-hot groups, whose change is told as one.
    sizes : array of shape (c, d)
        What the norm counts the change of each feature alone as.

    Examples
    --------
    >>> from certimetric import CertifiedKNeighborsClassifier
    >>> knn = CertifiedKNeighborsClassifier(1).fit([[0.0, 0.0], [4.0, 0.0]], ["no", "yes"])
    >>> found = counterfactuals(knn, [[1.0, 5.0]])
    >>> found.labels.tolist(), found.points.round(4).tolist(), found.in_words(0)
    (['yes'], [[2.0, 5.0]], 'x0 1 → 2')
    """

    X: Array
    predicted: NDArray[Any]
    rows: Indices
    points: Array
    labels: NDArray[Any]
    found: NDArray[np.bool_]
    distances: Array
    lower: Array
    proven: NDArray[np.bool_]
    kept: list[tuple[int, ...]]
    names: tuple[str, ...]
    groups: list[Indices]
    sizes: Array

    def __len__(self) -> int:
        return len(self.rows)

    def changes(self, entry: int) -> list[tuple[str, Any, Any]]:
        """What an entry changes, the most first: features with their values before and after.

        Of a one-hot group the two categories: what follows ``=`` or the last ``_`` in the names of its features.
        """
        before, after, sizes = self.X[self.rows[entry]], self.points[entry], self.sizes[entry].copy()
        told: list[tuple[float, tuple[str, Any, Any]]] = []
        least = _TOLD * sizes.max(initial=0.0)
        for group in self.groups:
            old, new = (int(group[values[group].argmax()]) for values in (before, after))
            if old != new:
                told.append((float(sizes[group].sum()), _category(self.names[old], self.names[new])))
            sizes[group] = 0.0
        for j in np.flatnonzero(sizes > least):
            told.append((float(sizes[j]), (self.names[j], float(before[j]), float(after[j]))))
        return [change for _, change in sorted(told, key=lambda each: -each[0])]

    def in_words(self, entry: int) -> str:
        """An entry as text: ``credit lines 3 → 5, income 2.1 → 2.4``."""
        if not self.found[entry]:
            return "no change that can be made" if np.isinf(self.lower[entry]) else "none found"
        parts = []
        for name, before, after in self.changes(entry):
            old, new = (before, after) if isinstance(before, str) else _apart(before, after)
            parts.append(f"{name} {old} → {new}")
        return ", ".join(parts) or "nothing: it is so already"

    def to_frame(self) -> pd.DataFrame:
        """One row an entry: query, prediction, label, distance, bound, what changes in words, what was left alone, and
        the values of the features."""
        of_query = pd.Series(self.rows).groupby(self.rows).cumcount().to_numpy() + 1
        told = {
            "query": self.rows,
            "rank": of_query,
            "predicted": self.predicted[self.rows],
            "label": self.labels,
            "found": self.found,
            "distance": self.distances,
            "lower": self.lower,
            "proven": self.proven,
            "change": [self.in_words(entry) for entry in range(len(self))],
            "kept": [", ".join(self.names[j] for j in kept) for kept in self.kept],
        }
        return pd.DataFrame(
            told | {n if n not in told else f"{n}_changed": self.points[:, j] for j, n in enumerate(self.names)}
        )

    def to_json(self) -> str:
        """The entries as JSON, a list of objects; infinite numbers are null."""
        frame = self.to_frame()
        entries = []
        for entry, told in enumerate(frame.iloc[:, :10].to_dict("records")):
            told["kept"] = [self.names[j] for j in self.kept[entry]]
            told["changes"] = [dict(zip(("feature", "before", "after"), change)) for change in self.changes(entry)]
            told["point"] = dict(zip(self.names, self.points[entry].tolist()))
            entries.append({key: v.item() if isinstance(v, np.generic) else v for key, v in told.items()})
        return json.dumps(finite_rows(entries), allow_nan=False, ensure_ascii=False)


def counterfactuals(
    classifier: CertifiedKNeighborsClassifier | Pipeline,
    X: ArrayLike,
    *,
    wanted: Any = None,
    constraints: Any = None,
    n: int = 1,
    time_limit: float = TIME_LIMIT,
    node_limit: float = np.inf,
) -> Counterfactuals:
    """The smallest change of each instance that gives it another class, or a wanted one, and that can be made.

    It is exact, with a proof: branch and bound over the sets of k neighbours that vote for the class, and over the
    values of whole features, in which every bound rests on multipliers of quadratic (l2) or linear programs (l∞, l1),
    whatever the solver did. Where the time runs out, ``lower`` and ``distances`` are a bracket. Every changed instance
    is predicted by the classifier itself before it counts, and lies a hair inside of the region of its class.

    Several for one instance are different by what they leave alone: each further one may not change the feature (or
    one-hot group) that each one before it changed most, and is the smallest such.

    Parameters
    ----------
    classifier : CertifiedKNeighborsClassifier or Pipeline
        Fitted; behind scalers in a pipeline it is asked in the units before them.
    X : array-like of shape (m, d)
        Instances, data frames by name.
    wanted : label, default=None
        The class to reach; None for any other than the predicted one. An instance that has it needs no change.
    constraints : ThreatModel, norm or str, default=None
        What can change, what a change costs, and in what norm it is measured: see
        :class:`certimetric.attacks.ThreatModel`. None is the norm of the classifier alone. l1 changes few features.
    n : int, default=1
        Changes for each instance.
    time_limit : float, default=1.0
        Seconds for each of them.
    node_limit : int, default=inf
        Nodes of the search likewise: unlike seconds, it gives the same answer on every machine.

    Returns
    -------
    result : Counterfactuals

    Raises
    ------
    ValueError
        If the wanted class is unknown, the constraints make no sense or exclude an instance as it is, or the features
        do not match.

    References
    ----------
    The question is that of Wachter et al., arXiv 1711.00399 [wachter2017counterfactual], with the actionability of
    Ustun et al., arXiv 1809.06514 [ustun2019actionable].

    Examples
    --------
    >>> from certimetric.attacks import ThreatModel
    >>> X = pd.DataFrame({"age": [30.0, 40.0, 50.0], "lines": [1.0, 5.0, 3.0]})
    >>> knn = CertifiedKNeighborsClassifier(n_neighbors=1).fit(X, ["no", "no", "yes"])
    >>> can = ThreatModel("l1", bounds=(0, None), integer=["age", "lines"], direction={"age": "increase"})
    >>> found = counterfactuals(knn, X[:1], wanted="yes", constraints=can, time_limit=60)
    >>> found.in_words(0), found.distances[0].item(), found.proven[0].item()
    ('age 30 → 45', 15.0, True)
    """
    if isinstance(classifier, Pipeline):
        classifier = in_original_units(classifier, None if constraints is None else "l2")
    check_is_fitted(classifier, "classes_")
    require(isinstance(n, int | np.integer) and n >= 1, "n", "must be a whole number of at least 1", n)
    known = names_of(classifier) or names_of(classifier.metric)
    X = align(X, known, owner="the classifier")
    names = feature_names(X) if known is None else known
    X = check_size(check_array(X, dtype=np.float64, order="C", input_name="X"))
    classifier.metric_.transform(X[:1])
    threat = resolve_threat(classifier.norm if constraints is None else constraints).bind(X.shape[1], names)
    options = {"memory": classifier.memory_mb * MIB, "n_jobs": effective_n_jobs(classifier.n_jobs)}
    queries = PredictedQueries.of(classifier.reference_, X, classifier.n_neighbors, **options)
    return changes_of(queries, classifier.classes_, threat, names, wanted, n, time_limit, node_limit)


def changes_of(
    queries: PredictedQueries,
    classes: NDArray[Any],
    threat: BoundThreat,
    names: Sequence[str] | None = None,
    wanted: Any = None,
    n: int = 1,
    time_limit: float = TIME_LIMIT,
    node_limit: float = np.inf,
) -> Counterfactuals:
    """The same for queries that were predicted (see :func:`counterfactuals`)."""
    X, d = queries.X, queries.X.shape[1]
    aims = np.full(len(X), -1)
    if wanted is not None:
        codes = np.flatnonzero(classes == wanted)
        require(len(codes) > 0, "wanted", f"must be one of the classes {listing(classes)}", wanted)
        aims[:] = codes[0]
    names = tuple(f"x{j}" for j in range(d)) if names is None else tuple(map(str, names))
    measure, strict = threat.norm, wanted is not None or threat.limited
    entries: list[_Entry] = []
    # Queries that get a further entry, and what it must not change.
    left: dict[int, tuple[int, ...]] = dict.fromkeys(range(len(X)), ())
    for _ in range(n):
        if not left:
            break
        alike: dict[tuple[int, ...], list[int]] = {}
        for row, kept in left.items():
            alike.setdefault(kept, []).append(row)
        left = {}
        for kept, together in alike.items():
            allowed = threat.keeping(np.array(kept, dtype=np.int64))
            if not allowed.mutable.any():
                continue
            rows = np.array(together)
            asked = queries.take(rows)
            limits: dict[str, Any] = {"threat": allowed, "time_limit": time_limit, "node_limit": node_limit}
            changed = smallest_changes(asked, measure, wanted=aims[rows] if strict else None, **limits)
            if not changed.verified[np.isfinite(changed.radii)].all():  # a tie is no answer to what would change it
                changed = smallest_changes(asked, measure, wanted=aims[rows], **limits)
            for place, row in enumerate(together):
                reached = bool(changed.verified[place])
                # Nothing found is proven to be so by an infinite bound alone.
                proven = bool(changed.proven[place]) and reached == bool(np.isfinite(changed.radii[place]))
                point = changed.witnesses[place] if reached else X[row]
                entries.append(_Entry(row, kept, point, reached, float(changed.lower[place]), proven))
                if (point != X[row]).any():
                    left[row] = (*kept, *_most(threat, point - X[row]))
    # Where time ran out, one that leaves more alone may be smaller than one before it.
    entries.sort(key=lambda entry: (entry.row, not entry.found, float(measure.norm(entry.point - X[entry.row]))))
    rows = np.array([entry.row for entry in entries])
    points, found = np.array([entry.point for entry in entries]), np.array([entry.found for entry in entries])
    labels = classes[queries.take(rows).at(points)]
    changes = points - X[rows]
    distances = np.where(found, measure.norm(changes), np.inf)
    return Counterfactuals(
        X,
        classes[queries.predicted],
        rows,
        points,
        labels,
        found,
        distances,
        np.minimum([entry.lower for entry in entries], distances),
        np.array([entry.proven for entry in entries]),
        [entry.kept for entry in entries],
        names,
        threat.one_hot,
        _alone(threat, changes),
    )


@dataclass(frozen=True, eq=False)
class _Entry:
    row: int
    kept: tuple[int, ...]
    point: Array
    found: bool
    lower: float
    proven: bool


def _alone(threat: BoundThreat, changes: Array) -> Array:
    """What the norm counts the change of each feature alone as, (c, d) to (c, d)."""
    sizes = np.empty_like(changes)
    for j in range(changes.shape[1]):
        alone = np.zeros_like(changes)
        alone[:, j] = changes[:, j]
        sizes[:, j] = threat.size(alone)
    return sizes


def _most(threat: BoundThreat, change: Array) -> tuple[int, ...]:
    """The feature that is changed most, with the others of its one-hot group."""
    sizes = _alone(threat, change[None])[0]
    groups = list(threat.one_hot)
    most = [*groups, *np.delete(np.arange(len(change)), np.concatenate(groups) if groups else [])[:, None]]
    return tuple(max(most, key=lambda features: float(sizes[features].sum())).tolist())


def _category(old: str, new: str) -> tuple[str, str, str]:
    """A group's name and two of its categories, from names as ``sex=f`` or ``sex_f``; whole names where they differ."""
    for mark in "=_":
        stems = [name.rpartition(mark) if mark == "_" else name.partition(mark) for name in (old, new)]
        if stems[0][0] and stems[0][:2] == stems[1][:2]:
            return stems[0][0], stems[0][2], stems[1][2]
    return "category", old, new


def _apart(before: float, after: float) -> tuple[str, str]:
    """Two numbers with as many digits as tell them apart, four at least."""
    told = "", ""
    for digits in range(4, 18):
        told = _number(before, digits), _number(after, digits)
        if told[0] != told[1]:
            break
    return told


def _number(value: float, digits: int) -> str:
    if value == round(value) and abs(value) < 1e15:
        return f"{value:.0f}"
    return f"{value:.{max(digits, len(f'{abs(value):.0f}')) if abs(value) < 1e15 else digits}g}"
