"""Attack on decisions about pairs: dodging (a genuine pair is not recognised) and impersonation (an impostor is)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from certimetric.attacks.base import AttackResult, Search
from certimetric.base.arguments import require
from certimetric.base.arrays import MODEST, Array, Indices, check_size
from certimetric.certify.exact.pairs import smallest_pair_changes
from certimetric.certify.pairs import PairCertifier, checked_pairs, paired
from certimetric.certify.verifier import PairVerifier
from certimetric.constraints.tuples import check_pair_labels
from certimetric.geometry.norms import Norm
from certimetric.geometry.threat_models import BoundThreat, resolve_threat

_OVERSHOOT = (1e-9, 1e-7, 1e-5)  # of a change, so that the decision does not hang on the last digit
_REACHES = 2.0 ** np.arange(0, 24, 2)  # of the change that a linear function asks for, tried in turn
_BISECTIONS = 60
_WEIGHTS, _DESCENTS = 30, 100  # of the distance beside the change that are tried, and steps for each
_SHARES = np.linspace(1.0, 4.0, 13)  # of a change that is rounded to whole features


class PairAttack:
    """White-box attack on a :class:`certimetric.PairVerifier`: the smallest change of the probe that it can find.

    An accepted pair is *dodged*: pushed beyond the threshold. A rejected one is *impersonated*: pulled within. The
    enrolled instance stays as it is. Without bounds and whole features the change is the exact one for l2 and
    ellipsoids, and nearly that for l∞ and l1 (see :func:`certimetric.certify.minimal_pair_changes`). With them the
    boundary is followed: the nearest allowed point of its tangent plane, drawn back to it, over and over; whole and
    one-hot features are rounded, fixed, and the others adapted, and what need not change is taken back.

    Parameters
    ----------
    steps : int, default=30
        Tangent planes for each start.
    restarts : int, default=4
        Random directions to start from, beside those along the gradient and to the enrolled instance.
    random_state : int, default=0

    Examples
    --------
    >>> from certimetric import MahalanobisMetric, PairVerifier
    >>> verifier = PairVerifier(MahalanobisMetric.from_matrix(np.eye(2)), threshold=1.0).fit()
    >>> result = PairAttack()(verifier, [[[0.5, 0.0], [0.0, 0.0]], [[3.0, 0.0], [0.0, 0.0]]])
    >>> result.success, result.distances.round(6), result.labels
    (array([ True,  True]), array([0.5, 2. ]), array([-1,  1]))
    """

    def __init__(self, steps: int = 30, restarts: int = 4, random_state: int = 0):
        require(steps >= 0, "steps", "must be at least 0", steps, self)
        require(restarts >= 0, "restarts", "must be at least 0", restarts, self)
        self.steps, self.restarts, self.random_state = steps, restarts, random_state

    def __call__(
        self, verifier: PairVerifier, pairs: Any, y: ArrayLike | None = None, threat: Any = "l2"
    ) -> AttackResult:
        """Look for the smallest change of each probe that changes the decision.

        Parameters
        ----------
        verifier : PairVerifier
            Fitted.
        pairs : pairs
            As the verifier takes them; the first instance of each moves.
        y : array-like of shape (m,), optional
            +1 (genuine) or −1 (impostor): a pair that is decided wrong already counts as attacked at distance 0, so
            that genuine pairs are dodged and impostors impersonated. Without them the aim is to change the decision.
        threat : ThreatModel, norm or str, default="l2"

        Returns
        -------
        result : AttackResult
            ``adversarial`` are probes, shape (m, d); ``labels`` decisions.

        Raises
        ------
        TypeError
            If it is no verifier.
        ValueError
            If the features do not match, or a probe is outside of what the threat model allows.
        """
        if not isinstance(verifier, PairVerifier):
            raise TypeError(f"verifier must be a PairVerifier, got {type(verifier).__name__}")
        check_is_fitted(verifier, "metric_")
        metric = verifier.metric_
        checked, _ = checked_pairs(metric, pairs)
        probes = check_size(checked.points[checked.index[:, 0]], "probes", limit=MODEST)
        bound = resolve_threat(threat).bind(probes.shape[1], metric.feature_names)
        bound.check_instances(probes)
        labels = None if y is None else check_pair_labels(y, len(checked))
        enrolled = checked.points[checked.index[:, 1]]
        search = PairSearch(PairCertifier(metric), float(verifier.threshold_), probes, enrolled, labels, bound)
        self.propose(search)
        return search.result()

    def propose(self, search: PairSearch) -> None:
        """Offer changed probes to ``search``."""
        threat, rows = search.threat, search.open
        if not len(rows):
            return
        self._exactly(search, rows, search.X[rows], threat.mutable)
        if threat.discrete or threat.boxed:
            if threat.norm.name == "l2" and threat.norm.n_features is None:
                self._into_box(search, rows[~search.accepted[rows]])
            for points in self._starts(search, rows):
                self._follow(search, rows, points)
        if threat.discrete:
            self._whole(search, rows)
            self._take_back(search, search.open)

    def _exactly(self, search: PairSearch, rows: Indices, starts: Array, mutable: NDArray[np.bool_]) -> None:
        """Offer the smallest changes of ``starts`` (c, d) in the mutable features, bounds or none."""
        norm = search.threat.norm.restrict(mutable)
        pairs = paired(starts, search.enrolled[rows])
        found = smallest_pair_changes(search.certifier, pairs, search.threshold, norm)
        change = found.witnesses - starts
        search.offer(rows, found.witnesses)
        for overshoot in _OVERSHOOT:
            search.offer(rows, starts + change * (1.0 + overshoot))

    def _starts(self, search: PairSearch, rows: Indices) -> list[Array]:
        """Adversarial points, as far as there are any along some ways; NaN in the rows of others."""
        threat, rng = search.threat, np.random.default_rng(self.random_state)
        X, enrolled = search.X[rows], search.enrolled[rows]
        away = np.where(search.accepted[rows], 1.0, -1.0)[:, None]
        gradient = search.gradient(X - enrolled) * away * threat.mutable
        norm = threat.norm
        size = np.abs(search.distances_of(rows, X) - search.threshold)[:, None]
        unit = size / np.maximum(norm.dual_norm(gradient), 1e-300)[:, None]
        unit *= np.maximum(search.distances_of(rows, X), search.threshold)[:, None]
        ways: list[Callable[[float], Array]] = [lambda reach: X + reach * unit * norm.dual_vector(gradient)]
        ways.append(lambda reach: X + reach * unit * np.sign(gradient))
        ways.append(lambda reach: X + min(reach, 1.0) * (enrolled - X))
        for _ in range(self.restarts):
            direction = norm.sample(rng, len(rows), X.shape[1])
            direction *= np.where((direction * gradient).sum(axis=1, keepdims=True) < 0, -1.0, 1.0)
            ways.append(partial(_along, X, unit * direction))
        found = []
        for way in ways:
            points = np.full_like(X, np.nan)
            for reach in _REACHES:
                left = np.flatnonzero(np.isnan(points).any(axis=1))
                if not len(left):
                    break
                tried = search.repair(rows, search.within(way(float(reach)), MODEST))
                hit = left[search.is_adversarial(rows[left], tried[left])]
                points[hit] = tried[hit]
            found.append(points)
        return found

    def _into_box(self, search: PairSearch, rows: Indices) -> None:
        """Impersonation in l2 within bounds is a convex program: its Lagrangian, by projected gradients, for a weight
        of the distance that is bisected."""
        if not len(rows):
            return
        X, threat, maps = search.X[rows], search.threat, search.certifier.maps
        low, high = (np.where(threat.mutable, limit - X, 0.0) for limit in threat.limits(X))
        steepest = float(np.linalg.norm(maps.metric.components, 2)) ** 2
        difference, change = X - search.enrolled[rows], np.zeros_like(X)

        def nearest(weight: Array, change: Array) -> Array:
            step, before = 1.0 / (1.0 + weight * steepest), change
            for k in range(_DESCENTS):
                ahead = change + k / (k + 3.0) * (change - before)  # Nesterov's
                slope = ahead + weight[:, None] * search.gradient(difference + ahead)
                before, change = change, np.clip(ahead - step[:, None] * slope, low, high)
            return change

        least, most = np.full(len(rows), 1e-6 / steepest), np.full(len(rows), 1e6 / steepest)
        best = nearest(most, change)
        for _ in range(_WEIGHTS):
            middle = np.sqrt(least * most)
            change = nearest(middle, change)
            reached = search.is_adversarial(rows, X + change)
            best = np.where(reached[:, None], change, best)
            most, least = np.where(reached, middle, most), np.where(reached, least, middle)
        hit = search.is_adversarial(rows, X + best)
        search.draw_back(rows[hit], X[hit] + best[hit])

    def _follow(self, search: PairSearch, rows: Indices, points: Array) -> None:
        """Follow the boundary from adversarial points towards the instances."""
        hit = ~np.isnan(points).any(axis=1)
        rows, points = rows[hit], points[hit]
        if not len(rows):
            return
        points = search.draw_back(rows, points)
        for _ in range(self.steps):
            planes = search.gradient(points - search.enrolled[rows])
            planes *= np.where(search.accepted[rows], 1.0, -1.0)[:, None] * search.threat.mutable
            levels = (planes * (points - search.X[rows])).sum(axis=1)
            aims = search.X[rows] + nearest_of_plane(search.threat, search.X[rows], planes, levels)
            aims = search.repair(rows, aims)
            # Outwards the plane lies beyond the boundary; inwards before it: then the way back to the last point leads.
            there = search.is_adversarial(rows, aims)
            further = search.draw_back(rows[there], aims[there])
            back = search.draw_back(rows[~there], points[~there], aims[~there])
            points = points.copy()
            points[there], points[~there] = further, back

    def _whole(self, search: PairSearch, rows: Indices) -> None:
        """With whole features as rounding has them, adapt the others."""
        threat = search.threat
        whole = threat.whole
        best = np.where(np.isfinite(search.distances[rows])[:, None], search.adversarial[rows], search.X[rows])
        tried = [search.X[rows] + share * (best - search.X[rows]) for share in _SHARES]
        for group in threat.one_hot:  # each of its values
            for member in group[threat.mutable[group]]:
                tried.append(search.X[rows].copy())
                tried[-1][:, group], tried[-1][:, member] = 0.0, 1.0
        for changed in tried:
            points = search.repair(rows, search.within(changed, MODEST))
            search.offer(rows, points)
            if (threat.mutable & ~whole).any():
                starts = np.where(whole, points, search.X[rows])
                flips = search.is_adversarial(rows, starts)
                search.offer(rows[flips], starts[flips])
                left = ~flips
                if left.any():
                    self._exactly(search, rows[left], starts[left], threat.mutable & ~whole)

    def _take_back(self, search: PairSearch, rows: Indices) -> None:
        """Undo, one after the other, changes that are not needed, the smallest first."""
        rows = rows[np.isfinite(search.distances[rows])]
        if not len(rows):
            return
        points, X = search.adversarial[rows].copy(), search.X[rows]
        order = np.argsort(np.abs(points - X), axis=1, kind="stable")
        for rank in range(X.shape[1]):
            tried = points.copy()
            here = np.arange(len(rows)), order[:, rank]
            tried[here] = X[here]
            for group in search.threat.one_hot:  # a group goes back as one
                of_group = np.isin(order[:, rank], group)
                tried[np.ix_(of_group, group)] = X[np.ix_(of_group, group)]
            good = search.is_adversarial(rows, search.repair(rows, tried))
            points[good] = tried[good]
        search.offer(rows, points)


class PairSearch(Search):
    """The search for changed probes: each is held against the enrolled instance of its own pair.

    Parameters
    ----------
    certifier : PairCertifier
    threshold : float
    X, enrolled : array of shape (m, d)
        The two sides.
    y : int array of shape (m,) or None
        ±1.
    threat : BoundThreat

    Attributes
    ----------
    accepted : bool array of shape (m,)
        Decisions about the pairs as they are.
    """

    def __init__(
        self,
        certifier: PairCertifier,
        threshold: float,
        X: Array,
        enrolled: Array,
        y: ArrayLike | None,
        threat: BoundThreat,
    ):
        self.certifier, self.threshold, self.enrolled = certifier, threshold, enrolled
        super().__init__(None, X, y, threat)
        self.accepted = np.asarray(self.labels == 1)

    def distances_of(self, rows: Indices, points: Array) -> Array:
        """Distances of points from the enrolled instances of rows."""
        return self.certifier.distances(paired(points, self.enrolled[rows]))

    def decide(self, rows: Indices, points: Array) -> NDArray[Any]:
        return np.where(self.distances_of(rows, points) <= self.threshold, 1, -1)

    def gradient(self, differences: Array) -> Array:
        """Half the gradient of the squared distance, up to a factor: ``Mw``."""
        metric = self.certifier.maps.metric
        return np.asarray(metric.transform(differences) @ metric.components)


def _along(X: Array, direction: Array, reach: float) -> Array:
    return X + reach * direction


def nearest_of_plane(threat: BoundThreat, X: Array, planes: Array, levels: Array) -> Array:
    """Small changes δ (c, d) of instances X within the bounds with ``planesᵀδ ≥ levels``, as far as there are any.

    Of l2, l∞ and l1 the smallest, but for integer features; of other norms clipped multiples of their steepest change.
    """
    low, high = (limit - X for limit in threat.limits(X))

    def clipped(change: Array) -> Array:
        return np.clip(change, low, high)

    norm: Norm = threat.norm
    if norm.name == "l1":
        return _poured(planes, np.where(planes > 0, high, -low), levels)
    direction = planes if norm.name == "l2" else norm.dual_vector(planes)
    unit = np.abs(levels) / np.maximum((planes * direction).sum(axis=1), 1e-300)
    below, above = np.zeros(len(X)), unit.copy()
    for _ in range(64):
        short = (planes * clipped(above[:, None] * direction)).sum(axis=1) < levels
        if not short.any():
            break
        above = np.where(short, above * 2.0, above)
    for _ in range(_BISECTIONS):
        middle = (below + above) / 2.0
        enough = (planes * clipped(middle[:, None] * direction)).sum(axis=1) >= levels
        above, below = np.where(enough, middle, above), np.where(enough, below, middle)
    return clipped(above[:, None] * direction)


def _poured(planes: Array, room: Array, levels: Array) -> Array:
    """The least sum of changes that reaches a level: the steepest features first, as far as there is room."""
    steep = np.abs(planes)
    order = np.argsort(-steep, axis=1, kind="stable")
    slope, most = np.take_along_axis(steep, order, 1), np.take_along_axis(np.maximum(room, 0.0), order, 1)
    with np.errstate(invalid="ignore"):
        gain = np.where(slope > 0, slope * most, 0.0)
    before = np.concatenate([np.zeros((len(gain), 1)), np.cumsum(gain, axis=1)[:, :-1]], axis=1)
    with np.errstate(invalid="ignore"):
        left = np.where(np.isfinite(before), np.maximum(levels[:, None] - before, 0.0), 0.0)
    amounts = np.where(slope > 0, np.minimum(left / np.where(slope > 0, slope, 1.0), most), 0.0)
    changes = np.empty_like(planes)
    np.put_along_axis(changes, order, amounts, 1)
    return changes * np.sign(planes)
