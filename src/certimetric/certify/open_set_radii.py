"""Answers and certified radii of open-set queries: how far each may move before it is accepted, or no longer."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from certimetric.base.arrays import Array, Indices
from certimetric.base.chunks import DEFAULT_MEMORY
from certimetric.certify.pair_kernels import certify_difference_rows
from certimetric.certify.pairs import separated
from certimetric.certify.radius import bound_radii
from certimetric.certify.reference import PointSet, power_of_two_times, votes
from certimetric.geometry.norms import Norm

_FIRST = 16  # nearest enrolled instances that are looked at, and four times as many where these do not decide
_FARTHEST = 2.0**300  # thresholds beyond it, in units of the coordinates, are taken for it


class Answers(NamedTuple):
    """Of each query: class code, −1 for unknown; certified radius, NaN without a norm; nearest enrolled instance."""

    codes: Indices
    radii: Array
    nearest: Indices
    distances: Array


def open_set_answers(
    reference: PointSet,
    k: int,
    threshold: float,
    norm: Norm | None,
    X: Array,
    *,
    exclude: Indices | None = None,
    memory: int = DEFAULT_MEMORY,
    n_jobs: int = 1,
) -> Answers:
    """Who the queries are, how far each may move, and which instance is the nearest at what distance; shapes (m,)."""
    points, errors = reference.embed(X)
    options: dict[str, Any] = {"memory": memory, "n_jobs": n_jobs}
    codes, distances, nearest = voted_nearest(reference, points, k, exclude, **options)
    accepted = distances <= threshold
    codes = np.where(accepted, codes, -1)
    radii = np.full(len(X), np.nan)
    if norm is None:
        return Answers(codes, radii, nearest, distances)
    rows = np.flatnonzero(accepted)
    if len(rows):
        left_out = None if exclude is None else exclude[rows]
        _, radii[rows] = bound_radii(reference, X[rows], k, norm, exclude=left_out, **options)
    certificates = _Certificates(reference, points, errors, threshold, norm, exclude, options)
    if threshold < np.inf:
        radii[rows] = np.minimum(radii[rows], certificates.of_accepted(rows))
    rest = np.flatnonzero(~accepted)
    radii[rest] = certificates.of_rejected(rest) if threshold >= 0.0 else np.inf
    return Answers(codes, radii, nearest, distances)


def open_set_rows(*arguments: Any, **options: Any) -> Array:
    """Codes and radii of :func:`open_set_answers` side by side, shape (m, 2)."""
    found = open_set_answers(*arguments, **options)
    return np.column_stack([found.codes, found.radii])


class _Certificates:
    """How far queries may move before they leave the balls of enrolled instances, or enter one."""

    def __init__(
        self,
        reference: PointSet,
        points: Array,
        errors: Array,
        threshold: float,
        norm: Norm,
        exclude: Indices | None,
        options: dict[str, Any],
    ):
        self.reference, self.points, self.errors, self.options = reference, points, errors, options
        self.exclude = exclude
        self.data, self.exponent = separated(reference, norm)
        self.threshold = min(float(np.ldexp(threshold, -reference.exponent)), _FARTHEST)
        self.available = len(reference.y) - (exclude is not None)

    def of_accepted(self, rows: Indices) -> Array:
        """Radii within which one of the nearest instances stays within the threshold."""
        if not len(rows):
            return np.zeros(0)
        nearest, distances = self._nearest(rows, min(_FIRST, self.available))
        within = distances <= self.threshold
        radii = self._certified(rows, nearest, within)
        return power_of_two_times(np.where(within, radii, 0.0).max(axis=1), self.exponent)

    def of_rejected(self, rows: Indices) -> Array:
        """Radii within which no instance comes within the threshold."""
        radii = np.full(len(self.points), np.inf)
        constants = self.data[6]
        rate = (constants[0] + constants[1]) * (1.0 + 1e-6)  # by which a distance falls with the size, at most
        left, seen, count = rows, 0, min(_FIRST, self.available)
        while len(left):
            nearest, distances = self._nearest(left, count)
            new = self._certified(left, nearest[:, seen:], np.zeros((len(left), count - seen), dtype=bool))
            radii[left] = np.minimum(radii[left], new.min(axis=1))
            if count == self.available or rate == 0.0:  # all are seen, or nothing moves
                break
            # No farther instance can be entered by less than the last one, by the triangle inequality.
            slack = 2.0 * (self.errors[left] + self.reference.point_errors.max())
            beyond = distances[:, -1] * (1.0 - 1e-9) - self.threshold * (1.0 + 1e-9) - 2.0 * slack
            left = left[radii[left] >= beyond / rate]
            seen, count = count, min(4 * count, self.available)
        return power_of_two_times(radii[rows], self.exponent)

    def _nearest(self, rows: Indices, count: int) -> tuple[Indices, Array]:
        left_out = None if self.exclude is None else self.exclude[rows]
        nearest, squared = self.reference.neighbors(self.points[rows], count, exclude=left_out, **self.options)
        return nearest, np.sqrt(squared)

    def _certified(self, rows: Indices, nearest: Indices, accepted: NDArray[np.bool_]) -> Array:
        index = np.column_stack([np.repeat(rows, nearest.shape[1]), nearest.ravel()])
        radii = np.empty(len(index))
        places = self.reference.points, self.errors, self.reference.point_errors
        flags = np.ascontiguousarray(accepted).ravel()
        certify_difference_rows(self.points, *places, index, self.threshold, self.data, flags, radii)
        return radii.reshape(nearest.shape)


def voted_nearest(
    reference: PointSet, points: Array, k: int, exclude: Indices | None, **options: Any
) -> tuple[Indices, Array, Indices]:
    """Class codes that the k nearest vote for; distances of the nearest, and which it is."""
    nearest, squared = reference.neighbors(points, k, exclude=exclude, **options)
    codes = votes(reference.y[nearest], reference.n_classes).argmax(axis=1)
    return codes, np.ldexp(np.sqrt(squared[:, 0]), reference.exponent), nearest[:, 0]
