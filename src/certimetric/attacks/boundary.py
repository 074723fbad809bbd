"""The way from an adversarial point back to its instance, as far as it stays adversarial."""

from __future__ import annotations

import numpy as np

from certimetric.attacks.base import Search
from certimetric.base.arrays import Array, Indices
from certimetric.geometry.norms import Norm

_BISECTIONS = 12


def shorten(search: Search, rows: Indices, points: Array) -> Array:
    """Bisect along the way that the norm suggests; adversarial points (c, d) of the rows to nearer ones.

    Parameters
    ----------
    search : Search
    rows : int array of shape (c,)
    points : array of shape (c, d)
        Adversarial and allowed by the threat model.
    """
    if not len(rows):
        return points
    X = search.X[rows]

    def way(share: Array) -> Array:
        return X + shrunk(points - X, share[:, None], search.threat.norm)

    share = search.bisect(rows, way, _BISECTIONS)
    return np.where((share < 1)[:, None], search.repair(rows, way(share)), points)


def to_boundary(search: Search, rows: Indices, points: Array) -> Array:
    """Draw adversarial points back as the norm suggests and then straight, offer them, and give them."""
    if search.threat.norm.dual_order != 2:
        points = shorten(search, rows, points)
    return search.repair(rows, search.draw_back(rows, points))


def shrunk(delta: Array, share: Array, norm: Norm) -> Array:
    """Changes (c, d) on the way back to nothing, each with the ``share`` (c, 1) of its largest entry.

    What counts in the norm is undone first: for l∞ the largest entries are cut, for l1 all entries lose the same, so
    that more and more of them are 0; for the others all shrink alike.
    """
    if norm.dual_order == 2:
        return share * delta
    largest = np.abs(delta).max(axis=1, keepdims=True)
    if norm.dual_order == 1:
        return np.clip(delta, -share * largest, share * largest)
    return np.sign(delta) * np.maximum(np.abs(delta) - (1 - share) * largest, 0.0)
