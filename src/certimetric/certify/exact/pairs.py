"""The smallest change of a pair's probe that changes the decision: its size, a proven bound, and the changed probe."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import lsq_linear
from sklearn.linear_model import lars_path

from certimetric.base.arrays import Array
from certimetric.certify.exact.witnesses import PROVEN, MinimalPerturbation, is_proven
from certimetric.certify.pair_kernels import multiplier_rows
from certimetric.certify.pairs import PairCertifier, check_threshold, checked_pairs, paired
from certimetric.constraints.tuples import Tuples
from certimetric.geometry.norms import Norm, resolve_norm

_OVERSHOOT = (1e-8, 1e-7, 9e-7)  # of a change, tried in turn until the computed decision is another
_ROUNDS = 60  # of Newton's method on a size, and of exchanges of corners
_NEARLY_HARD = 1e-6  # distance of μ from 1 / s_max, relative to it, at which the top direction is found otherwise
_AS_LARGE = 1e-9  # relative difference of squared singular values that are taken for equal there
_FARTHEST = 1e12  # size of a change, relative to the distance, that is beyond what rounding lets one tell
_STARTS = 8  # corners from which the farthest one is looked for


def minimal_pair_changes(
    metric: Any, pairs: Any, threshold: float, *, norm: Any = "l2", n_jobs: int | None = None
) -> MinimalPerturbation:
    """Smallest change of the first instance of each pair that changes the decision at a threshold, with witnesses.

    Exact for l2 and ellipsoids, whichever features may change; for rejected pairs in l∞ and l1, by convex programs; and
    for accepted pairs in l1. For accepted pairs in l∞, where a convex function is to be made as large as possible over
    a cube, it is a bracket: ``lower`` from the certificate, ``radii`` from the best corner found.

    Parameters
    ----------
    metric, pairs, threshold, norm, n_jobs
        As in :func:`certimetric.certify.pair_radii`.

    Returns
    -------
    result : MinimalPerturbation
        Witnesses are changed probes, shape (m, d).

    Examples
    --------
    >>> from certimetric import MahalanobisMetric
    >>> metric = MahalanobisMetric.from_matrix([[4.0, 0.0], [0.0, 1.0]])
    >>> found = minimal_pair_changes(metric, [[[3.0, 1.0], [0.0, 0.0]]], threshold=2.0, norm="linf")
    >>> found.radii.round(6), found.witnesses.round(6), found.proven
    (array([2.]), array([[ 1., -0.]]), array([ True]))
    """
    pairs, value = checked_pairs(metric, pairs)
    norm, threshold = resolve_norm(norm), check_threshold(threshold)
    return smallest_pair_changes(PairCertifier(value), pairs, threshold, norm, n_jobs=n_jobs)


def smallest_pair_changes(
    certifier: PairCertifier, pairs: Tuples, threshold: float, norm: Norm, *, n_jobs: int | None = None
) -> MinimalPerturbation:
    """:func:`minimal_pair_changes` of pairs that were checked."""
    accepted, lower = certifier.certify(pairs, threshold, norm, n_jobs=n_jobs)
    probes = pairs.points[pairs.index[:, 0]]
    if not 0.0 <= threshold < np.inf:
        none = np.zeros(len(pairs), dtype=bool)
        return MinimalPerturbation(lower, probes, lower, ~none, none, np.zeros(len(pairs)))
    problem = _Differences(certifier, pairs, threshold, norm)
    if norm.dual_order == 2:
        steps = problem.separated(accepted)
    else:
        steps, directions = problem.by_rows(accepted)
        found = certifier.certify(pairs, threshold, norm, directions=directions, n_jobs=n_jobs)[1]
        lower = np.where(accepted, lower, np.maximum(lower, found))
    changes, sizes = problem.lifted(steps)
    unreached = ~np.isfinite(steps).all(axis=1)
    # A pair that lies on the boundary to its last digits has no room; the step may be as short as its own rounding.
    radii = np.where(unreached, np.inf, np.maximum(sizes, lower))
    witnesses, verified = probes.copy(), np.zeros(len(pairs), dtype=bool)
    tolerance = np.zeros(len(pairs))
    _, mutable = norm.unrestricted()
    grid = np.asarray(norm.norm(np.where(mutable, np.spacing(np.abs(probes)), 0.0)))
    rows = np.flatnonzero(~unreached)
    for overshoot in (*_OVERSHOOT, *(2.0**e for e in range(8))):
        left = rows[~verified[rows]]
        if not len(left):
            break
        if overshoot < PROVEN:
            points = probes[left] + changes[left] * (1.0 + overshoot)
        else:  # as many steps of the numbers that the features can hold
            direction = changes[left] / np.where(sizes[left] > 0, sizes[left], 1.0)[:, None]
            points = probes[left] + changes[left] + direction * (overshoot * grid[left])[:, None]
        enrolled = pairs.points[pairs.index[left, 1]]
        flipped = (certifier.distances(paired(points, enrolled)) <= threshold) != accepted[left]
        excess = np.asarray(norm.norm(points - probes[left])) - radii[left] * (1.0 + PROVEN)
        within = flipped & (excess <= 0.0 if overshoot < PROVEN else excess <= 4.0 * overshoot * grid[left])
        witnesses[left[within]], verified[left[within]] = points[within], True
        tolerance[left[within]] = np.maximum(excess[within], 0.0)
    return MinimalPerturbation(radii, witnesses, lower, is_proven(radii, lower), verified, tolerance)


class _Differences:
    """The problem of each pair in dual coordinates: the smallest η at which ``‖p + Bη‖`` is t.

    Each pair is told in units of its own, a power of two.
    """

    def __init__(self, certifier: PairCertifier, pairs: Tuples, threshold: float, norm: Norm):
        maps = certifier.maps
        self.norm, self.exponent = maps.in_range(norm)
        B = maps.dual_map(self.norm)
        self.B: Array = B.toarray() if hasattr(B, "toarray") else B
        self.lift = maps.lift_map(self.norm)
        differences = pairs.differences()
        top = np.abs(differences).max(axis=1, initial=0.0)
        t = np.ldexp(threshold, -maps.exponent)
        self.units = np.frexp(np.maximum(top, t))[1].astype(np.int64)
        self.points = maps.metric.transform(np.ldexp(differences, -self.units[:, None]))
        self.t = np.ldexp(t, -self.units)

    def lifted(self, steps: Array) -> tuple[Array, Array]:
        """Changes of the probes, shape (m, d), and their sizes, for steps η."""
        finite = np.where(np.isfinite(steps), steps, 0.0)
        changes = np.ldexp(np.asarray(finite @ self.lift), self.units[:, None])
        sizes = np.linalg.norm(finite, {1: np.inf, 2: 2, np.inf: 1}[self.norm.dual_order], axis=1)
        return changes, np.ldexp(sizes, self.units + self.exponent)

    def separated(self, accepted: NDArray[np.bool_]) -> Array:
        """Steps of the l2 problem, of all pairs at once; infinite where there is none."""
        r, p = self.B.shape
        U, values, V = np.linalg.svd(self.B, full_matrices=r > p)
        k = len(values)
        Y, s = np.ascontiguousarray(self.points @ U), np.zeros(r)
        s[:k] = values**2
        # What is nothing but rounding beside the largest is no direction to move in.
        s[s < (np.finfo(float).eps * max(r, p)) ** 2 * s[0]] = 0.0
        steps = np.full((len(Y), p), np.inf)
        if s[0] == 0.0:
            return steps
        mu = np.empty(len(Y))
        # To the centre of the ellipsoid, t = 0, it is the whole way; a little before it the multiplier is finite.
        t = np.maximum(self.t, 1e-12 * np.linalg.norm(Y, axis=1) + 1e-300)
        multiplier_rows(Y, s, s[0], t, accepted, mu)
        signed = np.where(accepted, -mu, mu)[:, None]
        v = Y / (1.0 + signed * s)
        zeta = -signed * np.sqrt(s) * v
        # The hard case, and near it, where 1 − μs has no digits: the rest of t² is gone along the top direction.
        # Any of equal values is the top one: along the part that the difference has there, or else the first.
        top = s >= s[0] * (1.0 - _AS_LARGE)
        left = np.sqrt(np.maximum(self.t**2 - (v[:, ~top] ** 2).sum(axis=1), 0.0))
        hard = accepted & (mu * s[0] > 1.0 - _NEARLY_HARD)
        own = np.linalg.norm(Y[:, top], axis=1)
        way = np.where(own[:, None] > 0, Y[:, top] / np.where(own > 0, own, 1.0)[:, None], np.eye(1, int(top.sum())))
        zeta[np.ix_(hard, top)] = ((left - own)[:, None] * way)[hard] / np.sqrt(s[0])
        reached = accepted | (np.linalg.norm(v, axis=1) <= t * (1.0 + 1e-6))
        steps[reached] = zeta[reached, :k] @ V[:k]
        return steps

    def by_rows(self, accepted: NDArray[np.bool_]) -> tuple[Array, Array]:
        """Steps of the problems in l∞ and l1, and directions that bound those of rejected pairs."""
        solve = {
            (True, 1): self._farthest_corner,
            (True, np.inf): self._along_a_feature,
            (False, 1): self._into_by_cubes,
            (False, np.inf): self._into_by_path,
        }
        steps, directions = np.empty((len(self.points), self.B.shape[1])), np.empty_like(self.points)
        for i, (point, t, within) in enumerate(zip(self.points, self.t, accepted)):
            steps[i] = solve[bool(within), self.norm.dual_order](point, float(t))
            reached = point + self.B @ np.where(np.isfinite(steps[i]), steps[i], 0.0)
            directions[i] = reached if reached.any() else point
        return steps, directions

    def _along_a_feature(self, point: Array, t: float) -> Array:
        """l1, outwards: the farthest points of a ball are corners."""
        sizes = np.array([_size_along(point, column, t, sign=0.0) for column in self.B.T])
        step = np.zeros(len(sizes))
        best = int(np.argmin(sizes))
        step[best] = sizes[best] if point @ self.B[:, best] >= 0 else -sizes[best]
        return step if np.isfinite(sizes[best]) else np.full(len(sizes), np.inf)

    def _farthest_corner(self, point: Array, t: float) -> Array:
        """l∞, outwards: corners that a linear function cannot better, from several starts; the nearest of them."""
        B = self.B
        _, _, V = np.linalg.svd(B, full_matrices=False)
        starts = [B.T @ point, *V[: _STARTS // 2], *(B.T @ point * np.abs(V[: _STARTS // 2]))]
        best, corner = np.inf, np.ones(B.shape[1])
        for start in starts:
            for towards in (np.where(start < 0, -1.0, 1.0), np.where(start < 0, 1.0, -1.0)):
                size = _size_along(point, B @ towards, t)
                for _ in range(_ROUNDS):
                    if not np.isfinite(size):
                        break
                    other = np.where(B.T @ (point + size * (B @ towards)) < 0, -1.0, 1.0)
                    smaller = _size_along(point, B @ other, t)
                    if not smaller < size:
                        break
                    size, towards = smaller, other
                if size < best:
                    best, corner = size, towards
        return best * corner

    def _into_by_cubes(self, point: Array, t: float) -> Array:
        """l∞, inwards: Newton's method on the size of a cube, whose nearest point to the centre is a least-squares
        problem in bounds; the distance is a convex function of the size, so that no step is too long."""
        B = self.B

        def nearest(size: float) -> Array:
            found = lsq_linear(B, -point, bounds=(-size, size), method="bvls", tol=1e-15)
            return np.asarray(found.x)

        return self._newton(point, t, nearest, 1)

    def _newton(self, point: Array, t: float, nearest: Callable[[float], Array], dual_order: float) -> Array:
        size, step = 0.0, np.zeros(self.B.shape[1])
        for _ in range(_ROUNDS):
            a = point + self.B @ step
            dual = float(np.linalg.norm(self.B.T @ a, dual_order))
            distance = float(np.linalg.norm(a))
            if distance <= t * (1.0 + 1e-13):
                return step
            # The plane across a: ‖a‖ − size · dual / ‖a‖ is below the distance for every larger size.
            larger = (float(a @ point) - t * distance) / dual if dual > 0.0 else np.inf
            if not larger * float(np.linalg.norm(self.B)) < _FARTHEST * float(np.linalg.norm(point)):
                return np.full(len(step), np.inf)
            if not larger > size * (1.0 + 1e-15):
                return step
            size = larger
            step = nearest(size)
        return step

    def _into_by_path(self, point: Array, t: float) -> Array:
        """l1, inwards: the path of the lasso as its weight falls, each piece a straight line; where it comes to t."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            path = lars_path(self.B, -point, method="lasso", alpha_min=0.0)[2].T
        before = path[0]
        for after in path[1:]:
            start, move = point + self.B @ before, self.B @ (after - before)
            if np.linalg.norm(start + move) <= t:
                share = _size_along(start, move, t, sign=-1.0)
                return np.asarray(before + min(share, 1.0) * (after - before))
            before = after
        if np.linalg.norm(point + self.B @ before) <= t + 1e-9 * np.linalg.norm(point):
            return np.asarray(before)
        return np.full(self.B.shape[1], np.inf)


def _size_along(point: Array, direction: Array, t: float, *, sign: float = 1.0) -> float:
    """Least step along a direction at which the length is t: outwards, inwards (sign −1), or either way (0)."""
    square, slope = float(direction @ direction), float(point @ direction)
    gap = t * t - float(point @ point)
    if square == 0.0:
        return np.inf
    if sign < 0.0:
        root = slope * slope + square * gap
        return np.inf if root < 0.0 or slope >= 0.0 else -gap / (np.sqrt(root) - slope)
    slope = abs(slope) if sign == 0.0 else slope
    root = np.sqrt(max(slope * slope + square * max(gap, 0.0), 0.0))
    # (√… − slope) / square, without cancellation.
    return max(gap, 0.0) / (slope + root) if slope >= 0.0 and slope + root > 0.0 else (root - slope) / square
