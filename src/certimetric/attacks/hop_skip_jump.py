"""Decision-based attack: it asks for predictions and nothing else, and so works for every classifier."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval, validate_parameter_constraints
from sklearn.utils.validation import check_array

from certimetric.attacks.base import Attack, Search
from certimetric.geometry.neighbors import DEFAULT_MEMORY, chunk_slices
from certimetric.geometry.norms import L2, Norm

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

_HALVINGS = 12  # of a step that leaves the adversarial region
_BISECTIONS = 12  # on the way back along which features return one after another
_START_ROUNDS = 8  # of random starts, each from a larger box
_START_TRIES = 16  # random starts of a round


class HopSkipJump(Attack):
    """Black-box attack that walks along the decision boundary, using only ``predict``.

    From a start with another prediction it bisects to the boundary, estimates the normal there from predictions at
    random points around (with their mean as baseline, which lowers the variance), steps along the direction that is the
    steepest for this normal in the norm of the threat model, halves the step until the point is adversarial, and
    bisects again.

    Parameters
    ----------
    n_iterations : int, default=30
        Steps along the boundary.
    n_queries : int, default=100
        Predictions for the first estimate of a normal; the t-th one takes ``n_queries·√t``.
    restarts : int, default=1
        Starts tried for each instance: the nearest instances with another prediction, then random points.
    starts : array-like of shape (p, d), default=None
        Points to start from, besides the other instances of the batch: training instances, for example.
    random_state : int, default=0
        Seed.

    References
    ----------
    Chen, Jordan and Wainwright, HopSkipJumpAttack, arXiv 1904.02144; the boundary attack of Brendel et al., arXiv
    1712.04248.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.ensemble import RandomForestClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> forest = RandomForestClassifier(10, random_state=0).fit(X, y)
    >>> HopSkipJump(n_iterations=3)(forest, X[::25]).success.all()
    np.True_
    """

    _parameter_constraints = {
        "n_iterations": [Interval(Integral, 0, None, closed="left")],
        "n_queries": [Interval(Integral, 2, None, closed="left")],
        "restarts": [Interval(Integral, 1, None, closed="left")],
        "starts": ["array-like", None],
        "random_state": [Interval(Integral, 0, None, closed="left")],
    }

    def __init__(
        self,
        n_iterations: int = 30,
        n_queries: int = 100,
        restarts: int = 1,
        starts: Any = None,
        random_state: int = 0,
    ):
        self.n_iterations = n_iterations
        self.n_queries = n_queries
        self.restarts = restarts
        self.starts = starts
        self.random_state = random_state
        validate_parameter_constraints(self._parameter_constraints, vars(self), type(self).__name__)

    def _attack(self, search: Search) -> None:
        near = self._near_starts(search)
        for restart in range(self.restarts):
            # All instances see the same random numbers, whichever of them are still attacked: so what one meets
            # depends neither on the budget nor on the number of iterations.
            rng = np.random.default_rng([self.random_state, restart])
            rows = self._open(search)
            points = near[rows, restart]
            missing = np.isnan(points[:, 0])
            points[missing] = _random_starts(search, rows[missing], rng)
            started = ~np.isnan(points[:, 0])
            self._walk(search, rows[started], points[started], rng)

    def _open(self, search: Search) -> Indices:
        return np.flatnonzero(search.distances > (0.0 if search.threat.eps is None else search.threat.eps))

    def _near_starts(self, search: Search) -> Array:
        """The nearest known points with another prediction, (m, restarts, d), padded with NaN."""
        pool, labels = search.X, search.labels
        if self.starts is not None:
            starts = check_array(self.starts, dtype=np.float64, input_name="starts")
            if starts.shape[1] != pool.shape[1]:
                raise ValueError(f"starts must have {pool.shape[1]} features like X, got {starts.shape[1]}")
            pool, labels = np.vstack([starts, pool]), np.concatenate([search.predict(starts), labels])
        nearest = np.full((len(search.X), self.restarts, pool.shape[1]), np.nan)
        n_tried = min(2 * self.restarts + 2, len(pool))
        for part in chunk_slices(len(search.X), 16.0 * pool.size, DEFAULT_MEMORY):
            rows = np.arange(len(search.X))[part]
            sizes = search.threat.size(pool - search.X[rows][:, None])
            sizes[labels == search.goal[rows][:, None]] = np.inf
            tried = np.argsort(sizes, axis=1, kind="stable")[:, :n_tried]
            points = _repaired(search, rows, pool[tried])
            # What cannot be changed may take the other prediction away.
            usable = _flips(search, rows, points) & np.isfinite(np.take_along_axis(sizes, tried, axis=1))
            order = np.argsort(~usable, axis=1, kind="stable")[:, : self.restarts]
            chosen = np.take_along_axis(points, order[..., None], axis=1)
            chosen[~np.take_along_axis(usable, order, axis=1)] = np.nan
            nearest[rows, : chosen.shape[1]] = chosen
        return nearest

    def _walk(self, search: Search, rows: Indices, points: Array, rng: np.random.Generator) -> None:
        """Walk along the boundary from adversarial points, offering every point that is reached."""
        threat = search.threat
        # Where the norm is Euclidean in some coordinates, normals are estimated in these and are steps themselves.
        ball: Norm = threat.norm if threat.norm.dual_order == 2 else L2()
        points = _to_boundary(search, rows, points)
        for iteration in range(1, self.n_iterations + 1):
            left = np.isin(rows, self._open(search))
            rows, points = rows[left], points[left]
            if not len(rows):
                return
            directions = ball.sample(rng, int(self.n_queries * np.sqrt(iteration)), search.X.shape[1])
            directions[:, ~threat.mutable] = 0.0
            directions /= np.maximum(ball.norm(directions), np.finfo(float).tiny)[:, None]
            normals = _normals(search, rows, points, directions, ball)
            steps = [normals / np.maximum(ball.norm(normals), np.finfo(float).tiny)[:, None]]
            if ball is not threat.norm:
                steps.append(threat.norm.dual_vector(normals))
            size = threat.size(points - search.X[rows])
            for step in steps:
                length = size / np.sqrt(iteration) / np.maximum(threat.size(step), np.finfo(float).tiny)
                moved = _to_boundary(search, rows, _advance(search, rows, points, step * length[:, None]))
                nearer = threat.size(moved - search.X[rows]) < threat.size(points - search.X[rows])
                points = np.where(nearer[:, None], moved, points)


def _flips(search: Search, rows: Indices, points: Array) -> NDArray[np.bool_]:
    """Whether points, (c, s, d), leave the labels of their instances, (c, s)."""
    c, s, d = points.shape
    return search.is_adversarial(np.repeat(rows, s), points.reshape(-1, d)).reshape(c, s)


def _repaired(search: Search, rows: Indices, points: Array) -> Array:
    """What the threat model makes of points, (c, s, d) to (c, s, d)."""
    c, s, d = points.shape
    X = np.repeat(search.X[rows], s, axis=0)
    return search.threat.repair(X, points.reshape(-1, d)).reshape(c, s, d)


def _random_starts(search: Search, rows: Indices, rng: np.random.Generator) -> Array:
    """Adversarial points from boxes around the instances that grow, (c, d); NaN where there was none."""
    low, high = search.X.min(axis=0), search.X.max(axis=0)
    reach = np.where(high > low, high - low, np.maximum(np.abs(high), 1.0))
    starts = np.full((len(rows), len(low)), np.nan)
    for round_ in range(_START_ROUNDS):
        margin = reach * (2.0**round_ - 1) / 2
        # A bound replaces the end of the box, so that a bounded feature is searched all through.
        box = [
            np.where(np.isfinite(bound), bound, end)
            for bound, end in ((search.threat.low, low - margin), (search.threat.high, high + margin))
        ]
        points = rng.uniform(*box, (_START_TRIES, len(low)))
        open_ = np.flatnonzero(np.isnan(starts[:, 0]))
        for part in chunk_slices(len(open_), 16.0 * points.size, DEFAULT_MEMORY):
            some = open_[part]
            tried = _repaired(search, rows[some], np.broadcast_to(points, (len(some), *points.shape)))
            sizes = search.threat.size(tried - search.X[rows[some]][:, None])
            sizes[~_flips(search, rows[some], tried)] = np.inf
            best = sizes.argmin(axis=1)
            found = np.isfinite(sizes.min(axis=1))
            starts[some[found]] = tried[found, best[found]]
    return starts


def _normals(search: Search, rows: Indices, points: Array, directions: Array, ball: Norm) -> Array:
    """Monte-Carlo estimates of the normals of the boundary at points, (c, d), from predictions around them."""
    threat, (n, d) = search.threat, directions.shape
    radius = np.maximum(ball.norm(points - search.X[rows]) / threat.mutable.sum(), np.finfo(float).tiny)
    scale = np.repeat(radius[:, None], d, axis=1)
    separate = threat.integer.copy()
    separate[np.concatenate([*threat.one_hot, []]).astype(np.int64)] = True
    # A feature of separate values answers to changes of about 1 and more only.
    scale[:, separate] = np.maximum(scale[:, separate], np.sqrt(d))
    normals = np.empty_like(points)
    for part in chunk_slices(len(rows), 24.0 * n * d, DEFAULT_MEMORY):
        around = points[part, None] + scale[part, None] * directions
        votes = np.where(_flips(search, rows[part], _repaired(search, rows[part], around)), 1.0, -1.0)
        mean = votes.mean(axis=1, keepdims=True)
        normals[part] = (votes - np.where(np.abs(mean) < 1, mean, 0.0)) @ directions
    return normals


def _advance(search: Search, rows: Indices, points: Array, steps: Array) -> Array:
    """Add steps to adversarial points, halved until they stay adversarial."""
    reached, open_ = points.copy(), np.arange(len(rows))
    for halving in range(_HALVINGS):
        tried = search.threat.repair(search.X[rows[open_]], points[open_] + steps[open_] / 2.0**halving)
        flips = search.is_adversarial(rows[open_], tried)
        reached[open_[flips]] = tried[flips]
        open_ = open_[~flips]
        if not len(open_):
            break
    return reached


def _to_boundary(search: Search, rows: Indices, points: Array) -> Array:
    """Draw adversarial points back to the boundary, and offer them."""
    X, threat = search.X[rows], search.threat
    delta = points - X
    largest = np.abs(delta).max(axis=1, keepdims=True)
    if threat.norm.dual_order != 2:
        low, high = np.zeros((len(rows), 1)), np.ones((len(rows), 1))
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            tried = threat.repair(X, X + _shrunk(delta, middle * largest, threat.norm))
            flips = search.is_adversarial(rows, tried)[:, None]
            high, low = np.where(flips, middle, high), np.where(flips, low, middle)
        points = np.where(high < 1, X + _shrunk(delta, high * largest, threat.norm), points)
    return threat.repair(X, search.draw_back(rows, points))


def _shrunk(delta: Array, size: Array, norm: Norm) -> Array:
    """Changes on the way back to nothing, with the largest entry ``size``: what costs the most is undone first.

    For l∞ the largest entries are cut, for l1 all entries lose the same, so that many become 0.
    """
    if norm.dual_order == 1:
        return np.clip(delta, -size, size)
    largest = np.abs(delta).max(axis=1, keepdims=True)
    return np.sign(delta) * np.maximum(np.abs(delta) - (largest - size), 0.0)
