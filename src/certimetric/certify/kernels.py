"""Compiled certificate of k-NN predictions: lazy over opponents, rounded to the safe side.

Every ``e(l, j)`` that decides anything is made of direct differences, and counts what rounding can do to the predictor
anywhere within it (``docs/certificates.md`` has the derivation). Bounds that cost nothing come first, so that most
opponents are discarded by their distance alone and only a few are held against the whole predicted class. No bound
discards what would have changed the result, not even in its last digit: it does not depend on the order of work.

Kernels know the rounding of one query as a tuple ``rounding = (error, kappa, growth, relative)``: the error of its
coordinates, how fast its coordinates and their error grow with the size of a change (:meth:`ReferenceSet.growth`), and
the relative error of a distance (:func:`rounding_of_distances`); and the training set with its norm as a tuple ``data``
(:meth:`PointSet.kernel_data`).
"""

from __future__ import annotations

import numba as nb
import numpy as np

from certimetric.base.rounding import INFLATED_UNIT
from certimetric.geometry.kernels import difference_norm, expansion_error, insert_smallest, squared_distance

_AT_ONCE = 4  # rows that are embedded together
_LEAST_GAP, _LEAST_ROOT = 1e-200, 1e-150  # below which squares of coordinates near 1 may have underflowed
_TILE = 512  # instances whose duals are turned at a time
NEAR = 16  # instances of the predicted class that the second bound of an opponent looks at


@nb.njit(cache=True, nogil=True)
def embed_rows(X, center, L, gamma, unit, points, errors):
    """Fill ``points`` with ``(X − center) Lᵀ``, ``errors`` with ``‖|L| (gamma |x − center| + unit |x|)‖`` of each row.

    A row gets the same digits whichever rows are beside it, which products of matrices do not promise.
    """
    m, d = X.shape
    absolute = np.abs(L)
    centred, sizes = np.zeros((_AT_ONCE, d)), np.zeros((_AT_ONCE, d))
    for start in range(0, m, _AT_ONCE):
        count = min(_AT_ONCE, m - start)
        for i in range(count):
            for t in range(d):
                centred[i, t] = X[start + i, t] - center[t]
                sizes[i, t] = gamma * abs(centred[i, t]) + unit * abs(X[start + i, t])
            errors[start + i] = 0.0
        for t in range(L.shape[0]):
            products = _four_products(centred, L[t])
            bounds = _four_products(sizes, absolute[t])
            for i in range(count):
                points[start + i, t] = products[i]
                errors[start + i] += bounds[i] * bounds[i]
    for i in range(m):
        errors[i] = np.sqrt(errors[i])


@nb.njit(cache=True, nogil=True, fastmath={"contract", "reassoc"})
def _four_products(rows, b):
    p0, p1, p2, p3 = 0.0, 0.0, 0.0, 0.0
    for t in range(b.shape[0]):
        p0 += rows[0, t] * b[t]
        p1 += rows[1, t] * b[t]
        p2 += rows[2, t] * b[t]
        p3 += rows[3, t] * b[t]
    return p0, p1, p2, p3


@nb.njit(cache=True, nogil=True)
def certify_rows(products, points, errors, predicted, exclude, data, order, k, radii, near, binding):
    """Fill ``radii``; ``products`` holds the inner products of the queries with the training set of ``data``
    (:meth:`~certimetric.certify.reference.PointSet.kernel_data`).

    ``near``, of at least a columns, gets the nearest of the predicted class, and ``binding``, of s, the opponents whose
    bounds are the s smallest; −1 where there are too few.
    """
    n, m = len(data[5]), len(points)
    s, a = (k + 1) // 2, k // 2 + 1
    n_near = np.empty(m, dtype=np.int64)
    best, terms = np.empty((m, s)), np.empty((m, 6))
    work = (np.empty(n + 1, dtype=np.int64), np.empty(n + 1, dtype=np.int64), np.empty(n))
    largest = (data[2].max(), data[1].max(), data[4].max())
    for i in range(m):
        query = (products[i], points[i], errors[i], predicted[i], exclude[i], order)
        n_near[i] = first_bounds(query, a, data, largest, near[i], binding[i], best[i], terms[i], work[1])
    discard(products, predicted, near[:, 0], terms, data, order)
    for i in range(m):
        if n_near[i] and best[i, s - 1] > 0.0:
            query = (products[i], points[i], errors[i], predicted[i], exclude[i], order)
            least_bound(query, a, data, near[i, : n_near[i]], binding[i], best[i], terms[i], work)
        radii[i] = best[i, s - 1]


@nb.njit(cache=True, nogil=True)
def first_bounds(query, a, data, largest, near, binding, best, terms, own):
    """List the nearest of the predicted class and the s nearest opponents, whose bounds make the threshold that
    discards the others: in ``best``, its last entry being the s-th smallest. Gives the number of the former."""
    row, x, _, c, exclude, _ = query
    train = data[0]
    s, q = len(binding), square_of(x)
    near_value, first_value, first = np.empty(len(near)), np.empty(s), np.full(s, -1)
    near[:] = -1
    n_near, n_first = nearest_of_either(row, q, c, exclude, data, near_value, near, first_value, first)
    terms[:] = -np.inf  # discards all
    binding[:] = first
    if n_near < a or n_first < s:
        best[:] = 0.0 if n_near < a else np.inf
        return 0
    slack = expansion_error(train.shape[1], q, largest[0])
    n_own = own_within(row, first_value[s - 1], c, exclude, slack, data, own)
    for b in range(s):
        size, _ = certified_against(query, first[b], own[:n_own], a, np.inf, data)
        insert_smallest(best, binding, b, s, size, first[b])
    terms_of_threshold(query, best[s - 1], near[:a], slack, largest, data, terms)
    return n_near


@nb.njit(cache=True, nogil=True)
def terms_of_threshold(query, threshold, near, slack, largest, data, terms):
    """Fill ``terms``: the expanded square from which on an opponent has a bound of at least the threshold, the slack of
    these squares, and :func:`terms_of_margin`. A threshold of 0 leaves them as they are.

    The instances ``near``, as many of the predicted class as have to be nearer than an opponent, bound every opponent:
    beyond the cutoff by the triangle inequality, and nearer by what the metric makes of the difference to the first.
    """
    if not threshold > 0.0:
        return
    _, x, error, _, _, order = query
    dual, growth, relative = data[3], data[6], rounding_of_distances(len(x))
    rounding = (error, growth[0], growth[1], relative)
    reach, spread = 0.0, 0.0
    for j in near:
        reach = max(reach, bounds_of_distance(x, j, error, data)[1])
        spread = max(spread, difference_norm(dual[near[0]], dual[j], order))
    beyond = distance_beyond(threshold, reach, largest[1], largest[2], rounding)
    terms[0] = beyond * beyond * (1.0 + 4.0 * relative) + slack
    terms[1] = slack
    off = error + largest[1]
    terms[2:] = terms_of_margin(threshold, reach, spread, slack, off, largest[2], dual.shape[1], rounding)


@nb.njit(cache=True, nogil=True)
def discard(rows, predicted, nearest, terms, data, order):
    """Set to infinity the expanded squares of opponents of which :func:`terms_of_margin` says that they decide nothing.

    Duals are read once for all queries, a tile at a time and turned, so that loops are over opponents, in vectors.
    """
    dual, y = data[3], data[5]
    n, p = rows.shape[1], dual.shape[1]
    tile, size, margin = np.empty((p, _TILE)), np.empty(_TILE), np.empty(_TILE)
    for start in range(0, n, _TILE):
        width, turned = min(_TILE, n - start), False
        for i in range(rows.shape[0]):
            cutoff, slack, gain, rate, fixed, per_norm = terms[i]
            row, classes, c = rows[i, start : start + width], y[start : start + width], predicted[i]
            undecided = 0
            for t in range(width):
                square = row[t] + slack
                margin[t] = square * gain - rate * np.sqrt(square) - fixed
                undecided += (row[t] < cutoff) & (classes[t] != c)
            if not undecided:
                continue
            if not turned:
                tile[:, :width] = dual[start : start + width].T
                turned = True
            size[:] = 0.0
            for u in range(p):
                center = dual[nearest[i], u]
                if order == 2.0:
                    for t in range(width):
                        size[t] += (tile[u, t] - center) * (tile[u, t] - center)
                elif order == 1.0:
                    for t in range(width):
                        size[t] += abs(tile[u, t] - center)
                else:
                    for t in range(width):
                        size[t] = max(size[t], abs(tile[u, t] - center))
            for t in range(width):
                length = np.sqrt(size[t]) if order == 2.0 else size[t]
                if classes[t] != c and margin[t] >= 0.0 and margin[t] >= per_norm * length:
                    row[t] = np.inf


@nb.njit(cache=True, nogil=True)
def least_bound(query, a, data, near, binding, best, terms, work):
    """Keep in ``best`` the s smallest bounds of opponents, and these in ``binding``: those of some are there."""
    row, _, _, c, exclude, _ = query
    (left, own, least), y, s = work, data[5], len(binding)
    cutoff, slack = terms[0], terms[1]
    n_left = 0
    for l in range(len(row)):
        left[n_left] = l
        n_left += (not row[l] >= cutoff) & (y[l] != c) & (l != exclude)
    # What is left is held against the nearest of the class, then against all of it.
    helpers, unsure, farthest = near.copy(), 0, 0.0
    for l in left[:n_left]:
        known = False
        for b in range(s):
            known = known or binding[b] == l
        if known:
            continue
        size, _ = certified_against(query, l, helpers, a, best[s - 1], data)
        if size < best[s - 1]:
            left[unsure], least[unsure] = l, size
            farthest = max(farthest, row[l])
            unsure += 1
    if not unsure:
        return
    n_own = own_within(row, farthest, c, exclude, slack, data, own)
    own = own[:n_own][np.argsort(row[own[:n_own]])]  # the nearest first: they are the likelier to discard an opponent
    for position in np.argsort(least[:unsure]):  # the least first: they lower the threshold for the others
        l, threshold = left[position], best[s - 1]
        size, _ = certified_against(query, l, helpers, a, threshold, data)
        if size >= threshold:
            continue
        size, helper = certified_against(query, l, own, a, threshold, data)
        if size < threshold:
            insert_smallest(best, binding, s, s, size, l)
            if best[s - 1] <= 0.0:
                return
        elif a == 1:  # what was better for one opponent often is for the next
            helpers[-1] = helper


@nb.njit(cache=True, nogil=True)
def terms_of_margin(threshold, reach, spread, slack, error, dual_error, p, rounding):
    """Terms by which e(l, j) is at least the threshold for the a nearest j, seen from bounds.

    It is, where ``gain s − rate √s − fixed ≥ per_norm ‖M(x_l − x_j)‖_*`` for the nearest j, s being the expanded square
    of x_l and its slack. ``reach`` bounds the distances of these j, and ``spread`` how far their duals are from the
    nearest one's.
    """
    query_error, kappa, growth, relative = rounding
    # What gap_over_dual asks, gap − 2 ‖·‖_* ρ ≥ c0 + c1 ρ + c2 ρ², at a ρ just above the threshold. The gap is at least
    # (1 − 4R) s − 2 slack − 2 error far − reach² with far = (1 + 3R) √s + error, and the rest grows with far and reach.
    size = threshold * (1.0 + 1e-12)
    per_norm = 2.0 * size * (1.0 + 4.0 * (p + 16) * INFLATED_UNIT)
    rate = 2.0 * query_error + 2.0 * (growth + 2.0 * relative * kappa) * size + 3.0 * error
    fixed = reach * reach * (1.0 + 4.0 * relative) + rate * (reach + error) + 4.0 * relative * (kappa * size) ** 2
    fixed += 5.0 * dual_error * size + 3.0 * slack + per_norm * spread
    return 1.0 - 8.0 * relative, rate * (1.0 + 4.0 * relative), fixed, per_norm


@nb.njit(cache=True, nogil=True)
def own_within(row, square, c, exclude, slack, data, own):
    """List the instances of class c of which one may be nearer than an opponent with this expanded square.

    Others have no positive e(l, j). Gives their number.
    """
    y, relative = data[5], rounding_of_distances(data[0].shape[1])
    beyond = (square + slack) * (1.0 + 4.0 * relative) + slack
    n_own = 0
    for j in range(row.shape[0]):
        own[n_own] = j
        n_own += (y[j] == c) & (not row[j] >= beyond) & (j != exclude)
    return n_own


@nb.njit(cache=True, nogil=True)
def certified_against(query, l, own, a, enough, data):
    """The a-th largest e(l, j) over instances j of the predicted class; or a bound of it that is ``enough``, and the j
    that made it so."""
    inner, inner_own = np.zeros(a), np.empty(a, dtype=np.int64)
    helper = largest_sizes(query, l, own, enough, data, inner, inner_own)
    return -inner[a - 1], helper


@nb.njit(cache=True, nogil=True)
def largest_sizes(query, l, own, enough, data, inner, inner_own):
    """Put minus the largest e(l, j) over instances j into ``inner``, rising, which held zeros; or as many that are
    ``enough``, and give the j that made them so."""
    _, x, error, _, _, order = query
    dual, dual_errors, growth, a = data[3], data[4], data[6], len(inner)
    rounding = (error, growth[0], growth[1], rounding_of_distances(len(x)))
    low, far = bounds_of_distance(x, l, error, data)
    for j in own:
        above = bounds_of_distance(x, j, error, data)[1]
        if above < low:
            value = gap_over_dual(low, far, above, l, j, dual, dual_errors, order, rounding)
            insert_smallest(inner, inner_own, a, a, -value, j)
            if -inner[a - 1] >= enough:
                return j
    return -1


@nb.njit(cache=True, nogil=True, fastmath={"contract", "reassoc"})
def square_of(x):
    """Squared length of a vector."""
    square = 0.0
    for t in range(x.shape[0]):
        square += x[t] * x[t]
    return square


@nb.njit(cache=True, nogil=True)
def nearest_of_either(row, q, c, exclude, data, near_value, near, other_value, other):
    """Turn inner products of a query with the training set into expanded squared distances, q being the square of the
    query, and list the nearest of class c and of others, as many as there is room for; gives the two numbers."""
    squares, y = data[2], data[5]
    n_near, n_other = 0, 0
    near_limit, other_limit = np.inf, np.inf  # of the lists, once they are full
    for j in range(row.shape[0]):
        if j == exclude:
            continue
        value = q + squares[j] - 2.0 * row[j]
        row[j] = value
        if value >= (near_limit if y[j] == c else other_limit):
            continue
        if y[j] == c:
            n_near = insert_smallest(near_value, near, n_near, near.shape[0], value, j)
            near_limit = near_value[-1] if n_near == near.shape[0] else np.inf
        else:
            n_other = insert_smallest(other_value, other, n_other, other.shape[0], value, j)
            other_limit = other_value[-1] if n_other == other.shape[0] else np.inf
    return n_near, n_other


@nb.njit(cache=True, nogil=True)
def bounds_of_distance(x, j, error, data):
    """Bounds from below and above on the distance of a query to training instance j."""
    relative = rounding_of_distances(x.shape[0])
    return widened(np.sqrt(squared_distance(x, data[0][j])), data[1][j], error, relative)


@nb.njit(cache=True, nogil=True)
def widened(distance, train_error, error, relative):
    """The same from the computed distance, and the errors of the instance and of the query."""
    low = max(distance * (1.0 - relative) - error - train_error, 0.0)
    return low, distance * (1.0 + relative) + error + train_error


@nb.njit(cache=True, nogil=True)
def rounding_of_distances(r):
    """Relative error of a distance of r-vectors, with room for the roundings of the predictor."""
    return (r + 16) * INFLATED_UNIT


@nb.njit(cache=True, nogil=True)
def rounding_of_pair(far, near, rounding):
    """What rounding can do to the difference of two squared distances of the predictor, as a polynomial in the size ρ.

    For a query that is moved by a change of size ρ it is at most ``c0 + c1 ρ + c2 ρ²``; ``far`` and ``near`` are upper
    bounds on the two distances before.
    """
    error, kappa, growth, relative = rounding
    total = far + near
    c0 = 2.0 * error * total + 2.0 * relative * (far * far + near * near)
    c1 = 2.0 * (growth + 2.0 * relative * kappa) * total
    c2 = 4.0 * relative * kappa * kappa
    return c0, c1, c2


@nb.njit(cache=True, nogil=True)
def certified_size(gap, slope, c0, c1, c2):
    """Largest ρ with ``gap − slope ρ ≥ c0 + c1 ρ + c2 ρ²``, rounded down; 0 where there is none."""
    a, b = gap - c0, slope + c1
    if not a > _LEAST_GAP:
        return 0.0
    root = np.sqrt(b * b + 4.0 * c2 * a)
    if not root > _LEAST_ROOT:
        return np.inf if b == 0.0 and c2 == 0.0 else 0.0
    size = 2.0 * a / (b + root) * (1.0 - 16.0 * INFLATED_UNIT)
    return size if size > 0.0 else 0.0  # NaN where something overflows


@nb.njit(cache=True, nogil=True)
def gap_over_dual(low, far, near, l, j, dual, dual_errors, order, rounding):
    """Lower bound on e(l, j), the size up to which the predictor finds x_j nearer than x_l.

    ``low`` and ``far`` bound the distance to x_l from below and above, ``near`` that to x_j from above.
    """
    if not low > near:
        return 0.0
    norm = difference_norm(dual[l], dual[j], order)
    norm = norm * (1.0 + (dual.shape[1] + 8) * INFLATED_UNIT) + dual_errors[l] + dual_errors[j]
    c0, c1, c2 = rounding_of_pair(far, near, rounding)
    return certified_size((low - near) * (low + near), 2.0 * norm, c0, c1, c2)


@nb.njit(cache=True, nogil=True)
def distance_beyond(size, reach, train_error, dual_error, rounding):
    """Distance of x_l from which on :func:`gap_over_dual` is at least ``size``, for every x_j within ``reach``.

    ``train_error`` and ``dual_error`` bound those of all training instances.
    """
    # ‖M(x_l − x_j)‖_* ≤ κ ‖p_l − p_j‖ ≤ κ (far + reach). With that, low = d (1 − R) − e and far = d (1 + R) + e, the
    # gap less all errors is at least α d² − β d − γ.
    error, kappa, growth, relative = rounding
    e = error + train_error
    rate = 2.0 * (error + (kappa + growth + 2.0 * relative * kappa) * size)
    alpha = 1.0 - 5.0 * relative
    beta = (2.0 * e + rate) * (1.0 + 5.0 * relative)
    gamma = reach * reach * (1.0 + 2.0 * relative) + rate * (e + reach) + 2.0 * relative * e * e
    gamma += 8.0 * dual_error * size + 4.0 * relative * (kappa * size) ** 2
    return (beta + np.sqrt(beta * beta + 4.0 * alpha * gamma)) / (2.0 * alpha) * (1.0 + 1e-12)
