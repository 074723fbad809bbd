"""Compiled search for the smallest perturbation that changes a 1-NN prediction: few opponents, few quadratic programs.

Perturbations are vectors η in the dual coordinates of :meth:`ReferenceSet.dual_points`: with rows D of the training
instances, opponent l becomes the nearest where ``2 (D_l − D_j)ᵀ η ≥ d²(x, x_l) − d²(x, x_j)`` for every instance j of
the predicted class. Opponents are discarded by bounds that cost less than the program: see :func:`screen`.

A row counts as met where it is violated by no more than the rounding error of its right-hand side
(:func:`rounding_of_gap`): that is a property of query and pair, the same in whatever program the row occurs.

Kernels share two tuples: ``data``, the training set as a
:class:`~certimetric.certify.exact.dual_program.DualProgram` holds it, and ``space``, the working memory of one thread.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from certimetric.base.rounding import INFLATED_UNIT
from certimetric.certify.exact.least_norm import OPTIMAL, least_distance
from certimetric.certify.kernels import (
    certified_size,
    distance_beyond,
    gap_over_dual,
    nearest_of_either,
    rounding_of_distances,
    rounding_of_pair,
    widened,
)
from certimetric.geometry.kernels import difference_norm, expansion_error, squared_distance

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
    _, survivors, bounds, rows, h, tolerance, own_of_row, eta, active, u, work = space
    for i in range(points.shape[0]):
        x, c = points[i], predicted[i]
        count, best, first, proven_first = screen(products[i], x, errors[i], c, exclude[i], data, 2.0, space, steps[i])
        proven, found = np.inf, first if best < np.inf else -1
        order = np.argsort(bounds[:count])
        for position in range(count):
            l, bound = survivors[order[position]], bounds[order[position]]
            if bound >= best:
                break
            if l == first:
                proven = min(proven, max(bound, proven_first))
                continue
            m = gather_rows(x, l, c, errors[i], exclude[i], best, data, 2.0, space)
            if m < 0:
                proven = min(proven, bound)
                continue
            status, q = least_distance(rows, h, tolerance, m, best, eta, active, u, work)
            certificate = dual_certificate(l, own_of_row, u, active, q, errors[i], data, 2.0, space)
            certificate = max(bound, certificate)
            proven = min(proven, certificate)
            if status == OPTIMAL:
                size = max(np.sqrt((eta * eta).sum()), certificate)
                if size < best:
                    best, found = size, l
                    steps[i] = eta
        opponents[i] = found
        radii[i] = best
        # Opponents that were discarded have a bound above the radius; what was solved has its own proof.
        lower[i] = max(0.0, min(best, proven))


@nb.njit(cache=True, nogil=True)
def screen(row, x, error, c, exclude, data, order, space, step):
    """Opponents that may attain the minimum, with a lower bound each in ``space``; the first step into a region.

    ``row`` holds the inner products of the query with the training set. A first program, of a near opponent with a
    small bound, gives an upper bound and fills ``step``. The lower bounds, cheapest first: by the triangle inequality
    from the distance alone; the largest e(l, j) over the nearest instances of the class; over all of it.

    Returns
    -------
    count : int
        Opponents left.
    upper : float
        Size of the first step; infinity where there is none.
    first : int
        Its opponent; −1 for none.
    proven : float
        Lower bound on the program of this opponent, 0 for norms other than l2.
    """
    train, train_errors, squares, dual, dual_errors, y, growth = data
    distance, survivors, bounds, rows, h, tolerance, own_of_row, eta, active, u, work = space
    n, r = train.shape
    relative = rounding_of_distances(r)
    rounding = (error, growth[0], growth[1], relative)
    q = (x * x).sum()
    slack = expansion_error(r, q, squares.max())
    near_value, near = np.empty(_NEAR), np.empty(_NEAR, dtype=np.int64)
    other_value, other = np.empty(_NEAR), np.empty(_NEAR, dtype=np.int64)
    n_near, n_other = nearest_of_either(row, q, c, exclude, data, near_value, near, other_value, other)
    for j in range(n):
        if y[j] == c and j != exclude:
            distance[j] = np.sqrt(squared_distance(x, train[j]))

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
    upper, proven = np.inf, 0.0
    if first >= 0:
        m = gather_rows(x, first, c, error, exclude, np.inf, data, 2.0, space)
        if m >= 0:
            status, q = least_distance(rows, h, tolerance, m, np.inf, eta, active, u, work)
            if order == 2.0:
                proven = dual_certificate(first, own_of_row, u, active, q, error, data, 2.0, space)
            if status == OPTIMAL:
                upper = difference_norm(eta, np.zeros_like(eta), primal_order(order))
                step[:] = eta

    reach = np.inf
    if n_near:
        j = near[0]
        reach = widened(distance[j], train_errors[j], error, relative)[1]
    beyond = distance_beyond(upper, reach, train_errors.max(), dual_errors.max(), rounding)
    cutoff = beyond * beyond * (1.0 + 4.0 * relative) + slack
    count = 0
    for l in range(n):
        if y[l] == c or l == exclude:
            continue
        if row[l] >= cutoff:
            continue
        distance[l] = np.sqrt(squared_distance(x, train[l]))
        below, beyond = widened(distance[l], train_errors[l], error, relative)
        bound = 0.0
        for b in range(n_near):
            j = near[b]
            above = widened(distance[j], train_errors[j], error, relative)[1]
            value = gap_over_dual(below, beyond, above, l, j, dual, dual_errors, order, rounding)
            bound = max(bound, value)
            if bound >= upper:
                break
        if bound >= upper:
            continue
        for j in range(n):
            if y[j] != c or j == exclude:
                continue
            above = widened(distance[j], train_errors[j], error, relative)[1]
            if above < below:
                value = gap_over_dual(below, beyond, above, l, j, dual, dual_errors, order, rounding)
                bound = max(bound, value)
                if bound >= upper:
                    break
        if bound < upper:
            survivors[count] = l
            bounds[count] = bound
            count += 1
    return count, upper, first, proven


@nb.njit(cache=True, nogil=True)
def primal_order(dual_order):
    """Order of the vector norm of perturbations whose dual has the order 1, 2 or infinity."""
    return 2.0 if dual_order == 2.0 else (np.inf if dual_order == 1.0 else 1.0)


@nb.njit(cache=True, nogil=True)
def gather_rows(x, l, c, error, exclude, limit, data, order, space):
    """Rows of opponent l's program that can bind within ``limit``; their number, −1 if one cannot be met."""
    y, (distance, _, _, rows, h, tolerance, own_of_row, _, _, _, _) = data[5], space
    m = 0
    for j in range(y.shape[0]):
        if y[j] != c or j == exclude:
            continue
        use, value, off, _ = pair_row(x, l, j, error, limit, data, order, distance, rows, m)
        if use < 0:
            return -1
        if use > 0:
            h[m], tolerance[m], own_of_row[m] = value, off, j
            m += 1
    return m


@nb.njit(cache=True, nogil=True, inline="always")
def pair_row(x, l, j, error, limit, data, order, distance, rows, m):
    """Fill row m with the constraint that l is as near as j, divided by its dual norm of the given order.

    Returns
    -------
    use : int
        1, or 0 where every change within ``limit`` satisfies it, or −1 where it cannot be met.
    h, tolerance, size : float
        Right-hand side and its rounding error, both divided too, and the dual norm.
    """
    train, train_errors, _, dual, _, _, _ = data
    gap = gap_of_squares(x, train[l], train[j], distance[l], distance[j])
    size = 2.0 * difference_norm(dual[l], dual[j], order)
    if gap <= -limit * size:
        return 0, 0.0, 0.0, size
    relative = rounding_of_distances(train.shape[1])
    off = rounding_of_gap(distance[l], distance[j], error + train_errors[l], error + train_errors[j], relative)
    if size == 0.0:
        return -1 if gap > off else 0, 0.0, 0.0, size
    for t in range(dual.shape[1]):
        rows[m, t] = 2.0 * (dual[l, t] - dual[j, t]) / size
    return 1, gap / size, off / size, size


@nb.njit(cache=True, nogil=True)
def gap_of_squares(x, x_l, x_j, a, b):
    """``a² − b²`` for the distances a and b of x to x_l and x_j, without cancellation where these almost agree."""
    if abs(a - b) * (a + b) > _CANCELS * (a * a + b * b):
        return (a - b) * (a + b)
    total = 0.0
    for t in range(x.shape[0]):
        total += (x_l[t] - x_j[t]) * ((x_l[t] - x[t]) + (x_j[t] - x[t]))
    return total


@nb.njit(cache=True, nogil=True)
def rounding_of_gap(a, b, error_a, error_b, relative):
    """Bound on the error of ``a² − b²``, for distances between points that err by ``error_a`` and ``error_b``."""
    return error_a * (2.0 * a + error_a) + error_b * (2.0 * b + error_b) + relative * (a * a + b * b)


@nb.njit(cache=True, nogil=True)
def dual_certificate(l, own_of_row, u, active, q, error, data, order, space):
    """Lower bound on opponent l's program from q multipliers of its rows alone (see :func:`certified_combination`)."""
    distance, dual = space[0], data[3]
    inside, outside, weights = np.empty(q, dtype=np.int64), np.empty(q, dtype=np.int64), np.empty(q)
    for k in range(q):
        inside[k], outside[k] = l, own_of_row[active[k]]
        weights[k] = u[k] / (2.0 * difference_norm(dual[l], dual[outside[k]], order))
    free = np.zeros(data[3].shape[1]), 0.0, 0.0, 0.0, 0
    return certified_combination(inside, outside, weights, distance, error, data, order, free)


@nb.njit(cache=True, nogil=True)
def certified_combination(inside, outside, weights, distance, error, data, order, limits):
    """Size below which no change brings every instance of ``inside`` as near as that of ``outside`` beside it.

    For weights λ ≥ 0 of these pairs, ``λᵀb ≤ λᵀAη ≤ ‖Aᵀλ‖_* ‖η‖`` for every such change η: the quotient
    ``λᵀb / ‖Aᵀλ‖_*`` is a bound whatever the weights are. It is lowered by what rounding can do to the weighted pairs,
    here and in the predictor at any point that near (:func:`certimetric.certify.kernels.certified_size`).

    ``limits`` joins the rows of what may change, ``Vη ≥ h`` with multipliers μ: ``μᵀV`` and ``μᵀh``, then ``μᵀ|h|``,
    the sum of μ, each times its share of the rounding of V, and how many they are.
    """
    train, train_errors, _, dual, dual_errors, _, growth = data
    p, q = dual.shape[1], weights.shape[0] + limits[4]
    relative = rounding_of_distances(train.shape[1])
    rounding = (error, growth[0], growth[1], relative)
    value, magnitude, pull, slack = limits[1], limits[2], limits[3], 0.0
    c0, c1, c2 = 0.0, 0.0, 0.0
    total = limits[0].copy()
    for k in range(weights.shape[0]):
        l, j, weight = inside[k], outside[k], weights[k]
        if not weight > 0.0:
            continue
        below, beyond = widened(distance[l], train_errors[l], error, relative)
        above = widened(distance[j], train_errors[j], error, relative)[1]
        gap = (below - above) * (below + above)
        value += weight * gap
        magnitude += weight * abs(gap)
        slack += 2.0 * weight * (dual_errors[l] + dual_errors[j])
        pull += 2.0 * weight * difference_norm(dual[l], dual[j], order)
        for t in range(p):
            total[t] += 2.0 * weight * (dual[l, t] - dual[j, t])
        a0, a1, a2 = rounding_of_pair(beyond, above, rounding)
        c0, c1, c2 = c0 + weight * a0, c1 + weight * a1, c2 + weight * a2
    value -= (q + 16) * INFLATED_UNIT * magnitude
    norm = difference_norm(total, np.zeros(p), order) * (1.0 + (p + 16) * INFLATED_UNIT)
    norm += slack * (1.0 + (q + 16) * INFLATED_UNIT) + (p + q + 8) * INFLATED_UNIT * pull
    up = 1.0 + (q + 16) * INFLATED_UNIT
    return certified_size(value, norm, c0 * up, c1 * up, c2 * up)
