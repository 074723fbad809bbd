"""Compiled loops for the decisions of pairs: distances, and how far one side may move before the decision changes.

Coordinates are those of ``Lw``, the difference of the two sides mapped by the components; a change of size ρ adds
``Bη`` with ‖η‖ ≤ ρ in the order that is dual to that of the norm's dual coordinates. Along the singular vectors of B
the l2 problem separates: ``y + √s ζ``. Every bound is rounded to the safe side.
"""

from __future__ import annotations

import math

import numba as nb
import numpy as np

from certimetric.base.rounding import INFLATED_UNIT
from certimetric.certify.kernels import certified_size, square_of

_UNDERFLOW = 1e-150  # more than what underflows changes in a distance, where the larger of it and t is about 1
_SMALLEST = -1000  # exponent below which differences are not scaled
_STEPS = 100
_CLOSE = 1e-9  # of the way between the two squares: what is left is squared in the bound


@nb.njit(cache=True, nogil=True, fastmath={"contract", "reassoc"})
def products(matrix, vector, out):
    """``matrix @ vector``, each entry in an order of its own that depends on nothing else."""
    for i in range(matrix.shape[0]):
        total = 0.0
        for t in range(vector.shape[0]):
            total += matrix[i, t] * vector[t]
        out[i] = total


@nb.njit(cache=True, nogil=True)
def length(vector):
    """Euclidean norm."""
    return np.sqrt(square_of(vector))


@nb.njit(cache=True, nogil=True)
def exponent_of(size):
    """The least e with ``size < 2^e``, not below that of the smallest differences that are scaled."""
    return max(math.frexp(size)[1], _SMALLEST) if size > 0.0 else _SMALLEST


@nb.njit(cache=True, nogil=True)
def map_pair(points, first, second, L, diagonal, w, mapped):
    """Fill ``mapped`` with L times the difference, in units of ``2^e``; gives the distance in them, and e."""
    top = 0.0
    for t in range(w.shape[0]):
        w[t] = points[first, t] - points[second, t]
        top = max(top, abs(w[t]))
    exponent = exponent_of(top)
    unit = math.ldexp(1.0, -exponent)
    for t in range(w.shape[0]):
        w[t] *= unit
    if diagonal:
        for t in range(w.shape[0]):
            mapped[t] = L[0, t] * w[t]
    else:
        products(L, w, mapped)
    return length(mapped), exponent


@nb.njit(cache=True, nogil=True)
def pair_distance_rows(points, index, L, diagonal, exponent, distances):
    """Fill the distances of pairs, the same digits whichever pairs are beside them."""
    w, mapped = np.empty(points.shape[1]), np.empty(points.shape[1] if diagonal else L.shape[0])
    for i in range(index.shape[0]):
        distance, of_pair = map_pair(points, index[i, 0], index[i, 1], L, diagonal, w, mapped)
        distances[i] = math.ldexp(distance, of_pair + exponent)


@nb.njit(cache=True, nogil=True, fastmath={"contract", "reassoc"})
def rounding_of_difference(x, w, unit, lengths, largest, gamma, rounding):
    """Bound on ``‖|L| (gamma |w| + rounding |x|)‖`` for x in units of ``1 / unit``."""
    total, squared = 0.0, 0.0
    for t in range(w.shape[0]):
        size = gamma * abs(w[t]) + rounding * abs(x[t] * unit)
        total += size * lengths[t]
        squared += size * size
    return min(total, largest * np.sqrt(squared)) * (1.0 + 1e-9)


@nb.njit(cache=True, nogil=True)
def certify_pair_rows(points, index, threshold, L, lengths, exponent, data, directions, accepted, radii, units):
    """Decisions of pairs, and certified radii in units of ``2^units``, for a change of the first side.

    ``directions`` are those along which rejected pairs are bounded, one for each pair; without any those of the l2
    problem.
    """
    diagonal, largest, gamma = data[1], data[6][4], data[6][5]
    d = points.shape[1]
    w, mapped = np.empty(d), np.empty(d if diagonal else L.shape[0])
    work, none = np.empty((3, max(mapped.shape[0], data[4].shape[0]))), np.empty(0)
    threshold_exponent = max(exponent_of(threshold) - exponent, _SMALLEST)
    for i in range(index.shape[0]):
        first, second = index[i, 0], index[i, 1]
        distance, of_pair = map_pair(points, first, second, L, diagonal, w, mapped)
        told = math.ldexp(distance, of_pair + exponent)
        accepted[i] = told <= threshold
        units[i], radii[i] = of_pair, 0.0
        if 0.0 < told < 1e-300:  # no digits are left of what is compared
            continue
        if threshold_exponent > of_pair:
            unit = math.ldexp(1.0, of_pair - threshold_exponent)
            for t in range(d):
                w[t] *= unit
            for t in range(mapped.shape[0]):
                mapped[t] *= unit
            units[i] = threshold_exponent
            distance = length(mapped)
        unit = math.ldexp(1.0, -units[i])
        own = rounding_of_difference(points[first], w, unit, lengths, largest, gamma, 0.0)
        # The predictor rounds as much again, and its probe once more.
        error = own + rounding_of_difference(points[first], w, unit, lengths, largest, gamma, INFLATED_UNIT)
        t = math.ldexp(threshold, -units[i] - exponent)
        direction = directions[i] if directions.shape[0] else none
        radii[i] = certified_change(mapped, distance, t, accepted[i], error, data, direction, work)


@nb.njit(cache=True, nogil=True)
def certify_difference_rows(queries, points, errors, point_errors, index, threshold, data, accepted, radii):
    """Certified radii of what :func:`certify_pair_rows` certifies, for rows of coordinates: queries and instances."""
    r = points.shape[1]
    mapped, work, none = np.empty(r), np.empty((3, max(r, data[4].shape[0]))), np.empty(0)
    for i in range(index.shape[0]):
        q, j = index[i, 0], index[i, 1]
        for t in range(r):
            mapped[t] = queries[q, t] - points[j, t]
        error = 2.0 * (errors[q] + point_errors[j])
        radii[i] = certified_change(mapped, length(mapped), threshold, accepted[i], error, data, none, work)


@nb.njit(cache=True, nogil=True)
def certified_change(mapped, distance, t, accepted, error, data, direction, work):
    """Size of change up to which the computed decision stays.

    At a change of size ρ the predictor's distance is off by at most ``error + growth ρ`` and ``relative`` of itself.
    """
    relative, skew, root = data[6][2], data[6][3], data[6][8]
    error = (error + skew * distance) * (1.0 + 1e-6) + _UNDERFLOW * root
    if accepted:
        return staying_within(mapped, distance, (t - error) * (1.0 - relative), data, work)
    return staying_beyond(mapped, distance, (t + error) * (1.0 + 2.0 * relative), data, direction, work)


@nb.njit(cache=True, nogil=True)
def staying_within(mapped, distance, reach, data, work):
    """Size of change up to which the distance is at most ``reach``."""
    order, s, column_squares, constants = data[0], data[3], data[5], data[6]
    kappa, growth, relative = constants[0], constants[1], constants[2]
    s_top, kappa_absolute = constants[6], constants[7]
    y, image, r = work[0, : mapped.shape[0]], work[2, : data[4].shape[0]], mapped.shape[0]
    far = distance * (1.0 + relative)
    if not reach > far:
        return 0.0
    if s_top == 0.0:
        return np.inf if growth == 0.0 else (reach - far) / growth * (1.0 - 1e-9)
    size = 0.0
    if order != np.inf:
        rotated(mapped, data, y)
        mu = leaving_multiplier(y, s, reach, s_top)
        size = leaving_size(y, s, reach, mu)
        size = min(size, leaving_size(y, s, reach - growth * size, mu))
        if order == 2.0:
            return size
        size *= (1.0 - 8.0 * INFLATED_UNIT) / np.sqrt(image.shape[0])  # ‖η‖₂ ≤ √p ‖η‖_∞
    slope = dual_image(mapped, data, image) + (r + 4) * INFLATED_UNIT * kappa_absolute * distance
    found = linear_leaving(image, slope, far, reach, distance, order, kappa, column_squares, r)
    within = reach - growth * found
    if within > far:
        again = linear_leaving(image, slope, far, within, distance, order, kappa, column_squares, r)
        size = max(size, min(found, again))
    return size


@nb.njit(cache=True, nogil=True)
def staying_beyond(mapped, distance, reach, data, direction, work):
    """Size of change up to which the distance is above ``reach``."""
    order, s, growth, relative = data[0], data[3], data[6][1], data[6][2]
    y, a = work[0, : mapped.shape[0]], work[1, : mapped.shape[0]]
    if not distance * (1.0 - relative) > reach:
        return 0.0
    slack = growth * (1.0 + 2.0 * relative)
    if direction.shape[0]:
        return beyond_plane(direction, mapped, distance, reach, slack, data, work)
    rotated(mapped, data, y)
    mu = entering_multiplier(y, s, reach)
    product, squared, dual = 0.0, 0.0, 0.0
    for t in range(y.shape[0]):
        a[t] = y[t] / (1.0 + mu * s[t])
        product += a[t] * y[t]
        squared += a[t] * a[t]
        dual += s[t] * a[t] * a[t]
    if order == 2.0:
        return entering_size(product, np.sqrt(squared), np.sqrt(dual), reach, slack, y.shape[0])
    # Any direction gives a bound: that of the l2 solution, and that of the difference itself.
    if not data[1]:
        unrotated(a, data, y)
        a[:] = y
    best = beyond_plane(a, mapped, distance, reach, slack, data, work)
    return max(best, beyond_plane(mapped, mapped, distance, reach, slack, data, work))


@nb.njit(cache=True, nogil=True)
def beyond_plane(a, mapped, distance, reach, slack, data, work):
    """Size of change that the plane ``aᵀ· = reach ‖a‖`` is away: what is within reach lies behind it."""
    image, product = work[2, : data[4].shape[0]], 0.0
    for t in range(a.shape[0]):
        product += a[t] * mapped[t]
    size = length(a)
    # A sum of absolute terms is at most the product of the lengths.
    product -= (a.shape[0] + 8) * INFLATED_UNIT * size * distance
    dual = dual_image(a, data, image) + (a.shape[0] + 4) * INFLATED_UNIT * data[6][7] * size
    return entering_size(product, size, dual, reach, slack, max(a.shape[0], image.shape[0]))


@nb.njit(cache=True, nogil=True)
def rotated(mapped, data, y):
    """Coordinates along the singular vectors of B."""
    if data[1]:
        y[:] = mapped
    else:
        products(data[2], mapped, y)


@nb.njit(cache=True, nogil=True)
def unrotated(y, data, mapped):
    """The inverse of :func:`rotated`."""
    U = data[2]
    mapped[:] = 0.0
    for i in range(U.shape[0]):
        for t in range(U.shape[1]):
            mapped[t] += U[i, t] * y[i]


@nb.njit(cache=True, nogil=True)
def dual_image(a, data, image):
    """Fill ``image`` with ``Bᵀa``, and give its norm of the dual order, rounded up but for the products."""
    order, BT = data[0], data[4]
    if data[1]:
        for j in range(image.shape[0]):
            image[j] = BT[j, 0] * a[int(BT[j, 1])]
    else:
        products(BT, a, image)
    norm = 0.0
    if order == 2.0:
        norm = length(image)
    elif order == 1.0:
        for j in range(image.shape[0]):
            norm += abs(image[j])
    else:
        for j in range(image.shape[0]):
            norm = max(norm, abs(image[j]))
    return norm * (1.0 + (image.shape[0] + 8) * INFLATED_UNIT)


@nb.njit(cache=True, nogil=True)
def linear_leaving(image, slope, far, reach, distance, order, kappa, column_squares, r):
    """For l∞ and l1, size up to which ``far² + 2 slope ρ + κ² ρ²`` is at most ``reach²``.

    In l1 the farthest points are corners, each a change of one feature: that is exact.
    """
    gap = (reach - far) * (reach + far) * (1.0 - 8.0 * INFLATED_UNIT)
    if order == 1.0:
        return certified_size(gap, 2.0 * slope, 0.0, 0.0, kappa * kappa)
    size = np.inf
    for j in range(image.shape[0]):
        if column_squares[j] > 0.0:
            slope = abs(image[j]) + (r + 8) * INFLATED_UNIT * np.sqrt(column_squares[j]) * distance
            size = min(size, certified_size(gap, 2.0 * slope, 0.0, 0.0, column_squares[j]))
    return size


@nb.njit(cache=True, nogil=True, fastmath={"contract", "reassoc"})
def secular(y, s, signed):
    """``Σ y² / (1 + signed s)²``, and the part of its derivative that is ``Σ s y² / (1 + signed s)³``."""
    phi, slope = 0.0, 0.0
    for t in range(y.shape[0]):
        q = 1.0 / (1.0 + signed * s[t])
        term = y[t] * q * y[t] * q
        phi += term
        slope += term * (s[t] * q)
    return phi, slope


@nb.njit(cache=True, nogil=True)
def entering_multiplier(y, s, reach):
    """μ ≥ 0 with ``Σ y² / (1 + μ s)² = reach²``, from below: ``1/√`` of it is concave, so that no step is too long."""
    mu, square = 0.0, reach * reach
    for t in range(y.shape[0]):
        if abs(y[t]) > reach and s[t] > 0.0:
            mu = max(mu, (abs(y[t]) / reach - 1.0) / s[t])
    mu = min(mu, 1e300)
    tolerance = -1.0
    for _ in range(_STEPS):
        phi, slope = secular(y, s, mu)
        if tolerance < 0.0:
            tolerance = max(_CLOSE * (phi - square), 8.0 * INFLATED_UNIT * square)
        if not (phi - square > tolerance and slope > 0.0):
            break
        larger = mu + phi * (np.sqrt(phi) / reach - 1.0) / slope
        if not (larger > mu and larger < 1e300):
            break
        mu = larger
    return mu


@nb.njit(cache=True, nogil=True)
def entering_size(product, size, dual, reach, slack, terms):
    """Size of a change that reaches ``aᵀ(y + …) ≤ reach ‖a‖``, rounded down: no smaller one comes within the distance.

    ``product`` is ``aᵀy``, ``size`` ‖a‖ and ``dual`` the dual norm of ``Bᵀa``; the reach grows by ``slack`` per size.
    """
    up = 1.0 + (terms + 16) * INFLATED_UNIT
    gap = product * (2.0 - up) - size * up * reach
    if not gap > 0.0:
        return 0.0
    rate = (dual + size * slack) * up
    return gap / rate * (1.0 - 1e-15) if rate > 0.0 else np.inf


@nb.njit(cache=True, nogil=True)
def leaving_multiplier(y, s, reach, s_top):
    """μ in [0, 1/s_top) with ``Σ y² / (1 − μ s)² = reach²``, from above, or its largest value in the hard case."""
    mu, square, start = (1.0 - 1e-15) / s_top, reach * reach, 0.0
    for t in range(y.shape[0]):
        start += y[t] * y[t]
        if s[t] > 0.0:
            mu = min(mu, (1.0 - abs(y[t]) / reach) / s[t])
    tolerance = max(_CLOSE * (square - start), 8.0 * INFLATED_UNIT * square)
    for _ in range(_STEPS):
        if not mu > 0.0:
            return 0.0
        phi, slope = secular(y, s, -mu)
        if not (phi - square > tolerance and slope > 0.0):
            break
        smaller = mu - phi * (np.sqrt(phi) / reach - 1.0) / slope
        if not smaller < mu:
            break
        mu = smaller
    return mu


@nb.njit(cache=True, nogil=True, fastmath={"contract", "reassoc"})
def leaving_size(y, s, reach, mu):
    """``√(μ (reach² − Σ y² / (1 − μ s)))``, rounded down: by weak duality no smaller change leaves the ellipsoid."""
    if not (reach > 0.0 and mu > 0.0):
        return 0.0
    total, phi = 0.0, 0.0
    for t in range(y.shape[0]):
        q = 1.0 / (1.0 - mu * s[t])
        total += y[t] * y[t] * q
        phi += y[t] * q * y[t] * q
    # 1 − μ s is known to two units of 1, so that a term is to as many units of y² / (1 − μ s)².
    unit = INFLATED_UNIT
    gap = reach * reach * (1.0 - 4.0 * unit) - total * (1.0 + (y.shape[0] + 8) * unit) - 8.0 * unit * phi
    return np.sqrt(mu * gap) * (1.0 - 8.0 * unit) if gap > 0.0 else 0.0


@nb.njit(cache=True, nogil=True)
def multiplier_rows(Y, s, s_top, threshold, accepted, multipliers):
    """The multipliers of the two l2 problems, for differences in coordinates along the singular vectors."""
    for i in range(Y.shape[0]):
        if accepted[i]:
            multipliers[i] = leaving_multiplier(Y[i], s, threshold[i], s_top)
        else:
            multipliers[i] = entering_multiplier(Y[i], s, threshold[i])
