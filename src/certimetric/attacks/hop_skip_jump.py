"""Decision-based attack: it asks for predictions and nothing else, and so works for every classifier."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils._param_validation import Interval, validate_parameter_constraints
from sklearn.utils.validation import check_array

from certimetric.attacks.base import Attack, Search, smallest_of_each
from certimetric.attacks.boundary import shorten, to_boundary
from certimetric.base.arrays import Array, Indices
from certimetric.base.chunks import DEFAULT_MEMORY, chunk_slices
from certimetric.geometry.norms import L2, Norm

_LENGTHS = 2.0 ** np.arange(2, -4, -1)  # of steps, in units of the distance over the root of the iteration
_WIDTH = 2 * len(_LENGTHS)  # steps tried at a time, at most
_START_ROUNDS = 8  # of random starts, each from a larger box
_START_TRIES = 16  # random starts of a round


class HopSkipJump(Attack):
    """Black-box attack that walks along the decision boundary, using only ``predict``.

    From a start with another prediction it bisects to the boundary, estimates the normal there from predictions at
    random points around (with their mean as baseline, which lowers the variance), takes the best of steps of several
    lengths, ever shorter ones, along the direction that is the steepest for this normal in the norm of the threat
    model, and bisects again.

    Parameters
    ----------
    n_iterations : int, default=20
        Steps along the boundary.
    n_queries : int, default=30
        Predictions for the first estimate of a normal; the t-th one takes ``n_queries·√t``.
    restarts : int, default=5
        Starts tried for each instance: the nearest instances with another prediction, then random points.
    starts : array-like of shape (p, d), default=None
        Points to start from, besides the other instances of the batch: training instances, for example.
    random_state : int, default=0
        Seed.

    References
    ----------
    Chen, Jordan and Wainwright, HopSkipJumpAttack, arXiv 1904.02144 [chen2019hopskipjump]; the boundary attack of
    Brendel et al., arXiv 1712.04248 [brendel2017decision].

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
        self, n_iterations: int = 20, n_queries: int = 30, restarts: int = 5, starts: Any = None, random_state: int = 0
    ):
        self.n_iterations = n_iterations
        self.n_queries = n_queries
        self.restarts = restarts
        self.starts = starts
        self.random_state = random_state
        validate_parameter_constraints(self._parameter_constraints, vars(self), type(self).__name__)

    def propose(self, search: Search) -> None:
        near = self._near_starts(search)
        # Bytes of an instance: its points around the boundary, or its steps, three times over.
        n_points = max(self.n_queries * np.sqrt(self.n_iterations), _WIDTH)
        for restart in range(self.restarts):
            rows = search.beyond_budget
            for part in chunk_slices(len(rows), 24.0 * n_points * search.X.shape[1], DEFAULT_MEMORY):
                # All instances see the same random numbers, whichever of them are still attacked: so what one meets
                # depends neither on the budget nor on the number of iterations.
                some, seed = rows[part], [self.random_state, restart]
                points = near[some, restart]
                missing = np.isnan(points[:, 0])
                points[missing] = _random_starts(search, some[missing], np.random.default_rng([*seed, 0]))
                started = ~np.isnan(points[:, 0])
                self._walk(search, some[started], points[started], np.random.default_rng([*seed, 1]))

    def _near_starts(self, search: Search) -> Array:
        """The nearest known points with another prediction, (m, restarts, d), padded with NaN."""
        pool = search.X
        if self.starts is not None:
            starts = check_array(self.starts, dtype=np.float64, input_name="starts")
            if starts.shape[1] != pool.shape[1]:
                raise ValueError(f"starts must have {pool.shape[1]} features like X, got {starts.shape[1]}")
            pool = np.vstack([starts, pool])
        labels = search.predict(pool)
        nearest = np.full((len(search.X), self.restarts, pool.shape[1]), np.nan)
        n_tried = min(2 * self.restarts + 2, len(pool))
        for part in chunk_slices(len(search.X), 16.0 * pool.size, DEFAULT_MEMORY):
            rows = np.arange(len(search.X))[part]
            sizes = search.threat.size(pool - search.X[rows][:, None])
            sizes[labels == search.goal[rows][:, None]] = np.inf
            tried = np.argsort(sizes, axis=1, kind="stable")[:, :n_tried]
            points = search.repair(rows, pool[tried])
            # What cannot be changed may take the other prediction away.
            usable = search.is_adversarial(rows, points) & np.isfinite(np.take_along_axis(sizes, tried, axis=1))
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
        points = to_boundary(search, rows, points)
        for iteration in range(1, self.n_iterations + 1):
            left = np.isin(rows, search.beyond_budget)
            rows, points = rows[left], points[left]
            if not len(rows):
                return
            directions = ball.sample(rng, int(self.n_queries * np.sqrt(iteration)), search.X.shape[1])
            directions[:, ~threat.mutable] = 0.0
            directions /= np.maximum(ball.norm(directions), np.finfo(float).tiny)[:, None]
            normals = _normals(search, rows, points, directions, ball)
            moved = _step(search, rows, points, normals, np.sqrt(iteration))
            nearer = threat.size(moved - search.X[rows]) < threat.size(points - search.X[rows])
            points = np.where(nearer[:, None], moved, points)


def _random_starts(search: Search, rows: Indices, rng: np.random.Generator) -> Array:
    """Adversarial points from boxes around the instances that grow, (c, d); NaN where there was none."""
    low, high = search.X.min(axis=0), search.X.max(axis=0)
    # What does not vary, as in a batch of one, is searched as far as the instances lie from 0: no size is absolute.
    reach = np.where(high > low, high - low, np.abs(search.X).max() or 1.0)
    starts = np.full((len(rows), len(low)), np.nan)
    for round_ in range(_START_ROUNDS):
        open_ = np.flatnonzero(np.isnan(starts[:, 0]))
        if not len(open_):
            break
        margin = reach * (2.0**round_ - 1) / 2
        # A bound replaces the end of the box, so that a bounded feature is searched all through.
        lowest = np.where(np.isfinite(search.threat.low), search.threat.low, low - margin)
        highest = np.where(np.isfinite(search.threat.high), search.threat.high, high + margin)
        points = rng.uniform(lowest, highest, (_START_TRIES, len(low)))
        for part in chunk_slices(len(open_), 16.0 * points.size, DEFAULT_MEMORY):
            some = open_[part]
            tried = search.repair(rows[some], np.broadcast_to(points, (len(some), *points.shape)))
            sizes = search.threat.size(tried - search.X[rows[some]][:, None])
            sizes[~search.is_adversarial(rows[some], tried)] = np.inf
            best = sizes.argmin(axis=1)
            found = np.isfinite(sizes.min(axis=1))
            starts[some[found]] = tried[found, best[found]]
    return starts


def _normals(search: Search, rows: Indices, points: Array, directions: Array, ball: Norm) -> Array:
    """Monte-Carlo estimates of the normals of the boundary at points, (c, d), from predictions around them."""
    threat, d = search.threat, directions.shape[1]
    radius = ball.norm(points - search.X[rows]) / (2 * np.sqrt(threat.mutable.sum()))
    scale = np.repeat(radius[:, None], d, axis=1)
    # A feature of separate values answers to changes of about 1 and more only.
    scale[:, threat.whole] = np.maximum(scale[:, threat.whole], np.sqrt(d))
    around = search.repair(rows, points[:, None] + scale[:, None] * directions)
    votes = np.where(search.is_adversarial(rows, around), 1.0, -1.0)
    mean = votes.mean(axis=1, keepdims=True)
    return np.asarray((votes - np.where(np.abs(mean) < 1, mean, 0.0)) @ directions)


def _step(search: Search, rows: Indices, points: Array, normals: Array, decay: float) -> Array:
    """The best of steps of several lengths from points of the boundary, back at the boundary; (c, d) to (c, d)."""
    X, norm, (c, d) = search.X[rows], search.threat.norm, points.shape
    directions = [normals]
    if norm.dual_order != 2:
        directions.append(norm.dual_vector(normals))
    units = np.stack([v / np.maximum(norm.norm(v), np.finfo(float).tiny)[:, None] for v in directions], axis=1)
    lengths = norm.norm(points - X)[:, None] / decay * _LENGTHS
    steps = units[:, :, None] * lengths[:, None, :, None]
    tried = search.repair(rows, (points[:, None, None] + steps).reshape(c, -1, d))
    which, step = np.nonzero(search.is_adversarial(rows, tried))
    moved = shorten(search, rows[which], tried[which, step])
    best = smallest_of_each(which, norm.norm(moved - X[which]))
    ends = points.copy()
    ends[which[best]] = to_boundary(search, rows[which[best]], moved[best])
    return ends
