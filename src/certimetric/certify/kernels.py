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
def nearest_rows_of_either(products, points, predicted, exclude, data, near, n_near, first, n_first):
    """:func:`nearest_of_either` of every query: fills the lists, one a row, and the numbers of their entries."""
    near_value, first_value = np.empty(near.shape[1]), np.empty(first.shape[1])
    for i in range(points.shape[0]):
        q = square_of(points[i])
        n_near[i], n_first[i] = nearest_of_either(
            products[i], q, predicted[i], exclude[i], data, near_value, near[i], first_value, first[i]
        )


@nb.njit(cache=True, nogil=True)
def certify_rows(
    rows, products, lists, points, errors, predicted, exclude, data, dual_squares, order, stretch, k, radii
):
    """Fill ``radii`` of queries.

    ``rows`` holds their expanded squared distances to the training set of ``data``
    (:meth:`~certimetric.certify.reference.PointSet.kernel_data`), ``lists`` what :func:`nearest_rows_of_either` found,
    and ``products`` the inner products of the dual coordinates of the nearest instance of the predicted class with
    those of the training set: Euclidean distances times ``stretch`` bound the dual norms of differences.
    """
    train, train_errors, squares, dual, dual_errors, y, growth = data
    near, n_near, first, n_first = lists
    n, r = train.shape
    s, a = (k + 1) // 2, k // 2 + 1
    relative = rounding_of_distances(r)
    largest, worst, worst_dual = squares.max(), train_errors.max(), dual_errors.max()
    duals = (dual_squares, dual_squares.max(), worst_dual, dual.shape[1])
    best, best_opponent = np.empty(s), np.empty(s, dtype=np.int64)
    bound, left, own = np.empty(n), np.empty(n + 1, dtype=np.int64), np.empty(n + 1, dtype=np.int64)
    for i in range(points.shape[0]):
        if n_near[i] < a:
            radii[i] = 0.0
            continue
        if n_first[i] < s:
            radii[i] = np.inf
            continue
        row, c, nearest = rows[i], predicted[i], near[i, 0]
        rounding = (errors[i], growth[0], growth[1], relative)
        slack = expansion_error(r, square_of(points[i]), largest)
        query = (points[i], errors[i], rounding, order)
        class_of = (row, c, exclude[i], y, 4.0 * relative, slack)

        # The s nearest opponents go first: they make the threshold that discards the others.
        n_own = own_within(class_of, row[first[i, s - 1]], own)
        count = 0
        for b in range(s):
            size, _ = certified_against(query, first[i, b], own[:n_own], a, np.inf, data)
            count = insert_smallest(best, best_opponent, count, s, size, first[i, b])
        threshold = best[s - 1]
        if threshold > 0.0:
            reach, spread = 0.0, 0.0
            for b in range(a):
                reach = max(reach, bounds_of_distance(points[i], near[i, b], errors[i], data)[1])
                spread = max(spread, np.sqrt(squared_distance(dual[nearest], dual[near[i, b]])))
            # The a-th nearest of the predicted class bounds every opponent by the triangle inequality.
            square = distance_beyond(threshold, reach, worst, worst_dual, rounding) ** 2
            cutoff = square * (1.0 + 4.0 * relative) + slack
            seen = (threshold, reach, spread, slack, errors[i] + worst)
            margins(row, products[i], dual_squares[nearest], seen, rounding, duals, stretch, bound)
            n_left = 0
            for l in range(n):
                left[n_left] = l
                n_left += (not bound[l] >= 0.0) & (not row[l] >= cutoff) & (y[l] != c) & (l != exclude[i])
            # Bounds from the nearest of the class discard most of these; what is left is held against all of it.
            helpers = near[i, : n_near[i]].copy()
            unsure, farthest = 0, 0.0
            for l in left[:n_left]:
                known = False
                for b in range(s):
                    known = known or first[i, b] == l
                if known:
                    continue
                size, _ = certified_against(query, l, helpers, a, threshold, data)
                if size < threshold:
                    left[unsure], bound[unsure] = l, size
                    farthest = max(farthest, row[l])
                    unsure += 1
            if unsure:  # the nearest first, which are the likelier to discard an opponent
                n_own = own_within(class_of, farthest, own)
                own[:n_own] = own[:n_own][np.argsort(row[own[:n_own]])]
            # The least first: they lower the threshold for the others.
            for position in np.argsort(bound[:unsure]):
                l = left[position]
                size, _ = certified_against(query, l, helpers, a, threshold, data)
                if size >= threshold:
                    continue
                size, helper = certified_against(query, l, own[:n_own], a, threshold, data)
                if size < threshold:
                    insert_smallest(best, best_opponent, s, s, size, l)
                    threshold = best[s - 1]
                    if threshold <= 0.0:
                        break
                elif a == 1:  # what was better for one opponent often is for the next
                    helpers[-1] = helper
        radii[i] = threshold


@nb.njit(cache=True, nogil=True)
def margins(row, products, dual_square, seen, rounding, duals, stretch, margin):
    """How far e(l, j) is above the threshold for the a nearest j, as seen from bounds: not below it where positive.

    They bound ``‖M(x_l − x_j)‖_*`` by its expanded square for the nearest j, and the spread of the others about it.
    """
    threshold, reach, spread, slack, error = seen
    dual_squares, largest_dual, dual_error, p = duals
    query_error, kappa, growth, relative = rounding
    # What gap_over_dual asks, gap − 2 ‖·‖_* ρ ≥ c0 + c1 ρ + c2 ρ², at a ρ just above the threshold. With the expanded
    # square s, the gap is at least (1 − 4R) s − 2 slack − 2 error far − reach², and the rest grows with far and reach.
    size = threshold * (1.0 + 1e-12)
    per_norm = 2.0 * size * stretch * (1.0 + 4.0 * (p + 16) * INFLATED_UNIT)
    rate = 2.0 * query_error + 2.0 * (growth + 2.0 * relative * kappa) * size + 3.0 * error
    fixed = reach * reach * (1.0 + 4.0 * relative) + rate * reach + 4.0 * relative * (kappa * size) ** 2
    fixed += 5.0 * dual_error * size + 3.0 * slack + per_norm * spread
    dual_fixed = dual_square + expansion_error(p, dual_square, largest_dual)
    gain, stride = 1.0 - 8.0 * relative, 1.0 + 3.0 * relative
    for l in range(row.shape[0]):  # a vectorised loop: where a square is negative by rounding, NaN discards nothing
        square = row[l] + slack
        far = np.sqrt(square) * stride + error
        norm = np.sqrt(dual_fixed + dual_squares[l] - 2.0 * products[l])
        margin[l] = square * gain - rate * far - fixed - per_norm * norm


@nb.njit(cache=True, nogil=True)
def own_within(class_of, square, own):
    """List the instances of the predicted class of which one may be nearer than an opponent with this expanded square.

    Others have no positive e(l, j). Gives their number.
    """
    row, c, exclude, y, relative, slack = class_of
    beyond = (square + slack) * (1.0 + relative) + slack
    n_own = 0
    for j in range(row.shape[0]):
        own[n_own] = j
        n_own += (y[j] == c) & (not row[j] >= beyond) & (j != exclude)
    return n_own


@nb.njit(cache=True, nogil=True)
def certified_against(query, l, own, a, enough, data):
    """The a-th largest e(l, j) over instances j of the predicted class; or a bound of it that is ``enough``, and the j
    that made it so."""
    x, error, rounding, order = query
    dual, dual_errors = data[3], data[4]
    inner, inner_own = np.zeros(a), np.empty(a, dtype=np.int64)  # minus the largest e(l, j)
    low, far = bounds_of_distance(x, l, error, data)
    for j in own:
        above = bounds_of_distance(x, j, error, data)[1]
        if above < low:
            value = gap_over_dual(low, far, above, l, j, dual, dual_errors, order, rounding)
            insert_smallest(inner, inner_own, a, a, -value, j)
            if -inner[a - 1] >= enough:
                return -inner[a - 1], j
    return -inner[a - 1], -1


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
