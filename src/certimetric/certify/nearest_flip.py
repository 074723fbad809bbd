"""Exact minimal perturbation of 1-NN predictions: the nearest point at which another class is the nearest."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from certimetric.certify.least_norm import least_norm_in_rounds
from certimetric.certify.minimal_kernels import (
    dual_certificate,
    gather_rows,
    minimal_rows,
    primal_order,
    screen,
    working_memory,
)
from certimetric.certify.reference import ReferenceSet
from certimetric.certify.witnesses import PROVEN, MinimalPerturbation, push_outward
from certimetric.geometry.neighbors import DEFAULT_MEMORY, chunk_slices, map_chunks
from certimetric.geometry.norms import Norm

Array = NDArray[np.float64]
Indices = NDArray[np.int64]


class DualProgram:
    """The training set in the coordinates of the programs (see :mod:`certimetric.certify.minimal_kernels`).

    Parameters
    ----------
    reference : ReferenceSet
    norm : Norm

    Attributes
    ----------
    dual : array of shape (n, p)
        Rows D.
    map : array of shape (r, p)
        Takes a step η to the move of the query in the metric's coordinates.
    lift : array of shape (p, d)
        Takes a step η to a change of the features, ``η @ lift``.
    data : tuple
        What the compiled kernels read.
    """

    def __init__(self, reference: ReferenceSet, norm: Norm):
        self.reference, self.order = reference, float(norm.dual_order)
        self.map, self.lift = reference.dual_map(norm), reference.lift_map(norm)
        self.data = program_data(reference, norm)
        self.dual = self.data[3]

    def steps_to(self, points: Array, rows: Indices) -> Array:
        """Smallest changes of the features that take embedded queries to training instances, as far as they can."""
        return (self.reference.points[rows] - points) @ np.linalg.pinv(self.map).T @ self.lift


def program_data(reference: ReferenceSet, norm: Norm) -> tuple[Any, ...]:
    """What the compiled kernels read of a training set: see :class:`DualProgram`."""
    dual, dual_errors = reference.dual_points(norm)
    points = reference.points
    squares = np.einsum("ij,ij->i", points, points)
    return points, reference.point_errors, squares, dual, dual_errors, reference.y, reference.growth(norm)


def lower_bounds(
    reference: ReferenceSet,
    X: Array,
    norm: Norm,
    *,
    exclude: Indices,
    errors: Array | float = 0.0,
    memory: int = DEFAULT_MEMORY,
    n_jobs: int = 1,
) -> tuple[Indices, Array]:
    """Predictions of 1-NN, and the minimal perturbations of :func:`nearest_flips` rounded down, for l2; no witnesses.

    ``errors`` bounds how far the coordinates of each query may be off before any rounding here.
    """
    points, own_errors = reference.embed(X)
    errors = own_errors + errors
    predicted = reference.predict(points, 1, exclude=exclude, memory=memory, n_jobs=n_jobs)
    data = program_data(reference, norm)
    radii, lower = np.empty(len(X)), np.empty(len(X))
    steps, opponents = np.zeros((len(X), data[3].shape[1])), np.empty(len(X), dtype=np.int64)

    def solve(rows: slice) -> None:
        products = points[rows] @ reference.points.T
        queries = (products, points[rows], errors[rows], predicted[rows], exclude[rows])
        minimal_rows(*queries, data, radii[rows], lower[rows], steps[rows], opponents[rows])

    map_chunks(solve, chunk_slices(len(X), 8.0 * len(reference.points), memory, n_jobs), n_jobs)
    return predicted, lower


def nearest_flips(
    reference: ReferenceSet,
    X: Array,
    norm: Norm,
    *,
    exclude: Indices | None = None,
    memory: int = DEFAULT_MEMORY,
    n_jobs: int = 1,
) -> MinimalPerturbation:
    """Exact minimal perturbation of the 1-NN predictions of queries over a prepared training set."""
    points, errors = reference.embed(X)
    if exclude is None:
        exclude = np.full(len(X), -1, dtype=np.int64)
    predicted = reference.predict(points, 1, exclude=exclude, memory=memory, n_jobs=n_jobs)
    program = DualProgram(reference, norm)
    radii, lower = np.empty(len(X)), np.empty(len(X))
    steps, opponents = np.zeros((len(X), program.dual.shape[1])), np.empty(len(X), dtype=np.int64)

    def solve(rows: slice) -> None:
        products = points[rows] @ reference.points.T
        queries = (products, points[rows], errors[rows], predicted[rows], exclude[rows])
        figures = (radii[rows], lower[rows], steps[rows], opponents[rows])
        if program.order == 2:
            minimal_rows(*queries, program.data, *figures)
        else:
            _linear_rows(*queries, program, *figures)

    map_chunks(solve, chunk_slices(len(X), 8.0 * len(reference.points), memory, n_jobs), n_jobs)
    changed = np.flatnonzero(opponents >= 0)
    changes = steps @ program.lift
    inwards = program.steps_to(points, opponents) - changes
    witnesses, verified = push_outward(reference, X, changes, inwards, 1, predicted, exclude, changed)
    proven = np.isinf(radii) | (lower >= radii * (1.0 - PROVEN))
    return MinimalPerturbation(radii, witnesses, lower, proven, verified)


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
    survivors, bounds, rows, h = space[1:5]
    for i, (x, c) in enumerate(zip(points, predicted)):
        count, best = screen(products[i], x, errors[i], c, exclude[i], data, order, space)
        proven, opponents[i] = np.inf, -1
        for position in np.argsort(bounds[:count], kind="stable"):
            l, bound = survivors[position], bounds[position]
            if bound >= best:
                break
            m = gather_rows(x, l, c, exclude[i], best, data, order, space)
            if m < 0:
                continue
            eta, active, multipliers = least_norm_in_rounds(rows[:m], h[:m], order, best)
            certificate = dual_certificate(l, multipliers, active, len(active), errors[i], data, order, space)
            # The screen's bound stands where the solver gave no multipliers.
            proven = min(proven, max(certificate, bound))
            if eta is not None:
                best, opponents[i] = float(np.linalg.norm(eta, primal_order(order))), l
                steps[i] = eta
        radii[i] = best if opponents[i] >= 0 else np.inf
        lower[i] = min(radii[i], proven)
