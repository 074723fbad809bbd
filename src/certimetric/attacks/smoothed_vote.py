"""Gradient attack on a smoothed vote of the nearest neighbours, for minimal changes in any norm."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral

import numpy as np
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval, validate_parameter_constraints

from certimetric.attacks.base import Attack, Search
from certimetric.attacks.boundary import to_boundary
from certimetric.attacks.predictors import nearest_neighbor_classifier
from certimetric.base.arrays import Array, Indices
from certimetric.base.chunks import DEFAULT_MEMORY, chunk_slices
from certimetric.base.threads import limited_threads
from certimetric.certify.classifier import CertifiedKNeighborsClassifier
from certimetric.certify.reference import PointSet

_GROWTH = 0.3  # first relative change of the budget; it falls to 0 over the steps, as the step length does
_LATER = 0.1  # share of the first temperature for starts elsewhere, which a higher one would forget
_FAR = 1e20  # times the largest value of the data: beyond, distances have lost all digits in which they differ
_ARRAYS = 10  # of the size of a block of distances that are alive at a time


class SmoothedVoteAttack(Attack):
    """White-box attack on a :class:`CertifiedKNeighborsClassifier` by the gradient of a smoothed vote.

    The prediction changes once the g-th nearest instance of another class comes before the q-th nearest of the
    predicted one, where g votes are a majority of k and ``q = k − g + 1``. Both squared distances are smoothed to means
    over the instances of their class with weights ``exp(−|d² − d²_(g)| / T)``, T falling geometrically, so that the
    first steps see the class and the last ones the instances at the boundary. Each step goes along the steepest
    direction of the norm and back into a budget that shrinks while the prediction is another one and grows while it is
    not; the nearest point of all is drawn back to the boundary.

    Parameters
    ----------
    steps : int, default=100
        Steps of a restart.
    restarts : int, default=5
        One for each other class, the nearest first; then again, from the nearest training instance of the class, and
        then from the next ones.
    temperatures : pair of floats, default=(1.0, 0.001)
        First and last temperature, as shares of the squared distance to the g-th nearest instance of another class.

    References
    ----------
    Minimal-norm search by a growing and shrinking budget: Rony et al., arXiv 1811.09600 [rony2018decoupling], and
    Pintor et al., arXiv 2102.12827 [pintor2021fast]. Gradient attacks on nearest neighbours through smooth weights:
    Sitawarin and Wagner, arXiv 1903.08333 [sitawarin2019robustness].

    Examples
    --------
    >>> import numpy as np
    >>> knn = CertifiedKNeighborsClassifier(n_neighbors=1).fit([[0.0], [4.0]], ["a", "b"])
    >>> result = SmoothedVoteAttack()(knn, [[1.0]])
    >>> result.success, result.distances.round(6)
    (array([ True]), array([1.]))
    """

    _parameter_constraints = {
        "steps": [Interval(Integral, 1, None, closed="left")],
        "restarts": [Interval(Integral, 1, None, closed="left")],
        "temperatures": [tuple],
    }

    def __init__(self, steps: int = 100, restarts: int = 5, temperatures: tuple[float, float] = (1.0, 0.001)):
        self.steps = steps
        self.restarts = restarts
        self.temperatures = temperatures
        validate_parameter_constraints(self._parameter_constraints, vars(self), type(self).__name__)
        if len(temperatures) != 2 or not 0 < temperatures[1] <= temperatures[0] < np.inf:
            raise ValueError(f"temperatures must be a pair first ≥ last > 0, got {temperatures!r}")

    def propose(self, search: Search) -> None:
        classifier = nearest_neighbor_classifier(search.predictor)
        if len(classifier.classes_) < 2:
            return
        reference = classifier.reference_
        n_targets = len(classifier.classes_) - 1
        reach = _FAR * max(np.abs(classifier.X_).max(), np.abs(search.X).max(initial=0.0))
        with limited_threads(search.X.shape[1]):
            for restart in range(self.restarts):
                lap, nearness = divmod(restart, n_targets)
                first, last = self.temperatures
                temperatures = np.geomspace(max(first * _LATER ** min(lap, 1), last), last, self.steps)
                rows = search.beyond_budget
                for part in chunk_slices(len(rows), _ARRAYS * 8.0 * len(reference.points), DEFAULT_MEMORY):
                    some = rows[part]
                    X, codes = search.X[some], np.searchsorted(classifier.classes_, search.goal[some])
                    vote = _SmoothedVote.towards(classifier, X, codes, nearness)
                    starts = classifier.X_[vote.nearest_targets(X, lap - 1)] if lap else X
                    found, points = self._descend(search, some, vote, starts, temperatures, reach)
                    to_boundary(search, some[found], points)

    def _descend(
        self, search: Search, rows: Indices, vote: _SmoothedVote, starts: Array, temperatures: Array, reach: float
    ) -> tuple[NDArray[np.bool_], Array]:
        """One restart: which rows, (c,), met adversarial points, and the nearest of each."""
        X, threat, norm = search.X[rows], search.threat, search.threat.norm
        low, high = threat.limits(X)
        delta = np.where(threat.mutable, search.within(starts) - X, 0.0)
        smallest, budget, nearest = np.full(len(rows), np.inf), np.zeros(len(rows)), X.copy()
        for step, temperature in enumerate(temperatures):
            points = X + delta
            flips = search.offer(rows, points)
            gap, gradient = vote.gap(points, temperature)
            # A feature at its bound cannot be pushed on: the steepest direction is sought among the others.
            stuck = ((points >= high) & (gradient > 0)) | ((points <= low) & (gradient < 0))
            gradient[stuck | ~threat.mutable] = 0.0
            slope, size = norm.dual_norm(gradient), norm.norm(delta)
            missing = np.divide(np.maximum(-gap, 0.0), slope, out=np.zeros_like(gap), where=slope > 0)
            decay = 0.5 * (1 + np.cos(np.pi * step / self.steps))
            growth = 1 + _GROWTH * decay
            nearest = np.where((flips & (size < smallest))[:, None], points, nearest)
            smallest = np.where(flips, np.minimum(smallest, size), smallest)
            # Before the first success the budget is what the linear model asks for, and a little more if that failed.
            unknown = np.where(missing > 0, size + missing, growth * size)
            known = np.where(flips, smallest * (2 - growth), np.minimum(budget * growth, smallest))
            budget = np.where(np.isfinite(smallest), known, unknown)
            delta = delta + norm.dual_vector(gradient) * (decay * budget)[:, None]
            delta[:, ~threat.mutable] = 0.0
            delta = search.within(X + delta, reach) - X
            radius = np.maximum(budget, np.finfo(float).tiny)[:, None]
            delta = norm.project(delta / radius, 1.0) * radius
        found = np.isfinite(smallest)
        return found, nearest[found]


@dataclass(frozen=True, eq=False)
class _SmoothedVote:
    """The gap between the predicted class and a target class of each query, as a smooth function of the query.

    Parameters
    ----------
    reference : PointSet
    squares : array of shape (n,)
        Squared lengths of its points.
    own, target : bool array of shape (c, n)
        Instances of the predicted and of the target class.
    own_rank, target_rank : int array of shape (c,)
        q and g: which of the nearest instances have to change places.
    scale : array of shape (c,)
        Unit of the temperature.
    """

    reference: PointSet
    squares: Array
    own: NDArray[np.bool_]
    target: NDArray[np.bool_]
    own_rank: Indices
    target_rank: Indices
    scale: Array

    @classmethod
    def towards(
        cls, classifier: CertifiedKNeighborsClassifier, X: Array, codes: Indices, nearness: int
    ) -> _SmoothedVote:
        """Aim at the class that is, counted from 0, the ``nearness``-th nearest other one of each query."""
        reference, k = classifier.reference_, classifier.n_neighbors
        squares = np.einsum("ij,ij->i", reference.points, reference.points)
        squared = _squared_distances(reference, squares, X)
        sizes = np.bincount(reference.y)
        # Distance at which each class would have the majority (or at least all of its votes).
        majority = np.empty((len(X), len(sizes)))
        for code, size in enumerate(sizes):
            rank = min(k // 2 + 1, size) - 1
            majority[:, code] = np.partition(squared[:, reference.y == code], rank, axis=1)[:, rank]
        majority[np.arange(len(X)), codes] = np.inf
        order = np.argsort(majority, axis=1, kind="stable")
        target = order[:, nearness]
        # For even k the class that sorts first wins with half of the votes.
        votes = np.where((k % 2 == 0) & (target < codes), k // 2, k // 2 + 1)
        return cls(
            reference,
            squares,
            reference.y == codes[:, None],
            reference.y == target[:, None],
            np.minimum(k - votes + 1, sizes[codes]),
            np.minimum(votes, sizes[target]),
            majority.min(axis=1),
        )

    def nearest_targets(self, X: Array, rank: int) -> Indices:
        """The training instance of the target class that is, counted from 0, the ``rank``-th nearest; the last if so
        many there are not."""
        squared = np.where(self.target, _squared_distances(self.reference, self.squares, X), np.inf)
        last = np.minimum(rank, self.target.sum(axis=1) - 1)
        return np.take_along_axis(np.argsort(squared, axis=1, kind="stable"), last[:, None], axis=1)[:, 0]

    def gap(self, X: Array, temperature: float) -> tuple[Array, Array]:
        """Smoothed squared distance to the predicted class minus that to the target, (c,), and its gradient for these
        weights, (c, d)."""
        squared = _squared_distances(self.reference, self.squares, X)
        # Where all distances are equal, or opponents coincide with the query, any temperature will do.
        unit = np.maximum(temperature * self.scale, 1e-12 * squared.max(axis=1) + np.finfo(float).tiny)
        weights = _weights(squared, self.target, self.target_rank, unit)
        weights -= _weights(squared, self.own, self.own_rank, unit)
        # The weights of a class sum to 1, so that the squares of the query cancel and the gap is linear in it.
        gradient = 2.0 * (weights @ self.reference.points) @ self.reference.metric.components
        return -np.einsum("ij,ij->i", weights, squared), gradient


def _squared_distances(reference: PointSet, squares: Array, X: Array) -> Array:
    points, _ = reference.embed(X)
    squared = points @ reference.points.T
    squared *= -2.0
    squared += np.einsum("ij,ij->i", points, points)[:, None]
    squared += squares
    return np.maximum(squared, 0.0, out=squared)


def _weights(squared: Array, members: NDArray[np.bool_], rank: Indices, unit: Array) -> Array:
    """Weights of the members of a class that fall off from the one of the given rank, (c, n); they sum to 1."""
    weights = np.where(members, squared, np.inf)
    nearest = np.partition(weights, np.unique(rank - 1), axis=1)
    weights -= np.take_along_axis(nearest, (rank - 1)[:, None], axis=1)
    np.abs(weights, out=weights)
    weights /= -unit[:, None]
    np.exp(weights, out=weights)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights
