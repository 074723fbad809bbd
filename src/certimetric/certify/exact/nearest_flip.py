"""Exact minimal perturbation of 1-NN predictions: the nearest point at which another class is the nearest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from certimetric.base.arrays import Array, Indices
from certimetric.certify.exact.dual_program import DualProgram
from certimetric.certify.exact.kernels import (
    dual_certificate,
    gather_rows,
    minimal_rows,
    primal_order,
    rounding_of_gap,
    screen,
    working_memory,
)
from certimetric.certify.exact.least_norm import least_norm_in_rounds
from certimetric.certify.exact.regions import Regions
from certimetric.certify.exact.witnesses import MinimalPerturbation, find_witnesses
from certimetric.certify.kernels import rounding_of_distances
from certimetric.certify.radius import PredictedQueries
from certimetric.geometry.norms import Norm

_SEGMENTS = 256  # nearest opponents that are walked straight towards where the solver failed


def lower_bounds(queries: PredictedQueries, norm: Norm) -> Array:
    """The minimal perturbations of :func:`nearest_flips` rounded down, for l2; no witnesses."""
    data = queries.reference.kernel_data(norm)
    return _flips(queries, data[3].shape[1], minimal_rows, data)[1]


def nearest_flips(queries: PredictedQueries, norm: Norm) -> MinimalPerturbation:
    """Exact minimal perturbation of the 1-NN predictions of queries over a prepared training set."""
    program = DualProgram(queries.reference, norm)
    kernel, known = (minimal_rows, program.data) if program.order == 2 else (_linear_rows, program)
    radii, lower, steps, opponents = _flips(queries, program.dual.shape[1], kernel, known)
    points, errors, predicted, exclude = queries.points, queries.errors, queries.predicted, queries.exclude
    for i in np.flatnonzero((opponents < 0) & np.isfinite(lower)):
        # No program was solved, and none was proven to have no solution: rounding made the solver fail.
        radii[i], steps[i], opponents[i] = along_segments(program, points[i], errors[i], predicted[i], exclude[i])
        radii[i] = max(radii[i], lower[i])

    def inside(i: int) -> tuple[Array, float]:
        regions = Regions.of(program, queries, i)
        return regions.inner_steps(opponents[i : i + 1], np.flatnonzero(regions.own), float(radii[i]))

    return find_witnesses(program, queries, norm, steps, radii, lower, inside)


def _flips(
    queries: PredictedQueries, p: int, kernel: Callable[..., None], known: Any
) -> tuple[Array, Array, Array, Indices]:
    """Radii, proven lower bounds, steps η and opponents, as a kernel that knows the training set fills them in."""
    m = len(queries.X)
    found = np.empty(m), np.empty(m), np.zeros((m, p)), np.empty(m, dtype=np.int64)
    queries.fill(kernel, (known,), *found)
    return found


def along_segments(program: DualProgram, x: Array, error: float, c: int, exclude: int) -> tuple[float, Array, int]:
    """Smallest step straight towards an opponent after which it is the nearest; its size, the step, the opponent.

    An upper bound that needs no solver. It exists unless the features that would lead to the opponent cannot change:
    then the size is infinite, and the opponent −1.
    """
    points, point_errors, _, dual, _, y, _ = program.data
    present = np.arange(len(y)) != exclude
    own, others = np.flatnonzero((y == c) & present), np.flatnonzero((y != c) & present)
    squared = ((points - x) ** 2).sum(axis=1)
    others = others[np.argsort(squared[others], kind="stable")[:_SEGMENTS]]
    towards = program.steps_of(points[others] - x)
    relative = rounding_of_distances(points.shape[1])
    best, step, opponent = np.inf, np.zeros(dual.shape[1]), -1
    for l, eta in zip(others, towards):
        gaps = ((points[l] - points[own]) * ((points[l] - x) + (points[own] - x))).sum(axis=1)
        error_l, error_j = error + point_errors[l], error + point_errors[own]
        gaps -= rounding_of_gap(np.sqrt(squared[l]), np.sqrt(squared[own]), error_l, error_j, relative)
        rates = 2.0 * (dual[l] - dual[own]) @ eta
        # Every row asks for t · rate ≥ gap.
        needed, limited = gaps > 0, (gaps <= 0) & (rates < 0)
        if (rates[needed] <= 0).any():
            continue
        t = float((gaps[needed] / rates[needed]).max(initial=0.0))
        if (t * rates[limited] < gaps[limited]).any():
            continue
        size = t * float(np.linalg.norm(eta, primal_order(program.order)))
        if size < best:
            best, step, opponent = size, t * eta, int(l)
    return best, step, opponent


def _linear_rows(
    products: Array,
    points: Array,
    errors: Array,
    predicted: Indices,
    exclude: Indices,
    program: DualProgram,
    radii: Array,
    lower: Array,
    steps: Array,
    opponents: Indices,
) -> None:
    """The same as :func:`minimal_rows` for l∞ and l1."""
    order, data = program.order, program.data
    space = working_memory(*program.dual.shape)
    survivors, bounds, rows, h, tolerance, own_of_row = space[1:7]
    for i, (x, c) in enumerate(zip(points, predicted)):
        count, best, first, _ = screen(products[i], x, errors[i], c, exclude[i], data, order, space, steps[i])
        proven, opponents[i] = np.inf, first if best < np.inf else -1
        for position in np.argsort(bounds[:count], kind="stable"):
            l, bound = survivors[position], bounds[position]
            if bound >= best:
                break
            m = gather_rows(x, l, c, errors[i], exclude[i], best, data, order, space)
            if m < 0:
                proven = min(proven, bound)
                continue
            eta, active, u = least_norm_in_rounds(rows[:m], h[:m], order, best, tolerance[:m])
            certificate = dual_certificate(l, own_of_row, u, active, len(active), errors[i], data, order, space)
            # The screen's bound stands where the solver gave no multipliers.
            certificate = max(certificate, bound)
            proven = min(proven, certificate)
            if eta is not None:
                # The solver's step may be shorter than what is proven, by as much as its tolerance.
                size = max(float(np.linalg.norm(eta, primal_order(order))), certificate)
                if size < best:
                    best, opponents[i], steps[i] = size, l, eta
        radii[i] = best
        lower[i] = min(radii[i], proven)
