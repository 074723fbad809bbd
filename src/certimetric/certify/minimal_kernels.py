"""Compiled search for the smallest perturbation that changes a 1-NN prediction: few opponents, few quadratic programs.

Perturbations are vectors η in the dual coordinates of :meth:`ReferenceSet.dual_points`: with rows D of the training
instances, opponent l becomes the nearest where ``2 (D_l − D_j)ᵀ η ≥ d²(x, x_l) − d²(x, x_j)`` for every instance j of
the predicted class. Opponents are discarded by bounds that cost less than the program: see :func:`screen`.

Kernels share two tuples: ``data``, the training set as :class:`certimetric.certify.nearest_flip.DualProgram` holds it,
and ``space``, the working memory of one thread.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from certimetric.certify.kernels import (
    difference_norm,
    distance_beyond,
    gap_over_dual,
    insert_smallest,
    rounding_of_distances,
)
from certimetric.certify.least_norm import OPTIMAL, least_distance
from certimetric.geometry.neighbors import expansion_error, squared_distance

_UNIT = 1.2e-16
_NEAR = 16  # nearest instances of either side that the second bound and the first program look at
_CANCELS = 1e-6  # relative difference of squared distances below which it is taken from the difference of the points


@nb.njit(cache=True, nogil=True)
def working_memory(n, p):
    """The ``space`` of the kernels: distances, survivors, their bounds; rows of a program, and its solution."""
    return (
        np.empty(n),
        np.empty(n, dtype=np.int64),
        np.empty(n),
        np.empty((n, p)),
        np.empty(n),
        np.empty(n, dtype=np.int64),
        np.empty(p),
        np.empty(p + 1, dtype=np.int64),
        np.empty(p + 1),
        np.empty((2 * (p + 1) + 3, p + 1)),
    )


@nb.njit(cache=True, nogil=True)
def minimal_rows(products, points, errors, predicted, exclude, data, radii, lower, steps, opponents):
    """l2: fill radii, proven lower bounds, steps η and opponents (−1: none)."""
    n, p = data[3].shape
    space = working_memory(n, p)
    _, survivors, bounds, rows, h, _, eta, active, u, work = space
    for i in range(points.shape[0]):
        x, c = points[i], predicted[i]
        count, best = screen(products[i], x, errors[i], c, exclude[i], data, 2.0, space)
        proven, found = np.inf, -1
        order = np.argsort(bounds[:count])
        for position in range(count):
            l = survivors[order[position]]
            if bounds[order[position]] >= best:
                break
            m = gather_rows(x, l, c, exclude[i], best, data, 2.0, space)
            if m < 0:
                continue
            status, q = least_distance(rows, h, m, best, eta, active, u, work)
            proven = min(proven, dual_certificate(l, u, active, q, errors[i], data, 2.0, space))
            if status == OPTIMAL:
                size = np.sqrt((eta * eta).sum())
                if size < best:
                    best, found = size, l
                    steps[i] = eta
        opponents[i] = found
        radii[i] = best if found >= 0 else np.inf
        # Opponents that were discarded have a bound above the radius; what was solved has its own proof.
        lower[i] = max(0.0, min(radii[i], proven))


@nb.njit(cache=True, nogil=True)
def screen(row, x, error, c, exclude, data, order, space):
    """Opponents that may attain the minimum, with a lower bound each; their number and an upper bound on the minimum.

    ``row`` holds the inner products of the query with the training set. A first program, of a near opponent with a
    small bound, gives the upper bound. The lower ones, cheapest first: by the triangle inequality from the distance
    alone; the largest e(l, j) over the nearest instances of the class; over all of it.
    """
    train, train_errors, squares, dual, dual_errors, y, growth = data
    distance, survivors, bounds, rows, h, _, eta, active, u, work = space
    n, r = train.shape
    relative = rounding_of_distances(r)
    rounding = (error, growth[0], growth[1], relative)
    q = (x * x).sum()
    slack = expansion_error(r, q, squares.max())
    near_value, near = np.empty(_NEAR), np.empty(_NEAR, dtype=np.int64)
    other_value, other = np.empty(_NEAR), np.empty(_NEAR, dtype=np.int64)
    n_near, n_other = 0, 0
    for j in range(n):
        if j == exclude:
            continue
        value = q + squares[j] - 2.0 * row[j]
        row[j] = value
        if y[j] == c:
            distance[j] = np.sqrt(squared_distance(x, train[j]))
            n_near = insert_smallest(near_value, near, n_near, _NEAR, value, j)
        else:
            n_other = insert_smallest(other_value, other, n_other, _NEAR, value, j)

    first, smallest = -1, np.inf
    for b in range(n_other):
        l = other[b]
        distance[l] = np.sqrt(squared_distance(x, train[l]))
        bound = 0.0
        for a in range(n_near):
            j = near[a]
            value = gap_over_dual(distance[l], distance[l], distance[j], l, j, dual, dual_errors, order, rounding)
            bound = max(bound, value)
        if bound < smallest:
            first, smallest = l, bound
    upper = np.inf
    if first >= 0:
        m = gather_rows(x, first, c, exclude, np.inf, data, 2.0, space)
        if m >= 0 and least_distance(rows, h, m, np.inf, eta, active, u, work)[0] == OPTIMAL:
            upper = difference_norm(eta, np.zeros_like(eta), primal_order(order))
    # The opponent that attains the bound must survive, even where all are at distance 0.
    upper = upper * (1.0 + 1e-9) + 1e-300

    reach = np.inf
    if n_near:
        j = near[0]
        reach = distance[j] * (1.0 + relative) + error + train_errors[j]
    beyond = distance_beyond(upper, reach, train_errors.max(), dual_errors.max(), rounding)
    cutoff = beyond * beyond * (1.0 + 4.0 * relative) + slack
    count = 0
    for l in range(n):
        if y[l] == c or l == exclude:
            continue
        if row[l] >= cutoff:
            continue
        distance[l] = np.sqrt(squared_distance(x, train[l]))
        below = max(distance[l] * (1.0 - relative) - error - train_errors[l], 0.0)
        beyond = distance[l] * (1.0 + relative) + error + train_errors[l]
        bound = 0.0
        for b in range(n_near):
            j = near[b]
            above = distance[j] * (1.0 + relative) + error + train_errors[j]
            value = gap_over_dual(below, beyond, above, l, j, dual, dual_errors, order, rounding)
            bound = max(bound, value)
            if bound >= upper:
                break
        if bound >= upper:
            continue
        for j in range(n):
            if y[j] != c or j == exclude:
                continue
            above = distance[j] * (1.0 + relative) + error + train_errors[j]
            if above < below:
                value = gap_over_dual(below, beyond, above, l, j, dual, dual_errors, order, rounding)
                bound = max(bound, value)
                if bound >= upper:
                    break
        if bound < upper:
            survivors[count] = l
            bounds[count] = bound
            count += 1
    return count, upper


@nb.njit(cache=True, nogil=True)
def primal_order(dual_order):
    """Order of the vector norm of perturbations whose dual has the order 1, 2 or infinity."""
    return 2.0 if dual_order == 2.0 else (np.inf if dual_order == 1.0 else 1.0)


@nb.njit(cache=True, nogil=True)
def gather_rows(x, l, c, exclude, limit, data, order, space):
    """Rows of opponent l's program that can bind within ``limit``; their number, −1 if one cannot be met.

    Each is divided by its dual norm of the given order.
    """
    train, _, _, dual, _, y, _ = data
    distance, _, _, rows, h, own_of_row, _, _, _, _ = space
    m = 0
    for j in range(train.shape[0]):
        if y[j] != c or j == exclude:
            continue
        gap = _gap(x, l, j, train, distance)
        size = 2.0 * difference_norm(dual[l], dual[j], order)
        if size == 0.0:
            if gap > 1e-12 * (distance[l] * distance[l] + distance[j] * distance[j]):
                return -1
            continue
        if gap <= -limit * size:
            continue  # every change within the limit satisfies it
        for t in range(dual.shape[1]):
            rows[m, t] = 2.0 * (dual[l, t] - dual[j, t]) / size
        h[m] = gap / size
        own_of_row[m] = j
        m += 1
    return m


@nb.njit(cache=True, nogil=True)
def _gap(x, l, j, train, distance):
    """d²(x, x_l) − d²(x, x_j), without cancellation where the two are almost the same point."""
    a, b = distance[l] * distance[l], distance[j] * distance[j]
    if abs(a - b) > _CANCELS * (a + b):
        return a - b
    total = 0.0
    for t in range(x.shape[0]):
        total += (train[l, t] - train[j, t]) * ((train[l, t] - x[t]) + (train[j, t] - x[t]))
    return total


@nb.njit(cache=True, nogil=True)
def dual_certificate(l, u, active, q, error, data, order, space):
    """Lower bound on opponent l's program from q multipliers alone, ``λᵀb / ‖Aᵀλ‖_*``, rounded down."""
    train, train_errors, _, dual, dual_errors, _, _ = data
    distance, own_of_row = space[0], space[5]
    if q == 0:
        return 0.0
    p = dual.shape[1]
    relative = rounding_of_distances(train.shape[1])
    value, magnitude, slack, weights = 0.0, 0.0, 0.0, 0.0
    total = np.zeros(p)
    below = max(distance[l] * (1.0 - relative) - error - train_errors[l], 0.0)
    for k in range(q):
        j = own_of_row[active[k]]
        weight = u[k] / (2.0 * difference_norm(dual[l], dual[j], order))
        above = distance[j] * (1.0 + relative) + error + train_errors[j]
        gap = (below - above) * (below + above)
        value += weight * gap
        magnitude += weight * abs(gap)
        slack += 2.0 * weight * (dual_errors[l] + dual_errors[j])
        weights += u[k]
        for t in range(p):
            total[t] += 2.0 * weight * (dual[l, t] - dual[j, t])
    value -= (q + 16) * _UNIT * magnitude
    norm = difference_norm(total, np.zeros(p), order) * (1.0 + (p + 16) * _UNIT)
    norm += slack + (p + q + 8) * _UNIT * weights * (p if order == 1.0 else 1.0)
    if value <= 0.0:
        return 0.0
    if norm == 0.0:
        return np.inf
    return value / norm * (1.0 - 8.0 * _UNIT)
