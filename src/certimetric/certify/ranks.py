"""Which sets of k neighbours a change of a query can bring about, and the least and largest sums over them.

Let x_j stay nearer to a query than x_l under every change of size at most ρ: that is so where e(l, j) ≥ ρ
(``docs/certificates.md``). Of an instance l with b such j, all b are among the k nearest if it is. So

* l is among the k nearest only if b < k, and then at least the (b + 1)-th of them; of those with b ≥ t there are at
  most k − t,
* j is among them under every such change, if all but k − 1 of the others that may be are never nearer than it.

Sets that satisfy the first are the independent ones of a laminar matroid. The k of them with the least sum of values,
those of the second among them, are found greedily: their values, in order, are each at most those of any other such k.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from certimetric.certify.kernels import bounds_of_distance, distance_beyond, gap_over_dual, rounding_of_distances
from certimetric.geometry.kernels import expansion_error, insert_smallest

_HELD_AGAINST = 2048  # nearest candidates that every other is held against: more would bound little more


@nb.njit(cache=True, nogil=True)
def ranked_candidates(query, near, horizon, c, data, largest):
    """Instances that a change of size at most ``horizon`` can bring among the k nearest, and what bounds their ranks.

    Parameters
    ----------
    query : tuple
        Expanded squares of the distances to all instances (infinite for one that is not seen), coordinates, error, and
        the order of the dual norm.
    near : int array of shape (k,)
        The k nearest.
    horizon, c : float, int
        Size of changes, and a class of which the instances are counted apart.
    data, largest : tuple
        :meth:`~certimetric.certify.reference.PointSet.kernel_data`, and the largest square and errors in it.

    Returns
    -------
    candidates : int array of shape (q,)
        In the order of their distance.
    above, above_of_class : arrays of shape (q, k)
        The k largest e(l, j) of each over all j, and over those of class c; decreasing.
    stays : array of shape (q,)
        The size up to which a candidate is among the k nearest whatever the change; −1 where it may never be.
    low, high : arrays of shape (q,)
        Bounds on their distances.
    """
    row, x, error, order = query
    dual, dual_errors, y, growth = data[3], data[4], data[5], data[6]
    k, n, relative = len(near), len(row), rounding_of_distances(len(x))
    rounding = (error, growth[0], growth[1], relative)
    reach = 0.0
    for j in near:
        reach = max(reach, bounds_of_distance(x, j, error, data)[1])
    beyond = distance_beyond(horizon, reach, largest[1], largest[2], rounding)
    q = 0.0
    for t in range(len(x)):
        q += x[t] * x[t]
    cutoff = beyond * beyond * (1.0 + 4.0 * relative) + 2.0 * expansion_error(len(x), q, largest[0])
    left = np.empty(n, dtype=np.int64)
    n_left = 0
    for l in range(n):  # beyond the cutoff all of the k nearest stay nearer; NaN rules nothing out
        left[n_left] = l
        n_left += (not row[l] >= cutoff) and row[l] < np.inf
    left = left[:n_left]
    low, high = np.empty(n_left), np.empty(n_left)
    for p in range(n_left):
        low[p], high[p] = bounds_of_distance(x, left[p], error, data)
    by_distance = np.argsort(high, kind="mergesort")
    left, low, high = left[by_distance], low[by_distance], high[by_distance]

    above, above_of_class = np.zeros((n_left, k)), np.zeros((n_left, k))
    place = np.full(n_left, -1)  # of a candidate among the nearest
    least, n_least = np.empty((k, k)), np.zeros(k, dtype=np.int64)  # the k smallest e(l, j) of each of these
    unused, pairs = np.empty(k, dtype=np.int64), np.empty(k)
    n_candidates, n_near = 0, 0
    for p in range(n_left):
        l, all_, of_class = left[p], above[n_candidates], above_of_class[n_candidates]
        all_[:], of_class[:], pairs[:] = 0.0, 0.0, 0.0
        for i in range(min(n_candidates, _HELD_AGAINST)):
            j = left[i]
            if not high[i] < low[p]:
                continue
            size = gap_over_dual(low[p], high[p], high[i], l, j, dual, dual_errors, order, rounding)
            insert_smallest(all_, unused, k, k, -size, j)
            if -all_[k - 1] >= horizon:
                break
            if y[j] == c:
                insert_smallest(of_class, unused, k, k, -size, j)
            if place[i] >= 0:
                pairs[place[i]] = size
        if -all_[k - 1] >= horizon:
            continue
        place_of_l = -1
        for j in near:
            if j == l:
                place_of_l = n_near
                n_near += 1
        for i in range(n_near):
            if i != place_of_l:
                n_least[i] = insert_smallest(least[i], unused, n_least[i], k, pairs[i], l)
        if place_of_l >= 0:  # nothing that came before it is farther
            for _ in range(n_candidates):
                n_least[place_of_l] = insert_smallest(least[place_of_l], unused, n_least[place_of_l], k, 0.0, l)
        left[n_candidates], low[n_candidates], high[n_candidates] = l, low[p], high[p]
        place[n_candidates] = place_of_l
        n_candidates += 1
    stays = np.full(n_candidates, -1.0)
    for i in range(n_candidates):
        if place[i] >= 0:
            stays[i] = least[place[i], k - 1] if n_least[place[i]] == k else np.inf
    kept = n_candidates
    return left[:kept], -above[:kept], -above_of_class[:kept], stays, low[:kept], high[:kept]


@nb.njit(cache=True, nogil=True)
def count_above(above, size):
    """How many of the e(l, ·) of each candidate are at least ``size``: shape (q, k) to (q,)."""
    counts = np.zeros(len(above), dtype=np.int64)
    for i in range(len(above)):
        while counts[i] < above.shape[1] and above[i, counts[i]] >= size:
            counts[i] += 1
    return counts


@nb.njit(cache=True, nogil=True)
def least_set(values, counts, forced, k):
    """The k candidates with the least sum of values that can be the nearest.

    ``counts`` says how many stay nearer than each, ``forced`` which are among the nearest whatever the change. Fewer
    than k are given only where bounds contradict each other, which they do not for any query.
    """
    order = np.argsort(values, kind="mergesort")
    chosen, n_chosen = np.empty(k, dtype=np.int64), 0
    held = np.zeros(k + 1, dtype=np.int64)  # of the chosen, how many have at least so many that stay nearer
    for turn in range(2 * len(order)):
        i = order[turn % len(order)]
        if n_chosen == k or forced[i] != (turn < len(order)) or counts[i] >= k:
            continue
        fits = True
        for t in range(counts[i] + 1):
            fits = fits and held[t] < k - t
        if fits:
            chosen[n_chosen] = i
            n_chosen += 1
            for t in range(counts[i] + 1):
                held[t] += 1
    return chosen[:n_chosen]
