"""The one shape of all attacks: called with a predictor, instances, labels and a threat model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_array

from certimetric.attacks.predictors import known_features, unchecked_predict
from certimetric.base.arrays import LARGEST, MODEST, Array, Indices, check_size
from certimetric.base.results import Framed, Told
from certimetric.constraints.labels import checked_labels, compare_labels
from certimetric.geometry.features import align, feature_names
from certimetric.geometry.threat_models import BoundThreat, resolve_threat

_BISECTIONS = 40
_BEYOND = 1e-9  # of the way to a boundary, so that a prediction does not hang on the last digit


@dataclass(frozen=True, eq=False)
class AttackResult(Told, Framed):
    """Adversarial points and how far they are: upper bounds on the robustness of each prediction.

    Parameters
    ----------
    adversarial : array of shape (m, d)
        The nearest point found at which the prediction is another one (or wrong, where labels were given); the
        query itself where none was found.
    success : bool array of shape (m,)
        Checked with ``predict``, and against the budget of the threat model.
    distances : array of shape (m,)
        Size of the change in the norm of the threat model; infinity where there was no success.
    labels : array of shape (m,)
        What is predicted at ``adversarial``.

    Examples
    --------
    >>> from certimetric import CertifiedKNeighborsClassifier
    >>> from certimetric.attacks import RegionAttack
    >>> knn = CertifiedKNeighborsClassifier(1).fit([[0.0], [4.0]], ["a", "b"])
    >>> result = RegionAttack()(knn, [[1.0], [1.5]])
    >>> result.distances.round(6).tolist(), result.labels.tolist()
    ([1.0, 0.5], ['b', 'b'])
    """

    adversarial: Array
    success: NDArray[np.bool_]
    distances: Array
    labels: NDArray[Any]

    def to_frame(self) -> pd.DataFrame:
        """One row an instance: success, distance, and the label that the attack led to."""
        return pd.DataFrame({"success": self.success, "distance": self.distances, "label": self.labels})


class Attack(ABC):
    """Base of the attacks: a subclass proposes points in :meth:`propose`, everything else is here.

    An attack is configured by its constructor and called with what it attacks.

    Examples
    --------
    >>> from certimetric import CertifiedKNeighborsClassifier
    >>> from certimetric.attacks import HopSkipJump
    >>> knn = CertifiedKNeighborsClassifier(1).fit([[0.0], [4.0]], ["a", "b"])
    >>> attack = HopSkipJump(n_iterations=3)
    >>> attack(knn, [[1.0]], threat="linf").success.tolist(), attack
    ([True], HopSkipJump(n_iterations=3, n_queries=30, restarts=5, starts=None, random_state=0))
    """

    def __call__(self, predictor: Any, X: ArrayLike, y: ArrayLike | None = None, threat: Any = "l2") -> AttackResult:
        """Look for the smallest change of each instance that changes its prediction.

        Parameters
        ----------
        predictor : fitted classifier
            Anything with ``predict``; attacks that need to look inside say so.
        X : array-like of shape (m, d)
            Instances, as the predictor takes them. A data frame is taken by its column names where the predictor knows
            them; the columns of the result are then in the order of the predictor.
        y : array-like of shape (m,), optional
            True labels: an instance that is misclassified already counts as attacked at distance 0. Without them the
            aim is to change the prediction. A label that the predictor does not know is warned of, since it is wrong
            whatever is predicted; where it knows none of them, they were meant for another.
        threat : ThreatModel, norm or str, default="l2"
            What the attacker may change and how changes are measured; a norm alone asks for the smallest change in it.

        Returns
        -------
        result : AttackResult

        Raises
        ------
        ValueError
            If the attack does not know such a predictor, the features or all labels are not those of the predictor, or
            an instance is outside of what the threat model allows.
        """
        known = known_features(predictor)
        X = align(X, known, owner="the predictor")
        names = feature_names(X) if known is None else known
        X = check_size(check_array(X, dtype=np.float64, input_name="X"), limit=MODEST)
        bound = resolve_threat(threat).bind(X.shape[1], names)
        bound.check_instances(X)
        if y is not None:
            classes = getattr(predictor, "classes_", None)
            y = checked_labels(y) if classes is None else compare_labels(classes, y, "the predictor")
        # A predictor that was fitted on names is asked by name.
        search = Search(predictor, X, y, bound, names if hasattr(predictor, "feature_names_in_") else None)
        self.propose(search)
        return search.result()

    @abstractmethod
    def propose(self, search: Search) -> None:
        """Offer adversarial points of ``search.open`` instances to ``search``."""

    def __repr__(self) -> str:
        settings = ", ".join(f"{key}={value!r}" for key, value in vars(self).items())
        return f"{type(self).__name__}({settings})"


class Search:
    """What an attack works on: the instances, and the nearest adversarial point of each found so far.

    Parameters
    ----------
    predictor : fitted classifier
    X : array of shape (m, d)
    y : array-like of shape (m,) or None
    threat : BoundThreat
    columns : sequence of str, optional
        Names of the features, for a predictor that was fitted on a DataFrame.

    Attributes
    ----------
    goal : array of shape (m,)
        The label that each instance has to leave.
    adversarial : array of shape (m, d)
    distances : array of shape (m,)
        Infinity where nothing was found yet.
    """

    def __init__(self, predictor: Any, X: Array, y: ArrayLike | None, threat: BoundThreat, columns: Any = None):
        self.predictor, self.X, self.threat, self.columns = predictor, X, threat, columns
        self._unchecked: Callable[[Array], NDArray[Any]] | None = None
        predicted = self.decide(np.arange(len(X)), X)
        self._unchecked = unchecked_predict(predictor)  # which has checked its input now
        self.goal = predicted if y is None else np.asarray(y)
        if self.goal.shape != predicted.shape:
            raise ValueError(f"y must hold one label for each of the {len(X)} instances, got shape {self.goal.shape}")
        self.adversarial = X.copy()
        self.labels = predicted.copy()
        self.distances = np.where(predicted != self.goal, 0.0, np.inf)

    @property
    def open(self) -> Indices:
        """Instances that are still predicted as they should: those to attack."""
        return np.flatnonzero(self.distances > 0)

    @property
    def beyond_budget(self) -> Indices:
        """Instances for which nothing within the budget was found yet; without a budget, all that are open."""
        return np.flatnonzero(self.distances > (self.threat.eps or 0.0))

    def within(self, points: Array, reach: float = LARGEST) -> Array:
        """Points within the bounds of the features, and not where predictors take no values: steps in nearly blind
        directions may go that far."""
        return np.clip(points, np.maximum(self.threat.low, -reach), np.minimum(self.threat.high, reach))

    def predict(self, points: Array) -> NDArray[Any]:
        """Labels of points, (c, d) to (c,)."""
        points = np.clip(points, -LARGEST, LARGEST)
        if self._unchecked is not None:
            return self._unchecked(points)
        return np.asarray(
            self.predictor.predict(points if self.columns is None else pd.DataFrame(points, columns=self.columns))
        )

    def decide(self, rows: Indices, points: Array) -> NDArray[Any]:
        """Labels of points (c, d) that stand for instances (c,): for most predictors it does not matter for which."""
        return self.predict(points)

    def is_adversarial(self, rows: Indices, points: Array) -> NDArray[np.bool_]:
        """Whether points, (c, d) or s for each instance, (c, s, d), leave the label of their instance as they are."""
        flat, of = _each(rows, points)
        return np.asarray(self.decide(of, flat) != self.goal[of]).reshape(points.shape[:-1])

    def repair(self, rows: Indices, points: Array) -> Array:
        """What the threat model makes of points, (c, d) or (c, s, d)."""
        flat, of = _each(rows, points)
        return self.threat.repair(self.X[of], flat).reshape(points.shape)

    def offer(self, rows: Indices, points: Array) -> NDArray[np.bool_]:
        """Take points into account, after repairing them to what the threat model allows; (c,) rows, (c, d) points.

        Returns
        -------
        adversarial : bool array of shape (c,)
            Which of the repaired points leave the label of their instance, whatever their size.
        """
        if not len(rows):
            return np.zeros(0, dtype=bool)
        points = np.clip(self.repair(rows, points), -LARGEST, LARGEST)
        labels = self.decide(rows, points)
        adversarial = labels != self.goal[rows]
        sizes = np.where(adversarial, self.threat.size(points - self.X[rows]), np.inf)
        best = smallest_of_each(rows, sizes)
        best = best[sizes[best] < self.distances[rows[best]]]
        self.adversarial[rows[best]] = points[best]
        self.labels[rows[best]] = labels[best]
        self.distances[rows[best]] = sizes[best]
        return adversarial

    def draw_back(self, rows: Indices, points: Array, starts: Array | None = None) -> Array:
        """Bisect from adversarial points towards their instances, and offer where the label changes; gives the ends.

        Parameters
        ----------
        rows : int array of shape (c,)
        points : array of shape (c, d)
            Adversarial.
        starts : array of shape (c, d), optional
            Where to bisect towards, if not to the instances themselves.
        """
        if not len(rows):
            return points
        origin = self.X[rows] if starts is None else starts
        direction = points - origin
        high = self.bisect(rows, lambda share: origin + share[:, None] * direction, _BISECTIONS)
        # The untouched point where bisection did not help: it is known to be adversarial, digit for digit.
        high = np.where(high < 1, np.minimum(high * (1 + _BEYOND), 1), 1)
        ends = np.where((high < 1)[:, None], origin + high[:, None] * direction, points)
        self.offer(rows, ends)
        return ends

    def bisect(self, rows: Indices, way: Callable[[Array], Array], steps: int) -> Array:
        """The least share of a way, from 0 to 1 and of shape (c,), that is known to lead to an adversarial point: its
        end is. ``way`` gives points, (c, d), which are repaired to what the threat model allows."""
        low, high = np.zeros(len(rows)), np.ones(len(rows))
        for _ in range(steps):
            middle = (low + high) / 2
            flips = self.is_adversarial(rows, self.repair(rows, way(middle)))
            high, low = np.where(flips, middle, high), np.where(flips, low, middle)
        return high

    def result(self) -> AttackResult:
        """What was found, held against the budget of the threat model."""
        success = np.isfinite(self.distances)
        if self.threat.eps is not None:
            success &= self.distances <= self.threat.eps
        return AttackResult(
            np.where(success[:, None], self.adversarial, self.X),
            success,
            np.where(success, self.distances, np.inf),
            np.where(success, self.labels, self.goal),
        )


def _each(rows: Indices, points: Array) -> tuple[Array, Indices]:
    """Points one below the other, and the row of each."""
    return points.reshape(-1, points.shape[-1]), np.repeat(rows, points.shape[1] if points.ndim == 3 else 1)


def smallest_of_each(rows: Indices, sizes: Array) -> Indices:
    """Where the smallest size of each row is, the first one of equal ones; rows in increasing order."""
    order = np.lexsort((sizes, rows))
    return np.asarray(order[np.unique(rows[order], return_index=True)[1]])
