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
_NEAR = 16  # instances of the predicted class that the second bound of an opponent looks at


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
def certify_rows(products, points, errors, predicted, exclude, data, order, k, radii):
    """Fill ``radii``; ``products`` holds the inner products of the queries with the training set of ``data``
    (:meth:`~certimetric.certify.reference.PointSet.kernel_data`)."""
    train, train_errors, squares, dual, dual_errors, y, growth = data
    n, r = train.shape
    s, a = (k + 1) // 2, k // 2 + 1
    relative = rounding_of_distances(r)
    n_near = max(_NEAR, a)
    largest, worst, worst_dual = squares.max(), train_errors.max(), dual_errors.max()
    near_value, near = np.empty(n_near), np.empty(n_near, dtype=np.int64)
    upper = np.empty(n)  # upper bounds on distances to the predicted class, made when first needed
    first_value, first = np.empty(s), np.empty(s, dtype=np.int64)
    best, best_opponent = np.empty(s), np.empty(s, dtype=np.int64)
    inner, inner_own = np.empty(a), np.empty(a, dtype=np.int64)  # minus the largest e(l, j) of an opponent
    for i in range(points.shape[0]):
        x, c, q = points[i], predicted[i], 0.0
        for t in range(r):
            q += x[t] * x[t]
        row = products[i]
        rounding = (errors[i], growth[0], growth[1], relative)
        slack = expansion_error(r, q, largest)

        # The nearest of the predicted class and the s nearest opponents.
        near_count, n_first = nearest_of_either(row, q, c, exclude[i], data, near_value, near, first_value, first)
        if near_count < a:
            radii[i] = 0.0
            continue
        if n_first < s:
            radii[i] = np.inf
            continue

        have_upper = False
        # The a-th nearest of the predicted class bounds every opponent by the triangle inequality.
        reach = 0.0
        for b in range(a):
            reach = max(reach, bounds_of_distance(x, near[b], errors[i], data)[1])

        count = 0
        threshold, cutoff = np.inf, np.inf
        for position in range(-n_first, n):
            # The s nearest opponents go first: they make the threshold that discards the others.
            if position < 0:
                l = first[position + n_first]
            else:
                l = position
                if y[l] == c or l == exclude[i]:
                    continue
                seen = False
                for b in range(n_first):
                    seen = seen or first[b] == l
                if seen:
                    continue
            # Bound 1: from this expanded square on, e(l, j) is at least the threshold for the a nearest j.
            if row[l] >= cutoff:
                continue
            low, far = bounds_of_distance(x, l, errors[i], data)
            # Bound 2: the a-th largest e(l, j) over the nearest instances of the class.
            filled = 0
            done = False
            for b in range(near_count):
                above = bounds_of_distance(x, near[b], errors[i], data)[1]
                value = gap_over_dual(low, far, above, l, near[b], dual, dual_errors, order, rounding)
                filled = insert_smallest(inner, inner_own, filled, a, -value, near[b])
                if count == s and filled == a and -inner[a - 1] >= threshold:
                    done = True
                    break
            if done:
                continue
            # All of the class.
            if not have_upper:
                for j in range(n):
                    if y[j] == c and j != exclude[i]:
                        upper[j] = bounds_of_distance(x, j, errors[i], data)[1]
                have_upper = True
            filled = 0
            for j in range(n):
                if y[j] != c or j == exclude[i]:
                    continue
                value = 0.0
                if upper[j] < low:
                    value = gap_over_dual(low, far, upper[j], l, j, dual, dual_errors, order, rounding)
                filled = insert_smallest(inner, inner_own, filled, a, -value, j)
                if count == s and filled == a and -inner[a - 1] >= threshold:
                    done = True
                    break
            if not done:
                count = insert_smallest(best, best_opponent, count, s, -inner[a - 1], l)
                if count == s and best[s - 1] < threshold:
                    threshold = best[s - 1]
                    if threshold <= 0.0:
                        break
                    square = distance_beyond(threshold, reach, worst, worst_dual, rounding) ** 2
                    cutoff = square * (1.0 + 4.0 * relative) + slack
        radii[i] = best[s - 1] if count == s else 0.0  # where distances overflow


@nb.njit(cache=True, nogil=True)
def nearest_of_either(row, q, c, exclude, data, near_value, near, other_value, other):
    """Turn inner products of a query with the training set into expanded squared distances, q being the square of the
    query, and list the nearest of class c and of others, as many as there is room for; gives the two numbers."""
    squares, y = data[2], data[5]
    n_near, n_other = 0, 0
    for j in range(row.shape[0]):
        if j == exclude:
            continue
        row[j] = q + squares[j] - 2.0 * row[j]
        if y[j] == c:
            n_near = insert_smallest(near_value, near, n_near, near.shape[0], row[j], j)
        else:
            n_other = insert_smallest(other_value, other, n_other, other.shape[0], row[j], j)
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
