"""Compiled certificate of k-NN predictions: lazy over opponents, rounded to the safe side.

Every ``e(l, j)`` that decides anything is a direct difference, lowered by a bound on its own rounding error. Bounds
that cost nothing come first, so that most opponents are discarded by their distance alone and only a few are held
against the whole predicted class.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from certimetric.geometry.neighbors import expansion_error, squared_distance

_UNIT = 1.2e-16
_NEAR = 16  # instances of the predicted class that the second bound of an opponent looks at


@nb.njit(cache=True, nogil=True)
def certify_rows(
    products,
    points,
    errors,
    predicted,
    exclude,
    train,
    train_errors,
    squares,
    dual,
    dual_errors,
    y,
    order,
    per_distance,
    k,
    radii,
    opponents,
):
    """Fill ``radii`` and ``opponents``; ``products`` holds the inner products of the queries with ``train``."""
    n, r = train.shape
    s, a = (k + 1) // 2, k // 2 + 1
    relative = rounding_of_distances(r)
    n_near = max(_NEAR, a)
    largest = squares.max()
    near_value = np.empty(n_near)
    near = np.empty(n_near, dtype=np.int64)
    upper = np.empty(n)  # upper bounds on distances to the predicted class, made when first needed
    first_value = np.empty(s)
    first = np.empty(s, dtype=np.int64)
    best = np.empty(s)
    best_opponent = np.empty(s, dtype=np.int64)
    inner = np.empty(a)
    for i in range(points.shape[0]):
        x, c, q = points[i], predicted[i], 0.0
        for t in range(r):
            q += x[t] * x[t]
        row = products[i]
        slack = expansion_error(r, q, largest)

        # The nearest of the predicted class and the s nearest opponents, by expanded squares (order only).
        n_own, n_other, n_first = 0, 0, 0
        near_count = 0
        for j in range(n):
            if j == exclude[i]:
                continue
            value = q + squares[j] - 2.0 * row[j]
            row[j] = value
            if y[j] == c:
                n_own += 1
                near_count = insert_smallest(near_value, near, near_count, n_near, value, j)
            else:
                n_other += 1
                n_first = insert_smallest(first_value, first, n_first, s, value, j)
        opponents[i] = -1
        if n_own < a:
            radii[i] = 0.0
            continue
        if n_other < s:
            radii[i] = np.inf
            continue

        have_upper = False
        # The a-th nearest of the predicted class bounds every opponent by the triangle inequality.
        reach = 0.0
        for b in range(a):
            j = near[b]
            distance = np.sqrt(squared_distance(x, train[j])) * (1.0 + relative) + errors[i] + train_errors[j]
            reach = max(reach, distance)

        count = 0
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
            threshold = best[s - 1] if count == s else np.inf
            if threshold <= 0.0:
                break
            # Bound 1: e(l, j) ≥ (d_l − d_j) / (2 · per_distance), as ‖M(x_l − x_j)‖_* ≤ per_distance (d_l + d_j).
            if count == s:
                square = row[l] - slack
                if square > 0.0:
                    gap = np.sqrt(square) * (1.0 - relative) - errors[i] - train_errors[l] - reach
                    if gap * (1.0 - relative) >= 2.0 * per_distance * threshold:
                        continue
            distance = np.sqrt(squared_distance(x, train[l]))
            lower = distance * (1.0 - relative) - errors[i] - train_errors[l]
            if lower <= 0.0:
                lower = 0.0
            # Bound 2: the a-th largest e(l, j) over the nearest instances of the class.
            filled = 0
            done = False
            for b in range(near_count):
                j = near[b]
                d_j = np.sqrt(squared_distance(x, train[j])) * (1.0 + relative) + errors[i] + train_errors[j]
                value = gap_over_dual(lower, d_j, l, j, dual, dual_errors, order)
                filled = insert_largest(inner, filled, a, value)
                if filled == a and inner[a - 1] >= threshold:
                    done = True
                    break
            if done:
                continue
            # All of the class.
            if not have_upper:
                for j in range(n):
                    if y[j] == c and j != exclude[i]:
                        distance = np.sqrt(squared_distance(x, train[j]))
                        upper[j] = distance * (1.0 + relative) + errors[i] + train_errors[j]
                have_upper = True
            filled = 0
            for j in range(n):
                if y[j] != c or j == exclude[i]:
                    continue
                value = 0.0
                if upper[j] < lower:
                    value = gap_over_dual(lower, upper[j], l, j, dual, dual_errors, order)
                filled = insert_largest(inner, filled, a, value)
                if filled == a and inner[a - 1] >= threshold:
                    done = True
                    break
            if not done:
                count = insert_smallest(best, best_opponent, count, s, inner[a - 1], l)
        radii[i] = best[s - 1]
        opponents[i] = best_opponent[s - 1]


@nb.njit(cache=True, nogil=True)
def rounding_of_distances(r):
    """Relative error of a distance of r-vectors, with room for the roundings of the predictor."""
    return (r + 16) * _UNIT


@nb.njit(cache=True, nogil=True)
def gap_over_dual(lower, upper, l, j, dual, dual_errors, order):
    """Lower bound on e(l, j), given bounds on the distances to l (from below) and to j (from above)."""
    if upper >= lower:
        return 0.0
    norm = difference_norm(dual[l], dual[j], order)
    p = dual.shape[1]
    norm = norm * (1.0 + (p + 8) * _UNIT) + dual_errors[l] + dual_errors[j]
    if norm == 0.0:
        return 0.0
    value = (lower - upper) * (lower + upper) / (2.0 * norm)
    return max(value * (1.0 - 8.0 * _UNIT), 0.0)


# Sums may be taken in any order, which the rounding bounds allow for: that is what lets them use vector instructions.
@nb.njit(cache=True, nogil=True, fastmath={"contract", "reassoc"})
def difference_norm(a, b, order):
    """Vector norm of order 1, 2 or infinity of a − b."""
    norm = 0.0
    if order == 2.0:
        for t in range(a.shape[0]):
            norm += (a[t] - b[t]) ** 2
        norm = np.sqrt(norm)
    elif order == 1.0:
        for t in range(a.shape[0]):
            norm += abs(a[t] - b[t])
    else:
        for t in range(a.shape[0]):
            norm = max(norm, abs(a[t] - b[t]))
    return norm


@nb.njit(cache=True, nogil=True)
def insert_smallest(values, indices, count, size, value, index):
    """Keep the ``size`` smallest values, sorted; give the new count."""
    if count == size and value >= values[size - 1]:
        return count
    position = count if count < size else size - 1
    while position > 0 and values[position - 1] > value:
        values[position] = values[position - 1]
        indices[position] = indices[position - 1]
        position -= 1
    values[position] = value
    indices[position] = index
    return min(count + 1, size)


@nb.njit(cache=True, nogil=True)
def insert_largest(values, count, size, value):
    """Keep the ``size`` largest values, sorted downwards; give the new count."""
    if count == size and value <= values[size - 1]:
        return count
    position = count if count < size else size - 1
    while position > 0 and values[position - 1] < value:
        values[position] = values[position - 1]
        position -= 1
    values[position] = value
    return min(count + 1, size)
